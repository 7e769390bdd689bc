"""cornet trains as its published code does; corrected, it preserves the function."""

import copy
from dataclasses import replace

import pytest
import torch
from reference import assert_same
from torch import nn

from gradnet.errors import InvalidInputError
from gradnet.growth.method import EditContext
from gradnet.growth.methods.cornet import (
    Cornet,
    CornetAsPublished,
    Pronet,
    PronetAsPublished,
)

SHAPE = (1, 16, 16)
PROBE = torch.randn(6, *SHAPE, dtype=torch.float64)
PUBLISHED = CornetAsPublished(width=2)


def grown(method, shape=SHAPE, probe=PROBE, seed=0):
    """The network of each stage, frozen as it trains, and the edits between them."""
    torch.manual_seed(1)
    model = method.initial_model(shape, 3).double()
    method.freeze(model, 0)
    models, edits = [model], []
    for stage in range(1, method.edits + 1):
        model = train_a_little(model)
        edits.append(method.edit(model, EditContext(stage, probe, seed)))
        model = edits[-1].model
        method.freeze(model, stage)
        models.append(model)
    return models, edits


def train_a_little(model):
    """A copy, no weight or statistic of which is that of the start."""
    model = copy.deepcopy(model).train()
    with torch.no_grad():
        for _ in range(5):
            model(torch.randn(6, *SHAPE, dtype=torch.float64))
        for parameter in model.parameters():
            parameter += 0.1 * torch.randn_like(parameter)
    return model.eval()


def keras_trainable_sets():
    """What trains in each stage, by cornet2's own rule, on a list of its layers.

    The layers are those of the Keras network in its order: input, BN, Conv, ReLU, BN;
    blocks of Conv, ReLU, BN, Conv, [1x1 Conv,] Add, ReLU, BN; pooling, flatten, dense.
    Each is named after the parameters that it has here.
    """

    def block(index):
        inner = [f"block{index}.residual.{n}" for n in ("conv0", "norm", "conv1")]
        layers = [inner[0], "relu", *inner[1:]]
        if index in (2, 7, 12):
            layers.append(f"block{index}.shortcut")
        layers += ["add", "relu", f"norm{index}"]
        assert len(layers) == (8 if index in (2, 7, 12) else 7)
        return layers

    head = ["pool", "flatten", "head"]
    layers = ["input", "stem_norm0", "stem", "relu", "stem_norm1", *block(0), *head]
    frozen: set[str] = set()
    stages = [set(layers)]
    for index in range(1, 13):
        frozen |= set(layers[:-11])
        layers = [*layers[:-3], *block(index), *head]
        stages.append(set(layers) - (frozen - {"relu", "add"}))
    without = {"input", "relu", "add", "pool", "flatten"}
    return [stage - without for stage in stages]


def trainable(model):
    return {
        n.rpartition(".")[0] for n, p in model.named_parameters() if p.requires_grad
    }


def test_the_published_form_trains_what_the_published_code_trains():
    models, edits = grown(PUBLISHED)
    expected = keras_trainable_sets()
    assert len(models) == len(expected) == 13 and len(edits) == PUBLISHED.edits == 12
    for stage, (model, layers) in enumerate(zip(models, expected, strict=True)):
        assert trainable(model) == layers, stage
        blocks = [n for n, _ in model.named_children() if n.startswith("block")]
        assert blocks == [f"block{index}" for index in range(stage + 1)]
    # Two of these sets, spelled out: behind a norm, and behind a halving.
    inner = {
        f"block{i}.residual.{n}" for i in (1, 2) for n in ("conv0", "norm", "conv1")
    }
    assert expected[2] == inner | {"norm0", "norm1", "norm2", "block2.shortcut", "head"}
    assert "norm1" not in expected[3] and "block2.shortcut" in expected[3]


def test_pronet_trains_everything():
    for method in (PronetAsPublished(width=2), Pronet(width=2)):
        models, _ = grown(replace(method, final_blocks=4))
        for model in models:
            assert all(p.requires_grad for p in model.parameters())


def test_the_corrected_form_trains_only_its_last_blocks_and_the_head():
    method = Cornet(width=2, final_blocks=4)
    models, _ = grown(method)
    for stage, model in enumerate(models[1:], 1):
        trained = {name.split(".")[0] for name in trainable(model)}
        blocks = {f"{kind}{stage - i}" for i in (0, 1) for kind in ("block", "norm")}
        assert trained == blocks | {"head"}
    three = replace(method, trained_blocks=3, initial_blocks=2)
    model = grown(three)[0][1]
    trained = {name.split(".")[0] for name in trainable(model)}
    assert trained == {f"{k}{i}" for k in ("block", "norm") for i in range(3)} | {
        "head"
    }


def test_the_full_network_has_fourteen_blocks_when_corrected():
    assert Cornet().edits == 13 and CornetAsPublished().edits == 12
    assert Cornet(initial_blocks=14).edits == 0


def test_published_settings_are_those_of_the_published_code():
    for method in (CornetAsPublished(), PronetAsPublished()):
        training, growth = method.training, method.growth
        assert (training.batch_size, training.steps) == (64, 7820)
        assert (training.optimizer, training.weight_decay) == ("adamw", 0.0)
        assert (training.learning_rate, training.schedule) == (1e-3, "constant")
        assert (growth.first, growth.every, growth.patience) == (500, 501, None)
        assert not (method.shuffle or method.cache_trunk or method.carries_optimizer)
        assert (method.width, method.stages) == (64, [2, 5, 5, 2])


