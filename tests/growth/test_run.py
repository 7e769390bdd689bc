"""Growth runs: budgets, invalid checkpoints, optimizer state, cached outputs."""

import copy
import logging
from dataclasses import replace
from functools import partial

import pytest
import torch
from growth_cases import RESNET, TRAINING, digits, tiny, without_seconds
from torch import nn

from gradnet.core.flops import training_flops
from gradnet.data.augmentation import Augmentation
from gradnet.errors import GradnetError
from gradnet.growth import run as run_module
from gradnet.growth.frozen_trunk import (
    FrozenTrunkTask,
    TrunkOutputs,
    training_step_flops,
)
from gradnet.growth.method import Schedule
from gradnet.growth.methods.cornet import Cornet
from gradnet.growth.methods.net2net import Net2Wider
from gradnet.growth.replay import replay
from gradnet.growth.run import grow
from gradnet.surgery.optimizer import transfer_optimizer
from gradnet.training.loop import Callbacks
from gradnet.training.supervised import SupervisedTask, set_training_mode

WIDER = Net2Wider(
    training=TRAINING,
    growth=Schedule(first=6),
    model_args={"hidden": [6]},
    wider={"linear0": 9},
)
PRESERVING = Cornet(
    training=TRAINING, growth=Schedule(first=6), style="preactivation", **RESNET
)


def stop(*arguments):
    raise KeyboardInterrupt


@pytest.mark.parametrize(
    ("changes", "seed", "identity", "message"),
    [
        (
            {"student_rate": 0.5},
            0,
            {},
            "is of another run: method.settings.student_rate was 0.1, now 0.5",
        ),
        ({}, 1, {}, "is of another run: seed was 0, now 1"),
        ({}, 0, {"data": "b"}, "is of another run: data was 'a', now 'b'"),
    ],
    ids=["settings", "seed", "data"],
)
@pytest.mark.parametrize("stage", [0, 1])
def test_a_checkpoint_of_another_run_is_refused(
    tmp_path, stage, changes, seed, identity, message
):
    def on_evaluation(record):
        if record["stage"] == stage and record["step"] > 6 - 4 * (stage == 0):
            raise KeyboardInterrupt

    path, first = tmp_path / "run.pt", {"data": "a"}
    with pytest.raises(KeyboardInterrupt):
        grow(
            WIDER,
            digits(),
            callbacks=Callbacks(path, first, on_evaluation=on_evaluation),
        )
    other = Callbacks(path, {**first, **identity})
    with pytest.raises(GradnetError, match=message):
        grow(replace(WIDER, **changes), digits(), seed=seed, callbacks=other)


def test_a_finished_run_is_not_trained_again(tmp_path, monkeypatch):
    callbacks = Callbacks(tmp_path / "run.pt")
    expected = grow(WIDER, digits(), callbacks=callbacks)
    for work in ("losses", "evaluate"):
        monkeypatch.setattr(SupervisedTask, work, stop)
    repeated = []
    again = grow(
        WIDER, digits(), callbacks=replace(callbacks, on_evaluation=repeated.append)
    )
    assert repeated == expected.history.records[-1:]
    assert again.history == expected.history and again.flops == expected.flops
    assert again.seconds == pytest.approx(expected.seconds)


@pytest.mark.parametrize(
    ("schedule", "edits"),
    [
        (Schedule(every=100), []),
        (Schedule(first=6, every=100), [6]),
        (Schedule(first=6, every=8), [6, 14]),
        (Schedule(every=22), []),
        (Schedule(first=0, every=8), [0, 8, 16]),
    ],
    ids=str,
)
def test_a_run_ends_with_its_budget_whatever_was_grown(schedule, edits, caplog):
    growth = grow(replace(PRESERVING, growth=schedule), digits())
    is_logged = f"steps ended after {len(edits)} of 3 edits" in caplog.text
    assert is_logged == (len(edits) < 3)
    history = growth.history
    assert [edit["step"] for edit in history.edits] == edits
    assert history.stage == len(edits)
    last = history.records[-1]
    assert (last["step"], last["stage"]) == (TRAINING.steps, len(edits))
    blocks = [n for n, _ in growth.model.named_children() if n.startswith("block")]
    assert len(blocks) == 1 + len(edits)


def test_a_network_grows_when_nothing_improves():
    schedule = Schedule(patience=2, gain=1.0)  # no accuracy gains that much
    growth = grow(replace(PRESERVING, growth=schedule), digits())
    # At each second evaluation after an edit's own: steps 0, 4, 8; 8, 12, 16; ...
    assert [edit["step"] for edit in growth.history.edits] == [8, 16]
    assert growth.history.records[-1]["step"] == TRAINING.steps


