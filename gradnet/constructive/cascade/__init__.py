"""Cascade-correlation and its family, many trials in one batch.

Read ``trainer`` first, then ``settings`` and ``network``; ``output_phase`` and
``candidate_phase`` alternate. ``candidate_pool``, ``candidates`` and ``criteria``
define the candidate units and their scores; ``rules``, ``knowledge`` and ``recurrent``
are variants; ``pruning`` and ``estimator`` use the result.
"""

from gradnet.constructive.cascade.estimator import CascadeCorrelationClassifier
from gradnet.constructive.cascade.network import CascadeNetwork
from gradnet.constructive.cascade.settings import CascadeSettings, SpiralCascadeSettings
from gradnet.constructive.cascade.trainer import cascade_correlation

__all__ = [
    "CascadeCorrelationClassifier",
    "CascadeNetwork",
    "CascadeSettings",
    "SpiralCascadeSettings",
    "cascade_correlation",
]
