"""The run folder of a study: which runs are finished, their files, and their log.

A finished run is one JSON file under ``results/``. It is never done again; a run
without such a file is done, or continued from its checkpoint.

    study.json                                     what all results have in common
    snapshots/seed-0/level-0.5.safetensors         base networks
    gradnets/seed-0/level-0.5/default.safetensors  GradNets
    networks/seed-0/net2wider.safetensors          grown networks
    checkpoints/seed-0/level-0.5/default.pt        runs that were stopped
    results/seed-0/level-0.5/default.json          one row of the table
    metrics.jsonl                                  every evaluation, every stage
    config.yaml  table.csv  table.md  table.png

``study.json`` and the results carry a ``format`` number. Files without one are of
format 0, and are read as well.
"""

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NotRequired, TypedDict, cast

from gradnet.core.constraints import Name
from gradnet.core.files import JsonLines, read_json, write_json
from gradnet.core.formats import Format, rename_limits
from gradnet.core.reproducibility import versions
from gradnet.core.settings import first_difference, to_plain
from gradnet.core.validation import Level, Seed, Validated
from gradnet.data.problem import Problem
from gradnet.errors import InvalidInputError
from gradnet.training.loop import Callbacks

logger = logging.getLogger("gradnet")


def _upgrade_0(values: dict[str, Any]) -> dict[str, Any]:
    """Format 1 names limits ``max_...`` in the settings, as today's classes do."""
    return rename_limits(values)


STUDY = Format("study", (lambda values: values,))
RESULT = Format("result", (_upgrade_0,))

Row = dict[str, Any]
Facts = Mapping[str, Any]


@dataclass(frozen=True)
class RunKey(Validated):
    """Which run of a study: names its files, its rows and its lines in the log.

    >>> key = RunKey(seed=0, method="default", level=0.5)
    >>> str(key)
    'seed 0, level 0.5, default'
    >>> key.path(".json").as_posix()
    'seed-0/level-0.5/default.json'

    Attributes:
        seed: of everything that is random in it.
        method: the row's name; None is the training of a base network.
        level: the accuracy level of the snapshot; None where there is no snapshot.
    """

    seed: Seed
    method: Name | None = None
    level: Level | None = None

    @property
    def fields(self) -> dict[str, Any]:
        """The key as the first fields of rows and log records."""
        if self.method is None:
            return {"stage": "base", "seed": self.seed}
        level = {} if self.level is None else {"level": self.level}
        return {"seed": self.seed, **level, "method": self.method}

    def path(self, suffix: str) -> Path:
        """The path of the run's file, relative to the folder of its kind."""
        folder = Path(f"seed-{self.seed}")
        if self.level is not None:
            folder /= f"level-{self.level:g}"
        return folder / f"{self.method or 'base'}{suffix}"

    def __str__(self) -> str:
        if self.method is None:
            return f"base network, seed {self.seed}"
        level = "" if self.level is None else f", level {self.level:g}"
        return f"seed {self.seed}{level}, {self.method}"


class EvaluationRecord(TypedDict):
    """A line of ``metrics.jsonl`` with the event ``evaluation``.

    Attributes:
        event: ``evaluation``.
        seed: of the run's key.
        method: of the run's key.
        level: of the run's key.
        stage: ``base`` for a base network; of growth, the number of edits before.
        step: optimizer steps done.
        train_loss: mean since the evaluation before.
        accuracy: on the validation part.
        loss: mean cross-entropy on the validation part.
        seconds: since the start of the run, evaluations included.
        flops: of training so far; growth runs only.
        parameters: of the network; growth runs only.
    """

    event: str
    seed: int
    step: int
    accuracy: float
    loss: float
    seconds: float
    train_loss: NotRequired[float]
    method: NotRequired[str]
    level: NotRequired[float]
    stage: NotRequired[int | str]
    flops: NotRequired[float]
    parameters: NotRequired[int]


