"""The one training loop: it fits, keeps the best, stops, and resumes after a kill."""

import copy
import math
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import torch
from torch import Tensor, nn

from gradnet.core.files import load_tensors, save_tensors
from gradnet.core.progress import progress
from gradnet.core.reproducibility import (
    derive_seed,
    environment,
    isolated_randomness,
)
from gradnet.core.settings import to_plain
from gradnet.errors import GradnetError
from gradnet.training.callbacks import Callbacks
from gradnet.training.checkpoint import (
    FORMAT,
    check_same_run,
    continued_environments,
    explained_damage,
)
from gradnet.training.history import History
from gradnet.training.settings import TrainingSettings

__all__ = ["Callbacks", "History", "Part", "Task", "TrainingSettings", "fit"]

SECONDS_BETWEEN_CHECKPOINTS = 60.0


class Task(Protocol):
    """What is trained, on what, and how it is judged.

    ``losses`` must be a function of the step alone: that is what makes a resumed run
    equal to one that was never killed.
    """

    @property
    def module(self) -> nn.Module:
        """What is trained."""

    def losses(self, step: int) -> Iterator[Tensor]:
        """The loss of one batch, in parts that add up to it.

        Each part is differentiated before the next is asked for, so only one part's
        activations are alive.
        """

    def evaluate(self) -> dict[str, float]:
        """``accuracy`` and ``loss`` on the validation part."""


@dataclass(frozen=True)
class Part:
    """A part of a longer run, which goes on afterwards with another network.

    Attributes:
        first: the step that it starts from, counted over the whole run.
        last: the step that it ends at; the schedule is that of the whole run.
        optimizer: with the state that it starts from.
    """

    first: int
    last: int
    optimizer: torch.optim.Optimizer


def fit(
    task: Task,
    settings: TrainingSettings,
    *,
    seed: int = 0,
    callbacks: Callbacks | None = None,
    should_stop: Callable[[dict[str, float]], bool] = lambda record: False,
    part: Part | None = None,
) -> History:
    """Train ``task.module``; it ends with its best weights on the validation part.

    Args:
        task: see :class:`Task`.
        settings: see :class:`TrainingSettings`.
        seed: of dropout and whatever else draws from torch's generator.
        callbacks: see :class:`Callbacks`.
        should_stop: called with the same records after ``callbacks.on_evaluation``;
            true ends the run.
        part: the steps to do, when not all; the module then ends with its last
            weights.

    Raises:
        GradnetError: the loss is not finite, or the checkpoint is of another run or was
            written in another environment, which is not accepted.
    """
    callbacks = callbacks or Callbacks()
    run = _Run(task, settings, seed, callbacks, part)
    run.resume()
    _report_earlier(run, callbacks)
    with (
        isolated_randomness(),
        progress(callbacks.description, run.last, done=run.step) as advance,
    ):
        while True:
            if not run.is_evaluation_due():
                run.train_step()
                advance(1)
                continue
            if not run.is_evaluated():
                callbacks.on_evaluation(run.evaluate())
                run.save()
            if should_stop(run.history.records[-1]) or run.is_over():
                break
            run.train_step()
            advance(1)
    if run.keeps_best:
        task.module.load_state_dict(run.best_state)
    return run.history


def _report_earlier(run: "_Run", callbacks: Callbacks) -> None:
    """Call back for what was evaluated before the run was stopped."""
    records = list(run.history.records)
    last = records[-1:] if run.is_evaluated() else []
    callbacks.on_resume(records[: len(records) - len(last)])
    for record in last:
        callbacks.on_evaluation(record)


