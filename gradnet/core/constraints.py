"""What the value of a setting may be, besides its type: range, length, form of a name.

They stand in ``typing.Annotated``; their text is what a message and a help text say.
"""

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Annotated, Any

LONGEST_NAME = 200


class Constraint(ABC):
    """Base class: a test of a value of the right type, with its description."""

    @abstractmethod
    def allows(self, value: Any) -> bool:
        """Whether the value is allowed."""

    def __repr__(self) -> str:
        return str(self)


@dataclass(frozen=True, repr=False)
class Range(Constraint):
    """A range of finite numbers.

    Attributes:
        at_least: the least number.
        at_most: the largest.
        above: numbers are larger than this.
        below: numbers are smaller than this.

    Example:
        >>> Range(above=0, at_most=1)
        > 0 and <= 1
    """

    at_least: float | None = None
    at_most: float | None = None
    above: float | None = None
    below: float | None = None

    def allows(self, value: Any) -> bool:
        """Whether the number lies in the range."""
        return (
            is_finite(value)
            and (self.at_least is None or value >= self.at_least)
            and (self.at_most is None or value <= self.at_most)
            and (self.above is None or value > self.above)
            and (self.below is None or value < self.below)
        )

    def __str__(self) -> str:
        bounds = (
            (">", self.above),
            (">=", self.at_least),
            ("<", self.below),
            ("<=", self.at_most),
        )
        found = [f"{sign} {_readable(b)}" for sign, b in bounds if b is not None]
        return " and ".join(found)


@dataclass(frozen=True, repr=False)
class Length(Constraint):
    """The number of items of a list.

    Example:
        >>> Length(1, 8)
        of 1 to 8 items
    """

    at_least: int
    at_most: int

    def allows(self, value: Any) -> bool:
        """Whether the list has so many items."""
        return self.at_least <= len(value) <= self.at_most

    def __str__(self) -> str:
        return f"of {self.at_least} to {_readable(self.at_most)} items"


@dataclass(frozen=True, repr=False)
class NotEmpty(Constraint):
    """Text with at least one character that is no space."""

    def allows(self, value: Any) -> bool:
        """Whether there is one."""
        return bool(value.strip())

    def __str__(self) -> str:
        return "of at least one character"


@dataclass(frozen=True, repr=False)
class FileName(Constraint):
    """A name that becomes a part of paths, and stays inside the folder.

    Example:
        >>> FileName().allows("wide"), FileName().allows("../wide")
        (True, False)
    """

    def allows(self, value: Any) -> bool:
        """Whether the name has no separator, and is neither empty nor hidden."""
        return (
            bool(value)
            and value == value.strip()
            and value.isprintable()
            and not value.startswith(".")
            and not {"/", "\\"} & set(value)
            and len(value.encode()) <= LONGEST_NAME
        )

    def __str__(self) -> str:
        return f"a file name: no / or \\, no dot first, at most {LONGEST_NAME} bytes"


Name = Annotated[str, FileName()]
PathText = Annotated[str, NotEmpty()]


def is_finite(value: float) -> bool:
    """Whether a number, of any size, is neither infinite nor NaN."""
    return isinstance(value, int) or math.isfinite(value)


def _readable(bound: float) -> str:
    """A bound in few characters: 10^9, 2^63 - 1, 0.5."""
    if bound == 2**63 - 1:
        return "2^63 - 1"
    power = round(math.log10(bound)) if bound > 0 else 0
    if power >= 5 and bound == 10**power:
        return f"10^{power}"
    return f"{bound:g}" if isinstance(bound, float) else str(bound)
