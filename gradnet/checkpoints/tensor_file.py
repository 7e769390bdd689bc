"""Safetensors files with a JSON header that says what made them."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import safetensors.torch
from safetensors import safe_open
from torch import Tensor

from gradnet.checkpoints.checksums import verified, with_checksum
from gradnet.core.files import write_atomically
from gradnet.core.plain_values import parse_json
from gradnet.core.regular_files import regular_file
from gradnet.core.text import reason_of
from gradnet.errors import DamagedFileError

HEADER = "gradnet"


def save_with_header(
    path: str | Path, tensors: Mapping[str, Tensor], header: Mapping[str, Any]
) -> Path:
    """Write named tensors as safetensors, with a JSON header of their origin.

    A checksum of both is added to the header.
    """
    contents = {name: tensor.cpu().contiguous() for name, tensor in tensors.items()}
    stamped = with_checksum(header, contents)
    data = safetensors.torch.save(contents, {HEADER: json.dumps(stamped)})
    return write_atomically(path, lambda file: file.write(data))


def load_with_header(path: str | Path) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """The header and the tensors that :func:`save_with_header` wrote.

    Raises:
        DamagedFileError: the file is missing, damaged, or was not written by it.
    """
    header, tensors = read_safetensors(path)
    if header is None:
        raise DamagedFileError(
            f"{path} was not written by gradnet: its header does not say what it is. "
            "Read weights of your own with gradnet.load_weights(path, model)"
        )
    return header, tensors


def read_safetensors(
    path: str | Path,
) -> tuple[dict[str, Any] | None, dict[str, Tensor]]:
    """The header, if there is one, and the tensors of a safetensors file.

    Raises:
        DamagedFileError: the file is missing or damaged.
    """
    try:
        with safe_open(regular_file(path), framework="pt") as file:
            metadata = file.metadata() or {}
            tensors = {name: file.get_tensor(name) for name in file.keys()}
    except DamagedFileError:
        raise
    except Exception as error:  # a damaged file fails wherever the reader is
        raise DamagedFileError(
            f"{path} is not a complete safetensors file ({reason_of(error)}); was it "
            "copied in full?"
        ) from None
    if HEADER not in metadata:
        return None, tensors
    try:
        header = parse_json(metadata[HEADER])
        if not isinstance(header, dict):
            raise ValueError("its contents have no names")
    except ValueError as error:
        raise DamagedFileError(
            f"{path} has a damaged header: {reason_of(error)}"
        ) from None
    return verified(header, tensors, str(path)), tensors
