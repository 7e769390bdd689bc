"""The run folder of a study: what is finished, where it stands, what was logged.

A finished piece is one JSON file under ``results/``; what is there is never done again,
what is not there is done, or continued from its checkpoint.

    snapshots/seed-0/level-0.5.safetensors         base networks
    gradnets/seed-0/level-0.5/default.safetensors  GradNets
    results/seed-0/level-0.5/default.json          one row of the table
    metrics.jsonl                                  every evaluation, every stage
    config.yaml  table.csv  table.md  table.png
"""

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from gradnet.core.files import JsonLines, read_json, write_json
from gradnet.core.reproducibility import versions
from gradnet.errors import GradnetError
from gradnet.training.loop import Callbacks

logger = logging.getLogger("gradnet")

Row = dict[str, Any]
Key = Mapping[str, Any]


class RunFolder:
    """A run folder, claimed for one study.

    Args:
        path: made when it is missing.
        identity: what all its results share; a folder of another study is refused.
        hardware: written beside every result.

    Raises:
        GradnetError: the folder holds another study.
    """

    def __init__(self, path: str | Path, identity: Key, hardware: str) -> None:
        self.path, self.identity, self.hardware = Path(path), plain(identity), hardware
        self.metrics = JsonLines(self.path / "metrics.jsonl")
        claim = self.path / "study.json"
        if claim.exists() and (before := read_json(claim)) != self.identity:
            raise GradnetError(
                f"{self.path} holds another study "
                f"({first_difference(before, self.identity)}); name another folder "
                "with --out"
            )
        write_json(claim, self.identity)

    def snapshots(self, seed: int) -> Path:
        """The folder of a seed's snapshots."""
        return self.path / "snapshots" / f"seed-{seed}"

    def gradnet(self, key: Key) -> Path:
        """The file of a GradNet."""
        return self.path / "gradnets" / piece(key, ".safetensors")

    def result(self, key: Key) -> Path:
        """The file of a finished row."""
        return self.path / "results" / piece(key, ".json")

    def checkpoint(self, key: Key) -> Path:
        """The file that an unfinished row is continued from."""
        return self.path / "checkpoints" / piece(key, ".pt")

    def callbacks(self, key: Key, checkpoint: Path | None = None) -> Callbacks:
        """Logs a training run's evaluations, those of a resumed one once."""
        event = {**key, "event": "evaluation"}
        return Callbacks(
            checkpoint=checkpoint,
            identity={**self.identity["problem"], **key},
            on_resume=lambda records: self.metrics.replace(event, records),
            on_evaluation=lambda record: self.metrics.append({**event, **record}),
            description=describe(key),
        )

    def is_done(self, key: Key, settings: Key | None = None) -> bool:
        """Whether a row is finished.

        Raises:
            GradnetError: it is, but with other settings.
        """
        path = self.result(key)
        if not path.exists():
            return False
        before = read_json(path)["settings"]
        if before != plain(settings):
            raise GradnetError(
                f"{path} was made with other settings "
                f"({first_difference(before, plain(settings))}); work in another "
                "folder, or remove it"
            )
        logger.info("%s: done before", describe(key))
        return True

    def finish(self, key: Key, row: Key, settings: Key | None = None) -> None:
        """Write a row, log it, and drop its checkpoint."""
        row = {**key, **rounded(row)}
        facts = {"hardware": self.hardware, "versions": versions()}
        write_json(self.result(key), {**row, "settings": plain(settings), **facts})
        self.checkpoint(key).unlink(missing_ok=True)
        self.log_stage(key, {k: v for k, v in row.items() if k not in key})
        logger.info("%s: test accuracy %.4f", describe(key), row["test_accuracy"])

    def log_stage(self, key: Key, facts: Key) -> None:
        """Log that a stage is finished, and its seconds and rates."""
        self.metrics.replace({**key, "event": "finished"}, [rounded(facts)])


def piece(key: Key, suffix: str) -> Path:
    """The relative path of what belongs to one row; a growth run has no level."""
    folder = Path(f"seed-{key['seed']}")
    if "level" in key:
        folder /= f"level-{key['level']:g}"
    return folder / f"{key['method']}{suffix}"


def describe(key: Key) -> str:
    """A piece's name in messages."""
    if "method" not in key:
        return f"base network, seed {key['seed']}"
    level = f", level {key['level']:g}" if "level" in key else ""
    return f"seed {key['seed']}{level}, {key['method']}"


def read_rows(folder: str | Path) -> list[Row]:
    """All finished rows of a run folder, by seed and level.

    Raises:
        GradnetError: there is none.
    """
    paths = sorted(Path(folder).glob("results/seed-*/**/*.json"))
    if not paths:
        raise GradnetError(
            f"{folder} has no results; make some with gradnet reproduce --out {folder}"
        )
    rows: list[Row] = [read_json(path) for path in paths]
    return sorted(rows, key=lambda row: (row["seed"], row.get("level", 0)))


def plain(value: object) -> Any:
    """The value as JSON gives it back: tuples as lists."""
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    return value


def rounded(values: Key) -> Row:
    """The values, with four decimals; small ones with four digits."""

    def short(value: float) -> float:
        return round(value, 4) if abs(value) >= 1 else float(f"{value:.4g}")

    return {k: short(v) if isinstance(v, float) else v for k, v in values.items()}


def first_difference(before: Any, now: Any, name: str = "") -> str:
    """Names the first field in which two nested mappings differ, and both values."""
    if isinstance(before, dict) and isinstance(now, dict):
        for key in [*before, *now]:
            if before.get(key) != now.get(key):
                path = f"{name}.{key}".lstrip(".")
                return first_difference(before.get(key), now.get(key), path)
    return f"{name} was {before!r}, now {now!r}"
