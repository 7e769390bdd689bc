"""GradNet's training on gradients from a store, in place of fresh ones."""

from collections.abc import Iterator
from dataclasses import replace

import torch
from torch import Tensor, nn
from torch.nn import functional

from gradnet.checkpoints.fingerprint import weights_fingerprint
from gradnet.classifier.network import GradNet
from gradnet.classifier.predictor import GradNetPredictor
from gradnet.classifier.recipes import Recipe
from gradnet.core.reproducibility import (
    derive_seed,
    isolated_randomness,
    make_generator,
)
from gradnet.errors import GradnetError
from gradnet.store.dataset import shard_order
from gradnet.store.reader import GradientStore
from gradnet.training.loop import Callbacks, History, fit

# Shards whose samples are mixed: so few are read at a time.
SHARD_WINDOW = 4


class StoredTask:
    """Trains a predictor's network on a store's gradients at all labels.

    The images are those of the store, without new augmentation; else it does what
    :class:`~gradnet.classifier.fit.GradNetTask` does.

    Args:
        predictor: its network is trained.
        store: gradients at all K labels.
        train: samples for training.
        validation: samples for stopping.
        seed: of order and random labels.
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
        self.module: GradNet = predictor.network
        wanted = predictor.recipe.training.batch_size
        self.batch_size = min(wanted, len(train))
        self.device = next(predictor.network.parameters()).device
        self._order: tuple[int, Tensor] | None = None

    def losses(self, step: int) -> Iterator[Tensor]:
        """The mean loss of one batch, in parts that fit the memory budget."""
        self.module.train()
        batch = self._batch(step)
        generator = make_generator("labels", self.seed, step)
        drawn = torch.randint(self.module.num_classes, batch.shape, generator=generator)
        chunk = self.predictor.chunk_size(self.module.num_classes, self.device)
        for part, at in zip(batch.split(chunk), drawn.split(chunk), strict=True):
            rows = self._read(part)
            if self.module.head == "sum":
                rows = _at_labels(rows, at.to(self.device))
            outputs = self._outputs(rows)
            logits, y = rows["logits"][:, 0], rows["target"][:, 0]
            yield self.module.loss(outputs, logits, y) / len(batch)

    def fit_features(self) -> None:
        """Fit the scaling, on training samples at one random label each."""
        if self.predictor.features.scale is None:
            return
        chosen = self.train[: self.predictor.recipe.statistics_samples]
        generator = make_generator("labels", self.seed, -1)
        classes = self.module.num_classes
        drawn = torch.randint(classes, chosen.shape, generator=generator)
        chunk = self.predictor.chunk_size(classes, self.device)
        for part, at in zip(chosen.split(chunk), drawn.split(chunk), strict=True):
            rows = _at_labels(self._read(part), at.to(self.device))
            self.predictor.features.partial_fit(self._blocks(rows))

    @torch.no_grad()
    def evaluate(self) -> dict[str, float]:
        """Accuracy and mean loss of all-label prediction on the validation samples."""
        self.module.eval()
        correct = loss = 0.0
        chunk = self.predictor.chunk_size(self.module.num_classes, self.device)
        for part in self.validation.split(chunk):
            rows = self._read(part)
            scores = self.module.predict(self._outputs(rows), rows["logits"][:, 0])
            y = rows["target"][:, 0]
            correct += float((scores.argmax(1) == y).sum())
            loss += float(functional.cross_entropy(scores, y, reduction="sum"))
        count = len(self.validation)
        return {"accuracy": correct / count, "loss": loss / count}

    def _batch(self, step: int) -> Tensor:
        epoch, place = divmod(step, len(self.train) // self.batch_size)
        if self._order is None or self._order[0] != epoch:
            keys = self.seed, epoch
            order = shard_order(self.store.plan, self.train, SHARD_WINDOW, *keys)
            self._order = epoch, order
        return self._order[1][place * self.batch_size :][: self.batch_size]

    def _read(self, samples: Tensor) -> dict[str, Tensor]:
        """The rows of samples: ``(n, C, ...)``."""
        rows = self.store.gather(samples.tolist())
        return {name: values.to(self.device) for name, values in rows.items()}

    def _blocks(self, rows: dict[str, Tensor]) -> dict[str, Tensor]:
        dtype = next(self.module.parameters()).dtype
        return {name: rows[f"block/{name}"].to(dtype) for name in self.store.blocks}

    def _outputs(self, rows: dict[str, Tensor]) -> Tensor:
        blocks = self._blocks(rows)
        self.predictor.gradients_used += rows["label"].numel()
        features = self.predictor.features.transform(blocks, inplace=True)
        outputs: Tensor = self.module(features)
        return outputs


def _at_labels(rows: dict[str, Tensor], labels: Tensor) -> dict[str, Tensor]:
    """Of each sample the row of one label ``(n,)``: ``(n, 1, ...)``."""
    samples = torch.arange(len(labels), device=labels.device)
    return {name: values[samples, labels][:, None] for name, values in rows.items()}


def fit_stored(
    base: nn.Module,
    store: GradientStore,
    recipe: Recipe,
    *,
    validation_fraction: float = 0.1,
    seed: int = 0,
    callbacks: Callbacks | None = None,
) -> tuple[GradNetPredictor, History]:
    """Train a GradNet on the gradients of a store.

    Args:
        base: the network that they were read from; never changed.
        store: gradients at all labels, not reduced.
        recipe: see :data:`gradnet.classifier.recipes.RECIPES`.
        validation_fraction: part of the samples that stops the training.
        seed: of weights, order, random labels and of which samples validate.
        callbacks: see :class:`~gradnet.training.loop.Callbacks`.

    Returns:
        The predictor, with the best weights on the validation samples, and what was
        done.

    Raises:
        GradnetError: the store was made by another network or in a way that prediction
            cannot repeat, or it has fewer than two samples.
    """
    with isolated_randomness():
        torch.manual_seed(derive_seed("gradnet", seed))
        predictor = GradNetPredictor(base, recipe, store.plan.num_logits)
    _refuse_unfit(store, predictor)
    order = torch.randperm(
        store.num_samples, generator=make_generator("stored samples", seed)
    )
    held_out = max(1, round(validation_fraction * store.num_samples))
    train, validation = order[held_out:].sort().values, order[:held_out].sort().values
    task = StoredTask(predictor, store, train, validation, seed)
    task.fit_features()
    callbacks = callbacks or Callbacks()
    identity = {
        **callbacks.identity,
        "recipe": recipe,
        "store": store.plan.digest,
    }
    history = fit(
        task,
        recipe.training,
        seed=seed,
        callbacks=replace(callbacks, identity=identity),
    )
    return predictor, history


def _refuse_unfit(store: GradientStore, predictor: GradNetPredictor) -> None:
    """Refuse gradients that the predictor would not read itself."""
    made_by = store.fingerprint
    layout, recipe = predictor.layout, predictor.recipe
    wanted = {
        "weights": weights_fingerprint(predictor.base),
        "labels": "all",
        "reduction": None,
        "weight_decay": recipe.weight_decay_term,
        "layers": layout.to_dict(),
    }
    for name, value in wanted.items():
        if made_by.get(name) != value:
            raise GradnetError(
                f"{store.location} does not fit: its {name} is {made_by.get(name)!r}, "
                f"the network and the recipe need {value!r}; extract it anew"
            )
    if store.num_samples < 2:
        raise GradnetError(f"{store.location} has one sample; give it two at least")
