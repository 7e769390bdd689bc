"""Hostile files of other programs: ``.pt``, ``.npz``, ``.pt2``, images, odd paths."""

import copy
import io
import json
import math
import os
import socket
import struct
import tempfile
import zipfile
import zlib
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from hostile_files import (
    VALUES,
    HostileFile,
    base_network,
    changed,
    damage,
    places,
    raw,
)
from PIL import Image
from torch import Tensor, nn

TRAP = Path(tempfile.gettempdir()) / f"trap-of-hostile-files-{os.getpid()}"


class Pickled:
    """Makes a file when it is unpickled."""

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (TRAP,)


def all_foreign_files() -> Iterator[HostileFile]:
    """The corpus, without exported networks, which take longest."""
    yield from state_dicts()
    yield from arrays()
    yield from images()


# State dicts


def torch_bytes(value: object, **options: Any) -> bytes:
    stream = io.BytesIO()
    torch.save(value, stream, **options)
    return stream.getvalue()


def state(**changes: Any) -> dict[str, Any]:
    """The state dict of the network, with other values."""
    whole = dict(base_network().state_dict())
    return whole | {key.replace("__", "."): value for key, value in changes.items()}


def odd_tensors() -> dict[str, Tensor]:
    """Tensors in the place of a weight ``(5, 16)``."""
    weight = torch.ones(5, 16)
    dtypes = (
        *(torch.int8, torch.int16, torch.int32, torch.int64, torch.uint8, torch.bool),
        *(torch.complex64, torch.complex128, torch.float8_e4m3fn, torch.float8_e5m2),
        *(torch.uint16, torch.uint32),
    )
    found = {str(dtype): weight.to(dtype) for dtype in dtypes}
    return found | {
        "sparse": weight.to_sparse(),
        "quantized": torch.quantize_per_tensor(weight, 0.1, 0, torch.qint8),
        "meta": weight.to("meta"),
        "expanded": torch.ones(1).expand(10**12),
        "NaN": weight * math.nan,
        "infinite in 32 bits": weight.double() * 1e300,
        "empty": torch.empty(0),
        "scalar": torch.ones(()),
    }


def nested(kind: str) -> object:
    """Values that contain themselves, or that never end for what walks them."""
    whole: dict[str, Any] = {}
    if kind == "itself":
        whole["state_dict"] = whole
    elif kind == "itself in a list":
        whole["state_dict"] = [whole]
    elif kind == "lists":
        value: list[Any] = []
        for _ in range(60):
            value = [value, value]
        whole["state_dict"] = value
    elif kind == "deep":
        inner: dict[str, Any] = whole
        for _ in range(150):
            inner["state_dict"] = inner = {}
    return whole


def with_pickle(content: bytes) -> bytes:
    """An archive of torch with another pickle in it."""
    stream = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(torch_bytes({}))) as whole:
        with zipfile.ZipFile(stream, "w") as file:
            for entry in whole.infolist():
                is_pickle = entry.filename.endswith("data.pkl")
                data = content if is_pickle else whole.read(entry)
                file.writestr(entry.filename, data)
    return stream.getvalue()


def tuple_bomb() -> bytes:
    """Sixty tuples, each of the one before twice, as the key of a dict."""
    return b"\x80\x02}()q\x01" + b"h\x01h\x01\x86q\x01" * 60 + b"K\x01u."


def zip_bomb(name: str, size: int) -> bytes:
    """A deflated entry of zeros; most of them are claimed, and cost no time here."""
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED) as file:
        file.writestr(name, bytes(1_000_000))
        file.infolist()[0].file_size = size
    return stream.getvalue()


