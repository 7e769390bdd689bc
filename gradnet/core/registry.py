"""Tables of entries by name, open to a user's own entries and to installed packages."""

import re
import warnings
from collections.abc import Callable, Iterator, Mapping
from importlib.metadata import EntryPoint, entry_points
from typing import TypeVar, cast

from gradnet.core.text import reason_of
from gradnet.errors import InvalidInputError

T = TypeVar("T")

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]*")


class Registry(Mapping[str, T]):
    """Entries by name: built in, registered by a call, or from an installed package.

    An installed package adds entries through its metadata, without being imported
    until an entry is looked for that is not built in, or all are listed::

        [project.entry-points."gradnet.models"]
        my-net = "my_package.networks:MyNet"

    A built-in or registered name wins over an entry point of the same name. Such a
    clash, and an entry point that cannot be loaded, gives a warning and is left out.

    Args:
        kind: what the entries are, for messages; ``"model"``.
        entries: the built-in ones.
        group: entry point group; ``None``: installed packages add nothing.
        check: called with the name and each entry that is not built in; it raises
            :class:`~gradnet.errors.InvalidInputError` for an unsuitable one.

    Example:
        >>> shapes = Registry("shape", {"square": 4})
        >>> shapes.register("triangle", 3)
        >>> list(shapes)
        ['square', 'triangle']
    """

    def __init__(
        self,
        kind: str,
        entries: Mapping[str, T],
        group: str | None = None,
        check: Callable[[str, object], None] | None = None,
    ) -> None:
        self.kind = kind
        self.group = group
        self._check = check
        self._entries = dict(entries)
        self._origins = dict.fromkeys(entries, "built in")
        self._loaded = group is None

    def register(self, name: str, entry: T, *, replace: bool = False) -> None:
        """Add an entry for this process.

        Args:
            name: letters, digits, ``_``, ``.`` and ``-``.
            entry: what the name stands for.
            replace: allow a name that is already there.

        Raises:
            InvalidInputError: the name is taken or not allowed, or the entry is not
                suitable.
        """
        self._validate(name, entry)
        if name in self._entries and not replace:
            raise InvalidInputError(
                f"the {self.kind} {name!r} exists already ({self._origins[name]}); "
                "choose another name or pass replace=True"
            )
        self._entries[name] = entry
        self._origins[name] = "registered by a call"

    def unregister(self, name: str) -> None:
        """Remove an entry for this process.

        Raises:
            InvalidInputError: there is no such entry.
        """
        self.find(name)
        del self._entries[name], self._origins[name]

    def find(self, name: str) -> T:
        """The entry; unlike ``[...]``, with a message that lists the known names.

        Raises:
            InvalidInputError: there is no such entry.
        """
        if name not in self:
            raise InvalidInputError(
                f"no {self.kind} {name!r}; there are: {', '.join(self)}"
            )
        return self[name]

    def __getitem__(self, name: str) -> T:
        if name not in self._entries and _is_allowed(name):
            self._load_entry_points()
        return self._entries[name]

    def __iter__(self) -> Iterator[str]:
        self._load_entry_points()
        return iter(self._entries)

    def __len__(self) -> int:
        self._load_entry_points()
        return len(self._entries)

    def __repr__(self) -> str:
        return f"<Registry of {self.kind}: {', '.join(self._entries)}>"

    def _load_entry_points(self) -> None:
        if self._loaded or self.group is None:
            return
        self._loaded = True  # first: a package may register entries as it is imported
        for point in sorted(entry_points(group=self.group), key=lambda p: p.name):
            self._load(point)

    def _load(self, point: EntryPoint) -> None:
        distribution = point.dist.name if point.dist else "an unknown package"
        origin = f"{point.value} of {distribution}"
        try:
            entry = point.load()
            if self._entries.get(point.name) is entry:
                return  # the package registered it as it was imported
            self._validate(point.name, entry)
        except Exception as error:  # whatever a foreign package raises
            self._warn(
                f"cannot load {point.name!r} ({origin}): {reason_of(error, whole=True)}"
            )
            return
        if point.name in self._entries:
            taken = self._origins[point.name]
            self._warn(f"{point.name!r} ({origin}) is left out: {taken} already")
            return
        self._entries[point.name] = cast(T, entry)
        self._origins[point.name] = origin

    def _validate(self, name: str, entry: object) -> None:
        if not _is_allowed(name):
            raise InvalidInputError(
                f"{name!r} is no name of a {self.kind}; use letters, digits, _, . and -"
            )
        if self._check is not None:
            self._check(name, entry)

    def _warn(self, message: str) -> None:
        warnings.warn(f"{self.kind}s: {message}", stacklevel=2)


def _is_allowed(name: object) -> bool:
    return isinstance(name, str) and _NAME.fullmatch(name) is not None
