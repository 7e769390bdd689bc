"""Whether values from a file have the types and ranges that a dataclass states."""

import dataclasses
from typing import Any

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
    parts = [(name or "it", value, hint)]
    if dataclasses.is_dataclass(hint) and isinstance(value, hint):  # type: ignore[arg-type]
        fields = hints_of(type(value))
        parts = [
            (f"{name}.{field}".lstrip("."), getattr(value, field), inner)
            for field, inner in fields.items()
        ]
    try:
        for part in parts:
            check_value(*part)
    except InvalidInputError as error:
        return str(error)
    return None
