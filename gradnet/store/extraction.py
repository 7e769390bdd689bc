"""Computes the rows of a gradient store from a network and its images."""

import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor, nn

from gradnet.checkpoints.fingerprint import weights_fingerprint
from gradnet.checkpoints.inputs import Inputs, to_network
from gradnet.core.memory import MemorySize, parse_bytes
from gradnet.core.reproducibility import make_generator
from gradnet.core.validation import Count, NonNegative, Seed, Validated
from gradnet.errors import InvalidInputError
from gradnet.gradients.extractor import GradientExtractor
from gradnet.gradients.projections import ProjectedSize, Projection, Reduction, Subset
from gradnet.store.manifest import StorePlan


@dataclass(frozen=True, kw_only=True)
class ExtractionSettings(Validated):
    """Which gradients, and how they are stored.

    Attributes:
        layers: name patterns of the layers to read; default: all trainable ones.
        biases: read the biases too.
        weight_decay: adds this times the weights to each gradient; 5e-4 in 2018.
        labels: all candidate labels of each image, or one of them: a random one, the
            true one, or the one that the network predicts.
        seed: of random labels, projections and subsets.
        project: random projection of each block to this many numbers; smaller blocks
            are kept.
        projection: rademacher (random signs) or gaussian.
        subset: instead of a projection, this many coordinates of each block.
        dtype: of the numbers that are stored: float32, bfloat16 or float16.
        max_memory: of the gradients that are computed at once, such as 500MB.
        shard_size: of a file, at most 512MB.
    """

    layers: list[str] | None = None
    biases: bool = False
    weight_decay: NonNegative = 0.0
    labels: Literal["all", "random", "true", "predicted"] = "all"
    seed: Seed = 0
    project: ProjectedSize | None = None
    projection: Literal["rademacher", "gaussian"] = "rademacher"
    subset: Count | None = None
    dtype: Literal["float32", "bfloat16", "float16"] = "float32"
    max_memory: MemorySize = "256MB"
    shard_size: MemorySize = "256MB"

    def reduction(self) -> Reduction | None:
        """What is kept of each block; None keeps all.

        Raises:
            InvalidInputError: both kinds are asked for, or a size is below 1.
        """
        if self.project is not None and self.subset is not None:
            raise InvalidInputError("give a projection or a subset, not both")
        if self.project is not None:
            return Projection(self.project, self.projection, self.seed)
        if self.subset is not None:
            return Subset(self.subset, self.seed)
        return None


