"""The run of a growth method: stages of training, with edits between them.

Costs are counted as executed: the FLOPs of a training step are those of its forward
pass, of the gradients of trainable weights, and of the gradients of activations that
backpropagation needs to reach them.
"""

import logging
import time
from collections.abc import Callable, Sequence

import torch
from torch import nn

from gradnet.core.flops import Flops
from gradnet.core.reproducibility import environment
from gradnet.data.problem import Samples
from gradnet.errors import InvalidInputError
from gradnet.growth.frozen_trunk import (
    FrozenTrunkTask,
    TrunkOutputs,
    training_step_flops,
    trunk_length,
)
from gradnet.growth.method import EditContext, GrowthHistory, GrowthMethod, Record
from gradnet.growth.outcome import Growth
from gradnet.growth.replay import PROBE_SIZE, replay
from gradnet.growth.stage_files import StageFiles
from gradnet.surgery.edit import Edit
from gradnet.surgery.masks import count_remaining
from gradnet.surgery.optimizer import transfer_optimizer
from gradnet.training.checkpoint import explained_damage
from gradnet.training.history import merged
from gradnet.training.loop import Callbacks, Part, TrainingSettings, fit
from gradnet.training.supervised import SupervisedTask

logger = logging.getLogger("gradnet")


def grow(
    method: GrowthMethod,
    samples: Samples,
    *,
    seed: int = 0,
    callbacks: Callbacks | None = None,
    on_edit: Callable[[Record], None] = lambda record: None,
    start: nn.Module | None = None,
) -> Growth:
    """Train and grow a network.

    Each record of an evaluation has ``stage``, ``step``, ``train_loss``, ``accuracy``
    and ``loss`` on the validation samples, ``parameters``, ``trainable``, ``flops`` and
    ``seconds`` so far; there is one before and one after each edit.

    Args:
        method: see :class:`~gradnet.growth.method.GrowthMethod`.
        samples: training and validation samples.
        seed: of weights, edits, order and augmentation.
        callbacks: as for :func:`gradnet.training.loop.fit`; its checkpoint is the name
            of :class:`gradnet.growth.stage_files.StageFiles`, which stay on disk.
        on_edit: called with the record of each edit; after resuming, also for the
            earlier edits.
        start: the network to start from, not modified; None for the method's own.

    Returns:
        The grown network with its last weights, its history and its costs.

    Raises:
        InvalidInputError: the method cannot start on these images or from this network.
        GradnetError: training fails, or a checkpoint is of another run.
    """
    run = _Run(method, samples, seed, callbacks or Callbacks(), on_edit, start)
    run.resume()
    while True:
        run.train_stage()
        if not run.grow():
            return run.growth


