"""The GradNet study: base snapshots, GradNets, controls, and the results that a table is made of.

A run folder is a set of finished pieces, one JSON file each under ``results/``; what is
there is never done again, what is not there is done or continued.

    snapshots/seed-0/level-0.5.safetensors        base networks
    gradnets/seed-0/level-0.5/default.safetensors GradNets
    results/seed-0/level-0.5/default.json         one row of the table
    metrics.jsonl                                 every evaluation, every stage
    config.yaml  table.csv  table.md  table.png
"""

import logging
import time
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from torch import nn

from gradnet.base_network import BaseSettings, train_base
from gradnet.classifier import evaluate_predictor, fit_gradnet
from gradnet.controls import CONTROLS, ControlSettings, train_control
from gradnet.errors import GradnetError
from gradnet.files import JsonLines, read_json, write_json
from gradnet.problem import Problem
from gradnet.recipes import Recipe
from gradnet.runtime import hardware, versions
from gradnet.snapshots import list_snapshots, load_snapshot
from gradnet.training import History, Watch, evaluate

logger = logging.getLogger("gradnet")

Row = dict[str, Any]


@dataclass(frozen=True)
class StudySettings:
    """What a study compares.

    Attributes:
        base: the base network, its training and its levels.
        recipes: name -> recipe; the controls see as many samples as the first.
        controls: how they are trained; None leaves them out.
        seeds: one base network, and everything read from it, for each.
    """

    base: BaseSettings
    recipes: Mapping[str, Recipe]
    controls: ControlSettings | None = field(default_factory=ControlSettings)
    seeds: tuple[int, ...] = (0,)


