"""Projections keep inner products as theory says; subsets and norms are exact."""

import math
import re

import pytest
import torch
from cases import Case
from layer_cases import layer_case
from reference import assert_same
from torch import Tensor, nn

from gradnet.core.memory import peak_bytes
from gradnet.errors import GradnetError
from gradnet.gradients import projections as reductions
from gradnet.gradients.extractor import GradientExtractor
from gradnet.gradients.projections import Norm, Projection, Subset

LAYERS = ["linear on tokens", "conv2d, groups", "transposed conv2d", "unused", "prelu"]


@pytest.fixture
def factored(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every matrix is projected from both sides, however small."""
    monkeypatch.setattr(reductions, "MAX_DENSE", 0)


def gradients(case: Case) -> tuple[GradientExtractor, dict[str, Tensor]]:
    extractor = GradientExtractor(case.model, biases=True)
    formed = extractor.all_labels(case.x)
    return extractor, extractor.layout.to_blocks(formed)


@pytest.mark.parametrize("name", LAYERS)
def test_norms(name: str) -> None:
    found = layer_case(name)
    extractor, formed = gradients(found)
    _, norms = extractor.reduced(found.x, Norm())
    expected = {key: block.norm(dim=-1, keepdim=True) for key, block in formed.items()}
    assert_same(norms, expected)


@pytest.mark.parametrize("name", LAYERS)
def test_subsets_are_the_same_coordinates_of_every_gradient(name: str) -> None:
    found = layer_case(name)
    extractor, formed = gradients(found)
    subset = Subset(3, seed=1)
    _, kept = extractor.reduced(found.x, subset)
    for block in extractor.layout.blocks:
        at = subset.coordinates(block)
        assert len(at) == min(3, block.size) == subset.size_of(block)
        assert_same(kept[block.name], formed[block.name][..., at])


@pytest.mark.parametrize("kind", ["rademacher", "gaussian"])
@pytest.mark.parametrize("name", LAYERS)
def test_engine_and_chunks_change_nothing(name: str, kind: str, factored: None) -> None:
    found = layer_case(name)
    projected = [
        GradientExtractor(
            found.model, biases=True, engine=engine, chunk_size=chunk
        ).reduced(found.x, Projection(2, kind, seed=3))
        for engine in ("auto", "func")
        for chunk in (1, 3, None)
    ]
    for other in projected[1:]:
        assert_same(other, projected[0])


@pytest.mark.parametrize("limit", [0, 10**6], ids=["from both sides", "dense"])
def test_projection_is_linear(limit: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Weighted by the probabilities, the gradients of all labels sum to zero."""
    monkeypatch.setattr(reductions, "MAX_DENSE", limit)
    found = layer_case("conv2d, groups")
    extractor = GradientExtractor(found.model, biases=True)
    logits, projected = extractor.reduced(found.x, Projection(4))
    for block in projected.values():
        assert block.abs().max() > 1e-3
        total = (logits.softmax(1)[..., None] * block).sum(1)
        assert_same(total, torch.zeros_like(total))


@pytest.mark.parametrize("kind", ["rademacher", "gaussian"])
@pytest.mark.parametrize(
    ("limit", "variance"),
    [(10**6, {"rademacher": 2, "gaussian": 2}), (0, {"rademacher": 8, "gaussian": 8})],
    ids=["dense", "from both sides"],
)
def test_inner_products_within_their_expected_error(
    limit: int,
    variance: dict[str, int],
    kind: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Mean zero error; spread at most what Johnson-Lindenstrauss allows."""
    monkeypatch.setattr(reductions, "MAX_DENSE", limit)
    torch.manual_seed(0)
    model = nn.Sequential(nn.Flatten(), nn.Linear(60, 50), nn.Tanh(), nn.Linear(50, 3))
    model, x = model.double(), torch.randn(4, 60, dtype=torch.float64)
    extractor = GradientExtractor(model, layers="1")
    exact = extractor.layout.to_blocks(extractor.all_labels(x))["1"].flatten(0, 1)
    size, errors = 64, []
    lengths = exact.norm(dim=1)
    for seed in range(40):
        _, projected = extractor.reduced(x, Projection(size, kind, seed))
        rows = projected["1"].flatten(0, 1)
        errors.append((rows @ rows.T - exact @ exact.T) / torch.outer(lengths, lengths))
    spread = torch.stack(errors).square().mean().sqrt()
    assert spread <= math.sqrt(variance[kind] / size)
    assert spread >= math.sqrt(0.3 / size)
    assert torch.stack(errors).mean().abs() <= 0.1 * spread + 0.02


def test_small_blocks_are_kept_as_they_are() -> None:
    found = layer_case("linear")
    extractor, formed = gradients(found)
    _, projected = extractor.reduced(found.x, Projection(1000))
    assert_same(projected, formed)


def test_another_seed_is_another_projection() -> None:
    found = layer_case("linear on tokens")
    extractor = GradientExtractor(found.model)
    one, two, three = (
        extractor.reduced(found.x, Projection(2, seed=seed))[1]["0"]
        for seed in (1, 2, 1)
    )
    assert torch.equal(one, three) and not torch.allclose(one, two)


def test_one_projection_serves_several_networks() -> None:
    projection = Projection(2)
    for name in ("linear on tokens", "conv2d"):
        found = layer_case(name)
        logits, projected = GradientExtractor(found.model).reduced(found.x, projection)
        assert projected["0"].shape == (4, 3, 2)


def test_the_budget_counts_projections_at_every_label() -> None:
    model = nn.Sequential(nn.Linear(64, 64), nn.Tanh(), nn.Linear(64, 50))
    x = torch.randn(500, 64)
    labels = torch.arange(50).expand(500, -1)
    budget = 20_000_000
    extractor = GradientExtractor(model, max_memory=budget)
    chunk = extractor.samples_per_chunk(x, labels, Projection(16))
    part = Projection(16)
    GradientExtractor(model, chunk_size=chunk).reduced(x[:1], part)
    single = GradientExtractor(model, chunk_size=chunk)
    single.reduced(x[:2], part)
    peak = peak_bytes(lambda: single.reduced(x[:chunk], part), torch.device("cpu"))
    assert 0.5 * budget <= peak <= 1.15 * budget


def test_no_samples() -> None:
    found = layer_case("conv2d")
    logits, projected = GradientExtractor(found.model).reduced(found.x[:0], Norm())
    assert logits.shape == (0, 3) and projected["0"].shape == (0, 3, 1)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Projection(0), "size is 0; it must be >= 1"),
        (
            lambda: Projection(4, "sparse"),
            "kind is 'sparse'; it must be rademacher or gaussian",
        ),
        (lambda: Subset(0), "size is 0; it must be >= 1"),
    ],
)
def test_bad_arguments_are_refused(make: object, message: str) -> None:
    with pytest.raises(GradnetError, match=re.escape(message)):
        make()
