"""Defaults are those of Fahlman's program; invalid fields are refused."""

import pytest

from gradnet.constructive.cascade.settings import CascadeSettings, PhaseSettings
from gradnet.errors import InvalidInputError


def test_published_defaults():
    settings = CascadeSettings()
    assert settings.outputs == PhaseSettings(0.35, 2, 1e-4, 8, 0.01, 100)
    assert settings.candidates == PhaseSettings(1.0, 2, 0, 8, 0.03, 100)
    assert (settings.pool, settings.max_units, settings.threshold) == (8, 25, 0.4)
    assert settings.sigmoid_offset == 0.1
    spirals = settings.for_two_spirals()
    assert spirals.outputs == PhaseSettings(1.0, 2, 1e-4, 12, 0.01, 100)
    assert spirals.candidates == PhaseSettings(100.0, 2, 0, 8, 0.03, 100)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"pool": 0}, "pool is 0; it must be >= 1"),
        ({"fan_in": 0}, "fan_in is 0"),
        ({"max_units": -1}, "max_units is -1"),
        ({"activations": ()}, "at least one of activations"),
        ({"activations": ("step",)}, "no activation 'step'"),
        ({"output": "softmax"}, "output is 'softmax'; give sigmoid or linear"),
        ({"connections": "tree"}, "give cascade or flat or siblings"),
        ({"criterion": "luck"}, "give covariance or error"),
    ],
    ids=str,
)
def test_invalid_fields_are_refused(wrong, message):
    with pytest.raises(InvalidInputError, match=message):
        CascadeSettings(**wrong)


@pytest.mark.parametrize(
    "wrong", [{"rate": 0}, {"rate": 1, "growth": -1}, {"rate": 1, "epochs": 0}], ids=str
)
def test_invalid_fields_of_a_phase_are_refused(wrong):
    with pytest.raises(InvalidInputError):
        PhaseSettings(**wrong)