class Study:
    """A study in its run folder.

    Args:
        problem: data, splits, augmentation.
        settings: what is compared.
        folder: the run folder; made when it is missing.

    Raises:
        GradnetError: no recipe or no seed is given, or the folder holds results of
            other data or of another base network.
    """

    def __init__(
        self, problem: Problem, settings: StudySettings, folder: str | Path
    ) -> None:
        if not settings.recipes or not settings.seeds:
            raise GradnetError("a study needs at least one recipe and one seed")
        self.problem, self.settings = problem, settings
        self.folder = Path(folder)
        self.metrics = JsonLines(self.folder / "metrics.jsonl")
        self.device = problem.data.x_train.device
        self._claim_folder()

    def run(self) -> list[Row]:
        """Do what is not done yet.

        Returns:
            All rows of the run folder, those of earlier calls too.
        """
        for seed in self.settings.seeds:
            snapshots = self.train_base(seed)
            for level, path in snapshots.items():
                snapshot = load_snapshot(path)
                base = snapshot.model.to(self.device)
                self._judge_base(seed, level, base, snapshot.info.validation_accuracy)
                samples_seen = [
                    self.fit(seed, level, base, name, recipe)
                    for name, recipe in self.settings.recipes.items()
                ]
                if self.settings.controls is not None:
                    for name in CONTROLS:
                        self.control(seed, level, base, name, samples_seen[0])
        return read_rows(self.folder)

    def train_base(self, seed: int) -> dict[float, Path]:
        """Train the base network of a seed; level -> path of its snapshots."""
        folder = self.folder / "snapshots" / f"seed-{seed}"
        levels = self.settings.base.all_levels()
        found = list_snapshots(folder)
        if all(level in found for level in levels):
            logger.info("base network, seed %d: done before", seed)
            return {level: found[level] for level in levels}
        key = {"stage": "base", "seed": seed}
        watch = self._watch(key, f"base network, seed {seed}")
        reached, history = train_base(
            self.problem, self.settings.base, seed, folder, watch
        )
        if missing := [level for level in levels if level not in reached]:
            best = max(record["accuracy"] for record in history.records)
            logger.warning(
                "base network, seed %d: levels %s were not reached in %d steps (best "
                "%.4f); their rows are missing",
                seed,
                ", ".join(f"{level:g}" for level in missing),
                history.records[-1]["step"],
                best,
            )
        self._log_stage(key, history, samples_seen=self._base_samples(history))
        return reached

    def _base_samples(self, history: History) -> int:
        batch = self.settings.base.training.batch_size
        return int(history.records[-1]["step"]) * batch

    def _judge_base(
        self, seed: int, level: float, base: nn.Module, passed_with: float
    ) -> None:
        """Write the base's own row: its accuracy under the same centre crop."""
        key = {"seed": seed, "level": level, "method": "base"}
        if self._is_done(key):
            return
        start = time.monotonic()
        test = evaluate(base, self.problem.test)
        row = {
            "validation_accuracy": evaluate(base, self.problem.gradnet_half)[
                "accuracy"
            ],
            "test_accuracy": test["accuracy"],
            "level_passed_with": passed_with,
            "parameters": count_parameters(base),
            "evaluate_seconds": time.monotonic() - start,
        }
        self._finish(key, row)

    def fit(
        self, seed: int, level: float, base: nn.Module, name: str, recipe: Recipe
    ) -> int:
        """Train and judge a GradNet; returns the samples that it has seen."""
        key = {"seed": seed, "level": level, "method": name}
        if not self._is_done(key, asdict(recipe)):
            watch = self._watch(key, describe(key))
            start = time.monotonic()
            predictor, history = fit_gradnet(
                base, self.problem.gradnet_half, recipe, seed=seed, watch=watch
            )
            path = self.folder / "gradnets" / piece(key).with_suffix(".safetensors")
            best = history.best["accuracy"]
            predictor.save(path, **key, validation_accuracy=best)
            fit_rate = predictor.gradients_used / (time.monotonic() - start)
            read, start = predictor.gradients_used, time.monotonic()
            test = evaluate_predictor(
                predictor, self.problem.test, f"{describe(key)}: test images"
            )
            seconds = time.monotonic() - start
            row = {
                **self._row(history, recipe.training.batch_size, test),
                "parameters": count_parameters(predictor.network),
                "evaluate_seconds": seconds,
                "fit_gradients_per_second": fit_rate,
                "evaluate_gradients_per_second": (predictor.gradients_used - read)
                / seconds,
            }
            self._finish(key, row, asdict(recipe), history)
        return int(self._read(key)["samples_seen"])

    def control(
        self, seed: int, level: float, base: nn.Module, name: str, samples_seen: int
    ) -> None:
        """Train and judge a control on as many samples as GradNet has seen."""
        assert self.settings.controls is not None
        training = self.settings.controls.training
        steps = max(1, round(samples_seen / training.batch_size))
        training = replace(
            training, steps=steps, evaluate_every=max(1, min(steps // 8, 100))
        )
        key = {"seed": seed, "level": level, "method": name}
        if self._is_done(key, asdict(training)):
            return
        watch = self._watch(key, describe(key))
        model, history = train_control(
            name, base, self.problem.gradnet_half, training, seed=seed, watch=watch
        )
        start = time.monotonic()
        test = evaluate(model, self.problem.test)
        row = {
            **self._row(history, training.batch_size, test),
            "parameters": count_parameters(model),
            "evaluate_seconds": time.monotonic() - start,
        }
        self._finish(key, row, asdict(training), history)

    def _row(self, history: History, batch_size: int, test: Mapping[str, float]) -> Row:
        return {
            "validation_accuracy": history.best["accuracy"],
            "test_accuracy": test["accuracy"],
            "best_step": history.best_step,
            "samples_seen": int(history.records[-1]["step"]) * batch_size,
            "fit_seconds": history.seconds,
        }

    def _watch(self, key: Row, description: str) -> Watch:
        return Watch(
            checkpoint=self._checkpoint(key) if "method" in key else None,
            identity={**self.problem.identity, **key},
            on_resume=lambda records: self.metrics.replace(
                {**key, "event": "evaluation"}, records
            ),
            on_record=lambda record: self.metrics.append(
                {**key, "event": "evaluation", **record}
            ),
            description=description,
        )

    def _checkpoint(self, key: Row) -> Path:
        return self.folder / "checkpoints" / piece(key).with_suffix(".pt")

    def _result(self, key: Row) -> Path:
        return self.folder / "results" / piece(key).with_suffix(".json")

    def _read(self, key: Row) -> Row:
        row: Row = read_json(self._result(key))
        return row

    def _is_done(self, key: Row, settings: Mapping[str, Any] | None = None) -> bool:
        if not self._result(key).exists():
            return False
        before = self._read(key)["settings"]
        if before != _plain(settings):
            raise GradnetError(
                f"{self._result(key)} was made with other settings "
                f"({_first_difference(before, _plain(settings))}); work in another "
                "folder, or remove it"
            )
        logger.info("%s: done before", describe(key))
        return True

    def _finish(
        self,
        key: Row,
        row: Row,
        settings: Mapping[str, Any] | None = None,
        history: History | None = None,
    ) -> None:
        row = {**key, **{name: _rounded(value) for name, value in row.items()}}
        facts = {"hardware": hardware(self.device), "versions": versions()}
        write_json(self._result(key), {**row, "settings": _plain(settings), **facts})
        self._checkpoint(key).unlink(missing_ok=True)
        self.metrics.replace(
            {**key, "event": "finished"},
            [{name: value for name, value in row.items() if name not in key}],
        )
        logger.info("%s: test accuracy %.4f", describe(key), row["test_accuracy"])

    def _log_stage(self, key: Row, history: History, **facts: object) -> None:
        self.metrics.replace(
            {**key, "event": "finished"},
            [{"fit_seconds": round(history.seconds, 3), **facts}],
        )

    def _claim_folder(self) -> None:
        identity = _plain(
            {
                "problem": self.problem.identity,
                "model": self.settings.base.model_name(self.problem),
                "model_arguments": self.settings.base.model_arguments(self.problem),
                "base_training": asdict(self.settings.base.training),
            }
        )
        path = self.folder / "study.json"
        if path.exists() and (before := read_json(path)) != identity:
            raise GradnetError(
                f"{self.folder} holds another study "
                f"({_first_difference(before, identity)}); name another folder with "
                "--out"
            )
        write_json(path, identity)


def piece(key: Mapping[str, Any]) -> Path:
    """The relative path, less its suffix, of what belongs to one row."""
    return Path(f"seed-{key['seed']}") / f"level-{key['level']:g}" / key["method"]


def describe(key: Mapping[str, Any]) -> str:
    """A row's name in messages."""
    return f"seed {key['seed']}, level {key['level']:g}, {key['method']}"


def count_parameters(module: nn.Module) -> int:
    """Number of values in the module's parameters."""
    return sum(parameter.numel() for parameter in module.parameters())


def read_rows(folder: str | Path) -> list[Row]:
    """All finished rows of a run folder, by seed and level.

    Raises:
        GradnetError: there is none.
    """
    rows = list(_iterate_rows(Path(folder)))
    if not rows:
        raise GradnetError(
            f"{folder} has no results; make some with gradnet reproduce --out {folder}"
        )
    return sorted(rows, key=lambda row: (row["seed"], row["level"]))


def _iterate_rows(folder: Path) -> Iterator[Row]:
    for path in sorted(folder.glob("results/seed-*/level-*/*.json")):
        yield read_json(path)


def _plain(value: object) -> Any:
    """The value as JSON gives it back: tuples as lists."""
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    return value


def _first_difference(before: Any, now: Any, name: str = "") -> str:
    if isinstance(before, dict) and isinstance(now, dict):
        for key in [*before, *now]:
            if before.get(key) != now.get(key):
                path = f"{name}.{key}".lstrip(".")
                return _first_difference(before.get(key), now.get(key), path)
    return f"{name} was {before!r}, now {now!r}"


def _rounded(value: Any) -> Any:
    return round(value, 4) if isinstance(value, float) else value
