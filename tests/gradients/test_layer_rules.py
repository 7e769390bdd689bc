"""Rules are for layers that compute as the kind that they are of."""

import pytest
from torch import Tensor, nn

from gradnet.gradients.layer_rules import rules_of


class Renamed(nn.Linear):
    """A Linear under another name."""


class Doubled(nn.Linear):
    """Computes something else."""

    def forward(self, x: Tensor) -> Tensor:
        return 2 * super().forward(x)


@pytest.mark.parametrize(
    "layer",
    [
        nn.Linear(2, 3),
        Renamed(2, 3),
        nn.Conv1d(2, 2, 1),
        nn.ConvTranspose3d(2, 2, 1),
        nn.BatchNorm1d(2),
        nn.BatchNorm3d(2),
        nn.LayerNorm(2),
        nn.RMSNorm(2),
        nn.GroupNorm(1, 2),
        nn.Embedding(2, 3, padding_idx=0),
    ],
    ids=lambda layer: type(layer).__name__,
)
def test_layers_with_rules(layer: nn.Module) -> None:
    rules = rules_of(layer)
    assert rules is not None
    assert set(dict(layer.named_parameters())) <= set(rules.rules)


@pytest.mark.parametrize(
    "layer",
    [
        Doubled(2, 3),
        nn.Bilinear(2, 2, 2),
        nn.LSTM(2, 3),
        nn.PReLU(),
        nn.SyncBatchNorm(2),
        nn.EmbeddingBag(3, 2),
        nn.Embedding(2, 3, max_norm=1.0),
        nn.Embedding(2, 3, scale_grad_by_freq=True),
        nn.MultiheadAttention(4, 2),
    ],
    ids=lambda layer: type(layer).__name__,
)
def test_layers_without(layer: nn.Module) -> None:
    assert rules_of(layer) is None
