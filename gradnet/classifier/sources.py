"""Sources of gradients for GradNet's training: computed from images, or stored.

A source returns batches. A batch returns the network's outputs part by part, so that
only the gradients of one part are in memory.
"""

from collections.abc import Callable, Hashable
from dataclasses import dataclass
from typing import NamedTuple, Protocol

import torch
from torch import Tensor

from gradnet.classifier.predictor import GradNetPredictor
from gradnet.core.reproducibility import make_generator
from gradnet.data.problem import EvaluationSamples, Samples
from gradnet.store.dataset import shard_order
from gradnet.store.reader import GradientStore
from gradnet.training.supervised import Batches, augmented_batch

# The number of shards whose samples are shuffled together.
SHARD_WINDOW = 4


class Outputs(NamedTuple):
    """The arguments of a loss.

    Attributes:
        logits: the base network's, ``(n, K)``.
        outputs: GradNet's, see :meth:`GradNetPredictor.outputs`.
        targets: true labels ``(n,)``.
    """

    logits: Tensor
    outputs: Tensor
    targets: Tensor


class Batch(Protocol):
    """Samples whose gradients are requested part by part."""

    @property
    def kind(self) -> Hashable:
        """Identifies the kind of batch; one kind needs the same memory a sample."""

    @property
    def device(self) -> torch.device:
        """Where the outputs are."""

    def __len__(self) -> int:
        """``N``, the number of samples."""

    def outputs(self, part: slice, labels: Tensor | None = None) -> Outputs:
        """GradNet's outputs for some samples.

        Args:
            part: the slice of the samples.
            labels: ``(n, 1)``, a candidate label for each; None takes all ``K``.
        """

    def blocks(self, part: slice, labels: Tensor) -> dict[str, Tensor]:
        """Gradients at one label each.

        Args:
            part: the slice of the samples.
            labels: ``(n, 1)``.

        Returns:
            Block name -> ``(n, 1, D)``.
        """


class GradientSource(Protocol):
    """Samples with gradients, divided into training and validation samples."""

    def training_batch(self, step: int) -> Batch:
        """The batch of a step; it depends on the step alone."""

    def statistics_batch(self, count: int) -> Batch:
        """Up to ``count`` training samples, to fit the scaling of features on."""

    def validation_batch(self) -> Batch:
        """All validation samples."""


@dataclass(frozen=True)
class ImageBatch:
    """Images whose gradients are computed on request and not kept.

    Attributes:
        predictor: computes the gradients.
        inputs: function of a slice that returns the base network's inputs.
        targets: true labels ``(N,)``, on the images' device.
    """

    predictor: GradNetPredictor
    inputs: Callable[[slice], Tensor]
    targets: Tensor

    @property
    def kind(self) -> Hashable:
        """See :class:`Batch`."""
        return "images", self.inputs(slice(0, 1)).shape[1:]

    @property
    def device(self) -> torch.device:
        """See :class:`Batch`."""
        return self.targets.device

    def __len__(self) -> int:
        """See :class:`Batch`."""
        return len(self.targets)

    def outputs(self, part: slice, labels: Tensor | None = None) -> Outputs:
        """See :class:`Batch`."""
        found = self.predictor.outputs(self.inputs(part), labels)
        return Outputs(*found, self.targets[part])

    def blocks(self, part: slice, labels: Tensor) -> dict[str, Tensor]:
        """See :class:`Batch`."""
        return self.predictor.blocks(self.inputs(part), labels)[1]


class FreshGradients:
    """Gradients of images, with new augmentation in each step.

    Args:
        predictor: computes the gradients.
        samples: images, labels, and their training and validation parts.
        seed: of order and augmentation.
    """

    def __init__(
        self, predictor: GradNetPredictor, samples: Samples, seed: int
    ) -> None:
        self.predictor, self.samples, self.seed = predictor, samples, seed
        batch_size = predictor.recipe.training.batch_size
        self.batches = Batches(samples.train, batch_size, seed)

    def training_batch(self, step: int) -> ImageBatch:
        """See :class:`GradientSource`."""
        return self._augmented(self.batches(step), step)

    def statistics_batch(self, count: int) -> ImageBatch:
        """See :class:`GradientSource`."""
        return self._augmented(self.samples.train[:count], -1)

    def validation_batch(self) -> ImageBatch:
        """See :class:`GradientSource`; centre crops."""
        return validation_batch(self.predictor, self.samples)

    def _augmented(self, indices: Tensor, step: int) -> ImageBatch:
        x, y = augmented_batch(self.samples, indices, self.seed, step)
        return ImageBatch(self.predictor, lambda part: x[part], y)


