"""After an edit the optimizer continues as if the network had always been so."""

import copy
from collections.abc import Callable
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from reference import assert_same
from torch import Tensor, nn

from gradnet.errors import InvalidInputError
from gradnet.surgery.deepen import deepen
from gradnet.surgery.edit import Edit, Origin, certify
from gradnet.surgery.insert import append_block, insert_block, zero_last_layer
from gradnet.surgery.optimizer import transfer_optimizer

Batches = list[tuple[Tensor, Tensor]]
Make = Callable[..., torch.optim.Optimizer]
# With a negligible epsilon, since a split gradient is divided by the same one.
KINDS: dict[str, tuple[Make, dict[str, Any]]] = {
    "sgd": (torch.optim.SGD, {}),
    "momentum": (torch.optim.SGD, {"momentum": 0.9, "dampening": 0.1}),
    "nesterov": (torch.optim.SGD, {"momentum": 0.9, "nesterov": True}),
    "adam": (torch.optim.Adam, {"eps": 1e-30}),
    "amsgrad": (torch.optim.Adam, {"eps": 1e-30, "amsgrad": True}),
    "adamw": (torch.optim.AdamW, {"eps": 1e-30}),
    "rmsprop": (torch.optim.RMSprop, {"eps": 1e-30}),
    "centered": (
        torch.optim.RMSprop,
        {"eps": 1e-30, "momentum": 0.9, "centered": True},
    ),
}


def make(kind: str, parameters: Any, lr: float) -> torch.optim.Optimizer:
    function, settings = KINDS[kind]
    return function(parameters, lr=lr, **settings)


def teacher(hidden: int = 4) -> nn.Sequential:
    model = nn.Sequential(nn.Linear(3, hidden), nn.ReLU(), nn.Linear(hidden, 2))
    return model.double()


def batches(count: int) -> Batches:
    generator = torch.Generator().manual_seed(5)
    return [
        (
            torch.randn(16, 3, dtype=torch.float64, generator=generator),
            torch.randint(2, (16,), generator=generator),
        )
        for _ in range(count)
    ]


def train(
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    data: Batches,
) -> None:
    for x, labels in data:
        optimizer.zero_grad()
        nn.functional.cross_entropy(model(x), labels).backward()
        optimizer.step()


def block(width: int) -> nn.Module:
    """``x + F(x)`` with ``F`` zero."""

    class Residual(nn.Sequential):
        def forward(self, x: Tensor) -> Tensor:
            return x + super().forward(x)

    layers = nn.Linear(width, width), nn.ReLU(), nn.Linear(width, width)
    return zero_last_layer(Residual(*layers))


EDITS: dict[str, Callable[[nn.Module, Tensor], Edit]] = {
    "deepen": lambda model, x: deepen(model, "1", probe=x),
    "insert": lambda model, x: insert_block(model, "0", block(4), probe=x),
    "append": lambda model, x: append_block(model, "", block(2), probe=x),
}


@pytest.mark.parametrize("edit_name", EDITS)
@pytest.mark.parametrize("kind", KINDS)
def test_next_step_of_old_entries_is_that_without_the_edit(
    kind: str, edit_name: str
) -> None:
    model, data = teacher(), batches(7)
    optimizer = make(kind, model.parameters(), lr=0.05)
    train(model, optimizer, data[:6])
    edit = EDITS[edit_name](model, data[0][0])
    kept = copy.deepcopy(optimizer.state_dict())
    new = transfer_optimizer(optimizer, edit)
    assert type(new) is type(optimizer)
    train(edit.model, new, data[6:])
    torch.testing.assert_close(optimizer.state_dict(), kept, rtol=0, atol=0)
    train(model, optimizer, data[6:])
    moved = edit.model.state_dict()
    for name, origin in edit.origins.items():
        assert_same(moved[name], model.get_parameter(origin.source).data, 1e-12)


def widened(model: nn.Sequential, sources: list[int], shares: list[float]) -> Edit:
    """Hidden unit ``j`` becomes a copy of ``sources[j]``, which gets ``shares[j]``."""
    indices, parts = torch.tensor(sources), torch.tensor(shares, dtype=torch.float64)
    new = teacher(len(sources))
    with torch.no_grad():
        new[0].weight.copy_(model[0].weight[indices])
        new[0].bias.copy_(model[0].bias[indices])
        new[2].weight.copy_(model[2].weight[:, indices] * parts)
        new[2].bias.copy_(model[2].bias)
    origins = {
        "0.weight": Origin("0.weight", {0: indices}, {}, {0: parts}),
        "0.bias": Origin("0.bias", {0: indices}, {}, {0: parts}),
        "2.weight": Origin("2.weight", {1: indices}, {1: parts}),
        "2.bias": Origin("2.bias"),
    }
    return certify(model, new, origins, batches(1)[0][0])


