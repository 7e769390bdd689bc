"""Ranges beside the fields of settings, and the one check of types and ranges.

A range is a part of a field's type, so that the check, the help text of an option and
the tests all read it from the same place::

    @dataclass(frozen=True)
    class Settings(Validated):
        steps: Count = 4000
        momentum: Annotated[float, Range(at_least=0, below=1)] = 0.9
        widths: Annotated[list[Width], Length(1, 32)] = field(default_factory=list)
"""

import dataclasses
import functools
import inspect
import numbers
import reprlib
import types
import typing
from collections.abc import Callable, Mapping, Sequence
from typing import Annotated, Any, Literal, ParamSpec, TypeVar

import numpy as np

from gradnet.core.constraints import Constraint, Length, Range, is_finite
from gradnet.errors import InvalidInputError

P = ParamSpec("P")
T = TypeVar("T")

# Ranges that many settings share. Upper bounds are far above what anybody trains; they
# refuse what would hang or fill the memory.
Count = Annotated[int, Range(1, 10**9)]
Width = Annotated[int, Range(1, 2**16)]
Pixels = Annotated[int, Range(1, 2**16)]
Seed = Annotated[int, Range(0, 2**63 - 1)]
Seeds = Annotated[list[Seed], Length(1, 1000)]
Positive = Annotated[float, Range(above=0, at_most=1e6)]
NonNegative = Annotated[float, Range(0, 1e6)]
Fraction = Annotated[float, Range(above=0, below=1)]
Level = Annotated[float, Range(above=0, at_most=1)]
Widths = Annotated[list[Width], Length(1, 32)]

MAX_INTEGER = 2**63 - 1  # what torch and numpy take
_LISTS = (list, tuple, Sequence)
_NAMES = {
    int: "a whole number",
    float: "a number",
    bool: "true or false",
    str: "text",
    type(None): "None",
}


@dataclasses.dataclass(frozen=True)
class Validated:
    """Base class of settings dataclasses, whose fields are checked when one is made.

    A subclass with a check of its own calls ``super().__post_init__()`` first.

    Raises:
        InvalidInputError: names the first field whose value is of another type or out
            of its range, the value, and what is allowed.

    Example:
        >>> @dataclasses.dataclass(frozen=True)
        ... class Schedule(Validated):
        ...     every: Count = 10
        >>> Schedule(every=0)
        Traceback (most recent call last):
        gradnet.errors.InvalidInputError: every is 0; it must be >= 1 and <= 10^9
    """

    def __post_init__(self) -> None:
        """Validate the fields."""
        check_fields(self)


def check_fields(settings: object) -> None:
    """Check every field of a dataclass against its annotation.

    Scalars of numpy become plain numbers, so that the settings can be stored as JSON.

    Args:
        settings: an instance of a dataclass.

    Raises:
        InvalidInputError: see :class:`Validated`.
    """
    for name, hint in hints_of(type(settings)).items():
        value = getattr(settings, name)
        if isinstance(value, np.generic):
            value = value.item()
            object.__setattr__(settings, name, value)
        check_value(name, value, hint)


def check_arguments(function: Callable[P, T]) -> Callable[P, T]:
    """Decorator: check the arguments of each call against their annotations.

    Example:
        >>> @check_arguments
        ... def make(width: Width = 8) -> list[int]:
        ...     return [0] * width
        >>> make(-1)
        Traceback (most recent call last):
        gradnet.errors.InvalidInputError: width is -1; it must be >= 1 and <= 65536
    """
    signature = inspect.signature(function)

    @functools.wraps(function)
    def checked(*args: P.args, **kwargs: P.kwargs) -> T:
        try:
            given = signature.bind(*args, **kwargs).arguments
        except TypeError:  # Python's own message names the function
            given = {}
        check_named(function, given)
        return function(*args, **kwargs)

    return checked


def check_named(function: Callable[..., object], values: Mapping[str, object]) -> None:
    """Check values against the annotations of the parameters of these names.

    Args:
        function: whose annotations are read.
        values: parameter name -> value; a name without annotation is not checked.

    Raises:
        InvalidInputError: see :class:`Validated`.
    """
    hints = typing.get_type_hints(function, include_extras=True)
    for name, value in values.items():
        if name in hints:
            plain = value.item() if isinstance(value, np.generic) else value
            check_value(name, plain, hints[name])


def hints_of(settings: type) -> Mapping[str, Any]:
    """The annotations of a dataclass's fields, by name, with their constraints."""
    hints = typing.get_type_hints(settings, include_extras=True)
    names = [field.name for field in dataclasses.fields(settings)]
    return {name: hints[name] for name in names}


