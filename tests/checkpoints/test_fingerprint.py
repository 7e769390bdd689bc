"""Tests of gradnet/checkpoints/fingerprint.py."""

import copy

import torch
from torch import nn

from gradnet.checkpoints.fingerprint import weights_fingerprint


def test_equal_weights_have_equal_fingerprints() -> None:
    model = nn.Linear(3, 2)
    assert weights_fingerprint(copy.deepcopy(model)) == weights_fingerprint(model)


def test_one_changed_weight_changes_the_fingerprint() -> None:
    model = nn.Linear(3, 2)
    before = weights_fingerprint(model)
    with torch.no_grad():
        model.weight[1, 2] += 1e-3
    assert weights_fingerprint(model) != before


def test_a_changed_buffer_changes_the_fingerprint() -> None:
    model = nn.BatchNorm1d(2)
    before = weights_fingerprint(model)
    assert model.running_mean is not None
    model.running_mean += 1
    assert weights_fingerprint(model) != before
