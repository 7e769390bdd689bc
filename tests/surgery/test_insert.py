"""Blocks that start as the identity preserve the function; others are refused."""

import copy

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from reference import assert_same
from torch import Tensor, nn

from gradnet.core.torchvision import import_torchvision
from gradnet.errors import InvalidInputError
from gradnet.models import build_model
from gradnet.surgery.insert import append_block, insert_block, zero_last_layer


class Residual(nn.Module):
    """``x + F(x)``, and perhaps ReLU."""

    def __init__(self, branch: nn.Module, activation: bool = False) -> None:
        super().__init__()
        self.branch, self.activation = branch, activation

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = x + self.branch(x)
        return y.relu() if self.activation else y


def linear_block(width: int, activation: bool = False) -> Residual:
    layers = nn.Linear(width, width), nn.ReLU(), nn.Linear(width, width)
    return Residual(zero_last_layer(nn.Sequential(*layers)), activation)


def convolution_block(
    width: int, norm: bool = False, activation: bool = False
) -> Residual:
    branch = nn.Sequential(nn.Conv2d(width, width, 3, padding=1), nn.ReLU())
    branch.append(nn.Conv2d(width, width, 3, padding=1))
    if norm:
        branch.append(nn.BatchNorm2d(width))
        nn.init.uniform_(branch[3].running_mean)
    return Residual(zero_last_layer(branch), activation)


def small() -> nn.Sequential:
    """Signed values after 0 and 2, no negative ones after 1."""
    layers = nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 4), nn.Linear(4, 2)
    return nn.Sequential(*layers).double()


def inputs() -> Tensor:
    return torch.randn(6, 3, dtype=torch.float64)


@given(after=st.sampled_from("012"), width=st.integers(1, 6), named=st.booleans())
def test_identity_block_keeps_the_function_wherever_it_is(
    after: str, width: int, named: bool
) -> None:
    torch.manual_seed(width)
    model = nn.Sequential(
        nn.Linear(3, width), nn.Tanh(), nn.Linear(width, width), nn.Linear(width, 2)
    ).double()
    kept, x, block = copy.deepcopy(model), inputs(), linear_block(width)
    name = "grown" if named else None
    edit = insert_block(model, after, block, probe=x, name=name)
    assert edit.certificate.largest_difference < 1e-14
    assert_same(edit.model(x), kept(x))
    index = int(after) + 1
    expected = [*"0123"[:index], "grown", *"0123"[index:]] if named else [*"01234"]
    assert list(edit.model._modules) == expected
    for key, origin in edit.origins.items():
        old = kept.state_dict()[origin.source]
        assert torch.equal(edit.model.state_dict()[key], old)
    parts = edit.model.state_dict(), model.state_dict(), block.state_dict()
    pointers = [{t.data_ptr() for t in part.values()} for part in parts]
    assert not pointers[0] & (pointers[1] | pointers[2])
    assert set(edit.certificate.created) == set(parts[0]) - set(edit.origins)


def test_block_takes_the_type_and_the_mode_of_the_network() -> None:
    model = small().eval()
    model[0].requires_grad_(False)
    edited = insert_block(model, "1", linear_block(4), probe=inputs()).model
    assert {p.dtype for p in edited.parameters()} == {torch.float64}
    assert not any(m.training for m in edited.modules())
    assert [p.requires_grad for p in edited[0].parameters()] == [False, False]
    assert all(p.requires_grad for p in edited[2].parameters())
    assert insert_block(small(), "1", linear_block(4), probe=inputs()).model[2].training


def test_block_that_is_not_the_identity_is_refused_unless_exact_is_false() -> None:
    model, x = small(), inputs()
    block = Residual(nn.Linear(4, 4))
    with pytest.raises(
        InvalidInputError, match="Residual at '1' changes.*zero_last_layer"
    ):
        insert_block(model, "1", block, probe=x)
    with pytest.raises(InvalidInputError, match="Residual at 'the end' changes"):
        append_block(model, "", Residual(nn.Linear(2, 2)), probe=x)
    edit = insert_block(model, "1", block, probe=x, exact=False)
    assert edit.certificate.largest_difference > 1e-3


def test_activation_after_the_sum_is_not_the_identity_on_signed_inputs() -> None:
    model, x = small(), inputs()
    block = linear_block(4, activation=True)
    assert insert_block(model, "1", block, probe=x).certificate.preserves(1e-10)
    with pytest.raises(
        InvalidInputError, match="no activation after the sum.*both signs"
    ):
        insert_block(model, "2", block, probe=x)


@pytest.mark.parametrize(
    ("after", "block", "name", "reason"),
    [
        ("7", linear_block(4), None, "no layer '7'; it has: 0, 1"),
        ("", linear_block(4), None, "no layer ''"),
        ("1", linear_block(3), None, r"Residual fails on an input \(6, 4\)"),
        ("1", nn.Linear(4, 5), None, r"Linear maps \(6, 4\) to \(6, 5\).*keep the sh"),
        ("1", nn.LSTM(4, 4), None, r"LSTM maps \(6, 4\) to no tensor"),
        ("1", linear_block(4), "0", "cannot be named '0'.*0, 1, 2, 3"),
        ("1", linear_block(4), "a.b", "cannot be named 'a.b'"),
        ("1", linear_block(4), "forward", "cannot be named 'forward'"),
    ],
)
def test_invalid_insertions_are_refused(
    after: str, block: nn.Module, name: str | None, reason: str
) -> None:
    with pytest.raises(InvalidInputError, match=reason):
        insert_block(small(), after, block, probe=inputs(), name=name)


