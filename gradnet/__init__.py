"""Gradients of a trained classifier, for every candidate label, as features.

The names below are imported when they are first used, so that ``import gradnet`` and
``gradnet --help`` do not wait for torch. Everything else is in a folder each:
``gradnet.data``, ``gradnet.models``, ``gradnet.growth``, ``gradnet.experiments``, ...
"""

__version__ = "0.1.0"

# Three lists of the same names, held equal by a test: this one is the public API, the
# imports are what type checkers and editors read, the table is what runs.
__all__ = [
    "RECIPES",
    "BlockLayout",
    "BlockSparseLinear",
    "BusyError",
    "DamagedFileError",
    "FeatureSettings",
    "Features",
    "GradNet",
    "GradNetClassifier",
    "GradNetPredictor",
    "GradientExtractor",
    "GradientStore",
    "GradnetError",
    "InvalidInputError",
    "NotFittedError",
    "Projection",
    "Recipe",
    "TrainingSettings",
    "evaluate_predictor",
    "fit_gradnet",
    "load_snapshot",
    "load_user_model",
    "load_weights",
    "study_network",
]

TYPE_CHECKING = (
    False  # without the import of typing, before which Ctrl-C is a traceback
)
if TYPE_CHECKING:
    from gradnet.checkpoints.model_loader import load_user_model as load_user_model
    from gradnet.checkpoints.snapshots import load_snapshot as load_snapshot
    from gradnet.checkpoints.weights import load_weights as load_weights
    from gradnet.classifier.block_sparse import BlockSparseLinear as BlockSparseLinear
    from gradnet.classifier.estimator import GradNetClassifier as GradNetClassifier
    from gradnet.classifier.features import Features as Features
    from gradnet.classifier.features import FeatureSettings as FeatureSettings
    from gradnet.classifier.fit import evaluate_predictor as evaluate_predictor
    from gradnet.classifier.fit import fit_gradnet as fit_gradnet
    from gradnet.classifier.network import GradNet as GradNet
    from gradnet.classifier.predictor import GradNetPredictor as GradNetPredictor
    from gradnet.classifier.recipes import RECIPES as RECIPES
    from gradnet.classifier.recipes import Recipe as Recipe
    from gradnet.errors import BusyError as BusyError
    from gradnet.errors import DamagedFileError as DamagedFileError
    from gradnet.errors import GradnetError as GradnetError
    from gradnet.errors import InvalidInputError as InvalidInputError
    from gradnet.errors import NotFittedError as NotFittedError
    from gradnet.experiments.study_network import study_network as study_network
    from gradnet.gradients.extractor import GradientExtractor as GradientExtractor
    from gradnet.gradients.layout import BlockLayout as BlockLayout
    from gradnet.gradients.projections import Projection as Projection
    from gradnet.store.reader import GradientStore as GradientStore
    from gradnet.training.loop import TrainingSettings as TrainingSettings
else:
    import importlib

    _MODULES = {
        "RECIPES": "gradnet.classifier.recipes",
        "BlockLayout": "gradnet.gradients.layout",
        "BlockSparseLinear": "gradnet.classifier.block_sparse",
        "BusyError": "gradnet.errors",
        "DamagedFileError": "gradnet.errors",
        "FeatureSettings": "gradnet.classifier.features",
        "Features": "gradnet.classifier.features",
        "GradNet": "gradnet.classifier.network",
        "GradNetClassifier": "gradnet.classifier.estimator",
        "GradNetPredictor": "gradnet.classifier.predictor",
        "GradientExtractor": "gradnet.gradients.extractor",
        "GradientStore": "gradnet.store.reader",
        "GradnetError": "gradnet.errors",
        "InvalidInputError": "gradnet.errors",
        "NotFittedError": "gradnet.errors",
        "Projection": "gradnet.gradients.projections",
        "Recipe": "gradnet.classifier.recipes",
        "TrainingSettings": "gradnet.training.loop",
        "evaluate_predictor": "gradnet.classifier.fit",
        "fit_gradnet": "gradnet.classifier.fit",
        "load_snapshot": "gradnet.checkpoints.snapshots",
        "load_user_model": "gradnet.checkpoints.model_loader",
        "load_weights": "gradnet.checkpoints.weights",
        "study_network": "gradnet.experiments.study_network",
    }

    def __getattr__(name: str) -> object:
        if name not in _MODULES:
            raise AttributeError(f"module 'gradnet' has no attribute {name!r}")
        value = getattr(importlib.import_module(_MODULES[name]), name)
        globals()[name] = value  # so that it is found directly from now on
        return value

    def __dir__() -> list[str]:
        return sorted({*globals(), *__all__})
