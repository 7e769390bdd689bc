"""Edits of plain networks: widen, deepen, insert, remove; optimizer state travels."""

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
