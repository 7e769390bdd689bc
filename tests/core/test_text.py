"""Text from elsewhere cannot act: control characters, table borders, unsafe advice."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gradnet.core.text import markdown_cell, one_line, printable, reason_of


def test_control_characters_are_escaped():
    assert printable("a\x1b[31mb\r\x00±\n\t") == "a\\x1b[31mb\\r\\x00±\n\t"
    assert printable("right\u202eleft\udc80") == "right\\u202eleft\\udc80"


@given(st.text())
def test_a_line_is_one_and_printable(text):
    assert one_line(text).isprintable()


@given(st.text())
def test_a_cell_has_no_border_of_its_own(text):
    assert "|" not in markdown_cell(text).replace(r"\|", "")


def test_numpy_is_quoted_without_its_advice(tmp_path):
    np.save(tmp_path / "a.npy", np.array([object()]), allow_pickle=True)
    with pytest.raises(ValueError, match="allow_pickle") as caught:
        np.load(tmp_path / "a.npy")
    assert reason_of(caught.value) == "Object arrays cannot be loaded"


def test_an_error_without_words_is_named():
    assert reason_of(ValueError()) == "ValueError"
    assert reason_of(ValueError("You can use pickle.loads.")) == "ValueError"
