"""The GradNet study: snapshots, GradNets, controls, and the rows of its table."""

import logging
import time
from collections.abc import Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, field, replace
from pathlib import Path

from torch import nn

from gradnet.checkpoints.fingerprint import weights_fingerprint
from gradnet.checkpoints.snapshots import list_snapshots, load_snapshot
from gradnet.classifier.fit import evaluate_predictor
from gradnet.classifier.recipes import Recipe
from gradnet.core.constraints import Name
from gradnet.core.flops import count_parameters
from gradnet.core.reproducibility import environment, hardware
from gradnet.core.validation import Positive, Seed, Validated
from gradnet.data.problem import Problem
from gradnet.errors import InvalidInputError
from gradnet.experiments.base_network import BaseSettings, base_checkpoint, train_base
from gradnet.experiments.controls import CONTROLS, ControlSettings, train_control
from gradnet.experiments.fitting import fit_and_save
from gradnet.experiments.run_folder import (
    Facts,
    Row,
    RunFolder,
    RunKey,
    problem_identity,
    read_result,
    read_rows,
    several_environments,
)
from gradnet.training.loop import Callbacks, History, TrainingSettings
from gradnet.training.supervised import evaluate

logger = logging.getLogger("gradnet")

# A control is evaluated about as often as the GradNet beside it.
CONTROL_EVALUATIONS = 8


@dataclass(frozen=True)
class StudySettings(Validated):
    """What a study compares.

    Attributes:
        base: the base network, its training and its levels.
        recipes: name -> recipe; the controls see as many samples as the first.
        controls: how they are trained; None leaves them out.
        seeds: one base network, and everything read from it, for each.
        max_epochs: cuts the recipes' steps to so many passes over their half.
    """

    base: BaseSettings
    recipes: Mapping[Name, Recipe]
    controls: ControlSettings | None = field(default_factory=ControlSettings)
    seeds: tuple[Seed, ...] = (0,)
    max_epochs: Positive | None = None


