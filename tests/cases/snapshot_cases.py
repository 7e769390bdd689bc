"""What snapshots in the tests say of themselves."""

import dataclasses
from typing import Any

from gradnet.checkpoints.snapshots import SnapshotInfo
from gradnet.data.augmentation import Augmentation

ARGUMENTS = {"image_size": 4, "num_classes": 3, "hidden": [5]}


def make_info(**changes: Any) -> SnapshotInfo:
    augmentation = Augmentation(crop=4, flip=True, contrast=(0.2, 1.8))
    fields = dict(
        model="mlp",
        arguments=ARGUMENTS,
        data="toy",
        data_fingerprint="abc",
        split_seed=1,
        validation_fraction=0.1,
        split_fingerprint="def",
        augmentation=dataclasses.asdict(augmentation),
        level=0.7,
        step=12,
        validation_accuracy=0.72,
        seed=3,
    )
    return SnapshotInfo(**(fields | changes))
