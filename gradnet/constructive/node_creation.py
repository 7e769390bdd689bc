"""Dynamic node creation (Ash 1989), all trials of a study as one batch of tensors.

One hidden layer of sigmoid units learns by backpropagation, and gets another unit
whenever its error has flattened out. Where the paper leaves it open: patterns come in
the order given, and errors are those of the network as it is after a sweep.

Letters: see :mod:`gradnet.constructive.node_networks`; ``T`` trials.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from gradnet.constructive.cascade.candidates import uniform
from gradnet.constructive.node_networks import Learners, Networks, as_columns
from gradnet.constructive.trial_samples import check_samples
from gradnet.core.reproducibility import make_generator
from gradnet.core.threads import for_each_piece
from gradnet.core.validation import check_minimum
from gradnet.errors import InvalidInputError


@dataclass(frozen=True)
class NodeCreationSettings:
    """How networks learn and when they grow; defaults are the paper's.

    Attributes:
        updates: pattern (weights move after each pattern) or batch (after each sweep,
            by the sum over all patterns).
        learning_rate: times the gradient of half the squared error.
        momentum: part of a weight's last step that is added to the next.
        weight_range: weights start uniform between minus and plus it.
        outgoing_range: the same, of the outgoing weights of units that are added; 0
            leaves the function unchanged.
        window: sweeps over which the error must fall.
        threshold: grow when it fell by less than this part of the error at the last
            addition.
        mean_error: solved when the mean squared error of an output is at most this,
        largest_error: and the largest one, of any output on any pattern, at most this.
        max_units: a network of so many that would grow is given up; ours.
        max_sweeps: the same after so many; ours.
        frozen: the incoming weights of all units but the newest stay unchanged; the
            paper rejects that.
    """

    updates: Literal["pattern", "batch"] = "pattern"
    learning_rate: float = 0.5
    momentum: float = 0.9
    weight_range: float = 0.1666
    outgoing_range: float = 0.1666
    window: int = 1000
    threshold: float = 0.05
    mean_error: float = 0.001
    largest_error: float = 0.01
    max_units: int = 50
    max_sweeps: int = 100_000
    frozen: bool = False

    def __post_init__(self) -> None:
        """Validate the fields.

        Raises:
            InvalidInputError: a number is too small, or updates of an unknown kind.
        """
        check_minimum(self, window=1, max_units=1, max_sweeps=1)
        if self.updates not in ("pattern", "batch"):
            raise InvalidInputError(
                f"updates is {self.updates!r}; give pattern or batch"
            )


@dataclass(frozen=True)
class NodeCreationResult:
    """What the trials came to.

    Attributes:
        networks: as they were when their trials ended.
        solved: ``(T,)``; the numbers of a trial that is not are those at which it was
            given up: lower bounds.
        hidden_units: ``(T,)``.
        sweeps: ``(T,)``.
        additions: of each trial, the sweeps after which a unit was added.
        errors: mean squared errors of an output, before the first sweep and after each,
            ``(T, sweeps + 1)``, NaN after a trial's end.
    """

    networks: Networks
    solved: Tensor
    hidden_units: Tensor
    sweeps: Tensor
    additions: Sequence[Sequence[int]]
    errors: Tensor


def has_flattened(
    errors: Tensor, added: Tensor, window: int, threshold: float
) -> Tensor:
    """The paper's rule: whether it is time to add a unit.

    Args:
        errors: so far, ``(t + 1, T)``; NaN where a trial is over.
        added: where in them the last unit was added, ``(T,)``; 0 where none was.
        window: the error must fall from so long ago to now; it never begins before the
            last addition.
        threshold: by this part of the error at the last addition, at least.

    Returns:
        True where it did not, ``(T,)``.
    """
    now = len(errors) - 1
    if now < window:
        return torch.zeros_like(added, dtype=torch.bool)
    fall = errors[now - window] - errors[now]
    is_small = fall < threshold * errors.gather(0, added[None])[0]
    return is_small & (added <= now - window)


@torch.no_grad()
def node_creation(
    inputs: Tensor,
    targets: Tensor,
    settings: NodeCreationSettings | None = None,
    *,
    seeds: Sequence[int] = (0,),
) -> NodeCreationResult:
    """Grow one network for each seed, all at once.

    A trial is independent of the others, up to rounding.

    Args:
        inputs: ``(N, D)``; its device and type are those of all that is computed.
        targets: ``(N, K)``, 0 or 1.
        settings: see :class:`NodeCreationSettings`.
        seeds: of the trials.

    Raises:
        InvalidInputError: the samples do not fit each other, or there are none.

    Example:
        >>> import torch
        >>> inputs = torch.tensor([[0.0], [1.0]])
        >>> settings = NodeCreationSettings(max_units=2, max_sweeps=100)
        >>> result = node_creation(inputs, 1 - inputs, settings, seeds=[0, 1])
        >>> result.solved
        tensor([False, False])
    """
    check_samples(inputs, targets, seeds)
    run = _Run(inputs, targets, settings or NodeCreationSettings(), seeds)
    # The operations are far too short to be divided among cores.
    for_each_piece(_Run.finish, [run])
    return run.result()


class _Run:
    """The trials that are still running, and what became of the others."""

    def __init__(
        self,
        inputs: Tensor,
        targets: Tensor,
        settings: NodeCreationSettings,
        seeds: Sequence[int],
    ) -> None:
        self.settings, self.seeds = settings, seeds
        self.columns, self.targets = as_columns(inputs), targets.mT.to(inputs)
        size = len(inputs) if settings.updates == "batch" else 1
        self.batches = [
            (self.columns[:, batch].contiguous(), self.targets[:, batch].contiguous())
            for batch in torch.arange(len(inputs)).split(size)
        ]
        draws = [
            uniform(
                targets.shape[1:],
                settings.weight_range,
                make_generator("node creation", seed, 0),
            )
            for seed in seeds
        ]
        biases = torch.stack(draws).to(inputs)
        self.learners = Learners.without_units(biases, inputs.shape[1])
        self.trials = list(range(len(seeds)))
        self.units, self.sweeps = [0 for _ in seeds], [0 for _ in seeds]
        self.additions: list[list[int]] = [[] for _ in seeds]
        self.solved: set[int] = set()
        self.ended: dict[int, Learners] = {}
        for place in self.trials:
            self.add_unit(place, settings.weight_range)
        self.added = torch.zeros(len(seeds), dtype=torch.long, device=inputs.device)
        shape = settings.max_sweeps + 1, len(seeds)
        self.errors = inputs.new_full(shape, torch.nan)

    def finish(self) -> None:
        """Sweep and grow until no trial is left."""
        rate, momentum = self.settings.learning_rate, self.settings.momentum
        for sweep in range(self.settings.max_sweeps + 1):
            self.judge(sweep)
            if not self.trials:
                return
            for columns, targets in self.batches:
                self.learners.learn(columns, targets, rate, momentum)

    def judge(self, sweep: int) -> None:
        """Measure errors after a sweep; end trials, or let them grow."""
        settings, trials = self.settings, self.trials
        outputs = self.learners.values(self.columns)[1]
        squares = (outputs - self.targets).square().flatten(1)
        means, largest = squares.mean(1), squares.amax(1)
        self.errors[sweep, trials] = means
        errors = self.errors[: sweep + 1]
        flat = has_flattened(errors, self.added, settings.window, settings.threshold)
        good = (means <= settings.mean_error) & (largest <= settings.largest_error)
        solved = {trials[place] for place in good.nonzero()[:, 0].tolist()}
        grows = set(flat.nonzero()[:, 0].tolist()) - solved
        is_last = sweep == settings.max_sweeps
        self.solved |= solved
        for place, trial in enumerate(trials):
            is_full = trial in grows and self.units[trial] == settings.max_units
            if is_last or is_full or trial in solved:
                self.end(place, sweep)
            elif trial in grows:
                self.add_unit(place, settings.outgoing_range)
                self.additions[trial].append(sweep)
                self.added[trial] = sweep
        left = [place for place, trial in enumerate(trials) if trial not in self.ended]
        if len(left) < len(trials):
            self.trials = [trials[place] for place in left]
            self.learners = self.learners.each(lambda values: values[left])

    def add_unit(self, place: int, outgoing_range: float) -> None:
        """Give a network another hidden unit.

        Args:
            place: of the network in the batch.
            outgoing_range: of its outgoing weights.
        """
        trial = self.trials[place]
        self.units[trial] = unit = self.units[trial] + 1
        if unit == self.learners.scale.shape[1]:
            self.learners = self.learners.with_room()
        generator = make_generator("node creation", self.seeds[trial], unit)
        weights = (
            uniform((len(self.columns),), self.settings.weight_range, generator),
            uniform((len(self.targets),), outgoing_range, generator),
        )
        self.learners.put(place, unit, weights, self.settings.frozen)

    def end(self, place: int, sweep: int) -> None:
        """Keep a network as it is now."""
        trial = self.trials[place]
        self.sweeps[trial] = sweep
        size = 1 + self.units[trial]
        self.ended[trial] = self.learners.each(lambda values: values[place, :size])

    def result(self) -> NodeCreationResult:
        """What all trials came to, when they are over."""
        ended = [self.ended[trial] for trial in range(len(self.seeds))]
        networks = Networks(
            pad_sequence([trial.incoming for trial in ended], batch_first=True),
            pad_sequence([trial.outgoing for trial in ended], batch_first=True),
            pad_sequence([trial.scale for trial in ended], batch_first=True),
        )
        return NodeCreationResult(
            networks,
            torch.tensor([t in self.solved for t in range(len(self.seeds))]),
            torch.tensor(self.units),
            torch.tensor(self.sweeps),
            self.additions,
            self.errors[: max(self.sweeps) + 1].mT,
        )
