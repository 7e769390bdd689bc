"""Gradients of a trained classifier, for every candidate label, as features.

The names below are imported when they are first used, so that ``import gradnet`` and
``gradnet --help`` do not wait for torch.
"""

import importlib

_PLACES = {
    "BlockLayout": "gradnet.gradients.layout",
    "BlockSparseLinear": "gradnet.classifier.block_sparse",
    "Features": "gradnet.classifier.features",
    "FeatureSettings": "gradnet.classifier.features",
    "GradNet": "gradnet.classifier.network",
    "GradNetClassifier": "gradnet.classifier.estimator",
    "GradNetPredictor": "gradnet.classifier.predictor",
    "GradientExtractor": "gradnet.gradients.extractor",
    "GradientStore": "gradnet.store.reader",
    "GradnetError": "gradnet.errors",
    "RECIPES": "gradnet.classifier.recipes",
    "Recipe": "gradnet.classifier.recipes",
    "load_snapshot": "gradnet.checkpoints.snapshots",
    "load_weights": "gradnet.checkpoints.weights",
}

__all__ = list(_PLACES)
__version__ = "0.1.0"


def __getattr__(name: str) -> object:
    if name not in _PLACES:
        raise AttributeError(f"module 'gradnet' has no attribute {name!r}")
    return getattr(importlib.import_module(_PLACES[name]), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *_PLACES])