def states_at_the_start_of_stages(method, monkeypatch):
    """The optimizer's state by parameter name, and the edit before, of each stage."""
    found, edits, optimizers = [], [], []
    real_fit, real_edit = run_module.fit, type(method).edit

    def fit(task, settings, *, part, **arguments):
        names = {p: n for n, p in task.module.named_parameters()}
        states = part.optimizer.state
        found.append({names[p]: copy.deepcopy(state) for p, state in states.items()})
        optimizers.append(part.optimizer)
        return real_fit(task, settings, part=part, **arguments)

    def edit(self, model, context):
        made = real_edit(self, model, context)
        edits.append((made, optimizers[-1]))
        return made

    monkeypatch.setattr(run_module, "fit", fit)
    monkeypatch.setattr(type(method), "edit", edit)
    grow(method, digits())
    return found, edits


@pytest.mark.parametrize("method", [PRESERVING, WIDER], ids=["cornet", "net2wider"])
def test_the_optimizer_state_is_kept_if_the_function_is_preserved(method, monkeypatch):
    found, edits = states_at_the_start_of_stages(method, monkeypatch)
    assert found[0] == {} and len(found) == method.edits + 1
    for state, (edit, old) in zip(found[1:], edits, strict=True):
        carried = transfer_optimizer(old, edit)
        trained = [n for n, p in edit.model.named_parameters() if p.requires_grad]
        fresh = {name for name in trained if name not in edit.origins}
        assert set(state) == set(trained) - fresh
        for name, parameter in edit.model.named_parameters():
            if name in state:
                expected = carried.state[parameter]
                assert state[name]["step"] > 0
                assert all(map(torch.equal, state[name].values(), expected.values()))


def test_the_optimizer_is_reset_if_the_function_is_not_preserved(monkeypatch):
    method = replace(PRESERVING, head="new")
    found, _ = states_at_the_start_of_stages(method, monkeypatch)
    assert found == [{}] * (method.edits + 1)


def test_kept_outputs_change_costs_but_not_what_is_learned():
    cached, plain = (
        grow(replace(PRESERVING, cache_trunk=cache), digits())
        for cache in (True, False)
    )
    assert cached.flops.total < plain.flops.total
    for name, value in cached.model.state_dict().items():
        torch.testing.assert_close(value, plain.model.state_dict()[name])


def test_random_augmentation_keeps_no_outputs(caplog, monkeypatch):
    samples = replace(digits(), augmentation=Augmentation(flip=True))
    tasks = []
    real_fit = run_module.fit
    monkeypatch.setattr(
        run_module,
        "fit",
        lambda task, *a, **k: tasks.append(task) or real_fit(task, *a, **k),
    )
    with caplog.at_level(logging.INFO, "gradnet"):
        grow(PRESERVING, samples)
    assert "augmentation is random: a frozen trunk is computed each step" in caplog.text
    assert not any(isinstance(task, FrozenTrunkTask) for task in tasks)
    tasks.clear()
    grow(PRESERVING, digits())
    behind = [isinstance(task, FrozenTrunkTask) for task in tasks]
    assert behind == [False, True, True, True]


def test_a_trunk_that_is_too_large_is_not_kept(caplog, monkeypatch):
    monkeypatch.setattr(run_module, "TrunkOutputs", partial(TrunkOutputs, max_bytes=9))
    with caplog.at_level(logging.INFO, "gradnet"):
        small = grow(PRESERVING, digits())
    assert "now it is computed at each step instead" in caplog.text
    plain = grow(replace(PRESERVING, cache_trunk=False), digits())
    assert small.flops.forward >= plain.flops.forward
    for name, value in small.model.state_dict().items():
        assert torch.equal(value, plain.model.state_dict()[name])


def test_a_step_of_fewer_images_than_asked_for_costs_less():
    samples = replace(digits(), train=digits().train[:10])
    model = nn.Sequential(nn.Flatten(), nn.Linear(64, 10))
    probe = samples.augmentation.evaluate(samples.images[:4])
    task = SupervisedTask(model, samples, 1000, 0)
    assert training_step_flops(task, probe) == training_flops(model, probe) * 10


def test_a_step_is_counted_in_the_mode_in_which_it_trains():
    method = tiny("cornet")
    probe = digits().augmentation.evaluate(digits().images[:4])
    model = replay(method, 0, 2, probe, 10)
    method.freeze(model, 2)
    task = SupervisedTask(model.eval(), digits(), 16, 0)
    found = training_step_flops(task, probe)
    set_training_mode(model)
    assert found == training_flops(model, probe) * 16


def test_the_callers_generator_is_left_alone():
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    grow(WIDER, digits())
    assert torch.equal(torch.rand(3), expected)


def test_callbacks_receive_the_records():
    received: list[dict] = []
    growth = grow(WIDER, digits(), callbacks=Callbacks(on_evaluation=received.append))
    assert received == growth.history.records
    assert without_seconds(received)[0]["step"] == 0
    seconds = [record["seconds"] for record in received]
    assert seconds == sorted(seconds)
    assert growth.training_seconds <= growth.seconds
    assert growth.seconds == pytest.approx(seconds[-1], abs=0.01)
