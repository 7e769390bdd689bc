"""Tiny growth runs on digits, watched from outside, and a second way to count FLOPs."""

import copy
from dataclasses import dataclass, field, replace
from functools import cache
from typing import Any

import torch
from torch import nn

from gradnet.data.problem import ProblemSettings, Samples, make_problem
from gradnet.growth import GROWTH
from gradnet.growth.method import GrowthMethod, Schedule
from gradnet.growth.run import Growth, grow
from gradnet.surgery.edit import Edit
from gradnet.training.loop import TrainingSettings
from gradnet.training.supervised import set_training_mode

RESNET = {"width": 2, "stages": [1, 2, 1]}
LAYERWISE = {"width": 2, "initial_stages": [1, 1], "stages": [3, 2]}

BATCH = 16
TRAINING = TrainingSettings(
    steps=22,
    batch_size=BATCH,
    optimizer="adamw",
    learning_rate=3e-3,
    schedule="cosine",
    evaluate_every=4,
)

# Method -> the settings of one or more tiny runs. A method without any fails its test.
TINY: dict[str, list[dict[str, Any]]] = {
    "net2wider": [
        {"model_args": {"hidden": [6, 5]}, "wider": {"linear0": 9, "linear1": 8}},
        {
            "model": "cnn-small",
            "wider": {"conv0": 20},
            "initialization": "random-pad",
        },
    ],
    "net2deeper": [
        {"width": 2, "initial_depths": [1, 1], "depths": [2, 3]},
        {"width": 2, "initial_depths": [1, 1], "depths": [2, 2]}
        | {"initialization": "random"},
    ],
    "layerwise-resnet": [
        LAYERWISE,
        LAYERWISE | {"style": "normalized"},
        LAYERWISE | {"initialization": "random"},
        LAYERWISE | {"trains": "new", "cache_trunk": True},
        LAYERWISE | {"trains": "last", "cache_trunk": True},
        # Blocks come among the children whose outputs are kept.
        {"width": 2, "initial_stages": [1, 1, 1], "stages": [3, 3, 3]}
        | {"trains": "last", "last_blocks": 1, "cache_trunk": True},
    ],
    "progressive": [
        {"columns": 3, "widths": [4, 6]},
        {"columns": 3, "widths": [4, 6], "preserving": True},
    ],
    "cornet": [
        RESNET,
        RESNET | {"style": "preactivation", "cache_trunk": False},
        RESNET | {"style": "preactivation", "trained_blocks": 1},
    ],
    "pronet": [RESNET, RESNET | {"style": "preactivation"}],
    "node-creation": [
        {"model_args": {"hidden": [4, 3]}, "layers": ["linear0", "linear1"]}
        | {"nodes": 2, "max_edits": 3, "window": 1, "threshold": 9.0}
        | {"place": "largest-gradient"},
        {"model_args": {"hidden": [4, 3]}, "layers": ["linear0", "linear1"]}
        | {"nodes": 4, "max_edits": 3, "frozen": True}
        | {"training": replace(TRAINING, weight_decay=0.0)},
        {
            "model": "cnn-small",
            "model_args": {},
            "layers": ["conv0", "conv1"],
            "place": "random",
        }
        | {"nodes": 1, "max_edits": 2, "preserving": False},
    ],
    "cascade-correlation": [
        {"rounds": 2, "units": 2, "pool": 4, "candidate_steps": 5},
        {"rounds": 2, "units": 1, "pool": 2, "candidate_steps": 3}
        | {"weight_multiplier": 1.0},
    ],
    "optimal-brain-damage": [
        {"model_args": {"hidden": [5]}, "rounds": 2, "curvature_samples": 20},
        {"model": "cnn-small", "rounds": 2, "criterion": "magnitude"},
        {"model_args": {"hidden": [9]}, "rounds": 2, "curvature_samples": 20}
        | {"units": ["linear0"], "fraction": 0.3},
    ],
    "optimal-brain-surgeon": [
        {"model_args": {"hidden": [3]}, "rounds": 2, "curvature_samples": 20}
        | {"fraction": 0.02},
    ],
    "cornet-published": [RESNET | {"final_blocks": 3}],
    "pronet-published": [RESNET | {"final_blocks": 3}],
}


def tiny(name: str, number: int = 0) -> GrowthMethod:
    """A method with settings for a run of a second."""
    shared = {"training": TRAINING, "growth": Schedule(first=6)}
    return GROWTH[name](**{**shared, **TINY[name][number]})


@cache
def digits() -> Samples:
    """A hundred images to train on, forty to validate."""
    samples = make_problem(ProblemSettings(device="cpu")).all_training
    return replace(
        samples, train=samples.train[:100], validation=samples.validation[:40]
    )


@dataclass
class Stage:
    """A stage of a run, as copies of its network.

    Attributes:
        begun: the network after the edit and its freezing.
        ended: the network at the end.
        edit: that ended it; None for the last stage.
    """

    begun: nn.Module
    ended: nn.Module | None = None
    edit: Edit | None = None


@dataclass
class Watched:
    """A run, and what was seen of it from outside."""

    growth: Growth | None = None
    stages: list[Stage] = field(default_factory=list)


def watched_run(method: GrowthMethod, seed: int = 0) -> Watched:
    """Grow, and copy the network around each edit."""
    seen = Watched()
    kind = type(method)

    class Spy(kind):  # type: ignore[misc, valid-type]
        def freeze(self, model: nn.Module, stage: int) -> None:
            super().freeze(model, stage)
            assert stage == len(seen.stages)
            seen.stages.append(Stage(copy.deepcopy(model)))

        def edit(self, model: nn.Module, context: Any) -> Edit:
            seen.stages[-1].ended = copy.deepcopy(model)
            seen.stages[-1].edit = made = super().edit(model, context)
            return made

    spy = Spy(**vars(method))
    seen.growth = grow(spy, digits(), seed=seed)
    seen.stages[-1].ended = seen.growth.model
    return seen


def without_seconds(records: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """What must be the same when a run is done again."""
    return [{k: v for k, v in r.items() if k != "seconds"} for r in records]


def layer_costs(model: nn.Module) -> dict[str, tuple[float, float]]:
    """FLOPs of each layer for one sample: forward, and in all of a training step.

    A convolution or linear layer takes two for each output and each weight that leads
    to it: forward; again where its weight trains; again where its input came from
    something that trains.

    Args:
        model: frozen as it trains.
    """
    model = copy.deepcopy(model)
    costs: dict[str, tuple[float, float]] = {}

    def count(name: str, layer: nn.Module, x: torch.Tensor, y: torch.Tensor) -> None:
        forward = 2 * y[0].numel() * layer.weight[0].numel()
        passes = 1 + layer.weight.requires_grad + x.requires_grad
        earlier = costs.get(name, (0.0, 0.0))
        costs[name] = earlier[0] + forward, earlier[1] + forward * passes

    for name, layer in model.named_modules():
        if isinstance(layer, nn.Conv2d | nn.Linear):
            layer.register_forward_hook(
                lambda layer, x, y, name=name: count(name, layer, x[0], y)
            )
    set_training_mode(model)
    model(digits().augmentation.evaluate(digits().images[:2]))
    return costs


def frozen_first(model: nn.Module) -> list[str]:
    """Names of the children before the first that has something to train."""
    names = []
    for name, child in model.named_children():
        if any(p.requires_grad for p in child.parameters()):
            break
        names.append(name)
    return names
