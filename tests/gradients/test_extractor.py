"""Gradients equal a loop of backward passes, and what has no gradient is refused."""

import copy
import itertools

import pytest
import torch
from cases import CASES, NUM_CLASSES, NUM_SAMPLES, Case
from hypothesis import given
from hypothesis import strategies as st
from reference import assert_same, directional_difference, gradients_by_loop
from torch import Tensor, nn
from torch.nn import functional

from gradnet.errors import InvalidInputError
from gradnet.gradients.cotangents import label_cotangents
from gradnet.gradients.extractor import GradientExtractor

every_case = pytest.mark.parametrize("case", CASES)


def all_labels(case: Case) -> Tensor:
    return torch.arange(NUM_CLASSES).expand(len(case.x), -1)


def penalized_cross_entropy(logits: Tensor, label: Tensor) -> Tensor:
    """A loss whose gradient is no label cotangent."""
    return functional.cross_entropy(logits / 2, label) + logits.square().sum() / 10


@every_case
def test_all_label_gradients_equal_the_loop(case: str) -> None:
    found = CASES[case]()
    expected = gradients_by_loop(found.model, found.x, all_labels(found))
    extractor = GradientExtractor(found.model, biases=True)
    assert_same(extractor.all_labels(found.x), expected)


@every_case
def test_per_sample_gradients_equal_the_loop(case: str) -> None:
    found = CASES[case]()
    expected = gradients_by_loop(found.model, found.x, found.y[:, None])
    actual = GradientExtractor(found.model, biases=True).per_sample(found.x, found.y)
    assert_same(actual, {name: gradient[:, 0] for name, gradient in expected.items()})


@every_case
def test_gradients_are_slopes_of_the_loss(case: str) -> None:
    found = CASES[case]()
    gradients = GradientExtractor(found.model, biases=True).all_labels(found.x[:1])
    direction = {name: torch.randn_like(g[0, 0]) for name, g in gradients.items()}
    for label in range(NUM_CLASSES):
        slope = sum(
            float((g[0, label] * direction[n]).sum()) for n, g in gradients.items()
        )
        expected = directional_difference(found.model, found.x[:1], label, direction)
        assert slope == pytest.approx(expected, rel=1e-5, abs=1e-7)


@every_case
def test_logits_are_those_of_the_model(case: str) -> None:
    found = CASES[case]()
    logits, _ = GradientExtractor(found.model).logits_and_gradients(found.x)
    assert_same(logits, found.model(found.x).detach())


@every_case
def test_gradients_weighted_by_probability_sum_to_zero(case: str) -> None:
    found = CASES[case]()
    extractor = GradientExtractor(found.model, biases=True)
    logits, gradients = extractor.logits_and_gradients(found.x)
    flat = extractor.layout.flatten(gradients)
    total = (logits.softmax(-1)[..., None] * flat).sum(1)
    assert flat.abs().max() > 1e-3
    assert total.abs().max() < 1e-10


@pytest.mark.parametrize("case", ["cnn", "residual", "shared"])
@pytest.mark.parametrize("chunk_size", [1, 2, 3, NUM_SAMPLES, NUM_SAMPLES + 5])
def test_chunk_size_changes_nothing(case: str, chunk_size: int) -> None:
    found = CASES[case]()
    whole = GradientExtractor(found.model, chunk_size=NUM_SAMPLES)
    parts = GradientExtractor(found.model, chunk_size=chunk_size)
    assert_same(
        parts.logits_and_gradients(found.x), whole.logits_and_gradients(found.x)
    )


@pytest.mark.parametrize("chunk_size", [1, 3])
def test_each_chunk_has_the_labels_of_its_samples(chunk_size: int) -> None:
    found = CASES["cnn"]()
    expected = GradientExtractor(found.model).per_sample(found.x, found.y)
    parts = GradientExtractor(found.model, chunk_size=chunk_size)
    assert_same(parts.per_sample(found.x, found.y), expected)


