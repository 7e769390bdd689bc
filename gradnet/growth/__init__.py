"""Growth methods by name, with one interface and one training loop.

Read ``method`` first (the interface), then ``run`` (the loop) and one of ``methods``.
To register your own method, call :func:`register_growth_method`, or declare an entry
point of the group ``gradnet.growth_methods`` in the metadata of your package.
"""

import inspect
from dataclasses import MISSING, fields, is_dataclass

from gradnet.core.registry import Registry
from gradnet.errors import InvalidInputError
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


def register_growth_method(
    name: str, method: type[GrowthMethod], *, replace: bool = False
) -> None:
    """Register a growth method, for ``gradnet grow`` and for files of grown networks.

    Args:
        name: a new key of :data:`GROWTH`; files of grown networks store it.
        method: subclass of :class:`~gradnet.growth.method.GrowthMethod`; a frozen
            dataclass whose fields all have defaults.
        replace: allow a name that is already registered.

    Raises:
        InvalidInputError: the name is taken or not allowed, or the class is not such a
            subclass.
    """
    GROWTH.register(name, method, replace=replace)


def _check_method(name: str, method: object) -> None:
    if not (isinstance(method, type) and issubclass(method, GrowthMethod)):
        raise InvalidInputError(
            f"growth method {name!r}: give a subclass of GrowthMethod, not {method!r}"
        )
    if not is_dataclass(method) or any(
        field.default is MISSING and field.default_factory is MISSING
        for field in fields(method)
    ):
        raise InvalidInputError(
            f"growth method {name!r}: {method.__name__} must be a dataclass whose "
            "fields all have defaults"
        )
    if inspect.isabstract(method):
        missing = ", ".join(sorted(method.__abstractmethods__))
        raise InvalidInputError(
            f"growth method {name!r}: {method.__name__} does not define {missing}"
        )


GROWTH: Registry[type[GrowthMethod]] = Registry(
    "growth method",
    {
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
    },
    group="gradnet.growth_methods",
    check=_check_method,
)

__all__ = [
    "GROWTH",
    "CascadeCorrelation",
    "Cornet",
    "CornetAsPublished",
    "GrowthMethod",
    "LayerwiseResNet",
    "Net2Deeper",
    "Net2Wider",
    "NodeCreation",
    "OptimalBrainDamage",
    "OptimalBrainSurgeon",
    "Progressive",
    "Pronet",
    "PronetAsPublished",
    "register_growth_method",
]
