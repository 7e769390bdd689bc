"""The linear scorer without forming a gradient: one Jacobian-vector product.

A score that is linear in the gradient, ``w . g(x, c)``, equals ``(softmax(z) -
onehot(c)) . t`` with ``t = J w``, the derivative of the logits along ``w``.
Forward-mode differentiation gives it for all labels at about twice the cost of a
forward pass (Mu, Liang and Li, ICLR 2020, for one gradient; here for the loss gradients
of all candidate labels). The result equals that of formed gradients to rounding.
"""

import warnings
from collections.abc import Mapping

from torch import Tensor
from torch.func import functional_call, jvp

from gradnet.classifier.features import Features
from gradnet.classifier.network import GradNet
from gradnet.core.evaluation_mode import (
    check_evaluation_mode,
    differentiable_attention,
)
from gradnet.gradients.cotangents import CROSS_ENTROPY
from gradnet.gradients.extractor import GradientExtractor


def is_tangent_model(
    extractor: GradientExtractor, features: Features, network: GradNet
) -> bool:
    """Whether scores are linear in cross-entropy gradients, as this module requires."""
    return (
        extractor.loss == CROSS_ENTROPY
        and not extractor.weight_decay
        and features.is_linear
        and network.is_linear_scorer
    )


def tangent_weights(
    extractor: GradientExtractor, features: Features, network: GradNet
) -> dict[str, Tensor]:
    """The score's weight on each gradient coordinate: parameter name -> ``shape``.

    It is the product of scaling, first layer and output layer; differentiable.
    """
    weights = {
        name: features.scale_linearly(name, weight)
        for name, weight in network.linear_weights().items()
    }
    return extractor.layout.from_blocks(weights)


def logits_and_scores(
    extractor: GradientExtractor, weights: Mapping[str, Tensor], x: Tensor
) -> tuple[Tensor, Tensor]:
    """Base logits and scores of all labels.

    Args:
        extractor: of the gradients that ``weights`` are for.
        weights: see :func:`tangent_weights`.
        x: ``(N, ...)``.

    Returns:
        ``(N, K)`` and ``(N, K)``, the second differentiable by ``weights``.

    Raises:
        InvalidInputError: a layer of the model changes from call to call.
    """
    check_evaluation_mode(extractor.model)
    chosen, fixed = extractor.selected_and_fixed_parameters()

    def logits_of(parameters: dict[str, Tensor]) -> Tensor:
        logits: Tensor = functional_call(extractor.model, {**parameters, **fixed}, (x,))
        return logits

    with differentiable_attention(), warnings.catch_warnings():
        # Forward mode calls a function that torch itself deprecates at its first use.
        warnings.filterwarnings("ignore", "`torch.jit.script`", DeprecationWarning)
        logits, tangent = jvp(logits_of, (chosen,), (dict(weights),))[:2]
    mean = (logits.detach().softmax(-1) * tangent).sum(-1, keepdim=True)
    return logits.detach(), mean - tangent