class Study:
    """A study in its run folder.

    Args:
        problem: data, splits, augmentation.
        settings: what is compared.
        folder: the run folder; made when it is missing.
        accept_differences: continue runs that were begun in another environment.

    Raises:
        InvalidInputError: no recipe or no seed is given, or the folder holds results of
            other data or of another base network.
    """

    def __init__(
        self,
        problem: Problem,
        settings: StudySettings,
        folder: str | Path,
        accept_differences: bool = False,
    ) -> None:
        if not settings.recipes or not settings.seeds:
            raise InvalidInputError("a study needs at least one recipe and one seed")
        self.problem, self.settings = problem, settings
        self.device = problem.data.x_train.device
        base = settings.base
        identity = {
            "problem": problem_identity(problem),
            "model": base.model_name(problem),
            "model_arguments": base.model_arguments(problem),
            "base_training": base.training,
            "evaluations_per_epoch": base.evaluations_per_epoch,
        }
        self.folder = RunFolder(
            folder,
            identity,
            hardware(self.device),
            where=environment(self.device),
            accept_differences=accept_differences,
        )

    def running(self) -> AbstractContextManager[None]:
        """Keep other processes from this study's seeds; see RunFolder.running."""
        return self.folder.running(*(f"seed-{seed}" for seed in self.settings.seeds))

    def run(self) -> list[Row]:
        """Do every run that is not finished yet.

        Returns:
            All rows of the run folder, with those of earlier calls.

        Raises:
            BusyError: another process is at one of the seeds.
        """
        with self.running():
            return self._run()

    def _run(self) -> list[Row]:
        for seed in self.settings.seeds:
            for level, path in self.train_base(seed).items():
                snapshot = load_snapshot(path)
                snapshot.info.check_split(
                    self.problem.splits, self.problem.data.fingerprint, str(path)
                )
                base = snapshot.model.to(self.device)
                self.evaluate_base(seed, level, base)
                samples_seen = [
                    self.fit(seed, level, base, name, recipe)
                    for name, recipe in self.settings.recipes.items()
                ]
                if self.settings.controls is not None:
                    for name in CONTROLS:
                        self.control(seed, level, base, name, samples_seen[0])
        return read_rows(self.folder.path)

    def train_base(self, seed: int) -> dict[float, Path]:
        """Train the base network of a seed; level -> path of its snapshots.

        Raises:
            BusyError: another process is at this seed.
        """
        with self.folder.running(f"seed-{seed}"):
            return self._train_base(seed)

    def _train_base(self, seed: int) -> dict[float, Path]:
        levels = self.settings.base.all_levels()
        folder = self.folder.snapshots(seed)
        found = list_snapshots(folder)
        key = RunKey(seed)
        if all(level in found for level in levels) and self._is_logged(key, found):
            logger.info("%s: done before", key)
            return {level: found[level] for level in levels}
        reached, history = train_base(
            self.problem, self.settings.base, seed, folder, self.folder.callbacks(key)
        )
        if missing := [f"{level:g}" for level in levels if level not in reached]:
            logger.warning(
                "%s: levels %s were not reached in %d steps (best %.4f); their rows "
                "are missing",
                key,
                ", ".join(missing),
                history.records[-1]["step"],
                history.best["accuracy"],
            )
        seen = samples_seen_by(history, self.settings.base.training)
        facts = {"fit_seconds": history.seconds, "samples_seen": seen}
        self.folder.log_stage(key, facts)
        return reached

    def _is_logged(self, key: RunKey, found: Mapping[float, Path]) -> bool:
        """Whether the end of a base network's training stands in the log.

        It does not where the process was killed just before; then the checkpoint, where
        it is still there, has what is to be logged.
        """
        info = load_snapshot(found[max(found)]).info
        self.folder.tell_environment(key, info.environment)
        least = info.step * self.settings.base.training.batch_size
        is_logged = any(
            record["event"] == "finished" and record.get("samples_seen", 0) >= least
            for record in self.folder.records_of(key)
        )
        return (
            is_logged or not base_checkpoint(self.folder.snapshots(key.seed)).exists()
        )

    def evaluate_base(self, seed: int, level: float, base: nn.Module) -> None:
        """Write the base's own row: its accuracy under the same centre crop."""
        key, inputs = RunKey(seed, "base", level), _inputs(base)
        if self.folder.is_done(key, inputs=inputs):
            return
        row = {
            "validation_accuracy": evaluate(base, self.problem.gradnet_half)[
                "accuracy"
            ],
            **self._test(base),
        }
        self.folder.finish(key, row, inputs=inputs)

    def fit(
        self, seed: int, level: float, base: nn.Module, name: str, recipe: Recipe
    ) -> int:
        """Train and evaluate a GradNet; returns how many samples it has seen."""
        recipe = self._cut(recipe)
        key, inputs = RunKey(seed, name, level), _inputs(base)
        if self.folder.is_done(key, recipe, inputs=inputs):
            return int(read_result(self.folder.result(key))["samples_seen"])
        callbacks = self._callbacks(key, inputs)
        fitted = fit_and_save(
            base,
            self.problem.gradnet_half,
            recipe,
            self.folder.gradnet(key),
            seed=seed,
            callbacks=callbacks,
            about=key.fields,
        )
        predictor = fitted.predictor
        used, start = predictor.gradients_used, time.monotonic()
        description = f"{key}: test images"
        test = evaluate_predictor(predictor, self.problem.test, description)
        seconds = time.monotonic() - start
        row = {
            **_training_facts(fitted.history, recipe.training),
            "test_accuracy": test["accuracy"],
            "parameters": count_parameters(predictor.network),
            "evaluate_seconds": seconds,
            "fit_gradients_per_second": fitted.gradients_per_second,
            "evaluate_gradients_per_second": (predictor.gradients_used - used)
            / seconds,
        }
        self.folder.finish(key, row, recipe, inputs=inputs)
        return int(row["samples_seen"])

    def control(
        self, seed: int, level: float, base: nn.Module, name: str, samples_seen: int
    ) -> None:
        """Train and evaluate a control on as many samples as GradNet has seen."""
        assert self.settings.controls is not None
        training = self.settings.controls.training
        steps = max(1, round(samples_seen / training.batch_size))
        every = max(1, min(steps // CONTROL_EVALUATIONS, 100))
        training = replace(training, steps=steps, evaluate_every=every)
        key, inputs = RunKey(seed, name, level), _inputs(base)
        if self.folder.is_done(key, training, inputs=inputs):
            return
        callbacks = self._callbacks(key, inputs)
        model, history = train_control(
            name,
            base,
            self.problem.gradnet_half,
            training,
            seed=seed,
            callbacks=callbacks,
        )
        row = {**_training_facts(history, training), **self._test(model)}
        self.folder.finish(key, row, training, inputs=inputs)

    def _callbacks(self, key: RunKey, inputs: Facts) -> Callbacks:
        callbacks = self.folder.callbacks(key, self.folder.checkpoint(key))
        return replace(callbacks, inputs=inputs)

    def _test(self, model: nn.Module) -> Facts:
        start = time.monotonic()
        return {
            "test_accuracy": evaluate(model, self.problem.test)["accuracy"],
            "parameters": count_parameters(model),
            "evaluate_seconds": time.monotonic() - start,
        }

    def _cut(self, recipe: Recipe) -> Recipe:
        if self.settings.max_epochs is None:
            return recipe
        training = recipe.training
        per_epoch = len(self.problem.splits.gradnet_train) / training.batch_size
        most = max(1, round(self.settings.max_epochs * per_epoch))
        if most >= training.steps:
            return recipe
        every = max(1, training.evaluate_every * most // training.steps)
        return replace(
            recipe, training=replace(training, steps=most, evaluate_every=every)
        )


def _inputs(base: nn.Module) -> dict[str, str]:
    """What a row is made from, beside the data: the weights of its base network."""
    return {"base": weights_fingerprint(base)}


def _training_facts(history: History, training: TrainingSettings) -> Row:
    return {
        "validation_accuracy": history.best["accuracy"],
        "best_step": int(history.best_step),
        "samples_seen": samples_seen_by(history, training),
        "fit_seconds": history.seconds,
        **several_environments(history.environments),
    }


def samples_seen_by(history: History, training: TrainingSettings) -> int:
    """Samples that a run was trained on, each counted as often as it was seen."""
    return int(history.records[-1]["step"]) * training.batch_size
