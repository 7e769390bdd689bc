"""Optimal Brain Damage: train, delete the weights of least saliency, retrain, again.

Y. LeCun, J. S. Denker and S. A. Solla, Optimal Brain Damage, NIPS 2, 1990. Unlike in
the paper, second derivatives are by default not those of its recursion (see
``curvature``), whole units can be removed too, and ranking by magnitude or at random
serves as a baseline.
"""

import copy
import math
from abc import abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Literal

import torch
from torch import Tensor, nn

from gradnet.core.flops import count_flops
from gradnet.curvature.diagonal import CurvatureName, curvature_diagonal
from gradnet.errors import InvalidInputError
from gradnet.growth.method import EditContext, Schedule
from gradnet.growth.methods.named_network import NamedNetwork
from gradnet.growth.saliency import (
    Ranking,
    magnitude_scores,
    prune_lowest,
    random_scores,
    remove_weakest_units,
    unit_scores,
    weight_saliencies,
)
from gradnet.surgery.composition import compose
from gradnet.surgery.edit import Edit, Origin, certify
from gradnet.surgery.masks import (
    count_remaining,
    masks_of,
    original_name,
    with_masks,
    without_masks,
)
from gradnet.training.loop import TrainingSettings


@dataclass(frozen=True, kw_only=True)
class Pruning(NamedNetwork):
    """Base class of Optimal Brain Damage and Optimal Brain Surgeon.

    Attributes:
        training: without weight decay by default, since both methods assume a minimum
            of the error itself.
        growth: when to prune: after the first training, then after each retraining.
        retraining_rate: multiplies the learning rate after the first deletion.
        rounds: how often weights are deleted.
        fraction: fraction of the remaining weights that each round deletes.
        curvature_samples: number of training samples for the second derivatives, drawn
            again in each round.
    """

    training: TrainingSettings = field(
        default_factory=lambda: TrainingSettings(
            steps=12000, learning_rate=0.02, weight_decay=0.0, evaluate_every=600
        )
    )
    growth: Schedule = field(default_factory=lambda: Schedule(first=6000, every=600))
    retraining_rate: float = 0.5
    rounds: int = 10
    fraction: float = 0.1
    curvature_samples: int = 5000

    def __post_init__(self) -> None:
        """Validate the fields.

        Raises:
            InvalidInputError: a number is out of range.
        """
        if self.rounds < 1 or self.curvature_samples < 1:
            raise InvalidInputError(
                f"rounds is {self.rounds}, curvature_samples {self.curvature_samples}; "
                "both must be >= 1"
            )
        if not 0 < self.fraction < 1:
            raise InvalidInputError(
                f"fraction is {self.fraction}; give one between 0 and 1"
            )

    @property
    def preserves_function(self) -> bool:
        """False: deleting weights changes the function."""
        return False

    @property
    def edits(self) -> int:
        """One per round."""
        return self.rounds

    @property
    def takes_masks(self) -> bool:
        """True: further weights are deleted from a masked network."""
        return True

    def training_at(self, stage: int) -> TrainingSettings:
        """The settings, with the retraining rate after the first stage."""
        if stage == 0:
            return self.training
        rate = self.training.learning_rate * self.retraining_rate
        return replace(self.training, learning_rate=rate)

    def edit(self, model: nn.Module, context: EditContext) -> Edit:
        """Prune weights, which then stay zero.

        The certificate counts only the parameters that are not pruned.

        Raises:
            InvalidInputError: the context has no samples.
        """
        plain, kept = without_masks(model).eval(), masks_of(model)
        pruned_to = [(plain, kept)]
        flops = 0.0
        if not context.is_replayed:
            flops = count_flops(
                lambda: pruned_to.append(self.prune(plain, kept, context))
            )
        plain, kept = pruned_to[-1]
        pruned = with_masks(plain, kept).train(model.training)
        origins = {name: Origin(name) for name in model.state_dict()}
        for name in kept:
            before, after = original_name(model, name), original_name(pruned, name)
            origins[after] = Origin(before)
        edit = certify(model, pruned, origins, context.probe)
        counts = count_remaining(model), count_remaining(pruned)
        certificate = replace(edit.certificate, parameters=counts)
        return replace(edit, certificate=certificate, flops=flops)

    @abstractmethod
    def prune(
        self, model: nn.Module, kept: Mapping[str, Tensor], context: EditContext
    ) -> tuple[nn.Module, dict[str, Tensor]]:
        """Choose the weights to prune.

        Args:
            model: in evaluation mode, without masks; may be modified.
            kept: weight name -> which entries remain, bool ``(*shape)``.
            context: of the edit.

        Returns:
            The network, whose weights may have been adjusted, and which entries remain
            afterwards.
        """

    def curvature_samples_of(self, context: EditContext) -> tuple[Tensor, Tensor]:
        """Training samples for the second derivatives, drawn for this edit.

        Args:
            context: of the edit.

        Returns:
            Images ``(N, channels, h, w)`` and labels ``(N,)``.

        Raises:
            InvalidInputError: the context has no samples.
        """
        samples = context.samples
        if samples is None:
            raise InvalidInputError(
                "second derivatives are computed on training images, and there are "
                "none; set the samples of the edit's context"
            )
        order = torch.randperm(len(samples.train), generator=context.generator())
        chosen = samples.train[order[: self.curvature_samples]]
        chosen = chosen.to(samples.images.device)
        x = samples.augmentation.evaluate(samples.images[chosen])
        return x, samples.labels[chosen]