class RunFolder:
    """A run folder, claimed for one study.

    Args:
        path: made when it is missing.
        identity: what all its results share, as plain values and settings
            dataclasses; a folder of another study is refused. A field that a
            dataclass got later counts as its default.
        hardware: written beside every result.

    Raises:
        InvalidInputError: the folder holds another study.
        DamagedFileError: a newer version of this package has written it.
    """

    def __init__(self, path: str | Path, identity: Facts, hardware: str) -> None:
        self.path, self.identity, self.hardware = Path(path), identity, hardware
        self.metrics = JsonLines(self.path / "metrics.jsonl")
        claim = self.path / "study.json"
        if claim.exists():
            before = STUDY.read(_without_growth_kind(read_json(claim)), str(claim))
            difference = first_difference(before, identity)
            if difference is not None:
                raise InvalidInputError(
                    f"{self.path} holds another study ({difference}); name another "
                    "folder with --out"
                )
        write_json(claim, STUDY.stamp(to_plain(identity)))

    def snapshots(self, seed: int) -> Path:
        """The folder of a seed's snapshots."""
        return self.path / "snapshots" / f"seed-{seed}"

    def gradnet(self, key: RunKey) -> Path:
        """The file of a GradNet."""
        return self.path / "gradnets" / key.path(".safetensors")

    def network(self, key: RunKey) -> Path:
        """The file of a grown network."""
        return self.path / "networks" / key.path(".safetensors")

    def result(self, key: RunKey) -> Path:
        """The file of a finished run."""
        return self.path / "results" / key.path(".json")

    def checkpoint(self, key: RunKey) -> Path:
        """The file that an unfinished run is continued from."""
        return self.path / "checkpoints" / key.path(".pt")

    def callbacks(self, key: RunKey, checkpoint: Path | None = None) -> Callbacks:
        """Callbacks that log a run's evaluations, each once when it is resumed."""
        event = {**key.fields, "event": "evaluation"}
        problem = to_plain(self.identity["problem"])
        return Callbacks(
            checkpoint=checkpoint,
            identity={**problem, **key.fields},
            on_resume=lambda records: self.metrics.replace(event, records),
            on_evaluation=lambda record: self.metrics.append({**event, **record}),
            description=str(key),
        )

    def is_done(
        self, key: RunKey, settings: object = None, facts: Facts | None = None
    ) -> bool:
        """Whether a run is finished.

        Args:
            key: of the run.
            settings: a settings dataclass, whose new fields count as their defaults;
                None for a run that has none.
            facts: plain values, beside the settings, that must be the same.

        Raises:
            InvalidInputError: it is finished, but with other settings.
        """
        path = self.result(key)
        if not path.exists():
            return False
        before, facts = read_result(path)["settings"], facts or {}
        if isinstance(before, Mapping):
            stored = {name: before.get(name) for name in facts}
            before = {k: value for k, value in before.items() if k not in facts}
            difference = first_difference(stored, facts)
        else:
            difference = None
        difference = difference or first_difference(before, settings)
        if difference is not None:
            raise InvalidInputError(
                f"{path} was made with other settings ({difference}); work in another "
                "folder, or remove it"
            )
        logger.info("%s: done before", key)
        return True

    def finish(
        self,
        key: RunKey,
        row: Facts,
        settings: object = None,
        facts: Facts | None = None,
    ) -> None:
        """Write a run's row, log it, and remove its checkpoint.

        Args:
            key: of the run.
            row: what it came to.
            settings: as for :meth:`is_done`.
            facts: as for :meth:`is_done`.
        """
        row = rounded(row)
        stored = to_plain(settings)
        if facts:
            stored = {**facts, **(stored or {})}
        content = RESULT.stamp({**key.fields, **row, "settings": stored})
        machine = {"hardware": self.hardware, "versions": versions()}
        write_json(self.result(key), {**content, **machine})
        self.checkpoint(key).unlink(missing_ok=True)
        self.log_stage(key, row)
        if "test_accuracy" in row:
            logger.info("%s: test accuracy %.4f", key, row["test_accuracy"])

    def log_stage(self, key: RunKey, facts: Facts) -> None:
        """Log that a stage is finished, with its seconds and rates."""
        self.metrics.replace({**key.fields, "event": "finished"}, [rounded(facts)])


def problem_identity(problem: Problem) -> dict[str, Any]:
    """What results on a problem depend on, for :class:`RunFolder` to compare.

    The augmentation stays a dataclass, so that a field that it gets later counts as
    its default in the run folders of before.
    """
    return {**problem.identity, "augmentation": problem.augmentation}


def _without_growth_kind(values: Any) -> Any:
    """Format 0 of a growth study has a ``kind`` of another meaning."""
    if isinstance(values, dict) and values.get("kind") == "growth":
        return {**{k: v for k, v in values.items() if k != "kind"}, "study": "growth"}
    return values


def read_result(path: str | Path) -> Row:
    """Read the file of a finished run, of any format up to today's.

    Raises:
        GradnetError: the file is missing or no JSON.
        DamagedFileError: it is no result, or a newer version of gradnet has written it.
    """
    return RESULT.read(read_json(path), str(path))


def read_rows(folder: str | Path) -> list[Row]:
    """All finished rows of a run folder, by seed and level.

    Raises:
        GradnetError: there is none, or one cannot be read.
    """
    paths = sorted(Path(folder).glob("results/seed-*/**/*.json"))
    if not paths:
        raise InvalidInputError(
            f"{folder} has no results; make some with gradnet reproduce --out {folder}"
        )
    rows = [read_result(path) for path in paths]
    return sorted(rows, key=lambda row: (row["seed"], row.get("level", 0)))


def read_evaluations(folder: str | Path) -> list[EvaluationRecord]:
    """All evaluations in the log of a run folder, in the order of the log."""
    records = JsonLines(Path(folder) / "metrics.jsonl").read()
    found = [record for record in records if record["event"] == "evaluation"]
    return cast(list[EvaluationRecord], found)


def rounded(values: Facts) -> Row:
    """The values, with four decimals; small ones with four digits."""

    def short(value: float) -> float:
        return round(value, 4) if abs(value) >= 1 else float(f"{value:.4g}")

    return {k: short(v) if isinstance(v, float) else v for k, v in values.items()}
