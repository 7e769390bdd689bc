"""Option files and option values as plain data: no objects, no aliases, bounded size.

jsonargparse builds any object that a mapping names by ``class_path``, also where an
option takes a mapping of anything; and YAML's aliases make small files that never end.
Values are therefore read in a mode of their own, which refuses both.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml
from jsonargparse import get_loader, set_dumper, set_loader

from gradnet.errors import DamagedFileError, InvalidInputError

MODE = "gradnet"
MAX_BYTES = 100_000
MAX_VALUES = 5_000
MAX_DEPTH = 20
# Keys that jsonargparse takes for the description of an object.
OBJECT_KEYS = ("class_path", "init_args", "dict_kwargs")


def load_plain_yaml(text: str) -> Any:
    """Read YAML that consists of plain values.

    Args:
        text: of an option's value or of an option file.

    Raises:
        InvalidInputError: it describes an object to build, refers to itself, names a
            key twice, is nested too deeply or too long, or has a value that is no text,
            number, truth value, null, list or mapping.
        yaml.YAMLError: it is not YAML.
    """
    if len(text) > MAX_BYTES:
        raise InvalidInputError(
            f"an option has {len(text):,} characters; {MAX_BYTES:,} are the most"
        )
    _check_events(text)
    _check_keys(yaml.compose(text, Loader=yaml.SafeLoader))
    try:
        value = get_loader("yaml")(text)
    except ValueError as error:  # of a number with thousands of digits, for example
        reason = str(error).partition(";")[0]
        raise InvalidInputError(
            f"an option cannot be read: {reason}; give plain values"
        ) from None
    _check_plain(value)
    return value


def _check_events(text: str) -> None:
    """Refuse aliases, depth and length before anything is built."""
    depth = values = 0
    for event in yaml.parse(text, Loader=yaml.SafeLoader):
        if isinstance(event, yaml.AliasEvent):
            raise InvalidInputError(
                f"options take no YAML aliases (*{event.anchor}): write the value out"
            )
        depth += isinstance(event, yaml.CollectionStartEvent)
        depth -= isinstance(event, yaml.CollectionEndEvent)
        if depth > MAX_DEPTH:
            raise InvalidInputError(f"options are nested more than {MAX_DEPTH} deep")
        values += isinstance(event, yaml.ScalarEvent)
        if values > MAX_VALUES:
            raise InvalidInputError(
                f"an option has more than {MAX_VALUES:,} values; give fewer"
            )


def _check_keys(node: yaml.Node | None) -> None:
    """Refuse keys that stand twice in a mapping: only the last would count."""
    if isinstance(node, yaml.SequenceNode):
        for item in node.value:
            _check_keys(item)
    if not isinstance(node, yaml.MappingNode):
        return
    seen = set()
    for key, item in node.value:
        if isinstance(key, yaml.ScalarNode):
            if key.value in seen:
                line = key.start_mark.line + 1
                raise InvalidInputError(
                    f"options name {key.value!r} twice, again in line {line}: leave "
                    "one of them out"
                )
            seen.add(key.value)
        _check_keys(item)


def _check_plain(value: Any) -> None:
    """Refuse objects to build, and what YAML has besides the types of JSON."""
    if isinstance(value, dict):
        for key in value:
            if key in OBJECT_KEYS:
                raise InvalidInputError(
                    f"options build no objects, and {key!r} asks for one: give plain "
                    "values"
                )
    if isinstance(value, dict | list):
        for item in value.values() if isinstance(value, dict) else value:
            _check_plain(item)
    elif isinstance(value, int) and abs(value) >= 2**63:
        raise InvalidInputError("an option holds a whole number of more than 64 bits")
    elif not (value is None or isinstance(value, str | int | float)):
        raise InvalidInputError(
            f"an option holds a {type(value).__name__}: give text, numbers, true, "
            "false, null, lists and mappings"
        )


def check_option_file(path: str, groups: Sequence[str] = ()) -> Any:
    """Validate a file of options, and those that it names, before they are read.

    Args:
        path: of the file.
        groups: options in it that may be the path of a file of their own.

    Returns:
        Its values; None where it is not YAML, which the parser of options reports with
        the position.

    Raises:
        DamagedFileError: it is missing, no regular file, too large, or not UTF-8.
        InvalidInputError: see :func:`load_plain_yaml`.
    """
    file = Path(path)
    if not file.exists():
        raise DamagedFileError(f"{path}: no such file")
    if not file.is_file():  # a pipe would keep the reader waiting
        raise DamagedFileError(f"{path} is no regular file; give a YAML file")
    size = file.stat().st_size
    if size > MAX_BYTES:
        raise DamagedFileError(
            f"{path} has {size:,} bytes; a file of options has at most {MAX_BYTES:,}"
        )
    try:
        values = load_plain_yaml(file.read_text(encoding="utf-8"))
    except InvalidInputError as error:
        raise InvalidInputError(f"{path}: {error}") from None
    except UnicodeDecodeError as error:
        raise DamagedFileError(f"{path} is not UTF-8 text: {error}") from None
    except yaml.YAMLError:
        return None
    for name in groups:
        inner = values.get(name) if isinstance(values, dict) else None
        if isinstance(inner, str) and Path(inner).exists():
            check_option_file(inner)
    return values


def check_import_path(model: object, arguments: Sequence[str]) -> None:
    """Refuse an import path that stands in a file of options only.

    Such a path runs code. Whoever starts the command has to name it, so that a file
    from elsewhere cannot.

    Args:
        model: the value of ``--model``.
        arguments: the command line.

    Raises:
        InvalidInputError: ``model`` is an import path, and not on the command line.
    """
    if not isinstance(model, str) or ":" not in model:
        return
    if model.startswith("torchvision:"):
        return
    typed = {*arguments, *(a.partition("=")[2] for a in arguments)}
    if model not in typed:
        raise InvalidInputError(
            f"{model!r} stands in a file of options and would run code: confirm it on "
            f"the command line with --model {model}"
        )


def _to_yaml(value: Any) -> str:
    return str(yaml.safe_dump(value, allow_unicode=True, sort_keys=False))


set_loader(MODE, load_plain_yaml, exceptions=(yaml.YAMLError,))
set_dumper(MODE, _to_yaml)
