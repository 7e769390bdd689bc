"""A checkpoint is resumed by the same run only, whatever fields settings get later."""

from dataclasses import field, make_dataclass, replace
from pathlib import Path

import pytest
import torch

from gradnet.classifier.recipes import DEFAULT
from gradnet.core.files import load_tensors, save_tensors
from gradnet.core.settings import to_plain
from gradnet.errors import DamagedFileError, InvalidInputError
from gradnet.growth.methods.net2net import Net2Wider
from gradnet.training.checkpoint import FORMAT, check_same_run
from gradnet.training.settings import TrainingSettings

FILE = Path("run.pt")


def with_a_new_field(settings):
    """The settings as an object of a class with one more field, and that class."""
    kind = make_dataclass(
        type(settings).__name__,
        [("added_later", int, field(default=3, kw_only=True))],
        bases=(type(settings),),
        frozen=True,
    )
    return kind(**vars(settings))


SETTINGS = [TrainingSettings(steps=7), DEFAULT, Net2Wider(noise=0.5)]


@pytest.mark.parametrize("settings", SETTINGS, ids=lambda value: type(value).__name__)
def test_a_new_field_with_a_default_orphans_no_run(settings):
    stored = to_plain({"settings": settings, "seed": 0})
    later = with_a_new_field(settings)
    check_same_run(stored, {"settings": later, "seed": 0}, FILE)
    other = {"settings": replace(later, added_later=4), "seed": 0}
    with pytest.raises(InvalidInputError, match="settings.added_later"):
        check_same_run(stored, other, FILE)


def test_a_new_field_of_nested_settings_orphans_no_run():
    later = replace(DEFAULT, training=with_a_new_field(DEFAULT.training))
    check_same_run(to_plain({"recipe": DEFAULT}), {"recipe": later}, FILE)


def test_the_settings_that_format_0_stored_as_text_are_those_of_today():
    state = {"identity": {"recipe": repr(DEFAULT), "seed": 1}}
    identity = FORMAT.read(state, "run.pt")["identity"]
    check_same_run(identity, {"recipe": DEFAULT, "seed": 1}, FILE)
    with pytest.raises(InvalidInputError, match="recipe.biases was False, now True"):
        check_same_run(identity, {"recipe": replace(DEFAULT, biases=True)}, FILE)


def test_a_newer_checkpoint_is_refused_with_the_remedy(tmp_path):
    path = save_tensors(tmp_path / "run.pt", FORMAT.stamp({"step": 1}) | {"format": 99})
    with pytest.raises(DamagedFileError, match="newer gradnet.*upgrade gradnet"):
        FORMAT.read(load_tensors(path), str(path))
    assert torch.load(path, weights_only=True)["kind"] == "training checkpoint"
