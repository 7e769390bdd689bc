"""The format of training checkpoints, and the check that one is of the same run."""

import logging
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from gradnet.core.formats import Format, identity_of_format_0
from gradnet.core.reproducibility import environment_difference
from gradnet.core.settings import first_difference
from gradnet.core.text import reason_of
from gradnet.errors import DamagedFileError, GradnetError, InvalidInputError
from gradnet.training.history import Environment

logger = logging.getLogger("gradnet")


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


@contextmanager
def explained_damage(checkpoint: Path | None) -> Iterator[None]:
    """Report a checkpoint whose contents are not those that were written.

    Raises:
        DamagedFileError: the block failed to take them up.
    """
    try:
        yield
    except GradnetError:
        raise
    except (KeyError, TypeError, ValueError, AttributeError, RuntimeError) as error:
        raise DamagedFileError(
            f"{checkpoint} is damaged ({type(error).__name__}: {reason_of(error)}); "
            "remove the file to begin the run anew"
        ) from error


def continued_environments(
    before: Sequence[Environment],
    now: Environment,
    checkpoint: Path | None,
    accept_differences: bool,
) -> list[Environment]:
    """The environments of a run that continues, the last one being that of today.

    Half a run in one environment and half in another gives numbers that neither gives
    alone. So a difference is refused, unless it is accepted; then it is logged.

    Args:
        before: those that the checkpoint names; none in files of earlier versions.
        now: see :func:`gradnet.core.reproducibility.environment`.
        checkpoint: the file, for the message.
        accept_differences: go on all the same.

    Raises:
        InvalidInputError: the last one differs from today's, and this is not accepted.
    """
    if not before:
        return [now]
    difference = environment_difference(before[-1], now)
    if difference is None:
        return [*before[:-1], now]
    if not accept_differences:
        raise InvalidInputError(
            f"{checkpoint} was written in another environment ({difference}): the "
            "result would differ from that of either in its last digits. Continue "
            "where it began, remove the file to begin anew, or go on all the same "
            "with --accept_differences"
        )
    logger.warning("%s is continued in another environment: %s", checkpoint, difference)
    return [*before, now]


def _upgrade_0(state: dict[str, Any]) -> dict[str, Any]:
    """Format 1 stores the settings as plain values, not as text."""
    return {**state, "identity": identity_of_format_0(state["identity"])}


FORMAT = Format("training checkpoint", (_upgrade_0,))