class _Run:
    """The state of a run between two stages, as its checkpoint files hold it."""

    def __init__(
        self,
        method: GrowthMethod,
        samples: Samples,
        seed: int,
        callbacks: Callbacks,
        on_edit: Callable[[Record], None],
        start: nn.Module | None,
    ) -> None:
        self.method, self.samples, self.seed = method, samples, seed
        self.callbacks, self.on_edit, self.start = callbacks, on_edit, start
        described = {"class": type(method).__name__, "settings": method}
        self.identity = {**callbacks.identity, "method": described, "seed": seed}
        self.files = StageFiles(callbacks.checkpoint, self.identity)
        indices = samples.train[:PROBE_SIZE]
        self.probe = samples.augmentation.evaluate(samples.images[indices])
        model = self._replay(0)
        self.growth = Growth(model, GrowthHistory(method.training.steps))
        self.trunk = TrunkOutputs(samples) if self._may_cache() else None
        self.step = 0
        self.optimizer = self._begin_stage()

    @property
    def stage(self) -> int:
        return self.growth.history.stage

    def train_stage(self) -> None:
        growth, history = self.growth, self.growth.history
        task = self._make_task()
        step_flops = training_step_flops(task, self.probe)
        earlier, flops, seconds = list(history.records), growth.flops, growth.seconds
        costs = {
            "parameters": growth.parameters,
            "trainable": count_remaining(growth.model, trainable_only=True),
        }

        def complete(record: Record) -> Record:
            spent = flops + step_flops * (record["step"] - history.start)
            now = round(seconds + record["seconds"], 3)
            return {
                "stage": history.stage,
                **record,
                **costs,
                "flops": spent.total,
                "seconds": now,
            }

        def on_resume(records: list[Record]) -> None:
            history.records = [*earlier, *map(complete, records)]
            self.callbacks.on_resume(history.records)

        def on_evaluation(record: Record) -> None:
            history.records.append(complete(record))
            self.callbacks.on_evaluation(history.records[-1])

        done = fit(
            task,
            self._settings(),
            seed=self.seed,
            callbacks=Callbacks(
                checkpoint=self.files.training(self.stage),
                identity={**self.identity, "stage": self.stage},
                on_resume=on_resume,
                on_evaluation=on_evaluation,
                description=f"{self.callbacks.description}, stage {self.stage}",
                accept_differences=self.callbacks.accept_differences,
            ),
            should_stop=self._is_due,
            part=Part(history.start, self.method.latest_step(history), self.optimizer),
        )
        self.step = int(done.records[-1]["step"])
        growth.flops = flops + step_flops * (self.step - history.start)
        growth.seconds = seconds + done.seconds
        growth.training_seconds += done.training_seconds
        growth.environments = merged(growth.environments, done.environments)
        growth.model.eval()

    def grow(self) -> bool:
        """Make the next edit; False if the run is over."""
        growth, history = self.growth, self.growth.history
        if self.stage >= self.method.edits:
            return False
        if self.step >= history.steps:
            logger.warning(
                "the run of %d steps ended after %d of %d edits",
                history.steps,
                self.stage,
                self.method.edits,
            )
            return False
        start = time.monotonic()
        edit = self._edit(self.stage + 1)
        growth.flops += Flops(forward=edit.flops)
        self._count_seconds(time.monotonic() - start)
        history.begin_stage(edit, self.step)
        self.on_edit(history.edits[-1])
        growth.model = edit.model
        self.optimizer = self._begin_stage(edit)
        self.save()
        return True

    def save(self) -> None:
        growth = self.growth
        state = {
            "history": vars(growth.history),
            "flops": vars(growth.flops),
            "seconds": (growth.seconds, growth.training_seconds),
            "environments": growth.environments,
            "module": growth.model.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "trunk": self.trunk.names if self.trunk else [],
        }
        self.files.save(self.stage, state)

    def resume(self) -> None:
        device, accept = self.probe.device, self.callbacks.accept_differences
        state = self.files.load(self.method.edits, environment(device), accept)
        if state is not None:
            with explained_damage(self.callbacks.checkpoint):
                self._take_up(state)

    def _take_up(self, state: Record) -> None:
        growth = self.growth
        growth.history = GrowthHistory(**state["history"])
        choices = [edit["choice"] for edit in growth.history.edits]
        growth.model = self._replay(self.stage, choices)
        growth.flops = Flops(**state["flops"])
        growth.seconds, growth.training_seconds = state["seconds"]
        growth.environments = state["environments"]
        growth.model.load_state_dict(state["module"])
        self.optimizer = self._begin_stage()
        self.optimizer.load_state_dict(state["optimizer"])
        if self.trunk is not None and isinstance(growth.model, nn.Sequential):
            self._advance_to(state["trunk"])
        for record in growth.history.edits:
            self.on_edit(record)

    def _replay(self, stage: int, choices: Sequence[str | None] = ()) -> nn.Module:
        classes = self.samples.num_classes
        return replay(
            self.method, self.seed, stage, self.probe, classes, choices, self.start
        )

    def _advance_to(self, names: list[str]) -> None:
        """Recompute the trunk's outputs that a stopped run had, if still valid."""
        model, trunk = self.growth.model, self.trunk
        assert isinstance(model, nn.Sequential) and trunk is not None
        if [name for name, _ in model.named_children()][: len(names)] == names:
            trunk.advance(model, len(names))

    def _edit(self, stage: int) -> Edit:
        context = EditContext(stage, self.probe, self.seed, self.samples)
        return self.method.edit(self.growth.model, context)

    def _begin_stage(self, edit: Edit | None = None) -> torch.optim.Optimizer:
        """Freeze parameters for the stage; returns the optimizer of the others."""
        model = self.growth.model
        self.method.freeze(model, self.stage)
        optimizer = self._settings().make_optimizer(model)
        if edit is not None and self.method.carries_optimizer:
            # In the order of the network's parameters, as a resumed run loads it.
            carried = transfer_optimizer(self.optimizer, edit).state
            for parameter in optimizer.param_groups[0]["params"]:
                if parameter in carried:
                    optimizer.state[parameter] = carried[parameter]
        return optimizer

    def _settings(self) -> TrainingSettings:
        return self.method.training_at(self.stage)

    def _may_cache(self) -> bool:
        if not self.method.cache_trunk:
            return False
        if getattr(self.samples.augmentation, "is_random", True):
            logger.info("augmentation is random: a frozen trunk is computed each step")
            return False
        return True

    def _make_task(self) -> SupervisedTask:
        method, model = self.method, self.growth.model
        settings = self._settings()
        arguments = (self.samples, settings.batch_size, self.seed, method.shuffle)
        if self.trunk is None or not isinstance(model, nn.Sequential):
            return SupervisedTask(model, *arguments)
        start, before = time.monotonic(), self.trunk.flops
        try:
            self.trunk.advance(model, trunk_length(model))
        except InvalidInputError as error:
            logger.warning("%s; now it is computed at each step instead", error)
            self.trunk = None
            return SupervisedTask(model, *arguments)
        if not self.trunk.length:
            return SupervisedTask(model, *arguments)
        self.growth.flops += Flops(forward=self.trunk.flops - before)
        self._count_seconds(time.monotonic() - start)
        return FrozenTrunkTask(model, *arguments, self.trunk)

    def _count_seconds(self, seconds: float) -> None:
        self.growth.seconds += seconds
        self.growth.training_seconds += seconds

    def _is_due(self, record: Record) -> bool:
        history = self.growth.history
        return record["step"] > history.start and self.method.is_due(history)
