"""Which run of a study: the name of its files, its rows and its lines in the log."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gradnet.core.constraints import Name
from gradnet.core.validation import Level, Seed, Validated


@dataclass(frozen=True)
class RunKey(Validated):
    """Which run of a study: names its files, its rows and its lines in the log.

    >>> key = RunKey(seed=0, method="default", level=0.5)
    >>> str(key)
    'seed 0, level 0.5, default'
    >>> key.path(".json").as_posix()
    'seed-0/level-0.5/default.json'

    Attributes:
        seed: of everything that is random in it.
        method: the row's name; None is the training of a base network.
        level: the accuracy level of the snapshot; None where there is no snapshot.

    Raises:
        InvalidInputError: the name cannot be that of a file in the run folder.
    """

    seed: Seed
    method: Name | None = None
    level: Level | None = None

    @property
    def fields(self) -> dict[str, Any]:
        """The key as the first fields of rows and log records."""
        if self.method is None:
            return {"stage": "base", "seed": self.seed}
        level = {} if self.level is None else {"level": self.level}
        return {"seed": self.seed, **level, "method": self.method}

    def path(self, suffix: str) -> Path:
        """The path of the run's file, relative to the folder of its kind."""
        folder = Path(f"seed-{self.seed}")
        if self.level is not None:
            folder /= f"level-{self.level:g}"
        return folder / f"{self.method or 'base'}{suffix}"

    def __str__(self) -> str:
        if self.method is None:
            return f"base network, seed {self.seed}"
        level = "" if self.level is None else f", level {self.level:g}"
        return f"seed {self.seed}{level}, {self.method}"
