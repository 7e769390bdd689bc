"""The controls train what their name says, and leave the base alone."""

import pytest
import torch
from torch import nn

from gradnet.classifier.estimator import IdentityTransform
from gradnet.data.problem import Samples
from gradnet.experiments.controls import train_control
from gradnet.training.loop import TrainingSettings


@pytest.fixture
def samples():
    x = torch.randn(60, 4)
    y = (x[:, 0] * x[:, 1] > 0).long()
    return Samples(x, y, torch.arange(50), torch.arange(50, 60), IdentityTransform(), 2)


@pytest.mark.parametrize(
    ("name", "changed"), [("last-layer", {"2"}), ("fine-tuned", {"0", "2"})]
)
def test_only_what_it_names_is_trained(samples, name, changed):
    base = nn.Sequential(nn.Linear(4, 6), nn.ReLU(), nn.Linear(6, 2))
    before = {n: tensor.clone() for n, tensor in base.state_dict().items()}
    training = TrainingSettings(steps=10, batch_size=10, evaluate_every=10)
    model, history = train_control(name, base, samples, training)
    assert history.records[-1]["step"] == 10
    assert all(torch.equal(before[n], t) for n, t in base.state_dict().items())
    if history.best_step:
        moved = {
            n.split(".")[0]
            for n, tensor in model.state_dict().items()
            if not torch.equal(tensor, before[n])
        }
        assert moved == changed


def test_the_last_layer_alone_takes_gradients(samples):
    base = nn.Sequential(nn.Linear(4, 6), nn.ReLU(), nn.Linear(6, 2))
    training = TrainingSettings(steps=1, evaluate_every=1)
    model, _ = train_control("last-layer", base, samples, training)
    assert [p.requires_grad for p in model.parameters()] == [False, False, True, True]