@pytest.mark.parametrize("max_memory", [1, "100KB", "1GB"])
def test_memory_budget_changes_nothing(max_memory: object) -> None:
    found = CASES["cnn"]()
    expected = GradientExtractor(found.model).all_labels(found.x)
    extractor = GradientExtractor(found.model, max_memory=max_memory)
    assert_same(extractor.all_labels(found.x), expected)


@every_case
@pytest.mark.parametrize("chosen", [[2], [3, 1], [1, 1, 0, 2], [3, 2, 1, 0]], ids=str)
def test_company_in_the_batch_changes_nothing(case: str, chosen: list[int]) -> None:
    found = CASES[case]()
    extractor = GradientExtractor(found.model, biases=True)
    whole = extractor.all_labels(found.x)
    expected = {name: gradient[chosen] for name, gradient in whole.items()}
    assert_same(extractor.all_labels(found.x[chosen]), expected)


@given(labels=st.lists(st.integers(0, NUM_CLASSES - 1), max_size=5))
def test_labels_are_taken_in_the_order_given(labels: list[int]) -> None:
    found = CASES["mlp"]()
    extractor = GradientExtractor(found.model)
    every = extractor.all_labels(found.x)
    wanted = torch.tensor(labels, dtype=torch.long).expand(NUM_SAMPLES, -1)
    _, some = extractor.logits_and_gradients(found.x, wanted)
    assert_same(some, {name: gradient[:, labels] for name, gradient in every.items()})


def test_each_sample_has_labels_of_its_own() -> None:
    found = CASES["cnn"]()
    labels = torch.tensor([[0, 1], [1, 0], [2, 2], [0, 2]])
    expected = gradients_by_loop(found.model, found.x, labels)
    extractor = GradientExtractor(found.model, biases=True)
    assert_same(extractor.logits_and_gradients(found.x, labels)[1], expected)


@pytest.mark.parametrize("dtype", [torch.uint8, torch.int32], ids=str)
def test_labels_of_any_whole_type_are_taken(dtype: torch.dtype) -> None:
    found = CASES["mlp"]()
    extractor = GradientExtractor(found.model)
    expected = extractor.per_sample(found.x, found.y)
    assert_same(extractor.per_sample(found.x, found.y.to(dtype)), expected)


def test_weight_decay_adds_its_share_of_the_weights() -> None:
    found = CASES["cnn"]()
    plain = GradientExtractor(found.model, biases=True).all_labels(found.x)
    extractor = GradientExtractor(found.model, biases=True, weight_decay=0.25)
    parameters = {n: p.detach() for n, p in found.model.named_parameters()}
    expected = {name: g + 0.25 * parameters[name] for name, g in plain.items()}
    assert_same(extractor.all_labels(found.x), expected)


@every_case
def test_cross_entropy_as_a_function_gives_the_same(case: str) -> None:
    found = CASES[case]()
    named = GradientExtractor(found.model).logits_and_gradients(found.x)
    custom = GradientExtractor(found.model, loss=functional.cross_entropy)
    assert_same(custom.logits_and_gradients(found.x), named)


def test_gradients_of_a_loss_of_ones_own_equal_the_loop() -> None:
    found = CASES["cnn"]()
    labels = all_labels(found)
    expected = gradients_by_loop(found.model, found.x, labels, penalized_cross_entropy)
    extractor = GradientExtractor(
        found.model, biases=True, loss=penalized_cross_entropy, chunk_size=3
    )
    assert_same(extractor.all_labels(found.x), expected)
    plain = gradients_by_loop(found.model, found.x, labels)
    assert not torch.allclose(plain["linear.bias"], expected["linear.bias"])


def test_label_cotangents_are_slopes_of_cross_entropy() -> None:
    logits = torch.randn(5, 4, dtype=torch.float64, requires_grad=True)
    labels = torch.randint(4, (5, 2))
    cotangents = label_cotangents(logits.detach(), labels)
    for n, c in itertools.product(range(5), range(2)):
        loss = functional.cross_entropy(logits[n], labels[n, c])
        assert_same(cotangents[n, c], torch.autograd.grad(loss, logits)[0][n])


