"""Per-sample gradients of the loss, for every candidate label.

Read ``extractor`` first, then ``layout`` (which coordinates belong to which block) and
``dispatch`` (which engine serves which parameter). The engines: ``functional``
(``torch.func``, the definition), ``factored`` with ``layer_calls``, ``layer_rules`` and
``factors`` (the fast path), ``reference`` (a plain autograd loop). ``inputs`` checks
samples and labels, ``cotangents`` has the losses, ``projections`` the reductions of a
block, ``gradcheck`` the comparison of engines. :func:`register_layer_rule` and
:func:`register_loss` add your own.
"""

from gradnet.gradients.cotangents import LOSSES, register_loss
from gradnet.gradients.extractor import GradientExtractor
from gradnet.gradients.factors import FactoredBlock, Factors, Formed, Product
from gradnet.gradients.gradcheck import compare_engines
from gradnet.gradients.layer_rules import (
    LAYER_RULES,
    LayerRules,
    register_layer_rule,
)
from gradnet.gradients.layout import Block, BlockLayout
from gradnet.gradients.projections import Norm, Projection, Reduction, Subset

__all__ = [
    "LAYER_RULES",
    "LOSSES",
    "Block",
    "BlockLayout",
    "FactoredBlock",
    "Factors",
    "Formed",
    "GradientExtractor",
    "LayerRules",
    "Norm",
    "Product",
    "Projection",
    "Reduction",
    "Subset",
    "compare_engines",
    "register_layer_rule",
    "register_loss",
]
