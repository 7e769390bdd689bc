"""Per-sample gradients of the loss, for every candidate label.

Read ``extractor`` first, then ``layout`` (which coordinates belong to which block) and
``dispatch`` (which engine serves which parameter). The engines: ``functional``
(``torch.func``, the definition), ``factored`` with ``factors`` and ``layer_rules`` (the
fast path), ``reference`` (a plain autograd loop). ``cotangents`` has the losses,
``projections`` what is kept of a block, ``gradcheck`` the comparison of engines.
"""

from gradnet.gradients.extractor import GradientExtractor
from gradnet.gradients.factors import FactoredBlock
from gradnet.gradients.gradcheck import compare_engines
from gradnet.gradients.layout import Block, BlockLayout
from gradnet.gradients.projections import Norm, Projection, Reduction, Subset

__all__ = [
    "Block",
    "BlockLayout",
    "FactoredBlock",
    "GradientExtractor",
    "Norm",
    "Projection",
    "Reduction",
    "Subset",
    "compare_engines",
]
