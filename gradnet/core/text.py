"""Text from elsewhere, made safe to show: names of files and tensors, messages.

A terminal carries out the escape codes that it is given, and a Markdown table takes
``|`` and line breaks for its own. So all text that the package did not write itself
goes through one of these functions before it is shown.
"""

import re

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


def reason_of(error: BaseException) -> str:
    """The first line of what an error says; its type where it says nothing.

    Advice to switch off a library's protection against pickled code is left out: no
    message of this package gives it.

    Example:
        >>> reason_of(ValueError("It is pickled. You can use pickle.load()."))
        'It is pickled.'
    """
    lines = str(error).strip().splitlines()
    first = _NUMPY_REFUSAL.sub("", lines[0]) if lines else ""
    sentences = re.split(r"(?<=[.!?;]) +", first)
    kept = [s for s in sentences if not _UNSAFE_ADVICE.search(s)]
    return one_line(" ".join(kept)) or type(error).__name__


def _escape(character: str) -> str:
    if character.isprintable():
        return character
    return character.encode("unicode_escape").decode()
