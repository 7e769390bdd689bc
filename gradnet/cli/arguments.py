"""Command-line arguments and YAML files to settings dataclasses, by jsonargparse."""

import argparse
import dataclasses
import inspect
import json
import re
import reprlib
import types
import typing
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NoReturn, TypeVar

from jsonargparse import ArgumentError, ArgumentParser, DefaultHelpFormatter

from gradnet.classifier.recipes import RECIPES, Recipe
from gradnet.cli.option_files import MODE, check_import_path, check_option_file
from gradnet.core.constraints import NotEmpty
from gradnet.core.settings import default_of
from gradnet.core.validation import check_value, describe_type, hints_of
from gradnet.errors import GradnetError, InvalidInputError

LISTS = (list[str], list[int], list[float])
# In the metadata of a field: its value may stand without the name of the option.
LEADING = "leading"

Settings = TypeVar("Settings")


def parse(
    settings: type[Settings], program: str, arguments: Sequence[str]
) -> tuple[Settings, str]:
    """Make a settings object from arguments.

    Args:
        settings: a dataclass; its fields without default are positional.
        program: what the user calls, for the help text.
        arguments: what follows it. A list takes several values (``--seeds 0 1 2``), a
            truth value may stand without one (``--download``).

    Returns:
        The object, and the YAML of all its values.
    """
    (made,), text = parse_several([settings], program, arguments)
    return made, text


def parse_several(
    settings: Sequence[type[Any]],
    program: str,
    arguments: Sequence[str],
    epilog: str | None = None,
) -> tuple[list[Any], str]:
    """Make several settings objects from arguments that stand side by side.

    Args:
        settings: dataclasses that share no field; the first one's docstring describes.
        program: what the user calls, for the help text.
        arguments: as for :func:`parse`.
        epilog: stands below the options in the help text.

    Returns:
        An object of each, and the YAML of all their values.
    """
    parser = _Parser(
        prog=program,
        description=describe(settings[0]),
        epilog=epilog,
        formatter_class=_Formatter,
        parser_mode=MODE,
    )
    parser.add_argument("--config", action="config", help="a YAML file of options")
    for kind in settings:
        parser.add_class_arguments(kind, as_positional=True)
    groups = list(_group_options(settings))
    for path in _option_values("--config", arguments):
        check_option_file(path, groups)
    for name in groups:
        for value in _option_values(f"--{name}", arguments):
            if Path(value).exists():
                check_option_file(value)
    values = parser.parse_args(_complete(settings, arguments))
    _check_ranges(settings, values.as_dict(), program)
    check_import_path(values.get("model"), arguments)
    text = parser.dump(values, skip_unset=False)
    ready = vars(parser.instantiate(values))
    made = []
    for kind in settings:
        names = [field.name for field in dataclasses.fields(kind) if field.init]
        made.append(kind(**{name: ready[name] for name in names}))
    return made, text


def _check_ranges(
    settings: Sequence[type], values: Mapping[str, Any], program: str
) -> None:
    """Refuse what the settings would refuse, by the name of the option."""
    for kind in settings:
        fields = {field.name: field for field in dataclasses.fields(kind)}
        for name, hint in hints_of(kind).items():
            if not fields[name].init:
                continue
            is_positional = default_of(fields[name]) is dataclasses.MISSING
            is_option = not is_positional or fields[name].kw_only
            try:
                check_value(f"--{name}" if is_option else name, values[name], hint)
            except InvalidInputError as error:
                raise InvalidInputError(f"{error} ({program} --help)") from None


def _complete(settings: Sequence[type], arguments: Sequence[str]) -> list[str]:
    """Put ``--seeds 0 1 2`` and ``--download`` as jsonargparse wants them.

    A field with :data:`LEADING` in its metadata may be given without its option.
    """
    kinds = {k: v for kind in settings for k, v in _option_kinds(kind, "--")}
    leading = [
        f"--{one.name}"
        for kind in settings
        for one in dataclasses.fields(kind)
        if one.metadata.get(LEADING)
    ]
    done: list[str] = []
    rest = list(arguments)
    while rest:
        option = _with_underscores(rest.pop(0))
        kind = kinds.get(option)
        given = []
        while kind in LISTS and rest and not rest[0].startswith("--"):
            given.append(rest.pop(0))
        if given and not (len(given) == 1 and given[0].startswith("[")):
            # Quoted, or YAML takes the layer 5 for a number and * for a reference.
            items = map(json.dumps, given) if kind == list[str] else given
            done.append(f"{option}=[{','.join(items)}]")
        elif kind is bool and (not rest or rest[0] not in ("true", "false")):
            done.append(f"{option}=true")
        elif leading and not option.startswith("-"):
            done.append(f"{leading.pop(0)}={option}")
        else:
            done += [option, *given]
            if leading and rest and _takes_value(option):
                done.append(rest.pop(0))
    return done


