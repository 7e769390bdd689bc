"""Layers whose output changes from call to call are refused by name."""

import pytest
import torch
from torch import nn

from gradnet.core.evaluation_mode import (
    check_evaluation_mode,
    differentiable_attention,
    layerwise_attention,
)
from gradnet.errors import GradnetError


@pytest.mark.parametrize(
    "layer",
    [
        nn.BatchNorm2d(3),
        nn.Dropout(0.1),
        nn.AlphaDropout(0.1),
        nn.RReLU(),
        nn.LSTM(2, 2, num_layers=2, dropout=0.5),
        nn.MultiheadAttention(4, 2, dropout=0.5),
        nn.InstanceNorm1d(3, track_running_stats=True),
    ],
    ids=lambda layer: type(layer).__name__,
)
def test_what_changes_is_refused_in_training_mode_only(layer: nn.Module) -> None:
    model = nn.Sequential(nn.Identity(), layer)
    with pytest.raises(GradnetError, match=rf"layer '1' \({type(layer).__name__}\)"):
        check_evaluation_mode(model)
    check_evaluation_mode(model.eval())


def test_what_does_not_change_may_train() -> None:
    check_evaluation_mode(nn.Sequential(nn.Dropout(0.0), nn.InstanceNorm1d(3)))


def test_statistics_of_the_batch_are_refused_in_any_mode() -> None:
    norm = nn.BatchNorm1d(3, track_running_stats=False).eval()
    with pytest.raises(GradnetError, match="normalizes by the batch in any mode"):
        check_evaluation_mode(norm)


@pytest.mark.parametrize("context", [differentiable_attention, layerwise_attention])
@pytest.mark.parametrize("enabled", [True, False])
def test_the_fast_path_is_off_inside_and_as_before_after(
    context: object, enabled: bool
) -> None:
    was_enabled = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(enabled)
    try:
        with pytest.raises(ZeroDivisionError), context():
            assert not torch.backends.mha.get_fastpath_enabled()
            raise ZeroDivisionError
        assert torch.backends.mha.get_fastpath_enabled() == enabled
    finally:
        torch.backends.mha.set_fastpath_enabled(was_enabled)
