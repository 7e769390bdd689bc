"""Fields of nested settings dataclasses as parameters of scikit-learn estimators."""

import dataclasses
from collections.abc import Mapping
from typing import Any, TypeVar

from gradnet.errors import InvalidInputError

Settings = TypeVar("Settings")


def nested_parameters(name: str, settings: object) -> dict[str, Any]:
    """All fields below a settings dataclass, by the names that scikit-learn uses.

    Args:
        name: of the estimator's parameter that holds the settings.
        settings: a dataclass; of another value there are none.

    Returns:
        ``name__field`` and ``name__field__inner`` -> value, settings among them.

    Example:
        >>> from gradnet import TrainingSettings
        >>> nested_parameters("training", TrainingSettings())["training__momentum"]
        0.9
    """
    if not dataclasses.is_dataclass(settings) or isinstance(settings, type):
        return {}
    found = {}
    for field in dataclasses.fields(settings):
        key, value = f"{name}__{field.name}", getattr(settings, field.name)
        found[key] = value
        found |= nested_parameters(key, value)
    return found


def replace_nested(settings: Settings, changes: Mapping[str, Any]) -> Settings:
    """A copy of a settings dataclass with other values of nested fields.

    Args:
        settings: not modified.
        changes: ``field`` or ``field__inner`` -> new value. What replaces whole
            settings comes first, whatever the order.

    Raises:
        InvalidInputError: there is no such field, or a value is out of its range.

    Example:
        >>> from gradnet import RECIPES
        >>> changed = replace_nested(RECIPES["default"], {"training__steps": 5})
        >>> changed.training.steps
        5
    """
    fields = {field.name for field in dataclasses.fields(settings)}  # type: ignore[arg-type]
    direct: dict[str, Any] = {}
    deeper: dict[str, dict[str, Any]] = {}
    for key, value in changes.items():
        name, _, rest = key.partition("__")
        if name not in fields:
            raise InvalidInputError(
                f"{type(settings).__name__} has no field {name!r}; its fields are: "
                f"{', '.join(sorted(fields))}"
            )
        if rest:
            deeper.setdefault(name, {})[rest] = value
        else:
            direct[name] = value
    for name, inner in deeper.items():
        value = direct.get(name, getattr(settings, name))
        if not dataclasses.is_dataclass(value) or isinstance(value, type):
            raise InvalidInputError(
                f"{name} of {type(settings).__name__} is {value!r}, which has no field "
                f"{next(iter(inner))!r}"
            )
        direct[name] = replace_nested(value, inner)
    return dataclasses.replace(settings, **direct)  # type: ignore[type-var]
