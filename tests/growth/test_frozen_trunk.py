"""A frozen trunk is found, and its outputs are cached and need no graph."""

import copy

import pytest
import torch
from reference import assert_same
from torch import nn

from gradnet.core.flops import forward_flops
from gradnet.data.augmentation import Augmentation
from gradnet.data.problem import Samples
from gradnet.errors import InvalidInputError, NotFittedError
from gradnet.growth.frozen_trunk import (
    FrozenTrunkTask,
    TrunkOutputs,
    children_between,
    trunk_length,
)
from gradnet.models.resnet import ResNet
from gradnet.training.supervised import (
    EVALUATION_BATCH,
    SupervisedTask,
    set_training_mode,
)


class Doubled(Augmentation):
    """In double precision."""

    def train(self, images, generator):
        return super().train(images, generator).double()

    def evaluate(self, images):
        return super().evaluate(images).double()


def make_samples(count=20, kind=Doubled):
    images = torch.randint(0, 256, (count, 1, 8, 8), dtype=torch.uint8)
    order = torch.randperm(count)
    labels = torch.arange(count) % 3
    augmentation = kind(crop=None, whiten=True)
    return Samples(images, labels, order[4:], order[:4], augmentation, 3)


def make_model(blocks=3, style="published"):
    """Statistics of its norms are those of a network that has trained."""
    model = ResNet(1, 8, 3, width=2, stages=[1, 2, 1], blocks=blocks, style=style)
    model.double().train()
    for _ in range(30):
        model(torch.randn(8, 1, 8, 8, dtype=torch.float64))
    return model


def freeze_first(model, count):
    for child in list(model)[:count]:
        child.requires_grad_(False)
    return model


@pytest.mark.parametrize(
    ("frozen", "expected"),
    [([], 0), ([0], 2), ([1], 0), ([0, 3], 4), ([0, 4], 2), ([0, 3, 4], 5)],
)
def test_the_trunk_ends_with_the_last_frozen_child_before_one_that_trains(
    frozen, expected
):
    model = nn.Sequential(
        nn.Flatten(),  # without parameters, so part of what follows
        nn.Linear(4, 4),
        nn.ReLU(),
        nn.BatchNorm1d(4),
        nn.Linear(4, 2),
        nn.Softmax(1),
    )
    layers = {0: 1, 1: 2, 3: 3, 4: 4}
    for index in frozen:
        model[layers[index]].requires_grad_(False)
    assert trunk_length(model) == expected


def test_a_network_that_is_no_sequence_has_no_trunk():
    model = nn.ModuleDict({"first": nn.Linear(2, 2)}).requires_grad_(False)
    assert trunk_length(model) == 0


def test_a_partly_frozen_child_trains():
    model = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2))
    model[0].weight.requires_grad_(False)
    assert trunk_length(model) == 0


def test_parts_of_a_network_are_its_own_children():
    model = make_model()
    part = children_between(model, 1, 3)
    assert list(dict(part.named_children())) == ["stem", "stem_relu"]
    assert part[0] is model.stem


@pytest.mark.parametrize("count", [20, EVALUATION_BATCH + 30])
def test_kept_outputs_are_those_of_the_trunk_at_any_indices(count):
    samples, model = make_samples(count), make_model()
    trunk = TrunkOutputs(samples)
    trunk.advance(model.train(), 6)
    indices = samples.train[torch.randperm(len(samples.train))[:9]]
    with torch.no_grad():
        inputs = samples.augmentation.evaluate(samples.images[indices])
        expected = children_between(copy.deepcopy(model).eval(), 0, 6)(inputs)
    assert_same(trunk[indices], expected)
    assert not trunk[indices].requires_grad
    part = children_between(model, 0, 6)
    each = forward_flops(part, samples.augmentation.evaluate(samples.images[:1]))
    assert trunk.flops == len(samples.train) * each


def test_going_on_from_stage_to_stage_is_as_computing_anew():
    samples, model = make_samples(), make_model()
    slow, quick = TrunkOutputs(samples), TrunkOutputs(samples)
    for length in (4, 4, 6, 8):
        slow.advance(model, length)
    quick.advance(model, 8)
    assert torch.equal(slow[samples.train], quick[samples.train])
    assert slow.length == quick.length == 8
    assert slow.flops == quick.flops