def state_dicts() -> Iterator[HostileFile]:
    """Files of ``torch.save`` in the place of weights."""
    for name, tensor in odd_tensors().items():
        content = torch_bytes(state(linear0__weight=tensor))
        yield raw("weights", f"a {name} weight", content, ".pt")
    ragged = torch.nested.nested_tensor([torch.ones(1), torch.ones(2)])
    yield raw("weights", "nested", torch_bytes(state(linear0__weight=ragged)), ".pt")
    for kind in ("itself", "itself in a list", "lists", "deep"):
        yield raw("weights", f"contains {kind}", torch_bytes(nested(kind)), ".pt")
    for name, value in {
        "a module": nn.Linear(2, 2),
        "code": Pickled(),
        "code in a dict": {"state_dict": {"weight": Pickled()}},
        "code as a key": {1: Pickled()},
        "a number": 3,
        "nothing": None,
        "numbers": {"linear0.weight": 3},
        "no text as name": {3: torch.ones(2)},
        "no names": {},
        "escapes": {"\x1b[2J": torch.ones(2)},
    }.items():
        yield raw("weights", name, torch_bytes(value), ".pt")
        old = torch_bytes(value, _use_new_zipfile_serialization=False)
        yield raw("weights", f"{name}, old format", old, ".pt")
    whole = torch_bytes(state())
    start = whole.find(base_network().linear0.weight.detach().numpy().tobytes())
    for place in range(start, start + 320, 16):
        flipped = bytearray(whole)
        flipped[place] ^= 1
        yield raw("weights", f"byte {place} flipped", bytes(flipped), ".pt")
    for name, found in damage(whole, 24, 12):
        # Of the archive's own bytes, not all say anything.
        yield raw("weights", name, found, ".pt", may_pass="cut" not in name)
    for name, pickle in {
        "tuples": tuple_bomb(),
        "system": b"cos\nsystem\n(S'touch " + bytes(TRAP) + b"'\ntR.",
        "exec": b"cbuiltins\nexec\n(S'1'\ntR.",
        "no end": b"\x80\x02}(",
        "long text": b"\x80\x04\x8d" + struct.pack("<Q", 2**40),
        "long number": b"\x80\x02\x8b" + struct.pack("<i", 2**31 - 1),
        "deep": b"\x80\x02" + b"(" * 100_000 + b"l" * 100_000 + b".",
        "nothing": b"",
    }.items():
        yield raw("weights", f"pickle: {name}", with_pickle(pickle), ".pt")
        yield raw("weights", f"old pickle: {name}", pickle, ".pt")
    bomb = zip_bomb("archive/data/0", 400_000_000)
    yield raw("weights", "bomb", bomb, ".pt")
    for suffix in (".pt", ".pth", ".ckpt", ".bin", ".safetensors", ".npz", ".xyz"):
        for name, content in {
            "text": b"hello, this is text",
            "empty": b"",
            "zeros": bytes(1000),
            "end of a zip": b"PK\x05\x06" + bytes(18),
        }.items():
            yield raw("weights", f"{name} in {suffix}", content, suffix)


# Arrays


def npz_bytes(**changes: Any) -> bytes:
    pixels = np.arange(6 * 4 * 5, dtype=np.uint8).reshape(6, 4, 5)
    labels = np.array([0, 1, 2, 0, 1, 2])
    whole = {"x_train": pixels, "y_train": labels, "x_test": pixels, "y_test": labels}
    found = {k: v for k, v in (whole | changes).items() if v is not None}
    stream = io.BytesIO()
    np.savez(stream, **found)
    return stream.getvalue()


def npy_header(text: str) -> bytes:
    """An ``.npy`` with this header and few data."""
    header = text.encode()
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(header)) + header + bytes(64)


def with_entry(content: bytes) -> bytes:
    """The archive with another training array."""
    stream = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(npz_bytes())) as whole:
        with zipfile.ZipFile(stream, "w") as file:
            for entry in whole.infolist():
                is_train = entry.filename == "x_train.npy"
                file.writestr(
                    entry.filename, content if is_train else whole.read(entry)
                )
    return stream.getvalue()


