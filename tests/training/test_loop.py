"""The training loop: same numbers twice, after a resume too; it stops, and says why."""

import os

import pytest
import torch
from torch import nn
from torch.nn import functional

from gradnet.core.files import load_tensors, save_tensors
from gradnet.core.reproducibility import environment
from gradnet.errors import GradnetError, InvalidInputError
from gradnet.training.loop import Callbacks, Part, TrainingSettings, fit
from gradnet.training.supervised import Batches


class Regression:
    """Classification of points by a linear map with dropout; quick, never perfect."""

    def __init__(self):
        torch.manual_seed(1)
        self.module = nn.Sequential(nn.Linear(4, 8), nn.Dropout(0.3), nn.Linear(8, 3))
        self.x = torch.randn(64, 4)
        self.y = (self.x @ torch.randn(4, 3) + torch.randn(64, 3)).argmax(1)
        self.batches = Batches(torch.arange(48), 16, seed=0)
        self.fail_at = None

    def losses(self, step):
        if step == self.fail_at:
            raise KeyboardInterrupt
        batch = self.batches(step)
        self.module.train()
        for part in batch.split(8):
            scores = self.module(self.x[part])
            yield functional.cross_entropy(scores, self.y[part], reduction="sum") / 16

    def evaluate(self):
        self.module.eval()
        with torch.no_grad():
            scores = self.module(self.x[48:])
        hits = (scores.argmax(1) == self.y[48:]).float().mean().item()
        loss = functional.cross_entropy(scores, self.y[48:]).item()
        return {"accuracy": hits, "loss": loss}


SETTINGS = TrainingSettings(
    steps=30, optimizer="adamw", learning_rate=0.05, schedule="cosine", evaluate_every=5
)


def without_times(records):
    return [{k: v for k, v in r.items() if k != "seconds"} for r in records]


def test_same_seed_same_numbers():
    one, two = Regression(), Regression()
    first, second = fit(one, SETTINGS, seed=3), fit(two, SETTINGS, seed=3)
    assert without_times(first.records) == without_times(second.records)
    assert torch.equal(one.module[0].weight, two.module[0].weight)


def test_another_seed_draws_another_dropout():
    one, two = Regression(), Regression()
    first, second = fit(one, SETTINGS, seed=3), fit(two, SETTINGS, seed=4)
    assert without_times(first.records) != without_times(second.records)


@pytest.mark.parametrize("stop", [1, 5, 13, 29])
def test_a_stopped_run_resumes_to_the_same_numbers(tmp_path, monkeypatch, stop):
    monkeypatch.setattr("gradnet.training.loop.SECONDS_BETWEEN_CHECKPOINTS", 0.0)
    whole = Regression()
    expected = fit(whole, SETTINGS, seed=3)
    callbacks = Callbacks(checkpoint=tmp_path / "run.pt")
    halted = Regression()
    halted.fail_at = stop
    with pytest.raises(KeyboardInterrupt):
        fit(halted, SETTINGS, seed=3, callbacks=callbacks)
    resumed = Regression()
    found = fit(resumed, SETTINGS, seed=3, callbacks=callbacks)
    assert without_times(found.records) == without_times(expected.records)
    assert torch.equal(resumed.module[0].weight, whole.module[0].weight)


def test_a_finished_run_is_not_trained_again(tmp_path):
    callbacks = Callbacks(checkpoint=tmp_path / "run.pt")
    fit(Regression(), SETTINGS, seed=3, callbacks=callbacks)
    again = Regression()
    again.fail_at = 0
    assert fit(again, SETTINGS, seed=3, callbacks=callbacks).records[-1]["step"] == 30


def test_a_checkpoint_of_another_run_is_refused(tmp_path):
    callbacks = Callbacks(checkpoint=tmp_path / "run.pt", identity={"data": "a"})
    fit(Regression(), SETTINGS, seed=3, callbacks=callbacks)
    other = Callbacks(checkpoint=tmp_path / "run.pt", identity={"data": "b"})
    with pytest.raises(GradnetError, match="another run: data was 'a', now 'b'"):
        fit(Regression(), SETTINGS, seed=3, callbacks=other)


