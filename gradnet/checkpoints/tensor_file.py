"""Safetensors files with a JSON header that says what made them."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn

from gradnet.core.files import write_atomically
from gradnet.errors import DamagedFileError, GradnetError

HEADER = "gradnet"


def save_with_header(
    path: str | Path, tensors: Mapping[str, Tensor], header: Mapping[str, Any]
) -> Path:
    """Write named tensors as safetensors, with a JSON header of their origin."""
    contents = {name: tensor.cpu().contiguous() for name, tensor in tensors.items()}
    data = safetensors.torch.save(contents, {HEADER: json.dumps(header)})
    return write_atomically(path, lambda file: file.write(data))


def load_with_header(path: str | Path) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """The header and the tensors that :func:`save_with_header` wrote.

    Raises:
        DamagedFileError: the file is missing, damaged, or was not written by it.
    """
    if not Path(path).is_file():
        raise DamagedFileError(f"{path}: no such file")
    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            tensors = {name: file.get_tensor(name) for name in file.keys()}
    except SafetensorError as error:
        raise DamagedFileError(
            f"{path} is no whole safetensors file ({error}); was it copied in full?"
        ) from None
    if HEADER not in metadata:
        raise DamagedFileError(
            f"{path} was not written by gradnet: its header does not say what it is. "
            "Read weights of your own with gradnet.load_weights(path, model)"
        )
    try:
        header = json.loads(metadata[HEADER])
    except json.JSONDecodeError as error:
        raise DamagedFileError(f"{path} has a damaged header: {error}") from None
    return header, tensors


def load_exactly(model: nn.Module, tensors: Mapping[str, Tensor], source: str) -> None:
    """Copy weights into a model that must match them name by name.

    Args:
        model: receives the weights.
        tensors: parameter and buffer name -> value.
        source: where they come from, for the error message.

    Raises:
        GradnetError: keys are missing or left over, shapes differ, or a value is not
            finite; all of them are named, and the model is left as it was.
    """
    expected = model.state_dict()
    faults = []
    if missing := [name for name in expected if name not in tensors]:
        faults.append(f"missing: {', '.join(missing)}")
    if extra := [name for name in tensors if name not in expected]:
        faults.append(f"not in the model: {', '.join(extra)}")
    for name, tensor in tensors.items():
        if name not in expected:
            continue
        if tensor.shape != expected[name].shape:
            faults.append(
                f"{name} has shape {tuple(tensor.shape)}, the model's has "
                f"{tuple(expected[name].shape)}"
            )
        elif not torch.isfinite(tensor).all():
            faults.append(f"{name} has values that are not finite")
    if faults:
        raise GradnetError(f"{source} does not fit the model: {'; '.join(faults)}")
    model.load_state_dict(dict(tensors))