@given(kind=st.sampled_from(list(KINDS)), shares=st.tuples(*[st.floats(0.1, 0.9)] * 2))
def test_split_units_have_the_state_of_a_network_that_was_always_so_wide(
    kind: str, shares: tuple[float, float]
) -> None:
    torch.manual_seed(1)
    model, data = teacher(), batches(5)
    # Units 1 and 3 are split; a negative share is as good a split as others.
    parts = [1, shares[0], 1, 1 + shares[1], 1 - shares[0], -shares[1]]
    edit = widened(model, [0, 1, 2, 3, 1, 3], parts)
    assert edit.certificate.preserves(1e-10)
    # A learning rate of zero: the gradients are those before and after the edit.
    optimizer = make(kind, model.parameters(), lr=0.0)
    train(model, optimizer, data)
    expected = make(kind, edit.model.parameters(), lr=0.0)
    train(edit.model, expected, data)
    carried = transfer_optimizer(optimizer, edit)
    torch.testing.assert_close(
        carried.state_dict(), expected.state_dict(), rtol=1e-9, atol=1e-12
    )


def test_removed_units_leave_the_state_of_the_others() -> None:
    model, data = teacher(), batches(3)
    optimizer = make("adam", model.parameters(), lr=0.01)
    train(model, optimizer, data)
    new = transfer_optimizer(optimizer, widened(model, [3, 0], [1.0, 1.0]))
    moments = new.state[new.param_groups[0]["params"][0]]
    old = optimizer.state[model[0].weight]
    assert torch.equal(moments["exp_avg"], old["exp_avg"][[3, 0]])
    assert moments["step"] == 3


def with_new_units(model: nn.Sequential, count: int) -> Edit:
    """The hidden layer gets ``count`` fresh units."""
    size = model[0].out_features
    new = teacher(size + count)
    with torch.no_grad():
        new[0].weight[:size] = model[0].weight
        new[0].bias[:size] = model[0].bias
    indices = torch.tensor([*range(size), *[-1] * count])
    origins = {
        "0.weight": Origin("0.weight", {0: indices}),
        "0.bias": Origin("0.bias", {0: indices}),
        "2.weight": Origin("2.weight", {1: indices}),
        "2.bias": Origin("2.bias"),
    }
    return certify(model, new, origins, batches(1)[0][0])


def test_new_entries_have_no_momentum_and_the_mean_of_the_second_moments() -> None:
    model, data = teacher(), batches(3)
    optimizer = make("amsgrad", model.parameters(), lr=0.01)
    train(model, optimizer, data)
    new = transfer_optimizer(optimizer, with_new_units(model, 2))
    for index, name in enumerate(("0.weight", "0.bias")):
        state = new.state[new.param_groups[0]["params"][index]]
        old = optimizer.state[model.get_parameter(name)]
        assert_same(state["exp_avg"][:4], old["exp_avg"])
        assert state["exp_avg"][4:].eq(0).all()
        for key in ("exp_avg_sq", "max_exp_avg_sq"):
            assert_same(state[key][:4], old[key])
            assert_same(state[key][4:], old[key].mean().expand_as(state[key][4:]))


def largest_moves(second_moment: float, gradient: float, steps: int) -> float:
    """The longest of Adam's steps for a new entry after 1000 steps of others; lr 1."""
    entry = nn.Parameter(torch.zeros(1, dtype=torch.float64))
    optimizer = torch.optim.Adam([entry], lr=1.0)
    optimizer.state[entry] = {
        "step": torch.tensor(1000.0),
        "exp_avg": torch.zeros(1, dtype=torch.float64),
        "exp_avg_sq": torch.full((1,), second_moment, dtype=torch.float64),
    }
    moves = []
    for _ in range(steps):
        before = entry.item()
        entry.grad = torch.full((1,), gradient, dtype=torch.float64)
        optimizer.step()
        moves.append(abs(entry.item() - before))
    return max(moves)


