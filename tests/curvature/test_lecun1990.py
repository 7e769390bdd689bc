"""The recursion is exact where theory says so, and its error elsewhere is known."""

import pytest
import torch
from torch import nn

from gradnet.curvature.diagonal import gauss_newton_diagonal, hessian_diagonal
from gradnet.curvature.lecun1990 import (
    ELEMENTWISE,
    error_derivatives,
    recursive_diagonal,
)
from gradnet.errors import InvalidInputError

X = torch.randn(30, 5, dtype=torch.float64, generator=torch.manual_seed(1))
Y = torch.arange(30) % 3
IMAGES = torch.randn(8, 2, 6, 6, dtype=torch.float64, generator=torch.manual_seed(2))


def mlp(*hidden, activation=nn.Tanh):
    torch.manual_seed(0)
    sizes = [5, *hidden, 3]
    layers = []
    for index in range(len(sizes) - 1):
        layers += [activation()] * bool(index)
        layers.append(nn.Linear(sizes[index], sizes[index + 1]))
    return nn.Sequential(*layers).double().eval()


def flat(named):
    return torch.cat([named[name].flatten() for name in sorted(named)])


def difference(found, exact):
    return ((flat(found) - flat(exact)).norm() / flat(exact).norm()).item()


@pytest.mark.parametrize("activation", [nn.Tanh, nn.Sigmoid, nn.Softplus, nn.ReLU])
def test_one_hidden_layer_and_a_squared_error_are_exact(activation):
    model = mlp(6, activation=activation)
    found = recursive_diagonal(model, X, Y, "squared_error")
    exact = hessian_diagonal(model, X, Y, "squared_error")
    torch.testing.assert_close(found, exact, rtol=1e-12, atol=1e-13)
    if activation is not nn.ReLU:
        assert min(h.min() for h in exact.values()) < 0
    flattened = recursive_diagonal(
        model, X, Y, "squared_error", omit_activation_curvature=True
    )
    positive = gauss_newton_diagonal(model, X, "squared_error")
    torch.testing.assert_close(flattened, positive, rtol=1e-12, atol=1e-13)


@pytest.mark.parametrize(
    ("hidden", "error", "least", "most"),
    [
        ((6, 6), "squared_error", 0.01, 0.15),
        ((6,), "cross_entropy", 0.08, 0.3),
        ((6, 6), "cross_entropy", 0.08, 0.3),
    ],
)
def test_its_error_in_deep_networks_is_of_the_documented_size(
    hidden, error, least, most
):
    model = mlp(*hidden)
    exact = hessian_diagonal(model, X, Y, error)
    assert least < difference(recursive_diagonal(model, X, Y, error), exact) < most
    positive = gauss_newton_diagonal(model, X, error)
    found = recursive_diagonal(model, X, Y, error, omit_activation_curvature=True)
    assert least < difference(found, positive) < most


def test_the_last_layer_is_exact_at_any_depth():
    model = mlp(6, 6)
    for error in ("squared_error", "cross_entropy"):
        found = recursive_diagonal(model, X, Y, error)
        exact = hessian_diagonal(model, X, Y, error)
        for name in ("4.weight", "4.bias"):
            torch.testing.assert_close(found[name], exact[name], rtol=1e-12, atol=1e-13)


def by_hand(model, x, y):
    """The formulas of the paper, unit by unit, for tanh and a squared error."""
    first, _, second = model
    target = nn.functional.one_hot(y, 3).double()
    total = torch.zeros_like(first.weight)
    for sample, wanted in zip(x, target, strict=True):
        a = first(sample)
        z = a.tanh()
        logits = second(z)
        for i in range(len(a)):
            f1, f2 = 1 - z[i] ** 2, -2 * z[i] * (1 - z[i] ** 2)
            slope = sum(
                2 * (logits[k] - wanted[k]) * second.weight[k, i] for k in range(3)
            )
            curvature = sum(2 * second.weight[k, i] ** 2 for k in range(3))
            total[i] += (f1**2 * curvature + f2 * slope) * sample**2
    return total.detach() / len(x)


def test_it_is_the_published_formula_with_the_sign_corrected():
    model = mlp(4)
    found = recursive_diagonal(model, X, Y, "squared_error")
    expected = by_hand(model, X, Y)
    torch.testing.assert_close(found["0.weight"], expected, rtol=1e-12, atol=0)


def exact_network():
    """Layers that do not mix units, for which the recursion is exact."""
    return nn.Sequential(
        nn.BatchNorm2d(2),
        nn.ELU(inplace=True),
        nn.AvgPool2d(2),
        nn.ZeroPad2d(1),
        nn.MaxPool2d(5),
        nn.Dropout(0.5),
        nn.Sequential(nn.Flatten(), nn.Linear(2, 3)),
    )