def validation_batch(
    predictor: GradNetPredictor, samples: Samples | EvaluationSamples
) -> ImageBatch:
    """The samples for evaluation, as centre crops."""
    indices = samples.evaluation.to(samples.images.device)

    def inputs(part: slice) -> Tensor:
        return samples.augmentation.evaluate(samples.images[indices[part]])

    return ImageBatch(predictor, inputs, samples.labels[indices])


@dataclass(frozen=True)
class StoredBatch:
    """Samples of a store, which are read on request.

    Attributes:
        predictor: its features and network are applied to the gradients.
        store: gradients at all ``K`` labels.
        samples: positions in the store, ``(N,)``.
    """

    predictor: GradNetPredictor
    store: GradientStore
    samples: Tensor

    @property
    def kind(self) -> Hashable:
        """See :class:`Batch`."""
        return "store", self.store.location

    @property
    def device(self) -> torch.device:
        """See :class:`Batch`."""
        return next(self.predictor.network.parameters()).device

    def __len__(self) -> int:
        """See :class:`Batch`."""
        return len(self.samples)

    def outputs(self, part: slice, labels: Tensor | None = None) -> Outputs:
        """See :class:`Batch`."""
        rows = self._read(part, labels)
        self.predictor.gradients_used += rows["label"].numel()
        features = self.predictor.features.transform(self._blocks(rows), inplace=True)
        outputs: Tensor = self.predictor.network(features)
        return Outputs(rows["logits"][:, 0], outputs, rows["target"][:, 0])

    def blocks(self, part: slice, labels: Tensor) -> dict[str, Tensor]:
        """See :class:`Batch`."""
        return self._blocks(self._read(part, labels))

    def _read(self, part: slice, labels: Tensor | None) -> dict[str, Tensor]:
        """The rows of samples, ``(n, C, ...)`` each."""
        found = self.store.gather(self.samples[part].tolist())
        rows = {name: values.to(self.device) for name, values in found.items()}
        if labels is None:
            return rows
        samples = torch.arange(len(labels), device=self.device)[:, None]
        return {name: values[samples, labels] for name, values in rows.items()}

    def _blocks(self, rows: dict[str, Tensor]) -> dict[str, Tensor]:
        dtype = next(self.predictor.network.parameters()).dtype
        return {name: rows[f"block/{name}"].to(dtype) for name in self.store.blocks}


class StoredGradients:
    """Gradients from a store, without new augmentation.

    Args:
        predictor: its features and network are applied to the gradients.
        store: gradients at all ``K`` labels.
        train: positions of the training samples.
        validation: positions of the validation samples.
        seed: of the order.
    """

    def __init__(
        self,
        predictor: GradNetPredictor,
        store: GradientStore,
        train: Tensor,
        validation: Tensor,
        seed: int,
    ) -> None:
        self.predictor, self.store, self.seed = predictor, store, seed
        self.train, self.validation = train, validation
        self.batch_size = min(predictor.recipe.training.batch_size, len(train))
        self._order: tuple[int, Tensor] | None = None

    def training_batch(self, step: int) -> StoredBatch:
        """See :class:`GradientSource`."""
        return self._batch(self.indices(step))

    def statistics_batch(self, count: int) -> StoredBatch:
        """See :class:`GradientSource`."""
        return self._batch(self.train[:count])

    def validation_batch(self) -> StoredBatch:
        """See :class:`GradientSource`."""
        return self._batch(self.validation)

    def indices(self, step: int) -> Tensor:
        """Positions ``(n,)`` of the samples of a step; shuffled anew in each epoch."""
        epoch, index = divmod(step, len(self.train) // self.batch_size)
        if self._order is None or self._order[0] != epoch:
            keys = self.seed, epoch
            order = shard_order(self.store.plan, self.train, SHARD_WINDOW, *keys)
            self._order = epoch, order
        return self._order[1][index * self.batch_size :][: self.batch_size]

    def _batch(self, samples: Tensor) -> StoredBatch:
        return StoredBatch(self.predictor, self.store, samples)


def split_store(
    store: GradientStore, validation_fraction: float, seed: int
) -> tuple[Tensor, Tensor]:
    """Divide a store at random.

    Args:
        store: the store.
        validation_fraction: fraction of the samples for validation; at least one.
        seed: of the division.

    Returns:
        Positions of the training samples and of the validation samples, ascending.
    """
    order = torch.randperm(
        store.num_samples, generator=make_generator("stored samples", seed)
    )
    held_out = max(1, round(validation_fraction * store.num_samples))
    return order[held_out:].sort().values, order[:held_out].sort().values
