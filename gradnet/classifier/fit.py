"""Trains and evaluates GradNet on gradients of images or of a store."""

import copy
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from gradnet.checkpoints.fingerprint import weights_fingerprint
from gradnet.classifier.network import GradNet
from gradnet.classifier.predictor import GradNetPredictor
from gradnet.classifier.recipes import Recipe
from gradnet.classifier.sources import (
    Batch,
    FreshGradients,
    GradientSource,
    StoredGradients,
    split_store,
    validation_batch,
)
from gradnet.core.progress import progress
from gradnet.core.reproducibility import (
    derive_seed,
    isolated_randomness,
    make_generator,
)
from gradnet.data.problem import EvaluationSamples, Samples
from gradnet.errors import InvalidInputError
from gradnet.store.reader import GradientStore
from gradnet.training.loop import Callbacks, History, fit


class GradNetTask:
    """Trains a predictor's network on the gradients of a source.

    The ``sum`` head sees one gradient of each sample, at a new random label in each
    step, and learns to predict the true label (random-label training). The ``scorer``
    head sees the gradients at all ``K`` labels.

    Args:
        predictor: its network is trained.
        source: provides the gradients.
        seed: of the random labels.
    """

    def __init__(
        self, predictor: GradNetPredictor, source: GradientSource, seed: int
    ) -> None:
        self.predictor, self.source, self.seed = predictor, source, seed
        self.module: GradNet = predictor.network

    def losses(self, step: int) -> Iterator[Tensor]:
        """The mean loss of one batch, in parts that fit the memory budget."""
        self.module.train()
        batch = self.source.training_batch(step)
        labels = self._random_labels(batch, step) if self.module.head == "sum" else None
        for part in _parts(self.predictor, batch, labels):
            at = None if labels is None else labels[part]
            logits, outputs, y = batch.outputs(part, at)
            yield self.module.loss(outputs, logits, y) / len(batch)

    def fit_features(self) -> None:
        """Fit the scaling on training samples at one random label each, in one pass."""
        features = self.predictor.features
        if features.scale is None:
            return
        batch = self.source.statistics_batch(self.predictor.recipe.statistics_samples)
        labels = self._random_labels(batch, -1)

        def fit_copy(part: slice) -> None:
            copy.deepcopy(features).partial_fit(batch.blocks(part, labels[part]))

        kind = "statistics", batch.kind
        for part in self.predictor.parts(kind, fit_copy, len(batch), batch.device):
            features.partial_fit(batch.blocks(part, labels[part]))

    def evaluate(self) -> dict[str, float]:
        """Accuracy and mean loss of all-label prediction on the validation samples."""
        return _evaluate(self.predictor, self.source.validation_batch())

    def _random_labels(self, batch: Batch, step: int) -> Tensor:
        """``(N, 1)``."""
        generator = make_generator("labels", self.seed, step)
        shape = len(batch), 1
        labels = torch.randint(self.module.num_classes, shape, generator=generator)
        return labels.to(batch.device)


def _parts(
    predictor: GradNetPredictor, batch: Batch, labels: Tensor | None
) -> list[slice]:
    """Slices of a batch whose outputs fit the memory budget."""

    def outputs(part: slice) -> Tensor:
        return batch.outputs(part, None if labels is None else labels[part]).outputs

    kind = batch.kind, labels is None
    return predictor.parts(kind, outputs, len(batch), batch.device)


@torch.no_grad()
def _evaluate(
    predictor: GradNetPredictor,
    batch: Batch,
    advance: Callable[[int], None] = lambda count: None,
) -> dict[str, float]:
    """Accuracy and mean cross-entropy of all-label prediction."""
    predictor.network.eval()
    correct, loss = 0, 0.0
    for part in _parts(predictor, batch, None):
        logits, outputs, y = batch.outputs(part)
        scores = predictor.network.predict(outputs, logits)
        loss += functional.cross_entropy(scores, y, reduction="sum").item()
        correct += int((scores.argmax(1) == y).sum())
        advance(len(y))
    return {"accuracy": correct / len(batch), "loss": loss / len(batch)}


