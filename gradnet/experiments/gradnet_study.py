"""The GradNet study: snapshots, GradNets, controls, and the rows of its table."""

import logging
from collections.abc import Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path

from gradnet.checkpoints.snapshots import list_snapshots, load_snapshot
from gradnet.classifier.recipes import Recipe
from gradnet.core.constraints import Name
from gradnet.core.reproducibility import environment, hardware
from gradnet.core.validation import Positive, Seed, Validated
from gradnet.data.problem import Problem
from gradnet.errors import InvalidInputError
from gradnet.experiments.base_comparison import (
    BaseComparison,
    cut_to_epochs,
    samples_seen_by,
)
from gradnet.experiments.base_network import BaseSettings, base_checkpoint, train_base
from gradnet.experiments.controls import ControlSettings
from gradnet.experiments.results import Row, read_rows
from gradnet.experiments.run_folder import RunFolder, problem_identity
from gradnet.experiments.run_key import RunKey

logger = logging.getLogger("gradnet")


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
        comparison = self._comparison()
        for seed in self.settings.seeds:
            for level, path in self.train_base(seed).items():
                snapshot = load_snapshot(path)
                snapshot.info.check_split(
                    self.problem.splits, self.problem.data.fingerprint, str(path)
                )
                comparison.run(seed, level, snapshot.model.to(self.device))
        return read_rows(self.folder.path)

    def _comparison(self) -> BaseComparison:
        settings, samples = self.settings, self.problem.gradnet_half
        count, controls = len(samples.train), settings.controls
        return BaseComparison(
            self.folder,
            samples,
            self.problem.test,
            recipes={
                name: cut_to_epochs(recipe, settings.max_epochs, count)
                for name, recipe in settings.recipes.items()
            },
            control=None if controls is None else controls.training,
        )

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
        self.folder.warn_of_environment(key, info.environment)
        least = info.step * self.settings.base.training.batch_size
        is_logged = any(
            record["event"] == "finished" and record.get("samples_seen", 0) >= least
            for record in self.folder.records_of(key)
        )
        return (
            is_logged or not base_checkpoint(self.folder.snapshots(key.seed)).exists()
        )