def arrays() -> Iterator[HostileFile]:
    """Data sets in ``.npz`` files."""
    pixels = np.ones((6, 4, 5), np.uint8)
    for name, array in {
        "objects": np.array([Pickled()] * 6, dtype=object),
        "complex": pixels * 1j,
        "booleans": pixels > 0,
        "text": pixels.astype(str),
        "bytes": pixels.astype("S3"),
        "dates": pixels.astype("M8[s]"),
        "records": np.zeros((6, 4, 5), dtype=[("a", "u1"), ("b", "f4")]),
        "NaN": pixels * np.nan,
        "infinity": pixels * np.inf,
        "negative": pixels.astype(int) - 2,
        "large": pixels.astype(int) * 10**12,
        "empty": pixels[:0],
        "flat": pixels.ravel(),
        "scalar": np.array(3),
        "of five dimensions": pixels[None, None],
        "two channels": np.ones((6, 2, 4, 5), np.uint8),
        "other size": np.ones((6, 9, 9), np.uint8),
    }.items():
        yield raw("data", f"{name} as images", npz_bytes(x_train=array), ".npz")
    labels = np.arange(6) % 3
    for name, array in {
        "objects": np.array([None] * 6, dtype=object),
        "floats": labels * 1.0,
        "NaN": labels * np.nan,
        "complex": labels * 1j,
        "booleans": labels > 0,
        "text": labels.astype(str),
        "negative": labels - 1,
        "too few": labels[:5],
        "matrix": np.stack([labels, labels]),
        "one class": labels * 0,
        "huge": np.array([2**64 - 1] * 6, np.uint64),
    }.items():
        yield raw("data", f"{name} as labels", npz_bytes(y_train=array), ".npz")
    for key in ("x_train", "y_train", "x_test", "y_test"):
        yield raw("data", f"no {key}", npz_bytes(**{key: None}), ".npz")
    header = "{'descr': '%s', 'fortran_order': False, 'shape': (%s), }\n"
    for name, text in {
        "huge": header % ("|u1", "1000000000000,"),
        "negative": header % ("|u1", "-5,"),
        "more than there is": header % ("|u1", "2000000000, 4, 5"),
        "odd type": header % ("|O", "6, 4, 5"),
        "no type": header % ("nothing", "6, 4, 5"),
        "code": "__import__('os').system('true')",
        "deep": "(" * 5000,
        "long": "{" + " " * 60_000 + "}",
    }.items():
        yield raw("data", f"header: {name}", with_entry(npy_header(text)), ".npz")
    yield raw("data", "bomb", zip_bomb("x_train.npy", 400_000_000), ".npz")
    single = io.BytesIO()
    np.save(single, pixels)
    yield raw("data", "a single array", single.getvalue(), ".npz")
    for name, found in damage(npz_bytes(), 60, 12):
        yield raw("data", name, found, ".npz", may_pass="cut" not in name)


# Images


def png(width: int, height: int, data: bytes, depth: int = 8, colour: int = 0) -> bytes:
    """A PNG that says what it likes of its size."""

    def chunk(kind: bytes, content: bytes) -> bytes:
        checksum = zlib.crc32(kind + content)
        return (
            struct.pack(">I", len(content))
            + kind
            + content
            + struct.pack(">I", checksum)
        )

    about = struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0)
    parts = chunk(b"IHDR", about), chunk(b"IDAT", data), chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + b"".join(parts)


def image_bytes(format: str) -> bytes:
    stream = io.BytesIO()
    Image.new("RGB", (5, 4), (1, 2, 3)).save(stream, format)
    return stream.getvalue()


def in_folder(name: str, content: bytes, suffix: str = ".png", **options: Any):
    """A folder of class folders with one such image among whole ones."""

    def write(folder: Path) -> Path:
        place = folder / "images"
        for label in "ab":
            (place / label).mkdir(parents=True)
            for index in range(3):
                (place / label / f"{index}.png").write_bytes(image_bytes("PNG"))
        (place / "b" / f"1{suffix}").write_bytes(content)
        return place

    return HostileFile("data", f"image: {name}", write, **options)


