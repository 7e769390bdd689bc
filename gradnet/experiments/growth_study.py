"""Growth runs in one folder: each row a method and a seed, what it reached and cost."""

import logging
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from torch import nn

from gradnet.checkpoints.fingerprint import weights_fingerprint
from gradnet.core.flops import forward_flops
from gradnet.core.reproducibility import environment, hardware
from gradnet.core.settings import to_plain
from gradnet.data.problem import Problem
from gradnet.errors import GradnetError
from gradnet.experiments.results import several_environments
from gradnet.experiments.run_folder import RunFolder, problem_identity
from gradnet.experiments.run_key import RunKey
from gradnet.growth.frozen_trunk import training_step_flops
from gradnet.growth.grown_network import GrownNetwork, save_grown
from gradnet.growth.method import GrowthMethod
from gradnet.growth.outcome import Growth
from gradnet.growth.replay import replay
from gradnet.growth.run import grow
from gradnet.growth.stage_files import remove_stage_files
from gradnet.training.supervised import SupervisedTask, evaluate

logger = logging.getLogger("gradnet")


class GrowthStudy:
    """A run folder of growth runs on one problem.

    Args:
        problem: all of its training images are used, and their validation part.
        folder: what is finished there is not done again.
        accept_differences: continue runs that were begun in another environment.

    Raises:
        InvalidInputError: the folder holds a study on another problem.
    """

    def __init__(
        self, problem: Problem, folder: str | Path, accept_differences: bool = False
    ) -> None:
        self.problem = problem
        device = problem.data.x_train.device
        identity = {"problem": problem_identity(problem), "study": "growth"}
        self.folder = RunFolder(
            folder,
            identity,
            hardware(device),
            where=environment(device),
            accept_differences=accept_differences,
        )

    def run(
        self,
        name: str,
        method: GrowthMethod,
        seed: int,
        max_flops: float | None = None,
        start: GrownNetwork | None = None,
    ) -> None:
        """Do one run, unless it is done; a run that was stopped continues.

        Args:
            name: of the row.
            method: see :data:`gradnet.growth.GROWTH`.
            seed: of weights, edits, order and augmentation.
            max_flops: see :func:`within_flops`.
            start: the network to begin with, whose own training is not counted; None
                for the method's first one.

        Raises:
            GradnetError: the row was made with other settings, the method cannot begin
                with the start on these images, or the run fails.
            BusyError: another process is at this row.
        """
        key = RunKey(seed, name)
        with self.folder.running(f"seed-{seed}-{name}"):
            self._run(key, method, max_flops, start)

    def _run(
        self,
        key: RunKey,
        method: GrowthMethod,
        max_flops: float | None,
        start: GrownNetwork | None,
    ) -> None:
        samples, shape = self.problem.all_training, self.problem.input_shape
        problem = to_plain(self.problem.identity)
        if start is not None:
            start.check_compatible(shape, samples.num_classes, problem)
        first = None if start is None else start.model
        if max_flops is not None:
            method = within_flops(method, self.problem, max_flops, first)
        facts = {"growth_method": type(method).__name__}
        if first is not None:
            facts["start"] = weights_fingerprint(first)
        checkpoint = self.folder.checkpoint(key)
        if self.folder.is_done(key, method, facts):
            remove_stage_files(checkpoint)
            return
        callbacks = self.folder.callbacks(key, checkpoint)
        identity = {**callbacks.identity, "start": facts.get("start")}
        growth = grow(
            method,
            samples,
            seed=key.seed,
            callbacks=replace(callbacks, identity=identity),
            start=first,
        )
        save_grown(
            self.folder.network(key),
            growth,
            method,
            key.seed,
            shape,
            samples.num_classes,
            start,
            problem,
        )
        event = {**key.fields, "event": "edit"}
        self.folder.metrics.replace(event, growth.history.edits)
        self.folder.finish(key, self._row(growth, method), method, facts)
        remove_stage_files(checkpoint)

    def _row(self, growth: Growth, method: GrowthMethod) -> dict[str, Any]:
        test = evaluate(growth.model, self.problem.test)
        batch_size, samples = method.training.batch_size, self.problem.all_training
        last = growth.history.records[-1]
        probe = self.problem.augmentation.evaluate(self.problem.data.x_train[:2])
        return {
            "test_accuracy": test["accuracy"],
            "test_loss": test["loss"],
            "validation_accuracy": last["accuracy"],
            "validation_loss": last["loss"],
            "steps": last["step"],
            "samples_seen": last["step"] * min(batch_size, len(samples.train)),
            "edits": len(growth.history.edits),
            "largest_difference": max(
                (edit["largest_difference"] for edit in growth.history.edits),
                default=0.0,
            ),
            "parameters": growth.parameters,
            "inference_flops": forward_flops(growth.model, probe),
            "training_flops": growth.flops.total,
            "training_flops_by_kind": asdict(growth.flops),
            "training_seconds": growth.training_seconds,
            "seconds": growth.seconds,
            **several_environments(growth.environments),
        }


def within_flops(
    method: GrowthMethod,
    problem: Problem,
    max_flops: float,
    start: nn.Module | None = None,
) -> GrowthMethod:
    """The method, with as many steps as these FLOPs of training allow.

    Args:
        method: that does not grow.
        problem: what it is trained on.
        max_flops: for all steps together.
        start: the network to begin with; None for the method's own.

    Raises:
        GradnetError: it grows, so that its steps differ in cost; or not one step fits.
    """
    if method.edits:
        raise GradnetError(
            "max_flops is for a network that does not grow; give the other one "
            "--training.steps"
        )
    samples = problem.all_training
    probe = problem.augmentation.evaluate(problem.data.x_train[:2])
    model = replay(method, 0, 0, probe, samples.num_classes, start=start)
    method.freeze(model, 0)
    task = SupervisedTask(model, samples, method.training.batch_size, seed=0)
    each = training_step_flops(task, probe).total
    steps = int(max_flops / each)
    if steps < 1:
        raise GradnetError(f"one step takes {each:.3g} FLOPs, more than {max_flops:g}")
    return replace(method, training=replace(method.training, steps=steps))
