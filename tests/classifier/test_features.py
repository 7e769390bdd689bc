"""Every step equals its numpy twin, fits on training rows, and copies what it takes."""

import numpy as np
import pytest
import reference
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays
from reference import Array, assert_same
from torch import Tensor

from gradnet.classifier.features import (
    Features,
    FeatureSettings,
    Scale,
    SelectLargest,
    SignedPower,
    Step,
    UnitNorm,
)
from gradnet.errors import GradnetError

# Few different values, so that ties and zeros are common.
VALUES = st.integers(-24, 24).map(lambda value: value / 8)
SHAPES = array_shapes(min_dims=1, max_dims=3, max_side=9)
BLOCKS = arrays(np.float64, SHAPES, elements=VALUES)
PERCENTS = st.integers(1, 99) | st.sampled_from([0.1, 2.5, 15.0, 99.9])
KINDS = pytest.mark.parametrize("kind", Scale.KINDS)

CHAINS = {
    "none": FeatureSettings(),
    "2018": FeatureSettings(percent=15, scaling="min-max", power=0.5),
    "norm": FeatureSettings(unit_norm=True),
    "all": FeatureSettings(percent=50, scaling="std", unit_norm=True, power=0.7),
    "standard": FeatureSettings(scaling="standard"),
    "max-abs": FeatureSettings(scaling="max-abs", power=2.0),
}


def apply(step: Step, block: Array) -> Array:
    return step.apply("block", torch.from_numpy(block.copy())).numpy()


def fitted(kind: str, training: Array) -> Scale:
    scale = Scale(kind)
    scale.update("block", torch.from_numpy(training))
    return scale


def random_rows(*shape: int) -> Array:
    return np.random.default_rng(0).normal(size=shape)


def random_blocks(*leading: int) -> dict[str, Tensor]:
    sizes = {"first": 7, "second/inner": 4}
    return {
        name: torch.randn(*leading, size, dtype=torch.float64)
        for name, size in sizes.items()
    }


def twin(settings: FeatureSettings, block: Array, training: Array) -> Array:
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


@given(block=BLOCKS, percent=PERCENTS)
def test_selection_keeps_what_is_above_the_percentile(
    block: Array, percent: float
) -> None:
    expected = reference.select_largest(block, percent)
    assert_same(apply(SelectLargest(percent), block), expected, 0)


def test_selection_of_known_numbers() -> None:
    block = np.array([[3.0, -4.0, 1.0, 2.0, -5.0], [1.0, 1.0, 1.0, 1.0, 2.0]])
    expected = [[0.0, -4.0, 0.0, 0.0, -5.0], [0.0, 0.0, 0.0, 0.0, 2.0]]
    assert apply(SelectLargest(50), block).tolist() == expected


def test_selection_counts_right_where_percents_are_not_exact() -> None:
    # A fifth of the five steps between six numbers is one; in floats, a little less.
    block = np.arange(1.0, 7.0)
    expected = [0.0, 0.0, 3.0, 4.0, 5.0, 6.0]
    assert apply(SelectLargest(80), block).tolist() == expected


@given(
    seed=st.integers(0, 99),
    zeros=st.sampled_from([0.0, 0.8, 0.95, 1.0]),
    digits=st.sampled_from([1, 2, 12]),
    percent=PERCENTS,
)
def test_selection_in_long_rows_with_ties(
    seed: int, zeros: float, digits: int, percent: float
) -> None:
    rng = np.random.default_rng(seed)
    block = np.round(rng.normal(size=(2, 2, 3001)), digits)
    block *= rng.random(block.shape) >= zeros
    expected = reference.select_largest(block, percent)
    assert_same(apply(SelectLargest(percent), block), expected, 0)


@pytest.mark.parametrize("value", [0.0, -2.5])
@pytest.mark.parametrize("size", [1, 2, 5000])
def test_selection_drops_all_where_all_are_equal(value: float, size: int) -> None:
    assert not apply(SelectLargest(15), np.full((2, size), value)).any()


TYPES = [torch.float64, torch.float32, torch.bfloat16, torch.float16]


@pytest.mark.parametrize("dtype", TYPES, ids=str)
def test_selection_is_exact_in_every_type(dtype: torch.dtype) -> None:
    # In bfloat16, hundreds of the coordinates tie at the threshold.
    block = torch.randn(3, 40000).to(dtype)
    expected = reference.select_largest(block.double().numpy(), 15)
    selected = SelectLargest(15).apply("block", block)
    assert selected.dtype == dtype
    assert_same(selected.double().numpy(), expected, 0)


@pytest.mark.cuda
@pytest.mark.parametrize("dtype", TYPES, ids=str)
def test_selection_on_a_gpu_is_the_same(dtype: torch.dtype) -> None:
    block = torch.randn(2, 3, 5000).to(dtype)
    expected = SelectLargest(15).apply("block", block.clone())
    assert_same(SelectLargest(15).apply("block", block.cuda()).cpu(), expected, 0)


def test_selection_never_hides_what_is_not_a_number() -> None:
    block = torch.randn(1, 2000)
    block[0, 7] = torch.nan
    assert SelectLargest(15).apply("block", block)[0, 7].isnan()


@given(block=BLOCKS)
def test_selection_of_everything_keeps_ties_too(block: Array) -> None:
    assert_same(apply(SelectLargest(100), block), block, 0)


