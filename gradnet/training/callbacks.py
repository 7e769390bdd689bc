"""What a training run calls at its evaluations, and where its checkpoint is kept."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class Callbacks:
    """What is called at a run's evaluations, and where its checkpoint is kept.

    A run that resumes at an evaluation, before any further step, repeats the call of
    ``on_evaluation`` for it: what that call did not finish is then done.

    Attributes:
        checkpoint: a file to continue from; written at each evaluation and about once
            a minute, for the caller to remove when the result is safe. None keeps none.
        identity: what this run is; a checkpoint of another run is refused.
        inputs: fingerprints of what it is made from; they count as the identity does,
            but a checkpoint of earlier versions, which does not name them, is valid.
        on_resume: called once, at the start, with the records of the earlier runs; the
            one that the run resumes at is left to ``on_evaluation``.
        on_evaluation: called with the record of each evaluation, before its checkpoint
            is written, while the network has the weights that were evaluated.
        description: for the progress display.
        accept_differences: continue from a checkpoint that another version of torch or
            of gradnet, another number of threads or another device has written.
    """

    checkpoint: Path | None = None
    identity: Mapping[str, Any] = field(default_factory=dict)
    inputs: Mapping[str, Any] = field(default_factory=dict)
    on_resume: Callable[[list[dict[str, float]]], None] = lambda records: None
    on_evaluation: Callable[[dict[str, float]], None] = lambda record: None
    description: str = "training"
    accept_differences: bool = False
