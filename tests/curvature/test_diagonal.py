"""Exact diagonals against whole matrices by torch.func, and against BackPACK."""

import pytest
import torch
from torch import nn
from torch.func import functional_call, jacrev
from torch.nn import functional

from gradnet.curvature.diagonal import (
    curvature_diagonal,
    gauss_newton_diagonal,
    gauss_newton_rows,
    hessian_diagonal,
    hessian_matrix,
)
from gradnet.curvature.lecun1990 import recursive_diagonal
from gradnet.errors import InvalidInputError

X = torch.randn(6, 1, 6, 6, dtype=torch.float64, generator=torch.manual_seed(1))
Y = torch.arange(6) % 3
ERRORS = ["cross_entropy", "squared_error"]


class Residual(nn.Module):
    """What no recursion follows: a branch, a norm over samples, a weight of its own."""

    def __init__(self):
        super().__init__()
        self.first, self.second = nn.Linear(36, 4), nn.Linear(4, 4)
        self.norm, self.head = nn.LayerNorm(4), nn.Linear(4, 3)
        self.scale = nn.Parameter(torch.tensor([0.5, 2.0, 1.5, 1.0]))

    def forward(self, x):
        x = self.first(x.flatten(1)).sigmoid()
        return self.head(self.norm(x + self.scale * self.second(x).tanh()))


def network(name):
    torch.manual_seed(0)
    if name == "residual":
        return Residual().double().eval()
    model = nn.Sequential(
        nn.Conv2d(1, 2, 3, stride=2),
        nn.BatchNorm2d(2),
        nn.Tanh(),
        nn.Flatten(),
        nn.Linear(8, 4),
        nn.Sigmoid(),
        nn.Linear(4, 3),
    ).double()
    model(X)
    return model.eval()


def error_of(logits, error):
    if error == "cross_entropy":
        return functional.cross_entropy(logits, Y)
    return (logits - functional.one_hot(Y, 3)).square().sum(1).mean()


def parameters_of(model):
    return {name: p.detach() for name, p in model.named_parameters()}


def hessian_by_torch(model, error):
    """Without nested vmap, under which LayerNorm has wrong second derivatives."""
    weights = parameters_of(model)
    sizes = [w.numel() for w in weights.values()]

    def of_flat(flat):
        parts = zip(weights.items(), flat.split(sizes), strict=True)
        named = {name: part.reshape(w.shape) for (name, w), part in parts}
        return error_of(functional_call(model, named, (X,)), error)

    start = torch.cat([w.flatten() for w in weights.values()])
    return torch.autograd.functional.hessian(of_flat, start)


def gauss_newton_by_torch(model, error):
    """J^T H J, sample by sample, with the Hessian of the error in the logits."""
    weights = parameters_of(model)
    jacobians = jacrev(lambda w: functional_call(model, w, (X,)))(weights)
    whole = torch.cat([jacobians[name].flatten(2) for name in weights], 2)
    logits, total = model(X).detach(), 0
    for n, j in enumerate(whole):
        if error == "cross_entropy":
            p = logits[n].softmax(0)
            inner = p.diag() - torch.outer(p, p)
        else:
            inner = 2 * torch.eye(3, dtype=j.dtype)
        total = total + j.T @ inner @ j
    return total / len(X)


def flat(named):
    return torch.cat([part.flatten() for part in named.values()])


@pytest.mark.parametrize("error", ERRORS)
@pytest.mark.parametrize("name", ["plain", "residual"])
def test_gauss_newton(name, error):
    model = network(name)
    expected = gauss_newton_by_torch(model, error)
    found = gauss_newton_diagonal(model, X, error)
    assert found.keys() == dict(model.named_parameters()).keys()
    in_order = {n: found[n] for n, _ in model.named_parameters()}
    torch.testing.assert_close(flat(in_order), expected.diagonal(), rtol=0, atol=1e-12)
    assert all((h >= 0).all() for h in found.values())
    rows = torch.cat(list(gauss_newton_rows(model, X, error)))
    assert len(rows) == 3 * len(X)
    torch.testing.assert_close(rows.T @ rows / len(X), expected, rtol=0, atol=1e-12)


@pytest.mark.parametrize("error", ERRORS)
@pytest.mark.parametrize("name", ["plain", "residual"])
def test_hessian(name, error, monkeypatch):
    model = network(name)
    expected = hessian_by_torch(model, error)
    monkeypatch.setattr("gradnet.curvature.diagonal.BATCH_SIZE", 4)
    found = hessian_diagonal(model, X, Y, error, coordinates=13)
    torch.testing.assert_close(flat(found), expected.diagonal(), rtol=0, atol=1e-12)
    assert min(h.min() for h in found.values()) < 0
    whole = hessian_matrix(model, X, Y, error, coordinates=13)
    torch.testing.assert_close(whole, expected, rtol=0, atol=1e-12)


def test_chunks_and_frozen_weights_change_nothing(monkeypatch):
    model = network("plain")
    whole = gauss_newton_diagonal(model, X)
    model.requires_grad_(False)
    monkeypatch.setattr("gradnet.curvature.diagonal.MAX_MEMORY", 20_000)
    torch.testing.assert_close(gauss_newton_diagonal(model, X), whole)


@pytest.mark.parametrize("error", ERRORS)
def test_each_kind_by_its_name(error):
    model = network("plain")
    for kind, expected in (
        ("recursion", recursive_diagonal(model, X, Y, error)),
        (
            "levenberg_marquardt",
            recursive_diagonal(model, X, Y, error, omit_activation_curvature=True),
        ),
        ("gauss_newton", gauss_newton_diagonal(model, X, error)),
        ("hessian", hessian_diagonal(model, X, Y, error)),
    ):
        torch.testing.assert_close(
            curvature_diagonal(model, X, Y, kind, error), expected
        )
    with pytest.raises(InvalidInputError, match="no curvature 'fisher'"):
        curvature_diagonal(model, X, Y, "fisher", error)
    with pytest.raises(InvalidInputError, match="call model.eval"):
        hessian_diagonal(model.train(), X, Y, error)


@pytest.mark.peers
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("error", ERRORS)
def test_backpack_finds_the_same_diagonals(error):
    backpack = pytest.importorskip("backpack")
    extensions = pytest.importorskip("backpack.extensions")
    torch.manual_seed(0)
    model = nn.Sequential(
        nn.Conv2d(1, 2, 3), nn.Sigmoid(), nn.MaxPool2d(2), nn.Flatten(),
        nn.Linear(8, 4), nn.Tanh(), nn.Linear(4, 3),
    ).double()  # fmt: skip
    exact = gauss_newton_diagonal(model, X, error), hessian_diagonal(model, X, Y, error)
    targets = Y if error == "cross_entropy" else functional.one_hot(Y, 3).double()
    loss = nn.CrossEntropyLoss() if error == "cross_entropy" else nn.MSELoss()
    # Their mean is over outputs too; ours is their sum.
    scale = 1 if error == "cross_entropy" else 3
    backpack.extend(model)
    with backpack.backpack(extensions.DiagGGNExact(), extensions.DiagHessian()):
        backpack.extend(loss)(model(X), targets).backward()
    for name, parameter in model.named_parameters():
        for ours, theirs in zip(
            exact, (parameter.diag_ggn_exact, parameter.diag_h), strict=True
        ):
            torch.testing.assert_close(ours[name], scale * theirs, rtol=0, atol=1e-12)
