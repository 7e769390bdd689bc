"""Deepening preserves the function; where it would not, it is refused."""

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
from gradnet.surgery.deepen import deepen
from gradnet.surgery.edit import Edit

IDEMPOTENT = {
    "relu": nn.ReLU(),
    "relu6": nn.ReLU6(),
    "hardtanh": nn.Hardtanh(-0.3, 0.8),
    "threshold": nn.Threshold(0.1, -2.0),
    "hardshrink": nn.Hardshrink(0.2),
    "identity": nn.Identity(),
}
NOT_IDEMPOTENT = [
    nn.LeakyReLU(),
    nn.PReLU(),
    nn.Tanh(),
    nn.Sigmoid(),
    nn.GELU(),
    nn.SiLU(),
    nn.ELU(),
    nn.Hardswish(),
    nn.Softmax(1),
]
CONVOLUTIONS = {1: nn.Conv1d, 2: nn.Conv2d, 3: nn.Conv3d}
NORMALIZATIONS = {0: nn.BatchNorm1d, 1: nn.BatchNorm1d, 2: nn.BatchNorm2d}


def probe_of(dimensions: int, batch: int = 5) -> Tensor:
    return torch.randn(batch, 2, *[6] * dimensions, dtype=torch.float64) * 2


def network(dimensions: int, activation: nn.Module, norm: bool = False) -> nn.Module:
    """Weights, perhaps BatchNorm, ``phi``, then a head."""
    kind = CONVOLUTIONS[dimensions] if dimensions else nn.Linear
    model = nn.Sequential()
    model.add_module("first", kind(2, 4, *[3] * bool(dimensions)))
    if norm:
        model.add_module("norm", NORMALIZATIONS[dimensions](4, eps=1e-3, momentum=0.3))
    model.add_module("phi", copy.deepcopy(activation))
    model.add_module("flatten", nn.Flatten())
    model.add_module("head", nn.Linear(4 * 4**dimensions, 3))
    return model.double()


def logits(model: nn.Module, x: Tensor, training: bool = False) -> Tensor:
    return copy.deepcopy(model).train(training)(x).detach()


def assert_exact_and_apart(edit: Edit, old: nn.Module, x: Tensor) -> None:
    """The same function, and no tensor that the two networks share."""
    assert_same(logits(edit.model, x), logits(old, x))
    assert edit.before is old
    theirs = {t.data_ptr() for t in old.state_dict().values() if t.numel()}
    assert not theirs & {t.data_ptr() for t in edit.model.state_dict().values()}


@given(
    dimensions=st.integers(0, 3),
    kernel_size=st.integers(1, 6),
    activation=st.sampled_from(list(IDEMPOTENT)),
    training=st.booleans(),
)
def test_deeper_network_is_the_same_function(
    dimensions: int, kernel_size: int, activation: str, training: bool
) -> None:
    model = network(dimensions, IDEMPOTENT[activation]).train(training)
    kept = copy.deepcopy(model.state_dict())
    x = probe_of(dimensions)
    edit = deepen(model, "phi", probe=x, kernel_size=kernel_size)
    assert_exact_and_apart(edit, model, x)
    assert edit.certificate.largest_difference < 1e-14
    assert all(torch.equal(kept[k], v) for k, v in model.state_dict().items())
    assert list(edit.model._modules) == [
        *("first", "phi", "first_deeper", "phi_deeper", "flatten", "head")
    ]
    assert {m.training for m in edit.model.modules()} == {training}
    grown = edit.certificate.parameters[1] - edit.certificate.parameters[0]
    assert grown == 16 * (kernel_size**dimensions) + 4
    assert edit.certificate.created == ("first_deeper.weight", "first_deeper.bias")


@pytest.mark.parametrize("dimensions", [0, 1, 2])
@pytest.mark.parametrize("activation", IDEMPOTENT)
def test_calibrated_norm_is_the_identity(dimensions: int, activation: str) -> None:
    model = network(dimensions, IDEMPOTENT[activation], norm=True).eval()
    x = probe_of(dimensions)
    edit = deepen(model, "phi", probe=x)
    assert_exact_and_apart(edit, model, x)
    other = probe_of(dimensions, batch=7) + 3
    assert_same(logits(edit.model, other), logits(model, other))
    assert_same(logits(edit.model, x, True), logits(model, x, True))
    norm = edit.model.get_submodule("norm_deeper")
    assert (norm.eps, norm.momentum) == (1e-3, 0.3)
    assert edit.model.get_submodule("first_deeper").bias is None


def test_without_calibration_a_norm_is_not_the_identity() -> None:
    model = network(2, nn.ReLU(), norm=True).eval()
    x = probe_of(2)
    edited = deepen(model, "phi", probe=x).model
    edited.get_submodule("norm_deeper").reset_parameters()
    assert 1e-4 < (logits(edited, x) - logits(model, x)).abs().max() < 1e-2
    assert (logits(edited, x, True) - logits(model, x, True)).abs().max() > 0.1


