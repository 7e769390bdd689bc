"""GradNet's training: gradients are made from fresh images, used, and dropped."""

from collections.abc import Iterator
from dataclasses import replace

import torch
from torch import Tensor, nn

from gradnet.classifier.network import GradNet
from gradnet.classifier.predictor import GradNetPredictor
from gradnet.classifier.recipes import Recipe
from gradnet.core.progress import progress
from gradnet.core.reproducibility import (
    derive_seed,
    isolated_randomness,
    make_generator,
)
from gradnet.data.problem import EvaluationSamples, Samples
from gradnet.training.loop import Callbacks, History, fit
from gradnet.training.supervised import Batches, augmented_batch, evaluate_scores


class GradNetTask:
    """Trains a predictor's network on gradients that are made for each batch anew.

    The ``sum`` head sees one gradient a sample, at a label drawn anew for each sample
    and step, and is to tell the true label (random-label training). The ``scorer`` head
    sees the gradients at all K labels.

    Args:
        predictor: its network is trained.
        samples: what it is trained and validated on.
        seed: of order, augmentation and random labels.
    """

    def __init__(
        self, predictor: GradNetPredictor, samples: Samples, seed: int
    ) -> None:
        self.predictor, self.samples, self.seed = predictor, samples, seed
        self.module: GradNet = predictor.network
        batch_size = predictor.recipe.training.batch_size
        self.batches = Batches(samples.train, batch_size, seed)

    def losses(self, step: int) -> Iterator[Tensor]:
        """The mean loss of one batch, in parts that fit the memory budget."""
        x, y = augmented_batch(self.samples, self.batches(step), self.seed, step)
        labels = self._labels(len(x), step)
        self.module.train()
        num_labels = self.module.num_classes if labels is None else 1
        chunk = self.predictor.chunk_size(num_labels, x.device)
        for start in range(0, len(x), chunk):
            part = slice(start, start + chunk)
            at = None if labels is None else labels[part]
            logits, outputs = self.predictor.outputs(x[part], at)
            yield self.module.loss(outputs, logits, y[part]) / len(x)

    def fit_features(self) -> None:
        """Fit the scaling, in one streaming pass over augmented training images."""
        if self.predictor.features.scale is None:
            return
        wanted = self.predictor.recipe.statistics_samples
        chosen = self.samples.train[:wanted]
        x, _ = augmented_batch(self.samples, chosen, self.seed, -1)
        labels = self._random_labels(len(x), -1)
        chunk = self.predictor.chunk_size(1, x.device)
        for start in range(0, len(x), chunk):
            part = slice(start, start + chunk)
            _, blocks = self.predictor.blocks(x[part], labels[part])
            self.predictor.features.partial_fit(blocks)

    def evaluate(self) -> dict[str, float]:
        """Accuracy and mean loss of all-label prediction on the validation part."""
        return evaluate_predictor(self.predictor, self.samples)

    def _labels(self, count: int, step: int) -> Tensor | None:
        if self.module.head == "scorer":
            return None
        return self._random_labels(count, step)

    def _random_labels(self, count: int, step: int) -> Tensor:
        generator = make_generator("labels", self.seed, step)
        return torch.randint(
            self.module.num_classes, (count, 1), generator=generator
        ).to(self.samples.images.device)


def evaluate_predictor(
    predictor: GradNetPredictor,
    samples: Samples | EvaluationSamples,
    description: str | None = None,
) -> dict[str, float]:
    """Accuracy and mean cross-entropy of all-label prediction on centre crops.

    Args:
        predictor: what is judged.
        samples: a test set, or samples whose validation part is used.
        description: shows progress under this name.

    Returns:
        ``accuracy`` and ``loss``.
    """
    chunk = predictor.chunk_size(samples.num_classes, samples.images.device)
    if description is None:
        return evaluate_scores(predictor.scores, samples, chunk)
    with progress(description, len(samples.evaluation), "images") as advance:
        return evaluate_scores(predictor.scores, samples, chunk, advance)


def fit_gradnet(
    base: nn.Module,
    samples: Samples,
    recipe: Recipe,
    *,
    seed: int = 0,
    callbacks: Callbacks | None = None,
) -> tuple[GradNetPredictor, History]:
    """Train a GradNet on the gradients of a base network.

    Args:
        base: images to logits ``(N, K)``; never changed.
        samples: images that the base has not seen, better.
        recipe: see :data:`gradnet.classifier.recipes.RECIPES`.
        seed: of weights, order, augmentation and random labels.
        callbacks: see :class:`~gradnet.training.loop.Callbacks`.

    Returns:
        The predictor, with the best weights on the validation part, and what was done.

    Raises:
        GradnetError: the base cannot be differentiated sample by sample, the recipe
            does not fit it, or the loss is not finite.
    """
    with isolated_randomness():
        torch.manual_seed(derive_seed("gradnet", seed))
        predictor = GradNetPredictor(base, recipe, samples.num_classes)
    task = GradNetTask(predictor, samples, seed)
    task.fit_features()
    callbacks = callbacks or Callbacks()
    history = fit(
        task,
        recipe.training,
        seed=seed,
        callbacks=replace(callbacks, identity={**callbacks.identity, "recipe": recipe}),
    )
    return predictor, history
