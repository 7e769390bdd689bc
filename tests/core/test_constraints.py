"""Constraints allow what they say."""

import math

import pytest

from gradnet.core.constraints import FileName, Length, NotEmpty, Range


@pytest.mark.parametrize(
    ("constraint", "allowed", "refused"),
    [
        (Range(at_least=1, at_most=3), (1, 2.5, 3), (0.99, 3.01, -1)),
        (Range(above=0, below=1), (1e-300, 0.999), (0, 1, -0.1)),
        (Range(), (0, -1e300, 10**30), (math.nan, math.inf, -math.inf)),
        (Length(1, 2), ([0], [0, 0]), ([], [0, 0, 0])),
        (NotEmpty(), ("a", "../a"), ("",)),
        (FileName(), ("a", "a b", "wide-2.1", "é"), ("", ".", "..", "a/b", "a\\b")),
        (FileName(), ("x" * 200,), (".a", " a", "a\n", "a\x1b[31m", "x" * 201)),
    ],
    ids=str,
)
def test_it_allows_what_it_says(constraint, allowed, refused):
    assert all(constraint.allows(value) for value in allowed)
    assert not any(constraint.allows(value) for value in refused)


def test_bounds_read_well():
    assert str(Range(at_least=1, at_most=10**9)) == ">= 1 and <= 10^9"
    assert str(Range(above=0, below=1)) == "> 0 and < 1"
    assert str(Range(0, 2**63 - 1)) == ">= 0 and <= 2^63 - 1"
