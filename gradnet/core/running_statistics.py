"""Mean, standard deviation and range of coordinates in one pass over the rows."""

from collections.abc import Mapping

import torch
from torch import Tensor

from gradnet.core.threads import for_each_piece
from gradnet.errors import InvalidInputError

# Columns are processed in pieces of so many bytes in float64, which fit the cache.
PIECE_BYTES = 2e6


class RunningStatistics:
    """Statistics of ``D`` coordinates over rows that are seen once.

    Statistics of disjoint parts merge exactly, by the pairwise update of Chan, Golub
    and LeVeque (1983). Sums are kept in float64.

    Attributes:
        count: rows seen.
        mean: ``(D,)``.
        squares: ``(D,)``, the sum of squared deviations from the mean.
        minimum: ``(D,)``.
        maximum: ``(D,)``.

    Example:
        >>> rows = torch.tensor([[1.0, 5.0], [3.0, 5.0]])
        >>> statistics = RunningStatistics().update(rows)
        >>> statistics.mean, statistics.deviation
        (tensor([2., 5.], dtype=torch.float64), tensor([1., 0.], dtype=torch.float64))
    """

    def __init__(self) -> None:
        self.count = 0
        self.mean = self.squares = torch.zeros((), dtype=torch.float64)
        self.minimum = self.maximum = torch.zeros(())

    def update(self, rows: Tensor) -> "RunningStatistics":
        """Add rows ``(..., D)``.

        Raises:
            InvalidInputError: ``D`` is not that of the earlier rows.
        """
        rows = rows.detach().flatten(0, -2)
        if not len(rows):
            return self
        size = rows.shape[1]
        part = RunningStatistics()
        part.count = len(rows)
        part.mean, part.squares = rows.new_empty(2, size, dtype=torch.float64)
        part.minimum, part.maximum = rows.new_empty(2, size)

        def update_columns(start: int) -> None:
            piece = slice(start, start + width)
            columns = rows[:, piece]
            # Two passes over one batch: no cancellation. amin and amax together take a
            # fifth of the time of aminmax.
            deviations = columns.to(torch.float64, copy=True)
            mean = deviations.mean(0)
            part.mean[piece] = mean
            part.squares[piece] = deviations.sub_(mean).square_().sum(0)
            part.minimum[piece] = columns.amin(0)
            part.maximum[piece] = columns.amax(0)

        is_cpu = rows.device.type == "cpu"
        width = max(1, int(PIECE_BYTES / (8 * len(rows)))) if is_cpu else size
        for_each_piece(update_columns, range(0, size, width))
        return self.merge(part)

    def merge(self, other: "RunningStatistics") -> "RunningStatistics":
        """Add the rows that another has seen.

        Raises:
            InvalidInputError: the two have different numbers of coordinates.
        """
        if not other.count:
            return self
        if not self.count:
            vars(self).update(vars(other))
            return self
        if self.mean.shape != other.mean.shape:
            raise InvalidInputError(
                f"statistics of {len(self.mean)} coordinates cannot be merged with "
                f"those of {len(other.mean)}; were both made with the same layers?"
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
        # Exactly zero for equal rows, whatever rounding left in their mean.
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
