"""The header of a grown network's file: its fields, its checks, its growth method."""

import math
from collections.abc import Mapping
from typing import Any

from gradnet.core.field_types import mistyped
from gradnet.core.formats import Format, rename_limits, unchanged
from gradnet.core.text import shown
from gradnet.errors import DamagedFileError, InvalidInputError
from gradnet.growth import GROWTH
from gradnet.growth.method import GrowthMethod, Schedule
from gradnet.models import MODELS
from gradnet.training.settings import TrainingSettings

HEADER_FIELDS = {
    "growth_method": str,
    "settings": Mapping[str, Any],
    "architecture": Mapping[str, Any] | None,
    "stage": int,
    "choices": list[str | None],
    "seed": int,
    "input_shape": tuple[int, int, int],
    "num_classes": int,
    "start": Mapping[str, Any] | None,
    "problem": Mapping[str, Any] | None,
    "versions": Mapping[str, str],
}
OPTIONAL_FIELDS = ("architecture", "start", "problem", "versions")
# Of one image, in numbers; a probe of 64 such is made where edits are made again.
MAX_INPUT = 3 * 1024 * 1024
MAX_STAGES = 100_000


def _upgrade_0(header: dict[str, Any]) -> dict[str, Any]:
    """Format 1 has the architecture, and other names of limits in the settings.

    A network of format 0 is built by replaying its edits.
    """
    return {**rename_limits(header), "architecture": None}


# Format 2 has a checksum.
FORMAT = Format("grown network", (_upgrade_0, unchanged))


def check_header(header: Mapping[str, Any], source: str) -> None:
    """Check types and ranges of the fields, and of those of the network before.

    Raises:
        DamagedFileError: names the first field that is missing or out of order.
    """
    fault = None
    for name, kind in HEADER_FIELDS.items():
        if name in header:
            fault = fault or mistyped(header[name], kind, name)
        elif name not in OPTIONAL_FIELDS:
            fault = fault or f"it has no {name!r}"
    if fault is None:
        shape, stage = header["input_shape"], header["stage"]
        if min(shape) < 1 or math.prod(shape) > MAX_INPUT:
            fault = f"input_shape is {shown(shape)}, out of its range"
        elif not 0 <= stage <= MAX_STAGES:
            fault = f"stage is {stage}, out of its range"
        elif header["choices"] and len(header["choices"]) < stage:
            fault = f"{len(header['choices'])} choices are given for {stage} stages"
        elif header["num_classes"] < 1:
            fault = f"num_classes is {header['num_classes']}, out of its range"
    if fault is not None:
        raise DamagedFileError(f"{source} holds no grown network: {fault}")
    if header.get("start") is not None:
        check_header(header["start"], f"{source}, what it started from,")


def check_origin(header: Mapping[str, Any], given: str | None) -> None:
    """Refuse a network that grew from another one than the caller names."""
    while header.get("start"):
        header = header["start"]
    named = header["settings"].get("model")
    if given is not None and named is not None and named != given:
        raise InvalidInputError(
            f"the network grew from {named!r}, not from {given!r}; name that model, or "
            "none"
        )


def check_model(named: str, given: str | None) -> None:
    """Check that the user named the model, unless it is one of gradnet."""
    if named in MODELS or named == given:
        return
    if given is None:
        raise InvalidInputError(
            f"the network was grown from {named!r}, which is not a model of gradnet, "
            "and a file does not decide which code runs; if you trust it, give "
            f"model={named!r}, or --model {named} on the command line"
        )
    raise InvalidInputError(
        f"the network was grown from {named!r}, not from {given!r}; give the former"
    )


def make_method(name: str, settings: Mapping[str, Any]) -> GrowthMethod:
    """A growth method from its name and its plain settings.

    Args:
        name: a key of :data:`gradnet.growth.GROWTH`.
        settings: field -> plain value; of ``training`` and ``growth`` all fields.

    Returns:
        The method.

    Raises:
        InvalidInputError: there is no method of that name.
        TypeError: it does not take these settings.
    """
    if name not in GROWTH:
        raise InvalidInputError(
            f"no growth method {name!r}; there are: {', '.join(GROWTH)}"
        )
    fields = dict(settings)
    fields["training"] = TrainingSettings(**fields["training"])
    fields["growth"] = Schedule(**fields["growth"])
    return GROWTH[name](**fields)
