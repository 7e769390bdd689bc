"""Weights from files into a network that must match them name by name."""

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from gradnet.core.text import listed
from gradnet.errors import DamagedFileError

FLOATS = (torch.float32, torch.float64, torch.float16, torch.bfloat16)
MAX_FAULTS = 8


def load_exactly(model: nn.Module, tensors: Mapping[str, Tensor], source: str) -> None:
    """Copy weights into a model that must match them name by name.

    Floats of 16, 32 and 64 bits may stand for each other. Other types are never cast:
    integers, booleans, complex numbers and eight-bit floats have to be what the model
    has.

    Args:
        model: receives the weights.
        tensors: parameter and buffer name -> value.
        source: where they come from, for the error message.

    Raises:
        DamagedFileError: keys are missing or left over, shapes or types differ, or a
            value is not finite; they are named, and the model is left as it was.
    """
    expected = model.state_dict()
    faults = []
    if missing := [name for name in expected if name not in tensors]:
        faults.append(f"missing: {listed(missing)}")
    if extra := [name for name in tensors if name not in expected]:
        faults.append(f"not in the model: {listed(extra)}")
    faults += [
        f"{name} {fault}"
        for name, tensor in tensors.items()
        if name in expected and (fault := _fault_of(tensor, expected[name]))
    ]
    if faults:
        more = len(faults) - MAX_FAULTS
        faults = faults[:MAX_FAULTS] + ([f"{more} more"] if more > 0 else [])
        raise DamagedFileError(f"{source} does not fit the model: {'; '.join(faults)}")
    model.load_state_dict(dict(tensors))


def _fault_of(tensor: Tensor, expected: Tensor) -> str | None:
    """What is wrong with a tensor; values are looked at last."""
    if kind := _unusual_kind(tensor):
        return f"is a {kind} tensor; save it as a plain one"
    if tensor.shape != expected.shape:
        return (
            f"has shape {tuple(tensor.shape)}, the model's has {tuple(expected.shape)}"
        )
    is_float = tensor.dtype in FLOATS and expected.dtype in FLOATS
    if tensor.dtype != expected.dtype and not is_float:
        return f"has the type {_name(tensor)}, the model's has {_name(expected)}"
    # A number may be finite in 64 bits and not in the 32 of the model.
    if is_float and not torch.isfinite(tensor.to(expected.dtype)).all():
        return "has values that are not finite"
    if tensor.dtype.is_complex and not torch.isfinite(tensor).all():
        return "has values that are not finite"
    return None


def _unusual_kind(tensor: Tensor) -> str | None:
    if tensor.is_nested:
        return "nested"
    if tensor.layout is not torch.strided:
        return "sparse"
    if tensor.is_quantized:
        return "quantized"
    if tensor.is_meta:
        return "meta (it has no values)"
    return None


def _name(tensor: Tensor) -> str:
    return str(tensor.dtype).removeprefix("torch.")