def test_only_named_layers_are_read() -> None:
    found = CASES["cnn"]()
    every = GradientExtractor(found.model).all_labels(found.x)
    some = GradientExtractor(found.model, layers=["linear", "conv1"])
    names = ["conv1.weight", "linear.weight"]
    assert_same(some.all_labels(found.x), {name: every[name] for name in names})


def test_frozen_parameters_are_left_out_unless_named() -> None:
    found = CASES["cnn"]()
    expected = GradientExtractor(found.model).all_labels(found.x)
    found.model.conv0.requires_grad_(False)
    assert_same(GradientExtractor(found.model, "*").all_labels(found.x), expected)
    del expected["conv0.weight"]
    assert_same(GradientExtractor(found.model).all_labels(found.x), expected)


def test_parameter_that_the_output_ignores_has_zero_gradient() -> None:
    found = CASES["mlp"]()
    found.model.linear2.register_parameter("idle", nn.Parameter(torch.ones(2).double()))
    gradients = GradientExtractor(found.model).all_labels(found.x)
    assert_same(gradients["linear2.idle"], torch.zeros(4, 3, 2).double())


def test_float32_gradients_are_float32_and_close_to_float64() -> None:
    found = CASES["cnn"]()
    expected = GradientExtractor(found.model).all_labels(found.x)
    actual = GradientExtractor(found.model.float()).all_labels(found.x.float())
    for name, gradient in actual.items():
        assert gradient.dtype == torch.float32
        assert_same(gradient.double(), expected[name], 1e-5)


@every_case
def test_empty_batch_gives_empty_gradients(case: str) -> None:
    found = CASES[case]()
    logits, gradients = GradientExtractor(found.model).logits_and_gradients(found.x[:0])
    assert logits.shape == (0, NUM_CLASSES) and logits.dtype == torch.float64
    for name, gradient in gradients.items():
        shape = found.model.get_parameter(name).shape
        assert gradient.shape == (0, NUM_CLASSES, *shape)


def test_no_labels_give_no_gradients_but_logits() -> None:
    found = CASES["mlp"]()
    labels = torch.zeros(NUM_SAMPLES, 0, dtype=torch.long)
    extractor = GradientExtractor(found.model)
    logits, gradients = extractor.logits_and_gradients(found.x, labels)
    assert_same(logits, found.model(found.x).detach())
    assert gradients["linear0.weight"].shape == (NUM_SAMPLES, 0, 3, 4)


def refusal(model: nn.Module, x: Tensor) -> str:
    with pytest.raises(InvalidInputError) as caught:
        GradientExtractor(model).all_labels(x)
    return str(caught.value)


class Attention(nn.Module):
    """Logits from attention of a sample's tokens to each other."""

    def __init__(self) -> None:
        super().__init__()
        self.attention = nn.MultiheadAttention(4, 2, dropout=0.1, batch_first=True)

    def forward(self, x: Tensor) -> Tensor:
        return self.attention(x, x, x, need_weights=False)[0].mean(1)


class Recurrent(nn.Module):
    """Logits from the last output of a recurrent net."""

    def __init__(self) -> None:
        super().__init__()
        self.cells = nn.GRU(4, 4, num_layers=2, dropout=0.1, batch_first=True)

    def forward(self, x: Tensor) -> Tensor:
        return self.cells(x)[0][:, -1]


