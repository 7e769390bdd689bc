"""Cascade-correlation for images: frozen units, a softmax head, mini-batches.

After S. E. Fahlman and C. Lebiere, The cascade-correlation learning architecture, NIPS
2, 1990. Unlike in the paper, the head is trained on mini-batches with cross-entropy and
candidates with Adam, and several units may be added at once in one layer, each chosen
by its correlation with the residual that the units chosen before it do not explain.
"""

import copy
from collections.abc import Iterator
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor, nn
from torch.nn import functional

from gradnet.core.flops import forward_flops
from gradnet.core.reproducibility import isolated_randomness
from gradnet.core.validation import check_minimum
from gradnet.data.problem import Samples
from gradnet.errors import InvalidInputError
from gradnet.growth.frozen_trunk import children_between
from gradnet.growth.method import EditContext, GrowthMethod
from gradnet.models import shape_arguments
from gradnet.models.activations import activation
from gradnet.models.cascade import Cascade, CascadeLayer
from gradnet.models.cnn import initialize_lecun_normal
from gradnet.surgery.edit import Edit, Origin, certify, identity_origins
from gradnet.surgery.masks import has_masks
from gradnet.training.loop import TrainingSettings

CHUNK = 1000


@dataclass(frozen=True, kw_only=True)
class CascadeCorrelation(GrowthMethod):
    """Add units trained to correlate with the errors, and freeze them.

    Attributes:
        rounds: how often units are added.
        units: number of units added in each round, side by side.
        pool: number of candidates in each round.
        activation: of units; a name of :data:`gradnet.models.activations.ACTIVATIONS`.
        candidate_steps: Adam steps on batches of training images, without augmentation.
        candidate_batch: images per step.
        candidate_rate: learning rate of Adam.
        weight_multiplier: a unit's initial weights in the head are minus its
            correlations times this; 1 in the paper, which suits sigmoid outputs that
            are retrained in each phase. Here 0 preserves the function and the
            optimizer's state, and the weights still get a gradient at once.
    """

    training: TrainingSettings = field(
        default_factory=lambda: TrainingSettings(
            steps=6000, optimizer="adamw", learning_rate=1e-3
        )
    )
    cache_trunk: bool = True
    rounds: int = 10
    units: int = 4
    pool: int = 32
    activation: str = "tanh"
    candidate_steps: int = 200
    candidate_batch: int = 500
    candidate_rate: float = 0.01
    weight_multiplier: float = 0.0

    def __post_init__(self) -> None:
        """Validate the fields.

        Raises:
            InvalidInputError: a number is too small, or the activation unknown.
        """
        check_minimum(self, units=1, candidate_batch=1)
        if self.pool < self.units:
            raise InvalidInputError(
                f"a pool of {self.pool} has no {self.units} units to add; enlarge it"
            )
        activation(self.activation)

    @property
    def preserves_function(self) -> bool:
        """With a weight multiplier of 0."""
        return self.weight_multiplier == 0

    @property
    def edits(self) -> int:
        """One per round."""
        return self.rounds

    def initial_model(
        self, input_shape: tuple[int, int, int], num_classes: int
    ) -> nn.Module:
        """A linear classifier."""
        shape = shape_arguments(input_shape, num_classes)
        return Cascade(
            shape["in_channels"],
            shape["image_size"],
            shape["num_classes"],
            activation=self.activation,
        )

    def begin_with(
        self, start: nn.Module, input_shape: tuple[int, int, int], num_classes: int
    ) -> nn.Module:
        """A copy of a cascade with any units.

        Raises:
            InvalidInputError: it is not a Cascade, or it is pruned.
        """
        if not isinstance(start, Cascade) or has_masks(start):
            raise InvalidInputError(
                "cascade-correlation can only continue from an unpruned Cascade, not "
                f"from {'a pruned' if has_masks(start) else 'a'} "
                f"{type(start).__name__}"
            )
        return copy.deepcopy(start)

    def edit(self, model: nn.Module, context: EditContext) -> Edit:
        """Add the best units of a pool of candidates, trained if there are samples."""
        if not isinstance(model, Cascade):
            raise InvalidInputError(
                f"cascade-correlation cannot grow a {type(model).__name__}; give a "
                "Cascade of gradnet.models"
            )
        like = model.head.weight
        inputs, flops = model.head.in_features, 0.0
        with isolated_randomness():
            torch.manual_seed(context.torch_seed)
            candidates = CascadeLayer(inputs, self.pool, self.activation)
            initialize_lecun_normal(candidates)
        candidates.to(like)
        best = torch.arange(self.units)
        weights = like.new_zeros(len(like), self.units)
        if context.samples is not None and not context.is_replayed:
            self._train(candidates, model, context.samples, context.generator())
            best, correlations = self._choose(candidates, model, context.samples)
            weights = -self.weight_multiplier * correlations
            flops = self._flops(model, inputs, context)
        layer = CascadeLayer(inputs, self.units, self.activation).to(like)
        layer.linear.load_state_dict(
            {k: v[best] for k, v in candidates.linear.state_dict().items()}
        )
        return replace(_install(model, layer, weights, context.probe), flops=flops)

    def freeze(self, model: nn.Module, stage: int) -> None:
        """Freeze everything but the head."""
        model.requires_grad_(False)
        model.get_submodule("head").requires_grad_(True)

    def _train(
        self,
        candidates: CascadeLayer,
        model: Cascade,
        samples: Samples,
        generator: torch.Generator,
    ) -> None:
        """Train candidates to correlate with the residuals, on batches."""
        optimizer = torch.optim.Adam(candidates.parameters(), lr=self.candidate_rate)
        for _ in range(self.candidate_steps):
            indices = torch.randint(
                len(samples.train), (self.candidate_batch,), generator=generator
            )
            features, residual = _residuals(model, samples, samples.train[indices])
            residual = residual - residual.mean(0)
            with torch.enable_grad():
                values = candidates.units(features)
                covariances = values.T @ residual / residual.square().sum()
                loss = -covariances.abs().sum()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()

    def _choose(
        self, candidates: CascadeLayer, model: Cascade, samples: Samples
    ) -> tuple[Tensor, Tensor]:
        """The units to install ``(H,)``, and their correlations ``(K, H)``."""
        found = []
        with torch.no_grad():
            for features, residual in _chunks(model, samples):
                found.append((candidates.units(features), residual))
        values, residuals = (torch.cat(parts) for parts in zip(*found, strict=True))
        residuals = residuals - residuals.mean(0)
        correlations = residuals.T @ values / residuals.square().sum()
        best = choose_units(values - values.mean(0), residuals, self.units)
        return best, correlations[:, best]

    def _flops(self, model: Cascade, inputs: int, context: EditContext) -> float:
        """FLOPs of training the candidates and of scoring them."""
        assert context.samples is not None
        trained = self.candidate_steps * self.candidate_batch
        scored = len(context.samples.train)
        # The gradient of the candidates' weights takes as many FLOPs as their values.
        once = 2 * inputs * self.pool
        forward = forward_flops(model, context.probe) * (trained + scored)
        return forward + once * (2 * trained + scored)