def check_value(name: str, value: object, hint: Any) -> None:
    """Check a value against an annotation.

    Args:
        name: of the field or option, for the message.
        value: a mapping stands for a dataclass that is still to be made.
        hint: the annotation; classes other than numbers, texts, lists, mappings and
            dataclasses are checked by ``isinstance``.

    Raises:
        InvalidInputError: see :class:`Validated`.
    """
    origin, members = typing.get_origin(hint), typing.get_args(hint)
    if origin is Annotated:
        _check_annotated(name, value, hint)
    elif origin in (typing.Union, types.UnionType):
        _check_union(name, value, hint)
    elif origin is Literal:
        if not any(value == m and type(value) is type(m) for m in members):
            raise _refusal(name, value, describe_type(hint))
    elif origin in _LISTS:
        _check_sequence(name, value, hint)
    elif origin in (dict, Mapping):
        _check_mapping(name, value, hint)
    elif dataclasses.is_dataclass(hint) and isinstance(value, Mapping):
        for key, inner in hints_of(typing.cast(type, hint)).items():
            if key in value:
                check_value(f"{name}.{key}", value[key], inner)
    elif not _is_instance(value, hint):
        raise _refusal(name, value, describe_type(hint))
    elif isinstance(value, str):
        _check_text(name, value)


def _check_annotated(name: str, value: object, hint: Any) -> None:
    kind, *constraints = typing.get_args(hint)
    is_list = typing.get_origin(kind) in _LISTS
    if not (isinstance(value, list | tuple) if is_list else _is_instance(value, kind)):
        raise _refusal(name, value, describe_type(hint))
    check_value(name, value, kind)
    for constraint in constraints:
        if isinstance(constraint, Constraint) and not constraint.allows(value):
            allowed = describe_type(hint) if is_list else str(constraint)
            raise _refusal(name, value, allowed)


def _is_instance(value: object, hint: Any) -> bool:
    if hint is float:
        is_number = isinstance(value, numbers.Real) and not isinstance(value, bool)
        return is_number and is_finite(typing.cast(float, value))
    if hint is int:
        is_integer = isinstance(value, numbers.Integral) and not isinstance(value, bool)
        return is_integer and abs(typing.cast(int, value)) <= MAX_INTEGER
    if hint is Any:
        return True
    # Protocols and the like say nothing that could be asked of a value here.
    return not _is_class(hint) or isinstance(value, hint)


def _is_class(hint: Any) -> bool:
    return isinstance(hint, type) and not getattr(hint, "_is_protocol", False)


def _check_union(name: str, value: object, hint: Any) -> None:
    """One member has to take the value; the message is that of the nearest member."""
    failures = []
    for member in typing.get_args(hint):
        try:
            check_value(name, value, member)
            return
        except InvalidInputError as error:
            failures.append((member, error))
    others = [(m, error) for m, error in failures if m is not type(None)]
    if len(others) == 1 and value is not None:
        raise others[0][1]
    raise _refusal(name, value, describe_type(hint))


def _check_sequence(name: str, value: object, hint: Any) -> None:
    if not isinstance(value, list | tuple):
        raise _refusal(name, value, describe_type(hint))
    members = typing.get_args(hint)
    if typing.get_origin(hint) is tuple and members[-1] is not Ellipsis:
        if len(value) != len(members):
            raise _refusal(name, value, describe_type(hint))
    else:
        members = (members[0],) * len(value)
    for index, (item, member) in enumerate(zip(value, members, strict=True)):
        check_value(f"{name}[{index}]", item, member)


def _check_mapping(name: str, value: object, hint: Any) -> None:
    if not isinstance(value, Mapping):
        raise _refusal(name, value, describe_type(hint))
    key_hint, item_hint = typing.get_args(hint)
    for key, item in value.items():
        check_value(f"a key of {name}", key, key_hint)
        check_value(f"{name}[{reprlib.repr(key)}]", item, item_hint)


def _check_text(name: str, value: str) -> None:
    if "\0" in value or any("\ud800" <= c <= "\udfff" for c in value):
        raise InvalidInputError(
            f"{name} is {reprlib.repr(value)}; it must be text without null characters "
            "and surrogates"
        )


def _refusal(name: str, value: object, allowed: str) -> InvalidInputError:
    if isinstance(value, float) and not is_finite(value):
        allowed = allowed.replace("a number", "a finite number")
    shown = reprlib.repr(value).replace("\n", " ")
    return InvalidInputError(f"{name} is {shown}; it must be {allowed}")


def describe_type(hint: Any) -> str:
    """What a value may be, in words, from an annotation with its constraints.

    >>> describe_type(Annotated[int, Range(at_least=1)])
    'a whole number >= 1'
    """
    if typing.get_origin(hint) is Annotated:
        inner, *constraints = typing.get_args(hint)
    else:
        inner, constraints = hint, []
    origin, members = typing.get_origin(inner), typing.get_args(inner)
    allowed = "".join(f" {c}" for c in constraints if isinstance(c, Constraint))
    if origin in (typing.Union, types.UnionType):
        return ", or ".join(map(describe_type, members))
    if origin is Literal:
        return _alternatives([str(member) for member in members])
    if origin is tuple and members[-1] is not Ellipsis:
        return f"a list of {len(members)} items, each {describe_type(members[0])}"
    if origin in _LISTS:
        return f"a list{allowed}, each {describe_type(members[0])}"
    if origin in (dict, Mapping):
        return f"a mapping of names, each to {describe_type(members[1])}"
    if hint is Any:
        return "anything"
    return _NAMES.get(inner, f"a {getattr(inner, '__name__', inner)}") + allowed


def _alternatives(names: Sequence[str]) -> str:
    *first, last = names
    return f"{', '.join(first)} or {last}" if first else last
