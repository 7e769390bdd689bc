"""GradNet: features of gradients, the block-sparse network, and its training.

Read ``recipes`` first (all settings in one place), then ``features`` with
``feature_steps``, ``network`` and ``block_sparse``; ``predictor`` is the base network
and its GradNet together, ``fit`` trains it on the gradients of ``sources``, ``tangent``
is the fast path of linear scorers, ``estimator`` the scikit-learn interface.
"""

from gradnet.classifier.block_sparse import BlockSparseLinear
from gradnet.classifier.estimator import GradNetClassifier
from gradnet.classifier.feature_steps import (
    Scale,
    SelectLargest,
    SignedPower,
    Step,
    UnitNorm,
)
from gradnet.classifier.features import Features, FeatureSettings
from gradnet.classifier.fit import evaluate_predictor, fit_gradnet
from gradnet.classifier.network import GradNet
from gradnet.classifier.predictor import GradNetPredictor
from gradnet.classifier.recipes import RECIPES, Recipe

__all__ = [
    "BlockSparseLinear",
    "FeatureSettings",
    "Features",
    "GradNet",
    "GradNetClassifier",
    "GradNetPredictor",
    "RECIPES",
    "Recipe",
    "Scale",
    "SelectLargest",
    "SignedPower",
    "Step",
    "UnitNorm",
    "evaluate_predictor",
    "fit_gradnet",
]
