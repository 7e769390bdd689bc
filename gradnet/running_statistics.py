"""Mean, spread and range of coordinates in one pass, from parts that merge."""

from collections.abc import Mapping

import torch
from torch import Tensor

from gradnet.errors import GradnetError


class RunningStatistics:
    """Statistics of ``D`` coordinates over rows that are seen once.

    Parts fitted apart merge to the statistics of the whole, by the pairwise update of
    Chan, Golub and LeVeque (1983). Sums are kept in float64.

    Attributes:
        count: rows seen.
        mean: ``(D,)``.
        squares: ``(D,)``, the sum of squared deviations from the mean.
        minimum: ``(D,)``.
        maximum: ``(D,)``.
    """

    def __init__(self) -> None:
        self.count = 0
        self.mean = self.squares = torch.zeros((), dtype=torch.float64)
        self.minimum = self.maximum = torch.zeros(())

    def update(self, rows: Tensor) -> "RunningStatistics":
        """Take in rows ``(..., D)``.

        Raises:
            GradnetError: ``D`` is not that of the earlier rows.
        """
        rows = rows.detach().flatten(0, -2)
        if not len(rows):
            return self
        part = RunningStatistics()
        part.count = len(rows)
        mean = rows.mean(0, dtype=torch.float64)
        part.mean = mean
        # Two passes over one batch: cheaper than float64 rows, and no cancellation.
        deviations = rows - mean.to(rows.dtype)
        sums = deviations.sum(0, dtype=torch.float64)
        part.squares = (deviations**2).sum(0, dtype=torch.float64)
        part.squares -= sums**2 / part.count
        part.squares.clamp_min_(0)
        part.minimum, part.maximum = rows.aminmax(dim=0)
        return self.merge(part)

    def merge(self, other: "RunningStatistics") -> "RunningStatistics":
        """Take in what another has seen.

        Raises:
            GradnetError: the two have different numbers of coordinates.
        """
        if not other.count:
            return self
        if not self.count:
            vars(self).update(vars(other))
            return self
        if self.mean.shape != other.mean.shape:
            raise GradnetError(
                f"statistics of {len(self.mean)} coordinates cannot take in "
                f"{len(other.mean)}; were both made with the same layers?"
            )
        count = self.count + other.count
        difference = other.mean - self.mean
        self.mean = self.mean + difference * (other.count / count)
        self.squares = (
            self.squares
            + other.squares
            + difference**2 * (self.count * other.count / count)
        )
        self.minimum = torch.minimum(self.minimum, other.minimum)
        self.maximum = torch.maximum(self.maximum, other.maximum)
        self.count = count
        return self

    @property
    def deviation(self) -> Tensor:
        """Standard deviation ``(D,)``, without Bessel's correction."""
        deviation = (self.squares / max(self.count, 1)).sqrt()
        # Of equal rows it is zero, not what rounding left of their mean.
        return torch.where(self.maximum > self.minimum, deviation, 0)

    @property
    def max_abs(self) -> Tensor:
        """Largest magnitude ``(D,)``."""
        return torch.maximum(self.minimum.abs(), self.maximum.abs())

    def state_dict(self) -> dict[str, Tensor]:
        """Tensors that :meth:`from_state_dict` reads."""
        return {
            "count": torch.tensor(self.count),
            "mean": self.mean,
            "squares": self.squares,
            "minimum": self.minimum,
            "maximum": self.maximum,
        }

    @classmethod
    def from_state_dict(cls, state: Mapping[str, Tensor]) -> "RunningStatistics":
        """The statistics that :meth:`state_dict` wrote."""
        statistics = cls()
        vars(statistics).update(state)
        statistics.count = int(state["count"])
        return statistics
