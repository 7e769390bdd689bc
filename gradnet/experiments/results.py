"""The results in a run folder: rows of finished runs, evaluations in the log."""

import logging
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any, NotRequired, TypedDict, cast

from gradnet.core.files import read_json
from gradnet.core.formats import Format, rename_limits
from gradnet.core.json_lines import JsonLines
from gradnet.core.locks import LockedFile
from gradnet.core.settings import first_difference
from gradnet.errors import DamagedFileError, InvalidInputError

logger = logging.getLogger("gradnet")

Row = dict[str, Any]
Facts = Mapping[str, Any]

# What tables and figures compute with.
NUMBERS = (
    *("seed", "level", "test_accuracy", "test_loss", "validation_accuracy"),
    *("validation_loss", "steps", "samples_seen", "edits", "largest_difference"),
    *("parameters", "inference_flops", "training_flops", "training_seconds"),
    *("seconds", "best_step", "fit_seconds", "evaluate_seconds"),
    *("fit_gradients_per_second", "evaluate_gradients_per_second"),
)


def _upgrade_0(values: dict[str, Any]) -> dict[str, Any]:
    """Format 1 names limits ``max_...`` in the settings, as today's classes do."""
    return rename_limits(values)


RESULT = Format("result", (_upgrade_0,))


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


def read_result(path: str | Path) -> Row:
    """Read the file of a finished run, of any format up to today's.

    Raises:
        DamagedFileError: the file is missing or damaged, or a newer version of gradnet
            has written it.
    """
    row = RESULT.read(read_json(path), str(path))
    faults = [
        f"{name} is {row[name]!r}"
        for name in NUMBERS
        if not isinstance(row.get(name, 0), int | float | None)
    ]
    faults += [
        f"no {name}" for name in ("seed", "method", "settings") if name not in row
    ]
    if not isinstance(row.get("method", ""), str):
        faults.append(f"method is {row['method']!r}")
    if not isinstance(row.get("settings"), Mapping | None):
        faults.append("settings have no names")
    if faults:
        raise DamagedFileError(f"{path} is no result: {'; '.join(faults)}")
    return row


def table_lock(folder: str | Path) -> AbstractContextManager[object]:
    """Held from reading the rows to writing the table, by one process after another.

    Otherwise the table of the one that writes last may lack the other's new row.
    """
    return LockedFile(Path(folder) / "table.lock", wait=True)


def result_difference(
    row: Row, settings: object, facts: Facts, inputs: Facts
) -> str | None:
    """The first difference between what a result was made with and what is asked.

    Args:
        row: of the result.
        settings: a settings dataclass, whose new fields count as their defaults.
        facts: plain values that stand beside the settings in the row.
        inputs: fingerprints of what it is made from; compared where the row has them.
    """
    before = row["settings"]
    if isinstance(before, Mapping):
        stored = {name: before.get(name) for name in facts}
        before = {k: v for k, v in before.items() if k not in facts}
        if (difference := first_difference(stored, facts)) is not None:
            return difference
    if (difference := first_difference(before, settings)) is not None:
        return difference
    known = row.get("inputs") or {}
    return first_difference({**inputs, **_only(known, inputs)}, inputs)


def _only(values: Facts, names: Facts) -> Facts:
    return {name: values[name] for name in names if name in values}


def read_rows(folder: str | Path) -> list[Row]:
    """All finished rows of a run folder, by seed and level.

    A damaged file is reported and left out.

    Raises:
        InvalidInputError: there is none.
        DamagedFileError: none can be read.
    """
    paths = sorted(Path(folder).glob("results/seed-*/**/*.json"))
    if not paths:
        raise InvalidInputError(
            f"{folder} has no results; make some with gradnet reproduce --out {folder}"
        )
    rows = []
    for path in paths:
        try:
            rows.append(read_result(path))
        except DamagedFileError as error:
            if len(paths) == 1:
                raise
            logger.warning("%s; its row is left out", error)
    if not rows:
        raise DamagedFileError(f"{folder}: none of {len(paths)} results can be read")
    return sorted(rows, key=lambda row: (row["seed"], row.get("level") or 0))


def read_evaluations(folder: str | Path) -> list[EvaluationRecord]:
    """All evaluations in the log of a run folder, in the order of the log."""
    records = JsonLines(Path(folder) / "metrics.jsonl").read()
    found = [r for r in records if r.get("event") == "evaluation" and _is_whole(r)]
    return cast(list[EvaluationRecord], found)


def _is_whole(record: Mapping[str, Any]) -> bool:
    numbers = ("seed", "step", "accuracy", "loss", "seconds", "flops")
    return "seed" in record and all(
        isinstance(record.get(name, 0), int | float) for name in numbers
    )


def rounded(values: Facts) -> Row:
    """The values, with four decimals; small ones with four digits."""

    def short(value: float) -> float:
        return round(value, 4) if abs(value) >= 1 else float(f"{value:.4g}")

    return {k: short(v) if isinstance(v, float) else v for k, v in values.items()}


def several_environments(found: Sequence[Facts]) -> Row:
    """The field ``environments`` of a row whose run was continued in another one."""
    return {"environments": list(found)} if len(found) > 1 else {}