class _Run:
    """The state of a run: all that a checkpoint holds."""

    def __init__(
        self,
        task: Task,
        settings: TrainingSettings,
        seed: int,
        callbacks: Callbacks,
        part: Part | None,
    ) -> None:
        self.task, self.settings, self.seed = task, settings, seed
        self.checkpoint = callbacks.checkpoint
        self.accept_differences = callbacks.accept_differences
        self.environment = environment(next(task.module.parameters()).device)
        self.identity = {**callbacks.identity, "settings": settings, "seed": seed}
        self.inputs = callbacks.inputs
        self.keeps_best = part is None
        part = part or Part(0, settings.steps, settings.make_optimizer(task.module))
        self.first, self.last, self.optimizer = part.first, part.last, part.optimizer
        self.history = History()
        self.is_entered = False
        self.step = self.first
        self.loss_sum, self.loss_count = 0.0, 0
        self.best_state: dict[str, Tensor] = {}
        self.last_save = time.monotonic()

    def is_evaluation_due(self) -> bool:
        """At the start, every so often, and at the end."""
        at_an_end = self.step == self.first or self.step >= self.last
        return at_an_end or self.step % self.settings.evaluate_every == 0

    def is_evaluated(self) -> bool:
        records = self.history.records
        return bool(records) and records[-1]["step"] == self.step

    def is_over(self) -> bool:
        patience = self.settings.patience
        worn_out = (
            patience is not None and self.history.evaluations_since_best >= patience
        )
        return worn_out or self.step >= self.last

    def enter_environment(self) -> None:
        """Add today's environment, before the first work that is done in it."""
        if not self.is_entered:
            self.history.environments = continued_environments(
                self.history.environments,
                self.environment,
                self.checkpoint,
                self.accept_differences,
            )
            self.is_entered = True

    def train_step(self) -> None:
        self.enter_environment()
        start = time.monotonic()
        for group in self.optimizer.param_groups:
            group["lr"] = self.settings.rate_at(self.step)
        torch.manual_seed(derive_seed("step", self.seed, self.step))
        self.optimizer.zero_grad()
        total = 0.0
        for loss in self.task.losses(self.step):
            loss.backward()
            total += loss.item()
        if not math.isfinite(total):
            raise GradnetError(
                f"the loss is {total} at step {self.step}; lower the learning rate "
                f"(now {self.settings.rate_at(self.step):g}) or check the data"
            )
        self.optimizer.step()
        self.loss_sum, self.loss_count = self.loss_sum + total, self.loss_count + 1
        self.step += 1
        self._count_time(start, training=True)
        if time.monotonic() - self.last_save > SECONDS_BETWEEN_CHECKPOINTS:
            self.save()

    def evaluate(self) -> dict[str, float]:
        self.enter_environment()
        start = time.monotonic()
        record = {
            "step": self.step,
            "train_loss": self.loss_sum / max(self.loss_count, 1),
            **self.task.evaluate(),
        }
        self.loss_sum, self.loss_count = 0.0, 0
        if not self.history.records or _rank(record) > _rank(self.history.best):
            self.history.best_step = self.step
            if self.keeps_best:
                self.best_state = copy.deepcopy(self.task.module.state_dict())
        self.history.records.append(record)
        self._count_time(start, training=False)
        record["seconds"] = round(self.history.seconds, 3)
        return record

    def _count_time(self, start: float, training: bool) -> None:
        seconds = time.monotonic() - start
        self.history.seconds += seconds
        self.history.training_seconds += seconds if training else 0.0

    def save(self) -> None:
        if self.checkpoint is None:
            return
        history = dict(vars(self.history))
        state = {
            "identity": to_plain(self.identity),
            "inputs": to_plain(self.inputs),
            "environments": history.pop("environments"),
            "step": self.step,
            "loss": (self.loss_sum, self.loss_count),
            "history": history,
            "module": self.task.module.state_dict(),
            "best": self.best_state,
            "optimizer": self.optimizer.state_dict(),
        }
        save_tensors(self.checkpoint, FORMAT.stamp(state))
        self.last_save = time.monotonic()

    def resume(self) -> None:
        if self.checkpoint is None or not self.checkpoint.exists():
            return
        with explained_damage(self.checkpoint):
            self._take_up(load_tensors(self.checkpoint), self.checkpoint)

    def _take_up(self, values: object, checkpoint: Path) -> None:
        state = FORMAT.read(values, str(checkpoint))
        check_same_run(state["identity"], self.identity, checkpoint)
        known = {**self.inputs, **state.get("inputs", {})}
        check_same_run(known, self.inputs, checkpoint)
        self.step = state["step"]
        self.loss_sum, self.loss_count = state["loss"]
        self.history = History(
            **state["history"], environments=state.get("environments", [])
        )
        self.task.module.load_state_dict(state["module"])
        self.best_state = state["best"]
        self.optimizer.load_state_dict(state["optimizer"])


def _rank(record: Mapping[str, float]) -> tuple[float, float]:
    return record["accuracy"], -record["loss"]
