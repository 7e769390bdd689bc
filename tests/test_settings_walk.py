"""A walk over all settings: every number has a range, and the range is checked."""

import dataclasses
import importlib
import inspect
import math
import pkgutil
import types
import typing
from typing import Annotated, Any

import pytest

import gradnet
from gradnet.cli.commands import COMMANDS
from gradnet.core.constraints import Constraint, Range
from gradnet.core.validation import Validated, hints_of
from gradnet.errors import GradnetError, InvalidInputError

NONSENSE = [-1, 0, math.nan, math.inf, -math.inf, 1e300, 10**11, -1.5, True, "x", [-1]]
# Values of fields without a default, by name.
REQUIRED: dict[str, Any] = {
    "rate": 1.0,
    "size": 3,
    "seed": 0,
    "of": 0,
    "least": 1,
    "antecedents": [0, 1],
    "in_channels": 1,
    "image_size": 8,
    "num_classes": 10,
    "widths": (4,),
    "kind": "mlp",
    "adapter": "mlp",
    "weights": "w.pt",
    "out": "out",
    "snapshot": "s.safetensors",
    "store": "store",
    "folder": "folder",
    "name": "default",
}


def all_settings() -> list[type[Any]]:
    for module in pkgutil.walk_packages(gradnet.__path__, "gradnet."):
        if not module.name.endswith("__main__"):
            importlib.import_module(module.name)
    found, rest = [], list(Validated.__subclasses__())
    while rest:
        kind = rest.pop()
        rest += kind.__subclasses__()
        is_ours = kind.__module__.startswith("gradnet.")
        if is_ours and not inspect.isabstract(kind) and kind not in found:
            found.append(kind)
    return sorted(found, key=lambda kind: kind.__qualname__)


def example(kind: type[Any]) -> Any:
    required = {
        field.name: REQUIRED[field.name]
        for field in dataclasses.fields(kind)
        if field.name in REQUIRED
        and field.default is field.default_factory is dataclasses.MISSING
    }
    if kind.__name__ == "StudySettings":
        base = importlib.import_module("gradnet.experiments.base_network").BaseSettings
        required |= {"base": base(), "recipes": {}}
    return kind(**required)


def numbers_without_range(hint: Any, is_ranged: bool = False) -> list[Any]:
    """The int and float members of an annotation beside which no range stands."""
    if hint in (int, float):
        return [] if is_ranged else [hint]
    if typing.get_origin(hint) is Annotated:
        inner, *constraints = typing.get_args(hint)
        has_range = any(isinstance(c, Range) for c in constraints)
        return numbers_without_range(inner, has_range)
    return [n for part in typing.get_args(hint) for n in numbers_without_range(part)]


def ranges_of(hint: Any) -> list[Range]:
    if typing.get_origin(hint) is Annotated:
        inner, *constraints = typing.get_args(hint)
        return [c for c in constraints if isinstance(c, Range)] + ranges_of(inner)
    if typing.get_origin(hint) in (typing.Union, types.UnionType):
        return [r for part in typing.get_args(hint) for r in ranges_of(part)]
    return []


def lies_inside(value: float, bounds: Range) -> bool:
    return (
        math.isfinite(value)
        and value >= (-math.inf if bounds.at_least is None else bounds.at_least)
        and value <= (math.inf if bounds.at_most is None else bounds.at_most)
        and (bounds.above is None or value > bounds.above)
        and (bounds.below is None or value < bounds.below)
    )


SETTINGS = all_settings()


def test_the_walk_finds_what_the_commands_take() -> None:
    assert len(SETTINGS) > 35
    for entry in COMMANDS.values():
        module = importlib.import_module(f"gradnet.cli.{entry.module}")
        command = getattr(module, entry.name)
        assert not isinstance(command, type) or command in SETTINGS


@pytest.mark.parametrize("kind", SETTINGS, ids=lambda kind: kind.__name__)
def test_every_number_has_a_range(kind: type[Any]) -> None:
    bare = {n for n, hint in hints_of(kind).items() if numbers_without_range(hint)}
    # Indices of inputs, as many as there are.
    allowed = {"Not": {"of"}, "NOfM": {"antecedents"}}
    assert bare == allowed.get(kind.__name__, set())


@pytest.mark.parametrize("kind", SETTINGS, ids=lambda kind: kind.__name__)
def test_nested_settings_are_checked_too(kind: type[Any]) -> None:
    for hint in hints_of(kind).values():
        for part in (hint, *typing.get_args(hint)):
            if typing.get_origin(part) is None and dataclasses.is_dataclass(part):
                kind_of_part = part if isinstance(part, type) else type(part)
                assert issubclass(kind_of_part, Validated | Constraint)


@pytest.mark.parametrize("kind", SETTINGS, ids=lambda kind: kind.__name__)
def test_nonsense_is_refused_in_one_line_or_lies_in_the_range(kind: type[Any]) -> None:
    settings = example(kind)
    # Users cannot give the others.
    given = {field.name for field in dataclasses.fields(kind) if field.init}
    for name, hint in hints_of(kind).items():
        for value in NONSENSE if name in given else ():
            try:
                made = dataclasses.replace(settings, **{name: value})
            except GradnetError as error:
                assert isinstance(error, InvalidInputError)
                assert "\n" not in str(error) and len(str(error)) < 300
                continue
            bounds = ranges_of(hint)
            if bounds and isinstance(value, int | float):
                assert any(lies_inside(getattr(made, name), b) for b in bounds), name
                assert not isinstance(value, bool), name


def test_the_walk_notices_a_number_without_range() -> None:
    assert numbers_without_range(list[int] | None) == [int]
    assert numbers_without_range(dict[str, Annotated[float, Range(0)]]) == []
