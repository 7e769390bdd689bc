"""Progress with rate and time left: a bar on a terminal, log lines elsewhere."""

import logging
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from typing import TYPE_CHECKING

from gradnet.core.text import one_line

if TYPE_CHECKING:
    from rich.console import Console

logger = logging.getLogger("gradnet")

SECONDS_BETWEEN_LINES = 15.0


@cache
def make_console() -> "Console":
    """The console of bars and log lines; one, so that neither overwrites the other."""
    from rich.console import Console

    # Bars are made of escape codes; all else on standard error is rid of them.
    return Console(file=getattr(sys.stderr, "unescaped", sys.stderr))


@contextmanager
def progress(
    description: str, total: int, unit: str = "steps", done: int = 0
) -> Iterator[Callable[[int], None]]:
    """Show the progress of a loop.

    Nothing is shown unless the level of the ``gradnet`` logger is INFO or lower, as it
    is on the command line.

    Args:
        description: what the loop does, in a few words.
        total: number of units.
        unit: what is counted.
        done: units done before, in an earlier run.

    Yields:
        A function to call with the number of units just done.
    """
    description = one_line(description)
    if not logger.isEnabledFor(logging.INFO):
        yield lambda count: None
    elif sys.stderr.isatty():
        with _bar(description, total, unit, done) as advance:
            yield advance
    else:
        yield _Lines(description, total, unit, done).advance


@contextmanager
def _bar(
    description: str, total: int, unit: str, done: int
) -> Iterator[Callable[[int], None]]:
    from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

    start = time.monotonic()
    bar = Progress(
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        TextColumn("{task.completed}/{task.total} {task.fields[rate]}", markup=False),
        TimeRemainingColumn(),
        console=make_console(),
        transient=True,
    )
    with bar:
        task = bar.add_task(description, total=total, completed=done, rate="")
        here = 0

        def advance(count: int) -> None:
            nonlocal here
            here += count
            rate = here / max(time.monotonic() - start, 1e-9)
            bar.update(task, advance=count, rate=f"{unit}, {rate:.1f}/s")

        yield advance


class _Lines:
    def __init__(self, description: str, total: int, unit: str, done: int) -> None:
        self.description, self.total, self.unit = description, total, unit
        self.done, self.here = done, 0
        self.start = self.last = time.monotonic()

    def advance(self, count: int) -> None:
        self.done += count
        self.here += count
        now = time.monotonic()
        if now - self.last < SECONDS_BETWEEN_LINES or not self.here:
            return
        self.last = now
        rate = self.here / (now - self.start)
        left = (self.total - self.done) / rate
        logger.info(
            "%s: %d of %d %s, %.1f/s, at most %s left",
            self.description,
            self.done,
            self.total,
            self.unit,
            rate,
            readable_seconds(left),
        )


def readable_seconds(seconds: float) -> str:
    """A duration as text in seconds, minutes or hours."""
    if seconds < 120:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"
