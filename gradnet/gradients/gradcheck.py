"""Compares the engines with plain backward passes on a user's network and data."""

import functools
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from gradnet.errors import InvalidInputError
from gradnet.gradients.extractor import GradientExtractor
from gradnet.gradients.reference import backward_passes

TOLERANCES = {torch.float64: 1e-10, torch.float32: 1e-4, torch.float16: 2e-2}
# An error is relative to at least this fraction of the sample's largest gradient: where
# the network is confident, softmax minus one is close to zero, and mostly rounding.
MIN_FRACTION = 1e-2
GROUP_BYTES = 256e6


@dataclass(frozen=True)
class BlockAgreement:
    """How well the engine agrees with backward passes on one block.

    Attributes:
        block: the layer's name.
        error: the largest relative error over samples and labels.
        norm: the L2 norm of the largest gradient, by backward passes.
        engine_norm: the L2 norm of the largest gradient, by the engine.
        path: the engine that read it, and why not the fast one.
    """

    block: str
    error: float
    norm: float
    engine_norm: float
    path: str


def default_tolerance(dtype: torch.dtype) -> float:
    """The relative error that rounding may cause, for weights of this type."""
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
    labels. The model is not modified.

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
        InvalidInputError: there are no samples or labels, or the engine cannot read the
            model, see :meth:`GradientExtractor.logits_and_gradients`.
    """
    extractor = GradientExtractor(model, layers, biases, engine="auto")
    layout = extractor.layout
    if labels is None:
        num_logits = extractor.logits_and_gradients(x[:0])[0].shape[1]
        labels = torch.arange(num_logits, device=x.device).expand(len(x), -1)
    if not labels.numel():
        raise InvalidInputError("there is nothing to compare; give samples and labels")
    difference, engine_norms, loop_norms = _measure(extractor, x, labels)
    largest = loop_norms.amax(1, keepdim=True)
    errors = difference / torch.maximum(loop_norms, MIN_FRACTION * largest)
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
    """L2 norms of difference, engine's and loop's gradients: ``(3, N, C, B)``."""
    layout, model = extractor.layout, extractor.model
    # The model's own parameters, not copies, so that every use of them counts.
    parameters = {name: model.get_parameter(name) for name in layout.shapes}
    zeros = {name: torch.zeros_like(p).detach() for name, p in parameters.items()}
    norms = torch.zeros(3, *labels.shape, len(layout.blocks), dtype=torch.float64)
    group = max(1, int(GROUP_BYTES / (8 * len(x) * layout.size)))
    for start in range(0, labels.shape[1], group):
        part = labels[:, start : start + group]
        ours = layout.to_blocks(extractor.logits_and_gradients(x, part)[1])
        for c in range(part.shape[1]):
            loss = functools.partial(_cross_entropy, part[:, c])
            with _trainable(parameters.values()):
                passes = backward_passes(model, parameters, x, loss)
                for n, found in enumerate(passes):
                    blocks = layout.to_blocks(zeros | found)
                    engine = {name: block[n, c] for name, block in ours.items()}
                    norms[:, n, start + c] = _norms(engine, blocks)
    return norms


@torch.no_grad()
def _norms(engine: Mapping[str, Tensor], loop: Mapping[str, Tensor]) -> Tensor:
    """L2 norms of difference, engine's and loop's blocks ``(D,)`` each: ``(3, B)``."""
    columns = []
    for name, block in loop.items():
        ours, expected = engine[name].double(), block.double()
        norms = (ours - expected).norm(), ours.norm(), expected.norm()
        columns.append(torch.stack(norms).cpu())
    return torch.stack(columns, dim=1)


def _cross_entropy(labels: Tensor, logits: Tensor, index: int) -> Tensor:
    """The loss of one sample's logits ``(1, K)`` at its label in ``(N,)``."""
    return functional.cross_entropy(logits, labels[index : index + 1])


@contextmanager
def _trainable(parameters: Collection[nn.Parameter]) -> Iterator[None]:
    """Let parameters require gradients until the block ends, frozen or not."""
    before = [parameter.requires_grad for parameter in parameters]
    try:
        for parameter in parameters:
            parameter.requires_grad_(True)
        yield
    finally:
        for parameter, required in zip(parameters, before, strict=True):
            parameter.requires_grad_(required)


def _paths(extractor: GradientExtractor, x: Tensor) -> dict[str, str]:
    return {
        path.parameter: f"{path.engine} ({path.reason})" if path.reason else path.engine
        for path in extractor.explain(x[:2])
    }
