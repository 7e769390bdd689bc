"""Composed edits are one edit: its origins refer to the first network."""

import pytest
import torch
from reference import assert_same
from torch import nn

from gradnet.errors import InvalidInputError
from gradnet.surgery import compose, deepen, remove_units, widen


def network() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 5), nn.ReLU(), nn.Linear(5, 2)
    ).double()


PROBE = torch.randn(6, 3, dtype=torch.float64, generator=torch.manual_seed(1))


def gradients(model: nn.Module) -> dict[str, torch.Tensor]:
    model.zero_grad()
    model(PROBE).pow(2).sum().backward()
    return {name: p.grad.clone() for name, p in model.named_parameters()}


@pytest.mark.parametrize("layers", [("0", "0"), ("0", "2"), ("2", "0", "2")])
def test_widening_several_times_is_one_edit(layers):
    model = network()
    edits = []
    for turn, layer in enumerate(layers):
        now = edits[-1].model if edits else model
        width = now.get_submodule(layer).out_features + 2
        generator = torch.Generator().manual_seed(turn)
        edits.append(widen(now, layer, width, probe=PROBE, generator=generator))
    edit = compose(edits, PROBE)
    assert edit.before is model and edit.certificate.preserves(1e-12)
    before, after = gradients(model), gradients(edit.model)
    values = dict(model.named_parameters())
    for name, parameter in edit.model.named_parameters():
        origin = edit.origins[name]
        assert_same(origin.scaled(values[origin.source]), parameter)
        expected = origin.gather(before[origin.source])
        assert_same(after[name], expected * origin.gradient_factor(parameter))


def test_origins_of_renamed_and_removed_entries():
    model = network()
    first = deepen(model, "1", probe=PROBE)
    second = remove_units(first.model, "4", [0, 3], probe=PROBE)
    edit = compose([first, second], PROBE)
    assert edit.origins["4.weight"].source == "2.weight"
    assert_same(edit.model[4].weight, model[2].weight[[1, 2, 4]])
    assert_same(edit.model[6].weight, model[4].weight[:, [1, 2, 4]])
    assert "2.weight" in edit.certificate.created


def test_new_entries_stay_new():
    model = network()
    first = widen(model, "0", 6, probe=PROBE, initialization="random-pad")
    second = widen(first.model, "0", 9, probe=PROBE)
    edit = compose([first, second], PROBE)
    index = edit.origins["0.weight"].indices[0]
    copied = second.origins["0.weight"].indices[0]
    assert torch.equal(index >= 0, copied < 4)
    assert {"0.weight", "0.bias", "2.weight"} <= set(edit.certificate.created)


def test_no_edits_are_refused():
    with pytest.raises(InvalidInputError, match="no edits to compose"):
        compose([], torch.ones(2, 4))
