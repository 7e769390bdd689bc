"""Whether the engines agree with plain backward passes on a user's network and data."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product

import torch
from torch import Tensor, nn
from torch.nn import functional

from gradnet.errors import GradnetError
from gradnet.gradients.extractor import GradientExtractor

TOLERANCES = {torch.float64: 1e-10, torch.float32: 1e-4, torch.float16: 2e-2}
# A gradient is measured against at least this part of the sample's largest one: where
# a network is sure, softmax minus one is next to zero and little but rounding.
SMALLEST_PART = 1e-2
GROUP_BYTES = 256e6


@dataclass(frozen=True)
class BlockAgreement:
    """How well one block agrees.

    Attributes:
        block: the layer's name.
        error: the largest relative error over samples and labels.
        norm: of the largest gradient, by backward passes.
        engine_norm: of the largest gradient, by the engine.
        path: which engine read it, and why not the fast one.
    """

    block: str
    error: float
    norm: float
    engine_norm: float
    path: str


def default_tolerance(dtype: torch.dtype) -> float:
    """What rounding may do, by the type of the weights."""
    return TOLERANCES.get(dtype, 1e-1)


def compare_engines(
    model: nn.Module,
    x: Tensor,
    labels: Tensor | None = None,
    layers: str | Sequence[str] | None = None,
    biases: bool = True,
) -> list[BlockAgreement]:
    """Compare the gradients of all samples at once with one backward pass for each.

    The relative error of a block at a sample and a label is ``|ours - loop| / |loop|``,
    where ``|loop|`` counts as at least a hundredth of the sample's largest over its
    labels. The model is left as it is.

    Args:
        model: maps ``(N, ...)`` to logits ``(N, K)``; in evaluation mode.
        x: a few samples ``(N, ...)``, in the type of the weights.
        labels: ``(N, C)``; None takes all K.
        layers: name patterns of the layers to compare, see
            :meth:`gradnet.gradients.layout.BlockLayout.of`.
        biases: compare the biases too.

    Returns:
        One row a block, in network order.

    Raises:
        GradnetError: there are no samples or labels, or the engine cannot read the
            model, see :meth:`GradientExtractor.logits_and_gradients`.
    """
    extractor = GradientExtractor(model, layers, biases, engine="auto")
    layout = extractor.layout
    if labels is None:
        num_logits = extractor.logits_and_gradients(x[:0])[0].shape[1]
        labels = torch.arange(num_logits, device=x.device).expand(len(x), -1)
    if not labels.numel():
        raise GradnetError("there is nothing to compare; give samples and labels")
    difference, engine_norms, loop_norms = _measure(extractor, x, labels)
    largest = loop_norms.amax(1, keepdim=True)
    errors = difference / torch.maximum(loop_norms, SMALLEST_PART * largest)
    errors[difference == 0] = 0  # and not 0 / 0
    errors[errors.isnan()] = torch.inf
    paths = _paths(extractor, x)
    return [
        BlockAgreement(
            block=block.name,
            error=float(errors[..., b].max()),
            norm=float(loop_norms[..., b].max()),
            engine_norm=float(engine_norms[..., b].max()),
            path=", ".join(dict.fromkeys(paths[name] for name in block.shapes)),
        )
        for b, block in enumerate(layout.blocks)
    ]


def _measure(extractor: GradientExtractor, x: Tensor, labels: Tensor) -> Tensor:
    """Lengths of difference, engine's and loop's gradients: ``(3, N, C, B)``."""
    layout, model = extractor.layout, extractor.model
    parameters = {name: model.get_parameter(name) for name in layout.shapes}
    norms = torch.zeros(3, *labels.shape, len(layout.blocks), dtype=torch.float64)
    group = max(1, int(GROUP_BYTES / (8 * len(x) * layout.size)))
    for start in range(0, labels.shape[1], group):
        part = labels[:, start : start + group]
        ours = layout.to_blocks(extractor.logits_and_gradients(x, part)[1])
        for n, c in product(range(len(x)), range(part.shape[1])):
            single = _backward(model, parameters, x[n : n + 1], part[n, c])
            for b, (name, loop) in enumerate(layout.to_blocks(single).items()):
                engine, loop = ours[name][n, c].double(), loop.double()
                found = torch.stack(
                    [(engine - loop).norm(), engine.norm(), loop.norm()]
                )
                norms[:, n, start + c, b] = found.cpu()
    return norms


def _backward(
    model: nn.Module, parameters: dict[str, nn.Parameter], x: Tensor, label: Tensor
) -> dict[str, Tensor]:
    """The gradients of one sample ``(1, ...)`` at one label, by a backward pass."""
    flags = {name: p.requires_grad for name, p in parameters.items()}
    try:
        for parameter in parameters.values():
            parameter.requires_grad_(True)
        with torch.enable_grad():
            loss = functional.cross_entropy(model(x), label[None])
            found = torch.autograd.grad(
                loss, list(parameters.values()), allow_unused=True
            )
    finally:
        for name, parameter in parameters.items():
            parameter.requires_grad_(flags[name])
    return {
        name: torch.zeros_like(parameter) if gradient is None else gradient
        for (name, parameter), gradient in zip(parameters.items(), found, strict=True)
    }


def _paths(extractor: GradientExtractor, x: Tensor) -> dict[str, str]:
    return {
        path.parameter: f"{path.engine} ({path.reason})" if path.reason else path.engine
        for path in extractor.explain(x[:2])
    }