def test_blocks_are_appended_to_the_network_or_a_part_of_it() -> None:
    x = inputs()
    body = nn.Sequential(nn.Linear(3, 4), nn.ReLU())
    model = nn.Sequential()
    model.add_module("body", body)
    model.add_module("none", nn.Sequential())
    model.add_module("head", nn.Linear(4, 2))
    model = model.double()
    edit = append_block(model, "body", linear_block(4), probe=x)
    edit = append_block(edit.model, "none", linear_block(4), probe=x)
    edit = append_block(edit.model, "", linear_block(2), probe=x)
    edit = append_block(edit.model, "", linear_block(2), probe=x)
    assert list(edit.model._modules) == [
        *("body", "none", "head", "residual", "residual2")
    ]
    assert list(edit.model.get_submodule("body")._modules) == ["0", "1", "2"]
    assert list(edit.model.get_submodule("none")._modules) == ["0"]
    assert_same(edit.model(x), model(x))


class Reversed(nn.Sequential):
    """A Sequential in name only."""

    def forward(self, x: Tensor) -> Tensor:
        for layer in reversed(list(self)):
            x = layer(x)
        return x


def test_only_a_sequential_with_its_own_forward_can_be_appended_to() -> None:
    model, x = Reversed(nn.Linear(4, 2), nn.Linear(3, 4)).double(), inputs()
    with pytest.raises(
        InvalidInputError, match="'the network' is a Reversed.*insert_block"
    ):
        append_block(model, "", linear_block(4), probe=x)
    with pytest.raises(
        InvalidInputError, match="'0' is a Linear; give a layer of type Sequential"
    ):
        append_block(model, "0", linear_block(4), probe=x)
    edit = insert_block(model, "1", linear_block(4), probe=x)
    assert type(edit.model[1]) is nn.Sequential and len(edit.model) == 2
    assert_same(edit.model(x), model(x))


def test_blocks_in_models_that_are_not_sequential() -> None:
    for name, after, block in (
        ("cnn2018", "pool0", convolution_block(64, norm=True)),
        ("mlp", "relu0", linear_block(64)),
    ):
        model = build_model(name, in_channels=1, image_size=16)
        edit = insert_block(model, after, block, probe=torch.randn(2, 1, 16, 16))
        assert edit.certificate.preserves(1e-5)
        assert "residual" in edit.model._modules


def test_resnet_of_torchvision_grows_inside_and_after_a_stage() -> None:
    import_torchvision()
    from torchvision.models import resnet18
    from torchvision.models.resnet import BasicBlock

    model = resnet18(num_classes=5).eval()
    x = torch.randn(2, 3, 32, 32)
    block = zero_last_layer(BasicBlock(64, 64))
    edit = insert_block(model, "layer1.0", block, probe=x)
    assert edit.origins["layer1.2.conv1.weight"].source == "layer1.1.conv1.weight"
    edit = append_block(edit.model, "layer1", block, probe=x)
    edit = insert_block(edit.model, "maxpool", convolution_block(64, True), probe=x)
    assert list(edit.model.get_submodule("maxpool")._modules) == ["maxpool", "residual"]
    assert len(edit.model.get_submodule("layer1")) == 4
    assert_same(edit.model(x), model(x), 1e-5)


def test_last_layer_alone_is_zeroed() -> None:
    branch = nn.Sequential(nn.Conv2d(2, 2, 3), nn.BatchNorm2d(2), nn.ReLU())
    assert zero_last_layer(branch) is branch
    assert branch[1].weight.eq(0).all() and branch[1].bias.eq(0).all()
    assert branch[0].weight.ne(0).all()
    branch = zero_last_layer(
        nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2, bias=False))
    )
    assert branch[1].weight.eq(0).all() and branch[0].bias.ne(0).all()


def test_layers_that_zeros_do_not_silence_are_refused() -> None:
    with pytest.raises(InvalidInputError, match="ReLU has no parameters"):
        zero_last_layer(nn.ReLU())
    with pytest.raises(
        InvalidInputError, match="last layer .* of Sequential is a PReLU"
    ):
        zero_last_layer(nn.Sequential(nn.Linear(2, 2), nn.PReLU()))
    with pytest.raises(InvalidInputError, match="is a LSTM"):
        zero_last_layer(nn.LSTM(2, 2))


def test_zeroed_layer_learns_first_and_two_of_them_never() -> None:
    block, x = convolution_block(3).double(), torch.rand(2, 3, 5, 5).double()
    first, last = block.branch[0], block.branch[2]
    block(x).square().sum().backward()
    assert first.weight.grad.abs().max() == 0 and last.weight.grad.abs().max() > 0
    block.zero_grad()
    nn.init.zeros_(first.weight)
    nn.init.zeros_(first.bias)
    block(x).square().sum().backward()
    assert all(p.grad.abs().max() == 0 for p in (first.weight, last.weight))


def test_a_small_step_after_the_edit_does_not_raise_the_loss() -> None:
    model, x, labels = small(), inputs(), torch.tensor([0, 1, 0, 1, 1, 0])
    edited = insert_block(model, "1", linear_block(4), probe=x).model
    optimizer = torch.optim.SGD(edited.parameters(), lr=1e-3)
    losses = [nn.functional.cross_entropy(model(x), labels).item()]
    for _ in range(10):
        loss = nn.functional.cross_entropy(edited(x), labels)
        losses.append(loss.item())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert losses[0] == pytest.approx(losses[1], rel=1e-12)
    assert losses[1:] == sorted(losses[1:], reverse=True)
