"""Formats of files: a number in each file, and upgrades from older numbers."""

import ast
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from gradnet.core.text import listed, reason_of, shown
from gradnet.errors import DamagedFileError, NewerFormatError

Values = dict[str, Any]


@dataclass(frozen=True)
class Format:
    """A kind of file whose contents change from one version of gradnet to another.

    The number of today's format is the number of upgrades. Whoever changes what is
    written adds an upgrade, which makes values of today from those of the format
    before; it stands beside the writer.

    Attributes:
        kind: what the file holds, for messages: ``"snapshot"``.
        upgrades: the first makes format 1 of format 0, and so on. Files without a
            number are of format 0.

    Example:
        >>> format = Format("note", (lambda old: {"text": old["txt"]},))
        >>> format.stamp({"text": "a"})
        {'kind': 'note', 'format': 1, 'text': 'a'}
        >>> format.read({"txt": "a"}, "note.json")
        {'text': 'a'}
    """

    kind: str
    upgrades: tuple[Callable[[Values], Values], ...] = ()

    @property
    def number(self) -> int:
        """Of the format that is written today."""
        return len(self.upgrades)

    def stamp(self, values: Mapping[str, Any]) -> Values:
        """The values with the kind and the number, as they are written."""
        return {"kind": self.kind, "format": self.number, **values}

    def read(self, values: object, source: str) -> Values:
        """The values of a file, in today's format and without kind and number.

        Args:
            values: as they stand in the file.
            source: the file, for messages.

        Raises:
            DamagedFileError: the file holds another kind.
            NewerFormatError: it was written by a newer version of gradnet.
        """
        if not isinstance(values, Mapping):
            raise DamagedFileError(
                f"{source} is no {self.kind}: its contents have no names"
            )
        kind, number = values.get("kind", self.kind), values.get("format", 0)
        if kind != self.kind:
            raise DamagedFileError(
                f"{source} holds a {listed([kind])}, not a {self.kind}"
            )
        if type(number) is not int or not 0 <= number < 10**6:
            raise DamagedFileError(
                f"{source} is damaged: its format is {shown(number)}"
            )
        if number > self.number:
            raise NewerFormatError(
                f"{source} was written by a newer gradnet: it has format {number} of a "
                f"{self.kind}, this one reads up to {self.number}; upgrade gradnet"
            )
        found = {k: v for k, v in values.items() if k not in ("kind", "format")}
        try:
            for upgrade in self.upgrades[number:]:
                found = upgrade(found)
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise DamagedFileError(
                f"{source} holds no whole {self.kind} of format {number}: "
                f"{type(error).__name__}: {reason_of(error)}"
            ) from None
        return found


def unchanged(values: Values) -> Values:
    """The upgrade to a format that differs in what stands beside the values."""
    return values


def rename_limits(value: Any) -> Any:
    """Settings of format 0, where limits were called ``most_...``, with new names."""
    if isinstance(value, Mapping):
        return {
            re.sub(r"^most_", "max_", key): rename_limits(item)
            for key, item in value.items()
        }
    return [rename_limits(item) for item in value] if isinstance(value, list) else value


def identity_of_format_0(identity: Mapping[str, Any]) -> Values:
    """The identity of a run whose settings were stored as text of Python.

    Args:
        identity: with values such as ``"TrainingSettings(steps=10, momentum=0.9)"``.

    Returns:
        The same with plain values; that of a growth method, under ``method``, keeps
        the name of its class.
    """
    found = {}
    for key, value in identity.items():
        found[key] = value
        if isinstance(value, str) and re.match(r"\w+\(", value):
            try:
                call = ast.parse(value, mode="eval").body
                plain = rename_limits(_plain_of(call))
            except (SyntaxError, ValueError):
                continue  # a name that looks like a call
            is_method = key == "method"
            found[key] = (
                {"class": value.partition("(")[0], "settings": plain}
                if is_method
                else plain
            )
    return found


def _plain_of(node: ast.expr) -> Any:
    """The value of a literal or of a call with keywords only, without running it."""
    if isinstance(node, ast.Call):
        if node.args:
            raise ValueError("a call with positional arguments")
        return {str(k.arg): _plain_of(k.value) for k in node.keywords}
    if isinstance(node, ast.Tuple | ast.List):
        return [_plain_of(item) for item in node.elts]
    if isinstance(node, ast.Dict):
        keys = [str(_plain_of(key)) for key in node.keys if key is not None]
        return dict(zip(keys, map(_plain_of, node.values), strict=True))
    if isinstance(node, ast.Name) and node.id in ("inf", "nan"):
        return float(node.id)
    return ast.literal_eval(node)