def test_a_shorter_trunk_is_computed_anew():
    samples, model = make_samples(), make_model()
    trunk, expected = TrunkOutputs(samples), TrunkOutputs(samples)
    trunk.advance(model, 8)
    with torch.no_grad():
        for parameter in children_between(model, 5, 8).parameters():
            parameter += 1
    trunk.advance(model, 5)
    expected.advance(model, 5)
    assert torch.equal(trunk[samples.train], expected[samples.train])
    trunk.advance(model, 0)
    assert trunk.outputs is None and trunk.length == 0
    trunk.advance(model, 8)
    expected.advance(model, 8)
    assert torch.equal(trunk[samples.train], expected[samples.train])


def test_advancing_leaves_the_network_without_gradients_and_statistics_alone():
    samples, model = make_samples(), make_model()
    before = copy.deepcopy(model.state_dict())
    TrunkOutputs(samples).advance(model, 8)
    for name, value in model.state_dict().items():
        assert torch.equal(value, before[name]), name


def test_outputs_that_need_too_much_memory_are_refused_after_one_batch():
    samples = make_samples(EVALUATION_BATCH + 30)
    trunk = TrunkOutputs(samples, max_bytes=1e5)
    calls = []
    model = make_model()
    model.stem.register_forward_hook(lambda *_: calls.append(1))
    message = r"frozen trunk need 0.0 GB, more than the limit of 0.0 GB"
    with pytest.raises(InvalidInputError, match=message):
        trunk.advance(model, 6)
    assert len(calls) <= 2  # one of them to count its FLOPs
    enough = TrunkOutputs(samples, max_bytes=len(samples.train) * 2 * 64 * 8)
    enough.advance(model, 6)
    assert enough.outputs.nbytes == enough.max_bytes


def test_outputs_that_were_not_computed_are_refused():
    samples = make_samples()
    with pytest.raises(NotFittedError, match="not computed; call advance"):
        TrunkOutputs(samples)[samples.train]


STYLES = [("published", 6), ("preactivation", 2)]


@pytest.mark.parametrize(("style", "length"), STYLES)
@pytest.mark.parametrize("shuffle", [True, False])
def test_gradients_behind_kept_outputs_are_those_of_the_whole_network(
    style, length, shuffle
):
    samples = make_samples()
    model = freeze_first(make_model(style=style), length)
    whole = copy.deepcopy(model)
    trunk = TrunkOutputs(samples)
    trunk.advance(model, trunk_length(model))
    assert trunk.length == length
    behind = FrozenTrunkTask(model, samples, 4, 7, shuffle, trunk)
    plain = SupervisedTask(whole, samples, 4, 7, shuffle)
    for step in (0, 5):
        for task in (behind, plain):
            task.module.zero_grad()
            (loss,) = task.losses(step)
            loss.backward()
        for (name, one), other in zip(
            model.named_parameters(), whole.parameters(), strict=True
        ):
            assert (one.grad is None) == (other.grad is None) == (not one.requires_grad)
            if one.grad is not None:
                assert one.grad.any(), name
                assert_same(one.grad, other.grad)
    for name, value in model.state_dict().items():
        assert_same(value, whole.state_dict()[name])
    assert behind.evaluate() == plain.evaluate()


def test_a_frozen_trunk_builds_no_graph():
    """Neither where it is computed each step, nor where its outputs are kept."""
    samples = make_samples()
    model = freeze_first(make_model(), 6)
    seen = {}
    for name, child in model.named_children():
        child.register_forward_hook(
            lambda _m, _x, y, name=name: seen.update({name: y.requires_grad})
        )
    set_training_mode(model)
    model(samples.augmentation.evaluate(samples.images[:4]))
    names = list(seen)
    assert [seen[name] for name in names] == [False] * 6 + [True] * (len(names) - 6)
    trunk = TrunkOutputs(samples)
    trunk.advance(model, 6)
    seen.clear()
    (loss,) = FrozenTrunkTask(model, samples, 4, 7, True, trunk).losses(0)
    assert list(seen) == names[6:] and loss.requires_grad
