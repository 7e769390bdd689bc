"""Standard output and error that no text can break, and that outlive their reader."""

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any, TextIO, cast

from gradnet.core.text import printable


class SafeStream:
    """A text stream that escapes control characters and outlives its reader.

    Names come from files, and a terminal would carry out what they contain. Where the
    reader of a pipe has gone, the work goes on, and what is written is dropped.

    Args:
        raw: the stream that is written to.
        name: for messages.

    Attributes:
        unescaped: the stream below, for what writes its own escape codes.
    """

    def __init__(self, raw: TextIO, name: str) -> None:
        self.unescaped, self.name = raw, name

    def write(self, text: str) -> int:
        """Write a text, with its control characters escaped."""
        with self._outliving():
            self.unescaped.write(printable(text))
        return len(text)

    def flush(self) -> None:
        """Flush the stream below."""
        with self._outliving():
            self.unescaped.flush()

    def __getattr__(self, name: str) -> Any:
        return getattr(self.unescaped, name)

    @contextmanager
    def _outliving(self) -> Iterator[None]:
        try:
            yield
        except BrokenPipeError:
            # Its buffer still holds the text, and Python writes it again at exit.
            with suppress(OSError, ValueError, AttributeError):
                null = os.open(os.devnull, os.O_WRONLY)
                os.dup2(null, self.unescaped.fileno())
                os.close(null)
        except OSError as error:
            if error.errno is None:
                raise
            raise OSError(error.errno, error.strerror, self.name) from None


@contextmanager
def safe_streams() -> Iterator[None]:
    """Replace ``sys.stdout`` and ``sys.stderr`` by safe ones until the block ends."""
    before = {name: getattr(sys, name) for name in ("stdout", "stderr")}
    for name, stream in before.items():
        if stream is None:  # the process was started with it closed
            stream = open(os.devnull, "w", encoding="utf-8")
        elif hasattr(stream, "reconfigure"):
            # Show an escape where it cannot encode a character.
            stream.reconfigure(errors="backslashreplace")
        setattr(sys, name, cast(TextIO, SafeStream(stream, f"<{name}>")))
    try:
        yield
    finally:
        # Else Python does it at exit, where a reader that has gone is an error.
        with suppress(OSError, ValueError):
            sys.stdout.flush()
        for name, stream in before.items():
            setattr(sys, name, stream)
