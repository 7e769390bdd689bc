"""Many trials of a method on a classic problem, all in one batch of tensors."""

import hashlib
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from gradnet.constructive.cascade.settings import CascadeSettings
from gradnet.constructive.cascade.trainer import cascade_correlation
from gradnet.constructive.node_creation import (
    NodeCreationResult,
    NodeCreationSettings,
    node_creation,
)
from gradnet.core.files import save_figure, write_json
from gradnet.core.reproducibility import environment, hardware
from gradnet.data.toy_problems import ClassicProblem
from gradnet.errors import InvalidInputError
from gradnet.experiments.figures import draw_decisions, draw_errors
from gradnet.experiments.reports import write_trials_report
from gradnet.experiments.results import Row, read_result
from gradnet.experiments.run_folder import RunFolder
from gradnet.experiments.run_key import RunKey

# What is drawn: of so many trials the errors, of the first one so many maps.
DRAWN_TRIALS = 3
MAX_MAPS = 8


@dataclass(frozen=True)
class Trials:
    """The results of all trials of a batch.

    Attributes:
        rows: one a trial: ``trial``, ``solved``, ``hidden_units``, ``epochs``, and
            further columns of the method.
        errors: of each stage of training, sums of squares ``(T, epochs)``, NaN where a
            trial was not trained.
        outputs: inputs ``(M, D)`` and a number of hidden units to outputs ``(T, M, K)``
            above zero for a 1; None where the method keeps no smaller networks.
        seconds: of all trials together.
    """

    rows: Sequence[Mapping[str, Any]]
    errors: Sequence[Tensor] = ()
    outputs: Callable[[Tensor, int | None], Tensor] | None = None
    seconds: float = 0.0


def cascade_trials(
    problem: ClassicProblem, settings: CascadeSettings, seeds: Sequence[int]
) -> Trials:
    """Cascade-correlation on a classic problem; inputs of bits become -0.5 and 0.5."""
    is_bits = set(problem.inputs.unique().tolist()) <= {0.0, 1.0}
    shift = 0.5 if is_bits else 0.0
    start = time.perf_counter()
    result = cascade_correlation(
        problem.inputs - shift, problem.targets - 0.5, settings, seeds=seeds
    )
    seconds = time.perf_counter() - start

    def outputs(inputs: Tensor, units: int | None) -> Tensor:
        return result.network(inputs - shift, units)

    columns = {
        "trial": torch.tensor(list(seeds)),
        "solved": result.solved,
        "hidden_units": result.hidden_units,
        "epochs": result.epochs,
        "depth": result.depth,
        "crossings": result.crossings,
    }
    if problem.test_inputs is not None and problem.test_targets is not None:
        columns["test_accuracy"] = _accuracy(
            outputs(problem.test_inputs, None), problem
        )
    return Trials(_rows(columns), result.errors, outputs, seconds)


def node_creation_trials(
    problem: ClassicProblem, settings: NodeCreationSettings, seeds: Sequence[int]
) -> Trials:
    """Dynamic node creation on a classic problem, with bits of 0 and 1."""
    start = time.perf_counter()
    result = node_creation(problem.inputs, problem.targets, settings, seeds=seeds)
    seconds = time.perf_counter() - start
    columns = {
        "trial": torch.tensor(list(seeds)),
        "solved": result.solved,
        "hidden_units": result.hidden_units,
        "epochs": result.sweeps,
    }
    if problem.test_inputs is not None and problem.test_targets is not None:
        outputs = result.networks(problem.test_inputs) - 0.5
        columns["test_accuracy"] = _accuracy(outputs, problem)
    return Trials(_rows(columns), _stages(result), seconds=seconds)


def _stages(result: NodeCreationResult) -> list[Tensor]:
    """Errors from addition to addition, ``(T, sweeps)`` each, padded with NaN."""
    parts: list[list[Tensor]] = []
    for row, additions in zip(result.errors, result.additions, strict=True):
        errors = row[~row.isnan()]
        ends = [*additions, len(errors)]
        sizes = [b - a for a, b in zip([0, *ends], ends, strict=False)]
        parts.append(list(errors.split(sizes)))
    most = max(map(len, parts))
    none = result.errors.new_empty(0)
    padded = [[*own, *[none] * (most - len(own))] for own in parts]
    return [
        pad_sequence(list(stage), batch_first=True, padding_value=torch.nan)
        for stage in zip(*padded, strict=True)
    ]


