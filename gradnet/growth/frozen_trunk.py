"""The frozen trunk of a network, and a cache of its outputs."""

from collections import OrderedDict
from collections.abc import Iterator

import torch
from torch import Tensor, nn
from torch.nn import functional

from gradnet.core.flops import Flops, forward_flops, training_flops
from gradnet.data.problem import Samples
from gradnet.errors import GradnetError
from gradnet.training.supervised import (
    EVALUATION_BATCH,
    SupervisedTask,
    set_training_mode,
)


def trunk_length(model: nn.Module) -> int:
    """How many of the first children have nothing to train, and follow frozen ones.

    Zero for a network that is no :class:`torch.nn.Sequential`, and where the first
    child with parameters trains.
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
    """The children from ``first`` up to ``last``, the same objects.

    A slice would be of the network's own class, whose arguments are others.
    """
    return nn.Sequential(OrderedDict(list(model.named_children())[first:last]))


class TrunkOutputs:
    """The outputs of the frozen trunk on the training images, kept between stages.

    Args:
        samples: their training part is used; its augmentation must not be random.
        max_bytes: of memory.

    Attributes:
        outputs: ``(N, ...)`` in the order of ``samples.train``.
        names: of the children that they came through.
        flops: that were spent.
    """

    def __init__(self, samples: Samples, max_bytes: float = 4e9) -> None:
        self.samples, self.max_bytes = samples, max_bytes
        self.outputs: Tensor | None = None
        self.names: list[str] = []
        self.flops = 0.0
        # The index of an image in the training part, and so of its output.
        self.rows = torch.full((len(samples.images),), -1)
        self.rows[samples.train] = torch.arange(len(samples.train))

    @property
    def length(self) -> int:
        """How many children the outputs came through."""
        return len(self.names)

    @torch.no_grad()
    def advance(self, model: nn.Sequential, length: int) -> None:
        """Take the outputs of the first ``length`` children.

        Children that were taken before must not have changed since; where others stand
        among them, or fewer, all is computed again.

        Raises:
            GradnetError: they need more memory than allowed.
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
                raise GradnetError(
                    f"the outputs of the frozen trunk need {needed / 1e9:.1f} GB, more "
                    f"than the {self.max_bytes / 1e9:.1f} that may be kept"
                )
        self.outputs, self.names = torch.cat(parts), names

    def _inputs(self, places: Tensor) -> Tensor:
        if self.outputs is not None:
            return self.outputs[places]
        images = self.samples.images[self.samples.train[places]]
        return self.samples.augmentation.evaluate(images)

    def __getitem__(self, indices: Tensor) -> Tensor:
        """The outputs ``(N, ...)`` for training images of these indices."""
        if self.outputs is None:
            raise GradnetError("the trunk's outputs were not computed yet")
        return self.outputs[self.rows[indices.cpu()]]


class BehindTrunkTask(SupervisedTask):
    """Trains the layers after a frozen trunk on its cached outputs.

    Args:
        module: the whole network, trunk included.
        samples: as for :class:`~gradnet.training.supervised.SupervisedTask`.
        batch_size: samples a step.
        seed: of the order.
        shuffle: see :class:`~gradnet.training.supervised.SupervisedTask`.
        trunk: the outputs of its frozen children.
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
        """The mean cross-entropy of one batch, in one part."""
        indices = self.batches(step)
        set_training_mode(self.rest)
        outputs = self.rest(self.trunk[indices])
        labels = self.samples.labels[indices.to(outputs.device)]
        yield functional.cross_entropy(outputs, labels)


def training_step_flops(task: SupervisedTask, probe: Tensor) -> Flops:
    """FLOPs of one training step, as it is executed.

    Args:
        task: what is trained; what is frozen in its module is not counted.
        probe: inputs ``(N, ...)`` of the network, at least two.
    """
    module, inputs = task.module, probe[:2]
    if isinstance(task, BehindTrunkTask):
        module = task.rest
        inputs = task.trunk[task.samples.train[:2]]
    set_training_mode(module)
    return training_flops(module, inputs) * task.batches.batch_size
