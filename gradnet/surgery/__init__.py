"""Edits of trained networks: widen, deepen, insert layers, remove units.

Every edit returns an :class:`Edit`: a new network, where its parameters come from, and
what was measured. Read ``edit`` first, then ``widen`` or ``deepen``.
:func:`transfer_optimizer` carries the optimizer's state over.
"""

from gradnet.surgery.composition import compose
from gradnet.surgery.deepen import deepen
from gradnet.surgery.edit import Certificate, Edit, Origin
from gradnet.surgery.insert import append_block, insert_block, zero_last_layer
from gradnet.surgery.optimizer import transfer_optimizer
from gradnet.surgery.remove import remove_units
from gradnet.surgery.widen import widen

__all__ = [
    "Certificate",
    "Edit",
    "Origin",
    "append_block",
    "compose",
    "deepen",
    "insert_block",
    "remove_units",
    "transfer_optimizer",
    "widen",
    "zero_last_layer",
]
