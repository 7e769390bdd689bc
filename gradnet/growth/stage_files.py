"""Checkpoint files of a growth run, stage by stage."""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from gradnet.core.files import load_tensors, save_tensors
from gradnet.core.formats import Format, identity_of_format_0
from gradnet.core.settings import to_plain
from gradnet.training.checkpoint import (
    check_same_run,
    continued_environments,
    explained_damage,
)
from gradnet.training.history import Environment


def _upgrade_0(state: dict[str, Any]) -> dict[str, Any]:
    """Format 1 stores the settings as plain values, not as text."""
    return {**state, "identity": identity_of_format_0(state["identity"])}


FORMAT = Format("growth checkpoint", (_upgrade_0,))


class StageFiles:
    """Checkpoint files of one run, named by its checkpoint and a stage.

    Args:
        checkpoint: path whose name they begin with; None to write nothing.
        identity: what identifies the run, such as method, settings and seed.
    """

    def __init__(self, checkpoint: Path | None, identity: Mapping[str, Any]) -> None:
        self.checkpoint, self.identity = checkpoint, dict(identity)

    def training(self, stage: int) -> Path | None:
        """The path of the training loop's checkpoint within a stage."""
        return self._path(f"{stage}-training")

    def save(self, stage: int, state: Mapping[str, Any]) -> None:
        """Write the state at the start of a stage, and remove the previous files.

        Args:
            stage: the stage that begins.
            state: tensors and plain values.
        """
        path = self._path(f"{stage}")
        if path is None:
            return
        identity = to_plain(self.identity)
        save_tensors(path, FORMAT.stamp({"identity": identity, **state}))
        for old in (self._path(f"{stage - 1}"), self.training(stage - 1)):
            assert old is not None
            old.unlink(missing_ok=True)

    def load(
        self, stages: int, now: Environment, accept_differences: bool
    ) -> dict[str, Any] | None:
        """Read the state at the start of the latest stage.

        Args:
            stages: the last stage that a run can have.
            now: see :func:`gradnet.core.reproducibility.environment`.
            accept_differences: also continue a run of another environment.

        Returns:
            The state, where ``environments`` ends with ``now``; None if none was
            written.

        Raises:
            GradnetError: the file is of another run, or of another environment.
        """
        paths = (self._path(f"{stage}") for stage in range(stages, 0, -1))
        path = next((p for p in paths if p is not None and p.exists()), None)
        if path is None:
            return None
        state = FORMAT.read(load_tensors(path), str(path))
        with explained_damage(path):
            check_same_run(state["identity"], self.identity, path)
            before = state.get("environments", [])
            environments = continued_environments(before, now, path, accept_differences)
        return {**state, "environments": environments}

    def _path(self, suffix: str) -> Path | None:
        path = self.checkpoint
        if path is None:
            return None
        return path.with_name(f"{path.stem}-stage-{suffix}{path.suffix}")


def remove_stage_files(checkpoint: Path) -> None:
    """Remove the checkpoint files of a finished run.

    Args:
        checkpoint: as for :class:`StageFiles`.
    """
    stem, suffix = re.escape(checkpoint.stem), re.escape(checkpoint.suffix)
    name = re.compile(rf"{stem}-stage-\d+(-training)?{suffix}")
    for path in list(checkpoint.parent.glob("*")):
        if name.fullmatch(path.name):
            path.unlink(missing_ok=True)