@pytest.mark.parametrize("percent", [0, -1, 100.5, float("nan")])
def test_percent_out_of_range_is_refused(percent: float) -> None:
    with pytest.raises(GradnetError, match=f"percent is {percent}"):
        SelectLargest(percent)


@KINDS
@given(data=st.data())
def test_scaling_equals_its_numpy_twin(kind: str, data: st.DataObject) -> None:
    shapes = array_shapes(min_dims=2, max_dims=3, max_side=5)
    training = data.draw(arrays(np.float64, shapes, elements=VALUES))
    shape = (3, training.shape[-1])
    block = data.draw(arrays(np.float64, shape, elements=VALUES))
    expected = reference.scale(block, training, kind)
    assert_same(apply(fitted(kind, training), block), expected)


@KINDS
def test_zeros_stay_zero(kind: str) -> None:
    block = np.zeros((2, 3))
    assert not apply(fitted(kind, 1 + random_rows(5, 3) ** 2), block).any()


@KINDS
def test_coordinate_that_never_varied_is_divided_by_one(kind: str) -> None:
    block = np.array([[3.0]])
    constant = 0.0 if kind in ("std", "max-abs") else 2.0
    expected = 3.0 - constant
    assert apply(fitted(kind, np.full((4, 1), constant)), block) == expected


@KINDS
def test_spread_too_small_to_divide_by_counts_as_none(kind: str) -> None:
    training = torch.tensor([[0.0], [1e-42]])
    scale = Scale(kind)
    scale.update("block", training)
    block = torch.tensor([[0.0], [0.5], [1e-42]])
    assert_same(scale.apply("block", block.clone()), block, 1e-30)


def test_min_max_maps_training_values_to_the_unit_interval() -> None:
    training = random_rows(20, 6)
    scaled = apply(fitted("min-max", training), training)
    assert_same(scaled.min(0), np.zeros(6))
    assert_same(scaled.max(0), np.ones(6))


@KINDS
@given(cut=st.integers(0, 8), seed=st.integers(0, 99))
def test_scalings_fitted_apart_merge_to_one(kind: str, cut: int, seed: int) -> None:
    rows = np.random.default_rng(seed).normal(size=(8, 3))
    merged = fitted(kind, rows[:cut])
    merged.merge(fitted(kind, rows[cut:]))
    assert_same(apply(merged, rows), apply(fitted(kind, rows), rows))


@KINDS
def test_fitting_on_after_a_transform_counts(kind: str) -> None:
    rows = random_rows(8, 3) * np.arange(1, 9)[:, None]
    scale = fitted(kind, rows[:4])
    early = apply(scale, rows)
    scale.update("block", torch.from_numpy(rows[4:]))
    assert_same(apply(scale, rows), apply(fitted(kind, rows), rows))
    assert not np.allclose(apply(scale, rows), early)


@KINDS
def test_merging_after_a_transform_counts(kind: str) -> None:
    rows = random_rows(8, 3) * np.arange(1, 9)[:, None]
    scale = fitted(kind, rows[:4])
    apply(scale, rows)
    scale.merge(fitted(kind, rows[4:]))
    assert_same(apply(scale, rows), apply(fitted(kind, rows), rows))


def test_scaling_of_a_block_never_seen_is_refused() -> None:
    with pytest.raises(GradnetError, match="not fitted for block 'conv9'"):
        Scale("std").apply("conv9", torch.ones(1, 2))


def test_scaling_of_a_block_of_another_size_is_refused() -> None:
    with pytest.raises(GradnetError, match="has 4 coordinates.*fitted on 3"):
        apply(fitted("std", random_rows(5, 3)), np.ones((1, 4)))


def test_unknown_scaling_is_refused() -> None:
    with pytest.raises(GradnetError, match="no scaling 'robust'"):
        Scale("robust")


@given(block=BLOCKS)
def test_unit_norm_equals_its_numpy_twin(block: Array) -> None:
    assert_same(apply(UnitNorm(), block), reference.unit_norm(block), 1e-14)


@given(block=BLOCKS, exponent=st.sampled_from([0.5, 1.0, 2.0, 0.3]))
def test_signed_power_equals_its_numpy_twin(block: Array, exponent: float) -> None:
    expected = reference.signed_power(block, exponent)
    assert_same(apply(SignedPower(exponent), block), expected, 1e-14)


@pytest.mark.parametrize("exponent", [0, -0.5, float("nan")])
def test_exponent_that_is_not_positive_is_refused(exponent: float) -> None:
    with pytest.raises(GradnetError, match=f"exponent is {exponent}"):
        SignedPower(exponent)


@pytest.mark.parametrize("chain", CHAINS)
def test_chain_equals_its_numpy_twin(chain: str) -> None:
    settings = CHAINS[chain]
    training, blocks = random_blocks(9, 2), random_blocks(5, 3)
    features = settings.make().partial_fit(training).transform(blocks)
    assert list(features) == list(blocks)
    for name, block in blocks.items():
        expected = twin(settings, block.numpy(), training[name].numpy())
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
    expected = twin(settings, block.numpy(), block.numpy())
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
    with pytest.raises(GradnetError, match="at most one step may be a Scale"):
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
        twins = {
            "select": lambda rows: reference.select_largest(rows, 60),
            "norm": reference.unit_norm,
            "power": lambda rows: reference.signed_power(rows, 0.5),
        }
        training, block = twins[name](training), twins[name](block)
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
    with pytest.raises(GradnetError):
        FeatureSettings(**settings).make()
