"""The file that claims a run folder for one study, and refuses another."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from gradnet.core.files import read_json, write_json
from gradnet.core.formats import Format
from gradnet.core.settings import first_difference, to_plain
from gradnet.errors import InvalidInputError

STUDY = Format("study", (lambda values: values,))
# A study that was begun before these came counts as having the same.
LATER_FIELDS = ("evaluations_per_epoch", "test_fingerprint")


def claim(folder: Path, identity: Mapping[str, Any]) -> None:
    """Claim a run folder for a study, or check that it is the same one's.

    Args:
        folder: the run folder.
        identity: what all results of the study share.

    Raises:
        InvalidInputError: the folder holds another study.
        DamagedFileError: its file is damaged, or of a newer version of gradnet.
    """
    path = folder / "study.json"
    if path.exists():
        before = STUDY.read(_without_growth_kind(read_json(path)), str(path))
        added = {name: identity[name] for name in LATER_FIELDS if name in identity}
        difference = first_difference({**to_plain(added), **before}, identity)
        if difference is not None:
            raise InvalidInputError(
                f"{folder} holds another study ({difference}); name another folder "
                "with --out"
            )
    write_json(path, STUDY.stamp(to_plain(identity)))


def _without_growth_kind(values: Any) -> Any:
    """Format 0 of a growth study has a ``kind`` of another meaning."""
    if isinstance(values, dict) and values.get("kind") == "growth":
        return {**{k: v for k, v in values.items() if k != "kind"}, "study": "growth"}
    return values
