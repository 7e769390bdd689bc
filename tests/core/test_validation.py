"""Types and ranges of settings are checked as their annotations say."""

import math
from dataclasses import dataclass, field, replace
from typing import Annotated, Any, Literal

import numpy as np
import pytest

from gradnet.core.constraints import FileName, Length, Name, PathText, Range
from gradnet.core.settings import to_plain
from gradnet.core.validation import (
    Count,
    Fraction,
    Validated,
    Width,
    check_arguments,
    check_value,
    describe_type,
)
from gradnet.errors import InvalidInputError


@dataclass(frozen=True)
class Inner(Validated):
    steps: Count = 10
    momentum: Annotated[float, Range(0, below=1)] = 0.9


@dataclass(frozen=True)
class Outer(Validated):
    out: PathText
    inner: Inner = field(default_factory=Inner)
    widths: Annotated[list[Width], Length(1, 3)] = field(default_factory=lambda: [4])
    pair: tuple[float, float] | None = None
    hidden: Width | tuple[Width, ...] = 16
    kind: Literal["a", "b"] = "a"
    flag: bool = False
    names: dict[str, Width] = field(default_factory=dict)
    anything: Any = None


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"out": ""}, "out is ''; it must be of at least one character"),
        ({"out": "a\0b"}, "out is 'a\\x00b'; it must be text without null characters"),
        ({"out": "\ud800"}, "out is '\\ud800'; it must be text without null"),
        ({"out": 3}, "out is 3; it must be text of at least one character"),
        ({"inner": None}, "inner is None; it must be a Inner"),
        ({"widths": []}, "widths is []; it must be a list of 1 to 3 items"),
        (
            {"widths": [1] * 4},
            "widths is [1, 1, 1, 1]; it must be a list of 1 to",
        ),
        ({"widths": [4, 0]}, "widths[1] is 0; it must be >= 1 and <= 65536"),
        ({"widths": "12"}, "widths is '12'; it must be a list of 1 to 3 items, each a"),
        ({"pair": (1.0,)}, "pair is (1.0,); it must be a list of 2 items, each a num"),
        ({"pair": (1.0, math.nan)}, "pair[1] is nan; it must be a finite number"),
        ({"hidden": (4, True)}, "hidden is (4, True); it must be a whole number >= 1"),
        ({"kind": "c"}, "kind is 'c'; it must be a or b"),
        ({"flag": 1}, "flag is 1; it must be true or false"),
        ({"names": {"a": 0}}, "names['a'] is 0; it must be >= 1"),
        ({"names": {1: 1}}, "a key of names is 1; it must be text"),
        ({"names": [1]}, "names is [1]; it must be a mapping"),
    ],
)
def test_what_is_out_of_range_is_told_in_one_line(
    changes: dict[str, Any], message: str
) -> None:
    settings = Outer("x")
    with pytest.raises(InvalidInputError) as caught:
        replace(settings, **changes)
    assert str(caught.value).startswith(message)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("value", [0, -1, 10**11, 1.0, True, "1", None, math.nan, [1]])
def test_no_other_type_passes_for_a_whole_number(value: Any) -> None:
    with pytest.raises(InvalidInputError, match="steps is .*; it must be .*>= 1 and"):
        Inner(steps=value)


@pytest.mark.parametrize("value", [-1e-9, 1, 1.5, math.nan, math.inf, "0.5", True])
def test_floats_are_finite_and_in_their_range(value: Any) -> None:
    with pytest.raises(InvalidInputError, match="momentum is .*>= 0 and < 1"):
        Inner(momentum=value)


def test_what_is_in_range_stays_as_it_is() -> None:
    settings = Outer("x", pair=(1, 2.5), hidden=(1, 2), names={"a": 1}, widths=[1, 2])
    assert Inner(momentum=0).momentum == 0
    assert type(Inner(momentum=0).momentum) is int
    assert to_plain(settings)["pair"] == [1, 2.5]
    assert Outer("x", anything=math.nan).out == "x"
    check_value("x", 2**63 - 1, int)
    with pytest.raises(InvalidInputError, match="it must be a whole number"):
        check_value("x", 10**400, int)  # neither torch nor numpy takes it


def test_scalars_of_numpy_become_plain_numbers() -> None:
    settings = Inner(steps=np.int64(3), momentum=np.float32(0.5))  # type: ignore[arg-type]
    assert to_plain(settings) == {"steps": 3, "momentum": 0.5}
    assert type(settings.steps) is int and type(settings.momentum) is float


def test_a_mapping_stands_for_settings_still_to_be_made() -> None:
    with pytest.raises(InvalidInputError, match=r"^--inner.steps is 0; it must be >="):
        check_value("--inner", {"steps": 0}, Inner)


def test_arguments_are_checked_by_position_and_by_name() -> None:
    @check_arguments
    def make(width: Width, part: Fraction = 0.5) -> float:
        return width * part

    assert make(2) == 1
    with pytest.raises(InvalidInputError, match="width is 0"):
        make(0)
    with pytest.raises(InvalidInputError, match="part is 1; it must be > 0 and < 1"):
        make(1, part=1)
    with pytest.raises(TypeError, match="make"):
        make()  # type: ignore[call-arg]


@pytest.mark.parametrize(
    "name", ["", ".", "..", "../x", "/abs", "a/b", "a\\b", ".hidden", "a\nb", "a" * 201]
)
def test_names_stay_inside_their_folder(name: str) -> None:
    with pytest.raises(InvalidInputError, match="name is .*; it must be a file name"):
        check_value("name", name, Name)


def test_ordinary_names_are_allowed() -> None:
    for name in ("wide", "a b", "μ-net", "x.1", "$x$", "cornet:2"):
        assert FileName().allows(name)


def test_texts_of_types_come_from_the_annotations() -> None:
    assert describe_type(Count | None) == "a whole number >= 1 and <= 10^9, or None"
    assert describe_type(Annotated[list[Fraction], Length(0, 2)]) == (
        "a list of 0 to 2 items, each a number > 0 and < 1"
    )
    assert str(Range(0.5, 2**63 - 1)) == ">= 0.5 and <= 2^63 - 1"
