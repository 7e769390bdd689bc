"""Networks in files: snapshots, and weights and networks from other programs.

Read ``snapshots`` first. ``tensor_file`` is the format under it, with the checksums of
``checksums``; ``bounded_build`` and ``exact_weights`` turn a file into a network.
``weights`` reads weights from other programs, ``exported`` reads ``.pt2`` files within
the bounds of ``exported_sizes``, ``model_loader`` builds the user's own network,
``inputs`` prepares images for it, ``fingerprint`` identifies weights.
"""

from gradnet.checkpoints.exact_weights import load_exactly
from gradnet.checkpoints.exported import load_exported
from gradnet.checkpoints.fingerprint import weights_fingerprint
from gradnet.checkpoints.inputs import Inputs, InputSettings, load_inputs, to_network
from gradnet.checkpoints.model_loader import load_user_model
from gradnet.checkpoints.snapshots import (
    Snapshot,
    SnapshotInfo,
    list_snapshots,
    load_snapshot,
    save_snapshot,
)
from gradnet.checkpoints.tensor_file import load_with_header, save_with_header
from gradnet.checkpoints.weights import load_weights

__all__ = [
    "InputSettings",
    "Inputs",
    "Snapshot",
    "SnapshotInfo",
    "list_snapshots",
    "load_exactly",
    "load_exported",
    "load_inputs",
    "load_snapshot",
    "load_user_model",
    "load_weights",
    "load_with_header",
    "save_snapshot",
    "save_with_header",
    "to_network",
    "weights_fingerprint",
]
