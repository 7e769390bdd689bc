"""Learning from labelled samples: batches, augmentation, accuracy on centre crops."""

from collections.abc import Callable, Iterator

import torch
from torch import Tensor, nn
from torch.nn import functional

from gradnet.core.progress import progress
from gradnet.core.reproducibility import make_generator
from gradnet.data.problem import EvaluationSamples, Samples

EVALUATION_BATCH = 250


class SupervisedTask:
    """Classification of augmented images by cross-entropy.

    Args:
        module: images ``(N, channels, h, w)`` to logits ``(N, K)``.
        samples: what it is trained and validated on.
        batch_size: samples a step.
        seed: of the order and of the augmentation.
        shuffle: a new order every epoch; otherwise always that of ``samples.train``.
    """

    def __init__(
        self,
        module: nn.Module,
        samples: Samples,
        batch_size: int,
        seed: int,
        shuffle: bool = True,
    ) -> None:
        self.module, self.samples = module, samples
        self.batches = Batches(samples.train, batch_size, seed, shuffle)
        self.seed = seed

    def losses(self, step: int) -> Iterator[Tensor]:
        """The mean cross-entropy of one batch, in one part."""
        x, y = augmented_batch(self.samples, self.batches(step), self.seed, step)
        set_training_mode(self.module)
        yield functional.cross_entropy(self.module(x), y)

    def evaluate(self) -> dict[str, float]:
        """Accuracy and mean loss on the validation part, in evaluation mode."""
        return evaluate(self.module, self.samples)


def set_training_mode(module: nn.Module) -> None:
    """Training mode for all but what is frozen, whose running statistics stay too.

    What has no parameters follows the module that it is a part of: so the dropout of a
    frozen block is off.
    """
    module.train()
    for layer in module.modules():
        parameters = list(layer.parameters())
        if parameters and not any(p.requires_grad for p in parameters):
            layer.eval()


def augmented_batch(
    samples: Samples, indices: Tensor, seed: int, step: int
) -> tuple[Tensor, Tensor]:
    """Augmented images ``(N, channels, h, w)`` and labels ``(N,)`` of a batch."""
    device = samples.images.device
    indices = indices.to(device)
    generator = make_generator("augment", seed, step, device=device)
    x = samples.augmentation.train(samples.images[indices], generator)
    return x, samples.labels[indices]


class Batches:
    """The indices of each step's batch: a new seeded shuffle every epoch.

    A batch that an epoch's end would cut short is left out of that epoch.

    Args:
        indices: of the samples ``(N,)``.
        batch_size: samples a step.
        seed: of the shuffles.
        shuffle: false keeps the order of ``indices``.
    """

    def __init__(
        self, indices: Tensor, batch_size: int, seed: int, shuffle: bool = True
    ) -> None:
        self.indices, self.seed, self.shuffle = indices, seed, shuffle
        self.batch_size = min(batch_size, len(indices))
        self.steps_per_epoch = len(indices) // self.batch_size
        self._shuffled: tuple[int, Tensor] | None = None

    def __call__(self, step: int) -> Tensor:
        """The indices ``(N,)`` of a step, counted from 0."""
        epoch, place = divmod(step, self.steps_per_epoch)
        start = place * self.batch_size
        if not self.shuffle:
            return self.indices[start : start + self.batch_size]
        if self._shuffled is None or self._shuffled[0] != epoch:
            generator = make_generator("order", self.seed, epoch)
            order = torch.randperm(len(self.indices), generator=generator)
            self._shuffled = epoch, self.indices[order]
        return self._shuffled[1][start : start + self.batch_size]


@torch.no_grad()
def evaluate(
    module: nn.Module,
    samples: Samples | EvaluationSamples,
    description: str | None = None,
) -> dict[str, float]:
    """Accuracy and mean cross-entropy on centre crops.

    Args:
        module: images to logits ``(N, K)``; left in evaluation mode.
        samples: a test set, or samples whose validation part is used.
        description: shows progress under this name; None shows none.

    Returns:
        ``accuracy`` and ``loss``.
    """
    module.eval()
    if description is None:
        return evaluate_scores(module, samples, EVALUATION_BATCH)
    with progress(description, len(samples.evaluation), "images") as advance:
        return evaluate_scores(module, samples, EVALUATION_BATCH, advance)


def evaluate_scores(
    score: Callable[[Tensor], Tensor],
    samples: Samples | EvaluationSamples,
    batch_size: int,
    advance: Callable[[int], None] = lambda count: None,
) -> dict[str, float]:
    """Accuracy and mean cross-entropy of a function that scores images.

    Args:
        score: centre crops ``(N, channels, h, w)`` to scores ``(N, K)``.
        samples: a test set, or samples whose validation part is used.
        batch_size: images a call.
        advance: called with the number of images just done.

    Returns:
        ``accuracy`` and ``loss``.
    """
    correct, loss = 0, 0.0
    for batch in samples.evaluation.to(samples.images.device).split(batch_size):
        scores = score(samples.augmentation.evaluate(samples.images[batch]))
        y = samples.labels[batch]
        loss += functional.cross_entropy(scores, y, reduction="sum").item()
        correct += int((scores.argmax(1) == y).sum())
        advance(len(batch))
    count = len(samples.evaluation)
    return {"accuracy": correct / count, "loss": loss / count}
