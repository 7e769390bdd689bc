"""Stored settings against those of today: new fields count as their defaults."""

from dataclasses import dataclass, field, make_dataclass, replace
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from gradnet.core.settings import first_difference, to_plain


@dataclass(frozen=True)
class Inner:
    rate: float = 0.1
    sizes: tuple[int, ...] = (1, 2)


@dataclass(frozen=True)
class Outer:
    name: str
    inner: Inner = field(default_factory=Inner)
    steps: int | None = None


settings = st.builds(
    Outer,
    st.text(),
    st.builds(Inner, st.floats(allow_nan=False), st.tuples(st.integers())),
    st.none() | st.integers(),
)


@given(settings)
def test_settings_do_not_differ_from_what_was_stored_of_them(value):
    assert first_difference(to_plain(value), value) is None


@given(settings, settings)
def test_a_difference_is_found_exactly_where_there_is_one(a, b):
    found = first_difference(to_plain(a), b)
    assert (found is None) == (to_plain(a) == to_plain(b))


def test_a_difference_names_the_field_and_both_values():
    before = to_plain(Outer("a"))
    now = replace(Outer("a"), inner=Inner(rate=0.2))
    assert first_difference(before, now) == "inner.rate was 0.1, now 0.2"


def test_a_new_field_counts_as_its_default():
    new: Any = make_dataclass(
        "New", [("extra", int, field(default=3))], bases=(Inner,), frozen=True
    )
    before = {"name": "a", "inner": to_plain(Inner()), "steps": None}
    assert first_difference(before, Outer("a", new())) is None
    found = first_difference(before, Outer("a", new(extra=4)))
    assert found == "inner.extra was None, now 4"


def test_a_field_that_is_gone_is_a_difference():
    before = {**to_plain(Inner()), "old": 1}
    assert first_difference(before, Inner()) == "old was 1, now None"
