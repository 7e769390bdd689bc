"""Arithmetic on sizes ends, and with small numbers."""

import pytest
from hostile_foreign import EXPRESSIONS

from gradnet.checkpoints.exported_sizes import is_arithmetic


@pytest.mark.parametrize(
    "expression",
    [
        "Symbol('s0')",
        "Mul(Integer(2), Symbol('s77', positive=True, integer=True))",
        "Add(Symbol('s0'), Integer(-1))",
        "Pow(Symbol('s0'), Integer(-1))",
        "FloorDiv(Mul(Symbol('s0'), Integer(16)), Integer(4))",
        "Mul(Rational(1, 2), Symbol('s0'))",
    ],
)
def test_what_torch_writes_is_accepted(expression: str) -> None:
    assert is_arithmetic(expression)


@pytest.mark.parametrize("name", EXPRESSIONS)
def test_what_would_not_end_is_refused(name: str) -> None:
    assert not is_arithmetic(EXPRESSIONS[name])
