"""Data sets, splits and augmentation.

Read ``datasets`` first (what can be loaded), then ``splits`` and ``augmentation``;
``problem`` puts the three together; ``toy_problems`` has the classic benchmarks of
constructive networks.
"""

from gradnet.data.augmentation import Augmentation
from gradnet.data.datasets import ImageData, load_data, make_data
from gradnet.data.problem import (
    AugmentationSettings,
    Problem,
    ProblemSettings,
    Samples,
    SplitSettings,
    Transform,
    make_problem,
)
from gradnet.data.splits import Splits, make_splits
from gradnet.data.toy_problems import ClassicProblem, classic_problem, is_classic

__all__ = [
    "Augmentation",
    "AugmentationSettings",
    "ClassicProblem",
    "ImageData",
    "Problem",
    "ProblemSettings",
    "Samples",
    "SplitSettings",
    "Splits",
    "Transform",
    "classic_problem",
    "is_classic",
    "load_data",
    "make_data",
    "make_problem",
    "make_splits",
]
