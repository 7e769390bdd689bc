"""Text from elsewhere, made safe to show: names of files and tensors, messages.

A terminal carries out the escape codes that it is given, and a Markdown table takes
``|`` and line breaks for its own. So all text that the package did not write itself
goes through one of these functions before it is shown.
"""

import re
import reprlib
from collections.abc import Iterable

MAX_REASON, MAX_MESSAGE = 300, 2000  # characters
# Sentences of other libraries that no message of ours repeats.
_UNSAFE_ADVICE = re.compile(
    r"weights_only|allow_pickle|pickle\.loads?\b|\btrust|\bunsafe", re.IGNORECASE
)
_NUMPY_REFUSAL = re.compile(r" when allow_pickle=False")


def printable(text: str) -> str:
    r"""The text with its control characters escaped; line breaks and tabs stay.

    Example:
        >>> printable("a\x1b[31mb")
        'a\\x1b[31mb'
    """
    if text.isprintable():
        return text
    return "".join(c if c in "\n\t" else _escape(c) for c in text)


def one_line(text: object) -> str:
    r"""A name or a message on one line: line breaks and tabs are escaped as well.

    Example:
        >>> one_line("layer\n1")
        'layer\\n1'
    """
    return "".join(map(_escape, str(text)))


def markdown_cell(text: object) -> str:
    r"""Text for a cell of a Markdown table.

    Example:
        >>> markdown_cell("a|b\n")
        'a\\|b\\n'
    """
    return one_line(text).replace("|", r"\|")


def figure_text(text: object) -> str:
    r"""Text for a figure of matplotlib, which takes ``$`` for mathematics.

    It also leaves what begins with ``_`` out of a legend.

    Example:
        >>> figure_text("cost in $")
        'cost in \\$'
    """
    line = one_line(text).replace("$", r"\$")
    return f" {line}" if line.startswith("_") else line


def reason_of(error: BaseException, whole: bool = False) -> str:
    """The first line of what an error says; its type where it says nothing.

    Advice to switch off a library's protection against pickled code is left out: no
    message of this package gives it.

    Args:
        error: of another library.
        whole: all lines, joined to one.

    Example:
        >>> reason_of(ValueError("It is pickled. You can use pickle.load()."))
        'It is pickled.'
    """
    lines = str(error).split("\n") if whole else str(error).strip().splitlines()[:1]
    text = _NUMPY_REFUSAL.sub("", " ".join(" ".join(lines).split()))
    sentences = re.split(r"(?<=[.!?;]) +", text)
    kept = [s for s in sentences if not _UNSAFE_ADVICE.search(s)]
    limit = MAX_MESSAGE if whole else MAX_REASON
    return one_line(" ".join(kept))[:limit] or type(error).__name__


def shown(value: object) -> str:
    """A value for a message: in one line, printable and short.

    Example:
        >>> shown(list(range(1000)))
        '[0, 1, 2, 3, 4, 5, ...]'
    """
    if isinstance(value, int) and abs(value) >= 10**40:
        return "a number of more than 40 digits"  # which Python may refuse to print
    return one_line(reprlib.repr(value))


def listed(names: Iterable[object], max_names: int = 20) -> str:
    """Names for a message, separated by commas; odd ones as :func:`shown` has them."""
    names = list(names)
    found = [
        name if isinstance(name, str) and name.isprintable() else shown(name)
        for name in names[:max_names]
    ]
    more = len(names) - max_names
    return ", ".join(found) + (f" and {more:,} more" if more > 0 else "")


def _escape(character: str) -> str:
    if character.isprintable():
        return character
    return character.encode("unicode_escape").decode()