def evaluate_predictor(
    predictor: GradNetPredictor,
    samples: Samples | EvaluationSamples,
    description: str | None = None,
) -> dict[str, float]:
    """Accuracy and mean cross-entropy of all-label prediction on centre crops.

    Args:
        predictor: the classifier to evaluate.
        samples: a test set, or samples whose validation part is used.
        description: shows progress under this name; None shows none.

    Returns:
        ``accuracy`` and ``loss``.
    """
    batch = validation_batch(predictor, samples)
    if description is None:
        return _evaluate(predictor, batch)
    with progress(description, len(batch), "images") as advance:
        return _evaluate(predictor, batch, advance)


def fit_gradnet(
    base: nn.Module,
    data: Samples | GradientStore,
    recipe: Recipe,
    *,
    validation_fraction: float = 0.1,
    seed: int = 0,
    callbacks: Callbacks | None = None,
    max_memory: str | float | None = None,
) -> tuple[GradNetPredictor, History]:
    """Train a GradNet on the gradients of a base network.

    Args:
        base: inputs to logits ``(N, K)``, in evaluation mode; not modified.
        data: images, preferably ones that the base was not trained on; or a store of
            the base network's gradients, at all labels and not reduced.
        recipe: see :data:`gradnet.classifier.recipes.RECIPES`.
        validation_fraction: fraction of a store's samples for validation; images come
            with a validation part.
        seed: of weights, order, augmentation, random labels, and of the division of a
            store.
        callbacks: see :class:`~gradnet.training.loop.Callbacks`.
        max_memory: see :class:`GradNetPredictor`.

    Returns:
        The predictor with the weights that were best on the validation part, and the
        history of the training.

    Raises:
        InvalidInputError: the base cannot be differentiated sample by sample, the
            recipe does not fit it, or the store holds different gradients from those
            that prediction will compute.
        GradnetError: the loss is not finite.
    """
    if isinstance(data, GradientStore):
        num_classes = data.plan.num_logits
    else:
        num_classes = data.num_classes
    with isolated_randomness():
        torch.manual_seed(derive_seed("gradnet", seed))
        predictor = GradNetPredictor(base, recipe, num_classes, max_memory=max_memory)
    callbacks = callbacks or Callbacks()
    identity: dict[str, Any] = {**callbacks.identity, "recipe": recipe}
    source: GradientSource
    if isinstance(data, GradientStore):
        _check_store(data, predictor)
        train, validation = split_store(data, validation_fraction, seed)
        source = StoredGradients(predictor, data, train, validation, seed)
        identity["store"] = data.plan.digest
    else:
        source = FreshGradients(predictor, data, seed)
    task = GradNetTask(predictor, source, seed)
    task.fit_features()
    history = fit(
        task,
        recipe.training,
        seed=seed,
        callbacks=replace(callbacks, identity=identity),
    )
    return predictor, history


def _check_store(store: GradientStore, predictor: GradNetPredictor) -> None:
    """Check that the store holds the gradients that prediction will compute.

    Raises:
        InvalidInputError: it does not.
    """
    layout, recipe = predictor.layout, predictor.recipe
    wanted = {
        "weights": weights_fingerprint(predictor.base),
        "labels": "all",
        "reduction": None,
        "weight_decay": recipe.weight_decay_term,
        "layers": layout.to_dict(),
    }
    for name, value in wanted.items():
        found = store.fingerprint.get(name)
        if found != value:
            raise InvalidInputError(
                f"{store.location} does not fit: its {name} is {found!r}, "
                f"the network and the recipe need {value!r}; extract it anew"
            )
    if store.num_samples < 2:
        raise InvalidInputError(
            f"{store.location} has one sample; at least 2 are needed"
        )