def test_zero_second_moments_would_give_too_large_steps() -> None:
    assert 5 < largest_moves(0.0, 1.0, 50) < 7
    assert largest_moves(1.0, 1.0, 50) < 1.1


def test_groups_and_their_settings_stay() -> None:
    model = teacher()
    weights = [p for p in model.parameters() if p.ndim > 1]
    vectors = [p for p in model.parameters() if p.ndim == 1]
    optimizer = torch.optim.AdamW(
        [
            {"params": weights, "lr": 0.2, "initial_lr": 0.4, "weight_decay": 0.3},
            {"params": vectors, "weight_decay": 0.0},
        ],
        lr=0.1,
        betas=(0.8, 0.9),
        amsgrad=True,
    )
    edit = deepen(model, "1", probe=batches(1)[0][0])
    new = transfer_optimizer(optimizer, edit)
    names = {id(p): name for name, p in edit.model.named_parameters()}
    members = [[names[id(p)] for p in group["params"]] for group in new.param_groups]
    assert members == [
        ["0.weight", "2.weight", "4.weight"],
        ["0.bias", "2.bias", "4.bias"],
    ]
    settings = [dict(group) for group in optimizer.param_groups]
    for group, old in zip(new.param_groups, settings, strict=True):
        assert {**group, "params": []} == {**old, "params": []}
    assert new.defaults == optimizer.defaults


def test_names_in_the_groups_are_the_new_ones() -> None:
    model = teacher()
    optimizer = torch.optim.SGD(model.named_parameters(), lr=0.1, momentum=0.9)
    edit = deepen(model, "1", probe=batches(1)[0][0])
    (group,) = transfer_optimizer(optimizer, edit).param_groups
    assert group["param_names"] == [name for name, _ in edit.model.named_parameters()]


def test_frozen_parameters_are_left_out_until_they_are_trained() -> None:
    model, data = teacher(), batches(2)
    model[0].requires_grad_(False)
    optimizer = make("adam", model[2].parameters(), lr=0.1)
    train(model, optimizer, data)
    edit = append_block(model, "", block(2), probe=data[0][0])
    assert len(transfer_optimizer(optimizer, edit).param_groups[0]["params"]) == 6
    edit.model[0].requires_grad_(True)
    edit.model[2].requires_grad_(False)
    new = transfer_optimizer(optimizer, edit)
    members = new.param_groups[0]["params"]
    assert members[0] is edit.model[0].weight and len(members) == 6
    assert not new.state
    edit.model.requires_grad_(False)
    with pytest.raises(
        InvalidInputError, match="no parameter of the edited network requires"
    ):
        transfer_optimizer(optimizer, edit)


def test_new_parameters_start_as_at_the_first_step() -> None:
    model, data = teacher(), batches(4)
    optimizer = make("adam", model.parameters(), lr=0.01)
    train(model, optimizer, data[:3])
    edit = deepen(model, "1", probe=data[0][0])
    new = transfer_optimizer(optimizer, edit)
    before = edit.model[2].weight.detach().clone()
    train(edit.model, new, data[3:])
    moves = (edit.model[2].weight - before).abs()
    assert moves.max().item() == pytest.approx(0.01, rel=1e-6)
    assert new.state[edit.model[2].weight]["step"] == 1
    assert new.state[edit.model[0].weight]["step"] == 4


def test_unsupported_optimizers_are_refused() -> None:
    model = teacher()
    edit = deepen(model, "1", probe=batches(1)[0][0])
    with pytest.raises(
        InvalidInputError, match="Adagrad cannot.*SGD, Adam, AdamW, RMSprop"
    ):
        transfer_optimizer(torch.optim.Adagrad(model.parameters()), edit)
    with pytest.raises(InvalidInputError, match="the network before the edit lacks"):
        transfer_optimizer(torch.optim.SGD(edit.model.parameters()), edit)


def test_state_survives_being_saved_and_loaded() -> None:
    model, data = teacher(), batches(3)
    optimizer = make("centered", model.parameters(), lr=0.01)
    train(model, optimizer, data)
    edit = deepen(model, "1", probe=data[0][0])
    new = transfer_optimizer(optimizer, edit)
    loaded = make("centered", edit.model.parameters(), lr=0.01)
    loaded.load_state_dict(new.state_dict())
    torch.testing.assert_close(loaded.state_dict(), new.state_dict(), rtol=0, atol=0)
