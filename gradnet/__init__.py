"""Gradients of a trained classifier, for every candidate label, as features.

The names below are imported when they are first used, so that ``import gradnet`` and
``gradnet --help`` do not wait for torch.
"""

import importlib

_PLACES = {
    "BlockLayout": "gradnet.blocks",
    "BlockSparseLinear": "gradnet.block_sparse",
    "Features": "gradnet.features",
    "FeatureSettings": "gradnet.features",
    "GradNet": "gradnet.network",
    "GradNetClassifier": "gradnet.estimator",
    "GradNetPredictor": "gradnet.predictor",
    "GradientExtractor": "gradnet.gradients",
    "GradientStore": "gradnet.store",
    "GradnetError": "gradnet.errors",
    "RECIPES": "gradnet.recipes",
    "Recipe": "gradnet.recipes",
    "load_snapshot": "gradnet.snapshots",
    "load_weights": "gradnet.foreign",
}

__all__ = list(_PLACES)
__version__ = "0.1.0"


def __getattr__(name: str) -> object:
    if name not in _PLACES:
        raise AttributeError(f"module 'gradnet' has no attribute {name!r}")
    return getattr(importlib.import_module(_PLACES[name]), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *_PLACES])
