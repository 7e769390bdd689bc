"""The architecture of a network as plain values, from a fixed table of layer types.

A grown network is the result of its edits; no constructor makes it from a few
arguments. Its description is its module tree: the type, the plain attributes, and the
shapes of parameters and buffers of each module. A description can name only the types
in the table here, so that reading one never runs foreign code.
"""

import dataclasses
import inspect
import math
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from gradnet.errors import DamagedFileError, InvalidInputError
from gradnet.models import cascade, cnn, convnet, mlp, progressive, resnet
from gradnet.surgery.masks import masks_of, with_masks

_MODULES = (cascade, cnn, convnet, mlp, progressive, resnet)
# Attributes that every module has: hooks, flags, tables of parameters and children.
_OF_ALL_MODULES = set(vars(nn.Module()))
MAX_DEPTH = 50


def _layers() -> dict[str, type[nn.Module]]:
    """Layer types by name: those of ``torch.nn`` and of :mod:`gradnet.models`."""
    # Lazy layers have no shapes yet, and DataParallel is not a layer.
    kinds = {
        f"torch.nn.{name}": kind
        for name, kind in vars(nn).items()
        if not name.startswith("Lazy") and name != "DataParallel"
    }
    for module in _MODULES:
        kinds |= {
            f"gradnet.{name}": kind
            for name, kind in vars(module).items()
            if inspect.isclass(kind) and kind.__module__ == module.__name__
        }
    return {
        name: kind
        for name, kind in kinds.items()
        if inspect.isclass(kind)
        and issubclass(kind, nn.Module)
        and kind is not nn.Module
    }


LAYERS: Mapping[str, type[nn.Module]] = _layers()
_NAMES = {kind: name for name, kind in LAYERS.items()}
_DATACLASSES: Mapping[str, type] = {"ColumnPlan": progressive.ColumnPlan}


def describe_architecture(model: nn.Module) -> dict[str, Any]:
    """A network's architecture in plain values, for :func:`build_architecture`.

    Args:
        model: of layers in the table; weights may be masked.

    Returns:
        A nested dict that can be stored as JSON.

    Raises:
        InvalidInputError: a layer's type is not in the table, or one of its attributes
            is not a plain value.
    """
    masked = [
        name
        for name, layer in model.named_modules()
        if parametrize.is_parametrized(layer)
    ]
    return {"masked": masked, "network": _describe(model, "", set(masked))}


def build_architecture(
    description: Mapping[str, Any], max_elements: int | None = None
) -> nn.Module:
    """A network of a described architecture, with all weights zero.

    Args:
        description: of :func:`describe_architecture`.
        max_elements: maximum number of elements of all parameters and buffers, so that
            a damaged shape does not exhaust the memory; None for no limit.

    Returns:
        The network, whose weights are to be loaded.

    Raises:
        DamagedFileError: it names a type that is not in the table, is too large, or is
            damaged.
    """
    try:
        elements = _count_elements(description["network"], 0)
        if max_elements is not None and elements > max_elements:
            raise ValueError(f"it has {elements:,} numbers, more than the file holds")
        model = _build(description["network"])
        masked = [f"{name}.weight".lstrip(".") for name in description["masked"]]
        if not masked:
            return model
        everything = masks_of(model)
        return with_masks(model, {name: everything[name] for name in masked})
    except (
        KeyError,
        TypeError,
        ValueError,
        AttributeError,
        RuntimeError,
        OverflowError,
    ) as error:
        raise DamagedFileError(
            f"the description of the architecture is damaged: {error}"
        ) from None