def differences(edit):
    """Of the logits before and after, on other images than the probe."""
    images = torch.randn(9, *SHAPE, dtype=torch.float64)
    with torch.no_grad():
        before = copy.deepcopy(edit.before).eval()(images)
        return before, copy.deepcopy(edit.model).eval()(images)


@pytest.mark.parametrize("kind", [Cornet, Pronet])
def test_the_preserving_form_keeps_the_logits_across_halvings_too(kind):
    method = kind(width=2, style="preactivation", stages=[1, 2, 2, 1])
    assert method.preserves_function and method.carries_optimizer
    _, edits = grown(method)
    assert len(edits) == 5
    for edit in edits:
        assert_same(*differences(edit))
        assert edit.certificate.preserves(1e-10)
        assert edit.before.head.weight.any()


@pytest.mark.parametrize(
    "changes", [{}, {"head": "new"}, {"style": "preactivation", "head": "new"}], ids=str
)
def test_other_forms_do_not_claim_to_preserve(changes):
    method = Cornet(width=2, final_blocks=4, **changes)
    assert not method.preserves_function and not method.carries_optimizer
    for edit in grown(method)[1]:
        before, after = differences(edit)
        assert (before - after).abs().max() > 1e-3


@pytest.mark.parametrize(
    "method",
    [PUBLISHED, Cornet(width=2), Cornet(width=2, style="preactivation")],
    ids=["published", "mended", "preserving"],
)
def test_old_weights_and_statistics_are_kept_and_not_shared(method):
    _, edits = grown(replace(method, final_blocks=9))
    for edit in edits:
        before, after = edit.before.state_dict(), edit.model.state_dict()
        body = [name for name in before if not name.startswith("head.")]
        for name in body:
            assert torch.equal(after[name], before[name]), name
            assert after[name].data_ptr() != before[name].data_ptr(), name
            assert edit.origins[name].source == name
        fresh = {name for name in after if name not in before}
        assert {name.split(".")[0].rstrip("0123456789") for name in fresh} <= {
            *("block", "norm")
        }
        assert fresh <= set(edit.certificate.created)


def test_an_edit_leaves_the_old_network_alone():
    model = PUBLISHED.initial_model(SHAPE, 3).double().train()
    before = copy.deepcopy(model.state_dict())
    torch.manual_seed(8)
    expected = torch.rand(3)
    torch.manual_seed(8)
    edit = PUBLISHED.edit(model, EditContext(1, PROBE, 0))
    assert torch.equal(torch.rand(3), expected)
    with torch.no_grad():
        for parameter in edit.model.parameters():
            parameter.zero_()
    assert model.training and edit.model.training
    for name, value in model.state_dict().items():
        assert torch.equal(value, before[name]), name


def test_the_published_head_is_new_each_time():
    _, edits = grown(replace(PUBLISHED, final_blocks=5))
    for edit in edits:
        old, new = edit.before.head.weight, edit.model.head.weight
        assert {"head.weight", "head.bias"} <= set(edit.certificate.created)
        assert not edit.model.head.bias.any()
        if old.shape == new.shape:
            assert not torch.isclose(old, new).any()


def test_a_kept_head_stays_where_channels_stay_and_gets_columns_where_they_come():
    method = Cornet(width=2, style="preactivation", stages=[2, 1])
    (same, wider) = grown(method)[1]
    for edit in (same, wider):
        old, new = edit.before.head, edit.model.head
        assert torch.equal(new.bias, old.bias)
        assert torch.equal(new.weight[:, : old.in_features], old.weight)
    columns = wider.model.head.weight[:, 2:]
    assert columns.shape == (3, 2) and columns.all()
    assert "head.weight" in same.certificate.copied
    assert "head.weight" in wider.certificate.created


def test_a_kept_published_head_is_new_only_where_an_image_is_halved():
    for edit in grown(Cornet(width=2, final_blocks=4))[1]:
        old, new = edit.before.head.weight, edit.model.head.weight
        same = old.shape == new.shape
        assert same == ("head.weight" in edit.certificate.copied)
        if same:
            assert torch.equal(old, new)


@pytest.mark.parametrize("style", ["published", "preactivation"])
def test_new_layers_depend_on_the_seed_alone(style):
    method = Cornet(width=2, style=style, final_blocks=2)
    weights = []
    for global_seed, seed in ((0, 0), (1, 0), (0, 1)):
        model = grown(method)[0][0]
        torch.manual_seed(global_seed)
        edit = method.edit(model, EditContext(1, PROBE, seed))
        weights.append(edit.model.block1.residual.conv0.weight)
    assert torch.equal(weights[0], weights[1])
    assert not torch.equal(weights[0], weights[2])


def test_the_first_steps_of_a_preserving_block_move_its_last_convolution():
    method = Cornet(width=2, style="preactivation", final_blocks=2)
    model = grown(method)[0][1].train()
    labels = torch.arange(6) % 3
    nn.functional.cross_entropy(model(PROBE), labels).backward()
    residual = model.block1.residual
    assert residual.conv1.weight.grad.any() and not residual.conv0.weight.grad.any()


@pytest.mark.parametrize(
    "changes",
    [
        {"final_blocks": 15},
        {"initial_blocks": 5, "final_blocks": 4},
    ],
    ids=str,
)
def test_blocks_that_do_not_fit_are_refused(changes):
    with pytest.raises(InvalidInputError, match="cannot grow from .* which have 14"):
        _ = Cornet(**changes).edits
    with pytest.raises(InvalidInputError, match="initial_blocks is 0; it must be >= 1"):
        Cornet(initial_blocks=0)
