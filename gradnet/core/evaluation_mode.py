"""Checks that a model gives the same output for a sample at every call."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import nn
from torch.nn.attention import SDPBackend, sdpa_kernel

from gradnet.errors import InvalidInputError


@contextmanager
def differentiable_attention() -> Iterator[None]:
    """Let attention layers compute by operations that torch.func can differentiate.

    Under ``vmap`` and ``jvp`` torch would choose inference kernels and fused kernels,
    which have no derivative there.
    """
    with layerwise_attention(), sdpa_kernel(SDPBackend.MATH):
        yield


@contextmanager
def layerwise_attention() -> Iterator[None]:
    """Let transformer layers call their sublayers, not one fused inference kernel."""
    was_enabled = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        yield
    finally:
        torch.backends.mha.set_fastpath_enabled(was_enabled)


def check_evaluation_mode(model: nn.Module) -> None:
    """Check that a model's output for a sample is the same at every call.

    Raises:
        InvalidInputError: it is not; the message names the first such layer and what
            to do.
    """
    for name, module in model.named_modules():
        reason = _why_changing(module)
        if reason:
            raise InvalidInputError(
                f"layer {name or 'model'!r} ({type(module).__name__}) {reason}, so the "
                "gradient of one sample is not defined; call model.eval() first"
            )


def _why_changing(module: nn.Module) -> str | None:
    if isinstance(module, nn.modules.batchnorm._BatchNorm):
        if module.training:
            return "is in training mode: it normalizes by the batch"
        if module.running_mean is None:
            return "keeps no running statistics: it normalizes by the batch in any mode"
    if not module.training:
        return None
    if isinstance(module, nn.modules.instancenorm._InstanceNorm):
        return "updates running statistics" if module.track_running_stats else None
    if isinstance(module, nn.modules.dropout._DropoutNd) and module.p > 0:
        return f"drops units at random (p={module.p})"
    if isinstance(module, nn.RReLU):
        return "draws its slopes at random"
    if isinstance(module, nn.RNNBase | nn.MultiheadAttention) and module.dropout > 0:
        return f"drops units at random (p={module.dropout})"
    return None