def _takes_value(option: str) -> bool:
    is_alone = option.endswith("help") or option.startswith("--print_config")
    return option.startswith("--") and "=" not in option and not is_alone


def describe(settings: type) -> str:
    """The docstring of a settings class up to its attributes, for a help text."""
    text = inspect.cleandoc(settings.__doc__ or "")
    return text.partition("\nAttributes:")[0].replace("``", "").strip()


class _Formatter(argparse.RawDescriptionHelpFormatter, DefaultHelpFormatter):
    """Keeps the lines of a description, and says the range of each option.

    The range is that of the field's annotation.
    """

    def _get_type_str(self, action: argparse.Action) -> str | None:
        hint = _type_of(action)
        if hint is None or any(map(dataclasses.is_dataclass, _members(hint))):
            return super()._get_type_str(action)
        return describe_type(hint).replace(f" {NotEmpty()}", "").replace("None", "null")


class _Parser(ArgumentParser):
    """Reports invalid options in one line, without a list of all options."""

    def error(self, message: str, ex: Exception | None = None) -> NoReturn:
        text = _shorten(message, {a.dest: _type_of(a) for a in self._actions})
        raise InvalidInputError(f"{text} ({self.prog} --help)") from ex


def _type_of(action: argparse.Action) -> Any:
    return getattr(action, "_typehint", None)


def _shorten(message: str, hints: Mapping[str, Any]) -> str:
    """A message of jsonargparse in one line: option, value, and what it must be."""
    key = re.search(r'Parser key "(.+?)"', message)
    value = re.search(r"(?:Given|Got) value: (.*)", message)
    lines = [line.strip() for line in message.splitlines() if line.strip()]
    hint = None if key is None else hints.get(key[1])
    if key is None or value is None or hint is None:
        return " ".join(lines[:2]) if lines[0].endswith(":") else lines[0]
    allowed = describe_type(hint).replace("None", "null")
    return f"--{key[1]} is {reprlib.repr(value[1].strip())}; it must be {allowed}"


def _members(hint: Any) -> tuple[Any, ...]:
    """The members of a union; of another type, itself."""
    is_union = typing.get_origin(hint) in (typing.Union, types.UnionType)
    return typing.get_args(hint) if is_union else (hint,)


def _group_options(settings: Sequence[type]) -> Iterator[str]:
    """The options that take a file for a whole group, such as ``training``."""
    for kind in settings:
        for name, hint in typing.get_type_hints(kind).items():
            if any(map(dataclasses.is_dataclass, _members(hint))):
                yield name


def option_value(name: str, arguments: Sequence[str]) -> str | None:
    """The value of an option as it was typed; None where it was not."""
    values = list(_option_values(name, arguments))
    return values[-1] if values else None


def _option_values(name: str, arguments: Sequence[str]) -> Iterator[str]:
    """The values of an option that takes one, as one argument or as two."""
    for index, argument in enumerate(arguments):
        if argument == name and index + 1 < len(arguments):
            yield arguments[index + 1]
        elif argument.startswith(f"{name}="):
            yield argument.partition("=")[2]


def _with_underscores(argument: str) -> str:
    """``--model-args`` is ``--model_args``, whichever is typed."""
    option, equals, value = argument.partition("=")
    if not option.startswith("--"):
        return argument
    return "--" + option[2:].replace("-", "_") + equals + value


def _option_kinds(settings: type, prefix: str) -> Iterator[tuple[str, type]]:
    """The options that take a list, and those that take a truth value."""
    for name, hint in typing.get_type_hints(settings).items():
        for kind in _members(hint):
            if dataclasses.is_dataclass(kind) and isinstance(kind, type):
                yield from _option_kinds(kind, f"{prefix}{name}.")
            elif kind in (*LISTS, bool):
                yield prefix + name, kind


def load_recipe(name: str) -> Recipe:
    """The recipe of a name, or of a YAML file.

    Raises:
        GradnetError: there is neither, or the file is no recipe.
    """
    if name in RECIPES:
        return RECIPES[name]
    if not Path(name).is_file():
        raise GradnetError(
            f"no recipe {name!r}: give {', '.join(RECIPES)}, or the path of a YAML "
            "file (gradnet recipe default > mine.yaml)"
        )
    check_option_file(name, list(_group_options([Recipe])))
    parser = _recipe_parser()
    try:
        values: Any = parser.parse_path(name)
        return Recipe(**vars(parser.instantiate(values)))
    except (ArgumentError, ValueError) as error:
        raise GradnetError(f"{name} is no recipe: {error}") from None


def to_yaml(recipe: Recipe) -> str:
    """A recipe as :func:`load_recipe` reads it."""
    parser = _recipe_parser()
    values = parser.parse_object(recipe.to_dict())
    return str(parser.dump(values, skip_unset=False))


def _recipe_parser() -> ArgumentParser:
    parser = ArgumentParser(exit_on_error=False, parser_mode=MODE)
    parser.add_class_arguments(Recipe)
    return parser
