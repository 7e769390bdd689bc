"""The frozen trunk of a network, and a cache of its outputs."""

from collections import OrderedDict
from collections.abc import Iterator

import torch
from torch import Tensor, nn
from torch.nn import functional

from gradnet.core.flops import Flops, forward_flops, training_flops
from gradnet.data.problem import Samples
from gradnet.errors import InvalidInputError, NotFittedError
from gradnet.training.supervised import (
    EVALUATION_BATCH,
    SupervisedTask,
    set_training_mode,
)


def trunk_length(model: nn.Module) -> int:
    """The number of children in the frozen trunk, which ends with a frozen layer.

    Args:
        model: any network.

    Returns:
        How many of the first children have no trainable parameters, not counting
        layers without parameters at the end; 0 for a network that is not a
        :class:`torch.nn.Sequential`.
    """
    if not isinstance(model, nn.Sequential):
        return 0
    length = 0
    for index, child in enumerate(model):
        parameters = list(child.parameters())
        if any(parameter.requires_grad for parameter in parameters):
            break
        if parameters:
            length = index + 1
    return length


def children_between(model: nn.Sequential, first: int, last: int) -> nn.Sequential:
    """The children from ``first`` up to, not including, ``last``, as one module.

    Unlike a slice, which would call the constructor of the network's own class.

    Args:
        model: its children are shared, not copied.
        first: index of the first child.
        last: index after the last child.

    Returns:
        An ``nn.Sequential`` with the same names of children.
    """
    return nn.Sequential(OrderedDict(list(model.named_children())[first:last]))


class TrunkOutputs:
    """A cache of the frozen trunk's outputs on the training images.

    Args:
        samples: their training images are used; the augmentation must not be random.
        max_bytes: maximum size of the cache.

    Attributes:
        outputs: ``(N, ...)`` in the order of ``samples.train``.
        names: names of the children that computed them.
        flops: FLOPs spent so far.
    """

    def __init__(self, samples: Samples, max_bytes: float = 4e9) -> None:
        self.samples, self.max_bytes = samples, max_bytes
        self.outputs: Tensor | None = None
        self.names: list[str] = []
        self.flops = 0.0
        # Index of an image -> row of its output.
        self.rows = torch.full((len(samples.images),), -1)
        self.rows[samples.train] = torch.arange(len(samples.train))

    @property
    def length(self) -> int:
        """The number of children that computed the outputs."""
        return len(self.names)

    @torch.no_grad()
    def advance(self, model: nn.Sequential, length: int) -> None:
        """Compute the outputs of the first ``length`` children, from the cached ones.

        Children that were used before must not have changed since. If their names
        differ, or there are fewer, everything is computed again.

        Args:
            model: the whole network.
            length: see :func:`trunk_length`.

        Raises:
            InvalidInputError: the outputs need more than ``max_bytes`` of memory.
        """
        names = [name for name, _ in model.named_children()][:length]
        if self.names != names[: self.length]:
            self.outputs, self.names = None, []
        if names == self.names:
            return
        rest = children_between(model, self.length, length).eval()
        parts: list[Tensor] = []
        for batch in torch.arange(len(self.samples.train)).split(EVALUATION_BATCH):
            inputs = self._inputs(batch)
            if not parts:
                self.flops += len(self.samples.train) * forward_flops(rest, inputs)
            parts.append(rest(inputs))
            needed = parts[0][0].nbytes * len(self.samples.train)
            if needed > self.max_bytes:
                raise InvalidInputError(
                    f"the outputs of the frozen trunk need {needed / 1e9:.1f} GB, more "
                    f"than the limit of {self.max_bytes / 1e9:.1f} GB; set "
                    "cache_trunk to false"
                )
        self.outputs, self.names = torch.cat(parts), names

    def _inputs(self, rows: Tensor) -> Tensor:
        if self.outputs is not None:
            return self.outputs[rows]
        images = self.samples.images[self.samples.train[rows]]
        return self.samples.augmentation.evaluate(images)

    def __getitem__(self, indices: Tensor) -> Tensor:
        """The cached outputs of training images.

        Args:
            indices: of images in ``samples.images``, ``(N,)``.

        Returns:
            ``(N, ...)``.

        Raises:
            NotFittedError: :meth:`advance` was not called yet.
        """
        if self.outputs is None:
            raise NotFittedError("the trunk's outputs are not computed; call advance")
        return self.outputs[self.rows[indices.cpu()]]


class FrozenTrunkTask(SupervisedTask):
    """Trains the layers after a frozen trunk on its cached outputs.

    Args:
        module: the whole network, including the trunk.
        samples: as for :class:`~gradnet.training.supervised.SupervisedTask`.
        batch_size: samples per step.
        seed: of the order of samples.
        shuffle: see :class:`~gradnet.training.supervised.SupervisedTask`.
        trunk: the cached outputs of the network's frozen trunk.
    """

    def __init__(
        self,
        module: nn.Sequential,
        samples: Samples,
        batch_size: int,
        seed: int,
        shuffle: bool,
        trunk: TrunkOutputs,
    ) -> None:
        super().__init__(module, samples, batch_size, seed, shuffle)
        self.trunk = trunk
        self.rest = children_between(module, trunk.length, len(module))

    def losses(self, step: int) -> Iterator[Tensor]:
        """Yield the mean cross-entropy of one batch."""
        indices = self.batches(step)
        set_training_mode(self.rest)
        outputs = self.rest(self.trunk[indices])
        labels = self.samples.labels[indices.to(outputs.device)]
        yield functional.cross_entropy(outputs, labels)


def training_step_flops(task: SupervisedTask, probe: Tensor) -> Flops:
    """FLOPs of one training step, as executed.

    Args:
        task: gradients of frozen parameters are not counted.
        probe: inputs ``(N, ...)`` of the network, at least two.

    Returns:
        FLOPs of a batch's forward and backward pass.
    """
    module, inputs = task.module, probe[:2]
    if isinstance(task, FrozenTrunkTask):
        module = task.rest
        inputs = task.trunk[task.samples.train[:2]]
    set_training_mode(module)
    return training_flops(module, inputs) * task.batches.batch_size