class FunctionalDropout(nn.Module):
    """Dropout that no module announces."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(4, 3)

    def forward(self, x: Tensor) -> Tensor:
        return functional.dropout(self.linear(x), training=self.training)


def below_linear(layer: nn.Module, name: str) -> nn.Module:
    """A model that is refused in training mode for one layer, by its dotted name."""
    inner = nn.Sequential(nn.Linear(4, 4))
    inner.add_module(name, layer)
    return nn.Sequential(inner, nn.Flatten(), nn.LazyLinear(3))


CHANGING = {
    "0.norm": lambda: below_linear(nn.BatchNorm1d(4), "norm"),
    "0.drop": lambda: below_linear(nn.Dropout(0.5), "drop"),
    "0.alpha": lambda: below_linear(nn.AlphaDropout(0.5), "alpha"),
    "0.slopes": lambda: below_linear(nn.RReLU(), "slopes"),
    "attention": Attention,
    "cells": Recurrent,
}


@pytest.mark.parametrize("name", CHANGING)
def test_layer_that_changes_from_call_to_call_is_refused_by_name(name: str) -> None:
    x = torch.randn(2, 4, 4)
    model = CHANGING[name]()
    model(x)
    message = refusal(model.train(), x)
    assert f"'{name}'" in message
    assert type(model.get_submodule(name)).__name__ in message
    assert "eval()" in message


@pytest.mark.parametrize("name", ["0.norm", "0.drop", "0.alpha", "attention"])
def test_the_same_layer_is_read_in_evaluation_mode(name: str) -> None:
    x = torch.randn(2, 4, 4, dtype=torch.float64)
    model = CHANGING[name]().double()
    model(x)
    model.eval()
    labels = torch.arange(model(x).shape[1]).expand(2, -1)
    expected = gradients_by_loop(model, x, labels)
    assert_same(GradientExtractor(model, biases=True).all_labels(x), expected)


def test_one_layer_left_in_training_mode_is_refused() -> None:
    found = CASES["residual"]()
    found.model.block.norm.train()
    assert "'block.norm' (BatchNorm2d) is in training" in refusal(found.model, found.x)


@pytest.mark.parametrize("training", [True, False])
def test_batch_norm_without_running_statistics_is_refused(training: bool) -> None:
    norm = nn.BatchNorm1d(4, track_running_stats=False)
    model = nn.Sequential(nn.Linear(4, 4), norm).train(training)
    message = refusal(model, torch.randn(2, 4))
    assert "'1' (BatchNorm1d)" in message and "eval()" in message


def test_dropout_in_the_forward_function_is_refused() -> None:
    model = FunctionalDropout()
    message = refusal(model, torch.randn(2, 4))
    assert "random" in message and "eval()" in message
    GradientExtractor(model.eval()).all_labels(torch.randn(2, 4))


def test_dropout_of_nothing_is_no_dropout() -> None:
    model = nn.Sequential(nn.Linear(4, 3), nn.Dropout(0.0))
    x = torch.randn(2, 4)
    trained = GradientExtractor(model).all_labels(x)
    assert_same(trained, GradientExtractor(model.eval()).all_labels(x), 1e-6)


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        ([[0], [1], [3], [2]], "label 3 is out of range.*3 logits.*0 to 2"),
        ([[0], [-1], [1], [2]], "label -1 is out of range"),
        ([[0], [1]], r"labels are \(2, 1\) for 4 samples"),
        ([0, 1, 2, 0], r"labels are \(4,\) for 4 samples.*\(N, C\)"),
        ([[0.0], [1.0], [2.0], [0.0]], "labels are torch.float32.*whole numbers"),
        ([[True], [False], [True], [True]], "labels are torch.bool.*whole numbers"),
    ],
)
def test_bad_labels_are_refused(labels: list[object], message: str) -> None:
    found = CASES["mlp"]()
    extractor = GradientExtractor(found.model)
    with pytest.raises(InvalidInputError, match=message):
        extractor.logits_and_gradients(found.x, torch.tensor(labels))


def test_labels_of_single_samples_must_be_a_vector() -> None:
    found = CASES["mlp"]()
    with pytest.raises(
        InvalidInputError, match=r"labels are \(4, 1\); they must be \(N,\)"
    ):
        GradientExtractor(found.model).per_sample(found.x, found.y[:, None])


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
def test_input_that_is_not_finite_is_refused(value: float) -> None:
    found = CASES["cnn"]()
    found.x[2, 1, 0, 3] = value
    assert "not finite" in refusal(found.model, found.x)


@pytest.mark.parametrize(
    ("tail", "shape"),
    [(nn.Flatten(0), r"\(3,\)"), (nn.Unflatten(1, (3, 1)), r"\(1, 3, 1\)")],
    ids=["one dimension", "three dimensions"],
)
def test_model_that_returns_no_logits_is_refused(tail: nn.Module, shape: str) -> None:
    model = nn.Sequential(nn.Linear(4, 3), tail)
    with pytest.raises(
        InvalidInputError, match=rf"returns {shape}, not logits \(N, K\)"
    ):
        GradientExtractor(model).all_labels(torch.randn(2, 4))


def test_model_that_returns_no_tensor_is_refused() -> None:
    with pytest.raises(InvalidInputError, match=r"tuple.*not logits \(N, K\)"):
        GradientExtractor(nn.LSTM(4, 3)).all_labels(torch.randn(2, 4))


def test_unknown_loss_is_refused() -> None:
    with pytest.raises(InvalidInputError, match="no loss 'hinge'"):
        GradientExtractor(nn.Linear(2, 2), loss="hinge")


@pytest.mark.parametrize("chunk_size", [0, -1])
def test_chunk_size_below_one_is_refused(chunk_size: int) -> None:
    with pytest.raises(InvalidInputError, match=f"chunk_size is {chunk_size}"):
        GradientExtractor(nn.Linear(2, 2), chunk_size=chunk_size)


def assert_untouched(model: nn.Module, before: nn.Module) -> None:
    assert [m.training for m in model.modules()] == [
        m.training for m in before.modules()
    ]
    for module in model.modules():
        assert not module._forward_hooks and not module._forward_pre_hooks
        assert not module._backward_hooks and not module._backward_pre_hooks
    pairs = zip(model.named_parameters(), before.named_parameters(), strict=True)
    for (name, parameter), (other_name, other) in pairs:
        assert name == other_name and isinstance(parameter, nn.Parameter)
        assert parameter.requires_grad == other.requires_grad
        assert torch.equal(parameter, other)
    for name, buffer in before.named_buffers():
        assert torch.equal(model.get_buffer(name), buffer)


@every_case
def test_extraction_leaves_the_model_as_it_was(case: str) -> None:
    found = CASES[case]()
    first, *_, last = found.model.parameters()
    first.requires_grad_(False)
    last.grad = torch.ones_like(last)
    before = copy.deepcopy(found.model)
    gradients = GradientExtractor(found.model, "*").all_labels(found.x)
    assert not any(gradient.requires_grad for gradient in gradients.values())
    assert_untouched(found.model, before)
    parameters = list(found.model.parameters())
    assert parameters[0] is first and parameters[-1] is last
    assert torch.equal(last.grad, torch.ones_like(last))
    assert all(parameter.grad is None for parameter in parameters[:-1])


def test_refusal_leaves_the_model_as_it_was() -> None:
    model = FunctionalDropout()
    before = copy.deepcopy(model)
    refusal(model, torch.randn(2, 4))
    assert_untouched(model, before)
    assert all(parameter.grad is None for parameter in model.parameters())


@pytest.mark.parametrize("enabled", [True, False])
def test_the_way_attention_is_computed_is_left_as_it_was(enabled: bool) -> None:
    found = CASES["attention"]()
    was_enabled = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(enabled)
    try:
        GradientExtractor(found.model).all_labels(found.x)
        assert torch.backends.mha.get_fastpath_enabled() == enabled
    finally:
        torch.backends.mha.set_fastpath_enabled(was_enabled)


def test_input_is_left_as_it_was() -> None:
    found = CASES["cnn"]()
    x = found.x.clone().requires_grad_()
    GradientExtractor(found.model, weight_decay=0.1).all_labels(x)
    assert x.grad is None
    assert torch.equal(x, found.x)
