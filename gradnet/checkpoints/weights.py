"""Weights from other programs: state dicts, safetensors and Chainer files.

| format | content |
|---|---|
| ``.safetensors`` | the named tensors |
| ``.pt``, ``.pth``, ``.ckpt``, ``.bin`` | a state dict, or one under ``state_dict`` |
| ``.npz`` | the parameters of a Chainer model or of a trainer snapshot |

Nothing is ever unpickled: a file that needs it is refused.
"""

import re
import zipfile
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from gradnet.checkpoints.exact_weights import load_exactly
from gradnet.checkpoints.tensor_file import read_safetensors
from gradnet.core.files import load_tensors, read_npz
from gradnet.core.regular_files import regular_file
from gradnet.core.text import listed, reason_of
from gradnet.errors import DamagedFileError

TORCH_SUFFIXES = (".pt", ".pth", ".ckpt", ".bin")
NESTING_KEYS = ("state_dict", "model_state_dict", "model", "net", "module")
PREFIXES = ("module.", "_orig_mod.", "model.", "net.")
LINKS_2018 = {"c0": "conv0", "c1": "conv1", "l1": "linear"}
CHAINER_MODEL = "updater/model:main/"


def load_weights(
    path: str | Path, model: nn.Module, names: Mapping[str, str] | None = None
) -> None:
    """Copy the weights in a file into a model, in place.

    As with :meth:`torch.nn.Module.load_state_dict`, parameters and buffers change, and
    the mode (training or evaluation) does not. Prefixes that wrappers such as DDP,
    Lightning or ``torch.compile`` put before all names are removed.

    Args:
        path: ``.safetensors``, a file of ``torch.save``, or Chainer's ``.npz``.
        model: its parameters and buffers must match the file in names and shapes; it
            stays unchanged where they do not.
        names: for Chainer files, link name -> module name; the default is that of the
            2018 network: ``c0, c1, l1`` -> ``conv0, conv1, linear``.

    Raises:
        DamagedFileError: the file is missing, damaged, of unknown format, or holds
            pickled objects.
        GradnetError: it does not match the model; all differences are named.

    Example:
        >>> import tempfile
        >>> import torch
        >>> trained, fresh = torch.nn.Linear(3, 2), torch.nn.Linear(3, 2)
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     torch.save({"state_dict": trained.state_dict()}, f"{folder}/a.pt")
        ...     load_weights(f"{folder}/a.pt", fresh)
        >>> torch.equal(fresh.weight, trained.weight)
        True
    """
    suffix = regular_file(path).suffix
    if suffix == ".safetensors":
        tensors = read_safetensors(path)[1]
    elif suffix in TORCH_SUFFIXES:
        tensors = _read_state_dict(path)
    elif suffix == ".npz" or zipfile.is_zipfile(path):
        tensors = _read_chainer(path, LINKS_2018 if names is None else names)
    else:
        raise DamagedFileError(
            f"{path}: unknown format {suffix!r}; give .safetensors, .pt, .pth, or an "
            ".npz of Chainer"
        )
    load_exactly(model, _strip_prefix(tensors, model), str(path))


def _read_state_dict(path: str | Path) -> dict[str, Tensor]:
    found = load_tensors(path)
    while isinstance(found, Mapping) and not _is_state_dict(found):
        inner = [key for key in NESTING_KEYS if isinstance(found.get(key), Mapping)]
        if not inner:
            raise DamagedFileError(
                f"{path} holds no state dict; its keys are: " + listed(found)
            )
        found = found[inner[0]]
    if not isinstance(found, Mapping):
        raise DamagedFileError(
            f"{path} holds a {type(found).__name__}, not a state dict"
        )
    return dict(found)


def _is_state_dict(found: Mapping[Any, Any]) -> bool:
    return bool(found) and all(
        isinstance(name, str) and isinstance(value, Tensor)
        for name, value in found.items()
    )


def _read_chainer(path: str | Path, names: Mapping[str, str]) -> dict[str, Tensor]:
    """The parameters ``.../<link>/W`` and ``.../<link>/b`` of a Chainer npz.

    A trainer snapshot holds the optimizer, the iterators and the log too; only arrays
    below the model are opened, so object arrays elsewhere are never touched.
    """
    parsed: dict[str, tuple[str, str]] = {}

    def select(keys: list[str]) -> Iterable[str]:
        below = [key for key in keys if key.startswith(CHAINER_MODEL)]
        parsed.update(
            (key, _parse_chainer_key(key, str(path))) for key in below or keys
        )
        return parsed

    tensors = {}
    for key, array in read_npz(path, select).items():
        link, kind = parsed[key]
        try:
            tensors[f"{names.get(link, link)}.{kind}"] = torch.from_numpy(array)
        except (TypeError, ValueError) as error:
            raise DamagedFileError(
                f"{path}: {listed([key])} cannot be read: {reason_of(error)}"
            ) from None
    return tensors


def _parse_chainer_key(key: str, path: str) -> tuple[str, str]:
    match = re.fullmatch(
        r"(?:updater/model:main/)?(?:predictor/)?(?P<link>.+)/(?P<kind>W|b)", key
    )
    if match is None:
        raise DamagedFileError(
            f"{path}: {listed([key])} is not a weight of a Chainer model; keys look "
            f"like {CHAINER_MODEL}predictor/c0/W"
        )
    kind = "weight" if match["kind"] == "W" else "bias"
    return match["link"].replace("/", "."), kind


def _strip_prefix(tensors: dict[str, Tensor], model: nn.Module) -> dict[str, Tensor]:
    """Remove the prefixes of wrappers (DDP, ``torch.compile``, Lightning)."""
    expected = model.state_dict().keys()
    stripped = True
    while stripped and not tensors.keys() & expected:
        stripped = False
        for prefix in PREFIXES:
            if tensors and all(name.startswith(prefix) for name in tensors):
                tensors = {name[len(prefix) :]: t for name, t in tensors.items()}
                stripped = True
                break
    return tensors