def _install(
    model: Cascade, layer: CascadeLayer, weights: Tensor, probe: Tensor
) -> Edit:
    """Insert a layer of units before the head, with these weights to the logits."""
    old, added = model.head, weights.shape[1]
    grown = copy.deepcopy(model)
    del grown.head
    grown.add_module(f"units{len(grown)}", layer)
    head = nn.Linear(old.in_features + added, old.out_features).to(old.weight)
    head.load_state_dict(
        {"weight": torch.cat([old.weight, weights], 1), "bias": old.bias}
    )
    grown.add_module("head", head)
    index = torch.cat([torch.arange(old.in_features), torch.full((added,), -1)])
    origins = identity_origins(model) | {
        "head.weight": Origin("head.weight", {1: index})
    }
    return certify(model, grown.train(model.training), origins, probe)


def _residuals(
    model: Cascade, samples: Samples, indices: Tensor
) -> tuple[Tensor, Tensor]:
    """The head's inputs ``(N, I)`` for some images, and the residuals ``(N, K)``."""
    device = samples.images.device
    images = samples.images[indices.to(device)]
    labels = samples.labels[indices.to(device)]
    with torch.no_grad():
        features = samples.augmentation.evaluate(images).to(model.head.weight)
        features = children_between(model, 0, len(model) - 1)(features)
        probabilities = model.head(features).softmax(1)
    return features, probabilities - functional.one_hot(labels, probabilities.shape[1])


def _chunks(model: Cascade, samples: Samples) -> Iterator[tuple[Tensor, Tensor]]:
    """Inputs of the head and residuals of all training images, in chunks."""
    for indices in samples.train.split(CHUNK):
        yield _residuals(model, samples, indices)


def choose_units(values: Tensor, residuals: Tensor, count: int) -> Tensor:
    """The best candidates, each for the residual that those chosen before leave.

    After each choice, values and residuals are projected onto the orthogonal complement
    of the chosen candidate's values (as in orthogonal matching pursuit).

    Args:
        values: activations of the candidates, with mean zero, ``(N, C)``.
        residuals: with mean zero, ``(N, K)``.
        count: how many candidates to choose.

    Returns:
        Their indices ``(count,)``, best first.
    """
    chosen: list[int] = []
    scores = (values.T @ residuals).abs().sum(1)
    for _ in range(count):
        scores[chosen] = -1
        best = int(scores.argmax())
        chosen.append(best)
        direction = functional.normalize(values[:, best], dim=0)
        values = values - direction[:, None] * (direction @ values)
        residuals = residuals - direction[:, None] * (direction @ residuals)
        scores = (values.T @ residuals).abs().sum(1)
    return torch.tensor(chosen)