def images() -> Iterator[HostileFile]:
    """Images that are damaged, lie about their size, or are something else."""
    rows = zlib.compress(bytes(6 * 4))
    for name, (width, height) in {
        "huge": (2**31 - 1, 2**31 - 1),
        "large": (30_000, 30_000),
        "wide": (10**9, 4),
        "flat": (5, 0),
        "other size": (50, 40),
        "too high": (5, 4000),
    }.items():
        yield in_folder(f"a PNG that is {name}", png(width, height, rows))
    yield in_folder("a PNG without data", png(5, 4, b""))
    few = png(5, 4, zlib.compress(bytes(6)))
    yield in_folder("a PNG of too few rows", few, may_pass=True)  # as PIL does
    yield in_folder("PPM that is large", b"P6 30000 30000 255\n" + bytes(60), ".ppm")
    yield in_folder("PPM without data", b"P6 5 4 255\n", ".ppm")
    yield in_folder("PPM of words", b"P6 five four 255\n" + bytes(60), ".ppm")
    postscript = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 5 4\n%%EOF\n"
    yield in_folder("PostScript", postscript)
    yield in_folder("a GIF", image_bytes("GIF"))
    yield in_folder("text", b"hello, this is text")
    yield in_folder("empty", b"")
    yield in_folder("SVG", b"<svg xmlns='http://www.w3.org/2000/svg'/>")
    for format, suffix in {"PNG": ".png", "JPEG": ".jpg", "BMP": ".bmp"}.items():
        for name, found in damage(image_bytes(format), 8, 4):
            # A flipped bit may be another whole image; a cut is seen.
            yield in_folder(f"{format}, {name}", found, suffix, may_pass=True)


# Paths


def odd_paths() -> dict[str, Callable[[Path], str]]:
    """Paths that lead to no file; each is made in a folder."""

    def pipe(folder: Path) -> str:
        os.mkfifo(folder / "pipe")
        return str(folder / "pipe")

    def circle(folder: Path) -> str:
        (folder / "one").symlink_to(folder / "two")
        (folder / "two").symlink_to(folder / "one")
        return str(folder / "one")

    def dangling(folder: Path) -> str:
        (folder / "dangling").symlink_to(folder / "nothing")
        return str(folder / "dangling")

    def link_to_device(folder: Path) -> str:
        (folder / "zero").symlink_to("/dev/zero")
        return str(folder / "zero")

    def to_socket(folder: Path) -> str:
        with socket.socket(socket.AF_UNIX) as file:
            here = Path.cwd()
            os.chdir(folder)  # the names of sockets are short
            file.bind("s")
            os.chdir(here)
        return str(folder / "s")

    return {
        "nothing": lambda folder: str(folder / "nothing"),
        "folder": str,
        "pipe": pipe,
        "circle": circle,
        "dangling link": dangling,
        "endless device": lambda folder: "/dev/zero",
        "empty device": lambda folder: "/dev/null",
        "link to a device": link_to_device,
        "socket": to_socket,
        "NUL": lambda folder: f"{folder}/a\0b",
        "long name": lambda folder: f"{folder}/{'a' * 5000}",
        "surrogate": lambda folder: f"{folder}/\udc80\ud800",
        "through a file": lambda folder: "/dev/null/x",
    }


# Exported networks