def _accuracy(outputs: Tensor, problem: ClassicProblem) -> Tensor:
    """The part of test samples whose outputs ``(..., M, K)`` are all on their side."""
    assert problem.test_targets is not None
    right = (outputs > 0) == (problem.test_targets > 0.5)
    return right.all(-1).double().mean(-1)


def _rows(columns: Mapping[str, Tensor]) -> list[dict[str, Any]]:
    values = [column.tolist() for column in columns.values()]
    return [dict(zip(columns, row, strict=True)) for row in zip(*values, strict=True)]


# Growth method -> the function that runs it on classic problems.
RUNNERS: Mapping[str, Callable[..., Trials]] = {
    "cascade-correlation": cascade_trials,
    "node-creation": node_creation_trials,
}


class TrialStudy:
    """A run folder with one batch of trials, which is one run of the study.

    Args:
        method: a key of :data:`RUNNERS`.
        problem: see :func:`gradnet.data.classic_problem`.
        folder: what is finished there is not done again.
        trials: how many networks are grown, all at once.
        seed: of the first trial; the next ones follow.

    Raises:
        InvalidInputError: the method does not run on classic problems, there is no
            trial, or the folder holds another method, problem or seed.
    """

    def __init__(
        self,
        method: str,
        problem: ClassicProblem,
        folder: str | Path,
        trials: int,
        seed: int = 0,
    ) -> None:
        if trials < 1:
            raise InvalidInputError(f"trials is {trials}; give at least one")
        if method not in RUNNERS:
            raise InvalidInputError(
                f"{method} does not run on classic problems; these do: "
                f"{', '.join(RUNNERS)}"
            )
        self.method, self.problem = method, problem
        self.trials, self.seed = trials, seed
        samples = {
            "name": problem.name,
            "fingerprint": _fingerprint(problem.inputs, problem.targets),
        }
        identity = {
            "problem": samples,
            "study": "trials",
            "method": method,
            "seed": seed,
            "test_fingerprint": _fingerprint(problem.test_inputs, problem.test_targets),
        }
        device = problem.inputs.device
        self.folder = RunFolder(
            folder, identity, hardware(device), where=environment(device)
        )

    def run(self, settings: object) -> Row:
        """Do the trials, unless they are done; write their table.

        Args:
            settings: of the method.

        Returns:
            The row of the batch: a row a trial in ``trials``, and the ``seconds`` of
            all together.

        Raises:
            InvalidInputError: the folder has trials of other settings, or another
                number of them.
            BusyError: another process is at these trials.
        """
        with self.folder.running("trials"):
            return self._run(settings)

    def _run(self, settings: object) -> Row:
        key = RunKey(self.seed, self.method)
        facts = {"number_of_trials": self.trials}
        title = f"{self.method}, {self.problem.name}"
        if not self.folder.is_done(key, settings, facts):
            seeds = range(self.seed, self.seed + self.trials)
            done = RUNNERS[self.method](self.problem, settings, seeds)
            _draw(done, self.problem, self.folder.path, title)
            found = {"seconds": done.seconds, "trials": list(done.rows)}
            self.folder.finish(key, found, settings, facts)
        row = read_result(self.folder.result(key))
        names = ("seconds", "hardware", "versions", "trials")
        write_json(
            self.folder.path / "trials.json", {name: row[name] for name in names}
        )
        write_trials_report(row["trials"], self.folder.path, title)
        return row


def _draw(trials: Trials, problem: ClassicProblem, folder: Path, title: str) -> None:
    """Errors against epochs; of two inputs and one output, maps of the plane too."""
    if trials.errors:
        drawn = range(min(DRAWN_TRIALS, len(trials.rows)))
        save_figure(folder / "errors.png", draw_errors(trials.errors, drawn, title))
    outputs, inputs, targets = trials.outputs, problem.inputs, problem.targets
    if outputs is None or inputs.shape[1] != 2 or targets.shape[1] != 1:
        return
    units = int(trials.rows[0]["hidden_units"])
    count = min(units + 1, MAX_MAPS)
    shown = sorted({round(units * i / max(count - 1, 1)) for i in range(count)})
    figure = draw_decisions(
        lambda points, number: outputs(points, number)[0, :, 0],
        inputs,
        targets[:, 0],
        shown,
    )
    save_figure(folder / "decisions.png", figure)


def _fingerprint(*samples: Tensor | None) -> str:
    """A digest of samples; that of none where there are none."""
    found = hashlib.sha256()
    for tensor in samples:
        if tensor is not None:
            found.update(tensor.cpu().numpy().tobytes())
    return found.hexdigest()[:16]
