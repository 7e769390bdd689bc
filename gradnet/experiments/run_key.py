"""Which run of a study: the name of its files, its rows and its lines in the log."""

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gradnet.errors import InvalidInputError

# Files add a suffix, and most file systems take 255 bytes.
LONGEST_NAME = 180


@dataclass(frozen=True)
class RunKey:
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

    seed: int
    method: str | None = None
    level: float | None = None

    def __post_init__(self) -> None:
        """Check that the row's name stays in the run folder."""
        name = self.method
        if name is None:
            return
        is_path = name in ("", ".", "..") or "/" in name or os.sep in name
        if is_path or not name.isprintable() or len(name.encode()) > LONGEST_NAME:
            raise InvalidInputError(
                f"the name {name[:LONGEST_NAME]!r} cannot be that of a row: it names "
                "files, so it takes printable characters without /, at most "
                f"{LONGEST_NAME} bytes"
            )

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
