"""Growth methods by name, all under one interface and one loop."""

from collections.abc import Mapping

from gradnet.growth.method import GrowthMethod
from gradnet.growth.methods.cascade_correlation import CascadeCorrelation
from gradnet.growth.methods.cornet import (
    Cornet,
    CornetAsPublished,
    Pronet,
    PronetAsPublished,
)
from gradnet.growth.methods.layerwise_resnet import LayerwiseResNet
from gradnet.growth.methods.net2net import Net2Deeper, Net2Wider
from gradnet.growth.methods.node_creation import NodeCreation
from gradnet.growth.methods.optimal_brain_damage import OptimalBrainDamage
from gradnet.growth.methods.optimal_brain_surgeon import OptimalBrainSurgeon
from gradnet.growth.methods.progressive import Progressive

GROWTH: Mapping[str, type[GrowthMethod]] = {
    "net2wider": Net2Wider,
    "net2deeper": Net2Deeper,
    "layerwise-resnet": LayerwiseResNet,
    "progressive": Progressive,
    "cornet": Cornet,
    "pronet": Pronet,
    "cornet-published": CornetAsPublished,
    "pronet-published": PronetAsPublished,
    "node-creation": NodeCreation,
    "cascade-correlation": CascadeCorrelation,
    "optimal-brain-damage": OptimalBrainDamage,
    "optimal-brain-surgeon": OptimalBrainSurgeon,
}