@dataclass(frozen=True, kw_only=True)
class OptimalBrainDamage(Pruning):
    """Train, delete the weights of least saliency, retrain, and repeat.

    Biases and the parameters of normalization layers are never deleted.

    Attributes:
        criterion: obd (saliency), or magnitude or random (the baselines).
        curvature: gauss_newton, hessian (small networks), levenberg_marquardt or
            recursion (as published; Sequential networks): see
            :mod:`gradnet.curvature.diagonal`.
        ranking: global, or layer by layer.
        units: names of layers from which whole units are removed, which makes the
            network smaller; ``fraction`` is then that of each layer's units, at least
            one. Empty deletes single weights.
    """

    criterion: Literal["obd", "magnitude", "random"] = "obd"
    curvature: CurvatureName = "gauss_newton"
    ranking: Ranking = "global"
    units: list[str] = field(default_factory=list)

    @property
    def takes_masks(self) -> bool:
        """True, unless whole units are removed."""
        return not self.units

    def edit(self, model: nn.Module, context: EditContext) -> Edit:
        """Prune weights, which then stay zero, or remove units.

        Raises:
            InvalidInputError: the context has no samples, or the units of a layer
                cannot be removed.
        """
        if self.units:
            return self._remove_units(model, context)
        return super().edit(model, context)

    def prune(
        self, model: nn.Module, kept: Mapping[str, Tensor], context: EditContext
    ) -> tuple[nn.Module, dict[str, Tensor]]:
        """Prune the weights of the lowest scores."""
        scores = self.scores(model, context)
        return model, prune_lowest(scores, kept, self.fraction, self.ranking)

    def scores(self, model: nn.Module, context: EditContext) -> dict[str, Tensor]:
        """The scores of all prunable weights by the criterion.

        Args:
            model: in evaluation mode, without masks.
            context: of the edit.

        Returns:
            Weight name -> ``(*shape)``.

        Raises:
            InvalidInputError: the context has no samples.
        """
        if self.criterion == "random":
            return random_scores(model, context.generator())
        if self.criterion == "magnitude":
            return magnitude_scores(model)
        x, y = self.curvature_samples_of(context)
        return weight_saliencies(model, curvature_diagonal(model, x, y, self.curvature))

    def _remove_units(self, model: nn.Module, context: EditContext) -> Edit:
        plain, probe = copy.deepcopy(model).eval(), context.probe
        # In a replay any units serve, since the weights are loaded afterwards.
        found = [magnitude_scores(plain)]
        flops = 0.0
        if not context.is_replayed:
            flops = count_flops(lambda: found.append(self.scores(plain, context)))
        weights = found[-1]
        # All layers are scored first: after a removal, scores do not match the shapes.
        scores = {n: unit_scores(plain, n, weights, probe) for n in self.units}
        edits: list[Edit] = []
        for name, layer_scores in scores.items():
            count = math.floor(self.fraction * len(layer_scores) + 1e-9)
            count = min(max(count, 1), len(layer_scores) - 1)
            current = edits[-1].model if edits else model
            edits.append(
                remove_weakest_units(current, name, layer_scores, count, probe)
            )
        return replace(compose(edits, probe), flops=flops)
