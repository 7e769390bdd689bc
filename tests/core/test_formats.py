"""Formats: a number in each file, older ones upgraded, newer ones refused."""

from dataclasses import dataclass, field

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gradnet.core.formats import Format, identity_of_format_0, rename_limits
from gradnet.core.settings import first_difference, to_plain
from gradnet.errors import DamagedFileError
from gradnet.training import TrainingSettings

NOTE = Format(
    "note",
    (lambda old: {"text": old["txt"]}, lambda old: {"lines": old["text"].split("\n")}),
)


def test_what_is_written_today_is_read_as_it_was():
    assert NOTE.read(NOTE.stamp({"lines": ["a"]}), "x") == {"lines": ["a"]}


@pytest.mark.parametrize(
    "values",
    [
        {"txt": "a\nb"},
        {"kind": "note", "txt": "a\nb"},
        {"kind": "note", "format": 1, "text": "a\nb"},
        {"kind": "note", "format": 2, "lines": ["a", "b"]},
    ],
)
def test_older_formats_are_upgraded(values):
    assert NOTE.read(values, "x") == {"lines": ["a", "b"]}


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"kind": "note", "format": 3}, "newer gradnet: it has format 3"),
        ({"kind": "letter", "format": 1}, "holds a letter, not a note"),
        ({"format": "1"}, "its format is '1'"),
        ({"format": -1}, "its format is -1"),
        ([1], "is no note"),
    ],
)
def test_others_are_refused(values, message):
    with pytest.raises(DamagedFileError, match=message):
        NOTE.read(values, "x.json")


def test_limits_have_their_new_names():
    before = {"most_edits": 3, "inner": [{"most_units": 1}], "almost_x": 2}
    after = {"max_edits": 3, "inner": [{"max_units": 1}], "almost_x": 2}
    assert rename_limits(before) == after


@dataclass(frozen=True)
class Method:
    rate: float = 0.1
    sizes: tuple[int, ...] = (1, 2)
    names: dict = field(default_factory=dict)
    training: TrainingSettings = field(default_factory=TrainingSettings)


@given(
    st.builds(
        Method,
        st.floats(allow_nan=False),
        st.tuples(st.integers()),
        st.dictionaries(st.text(), st.integers()),
    )
)
def test_settings_stored_as_text_are_those_of_today(method):
    found = identity_of_format_0({"recipe": repr(method), "method": repr(method)})
    assert first_difference(found["recipe"], method) is None
    assert found["method"] == {"class": "Method", "settings": to_plain(method)}


@pytest.mark.parametrize("text", ["f(1)", "f(a=g)", "f(", "f(a=__import__('os'))"])
def test_text_that_is_no_settings_stays_and_nothing_runs(text):
    if text.startswith("f(a=__"):  # a call by position is refused
        assert identity_of_format_0({"name": text}) == {"name": text}
    assert identity_of_format_0({"name": text})["name"] == text