def test_calibration_leaves_out_dropout_and_keeps_frozen_norms_frozen() -> None:
    model = nn.Sequential(
        *(nn.Linear(3, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Dropout(0.5)),
        *(nn.Linear(8, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Linear(8, 2)),
    ).double()
    model[1].eval()
    x = torch.randn(6, 3, dtype=torch.float64)
    edit = deepen(model, "6", probe=x)
    for network in (model, edit.model):
        network.train()
        network[1].eval()
        network[3].eval()
    assert_same(edit.model(x), model(x))


def test_even_kernels_have_their_centre_before_the_middle() -> None:
    layer = deepen(network(2, nn.ReLU()), "phi", probe=probe_of(2), kernel_size=4).model
    weight = layer.get_submodule("first_deeper").weight
    assert weight.nonzero()[:, 2:].unique().tolist() == [1]


@pytest.mark.parametrize("activation", NOT_IDEMPOTENT, ids=lambda a: type(a).__name__)
@pytest.mark.parametrize("dimensions", [0, 2])
def test_other_activations_are_refused(activation: nn.Module, dimensions: int) -> None:
    model, x = network(dimensions, activation), probe_of(dimensions)
    name = type(activation).__name__
    with pytest.raises(
        InvalidInputError, match=f"^{name} 'phi' is not idempotent.*exact=Fal"
    ):
        deepen(model, "phi", probe=x)
    edit = deepen(model, "phi", probe=x, exact=False)
    assert edit.certificate.largest_difference > 1e-4


class Reusing(nn.Module):
    """Calls one ReLU twice, as torchvision's BasicBlock does."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b, self.relu = nn.Linear(2, 2), nn.Linear(2, 2), nn.ReLU()
        self.unused = nn.ReLU()

    def forward(self, x: Tensor) -> Tensor:
        return self.relu(self.b(self.relu(self.a(x))))


class Tokens(nn.Module):
    """Linear layers on (N, T, D), which is no output of a convolution."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.linear, self.relu = (
            nn.Conv1d(2, 4, 1),
            nn.Linear(6, 6),
            nn.ReLU(),
        )
        self.both = nn.LSTM(6, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.both(self.relu(self.linear(self.conv(x))))[0].flatten(1)


@pytest.mark.parametrize(
    ("model", "after", "reason"),
    [
        (Reusing(), "relu", "'relu' runs 2 times.*a separate layer"),
        (Reusing(), "unused", "'unused' runs 0 times"),
        (Reusing(), "a", "'a' .Linear. is not an activation, and none.*relu"),
        (Reusing(), "c", "no layer 'c'"),
        (Tokens(), "relu", r"'relu' is \(5, 4, 6\), neither.*insert_block"),
        (network(0, nn.ReLU()), "flatten", "'flatten' .Flatten. is not an activation"),
        (network(0, nn.ReLU()), "head", "'head' .Linear. is not an activation"),
        (network(2, nn.ReLU()), "phi", "the network fails on the probe"),
    ],
)
def test_layers_that_cannot_be_deepened_are_refused(
    model: nn.Module, after: str, reason: str
) -> None:
    x = probe_of(0) if not isinstance(model, Tokens) else probe_of(1)
    with pytest.raises(InvalidInputError, match=reason):
        deepen(model.double(), after, probe=x)


def test_invalid_arguments_are_refused() -> None:
    model, x = network(2, nn.ReLU()), probe_of(2)
    with pytest.raises(InvalidInputError, match="kernel_size is 0; give"):
        deepen(model, "phi", probe=x, kernel_size=0)
    with pytest.raises(InvalidInputError, match="no initialization 'zero'"):
        deepen(model, "phi", probe=x, initialization="zero")  # type: ignore[arg-type]
    with pytest.raises(InvalidInputError, match="only one value per channel"):
        deepen(network(0, nn.ReLU()), "phi", probe=x[:1, :, 0, 0], batch_norm=True)


def test_numbers_shift_and_origins_follow_them() -> None:
    model = nn.Sequential(
        *(nn.Conv2d(2, 4, 3), nn.BatchNorm2d(4), nn.ReLU()),
        *(nn.Conv2d(4, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(16, 3)),
    ).double()
    edit = deepen(model, "0", probe=probe_of(2))
    assert list(edit.model._modules) == [str(i) for i in range(10)]
    kinds = [type(m).__name__ for m in edit.model][2:6]
    assert kinds == ["ReLU", "Conv2d", "BatchNorm2d", "ReLU"]
    assert edit.origins["6.weight"].source == "3.weight"
    assert edit.origins["9.bias"].source == "6.bias"
    assert "3.weight" not in edit.origins and "4.running_mean" not in edit.origins
    old = model.state_dict()
    for name, tensor in edit.model.state_dict().items():
        if name in edit.origins:
            assert torch.equal(tensor, old[edit.origins[name].source])


def test_names_stay_unique_and_in_order_when_deepened_again() -> None:
    model, x = network(2, nn.ReLU(), norm=True).eval(), probe_of(2)
    edited = model
    for after in ("first", "first", "phi_deeper", "norm_deeper", "first_deeper3"):
        if after.startswith("norm"):
            with pytest.raises(
                InvalidInputError, match="'norm_deeper' .BatchNorm2d. is not"
            ):
                deepen(edited, after, probe=x)
        else:
            edited = deepen(edited, after, probe=x).model
    names = [n for n in edited._modules if n.startswith("phi")]
    assert names == [
        *("phi", "phi_deeper2", "phi_deeper", "phi_deeper3", "phi_deeper4")
    ]
    assert_same(logits(edited, x), logits(model, x))


def test_random_control_has_the_same_layers_and_its_generator_decides() -> None:
    model, x = network(2, nn.Tanh(), norm=True), probe_of(2)

    def control(seed: int) -> Edit:
        generator = torch.Generator().manual_seed(seed)
        return deepen(
            model, "phi", probe=x, initialization="random", generator=generator
        )

    one, same, other = control(1), control(1), control(2)
    weight = one.model.get_submodule("first_deeper").weight
    assert torch.equal(weight, same.model.get_submodule("first_deeper").weight)
    assert not torch.equal(weight, other.model.get_submodule("first_deeper").weight)
    assert weight.std().item() == pytest.approx((2 / (4 * 9)) ** 0.5, rel=0.2)
    norm = one.model.get_submodule("norm_deeper")
    assert norm.weight.eq(1).all() and norm.running_mean.eq(0).all()
    exact = deepen(model, "phi", probe=x, exact=False)
    assert list(exact.model.state_dict()) == list(one.model.state_dict())


def test_global_random_numbers_and_frozen_parameters_stay() -> None:
    model, x = network(2, nn.ReLU()), probe_of(2)
    model.get_submodule("first").requires_grad_(False)
    state = torch.get_rng_state()
    edit = deepen(model, "phi", probe=x)
    assert torch.equal(state, torch.get_rng_state())
    trained = [n for n, p in edit.model.named_parameters() if p.requires_grad]
    assert trained == [
        *("first_deeper.weight", "first_deeper.bias", "head.weight", "head.bias")
    ]


@pytest.mark.parametrize(
    ("name", "after"), [("cnn2018", "relu0"), ("cnn2018", "conv1"), ("mlp", "linear0")]
)
def test_models_that_are_not_sequential(name: str, after: str) -> None:
    model = build_model(name, in_channels=1, image_size=16)
    x = torch.randn(3, 1, 16, 16)
    edit = deepen(model, after, probe=x)
    assert type(edit.model) is type(model)
    assert edit.certificate.preserves(1e-5)
    assert deepen(model.double(), after, probe=x.double()).certificate.preserves(1e-10)


def test_resnet_of_torchvision_gets_a_deeper_stem() -> None:
    import_torchvision()
    from torchvision.models import resnet18

    model = resnet18(num_classes=5).eval()
    x = torch.randn(2, 3, 32, 32)
    edit = deepen(model, "relu", probe=x, batch_norm=True)
    assert edit.certificate.preserves(1e-5)
    assert list(edit.model.get_submodule("relu")._modules) == [
        *("relu", "conv_deeper", "conv_norm_deeper", "relu_deeper")
    ]
    assert len(edit.certificate.created) == 6
    assert edit.model.get_submodule("relu").training is False
    again = deepen(edit.model, "relu.relu_deeper", probe=x)
    assert again.certificate.preserves(1e-5)
    with pytest.raises(InvalidInputError, match="'layer1.0.relu' runs 2 times"):
        deepen(model, "layer1.0.relu", probe=x)


def test_gradients_of_old_parameters_stay_and_new_ones_learn() -> None:
    model, x = network(2, nn.ReLU()), probe_of(2)
    edit = deepen(model, "phi", probe=x)
    for network_ in (model, edit.model):
        network_(x).square().mean().backward()
    for name, parameter in edit.model.named_parameters():
        assert parameter.grad is not None
        if name in edit.origins:
            assert_same(parameter.grad, model.get_parameter(name).grad)
        else:
            assert parameter.grad.abs().max() > 0


def test_a_small_step_after_the_edit_does_not_raise_the_loss() -> None:
    model, x = network(2, nn.ReLU(), norm=True).eval(), probe_of(2)
    labels = torch.tensor([0, 1, 2, 0, 1])
    edited = deepen(model, "phi", probe=x).model
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
