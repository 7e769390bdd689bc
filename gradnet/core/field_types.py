"""Whether values from a file have the types and ranges that a dataclass states."""

import dataclasses
from typing import Any

from gradnet.core.text import shown
from gradnet.core.validation import check_value, hints_of
from gradnet.errors import InvalidInputError


def mistyped(value: object, hint: Any, name: str = "") -> str | None:
    """Say which part of a value is not what its annotation states.

    Args:
        value: plain values, or an instance of a dataclass that was made from them;
            lists count as tuples, as JSON has no other.
        hint: a type as annotations state it, or a dataclass.
        name: of the value.

    Returns:
        One line that names the field, its value and what is allowed; None where all is
        well.

    Example:
        >>> @dataclasses.dataclass
        ... class Settings:
        ...     steps: int
        ...     rate: float | None = None
        >>> mistyped(Settings(3, 0.1), Settings)
        >>> mistyped(Settings("3"), Settings)
        "steps is '3'; it must be a whole number"
    """
    if isinstance(hint, type) and dataclasses.is_dataclass(hint):
        if not isinstance(value, hint):
            return f"{name or 'it'} is {shown(value)}, not {hint.__name__}"
        faults = (
            mistyped(getattr(value, field), inner, f"{name}.{field}".lstrip("."))
            for field, inner in hints_of(hint).items()
        )
        return next((fault for fault in faults if fault), None)
    try:
        check_value(name or "it", value, hint)
    except InvalidInputError as error:
        return str(error)
    return None
