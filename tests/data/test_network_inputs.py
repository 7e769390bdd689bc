"""Inputs of a user's network are as prepared; only what is asked for is random."""

import pytest
import torch

from gradnet.data.network_inputs import NetworkInputs, as_they_are
from gradnet.errors import InvalidInputError

IMAGES = torch.arange(4 * 3 * 5 * 6).reshape(4, 3, 5, 6).float()


def generator():
    return torch.Generator().manual_seed(0)


def test_by_default_training_and_evaluation_see_the_same():
    inputs = NetworkInputs(lambda x: x / 2, torch.float32)
    assert torch.equal(inputs.train(IMAGES, generator()), IMAGES / 2)
    assert torch.equal(inputs.evaluate(IMAGES), IMAGES / 2)


def test_floats_take_the_type_of_the_network_and_tokens_stay():
    inputs = NetworkInputs(as_they_are, torch.bfloat16)
    assert inputs.evaluate(IMAGES.double()).dtype == torch.bfloat16
    assert inputs.evaluate(torch.tensor([[3, 1]])).dtype == torch.int64


def test_mirrored_images_are_mirrors_and_about_half_are():
    images = torch.rand(200, 1, 3, 4)
    found = NetworkInputs(as_they_are, flip=True).train(images, generator())
    mirrored = (found == images.flip(-1)).all(-1).all(-1)[:, 0]
    same = (found == images).all(-1).all(-1)[:, 0]
    assert (mirrored ^ same).all() and 60 < mirrored.sum() < 140


def test_moved_images_are_moved_by_at_most_the_shift_and_repeat_their_border():
    images = torch.zeros(200, 1, 9, 9)
    images[..., 4, 4] = 1
    images[..., 0, :] = 2
    found = NetworkInputs(as_they_are, shift=2).train(images, generator())
    places = (found == 1).nonzero()[:, 2:] - 4
    assert len(places) == 200 and places.abs().max() == 2
    assert len(places.unique(dim=0)) == 25
    down = places[:, 0] == 2
    assert (found[down][..., :3, :] == 2).all()
    assert torch.equal(NetworkInputs(as_they_are, shift=2).evaluate(images), images)


def test_what_is_no_image_is_not_mirrored():
    with pytest.raises(InvalidInputError, match=r"shape \(3,\) are no images"):
        NetworkInputs(as_they_are, flip=True).train(torch.zeros(2, 3), generator())
