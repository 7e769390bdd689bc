"""Whether values from a file have the types that a dataclass states for its fields."""

import dataclasses
import math
import types
from collections.abc import Mapping, Sequence
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

from gradnet.core.text import listed, shown

MAX_INTEGER = 2**63 - 1


def mistyped(value: object, hint: Any, name: str = "") -> str | None:
    """Say which part of a value is not of its stated type.

    Args:
        value: plain values, or an instance of a dataclass that was made from them;
            lists count as tuples, as JSON has no other.
        hint: a type as annotations state it, or a dataclass.
        name: of the value.

    Returns:
        One line that names the field, its value and its type; None where all is well.

    Example:
        >>> @dataclasses.dataclass
        ... class Settings:
        ...     steps: int
        ...     rate: float | None = None
        >>> mistyped(Settings(3, 0.1), Settings)
        >>> mistyped(Settings("3"), Settings)
        "steps is '3', not of type int"
    """
    if dataclasses.is_dataclass(hint) and isinstance(value, hint):  # type: ignore[arg-type]
        return _first_fault(
            (getattr(value, field), inner, f"{name}.{field}".lstrip("."))
            for field, inner in get_type_hints(hint).items()
            if hasattr(value, field)
        )
    origin, inner = get_origin(hint), get_args(hint)
    if origin in (list, tuple, Sequence) and isinstance(value, list | tuple):
        return _of_sequence(value, hint, name)
    if origin in (dict, Mapping) and isinstance(value, Mapping):
        return _first_fault((key, inner[0], f"a key of {name}") for key in value) or (
            _first_fault(
                (v, inner[1], f"{name}.{listed([k])}") for k, v in value.items()
            )
        )
    if origin in (Union, types.UnionType):
        fine = any(mistyped(value, option, name) is None for option in inner)
    elif origin is Literal:
        fine = any(value is option or value == option for option in inner)
    else:
        fine = _is_plain(value, hint)
    if fine:
        return None
    stated = getattr(hint, "__name__", None) if isinstance(hint, type) else str(hint)
    return f"{name or 'it'} is {shown(value)}, not of type {stated}"


def _of_sequence(value: Sequence[object], hint: Any, name: str) -> str | None:
    inner = get_args(hint)
    if get_origin(hint) is tuple and inner[-1] is not Ellipsis:
        if len(value) != len(inner):
            return f"{name} has {len(value)} values, not {len(inner)}"
        pairs = zip(value, inner, strict=True)
    else:
        pairs = zip(value, [inner[0]] * len(value), strict=True)
    return _first_fault((v, t, f"{name}[{i}]") for i, (v, t) in enumerate(pairs))


def _first_fault(parts: Any) -> str | None:
    return next((fault for part in parts if (fault := mistyped(*part))), None)


def _is_plain(value: object, hint: Any) -> bool:
    if hint is Any:
        return True
    if hint is None or hint is type(None):
        return value is None
    if hint is float:
        return _is_number(value) and not math.isnan(value)  # type: ignore[arg-type]
    if hint is int:
        is_integer = isinstance(value, int) and not isinstance(value, bool)
        return is_integer and abs(value) <= MAX_INTEGER  # type: ignore[arg-type]
    kind = get_origin(hint) or hint
    if kind is Sequence:  # of which a text is one, too
        return False
    return not isinstance(kind, type) or isinstance(value, kind)


def _is_number(value: object) -> bool:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return False
    return isinstance(value, float) or abs(value) <= MAX_INTEGER
