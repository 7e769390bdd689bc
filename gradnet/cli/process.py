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

from gradnet.errors import GradnetError

SIGNALS = ("SIGTERM", "SIGHUP")
MAX_LINE = 2000


class _Stopped(KeyboardInterrupt):
    """A signal other than Ctrl-C asks the process to end."""

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.number = number


@contextmanager
def one_line_per_failure(arguments: Sequence[str]) -> Iterator[None]:
    """End the process by :func:`sys.exit` with a line on standard error.

    Args:
        arguments: of the command, for the report of an unforeseen error.
    """
    _prepare_streams()
    try:
        with _signals_as_exceptions():
            yield
            sys.stdout.flush()
    except BrokenPipeError:
        _discard_output()
        sys.exit(0)
    except (GradnetError, OSError) as error:
        _end(f"gradnet: error: {_first_lines(error)}", 2)
    except MemoryError as error:
        _end(f"gradnet: error: not enough memory: {_first_lines(error)}", 2)
    except _Stopped as stopped:
        name = signal.Signals(stopped.number).name
        _end(f"\nstopped by {name}; the same command continues", 128 + stopped.number)
    except KeyboardInterrupt:
        _end("\nstopped; the same command continues", 130)
    except Exception as error:
        report = _write_report(error, arguments)
        kind = type(error).__name__
        _end(
            f"gradnet: unexpected error: {kind}: {_first_lines(error)}\n"
            f"This is a defect of gradnet. The report is in {report}",
            1,
        )


def printable(text: str) -> str:
    r"""The text with its control characters escaped; line breaks and tabs stay.

    Names come from files, and a terminal would carry out what they contain.

    Example:
        >>> printable("a\x1b[31mb")
        'a\\x1b[31mb'
    """
    return "".join(
        c if c.isprintable() or c in "\n\t" else c.encode("unicode_escape").decode()
        for c in text
    )


def _first_lines(error: BaseException) -> str:
    text = str(error).strip() or type(error).__name__
    return text if len(text) <= MAX_LINE else f"{text[:MAX_LINE]} ..."


def _end(message: str, status: int) -> NoReturn:
    # Standard error may be closed, or be the broken pipe itself.
    with suppress(OSError, ValueError, AttributeError):
        print(printable(message), file=sys.stderr, flush=True)
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
def _signals_as_exceptions() -> Iterator[None]:
    """SIGTERM and SIGHUP end the process as Ctrl-C does, so that it can be resumed."""

    def stop(number: int, frame: FrameType | None) -> None:
        raise _Stopped(number)

    before = {}
    for name in SIGNALS:
        number = getattr(signal, name, None)
        # Only the main thread may; under nohup a hangup stays ignored.
        with suppress(ValueError):
            if number and signal.getsignal(number) == signal.SIG_DFL:
                before[number] = signal.signal(number, stop)
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _prepare_streams() -> None:
    """Show escapes where a stream cannot encode a character; replace closed streams."""
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        if stream is None:  # the process was started with it closed
            setattr(sys, name, open(os.devnull, "w", encoding="utf-8"))
        elif hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")


def _discard_output() -> None:
    """Nobody reads on: keep Python from failing again when it closes the stream."""
    with suppress(OSError, ValueError, AttributeError):
        null = os.open(os.devnull, os.O_WRONLY)
        os.dup2(null, sys.stdout.fileno())