def test_norms_poolings_and_the_like_are_exact_where_paths_do_not_cross():
    model = exact_network().double()
    model(IMAGES)  # running statistics other than zero and one
    model.eval()
    y = torch.arange(8) % 3
    found = recursive_diagonal(model, IMAGES, y, "squared_error")
    exact = hessian_diagonal(model, IMAGES, y, "squared_error")
    assert "0.weight" in exact
    # The recursion treats the positions that share a weight as independent.
    for name in ("6.1.weight", "6.1.bias"):
        torch.testing.assert_close(found[name], exact[name], rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize(
    "pool", [nn.MaxPool2d(6), nn.AdaptiveMaxPool2d(1)], ids=lambda p: type(p).__name__
)
def test_a_scale_before_a_maximum_is_exact(pool):
    model = nn.Sequential(
        nn.BatchNorm2d(2), nn.Sigmoid(), pool, nn.Flatten(), nn.Linear(2, 3)
    ).double()
    model(IMAGES)
    model.eval()
    y = torch.arange(8) % 3
    found = recursive_diagonal(model, IMAGES, y, "squared_error")
    exact = hessian_diagonal(model, IMAGES, y, "squared_error")
    torch.testing.assert_close(found, exact, rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize(
    ("layer", "kernel"),
    [(nn.AvgPool2d(3), 3), (nn.AdaptiveAvgPool2d(2), 3), (nn.AvgPool2d((3, 3)), 3)],
)
def test_a_mean_is_a_convolution_with_fixed_weights(layer, kernel):
    convolution = nn.Conv2d(2, 2, kernel, kernel, groups=2, bias=False).double()
    nn.init.constant_(convolution.weight, 1 / kernel**2)
    y, found = torch.arange(8) % 3, []
    for between in (layer, convolution):
        torch.manual_seed(0)
        first, head = nn.Conv2d(2, 2, 1), nn.Linear(8, 3)
        model = nn.Sequential(first, nn.Tanh(), between, nn.Flatten(), head).double()
        found.append(recursive_diagonal(model, IMAGES, y))
    for name in ("0.weight", "0.bias", "4.weight"):
        torch.testing.assert_close(found[0][name], found[1][name], rtol=1e-12, atol=0)


def test_a_convolution_is_the_sum_over_its_positions():
    # A convolution at one position is a linear layer; at four, the sum of four.
    torch.manual_seed(0)
    convolution, head = nn.Conv2d(2, 3, 3, stride=3).double(), nn.Linear(12, 3).double()
    model = nn.Sequential(convolution, nn.Tanh(), nn.Flatten(), head)
    y = torch.arange(8) % 3
    found = recursive_diagonal(model, IMAGES, y, "squared_error")["0.weight"]
    weights = convolution.weight.detach().flatten(1)
    patches = nn.functional.unfold(IMAGES, 3, stride=3)  # (N, 18, 4)
    a = torch.einsum("os,nsp->nop", weights, patches)
    a = a + convolution.bias.detach()[:, None]
    z = a.tanh()
    targets = nn.functional.one_hot(y, 3)
    g = 2 * (head(z.flatten(1)).detach() - targets) @ head.weight.detach()
    h = (2 * head.weight.detach().square().sum(0)).expand_as(g)
    f1, f2 = 1 - z**2, -2 * z * (1 - z**2)
    h = f1**2 * h.reshape(z.shape) + f2 * g.reshape(z.shape)
    expected = torch.einsum("nop,nsp->os", h, patches**2) / 8
    torch.testing.assert_close(
        found.flatten(1), expected, rtol=1e-12, atol=1e-14, check_stride=False
    )


@pytest.mark.parametrize("kind", ELEMENTWISE, ids=lambda kind: kind.__name__)
def test_activations_have_their_own_second_derivatives(kind):
    model = mlp(4, activation=kind)
    found = recursive_diagonal(model, X, Y, "squared_error")
    exact = hessian_diagonal(model, X, Y, "squared_error")
    torch.testing.assert_close(found, exact, rtol=1e-10, atol=1e-12)


def test_batches_change_nothing_and_the_model_stays(monkeypatch):
    model = mlp(6, 6)
    before = {name: p.clone() for name, p in model.named_parameters()}
    whole = recursive_diagonal(model, X, Y)
    monkeypatch.setattr("gradnet.curvature.lecun1990.BATCH_SIZE", 7)
    torch.testing.assert_close(recursive_diagonal(model, X, Y), whole)
    assert all(torch.equal(before[n], p) for n, p in model.named_parameters())
    assert all(p.grad is None for p in model.parameters())


def test_targets_may_be_numbers():
    model = mlp(4)
    targets = nn.functional.one_hot(Y, 3).double()
    for by_labels, by_numbers in zip(
        recursive_diagonal(model, X, Y, "squared_error").values(),
        recursive_diagonal(model, X, targets, "squared_error").values(),
        strict=True,
    ):
        assert torch.equal(by_labels, by_numbers)
    with pytest.raises(InvalidInputError, match=r"integer labels \(N,\)"):
        recursive_diagonal(model, X, targets[:, :2], "squared_error")


def test_errors_name_the_layer_and_the_remedy():
    class Own(nn.Sequential):
        def forward(self, x):
            return super().forward(x) + 1

    for model, match in (
        (nn.Sequential(nn.LayerNorm(5)), r"'0' \(LayerNorm\); gauss_newton_diagonal"),
        (nn.Sequential(nn.Linear(5, 3), Own()), "Own overrides forward"),
        (nn.Sequential(nn.Dropout(0.5), nn.Linear(5, 3)), "call model.eval"),
    ):
        with pytest.raises(InvalidInputError, match=match):
            recursive_diagonal(model.double(), X, Y)
    uneven = nn.Sequential(nn.AdaptiveAvgPool2d(4), nn.Flatten(), nn.Linear(32, 3))
    with pytest.raises(InvalidInputError, match="over different numbers of inputs"):
        recursive_diagonal(uneven.double(), IMAGES, torch.zeros(8, dtype=torch.long))
    with pytest.raises(InvalidInputError, match="no error 'mse'"):
        error_derivatives("mse", X, X)
