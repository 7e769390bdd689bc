"""Many trials of a method on a classic problem, all in one batch of tensors."""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
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
from gradnet.data.toy_problems import ClassicProblem


@dataclass(frozen=True)
class Trials:
    """What the trials of a study came to.

    Attributes:
        rows: one a trial: ``trial``, ``solved``, ``hidden_units``, ``epochs``, and what
            the method has to say besides.
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
    """Dynamic node creation on a classic problem, of bits as they are."""
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


@dataclass(frozen=True)
class TrialSettings:
    """Which problem, and how often.

    Attributes:
        data: xor, parity-N, symmetry-N, encoder-N, addition-N, two-spirals, or monks-1
            to monks-3.
        trials: networks that are grown, all at once.
        seed: of the first trial; the next ones follow.
        out: the folder for table and pictures; default: runs/ and the names of method
            and problem.
    """

    data: str = "two-spirals"
    trials: int = 10
    seed: int = 0
    out: str | None = None
