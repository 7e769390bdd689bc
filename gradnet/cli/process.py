"""How the process of a command ends: one line, an exit status, no traceback.

| cause | exit status |
|---|---|
| the command is done, also when the reader of its output has gone | 0 |
| an error that nobody foresaw; its traceback is in a report file | 1 |
| invalid input or a damaged file | 2 |
| Ctrl-C, SIGTERM, SIGHUP: the same command continues | 128 and the signal's number |
"""

import os
import signal
import sys
import tempfile
import time
import traceback
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from types import FrameType
from typing import NoReturn

from gradnet.cli.streams import safe_streams
from gradnet.core.text import one_line, reason_of
from gradnet.errors import GradnetError

SIGNALS = ("SIGINT", "SIGTERM", "SIGHUP")
DEFAULTS = (signal.SIG_DFL, signal.default_int_handler)
MAX_LINE = 2000


class _Stopped(KeyboardInterrupt):
    """A signal asks the process to end."""

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.number = number


@contextmanager
def one_line_per_failure(arguments: Sequence[str]) -> Iterator[None]:
    """End the process by :func:`sys.exit` with a line on standard error.

    Args:
        arguments: of the command, for the report of an unforeseen error.
    """
    with safe_streams():
        yield from _ending(arguments)


def _ending(arguments: Sequence[str]) -> Iterator[None]:
    received: list[int] = []
    try:
        with _signals_as_exceptions(received):
            yield
            sys.stdout.flush()
    except (Exception, KeyboardInterrupt) as error:
        # Some libraries turn the exception of a signal into one of their own.
        if received or isinstance(error, KeyboardInterrupt):
            _end_by_signal(received[0] if received else signal.SIGINT)
        _end_by_error(error, arguments)


def _end_by_signal(number: int) -> NoReturn:
    by = "" if number == signal.SIGINT else f" by {signal.Signals(number).name}"
    _end(f"\nstopped{by}; the same command continues", 128 + number)


def _end_by_error(error: BaseException, arguments: Sequence[str]) -> NoReturn:
    message = _shortened(str(error))
    if isinstance(error, GradnetError | OSError):
        _end(f"gradnet: error: {message}", 2)
    if isinstance(error, MemoryError):
        _end(f"gradnet: error: not enough memory: {message}", 2)
    report = _write_report(error, arguments)
    kind, reason = type(error).__name__, _shortened(reason_of(error))
    _end(
        f"gradnet: unexpected error: {kind}: {reason}\n"
        f"This is a defect of gradnet. The report is in {report}",
        1,
    )


def _shortened(text: str) -> str:
    """A message on one line, whatever names it contains."""
    line = one_line(" ".join(text.split())) or "without a message"
    return line if len(line) <= MAX_LINE else f"{line[:MAX_LINE]} ..."


def _end(message: str, status: int) -> NoReturn:
    # Standard error may be closed, or be the broken pipe itself.
    with suppress(OSError, ValueError, AttributeError):
        print(message, file=sys.stderr, flush=True)
    sys.exit(status)


def _write_report(error: BaseException, arguments: Sequence[str]) -> str:
    lines = [
        f"command: gradnet {' '.join(arguments)}",
        f"python: {sys.version}",
        f"platform: {sys.platform}",
        "",
        *traceback.format_exception(error),
    ]
    prefix = time.strftime("gradnet-report-%Y%m%d-%H%M%S-")
    try:
        number, path = tempfile.mkstemp(".txt", prefix)
        with os.fdopen(number, "w", encoding="utf-8", errors="backslashreplace") as f:
            f.write("\n".join(lines))
    except OSError as failure:
        return f"no file ({failure})"
    return path


@contextmanager
def _signals_as_exceptions(received: list[int]) -> Iterator[None]:
    """SIGTERM and SIGHUP end the process as Ctrl-C does, so that it can be resumed."""

    def stop(number: int, frame: FrameType | None) -> None:
        received.append(number)
        raise _Stopped(number)

    before = {}
    for name in SIGNALS:
        number = getattr(signal, name, None)
        # Only the main thread may; under nohup a hangup stays ignored.
        with suppress(ValueError):
            if number and signal.getsignal(number) in DEFAULTS:
                before[number] = signal.signal(number, stop)
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
