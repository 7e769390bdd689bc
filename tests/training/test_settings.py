"""Training settings: their range, the optimizer, the schedule."""

import pytest
import torch
from torch import nn

from gradnet.errors import GradnetError
from gradnet.training.settings import TrainingSettings


@pytest.mark.parametrize(
    ("field", "value"),
    [("steps", 0), ("batch_size", 0), ("evaluate_every", 0), ("learning_rate", 0.0)],
)
def test_settings_out_of_range_are_refused(field, value):
    with pytest.raises(GradnetError, match=field):
        TrainingSettings(**{field: value})


def test_cosine_falls_to_zero():
    settings = TrainingSettings(steps=30, learning_rate=0.05, schedule="cosine")
    rates = [settings.rate_at(step) for step in range(31)]
    assert rates[0] == 0.05 and rates[15] == pytest.approx(0.025)
    assert rates == sorted(rates, reverse=True) and rates[30] == pytest.approx(0)


def test_only_trainable_parameters_are_optimized():
    model = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2))
    model[0].requires_grad_(False)
    for name, kind in (("sgd", torch.optim.SGD), ("adamw", torch.optim.AdamW)):
        optimizer = TrainingSettings(optimizer=name).make_optimizer(model)
        assert type(optimizer) is kind
        assert optimizer.param_groups[0]["params"] == list(model[1].parameters())
    with pytest.raises(GradnetError, match="no trainable parameters"):
        TrainingSettings().make_optimizer(model.requires_grad_(False))
