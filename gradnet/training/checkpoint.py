"""The format of training checkpoints, and the check that one is of the same run."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from gradnet.core.formats import Format, identity_of_format_0
from gradnet.core.settings import first_difference
from gradnet.errors import InvalidInputError


def check_same_run(
    before: Mapping[str, Any], identity: Mapping[str, Any], checkpoint: Path
) -> None:
    """Refuse a checkpoint of another run.

    Args:
        before: the identity that the checkpoint holds, in plain values.
        identity: of the run that would resume; settings may be dataclasses.
        checkpoint: the file, for the message.

    Raises:
        InvalidInputError: they differ; the first difference is named.
    """
    known = {name: before.get(name) for name in identity}
    difference = first_difference(known, identity)
    if difference is not None:
        raise InvalidInputError(
            f"{checkpoint} is of another run: {difference}; remove the file or work in "
            "another folder"
        )


def _upgrade_0(state: dict[str, Any]) -> dict[str, Any]:
    """Format 1 stores the settings as plain values, not as text."""
    return {**state, "identity": identity_of_format_0(state["identity"])}


FORMAT = Format("training checkpoint", (_upgrade_0,))
