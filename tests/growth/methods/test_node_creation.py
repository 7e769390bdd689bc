"""Units come when the smoothed loss is flat, in the layer that would use them most."""

from dataclasses import replace

import pytest
import torch
from growth_cases import TRAINING, digits, tiny, watched_run
from torch.nn import functional

from gradnet.errors import InvalidInputError
from gradnet.growth.grown_network import load_grown, save_grown
from gradnet.growth.method import EditContext, GrowthHistory, Schedule
from gradnet.growth.methods.node_creation import NodeCreation
from gradnet.growth.run import grow
from gradnet.training.loop import TrainingSettings

SHAPE = (1, 8, 8)
PROBE = torch.randn(8, *SHAPE, dtype=torch.float64, generator=torch.manual_seed(0))
TWO = {"model_args": {"hidden": [5, 4]}, "layers": ["linear0", "linear1"]}
FROZEN = TWO | {"frozen": True, "nodes": 2, "max_edits": 3, "place": "round-robin"}
FROZEN |= {"growth": Schedule(first=4, every=4), "window": 100}


def begin(method):
    torch.manual_seed(0)
    return method.initial_model(SHAPE, 10).double()


def history(losses, stage=0):
    records = [{"stage": stage, "train_loss": 0.0, "accuracy": 0.0}]
    records += [{"stage": stage, "train_loss": x, "accuracy": 0.0} for x in losses]
    return GrowthHistory(steps=100, stage=stage, records=records)


@pytest.mark.parametrize(
    ("losses", "due"),
    [
        ([], False),
        ([1.0, 1.0], False),  # the window is not full
        ([1.0, 1.0, 1.0], True),
        ([1.0, 0.9, 0.8], False),
        ([2.0, 1.0, 0.95, 0.91], True),  # by the loss after the last addition
        ([1.0, 1.0, 0.95, 0.85], False),
    ],
)
def test_units_are_due_by_the_papers_rule(losses, due):
    method = NodeCreation(window=2, threshold=0.1)
    assert method.is_due(history(losses)) is due


def test_the_fall_is_measured_by_the_loss_at_the_last_addition():
    method = NodeCreation(window=2, threshold=0.1)
    records = history([5.0, 4.0]).records + history([1.0, 0.95, 0.85], stage=1).records
    run = GrowthHistory(steps=100, stage=1, records=records)
    # A fall of 0.15: much of 1.0, little of 4.0.
    assert method.is_due(run)
    assert not NodeCreation(window=2, threshold=0.03).is_due(run)


def test_an_edit_before_any_training_has_no_loss_to_compare_with():
    records = history([]).records + history([2.0, 1.0, 0.5], stage=1).records
    run = GrowthHistory(steps=100, stage=1, records=records)
    assert not NodeCreation(window=2, threshold=0.1).is_due(run)


def test_layers_that_were_frozen_may_be_chosen():
    hidden = {"model_args": {"hidden": [4, 4, 4]}}
    layers = ["linear0", "linear1", "linear2"]
    method = NodeCreation(**hidden, layers=layers)
    model = begin(method).float()
    context = EditContext(2, PROBE.float(), 0, digits())
    free = method.edit(model, context).choice
    assert method.edit(model.requires_grad_(False), context).choice == free


def test_nothing_is_due_after_the_last_edit():
    method = NodeCreation(window=1, max_edits=2)
    assert method.is_due(history([1.0, 1.0], stage=1))
    assert not method.is_due(history([1.0, 1.0], stage=2))


def test_old_weights_are_kept_and_new_outgoing_weights_are_zero():
    method = NodeCreation(model_args={"hidden": [5]}, layers=["linear0"], nodes=3)
    model = begin(method)
    edit = method.edit(model, EditContext(1, PROBE, 0))
    assert edit.certificate.preserves(1e-14)
    assert torch.equal(edit.model.linear0.weight[:5], model.linear0.weight)
    assert torch.equal(edit.model.linear1.weight[:, :5], model.linear1.weight)
    assert not edit.model.linear1.weight[:, 5:].any()
    fresh = edit.model.linear0.weight[5:]
    assert 0 < fresh.abs().max() <= model.linear0.weight.abs().mean()


