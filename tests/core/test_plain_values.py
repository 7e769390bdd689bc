"""JSON is read within bounds, and values are shown in one printable line."""

import pytest

from gradnet.core.plain_values import check_plain, parse_json
from gradnet.core.text import listed, reason_of, shown


@pytest.mark.parametrize(
    "text",
    ["[" * 10**5, '{"a":' * 10**5, "[" * 300 + "]" * 300, "9" * 5000, '"\\ud800"', ""],
)
def test_what_is_no_small_json_is_refused_in_one_line(text: str) -> None:
    with pytest.raises(ValueError) as caught:
        parse_json(text)
    assert len(reason_of(caught.value)) <= 300


def test_too_much_is_refused_before_it_is_parsed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("gradnet.core.plain_values.MAX_JSON_BYTES", 5)
    assert parse_json("[1,2]") == [1, 2]
    with pytest.raises(ValueError, match="it has 6 bytes"):
        parse_json("[1,22]")


def test_what_contains_itself_or_multiplies_is_refused() -> None:
    circle: dict[str, object] = {}
    circle["a"] = [circle]
    with pytest.raises(ValueError, match="contains itself"):
        check_plain(circle)
    many: list[object] = []
    for _ in range(60):
        many = [many, many]
    with pytest.raises(ValueError, match="more than 50,000,000 parts"):
        check_plain(many)
    shared = [1]
    check_plain({"a": shared, "b": shared, "c": (), "d": [[], []]})


def test_messages_are_printable_and_short() -> None:
    assert shown("\x1b[31m\n") == r"'\x1b[31m\n'"
    assert shown(10**5000) == "a number of more than 40 digits"
    assert listed(["a", "b\x1b", 3]) == r"a, 'b\x1b', 3"
    assert listed(range(30)).endswith("19 and 10 more")
    assert reason_of(ValueError("one\x1b\ntwo")) == r"one\x1b"
    assert reason_of(KeyError()) == "KeyError"
