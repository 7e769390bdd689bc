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
import os
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from gradnet.core.files import remove_stale_parts, write_json
from gradnet.core.json_lines import JsonLines
from gradnet.core.locks import LockedFile
from gradnet.core.reproducibility import environment, environment_difference, versions
from gradnet.core.settings import to_plain
from gradnet.data.problem import Problem
from gradnet.errors import DamagedFileError, InvalidInputError, NewerFormatError
from gradnet.experiments.results import (
    RESULT,
    Facts,
    Row,
    read_result,
    result_difference,
    rounded,
)
from gradnet.experiments.run_key import RunKey
from gradnet.experiments.study_file import claim
from gradnet.training.loop import Callbacks

logger = logging.getLogger("gradnet")

# The folders below a run folder that runs write to.
KINDS = ("snapshots", "gradnets", "networks", "checkpoints", "results", "configs")
# What a result says beside its row.
ABOUT = ("settings", "inputs", "hardware", "versions", "environment")


class RunFolder:
    """A run folder, claimed for one study.

    Args:
        path: made when it is missing.
        identity: what all its results share, as plain values and settings
            dataclasses; a folder of another study is refused. A field that a
            dataclass got later counts as its default.
        hardware: written beside every result.
        where: the environment, see :func:`gradnet.core.reproducibility.environment`;
            default: that of the CPU.
        accept_differences: continue runs that were begun in another environment.

    Raises:
        InvalidInputError: the folder holds another study.
        DamagedFileError: a newer version of this package has written it.
    """

    def __init__(
        self,
        path: str | Path,
        identity: Facts,
        hardware: str,
        *,
        where: Facts | None = None,
        accept_differences: bool = False,
    ) -> None:
        self.path, self.identity, self.hardware = Path(path), identity, hardware
        self.environment = dict(where or environment("cpu"))
        self.accept_differences = accept_differences
        self.metrics = JsonLines(self.path / "metrics.jsonl")
        self._held: set[str] = set()
        self._warned: set[str] = set()
        self.path.mkdir(parents=True, exist_ok=True)
        with LockedFile(self.path / "study.json.lock", wait=True):
            claim(self.path, identity)
        self._clean()

    def _clean(self) -> None:
        """Remove what killed processes left; what others are writing stays."""
        remove_stale_parts(self.path)
        for kind in KINDS:
            for folder, _, _ in os.walk(self.path / kind):
                remove_stale_parts(Path(folder))
        self.metrics.clean()

    @contextmanager
    def running(self, *names: str) -> Iterator[None]:
        """Keep other processes from the same runs until the block ends.

        Blocks may stand in each other.

        Args:
            names: of what is run, such as ``seed-0``.

        Raises:
            BusyError: another process is at one of them.
        """
        with ExitStack() as held:
            for name in names:
                if name in self._held:
                    continue
                busy = (
                    f"another process is running {name} in {self.path}; wait for it to "
                    "end, or name another folder with --out"
                )
                path = self.path / f"{name}.lock"
                held.enter_context(LockedFile(path, wait=False, busy=busy))
                self._held.add(name)
                held.callback(self._held.discard, name)
            yield

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
            accept_differences=self.accept_differences,
        )

    def is_done(
        self,
        key: RunKey,
        settings: object = None,
        facts: Facts | None = None,
        inputs: Facts | None = None,
    ) -> bool:
        """Whether a run is finished.

        A finished run whose process was killed before it had logged the end is logged
        now. A result that was made in another environment counts, with a warning. A
        damaged one is set aside under another name, and the run counts as not done.

        Args:
            key: of the run.
            settings: a settings dataclass, whose new fields count as their defaults;
                None for a run that has none.
            facts: plain values, beside the settings, that must be the same.
            inputs: fingerprints of what it was made from; those that an older result
                does not name are not compared.

        Raises:
            InvalidInputError: it is finished, but with other settings.
            DamagedFileError: a newer version of this package has written it.
        """
        path = self.result(key)
        if not path.exists() or (row := self._read_or_set_aside(path)) is None:
            return False
        difference = result_difference(row, settings, facts or {}, inputs or {})
        if difference is not None:
            raise InvalidInputError(
                f"{path} was made with other settings ({difference}); work in another "
                "folder, or remove it"
            )
        self._complete(key, row)
        logger.info("%s: done before", key)
        self.warn_of_environment(key, row.get("environment"))
        return True

    def _read_or_set_aside(self, path: Path) -> Row | None:
        try:
            return read_result(path)
        except NewerFormatError:
            raise
        except DamagedFileError as error:
            aside = path.with_name(f"{path.name}.damaged")
            path.replace(aside)
            logger.warning("%s; it is now %s, and is made again", error, aside.name)
            return None

    def _complete(self, key: RunKey, row: Row) -> None:
        """Do what a process that was killed right after its result has left undone."""
        self.checkpoint(key).unlink(missing_ok=True)
        if not any(r["event"] == "finished" for r in self.records_of(key)):
            facts = {k: v for k, v in row.items() if k not in (*ABOUT, *key.fields)}
            self.log_stage(key, facts)

    def records_of(self, key: RunKey) -> list[Row]:
        """The records of a run in the log."""
        found = [record for record in self.metrics.read() if "event" in record]
        fields = key.fields.items()
        return [r for r in found if all(r.get(k) == v for k, v in fields)]

    def warn_of_environment(self, key: RunKey, before: object) -> None:
        """Warn, once for each difference, that a result is of another environment."""
        difference = environment_difference(before, self.environment)
        if difference is not None and difference not in self._warned:
            self._warned.add(difference)
            logger.warning(
                "%s was done in another environment (%s): done here, its last digits "
                "could differ",
                key,
                difference,
            )

    def finish(
        self,
        key: RunKey,
        row: Facts,
        settings: object = None,
        facts: Facts | None = None,
        inputs: Facts | None = None,
    ) -> None:
        """Write a run's row, log it, and remove its checkpoint.

        Args:
            key: of the run.
            row: what it came to.
            settings: as for :meth:`is_done`.
            facts: as for :meth:`is_done`.
            inputs: as for :meth:`is_done`.
        """
        row = rounded(row)
        stored = to_plain(settings)
        if facts:
            stored = {**facts, **(stored or {})}
        content = RESULT.stamp({**key.fields, **row, "settings": stored})
        machine = {
            "inputs": dict(inputs or {}),
            "hardware": self.hardware,
            "versions": versions(),
            "environment": self.environment,
        }
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
