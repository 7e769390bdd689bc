"""Chains of steps equal numpy, fit on training rows, and copy what they are given."""

import numpy as np
import pytest
import reference
import torch
from hypothesis import given
from hypothesis import strategies as st
from reference import Array, assert_same
from torch import Tensor

from gradnet.classifier.feature_steps import (
    Scale,
    SelectLargest,
    SignedPower,
    UnitNorm,
)
from gradnet.classifier.features import Features, FeatureSettings
from gradnet.errors import InvalidInputError

CHAINS = {
    "none": FeatureSettings(),
    "2018": FeatureSettings(percent=15, scaling="min-max", power=0.5),
    "norm": FeatureSettings(unit_norm=True),
    "all": FeatureSettings(percent=50, scaling="std", unit_norm=True, power=0.7),
    "standard": FeatureSettings(scaling="standard"),
    "max-abs": FeatureSettings(scaling="max-abs", power=2.0),
}


def random_blocks(*leading: int) -> dict[str, Tensor]:
    sizes = {"first": 7, "second/inner": 4}
    return {
        name: torch.randn(*leading, size, dtype=torch.float64)
        for name, size in sizes.items()
    }


def in_numpy(settings: FeatureSettings, block: Array, training: Array) -> Array:
    """The whole chain in numpy."""
    if settings.percent is not None:
        block = reference.select_largest(block, settings.percent)
        training = reference.select_largest(training, settings.percent)
    if settings.scaling != "none":
        block = reference.scale(block, training, settings.scaling)
    if settings.unit_norm:
        block = reference.unit_norm(block)
    if settings.power is not None:
        block = reference.signed_power(block, settings.power)
    return block


@pytest.mark.parametrize("chain", CHAINS)
def test_chain_equals_numpy(chain: str) -> None:
    settings = CHAINS[chain]
    training, blocks = random_blocks(9, 2), random_blocks(5, 3)
    features = settings.make().partial_fit(training).transform(blocks)
    assert list(features) == list(blocks)
    for name, block in blocks.items():
        expected = in_numpy(settings, block.numpy(), training[name].numpy())
        assert_same(features[name].numpy(), expected, 1e-12)


@pytest.mark.parametrize("chain", CHAINS)
def test_transform_and_fit_leave_their_input_untouched(chain: str) -> None:
    blocks = random_blocks(6, 2)
    before = {name: block.clone() for name, block in blocks.items()}
    features = CHAINS[chain].make().partial_fit(blocks)
    assert_same(blocks, before, 0)
    features.transform(blocks)
    assert_same(blocks, before, 0)


@pytest.mark.parametrize("chain", CHAINS)
def test_transform_in_place_gives_the_same(chain: str) -> None:
    blocks = random_blocks(6, 2)
    features = CHAINS[chain].make().partial_fit(random_blocks(9))
    expected = {name: v.clone() for name, v in features.transform(blocks).items()}
    assert_same(features.transform(blocks, inplace=True), expected, 0)


def test_transform_in_place_needs_no_second_block() -> None:
    blocks = random_blocks(6)
    settings = FeatureSettings(percent=50, scaling="std", unit_norm=True)
    features = settings.make().partial_fit(blocks)
    transformed = features.transform(blocks, inplace=True)
    for name, block in blocks.items():
        assert transformed[name].data_ptr() == block.data_ptr()


def wide_blocks() -> dict[str, Tensor]:
    """Blocks of several pieces each, of which one has its coordinates apart."""
    blocks = {"long": torch.randn(4, 3, 150_000), "strided": torch.randn(2001, 6, 400)}
    blocks["strided"] = blocks["strided"].transpose(0, 1)[..., ::2]
    return blocks


@pytest.mark.parametrize("inplace", [False, True])
def test_pieces_and_threads_change_nothing(inplace: bool) -> None:
    blocks = wide_blocks()
    features = CHAINS["2018"].make().partial_fit(blocks)
    expected = {}
    for name, block in blocks.items():
        expected[name] = block.clone()
        for step in features.steps:
            expected[name] = step.apply(name, expected[name])
    for num_threads in (1, 2):
        torch.set_num_threads(num_threads)
        copies = {name: block.clone() for name, block in blocks.items()}
        assert_same(features.transform(copies, inplace), expected, 0)
        if not inplace:
            assert_same(copies, blocks, 0)
        refitted = CHAINS["2018"].make().partial_fit(blocks)
        assert_same(refitted.state_dict(), features.state_dict(), 0)


def test_features_of_strided_gradients() -> None:
    block = torch.randn(7, 5, 3, dtype=torch.float64).permute(2, 1, 0)[:, ::2]
    settings = CHAINS["2018"]
    features = settings.make().partial_fit({"block": block})
    expected = in_numpy(settings, block.numpy(), block.numpy())
    assert_same(features.transform({"block": block})["block"].numpy(), expected)
    transformed = features.transform({"block": block}, inplace=True)["block"]
    assert_same(transformed.numpy(), expected)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=str)
def test_features_of_half_precision_are_near(dtype: torch.dtype) -> None:
    block = torch.randn(20, 700).to(dtype)
    features = CHAINS["2018"].make().partial_fit({"block": block})
    expected = features.transform({"block": block.double()})["block"]
    transformed = features.transform({"block": block})["block"]
    assert transformed.dtype == dtype
    assert_same(transformed.double(), expected, 0.02)


def test_features_let_gradients_through() -> None:
    settings = FeatureSettings(percent=50, scaling="standard", power=2.0)
    features = settings.make().partial_fit(random_blocks(9))
    blocks = random_blocks(3)
    expected = features.transform(blocks)
    watched = {name: block.clone().requires_grad_() for name, block in blocks.items()}
    transformed = features.transform(watched)
    for name, values in transformed.items():
        assert_same(values.detach(), expected[name], 1e-12)
        values.square().sum().backward()
        assert watched[name].grad is not None


