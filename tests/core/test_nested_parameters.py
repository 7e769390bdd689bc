"""Nested settings as parameters: all are listed, each can be replaced."""

from dataclasses import dataclass, field

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gradnet.core.nested_parameters import nested_parameters, replace_nested
from gradnet.errors import GradnetError


@dataclass(frozen=True)
class Inner:
    rate: float = 0.1

    def __post_init__(self) -> None:
        if self.rate < 0:
            raise GradnetError("rate")


@dataclass(frozen=True)
class Outer:
    size: int = 1
    inner: Inner = field(default_factory=Inner)


def test_all_levels_are_listed():
    assert nested_parameters("a", Outer()) == {
        "a__size": 1,
        "a__inner": Inner(),
        "a__inner__rate": 0.1,
    }
    assert nested_parameters("a", "name") == nested_parameters("a", Outer) == {}


@given(st.integers(), st.floats(0, 1))
def test_what_is_listed_can_be_replaced(size, rate):
    settings = Outer(size, Inner(rate))
    found = nested_parameters("a", settings)
    changes = {key.removeprefix("a__"): value for key, value in found.items()}
    assert replace_nested(Outer(), changes) == settings
    assert replace_nested(Outer(), dict(reversed(changes.items()))) == settings


def test_the_settings_stay_as_they_were():
    settings = Outer()
    assert replace_nested(settings, {"inner__rate": 0.5}).inner.rate == 0.5
    assert settings == Outer()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"none": 1}, "Outer has no field 'none'; its fields are: inner, size"),
        ({"inner__none": 1}, "Inner has no field 'none'"),
        ({"size__x": 1}, "size of Outer is 1, which has no field 'x'"),
        ({"inner__rate": -1}, "rate"),
    ],
)
def test_others_are_refused(changes, message):
    with pytest.raises(GradnetError, match=message):
        replace_nested(Outer(), changes)
