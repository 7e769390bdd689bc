"""Hostile and damaged files of every kind that is read, made from tiny whole ones."""

import copy
import json
import math
import struct
import tempfile
import zlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

import safetensors.torch
import snapshot_cases
import store_cases
import torch
from growth_cases import tiny
from torch import Tensor

from gradnet.checkpoints.checksums import with_checksum
from gradnet.checkpoints.snapshots import FORMAT as SNAPSHOT
from gradnet.checkpoints.tensor_file import HEADER, load_with_header
from gradnet.classifier.features import FeatureSettings
from gradnet.classifier.predictor import GradNetPredictor
from gradnet.classifier.recipes import DEFAULT
from gradnet.growth.grown_network import save_grown
from gradnet.growth.method import GrowthHistory
from gradnet.growth.replay import replay
from gradnet.growth.run import Growth
from gradnet.models import build_model
from gradnet.store.shard import memory_of, shard_header, shard_views

ARGUMENTS = {"in_channels": 1, "image_size": 4, "num_classes": 3, "hidden": [5]}
VALUES: dict[str, Any] = {
    "null": None,
    "list": [1],
    "mapping": {"a": 1},
    "text": "x",
    "huge": 10**30,
    "large": 10**11,
    "negative": -1,
    "nan": math.nan,
    "true": True,
    "escape": "\x1b[31m",
}
# Where a file may say anything, or leave it out.
FREE = (
    *("versions", "arguments", "architecture", "problem", "layout", "model_args"),
    *("fingerprint", "about", "choices", "start", "settings", "seed"),
)


@dataclass(frozen=True)
class HostileFile:
    """A file that is refused in one line, or that is as good as the whole one.

    Attributes:
        kind: of the reader, a key of ``READERS`` in the tests.
        name: what is wrong with it.
        write: writes it into a folder and returns what is to be read.
        may_pass: it may be harmless.
    """

    kind: str
    name: str
    write: Callable[[Path], Path]
    may_pass: bool = False

    def __str__(self) -> str:
        return f"{self.kind}: {self.name}"


@cache
def base_network() -> torch.nn.Module:
    """The network of the snapshot."""
    torch.manual_seed(0)
    return build_model("mlp", **ARGUMENTS).eval()


@cache
def whole_files() -> dict[str, tuple[dict[str, Any], dict[str, Tensor]]]:
    """Kind -> header, without checksum, and tensors."""
    info = snapshot_cases.make_info(arguments=ARGUMENTS)
    snapshot = SNAPSHOT.stamp(asdict(info)), dict(base_network().state_dict())
    recipe = replace(DEFAULT, features=FeatureSettings(scaling="std"))
    predictor = GradNetPredictor(base_network(), recipe, 3)
    predictor.features.partial_fit(predictor.blocks(torch.randn(4, 1, 4, 4))[1])
    method = tiny("cornet", 1)
    probe = torch.randn(4, 1, 8, 8)
    grown = Growth(replay(method, 3, 1, probe, 4), GrowthHistory(9, 1))
    with tempfile.TemporaryDirectory() as folder:
        first = predictor.save(f"{folder}/gradnet.safetensors", seed=1)
        second = f"{folder}/grown.safetensors"
        save_grown(second, grown, method, 3, (1, 8, 8), 4)
        return {
            "snapshot": snapshot,
            "gradnet": load_with_header(first),
            "grown": load_with_header(second),
        }


# Of the values that are tried in the fields of each kind, of which there are thousands.
FEW = {"snapshot": 6, "gradnet": 10, "grown": 101, "store": 4}
ALL = dict.fromkeys(FEW, 1)


def all_files(strides: Mapping[str, int]) -> Iterator[HostileFile]:
    """The corpus; of the values in fields, every so many-th of each kind."""
    for kind in ("snapshot", "gradnet", "grown"):
        yield from list(wrong_fields(kind))[:: strides[kind]]
        yield from wrong_tensors(kind)
        yield from damaged_bytes(kind)
    yield from list(wrong_manifests())[:: strides["store"]]
    yield from damaged_stores()


def write_file(path: Path, tensors: dict[str, Tensor], header: dict[str, Any]) -> Path:
    """What ``save_with_header`` writes, without waiting for the disk."""
    contents = {name: tensor.contiguous() for name, tensor in tensors.items()}
    path.write_bytes(file_bytes(header, contents))
    return path


def file_bytes(header: dict[str, Any], tensors: dict[str, Tensor]) -> bytes:
    """The same in memory."""
    text = json.dumps(with_checksum(header, tensors))
    return safetensors.torch.save(tensors, {HEADER: text})


# Headers


