"""The first field that is too small is named."""

from types import SimpleNamespace

import pytest

from gradnet.core.validation import check_minimum
from gradnet.errors import InvalidInputError


def test_fields_at_their_minimum_or_without_a_value_pass():
    check_minimum(SimpleNamespace(rounds=1, rate=0.5, limit=None), rounds=1, rate=0)
    check_minimum(SimpleNamespace(limit=None), limit=1)


@pytest.mark.parametrize("value", [0, -3, 0.5, float("nan")])
def test_the_first_field_below_its_minimum_is_named(value):
    settings = SimpleNamespace(rounds=2, pool=value, units=0)
    with pytest.raises(InvalidInputError, match=f"pool is {value}; it must be >= 1"):
        check_minimum(settings, rounds=1, pool=1, units=1)
