"""GradNetPredictor: a base network and its GradNet, which together classify."""

import functools
import math
from collections.abc import Callable, Hashable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from gradnet.checkpoints.bounded_build import build_from_file
from gradnet.checkpoints.exact_weights import load_exactly
from gradnet.checkpoints.fingerprint import weights_fingerprint
from gradnet.checkpoints.tensor_file import load_with_header, save_with_header
from gradnet.classifier.features import Features
from gradnet.classifier.network import GradNet
from gradnet.classifier.predictor_file import (
    FORMAT,
    recipe_of,
    statistics_fault,
    tensors_below,
)
from gradnet.classifier.recipes import Recipe
from gradnet.classifier.tangent import (
    is_tangent_model,
    logits_and_scores,
    tangent_weights,
)
from gradnet.core.reproducibility import isolated_randomness, versions
from gradnet.core.text import listed, shown
from gradnet.errors import DamagedFileError, InvalidInputError
from gradnet.gradients.extractor import GradientExtractor
from gradnet.gradients.layout import BlockLayout


class GradNetPredictor:
    """Classifies by the gradients at all labels, one chunk of samples at a time.

    Args:
        base: inputs ``(N, ...)`` to logits ``(N, K)``, in evaluation mode; it is not
            modified.
        recipe: how its gradients are read and classified.
        num_classes: ``K``.
        max_memory: of one chunk in training and prediction, in bytes or such as
            ``"2GB"``; None takes the default of :data:`gradnet.core.memory.BUDGETS`. A
            chunk has at least one sample.

    Attributes:
        features: fitted by :func:`gradnet.classifier.fit.fit_gradnet`.
        network: trained by it; untrained at first.
        gradients_used: how many gradients were computed so far, formed or not.
        about: what stands in the header of the file that it was read from; else empty.

    Raises:
        InvalidInputError: the recipe does not fit the base network.

    Example:
        >>> from gradnet import RECIPES
        >>> base = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 3)).eval()
        >>> predictor = GradNetPredictor(base, RECIPES["default"], num_classes=3)
        >>> predictor.scores(torch.ones(5, 4)).shape
        torch.Size([5, 3])
        >>> predictor.gradients_used >= 5 * 3
        True
    """

    def __init__(
        self,
        base: nn.Module,
        recipe: Recipe,
        num_classes: int,
        *,
        max_memory: str | float | None = None,
    ) -> None:
        self.base, self.recipe = base, recipe
        self.extractor = GradientExtractor(
            base,
            layers=recipe.layers,
            biases=recipe.biases,
            weight_decay=recipe.weight_decay_term,
            max_memory=max_memory,
        )
        layout = self.layout
        sizes = dict(zip(layout.names, layout.sizes, strict=True))
        self.features: Features = recipe.features.make()
        self.network: GradNet = recipe.make_network(sizes, num_classes)
        self.network.to(next(base.parameters()))
        self.gradients_used = 0
        self.about: dict[str, Any] = {}

    @property
    def layout(self) -> BlockLayout:
        """Which coordinates belong to which layer."""
        return self.extractor.layout

    def parts(
        self,
        kind: Hashable,
        work: Callable[[slice], Tensor | None],
        count: int,
        device: torch.device,
    ) -> list[slice]:
        """Slices of ``count`` samples, each of which fits the memory budget.

        Args:
            kind: identifies the kind of work; samples of one kind need the same memory.
            work: processes a slice of the samples. It is run to measure its memory,
                with a backward pass to the network's weights if its result requires
                one; this changes neither random numbers nor ``gradients_used``.
            count: ``N``.
            device: where the work is done.
        """

        def run(samples: int) -> None:
            used = self.gradients_used
            with isolated_randomness():
                result = work(slice(0, samples))
                if result is not None and result.requires_grad:
                    weights = [p for p in self.network.parameters() if p.requires_grad]
                    torch.autograd.grad(result.sum(), weights, allow_unused=True)
            self.gradients_used = used

        key = kind, torch.is_grad_enabled(), self.network.training
        size = self.extractor.chunk_sizes.find_up_to(count, key, run, device)
        return [slice(start, start + size) for start in range(0, count, size)]

    @property
    def is_tangent_model(self) -> bool:
        """Whether scores are linear in the gradients, so that none must be formed."""
        return is_tangent_model(self.extractor, self.features, self.network)

    def blocks(
        self, x: Tensor, labels: Tensor | None = None
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """Base logits ``(N, K)`` and gradients, block name -> ``(N, C, D)``.

        Args:
            x: ``(N, ...)``, few enough that their gradients fit in memory.
            labels: ``(N, C)``; None takes all K.
        """
        logits, gradients = self.extractor.logits_and_gradients(x, labels)
        blocks = self.layout.to_blocks(gradients)
        self.gradients_used += next(iter(blocks.values())).shape[:2].numel()
        return logits, blocks

    def outputs(self, x: Tensor, labels: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Base logits ``(N, K)`` and the network's outputs for the gradients.

        Args:
            x: ``(N, ...)``, few enough that their gradients fit in memory.
            labels: ``(N, C)``; None takes all K.

        Returns:
            The logits; the outputs, ``(N, C, K)`` of the sum head, ``(N, C)`` of the
            scorer.
        """
        if labels is None and self.is_tangent_model:
            weights = tangent_weights(self.extractor, self.features, self.network)
            self.gradients_used += len(x) * self.network.num_classes
            return logits_and_scores(self.extractor, weights, x)
        if not self.features.steps:
            logits, unformed = self.extractor.factored_blocks(x, labels)
            self.gradients_used += math.prod(next(iter(unformed.values())).count)
            return logits, self.network(unformed)
        logits, blocks = self.blocks(x, labels)
        return logits, self.network(self.features.transform(blocks, inplace=True))

    @torch.no_grad()
    def scores(
        self, x: Tensor, advance: Callable[[int], None] = lambda count: None
    ) -> Tensor:
        """Scores ``(N, K)`` of inputs ``(N, ...)``, by the gradients at all labels.

        Args:
            x: as the base network takes them.
            advance: called with the number of samples just done.
        """
        self.network.eval()
        if not len(x):
            logits, outputs = self.outputs(x)
            return self.network.predict(outputs, logits)
        scores = []
        kind = ("images", x.shape[1:]), True
        work = functools.partial(_outputs_of, self, x)
        for part in self.parts(kind, work, len(x), x.device):
            logits, outputs = self.outputs(x[part])
            scores.append(self.network.predict(outputs, logits))
            advance(len(logits))
        return torch.cat(scores)

    def save(self, path: str | Path, **about: object) -> Path:
        """Write GradNet, its recipe and the fitted statistics; not the base network.

        Args:
            path: a ``.safetensors`` file.
            about: further JSON values for the header, such as accuracy and seed.

        Returns:
            The path.
        """
        tensors = {f"network/{k}": v for k, v in self.network.state_dict().items()}
        tensors |= {f"features/{k}": v for k, v in self.features.state_dict().items()}
        header = {
            "recipe": self.recipe.to_dict(),
            "layout": self.layout.to_dict(),
            "num_classes": self.network.num_classes,
            "base": weights_fingerprint(self.base),
            "versions": versions(),
            **about,
        }
        return save_with_header(path, tensors, FORMAT.stamp(header))

    @classmethod
    def load(cls, path: str | Path, base: nn.Module) -> "GradNetPredictor":
        """Read a GradNet that was trained on the gradients of a base network.

        Args:
            path: a file that :meth:`save` wrote.
            base: that base network, in evaluation mode.

        Raises:
            DamagedFileError: the file is missing, damaged, or holds no GradNet.
            InvalidInputError: the weights of the base network are different ones.
        """
        header, tensors = load_with_header(path)
        if header.get("kind") != FORMAT.kind:
            raise DamagedFileError(
                f"{path} holds no GradNet; was a base snapshot meant?"
            )
        header = FORMAT.read(header, str(path))
        recipe = recipe_of(header, str(path))
        if header["base"] != weights_fingerprint(base):
            raise InvalidInputError(
                f"{path} was read from another base network (its weights have the "
                f"fingerprint {shown(header['base'])}, these "
                f"{weights_fingerprint(base)})"
            )

        def build() -> GradNetPredictor:
            return cls(base, recipe, header["num_classes"])

        predictor = build_from_file(build, tensors.values(), str(path), "GradNet")
        load_exactly(predictor.network, tensors_below(tensors, "network/"), str(path))
        statistics = tensors_below(tensors, "features/")
        scaled = predictor.features.scale is not None
        if fault := statistics_fault(statistics, predictor.layout, scaled):
            raise DamagedFileError(f"{path} has damaged statistics: {fault}")
        if odd := [n for n in tensors if not n.startswith(("network/", "features/"))]:
            raise DamagedFileError(f"{path} holds other tensors too: {listed(odd)}")
        predictor.features.load_state_dict(statistics)
        predictor.about = header
        return predictor


def _outputs_of(predictor: GradNetPredictor, x: Tensor, part: slice) -> Tensor:
    return predictor.outputs(x[part])[1]