class Extraction:
    """The rows of a store, computed on demand.

    Args:
        network: images to logits ``(N, K)``, in evaluation mode.
        inputs: its images.
        settings: which gradients, and how they are stored.
        network_name: the user's name for the network; part of the fingerprint.

    Attributes:
        plan: of the store.

    Raises:
        InvalidInputError: a setting is out of its range, or a layer cannot be read.
    """

    def __init__(
        self,
        network: nn.Module,
        inputs: Inputs,
        settings: ExtractionSettings,
        network_name: str = "",
    ) -> None:
        self.network, self.inputs, self.settings = network, inputs, settings
        self._reduction = settings.reduction()
        dtype: torch.dtype = getattr(torch, settings.dtype)
        self.extractor = GradientExtractor(
            network,
            layers=settings.layers,
            biases=settings.biases,
            weight_decay=settings.weight_decay,
            max_memory=settings.max_memory,
            dtype=dtype,
        )
        self.num_logits = self._count_logits()
        self._random_labels = torch.randint(
            self.num_logits,
            (len(inputs.images), 1),
            generator=make_generator("extracted labels", settings.seed),
        )
        blocks = self.extractor.layout.blocks
        reduced = self._reduction
        self.plan = StorePlan(
            num_samples=len(inputs.images),
            labels_per_sample=self.num_logits if settings.labels == "all" else 1,
            num_logits=self.num_logits,
            blocks={b.name: reduced.size_of(b) if reduced else b.size for b in blocks},
            dtype=dtype,
            fingerprint=self._fingerprint(network_name),
            shard_bytes=parse_bytes(settings.shard_size),
        )

    def _count_logits(self) -> int:
        """``K``, once images, labels and logits are of types that are not cast."""
        images, targets = self.inputs.images.dtype, self.inputs.targets.dtype
        if images != torch.uint8 and not images.is_floating_point:
            raise InvalidInputError(
                f"images are {images}; they must be bytes or floats, and are not cast"
            )
        if targets != torch.int64:
            raise InvalidInputError(
                f"targets are {targets}; they must be int64, and are not cast"
            )
        with torch.no_grad():
            logits = self.network(self._images(slice(0, 1)))
        if not isinstance(logits, Tensor) or not logits.is_floating_point():
            kind = logits.dtype if isinstance(logits, Tensor) else type(logits).__name__
            raise InvalidInputError(
                f"the network returns {kind}; gradients are of real logits (N, K)"
            )
        count: int = logits.shape[-1]
        return count

    def rows(self, start: int, stop: int) -> Iterator[dict[str, Tensor]]:
        """The rows of samples ``start`` to ``stop``, a chunk at a time.

        Each chunk overwrites the last.
        """
        size = min(self._chunk_size(start), stop - start)
        buffers = self._buffers(size)
        for first in range(start, stop, size):
            part = slice(first, min(first + size, stop))
            x = self._images(part)
            labels = self._labels(part, x)
            if self._reduction is None:
                out = {name: b[: len(x)] for name, b in buffers.items()}
                logits, found = self.extractor.logits_and_gradients(x, labels, out)
                blocks = self.extractor.layout.to_blocks(found)
            else:
                logits, blocks = self.extractor.reduced(x, self._reduction, labels)
            yield self._as_rows(part, labels, logits, blocks)

    def probe(self) -> Tensor:
        """The network's inputs for the first few images."""
        return self._images(slice(0, 3))

    def seconds_per_sample(self) -> float:
        """The seconds that a sample takes, measured on the second of two chunks."""
        chunk = min(self._chunk_size(0), self.plan.num_samples)
        for _ in range(2):
            start = time.perf_counter()
            for _ in self.rows(0, chunk):
                pass
            seconds = time.perf_counter() - start
        return seconds / chunk

    def _as_rows(
        self, part: slice, labels: Tensor, logits: Tensor, blocks: dict[str, Tensor]
    ) -> dict[str, Tensor]:
        count = labels.shape[1]
        samples = torch.arange(part.start, part.stop)
        return {f"block/{n}": b.flatten(0, 1).cpu() for n, b in blocks.items()} | {
            "index": samples.repeat_interleave(count),
            "label": labels.flatten().cpu(),
            "target": self.inputs.targets[part].cpu().repeat_interleave(count),
            "logits": logits.float().cpu().repeat_interleave(count, dim=0),
        }

    def _images(self, part: slice) -> Tensor:
        return to_network(self.network, self.inputs, part)

    def _labels(self, part: slice, x: Tensor) -> Tensor:
        """Candidate labels ``(n, C)``."""
        if self.settings.labels == "all":
            return torch.arange(self.num_logits, device=x.device).expand(len(x), -1)
        if self.settings.labels == "random":
            return self._random_labels[part].to(x.device)
        if self.settings.labels == "true":
            return self.inputs.targets[part, None].to(x.device)
        with torch.no_grad():
            predicted: Tensor = self.network(x)
        return predicted.argmax(1, keepdim=True)

    def _chunk_size(self, start: int) -> int:
        """Samples of a chunk; measured once."""
        x = self._images(slice(start, start + 3))
        labels = self._labels(slice(start, start + 3), x)
        return self.extractor.samples_per_chunk(x, labels, self._reduction)

    def _buffers(self, size: int) -> dict[str, Tensor]:
        if self._reduction is not None:
            return {}
        device = next(self.network.parameters()).device
        return self.extractor.allocate(size, self.plan.labels_per_sample, device)

    def _fingerprint(self, network_name: str) -> dict[str, Any]:
        settings = self.settings
        reduced = None if self._reduction is None else self._reduction.to_dict()
        return {
            "network": network_name,
            "weights": weights_fingerprint(self.network),
            "data": self.inputs.description,
            "layers": self.extractor.layout.to_dict(),
            "loss": "cross_entropy",
            "weight_decay": settings.weight_decay,
            "labels": settings.labels,
            "labels_seed": settings.seed if settings.labels == "random" else None,
            "reduction": reduced,
        }
