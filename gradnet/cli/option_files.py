"""Option files and option values as plain data: no objects, no aliases, bounded size.

jsonargparse builds any object that a mapping names by ``class_path``, also where an
option takes a mapping of anything; and YAML's aliases make small files that never end.
Values are therefore read in a mode of their own, which refuses both.
"""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import yaml
from jsonargparse import get_loader, set_dumper, set_loader

from gradnet.errors import DamagedFileError, InvalidInputError

MODE = "gradnet"
MAX_BYTES = 1_000_000
MAX_DEPTH = 20
# Keys that jsonargparse takes for the description of an object.
OBJECT_KEYS = ("class_path", "init_args", "dict_kwargs")


def load_plain_yaml(text: str) -> Any:
    """Read YAML that consists of plain values.

    Args:
        text: of an option's value or of an option file.

    Raises:
        InvalidInputError: it describes an object to build, refers to itself, is nested
            too deeply or too long.
        yaml.YAMLError: it is not YAML.
    """
    if len(text) > MAX_BYTES:
        raise InvalidInputError(
            f"an option has {len(text):,} characters; {MAX_BYTES:,} are the most"
        )
    depth = 0
    for event in yaml.parse(text, Loader=yaml.SafeLoader):
        if isinstance(event, yaml.AliasEvent):
            raise InvalidInputError(
                f"options take no YAML aliases (*{event.anchor}): write the value out"
            )
        depth += isinstance(event, yaml.CollectionStartEvent)
        depth -= isinstance(event, yaml.CollectionEndEvent)
        if depth > MAX_DEPTH:
            raise InvalidInputError(f"options are nested more than {MAX_DEPTH} deep")
    value = get_loader("yaml")(text)
    for key in _keys(value):
        if key in OBJECT_KEYS:
            raise InvalidInputError(
                f"options build no objects, and {key!r} asks for one: give plain values"
            )
    return value


def check_option_file(path: str, groups: Sequence[str] = ()) -> None:
    """Validate a file of options, and those that it names, before they are read.

    Args:
        path: of the file.
        groups: options in it that may be the path of a file of their own.

    Raises:
        DamagedFileError: it is missing, no regular file, too large, or not UTF-8.
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
    except UnicodeDecodeError as error:
        raise DamagedFileError(f"{path} is not UTF-8 text: {error}") from None
    except yaml.YAMLError:  # reported by the parser of options, with its position
        return
    for name in groups:
        inner = values.get(name) if isinstance(values, dict) else None
        if isinstance(inner, str) and Path(inner).exists():
            check_option_file(inner)


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


def _keys(value: Any) -> Iterator[object]:
    """All keys of nested mappings."""
    if isinstance(value, dict):
        yield from value
    if isinstance(value, dict | list):
        for item in value.values() if isinstance(value, dict) else value:
            yield from _keys(item)


def _to_yaml(value: Any) -> str:
    return str(yaml.safe_dump(value, allow_unicode=True, sort_keys=False))


set_loader(MODE, load_plain_yaml, exceptions=(yaml.YAMLError,))
set_dumper(MODE, _to_yaml)
