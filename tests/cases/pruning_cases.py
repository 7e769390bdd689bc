"""A small problem, and Optimal Brain Damage with few steps on it."""

import torch

from gradnet.data.augmentation import Augmentation
from gradnet.data.problem import Samples
from gradnet.growth.method import EditContext, Schedule
from gradnet.growth.methods.optimal_brain_damage import OptimalBrainDamage
from gradnet.training.loop import TrainingSettings

SHAPE = (1, 6, 6)


def samples():
    generator = torch.manual_seed(0)
    labels = torch.arange(60) % 3
    images = torch.randint(0, 80, (60, *SHAPE), generator=generator)
    for label in range(3):
        images[labels == label, :, 2 * label : 2 * label + 2] += 120
    order = torch.randperm(60, generator=generator)
    return Samples(
        images.to(torch.uint8), labels, order[:45], order[45:], Augmentation(), 3
    )


def method(**changes):
    training = TrainingSettings(
        steps=30, batch_size=15, learning_rate=0.05, weight_decay=0.01, evaluate_every=5
    )
    settings = {
        "training": training,
        "growth": Schedule(first=10, every=5),
        "model": "mlp",
        "model_args": {"hidden": [8, 6]},
        "rounds": 3,
        "fraction": 0.3,
    }
    return OptimalBrainDamage(**{**settings, **changes})


def context(of=None, **changes):
    of = of or samples()
    probe = of.augmentation.evaluate(of.images[:8])
    return EditContext(
        **{"stage": 1, "probe": probe, "seed": 0, "samples": of, **changes}
    )


def begin(how):
    torch.manual_seed(0)
    return how.initial_model(SHAPE, 3)
