"""Each stage adds a column; old columns stay bit-identical."""

import copy

import pytest
import torch

from gradnet.data.problem import Samples
from gradnet.errors import InvalidInputError
from gradnet.growth.method import EditContext
from gradnet.growth.methods.progressive import Progressive
from gradnet.growth.run import grow
from gradnet.training.loop import TrainingSettings
from gradnet.training.supervised import set_training_mode

SHAPE = (1, 8, 8)
FORMS = [("linear", False), ("mlp", False), ("mlp", True), ("none", True)]
each_form = pytest.mark.parametrize(("adapter", "preserving"), FORMS)


class IdentityTransform:
    """Images go to the network unchanged."""

    is_random = False

    def train(self, images, generator):
        return images

    def evaluate(self, images):
        return images


def samples():
    labels = torch.arange(80) % 4
    images = torch.randn(80, *SHAPE) + labels[:, None, None, None] / 2
    return Samples(
        images, labels, torch.arange(64), torch.arange(64, 80), IdentityTransform(), 4
    )


def small(steps=12, **changes):
    settings = TrainingSettings(
        steps=steps,
        batch_size=8,
        optimizer="adamw",
        learning_rate=1e-2,
        evaluate_every=4,
    )
    return Progressive(training=settings, widths=[4, 6], **changes)


def probe(dtype=torch.float32):
    return torch.randn(8, *SHAPE, dtype=dtype)


def begin(method):
    torch.manual_seed(0)
    return method.initial_model(SHAPE, 4)


@each_form
def test_old_columns_are_bit_identical_after_growth_and_training(adapter, preserving):
    method = small(adapter=adapter, preserving=preserving)
    model, x = begin(method), probe()
    for stage in (1, 2):
        old_state = copy.deepcopy(model.state_dict())
        old_features, old_logits = features(model, x)
        edit = method.edit(model, EditContext(stage, x, 0))
        grown = edit.model
        method.freeze(grown, stage)
        before = copy.deepcopy(grown.state_dict())
        optimizer = method.training.make_optimizer(grown)
        for _ in range(3):
            optimizer.zero_grad()
            set_training_mode(grown)
            torch.nn.functional.cross_entropy(grown(x), torch.arange(8) % 4).backward()
            optimizer.step()
        assert all(torch.equal(grown.state_dict()[n], t) for n, t in old_state.items())
        new_features, new_logits = features(grown, x)
        for old, new in zip(old_features, new_features[:stage], strict=True):
            assert all(map(torch.equal, old, new))
        assert all(map(torch.equal, old_logits, new_logits[:stage]))
        assert not any(old.training for old in grown.columns[:-1])
        trained = {name for name in before if name not in old_state}
        assert all(name.startswith(f"columns.{stage}.") for name in trained)
        after = grown.state_dict()
        assert all(not torch.equal(before[name], after[name]) for name in trained)
        model = grown


@torch.no_grad()
def features(model, x):
    """Of all columns, and the logits of each alone."""
    done, logits = [], []
    for column in model.columns:
        done.append(column(x, done))
        logits.append(column.logits(done[-1], done[:-1]))
    return done, logits


@each_form
def test_an_edit_says_what_it_did_and_leaves_the_old_network(adapter, preserving):
    method = small(adapter=adapter, preserving=preserving)
    model, x = begin(method).double(), probe(torch.float64)
    state, before = copy.deepcopy(model.state_dict()), model(x)
    edit = method.edit(model, EditContext(1, x, 0))
    assert edit.before is model and len(model.columns) == 1
    assert all(torch.equal(model.state_dict()[name], t) for name, t in state.items())
    memory = {p.data_ptr() for p in model.parameters()}
    assert not memory & {p.data_ptr() for p in edit.model.parameters()}
    certificate = edit.certificate
    assert set(certificate.copied) == set(state) and not certificate.split
    assert all(name.startswith("columns.1.") for name in certificate.created)
    assert method.preserves_function == preserving
    assert (certificate.largest_difference == 0) == preserving
    assert torch.equal(edit.model(x), before) == preserving


def test_the_same_seed_adds_the_same_column_and_leaves_torchs_generator():
    method, x = small(), probe()
    model = begin(method)
    state = torch.get_rng_state()
    first, again, other = (
        method.edit(model, EditContext(1, x, seed)).model.columns[1].conv0.weight
        for seed in (0, 0, 1)
    )
    assert torch.equal(first, again) and not torch.equal(first, other)
    assert torch.equal(torch.get_rng_state(), state)


@each_form
@pytest.mark.parametrize("kind", ["cnn", "mlp"])
def test_a_run_ends_with_all_columns_and_only_the_last_trains(
    kind, adapter, preserving
):
    method = small(columns=3, kind=kind, adapter=adapter, preserving=preserving)
    growth = grow(method, samples())
    assert growth.history.stage == method.edits == 2
    assert len(growth.model.columns) == 3
    new = sum(p.numel() for p in growth.model.columns[2].parameters())
    assert growth.history.records[-1]["trainable"] == new
    trained = [p.requires_grad for p in growth.model.parameters()]
    assert sum(trained) == len(list(growth.model.columns[2].parameters()))
    if preserving:
        for edit in growth.history.edits:
            step = [r for r in growth.history.records if r["step"] == edit["step"]]
            assert step[0]["loss"] == step[1]["loss"]


def test_one_column_does_not_grow():
    growth = grow(small(columns=1), samples())
    assert not growth.history.edits and len(growth.model.columns) == 1


def test_invalid_settings_are_refused():
    with pytest.raises(InvalidInputError, match="columns is 0; it must be >= 1"):
        Progressive(columns=0)
    with pytest.raises(InvalidInputError, match="adapter is 'other'; it must be"):
        Progressive(adapter="other").initial_model(SHAPE, 4)
    with pytest.raises(InvalidInputError, match="4 x 4 are too small"):
        Progressive().initial_model((1, 4, 4), 4)
    with pytest.raises(InvalidInputError, match="square images, not 8 x 9"):
        Progressive().initial_model((1, 8, 9), 4)
