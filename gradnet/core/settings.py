"""Settings dataclasses as plain values, and what differs from those in a file."""

import dataclasses
from collections.abc import Mapping
from typing import Any


def to_plain(value: object) -> Any:
    """The value as JSON gives it back: dataclasses as mappings, tuples as lists."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        names = [field.name for field in dataclasses.fields(value)]
        return {name: to_plain(getattr(value, name)) for name in names}
    if isinstance(value, Mapping):
        return {str(key): to_plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [to_plain(item) for item in value]
    return value


def first_difference(before: Any, now: Any, name: str = "") -> str | None:
    """Say in which field stored settings differ from those of today.

    A field that the stored settings lack, because it was added to the dataclass later,
    counts as its default: what was made before it came is still the same.

    Args:
        before: plain values, as :func:`to_plain` gave them when they were stored.
        now: a settings dataclass, or a mapping or list of plain values and dataclasses.
        name: of the field that both stand in.

    Returns:
        The first field that differs, with both values; None where none does.
    """
    if dataclasses.is_dataclass(now) and isinstance(before, Mapping):
        defaults = {f.name: default_of(f) for f in dataclasses.fields(now)}
        values = {key: getattr(now, key) for key in defaults}
        return _difference_of_mappings(before, values, defaults, name)
    if isinstance(now, Mapping) and isinstance(before, Mapping):
        return _difference_of_mappings(before, now, {}, name)
    if before == to_plain(now):
        return None
    return f"{name or 'it'} was {before!r}, now {to_plain(now)!r}"


def default_of(field: "dataclasses.Field[Any]") -> Any:
    """The default of a dataclass's field; ``dataclasses.MISSING`` where it has none."""
    if field.default_factory is not dataclasses.MISSING:
        return field.default_factory()
    return field.default


def _difference_of_mappings(
    before: Mapping[str, Any],
    now: Mapping[str, Any],
    defaults: Mapping[str, Any],
    name: str,
) -> str | None:
    for key in [*now, *(key for key in before if key not in now)]:
        path = f"{name}.{key}".lstrip(".")
        if key not in before and key in defaults and now[key] == defaults[key]:
            continue
        found = first_difference(before.get(key), now.get(key), path)
        if found is not None:
            return found
    return None
