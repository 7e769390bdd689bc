"""Norms, projections and contractions from factors equal those of formed gradients."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from layer_cases import FAST, SLOW, layer_case
from reference import assert_same
from torch import Tensor

from gradnet.gradients.extractor import GradientExtractor
from gradnet.gradients.factors import FactoredBlock, Formed, Product
from gradnet.gradients.layout import Block

every_layer = pytest.mark.parametrize("name", [*FAST, *SLOW])


def formed_and_factored(
    name: str,
) -> tuple[dict[str, Tensor], dict[str, FactoredBlock]]:
    found = layer_case(name)
    extractor = GradientExtractor(found.model, biases=True)
    _, blocks = extractor.factored_blocks(found.x)
    return extractor.layout.to_blocks(extractor.all_labels(found.x)), blocks


@every_layer
def test_blocks_are_formed_whole(name: str) -> None:
    formed, factored = formed_and_factored(name)
    assert_same({key: block.form() for key, block in factored.items()}, formed)


@every_layer
def test_norms(name: str) -> None:
    formed, factored = formed_and_factored(name)
    for key, block in factored.items():
        assert_same(block.norms(), torch.linalg.vector_norm(formed[key], dim=-1))


@every_layer
@pytest.mark.parametrize("units", [1, 30])
def test_contraction_and_its_backward_pass(name: str, units: int) -> None:
    formed, factored = formed_and_factored(name)
    for key, block in factored.items():
        weight = torch.randn(units, formed[key].shape[-1], dtype=torch.float64)
        pairs = []
        for contract in (block.contract, lambda w, key=key: formed[key] @ w.T):
            w = weight.clone().requires_grad_()
            hidden = contract(w)
            hidden.sin().sum().backward()
            pairs.append((hidden.detach(), w.grad))
        assert_same(*pairs)


def product(
    shape: tuple[int, int, int, int, int, int], transposed: bool
) -> tuple[Product, Tensor]:
    """Factors, and their gradients (N, C, *shape of the parameter), by a loop."""
    count, labels, groups, rows, places, columns = shape
    left = torch.randn(count, labels, groups, rows, places, dtype=torch.float64)
    right = torch.randn(count, groups, places, columns, dtype=torch.float64)
    full = torch.zeros(count, labels, groups, rows, columns, dtype=torch.float64)
    for t in range(places):
        full += left[..., t, None] * right[:, None, :, None, t]
    full = full.transpose(3, 4) if transposed else full
    return Product(lambda: (left, right), transposed), full.flatten(2, 3)


shapes = st.tuples(
    st.integers(0, 3),
    st.integers(1, 4),
    st.sampled_from([1, 2, 3]),
    st.integers(1, 4),
    st.sampled_from([1, 2, 9]),
    st.integers(1, 4),
)


@given(shape=shapes, transposed=st.booleans())
def test_products_of_any_shape(shape: tuple[int, ...], transposed: bool) -> None:
    factors, expected = product(shape, transposed)
    out = torch.full_like(expected, 7.0)
    factors.form(out, add=False)
    assert_same(out, expected)
    factors.form(out, add=True)
    assert_same(out, 2 * expected)
    strided = torch.full_like(expected.transpose(0, 1), 7.0).transpose(0, 1)
    factors.form(strided, add=False)
    assert_same(strided, expected)
    assert_same(factors.squared_norm(), expected.square().sum((2, 3)))
    u = torch.randn(5, expected.shape[2], dtype=torch.float64)
    v = torch.randn(5, expected.shape[3], dtype=torch.float64)
    projected = torch.einsum("pr,ncrs,ps->ncp", u, expected, v)
    assert_same(factors.project(u, v), projected)
    assert_same(Formed(expected).project(u, v), projected)
    for units in (1, 20):
        weight = torch.randn(units, *expected.shape[2:], dtype=torch.float64)
        hidden = torch.einsum("hrs,ncrs->nch", weight, expected)
        assert_same(factors.contract(weight.flatten(1)), hidden)
        assert_same(Formed(expected).contract(weight.flatten(1)), hidden)


def test_the_cheaper_way_is_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    """Few units go through the factors, many places and units by forming."""
    formed: list[int] = []
    multiply = Product._multiply

    def spy(self: Product, left: Tensor, right: Tensor) -> Tensor:
        formed.append(1)
        return multiply(self, left, right)

    monkeypatch.setattr(Product, "_multiply", spy)
    few, _ = product((2, 10, 1, 8, 50, 8), False)
    few.contract(torch.randn(2, 64, dtype=torch.float64))
    assert not formed
    few.contract(torch.randn(40, 64, dtype=torch.float64))
    assert len(formed) == 1
    dense, _ = product((2, 10, 1, 8, 1, 8), False)
    dense.contract(torch.randn(40, 64, dtype=torch.float64))
    dense.squared_norm()
    assert len(formed) == 1
    few.squared_norm()
    assert len(formed) == 2


def test_a_parameter_that_nothing_uses_has_zeros() -> None:
    block = Block("layer", {"layer.weight": (2, 3)})
    nothing = FactoredBlock(
        block, {"layer.weight": []}, (4, 5), torch.float64, torch.device("cpu")
    )
    assert_same(nothing.form(), torch.zeros(4, 5, 6, dtype=torch.float64))
    assert_same(nothing.norms(), torch.zeros(4, 5, dtype=torch.float64))
    hidden = nothing.contract(torch.randn(3, 6, dtype=torch.float64))
    assert_same(hidden, torch.zeros(4, 5, 3, dtype=torch.float64))