def test_outgoing_weights_that_are_drawn_change_the_function_within_their_bound():
    method = NodeCreation(
        model_args={"hidden": [5]}, layers=["linear0"], nodes=3, preserving=False
    )
    edit = method.edit(begin(method), EditContext(1, PROBE, 0))
    assert not method.preserves_function
    hidden = edit.model.relu0(edit.model.linear0(edit.model.flatten(PROBE)))[:, 5:]
    outgoing = edit.model.linear1.weight[:, 5:]
    bound = (hidden.abs() @ outgoing.abs().T).max()
    assert 0 < edit.certificate.largest_difference <= bound


def test_the_layer_with_the_largest_gradient_gets_the_units():
    method = NodeCreation(**TWO, place="largest-gradient")
    model = begin(method)
    edit = method.edit(model.float(), EditContext(1, PROBE.float(), 0, digits()))
    x = digits().augmentation.evaluate(digits().images[digits().train])
    y = digits().labels[digits().train]
    sizes = {}
    for layer, following in (("linear0", "linear1"), ("linear1", "linear2")):
        single = NodeCreation(**{**TWO, "layers": [layer]})
        grown = single.edit(model, EditContext(1, PROBE.float(), 0)).model
        functional.cross_entropy(grown(x), y).backward()
        # Incoming weights have no gradient while nothing is sent.
        new = grown.get_submodule(following).weight.grad[:, -method.nodes :]
        sizes[layer] = new.norm()
    assert edit.choice == max(sizes, key=sizes.get) and edit.flops > 0


def test_layers_in_turn_and_at_random():
    method = NodeCreation(**TWO, place="round-robin")
    model = begin(method)
    chosen = [
        method.edit(model, EditContext(stage, PROBE, 0)).choice for stage in (1, 2, 3)
    ]
    assert chosen == ["linear0", "linear1", "linear0"]
    method = NodeCreation(**TWO, place="random")
    drawn = [
        [method.edit(model, EditContext(s, PROBE, seed)).choice for s in range(1, 9)]
        for seed in (0, 0, 1)
    ]
    assert drawn[0] == drawn[1] and set(drawn[0]) == {"linear0", "linear1"}


def test_a_choice_by_gradient_is_kept_with_the_run_and_in_its_file(tmp_path):
    method = tiny("node-creation")
    growth = grow(method, digits())
    assert growth.history.edits
    path = tmp_path / "grown.safetensors"
    save_grown(path, growth, method, 0, SHAPE, 10)
    loaded = load_grown(path)
    for name, value in growth.model.state_dict().items():
        assert torch.equal(loaded.state_dict()[name], value)


@pytest.mark.parametrize("optimizer", ["sgd", "adamw"])
def test_frozen_units_keep_every_bit(optimizer):
    training = replace(TRAINING, optimizer=optimizer, weight_decay=0.0)
    method = NodeCreation(**FROZEN | {"training": training})
    seen = watched_run(method)
    assert len(seen.stages) == 4
    for number, stage in enumerate(seen.stages[1:]):
        choice = seen.stages[number].edit.choice
        origins = seen.stages[number].edit.origins
        for name, after in stage.ended.named_parameters():
            before = stage.begun.get_parameter(name)
            is_old = origins[name].gather(torch.ones_like(before)) != 0
            changed = after != before
            if name.startswith("linear2"):
                assert changed.any()
            else:
                assert not changed[is_old].any()
                assert changed.any() == bool((~is_old).any())
        assert (stage.ended.get_submodule(choice).weight[-2:] != 0).any()


def test_frozen_weights_must_not_decay():
    with pytest.raises(InvalidInputError, match="frozen weights would decay"):
        NodeCreation(frozen=True, training=TrainingSettings(weight_decay=1e-4))


def test_a_choice_without_samples_is_refused():
    method = NodeCreation(**TWO, place="largest-gradient")
    with pytest.raises(
        InvalidInputError, match="place is largest-gradient, which needs training"
    ):
        method.edit(begin(method), EditContext(1, PROBE, 0))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"nodes": 0}, "nodes is 0"),
        ({"window": 0}, "window is 0"),
        ({"layers": []}, "layers is .*; it must be a list of 1 to 1000"),
    ],
)
def test_invalid_settings_are_refused(changes, message):
    with pytest.raises(InvalidInputError, match=message):
        NodeCreation(**changes)
