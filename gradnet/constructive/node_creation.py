"""Dynamic node creation (Ash 1989), all trials of a study as one batch of tensors.

T. Ash, Dynamic node creation in backpropagation networks, Connection Science 1(4),
1989. A network with one hidden layer of sigmoid units learns by backpropagation and
gets another unit whenever its error has flattened out. Where the paper leaves it open:
patterns come in the given order, and errors are measured after each sweep. Limits on
units and sweeps are added, so that failing trials end.

Letters: see :mod:`gradnet.constructive.node_networks`; ``T`` trials.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Literal

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from gradnet.constructive.cascade.candidates import uniform
from gradnet.constructive.node_networks import Networks, TrainableNetworks, as_columns
from gradnet.constructive.trial_samples import check_samples
from gradnet.core.constraints import Range
from gradnet.core.reproducibility import make_generator
from gradnet.core.threads import for_each_piece
from gradnet.core.validation import Count, NonNegative, Validated


@dataclass(frozen=True)
class NodeCreationSettings(Validated):
    """How networks learn and when they grow; defaults are the paper's.

    Attributes:
        updates: pattern (weights move after each pattern) or batch (after each sweep,
            by the sum over all patterns).
        learning_rate: multiplies the gradient of half the squared error.
        momentum: fraction of the previous step that is added to the next.
        weight_range: initial weights are uniform in plus or minus this.
        outgoing_range: the same for outgoing weights of added units; 0 preserves the
            function.
        window: number of sweeps over which the fall of the error is measured.
        threshold: grow when the error fell by less than this fraction of the error at
            the last addition.
        mean_error: a trial is solved when the mean squared error per output is at most
            this ...
        largest_error: ... and the largest squared error of any output on any pattern at
            most this.
        max_units: a trial that would exceed this number of hidden units ends unsolved;
            not in the paper.
        max_sweeps: a trial ends unsolved after this many sweeps; not in the paper.
        frozen: freeze the incoming weights of all units but the newest, which the paper
            rejects.
    """

    updates: Literal["pattern", "batch"] = "pattern"
    learning_rate: NonNegative = 0.5
    momentum: Annotated[float, Range(0, below=1)] = 0.9
    weight_range: NonNegative = 0.1666
    outgoing_range: NonNegative = 0.1666
    window: Count = 1000
    threshold: NonNegative = 0.05
    mean_error: NonNegative = 0.001
    largest_error: NonNegative = 0.01
    max_units: Annotated[int, Range(1, 10_000)] = 50
    max_sweeps: Annotated[int, Range(1, 10**7)] = 100_000
    frozen: bool = False


@dataclass(frozen=True)
class NodeCreationResult:
    """Results of all trials.

    Attributes:
        networks: the final networks.
        solved: ``(T,)`` bool. For an unsolved trial, ``hidden_units`` and ``sweeps``
            are only lower bounds.
        hidden_units: final number of hidden units, ``(T,)``.
        sweeps: number of sweeps over all patterns, ``(T,)``.
        additions: for each trial, the sweeps after which a unit was added.
        errors: mean squared error per output before the first sweep and after each one,
            ``(T, sweeps + 1)``; NaN after the end of a trial.
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
    """The paper's trigger: whether the error has flattened out and a unit is due.

    With ``E_t`` the error after sweep ``t``, ``t_0`` the last addition, ``w`` the
    window and ``d`` the threshold: ``(E_{t-w} - E_t) / E_{t_0} < d`` and
    ``t - w >= t_0``.

    Args:
        errors: of all sweeps so far, ``(t + 1, T)``; NaN where a trial has ended.
        added: the row of ``errors`` at the last addition, ``(T,)``; 0 if there was
            none.
        window: number of sweeps over which the decrease is measured; it never starts
            before the last addition.
        threshold: the smallest decrease that counts as progress, as a fraction of the
            error at the last addition.

    Returns:
        True where a unit should be added, ``(T,)``.
    """
    now = len(errors) - 1
    if now < window:
        return torch.zeros_like(added, dtype=torch.bool)
    decrease = errors[now - window] - errors[now]
    is_small = decrease < threshold * errors.gather(0, added[None])[0]
    return is_small & (added <= now - window)


