"""One way to a GradNet in a file, for studies and for the command line."""

import logging
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from torch import nn

from gradnet.classifier.fit import fit_gradnet
from gradnet.classifier.predictor import GradNetPredictor
from gradnet.classifier.recipes import Recipe
from gradnet.core.reproducibility import environment, environment_difference
from gradnet.core.settings import first_difference, to_plain
from gradnet.data.problem import Samples
from gradnet.errors import InvalidInputError
from gradnet.experiments.results import several_environments
from gradnet.training.loop import Callbacks, History

logger = logging.getLogger("gradnet")


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
        about: further JSON values for the file's header. The identity of the callbacks
            and the environment are added, for :func:`is_fitted` to compare.

    Raises:
        GradnetError: see :func:`gradnet.classifier.fit.fit_gradnet`.
    """
    start = time.monotonic()
    predictor, history = fit_gradnet(
        base, samples, recipe, seed=seed, callbacks=callbacks
    )
    rate = predictor.gradients_used / (time.monotonic() - start)
    accuracy = history.best["accuracy"]
    origin = {
        "seed": seed,
        "made_from": to_plain(callbacks.identity),
        "environment": history.environments[-1],
        **several_environments(history.environments),
    }
    predictor.save(path, **{**about, **origin}, validation_accuracy=accuracy)
    return FittedGradNet(predictor, history, rate)


def is_fitted(
    path: Path,
    base: nn.Module,
    recipe: Recipe,
    *,
    seed: int,
    identity: Mapping[str, object],
) -> bool:
    """Whether a file holds the GradNet that :func:`fit_and_save` would make.

    One that was made in another environment counts, with a warning.

    Args:
        path: the file; it need not exist.
        base: see :func:`fit_and_save`.
        recipe: see :func:`fit_and_save`.
        seed: see :func:`fit_and_save`.
        identity: those fields of the callbacks' identity that must be the same. The
            base network is compared by its weights.

    Raises:
        InvalidInputError: it holds another one; the first difference is named. What a
            file of an earlier version does not name is not compared.
        GradnetError: it cannot be read, or is of another base network.
    """
    if not path.exists():
        return False
    predictor = GradNetPredictor.load(path, base)
    header = predictor.about
    known = header.get("made_from")
    known = known if isinstance(known, dict) else {}
    before = {name: known.get(name, value) for name, value in identity.items()}
    difference = (
        first_difference(predictor.recipe.to_dict(), recipe.to_dict())
        or first_difference(header.get("seed", seed), seed, "seed")
        or first_difference(to_plain(before), identity)
    )
    if difference is not None:
        raise InvalidInputError(
            f"{path} was made with other settings ({difference}); name another file "
            "with --out, or remove it"
        )
    device = next(base.parameters()).device
    changed = environment_difference(header.get("environment"), environment(device))
    if changed is not None:
        logger.warning(
            "%s was made in another environment (%s): made here, its last digits could "
            "differ",
            path,
            changed,
        )
    return True
