"""Dynamic node creation for networks of several layers, in mini-batches.

After T. Ash, Dynamic node creation in backpropagation networks, Connection Science
1(4), 1989; :mod:`gradnet.constructive.node_creation` follows the paper closely. Here
networks may have several hidden layers, and the rule is applied to a smoothed error,
the mean loss of the batches between two evaluations: on single batches noise could
look like a flat curve, or hide one.
"""

from dataclasses import dataclass, field, replace
from typing import Annotated, Any, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional

from gradnet.core.constraints import Length, PathText, Range
from gradnet.core.flops import training_flops
from gradnet.core.reproducibility import make_generator
from gradnet.core.validation import Count, NonNegative, Width
from gradnet.errors import InvalidInputError
from gradnet.growth.method import EditContext, GrowthHistory, Schedule
from gradnet.growth.methods.named_network import NamedNetwork
from gradnet.surgery.edit import Edit, certify
from gradnet.surgery.widen import widen
from gradnet.training.loop import TrainingSettings

DECISION_SAMPLES = 1000
# Prefix of the names of buffers that mark the newest entries of a parameter.
NEWEST = "newest_entries_of_"


@dataclass(frozen=True, kw_only=True)
class NodeCreation(NamedNetwork):
    """Add units to the hidden layers of a small network when its loss has flattened.

    Attributes:
        layers: names of the layers to add units to.
        nodes: number of units added in each edit.
        max_edits: maximum number of edits in a run.
        threshold: add units when the training loss fell by less than this fraction of
            the loss at the last addition ...
        window: ... within this many evaluations, all since the last addition.
        growth: its patience and gain are not used; first and every still are the
            latest steps.
        place: round-robin (each layer in turn), random, or largest-gradient (the layer
            whose new units would have the largest gradient, which left the first layer
            too narrow and was worst: benchmarks/growth/README.md).
        weight_range: new units' incoming weights are uniform between minus and plus
            this part of the layer's mean magnitude; their outgoing ones too, where
            ``preserving`` is false.
        preserving: outgoing weights of new units start at zero, which preserves the
            function.
        frozen: after an addition, only the newest units and the outputs are trained;
            the paper rejects this. Only for networks without normalization. Frozen
            and trained entries share a tensor, so gradients are masked; this needs a
            weight decay of 0, and the optimizer is reset at each edit.
    """

    training: TrainingSettings = field(
        default_factory=lambda: TrainingSettings(
            steps=6000, learning_rate=0.05, weight_decay=0.0, evaluate_every=100
        )
    )
    growth: Schedule = field(default_factory=lambda: Schedule(patience=1, gain=0.0))
    model_args: dict[str, Any] = field(default_factory=lambda: {"hidden": [4, 4]})
    layers: Annotated[list[PathText], Length(1, 1000)] = field(
        default_factory=lambda: ["linear0", "linear1"]
    )
    nodes: Width = 4
    max_edits: Annotated[int, Range(0, 10_000)] = 30
    threshold: NonNegative = 0.05
    window: Count = 3
    place: Literal["largest-gradient", "round-robin", "random"] = "round-robin"
    weight_range: NonNegative = 1.0
    preserving: bool = True
    frozen: bool = False

    def __post_init__(self) -> None:
        """Validate the fields.

        Raises:
            InvalidInputError: a number is too small, ``layers`` is empty, or
                ``frozen`` is combined with weight decay.
        """
        super().__post_init__()
        if self.frozen and self.training.weight_decay:
            raise InvalidInputError(
                "frozen weights would decay; set training.weight_decay to 0"
            )

    @property
    def preserves_function(self) -> bool:
        """With outgoing weights that start at zero."""
        return self.preserving

    @property
    def carries_optimizer(self) -> bool:
        """Old weights keep their momentum, as in the paper, unless frozen."""
        return not self.frozen

    @property
    def edits(self) -> int:
        """The maximum number of edits."""
        return self.max_edits

    def is_due(self, history: GrowthHistory) -> bool:
        """The paper's rule on the training loss between evaluations."""
        # The first record of a stage is just after the edit, before any training.
        stage = [r for r in history.records if r["stage"] == history.stage]
        losses = [record["train_loss"] for record in stage[1:]]
        before = history.records[: -len(stage)]
        if before and before[-1]["train_loss"]:  # 0 before any training
            losses.insert(0, before[-1]["train_loss"])  # at the last addition
        if history.stage >= self.edits or len(losses) <= self.window:
            return False
        return losses[-1 - self.window] - losses[-1] < self.threshold * losses[0]

    def edit(self, model: nn.Module, context: EditContext) -> Edit:
        """Add units to one of the layers, which is recorded as the edit's choice."""
        if context.choice is not None:
            return self._with_units(model, context.choice, context)
        if self.place != "largest-gradient" or len(self.layers) == 1:
            return self._with_units(model, self._next_layer(context), context)
        edits = {
            layer: self._with_units(model, layer, context) for layer in self.layers
        }
        x, y = _batch(context)
        for edit in edits.values():  # some may have been frozen
            edit.model.requires_grad_(True)
        sizes = {layer: _new_gradient(edit, x, y) for layer, edit in edits.items()}
        chosen = edits[max(sizes, key=lambda layer: sizes[layer])]
        spent = sum(training_flops(e.model, x).total for e in edits.values()) * len(x)
        return replace(chosen, flops=spent)

    def freeze(self, model: nn.Module, stage: int) -> None:
        """If ``frozen``, freeze all but the newest units and the output layer."""
        model.requires_grad_(True)
        if not self.frozen or stage == 0:
            return
        newest = dict(model.named_buffers(recurse=False))
        *_, outputs = (m for m in model.modules() if isinstance(m, nn.Linear))
        kept = {id(parameter) for parameter in outputs.parameters()}
        for name, parameter in model.named_parameters():
            mask = newest.get(_buffer_name(name))
            if id(parameter) in kept:
                continue
            if mask is None:
                parameter.requires_grad_(False)
            else:
                parameter.register_hook(mask.mul)

    def _next_layer(self, context: EditContext) -> str:
        number = context.stage - 1
        if self.place == "random":
            generator = make_generator("place", context.seed, context.stage)
            number = int(torch.randint(len(self.layers), (1,), generator=generator))
        return self.layers[number % len(self.layers)]

    def _with_units(self, model: nn.Module, layer: str, context: EditContext) -> Edit:
        generator = context.generator()
        old = dict(model.named_modules()).get(layer)
        if not isinstance(getattr(old, "weight", None), Tensor):
            raise InvalidInputError(
                f"{type(model).__name__} has no layer {layer!r} with a weight; set "
                "layers to names of its hidden layers"
            )
        assert old is not None
        edit = widen(
            model,
            layer,
            len(old.weight) + self.nodes,
            probe=context.probe,
            generator=generator,
            initialization="random-pad",
        )
        with torch.no_grad():
            for name, (weight, is_new, dimension) in _new_entries(edit).items():
                bound = self.weight_range * model.get_parameter(name).abs().mean()
                drawn = torch.rand(weight.shape, generator=generator).to(weight)
                fresh = (2 * drawn - 1) * bound
                outgoing = dimension == 1
                fresh = (
                    torch.zeros_like(fresh) if outgoing and self.preserving else fresh
                )
                weight.copy_(torch.where(is_new, fresh, weight))
        if self.frozen:
            _mark_newest(edit)
        certified = certify(model, edit.model, edit.origins, context.probe)
        return replace(certified, choice=layer)