def _describe(module: nn.Module, name: str, masked: set[str]) -> dict[str, Any]:
    kind = type(module)
    if name in masked:
        kind = parametrize.type_before_parametrizations(module)
    if kind not in _NAMES:
        raise InvalidInputError(
            f"layer {name or 'model'!r} is a {kind.__qualname__}, which a file of a "
            "grown network cannot describe; load it with the model given"
        )
    attributes = {
        key: _to_plain(value, f"{name}.{key}".lstrip("."))
        for key, value in vars(module).items()
        if key not in _OF_ALL_MODULES
    }
    parameters = {k: _shape(v) for k, v in module._parameters.items()}
    if name in masked:
        weight = module.weight
        assert isinstance(weight, Tensor)
        parameters = {"weight": _shape(weight), **parameters}
    return {
        "type": _NAMES[kind],
        "attributes": attributes,
        "parameters": parameters,
        "buffers": {k: _shape(v) for k, v in module._buffers.items()},
        "not_saved": sorted(module._non_persistent_buffers_set),
        "children": {
            key: None
            if child is None
            else _describe(child, f"{name}.{key}".lstrip("."), masked)
            for key, child in module._modules.items()
            if not (name in masked and key == "parametrizations")
        },
    }


def _count_elements(description: Mapping[str, Any], depth: int) -> int:
    if depth > MAX_DEPTH:
        raise ValueError(f"it is nested more than {MAX_DEPTH} deep")
    tensors = [*description["parameters"].values(), *description["buffers"].values()]
    children = [c for c in description["children"].values() if c is not None]
    return sum(math.prod(shape[1]) for shape in tensors if shape is not None) + sum(
        _count_elements(child, depth + 1) for child in children
    )


def _build(description: Mapping[str, Any]) -> nn.Module:
    if description["type"] not in LAYERS:
        raise ValueError(f"no layer type {description['type']!r}")
    kind = LAYERS[description["type"]]
    module: nn.Module = kind.__new__(kind)
    nn.Module.__init__(module)
    for key, value in description["attributes"].items():
        if key in _OF_ALL_MODULES or "__" in key or hasattr(kind, key):
            raise ValueError(f"{description['type']} has no attribute {key!r}")
        setattr(module, key, _from_plain(value))
    for key, shape in description["parameters"].items():
        empty = _empty(shape)
        parameter = None if empty is None else nn.Parameter(empty)
        module.register_parameter(key, parameter)
    for key, shape in description["buffers"].items():
        is_saved = key not in description["not_saved"]
        module.register_buffer(key, _empty(shape), persistent=is_saved)
    for key, child in description["children"].items():
        module.add_module(key, None if child is None else _build(child))
    return module


def _shape(tensor: Tensor | None) -> list[Any] | None:
    if tensor is None:
        return None
    return [str(tensor.dtype).removeprefix("torch."), list(tensor.shape)]


def _empty(shape: list[Any] | None) -> Tensor | None:
    if shape is None:
        return None
    dtype = getattr(torch, shape[0])
    if not isinstance(dtype, torch.dtype):
        raise ValueError(f"no dtype {shape[0]!r}")
    return torch.zeros(shape[1], dtype=dtype)


def _to_plain(value: Any, name: str) -> Any:
    """The value for JSON; tuples and known dataclasses are marked as such."""
    if value is None or isinstance(value, bool | int | float | str):
        return value
    if isinstance(value, list):
        return [_to_plain(item, name) for item in value]
    if isinstance(value, tuple):
        return {"tuple": [_to_plain(item, name) for item in value]}
    if isinstance(value, dict):
        items = {str(key): _to_plain(item, name) for key, item in value.items()}
        return {"dict": items}
    if type(value).__name__ in _DATACLASSES and dataclasses.is_dataclass(value):
        fields = {f.name: getattr(value, f.name) for f in dataclasses.fields(value)}
        plain = {key: _to_plain(item, name) for key, item in fields.items()}
        return {"dataclass": type(value).__name__, "fields": plain}
    raise InvalidInputError(
        f"{name} is a {type(value).__name__}, which a file of a grown network cannot "
        "describe; load it with the model given"
    )


def _from_plain(value: Any) -> Any:
    if isinstance(value, list):
        return [_from_plain(item) for item in value]
    if not isinstance(value, dict):
        return value
    if "tuple" in value:
        return tuple(_from_plain(item) for item in value["tuple"])
    if "dataclass" in value:
        kind = _DATACLASSES[value["dataclass"]]
        return kind(**{k: _from_plain(v) for k, v in value["fields"].items()})
    return {key: _from_plain(item) for key, item in value["dict"].items()}