def places(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """The paths of all values within a value."""
    items = value.items() if isinstance(value, dict) else ()
    items = enumerate(value) if isinstance(value, list) else items
    for key, inner in items:
        yield (*path, key)
        yield from places(inner, (*path, key))


def changed(value: Any, path: tuple[Any, ...], new: Any) -> Any:
    """A copy with another value at a path."""
    found = copy.deepcopy(value)
    inner = found
    for key in path[:-1]:
        inner = inner[key]
    inner[path[-1]] = new
    return found


def at(value: Any, path: tuple[Any, ...]) -> Any:
    for key in path:
        value = value[key]
    return value


def is_like(old: Any, new: Any) -> bool:
    """Whether the new value may stand where the old one does."""
    if isinstance(old, bool) or isinstance(new, bool):
        return type(old) is type(new)
    numbers = int, float
    if isinstance(old, numbers) and isinstance(new, numbers):
        return not math.isnan(new)
    return old is None or new is None or type(old) is type(new)


def wrong_fields(kind: str) -> Iterator[HostileFile]:
    """Each field of a header with values of every type; the checksum is right."""
    header, tensors = whole_files()[kind]
    for path in places(header):
        for name, new in VALUES.items():
            old = at(header, path)
            if type(old) is type(new) and old == new:
                continue
            yield HostileFile(
                kind,
                f"{'.'.join(map(str, path))} is {name}",
                lambda folder, path=path, new=new: write_file(
                    folder / "field.safetensors", tensors, changed(header, path, new)
                ),
                is_like(old, new) or any(key in FREE for key in path),
            )
    for name in header:
        fewer = {key: value for key, value in header.items() if key != name}
        yield HostileFile(
            kind,
            f"no {name}",
            lambda folder, fewer=fewer: write_file(
                folder / "fewer.safetensors", tensors, fewer
            ),
            name in ("kind", "format", "layout", "seed", *FREE),
        )


def text_header(kind: str, name: str, text: str) -> HostileFile:
    tensors = whole_files()[kind][1]

    def write(folder: Path) -> Path:
        path = folder / "text.safetensors"
        safetensors.torch.save_file(tensors, path, {HEADER: text})
        return path

    return HostileFile(kind, name, write)


# Tensors


def wrong_tensors(kind: str) -> Iterator[HostileFile]:
    """Other types, shapes, names and values; and headers that are no mapping."""
    header, tensors = whole_files()[kind]
    name = next(name for name in tensors if name.endswith("weight"))
    weight = tensors[name]
    dtypes = (
        *(torch.int8, torch.int16, torch.int32, torch.int64, torch.uint8, torch.bool),
        *(torch.complex64, torch.float8_e4m3fn, torch.float8_e5m2),
    )
    changes: dict[str, dict[str, Tensor]] = {
        str(dtype): {name: weight.to(dtype)} for dtype in dtypes
    }
    changes |= {
        "NaN": {name: torch.full_like(weight, math.nan)},
        "infinity": {name: torch.full_like(weight, math.inf)},
        "infinite in 32 bits": {name: torch.full_like(weight.double(), 1e300)},
        "transposed": {name: weight.flatten()[:, None].clone()},
        "scalar": {name: weight.flatten()[0].clone()},
        "empty": {name: weight.flatten()[:0].clone()},
        "one too many": {"\x1b[2Jother": weight.clone()},
    }
    for what, change in changes.items():
        yield HostileFile(
            kind,
            what,
            lambda folder, change=change: write_file(
                folder / "tensors.safetensors", tensors | change, header
            ),
        )
    fewer = {key: value for key, value in tensors.items() if key != name}
    yield HostileFile(
        kind,
        "one too few",
        lambda folder: write_file(folder / "few.safetensors", fewer, header),
    )
    for what, text in {
        "deep lists": "[" * 100_000,
        "deep mappings": '{"a":' * 100_000,
        "number": "3",
        "null": "null",
        "nothing": "",
        "half": '{"kind": ',
        "long number": "9" * 10_000,
        "surrogate": '{"kind": "\\ud800"}',
        "other kind": '{"kind": "letter"}',
        "newer": json.dumps({**header, "format": 99}),
        "no checksum": json.dumps(header),
        "other checksum": json.dumps({**header, "checksum": "00"}),
        "odd checksum": json.dumps({**header, "checksum": None}),
    }.items():
        yield text_header(kind, f"header of {what}", text)


def whole_bytes(kind: str) -> bytes:
    header, tensors = whole_files()[kind]
    return file_bytes(header, tensors)


def raw(kind: str, name: str, content: bytes, suffix: str, **options: Any):
    def write(folder: Path) -> Path:
        path = folder / f"raw{suffix}"
        path.write_bytes(content)
        return path

    return HostileFile(kind, name, write, **options)


def damage(content: bytes, flips: int, cuts: int) -> Iterator[tuple[str, bytes]]:
    """Flipped bits and truncations, evenly spread, and other small harm."""
    for index in range(flips):
        place = (8 * len(content) - 1) * index // max(1, flips - 1)
        flipped = bytearray(content)
        flipped[place // 8] ^= 1 << place % 8
        yield f"bit {place} flipped", bytes(flipped)
    for index in range(cuts):
        length = len(content) * index // cuts
        yield f"cut to {length}", content[:length]
    yield "a byte more", content + b"\0"
    yield "zeros", bytes(len(content))


def damaged_bytes(kind: str) -> Iterator[HostileFile]:
    """Flips, cuts, and headers of the container that lie."""
    content = whole_bytes(kind)
    size = int.from_bytes(content[:8], "little")
    padding = range(8 + len(content[8 : 8 + size].rstrip()), 8 + size)
    for name, found in damage(content, 40, 10):
        differs = [
            i for i, (a, b) in enumerate(zip(content, found, strict=False)) if a != b
        ]
        yield raw(
            kind,
            name,
            found,
            ".safetensors",
            may_pass=differs and differs[0] in padding,
        )
    for name, number in {"huge": 2**63, "large": 10**9, "zero": 0}.items():
        lying = struct.pack("<Q", number) + content[8:]
        yield raw(kind, f"{name} size of the header", lying, ".safetensors")


# Stores


@cache
def whole_store() -> dict[str, bytes]:
    """The content of every file of a store."""
    with tempfile.TemporaryDirectory() as folder:
        store_cases.write(folder)
        return store_cases.contents(Path(folder))


def write_store(folder: Path) -> Path:
    """A whole store in a folder."""
    place = folder / "store"
    place.mkdir()
    for name, content in whole_store().items():
        (place / name).write_bytes(content)
    return place


def with_manifest(name: str, text: str, may_pass: bool = False) -> HostileFile:
    def write(folder: Path) -> Path:
        place = write_store(folder)
        (place / "manifest.json").write_text(text)
        return place

    return HostileFile("store", f"manifest: {name}", write, may_pass)


def wrong_manifests() -> Iterator[HostileFile]:
    """Each field of a manifest with values of every type."""
    manifest = store_cases.make_plan().manifest
    values = VALUES | {"many": 10**12, "zero": 0, "part": 2.5}
    for path in places(manifest):
        for name, new in values.items():
            if type(at(manifest, path)) is type(new) and at(manifest, path) == new:
                continue
            yield with_manifest(
                f"{'.'.join(map(str, path))} is {name}",
                json.dumps(changed(manifest, path, new)),
            )
    for name in manifest:
        fewer = {key: value for key, value in manifest.items() if key != name}
        yield with_manifest(f"no {name}", json.dumps(fewer), name == "fingerprint")
    for name, text in {
        "deep": "[" * 100_000,
        "a list": "[]",
        "empty": "",
        "huge": json.dumps({**manifest, "num_samples": 10**12, "shard_bytes": 1}),
    }.items():
        yield with_manifest(name, text)


def change_shard(name: str, change: Callable[[Path], object]) -> HostileFile:
    def write(folder: Path) -> Path:
        place = write_store(folder)
        change(place)
        return place

    return HostileFile("store", name, write)


def shard(place: Path, number: int) -> Path:
    return place / f"shard-{number:05d}.safetensors"


def rewrite_shard(place: Path, name: str, row: int, value: float) -> None:
    """Another value in a shard, with the right checksum."""
    plan = store_cases.make_plan()
    rows = store_cases.make_rows(plan, 8, 12)
    rows[name][row] = value
    buffer = torch.zeros(plan.shard_rows(2) * plan.row_bytes, dtype=torch.uint8)
    for key, view in shard_views(plan, 2, buffer).items():
        view.copy_(rows[key])
    data = bytes(memory_of(buffer))
    shard(place, 2).write_bytes(shard_header(plan, 2, zlib.crc32(data)) + data)


def damaged_stores() -> Iterator[HostileFile]:
    """Shards that are damaged, swapped, missing, of another kind, out of range."""

    def swap(place: Path) -> None:
        one, two = shard(place, 1).read_bytes(), shard(place, 2).read_bytes()
        shard(place, 1).write_bytes(two)
        shard(place, 2).write_bytes(one)

    def alter(content_of: Callable[[bytes], bytes]) -> Callable[[Path], object]:
        def change(place: Path) -> object:
            path = shard(place, 2)
            return path.write_bytes(content_of(path.read_bytes()))

        return change

    yield change_shard("two shards swapped", swap)
    yield change_shard("a shard missing", lambda place: shard(place, 3).unlink())
    for name in ("label", "target"):
        for value in (-1, 3, 99, 2**62):
            yield change_shard(
                f"{name} {value}",
                lambda place, n=name, v=value: rewrite_shard(place, n, 3, v),
            )
    for name in ("logits", "block/conv", "block/"):
        for value in (math.nan, math.inf, -math.inf):
            yield change_shard(
                f"{name} {value}",
                lambda place, n=name, v=value: rewrite_shard(place, n, 3, v),
            )
    content = whole_store()["shard-00002.safetensors"]
    for name, found in damage(content, 60, 8):
        yield change_shard(name, alter(lambda _, found=found: found))
    size = int.from_bytes(content[:8], "little")
    about = json.loads(content[8 : 8 + size])
    inner = json.loads(about["__metadata__"]["gradnet"])
    for key in inner:
        for name, new in VALUES.items():
            text = json.dumps({**inner, key: new})
            header = json.dumps({**about, "__metadata__": {"gradnet": text}}).encode()
            found = struct.pack("<Q", len(header)) + header + content[8 + size :]
            yield change_shard(
                f"shard's {key} is {name}", alter(lambda _, found=found: found)
            )