def test_a_truncated_checkpoint_is_refused(tmp_path):
    path = tmp_path / "run.pt"
    fit(Regression(), SETTINGS, seed=3, callbacks=Callbacks(checkpoint=path))
    path.write_bytes(path.read_bytes()[: os.path.getsize(path) // 2])
    with pytest.raises(GradnetError, match="run.pt"):
        fit(Regression(), SETTINGS, seed=3, callbacks=Callbacks(checkpoint=path))


def callbacks_that_record(path, events, fail_after=None):
    """Callbacks that note what is called, with the steps; one fails after its note."""

    def on_evaluation(record):
        events.append(("evaluation", record["step"]))
        if record["step"] == fail_after:
            raise KeyboardInterrupt

    def on_resume(records):
        events.append(("resume", [record["step"] for record in records]))

    return Callbacks(path, on_resume=on_resume, on_evaluation=on_evaluation)


def test_an_evaluation_that_was_not_saved_is_done_again_and_the_last_saved_repeated(
    tmp_path,
):
    events = []
    with pytest.raises(KeyboardInterrupt):
        callbacks = callbacks_that_record(tmp_path / "run.pt", events, fail_after=10)
        fit(Regression(), SETTINGS, seed=3, callbacks=callbacks)
    assert events == [
        ("resume", []),
        *(("evaluation", step) for step in (0, 5, 10)),
    ]
    events.clear()
    callbacks = callbacks_that_record(tmp_path / "run.pt", events)
    fit(Regression(), SETTINGS, seed=3, callbacks=callbacks)
    assert events == [
        ("resume", [0]),  # the run resumes at the evaluation at step 5
        *(("evaluation", step) for step in (5, 10, 15, 20, 25, 30)),
    ]


def test_a_run_that_resumes_between_evaluations_repeats_none(tmp_path, monkeypatch):
    monkeypatch.setattr("gradnet.training.loop.SECONDS_BETWEEN_CHECKPOINTS", 0.0)
    events = []
    halted = Regression()
    halted.fail_at = 7
    callbacks = callbacks_that_record(tmp_path / "run.pt", events)
    with pytest.raises(KeyboardInterrupt):
        fit(halted, SETTINGS, seed=3, callbacks=callbacks)
    events.clear()
    fit(Regression(), SETTINGS, seed=3, callbacks=callbacks)
    assert events[:2] == [("resume", [0, 5]), ("evaluation", 10)]


def test_a_repeated_evaluation_is_called_with_the_weights_that_were_evaluated(tmp_path):
    def weights_at(step, task, seen):
        def on_evaluation(record):
            if record["step"] == step:
                seen.append(task.module[0].weight.detach().clone())

        return Callbacks(tmp_path / "run.pt", on_evaluation=on_evaluation)

    seen = []
    for fail_at in (5, None):
        task = Regression()
        task.fail_at = fail_at
        try:
            fit(task, SETTINGS, seed=3, callbacks=weights_at(5, task, seen))
        except KeyboardInterrupt:
            assert fail_at
    assert len(seen) == 2 and torch.equal(*seen)


def test_the_best_weights_are_kept():
    task = Regression()
    history = fit(task, SETTINGS, seed=3)
    best = max((r["accuracy"], -r["loss"]) for r in history.records)
    found = task.evaluate()
    assert (found["accuracy"], -found["loss"]) == best
    assert history.best["accuracy"] == best[0]


def test_patience_stops_early():
    settings = TrainingSettings(
        steps=1000, learning_rate=1e-9, evaluate_every=2, patience=3, momentum=0
    )
    task = Regression()
    task.evaluate = lambda: {"accuracy": 0.5, "loss": 1.0}
    assert fit(task, settings).records[-1]["step"] == 6


def test_a_run_ends_when_it_is_enough():
    history = fit(Regression(), SETTINGS, should_stop=lambda r: r["step"] >= 10)
    assert history.records[-1]["step"] == 10


def test_a_loss_that_is_not_finite_is_refused():
    task = Regression()
    task.x = task.x * torch.nan
    with pytest.raises(GradnetError, match="loss is nan at step 0; lower the learning"):
        fit(task, SETTINGS)


def test_the_callers_generator_is_left_alone():
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    task = Regression()
    torch.manual_seed(5)
    fit(task, SETTINGS)
    assert torch.equal(torch.rand(3), expected)


def parts_of(task, ends, callbacks=None):
    """Train in parts with one optimizer; the histories."""
    optimizer = SETTINGS.make_optimizer(task.module)
    starts = [0, *ends[:-1]]
    return [
        fit(
            task,
            SETTINGS,
            seed=3,
            callbacks=callbacks,
            part=Part(first, last, optimizer),
        )
        for first, last in zip(starts, ends, strict=True)
    ]


def test_parts_of_a_run_are_the_run():
    """Its schedule, its draws and its batches; each part is evaluated at both ends."""
    whole, divided = Regression(), Regression()
    optimizer = SETTINGS.make_optimizer(whole.module)
    expected = fit(whole, SETTINGS, seed=3, part=Part(0, 30, optimizer))
    histories = parts_of(divided, [7, 22, 30])
    assert torch.equal(whole.module[0].weight, divided.module[0].weight)
    steps = [[record["step"] for record in history.records] for history in histories]
    assert steps == [[0, 5, 7], [7, 10, 15, 20, 22], [22, 25, 30]]
    found = {r["step"]: r["accuracy"] for h in histories for r in h.records}
    for record in expected.records:
        assert found[record["step"]] == record["accuracy"]


def test_a_part_ends_with_its_last_weights():
    task = Regression()
    scores = iter([0.9, 0.5, 0.1, 0.1, 0.1, 0.1, 0.1])
    task.evaluate = lambda: {"accuracy": next(scores), "loss": 1.0}
    weights = []
    losses = task.losses

    def spied(step):
        weights.append(task.module[0].weight.detach().clone())
        yield from losses(step)

    task.losses = spied
    optimizer = SETTINGS.make_optimizer(task.module)
    history = fit(task, SETTINGS, part=Part(0, 30, optimizer))
    assert history.best_step == 0 and len(weights) == 30
    assert all(not torch.equal(task.module[0].weight, weight) for weight in weights)


def test_a_part_of_no_steps_is_evaluated_once():
    task = Regression()
    before = task.module[0].weight.detach().clone()
    (history,) = parts_of(task, [0])
    assert [record["step"] for record in history.records] == [0]
    assert torch.equal(task.module[0].weight, before)


@pytest.mark.parametrize("stop", [8, 13, 21])
def test_a_stopped_part_resumes_to_the_same_numbers(tmp_path, monkeypatch, stop):
    monkeypatch.setattr("gradnet.training.loop.SECONDS_BETWEEN_CHECKPOINTS", 0.0)
    callbacks = Callbacks(checkpoint=tmp_path / "part.pt")

    def train(fail_at, callbacks=None):
        task = Regression()
        task.fail_at = fail_at
        part = Part(7, 22, SETTINGS.make_optimizer(task.module))
        return task, fit(task, SETTINGS, seed=3, callbacks=callbacks, part=part)

    whole, expected = train(None)
    with pytest.raises(KeyboardInterrupt):
        train(stop, callbacks)
    resumed, found = train(None, callbacks)
    assert without_times(found.records) == without_times(expected.records)
    assert torch.equal(resumed.module[0].weight, whole.module[0].weight)


@pytest.fixture
def stopped(tmp_path, monkeypatch):
    """The checkpoint of a run that stopped at step 13, and another environment."""
    halted = Regression()
    halted.fail_at = 13
    path = tmp_path / "run.pt"
    with pytest.raises(KeyboardInterrupt):
        fit(halted, SETTINGS, seed=3, callbacks=Callbacks(path))
    before = environment("cpu")
    elsewhere = {**before, "torch": "9.9"}
    monkeypatch.setattr("gradnet.training.loop.environment", lambda device: elsewhere)
    return path, before, elsewhere


def test_a_half_finished_run_of_another_environment_is_refused(stopped):
    path, before, _ = stopped
    content = path.read_bytes()
    with pytest.raises(InvalidInputError, match=r"now 9\.9.*--accept_differences"):
        fit(Regression(), SETTINGS, seed=3, callbacks=Callbacks(path))
    assert path.read_bytes() == content


def test_a_difference_that_is_accepted_is_told_and_recorded(stopped, caplog):
    path, before, elsewhere = stopped
    callbacks = Callbacks(path, accept_differences=True)
    found = fit(Regression(), SETTINGS, seed=3, callbacks=callbacks)
    assert found.environments == [before, elsewhere]
    assert "continued in another environment" in caplog.text
    again = fit(Regression(), SETTINGS, seed=3, callbacks=Callbacks(path))
    assert again.environments == [before, elsewhere]


def test_a_finished_run_is_read_in_any_environment(tmp_path, monkeypatch):
    callbacks = Callbacks(tmp_path / "run.pt")
    before = fit(Regression(), SETTINGS, seed=3, callbacks=callbacks)
    monkeypatch.setattr("gradnet.training.loop.environment", lambda device: {"x": 1})
    assert fit(Regression(), SETTINGS, seed=3, callbacks=callbacks) == before


def test_a_checkpoint_that_names_no_environment_is_continued(stopped):
    path, _, elsewhere = stopped
    state = load_tensors(path)
    del state["environments"], state["inputs"]
    save_tensors(path, state)
    callbacks = Callbacks(path, inputs={"base": "abc"})
    found = fit(Regression(), SETTINGS, seed=3, callbacks=callbacks)
    assert found.environments == [elsewhere]


def test_a_checkpoint_of_another_input_is_refused(tmp_path):
    callbacks = Callbacks(tmp_path / "run.pt", inputs={"base": "abc"})
    fit(Regression(), SETTINGS, seed=3, callbacks=callbacks)
    other = Callbacks(tmp_path / "run.pt", inputs={"base": "xyz"})
    with pytest.raises(GradnetError, match="base was 'abc', now 'xyz'"):
        fit(Regression(), SETTINGS, seed=3, callbacks=other)