def _new_entries(edit: Edit) -> dict[str, tuple[Tensor, Tensor, int]]:
    """Parameter name -> (the parameter, a mask of its new entries, their dimension)."""
    found: dict[str, tuple[Tensor, Tensor, int]] = {}
    for name, parameter in edit.model.named_parameters():
        for dimension, index in edit.origins[name].indices.items():
            if (index < 0).any():
                shape = [1] * parameter.ndim
                shape[dimension] = -1
                is_new = (index < 0).to(parameter.device).reshape(shape)
                found[name] = parameter, is_new, dimension
    return found


def _buffer_name(name: str) -> str:
    """The name of the buffer for a parameter; names of buffers cannot contain dots."""
    return NEWEST + name.replace(".", "-")


def _mark_newest(edit: Edit) -> None:
    """Mark the newest entries in buffers that are not part of the state_dict."""
    model = edit.model
    for name, _ in list(model.named_buffers(recurse=False)):
        if name.startswith(NEWEST):
            delattr(model, name)
    for name, (weight, is_new, _) in _new_entries(edit).items():
        mask = is_new.expand_as(weight).to(weight)
        model.register_buffer(_buffer_name(name), mask, persistent=False)


def _batch(context: EditContext) -> tuple[Tensor, Tensor]:
    """Random training images and labels, to choose a layer by."""
    if context.samples is None:
        raise InvalidInputError(
            "place is largest-gradient, which needs training samples; set the samples "
            "of the edit's context"
        )
    samples = context.samples
    generator = make_generator("choice", context.seed, context.stage)
    order = torch.randperm(len(samples.train), generator=generator)
    indices = samples.train[order[:DECISION_SAMPLES]].to(samples.images.device)
    return samples.augmentation.evaluate(samples.images[indices]), samples.labels[
        indices
    ]


def _new_gradient(edit: Edit, x: Tensor, y: Tensor) -> float:
    """The norm of the loss gradient with respect to all new entries."""
    edit.model.zero_grad()
    functional.cross_entropy(edit.model(x), y).backward()
    total = 0.0
    for weight, is_new, _ in _new_entries(edit).values():
        if weight.grad is not None:
            total += float(torch.where(is_new, weight.grad, 0).square().sum())
    edit.model.zero_grad()
    return total**0.5
