"""What ``fit`` and ``evaluate`` work on: a snapshot, or a network of the user's own."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from torch import nn

from gradnet.checkpoints.snapshots import load_snapshot
from gradnet.cli.arguments import LEADING
from gradnet.cli.options import DataSettings, problem_of
from gradnet.cli.own_network import OwnNetworkSettings, load_own_network, own_options
from gradnet.core.constraints import PathText
from gradnet.core.files import sha256
from gradnet.data.problem import EvaluationSamples, Samples
from gradnet.errors import InvalidInputError


@dataclass(frozen=True, kw_only=True)
class SourceSettings(OwnNetworkSettings):
    """A snapshot, or a network of the user's own.

    Attributes:
        snapshot: the base network's file, made by train-base or import-weights; may
            stand without --snapshot. It knows its data and what it has seen.
    """

    snapshot: PathText | None = field(default=None, metadata={LEADING: True})


@dataclass(frozen=True)
class Source:
    """A base network, and samples that it has not seen.

    Attributes:
        base: in evaluation mode, on its device.
        samples: for GradNet.
        test: for the test.
        identity: of data, split and preparation.
        origin: of the network.
    """

    base: nn.Module
    samples: Samples
    test: EvaluationSamples
    identity: Mapping[str, object]
    origin: Mapping[str, object]


def load_source(settings: SourceSettings) -> Source:
    """Load the network that the options name, and what it has not seen.

    Raises:
        InvalidInputError: neither a snapshot nor a network is named, or both are.
        GradnetError: one of them cannot be loaded, or the data do not fit.
    """
    given = own_options(settings)
    if settings.snapshot is None:
        if settings.checkpoint is None and settings.model is None:
            raise InvalidInputError(
                "no network is named: give a snapshot, or --checkpoint and --model of "
                "your own network, with --data and --seen"
            )
        own = load_own_network(settings)
        data = own.data
        return Source(own.network, data.samples, data.test, own.identity, {})
    if given:
        raise InvalidInputError(
            f"the snapshot {settings.snapshot} knows its network, its preparation and "
            f"what it has seen; leave out {', '.join(given)}, or the snapshot"
        )
    snapshot = load_snapshot(settings.snapshot)
    problem = problem_of(
        snapshot,
        DataSettings(
            data=settings.data,
            root=settings.root,
            download=settings.download,
            device=settings.device,
        ),
    )
    return Source(
        snapshot.model.to(problem.data.x_train.device),
        problem.gradnet_half,
        problem.test,
        problem.identity,
        {"snapshot": sha256(settings.snapshot)},
    )
