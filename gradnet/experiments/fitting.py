"""One way to a GradNet in a file, for studies and for the command line."""

import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from torch import nn

from gradnet.classifier.fit import fit_gradnet
from gradnet.classifier.predictor import GradNetPredictor
from gradnet.classifier.recipes import Recipe
from gradnet.data.problem import Samples
from gradnet.training.loop import Callbacks, History


@dataclass(frozen=True)
class FittedGradNet:
    """A trained GradNet.

    Attributes:
        predictor: with its best weights on the validation part.
        history: of its training.
        gradients_per_second: gradients used in training, over its whole time.
    """

    predictor: GradNetPredictor
    history: History
    gradients_per_second: float


def fit_and_save(
    base: nn.Module,
    samples: Samples,
    recipe: Recipe,
    path: str | Path,
    *,
    seed: int,
    callbacks: Callbacks,
    about: Mapping[str, object],
) -> FittedGradNet:
    """Train a GradNet and save it with its validation accuracy.

    Args:
        base: images to logits ``(N, K)``; never changed.
        samples: better images that the base has not seen.
        recipe: see :data:`gradnet.classifier.recipes.RECIPES`.
        path: of the GradNet, a ``.safetensors`` file.
        seed: of weights, order, augmentation and random labels.
        callbacks: the checkpoint stays, for the caller to remove when all is done.
        about: further JSON values for the file's header.

    Raises:
        GradnetError: see :func:`gradnet.classifier.fit.fit_gradnet`.
    """
    start = time.monotonic()
    predictor, history = fit_gradnet(
        base, samples, recipe, seed=seed, callbacks=callbacks
    )
    rate = predictor.gradients_used / (time.monotonic() - start)
    accuracy = history.best["accuracy"]
    predictor.save(path, **about, validation_accuracy=accuracy)
    return FittedGradNet(predictor, history, rate)