class Flat(nn.Module):
    """Asks for the size of its batch."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(6, 3)

    def forward(self, x: Tensor) -> Tensor:
        found: Tensor = self.linear(x.reshape(x.shape[0], x.shape[1] * x.shape[2]))
        return found


@cache
def exported() -> bytes:
    """A whole ``.pt2``."""
    torch.manual_seed(0)
    shapes = ({0: torch.export.Dim("batch")},)
    program = torch.export.export(
        Flat().eval(), (torch.ones(2, 2, 3),), dynamic_shapes=shapes
    )
    stream = io.BytesIO()
    torch.export.save(program, stream)
    return stream.getvalue()


def rewritten(record: str, change: Callable[[Any], Any]) -> bytes:
    """The exported network with one record of JSON changed."""
    from torch.export.pt2_archive import PT2ArchiveReader, PT2ArchiveWriter

    reader = PT2ArchiveReader(io.BytesIO(exported()))
    stream = io.BytesIO()
    with PT2ArchiveWriter(stream) as writer:
        for name in reader.get_file_names():
            if name.startswith(("data/", "models/")):
                content = reader.read_bytes(name)
                if name == record:
                    found = change(json.loads(content))
                    content = found if isinstance(found, bytes) else json.dumps(found)
                    content = (
                        content if isinstance(content, bytes) else content.encode()
                    )
                writer.write_bytes(name, content)
    return stream.getvalue()


MODEL = "models/model.json"
WEIGHTS = "data/weights/model_weights_config.json"
EXPRESSIONS = {
    "tower": "9**9**9**9",
    "tower of calls": "Pow(Integer(9), Pow(Integer(9), Integer(9)))",
    "large exponent": "Pow(Symbol('s0'), Integer(1000000))",
    "negative tower": "Pow(Integer(9), Mul(Integer(-1), Pow(9, 9)))",
    "powers of powers": "Pow(Pow(Pow(Symbol('s0'), 9), 9), 9)",
    "shift": "1 << 99999999999",
    "many": "+".join(["Symbol('s0')"] * 1000),
    "deep": "-" * 3000 + "1",
    "long number": "9" * 4000,
    "code": "__import__('os')",
    "factorial": "factorial(Integer(10))",
    "text": "Symbol('s0' * 99999999999)",
    "nothing": "",
}


def exported_files(stride: int) -> Iterator[HostileFile]:
    """Exported networks; of the values in fields, every ``stride``-th."""
    for name, expression in EXPRESSIONS.items():

        def set_size(program: dict[str, Any], text: str = expression) -> object:
            values = program["graph_module"]["graph"]["tensor_values"]
            size = next(s for s in values["x"]["sizes"] if "as_expr" in s)
            size["as_expr"]["expr_str"] = text
            return program

        yield raw("exported", f"size: {name}", rewritten(MODEL, set_size), ".pt2")
    for name, text in {
        "deep": b"[" * 100_000,
        "a list": b"[]",
        "empty": b"",
        "null": b"null",
    }.items():
        for record in (MODEL, WEIGHTS):
            content = rewritten(record, lambda _, text=text: text)
            yield raw("exported", f"{record} is {name}", content, ".pt2")

    def strides(config: dict[str, Any]) -> object:
        for payload in config["config"].values():
            meta = payload["tensor_meta"]
            meta["sizes"] = [{"as_int": 10**9} for _ in meta["sizes"]]
            meta["strides"] = [{"as_int": 0} for _ in meta["strides"]]
        return config

    yield raw("exported", "strides of zero", rewritten(WEIGHTS, strides), ".pt2")
    yield raw("exported", "bomb", zip_bomb("a/models/model.json", 400_000_000), ".pt2")
    for name, found in damage(exported(), 12, 8):
        yield raw("exported", name, found, ".pt2", may_pass="cut" not in name)
    from torch.export.pt2_archive import PT2ArchiveReader

    for record in (MODEL, WEIGHTS):
        reader = PT2ArchiveReader(io.BytesIO(exported()))
        program = json.loads(reader.read_bytes(record))
        walk = [(path, name) for path in places(program) for name in VALUES]
        for path, name in walk[::stride]:
            content = rewritten(
                record,
                lambda found, path=path, name=name: changed(
                    copy.deepcopy(found), path, VALUES[name]
                ),
            )
            where = ".".join(map(str, path))
            yield raw("exported", f"{where} is {name}", content, ".pt2", may_pass=True)