@pytest.mark.parametrize("num_threads", [1, 2])
def test_features_in_inference_mode(num_threads: int) -> None:
    torch.set_num_threads(num_threads)
    block = torch.randn(30, 100_000)
    features = CHAINS["2018"].make().partial_fit({"block": block})
    expected = features.transform({"block": block})
    with torch.inference_mode():
        inference = {"block": block.clone()}
        assert_same(features.transform(inference, inplace=True), expected, 0)


@pytest.mark.parametrize("chain", CHAINS)
@given(cut=st.integers(0, 8))
def test_chains_fitted_in_parts_equal_one_fitted_at_once(chain: str, cut: int) -> None:
    torch.manual_seed(3)
    training, blocks = random_blocks(8, 2), random_blocks(4)
    first, second = (
        {n: b[part] for n, b in training.items()}
        for part in (slice(cut), slice(cut, None))
    )
    make = CHAINS[chain].make
    expected = make().partial_fit(training).transform(blocks)
    batches = make().partial_fit(first).partial_fit(second)
    assert_same(batches.transform(blocks), expected)
    merged = make().partial_fit(first).merge(make().partial_fit(second))
    assert_same(merged.transform(blocks), expected)


@pytest.mark.parametrize("chain", CHAINS)
def test_state_dict_brings_the_fit_back(chain: str) -> None:
    blocks = random_blocks(4)
    features = CHAINS[chain].make().partial_fit(random_blocks(8))
    restored = CHAINS[chain].make()
    restored.load_state_dict(features.state_dict())
    assert_same(restored.transform(blocks), features.transform(blocks), 0)


def test_loaded_statistics_replace_those_in_use() -> None:
    blocks, settings = random_blocks(4), FeatureSettings(scaling="std")
    features = settings.make().partial_fit(random_blocks(8))
    used = settings.make().partial_fit(random_blocks(8))
    used.transform(blocks)
    used.load_state_dict(features.state_dict())
    assert_same(used.transform(blocks), features.transform(blocks), 0)


def test_scaling_follows_the_type_of_the_block() -> None:
    blocks = random_blocks(4)
    features = FeatureSettings(scaling="std").make().partial_fit(blocks)
    expected = {name: block / block.std(0, False) for name, block in blocks.items()}
    singles = {name: block.float() for name, block in blocks.items()}
    for name, values in features.transform(singles).items():
        assert values.dtype == torch.float32
        assert_same(values.double(), expected[name], 1e-5)
    assert_same(features.transform(blocks), expected, 1e-12)


def test_second_fitted_step_is_refused() -> None:
    with pytest.raises(InvalidInputError, match="at most one step may be a Scale"):
        Features([Scale("std"), UnitNorm(), Scale("max-abs")])


@pytest.mark.parametrize("chain", CHAINS)
def test_only_linear_chains_call_themselves_linear(chain: str) -> None:
    features = CHAINS[chain].make().partial_fit(random_blocks(8))
    blocks = random_blocks(4)
    doubled = {name: 2 * block for name, block in blocks.items()}
    once, twice = features.transform(blocks), features.transform(doubled)
    is_linear = all(torch.allclose(twice[name], 2 * once[name]) for name in blocks)
    assert features.is_linear == is_linear


@pytest.mark.parametrize("kind", ["none", "std", "max-abs"])
def test_scaled_weights_do_what_scaled_features_do(kind: str) -> None:
    blocks, weights = random_blocks(4), random_blocks()
    features = FeatureSettings(scaling=kind).make().partial_fit(random_blocks(8))
    assert features.is_linear
    for name, values in features.transform(blocks).items():
        scaled = features.scale_linearly(name, weights[name])
        assert_same(blocks[name] @ scaled, values @ weights[name])


@given(
    seed=st.integers(0, 99),
    order=st.permutations(["select", "scale", "norm", "power"]),
)
def test_steps_compose_in_any_order(seed: int, order: list[str]) -> None:
    rng = np.random.default_rng(seed)
    training, block = rng.normal(size=(6, 5)), rng.normal(size=(3, 5))
    makers = {
        "select": SelectLargest(60),
        "scale": Scale("max-abs"),
        "norm": UnitNorm(),
        "power": SignedPower(0.5),
    }
    features = Features([makers[name] for name in order])
    features.partial_fit({"block": torch.from_numpy(training)})
    result = features.transform({"block": torch.from_numpy(block)})["block"]
    for name in order:
        if name == "scale":
            block = reference.scale(block, training, "max-abs")
            continue
        functions = {
            "select": lambda rows: reference.select_largest(rows, 60),
            "norm": reference.unit_norm,
            "power": lambda rows: reference.signed_power(rows, 0.5),
        }
        training, block = functions[name](training), functions[name](block)
    assert_same(result.numpy(), block, 1e-12)


def test_empty_batch_stays_empty() -> None:
    blocks = random_blocks(0, 3)
    features = CHAINS["all"].make().partial_fit(random_blocks(8)).partial_fit(blocks)
    assert_same(features.transform(blocks), blocks)


@pytest.mark.parametrize(
    "settings",
    [{"percent": 0}, {"scaling": "robust"}, {"power": -1.0}],
    ids=lambda settings: next(iter(settings)),
)
def test_settings_out_of_range_are_refused(settings: dict[str, object]) -> None:
    with pytest.raises(InvalidInputError):
        FeatureSettings(**settings).make()