@torch.no_grad()
def node_creation(
    inputs: Tensor,
    targets: Tensor,
    settings: NodeCreationSettings | None = None,
    *,
    seeds: Sequence[int] = (0,),
) -> NodeCreationResult:
    """Grow one network per seed, all in one batch.

    Trials are independent of each other, up to rounding.

    Args:
        inputs: ``(N, D)``; their device and dtype are used throughout.
        targets: ``(N, K)``, 0 or 1.
        settings: see :class:`NodeCreationSettings`.
        seeds: one per trial.

    Returns:
        The trained networks, and how each trial went.

    Raises:
        InvalidInputError: the shapes of the samples do not match, or there are none.

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
    # The operations are too small to gain from several threads.
    for_each_piece(_Run.finish, [run])
    return run.result()


class _Run:
    """The running trials and the results of those that have ended."""

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
        self.networks = TrainableNetworks.without_units(biases, inputs.shape[1])
        self.trials = list(range(len(seeds)))
        self.units, self.sweeps = [0 for _ in seeds], [0 for _ in seeds]
        self.additions: list[list[int]] = [[] for _ in seeds]
        self.solved: set[int] = set()
        self.ended: dict[int, TrainableNetworks] = {}
        for index in self.trials:
            self.add_unit(index, settings.weight_range)
        self.added = torch.zeros(len(seeds), dtype=torch.long, device=inputs.device)
        shape = settings.max_sweeps + 1, len(seeds)
        self.errors = inputs.new_full(shape, torch.nan)

    def finish(self) -> None:
        """Train and grow until every trial has ended."""
        rate, momentum = self.settings.learning_rate, self.settings.momentum
        for sweep in range(self.settings.max_sweeps + 1):
            self.evaluate(sweep)
            if not self.trials:
                return
            for columns, targets in self.batches:
                self.networks.train_step(columns, targets, rate, momentum)

    def evaluate(self, sweep: int) -> None:
        """Measure the errors after a sweep; end trials or add units."""
        settings, trials = self.settings, self.trials
        outputs = self.networks.values(self.columns)[1]
        squares = (outputs - self.targets).square().flatten(1)
        means, largest = squares.mean(1), squares.amax(1)
        self.errors[sweep, trials] = means
        errors = self.errors[: sweep + 1]
        flat = has_flattened(errors, self.added, settings.window, settings.threshold)
        is_solved = (means <= settings.mean_error) & (largest <= settings.largest_error)
        solved = {trials[index] for index in is_solved.nonzero()[:, 0].tolist()}
        grows = set(flat.nonzero()[:, 0].tolist()) - solved
        is_last = sweep == settings.max_sweeps
        self.solved |= solved
        for index, trial in enumerate(trials):
            is_full = trial in grows and self.units[trial] == settings.max_units
            if is_last or is_full or trial in solved:
                self.end(index, sweep)
            elif trial in grows:
                self.add_unit(index, settings.outgoing_range)
                self.additions[trial].append(sweep)
                self.added[trial] = sweep
        running = [i for i, trial in enumerate(trials) if trial not in self.ended]
        if len(running) < len(trials):
            self.trials = [trials[index] for index in running]
            self.networks = self.networks.map(lambda values: values[running])

    def add_unit(self, index: int, outgoing_range: float) -> None:
        """Add a hidden unit to a network.

        Args:
            index: of the network in the batch.
            outgoing_range: its outgoing weights are uniform in plus or minus this.
        """
        trial = self.trials[index]
        self.units[trial] = unit = self.units[trial] + 1
        if unit == self.networks.scale.shape[1]:
            self.networks = self.networks.padded()
        generator = make_generator("node creation", self.seeds[trial], unit)
        weights = (
            uniform((len(self.columns),), self.settings.weight_range, generator),
            uniform((len(self.targets),), outgoing_range, generator),
        )
        self.networks.set_unit(index, unit, weights, self.settings.frozen)

    def end(self, index: int, sweep: int) -> None:
        """End a trial and store its network."""
        trial = self.trials[index]
        self.sweeps[trial] = sweep
        size = 1 + self.units[trial]
        self.ended[trial] = self.networks.map(lambda values: values[index, :size])

    def result(self) -> NodeCreationResult:
        """The results, once every trial has ended."""
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
