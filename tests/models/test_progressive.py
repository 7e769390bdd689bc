"""Columns and adapters compute their formulas; old columns get no graph and no cost."""

import functools
import itertools

import numpy
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from gradnet.core.flops import Flops, count_parameters, forward_flops, training_flops
from gradnet.errors import InvalidInputError
from gradnet.models.progressive import ProgressiveNetwork

FORMS = list(
    itertools.product(("cnn", "mlp"), ("linear", "mlp", "none"), (False, True))
)
each_form = pytest.mark.parametrize(("kind", "adapter", "preserving"), FORMS)


def network(
    columns, kind="cnn", adapter="mlp", preserving=False, size=5, widths=(2, 3)
):
    """Of random weights and biases, those of zero outputs too."""
    model = ProgressiveNetwork(2, size, 4, widths, kind, adapter, preserving)
    for _ in range(columns - 1):
        model.add_column()
    for parameter in model.parameters():
        nn.init.normal_(parameter)
    return model.double()


def images(size=5, count=3):
    return torch.randn(count, 2, size, size, dtype=torch.float64)


def convolved(h, weight):
    """Odd kernels at stride 1 on one sample, zeros around it, pixel by pixel."""
    side = weight.shape[2]
    padded = numpy.pad(h, [(0, 0), (side // 2,) * 2, (side // 2,) * 2])
    out = numpy.zeros((len(weight), *h.shape[1:]))
    for y, x in numpy.ndindex(*h.shape[1:]):
        window = padded[:, y : y + side, x : x + side]
        out[:, y, x] = numpy.einsum("oikl,ikl->o", weight, window)
    return out


def linear(weight, h):
    return convolved(h, weight) if weight.ndim == 4 else weight @ h.reshape(-1)


def pooled(h):
    side = h.shape[1] // 2
    return h[:, : 2 * side, : 2 * side].reshape(-1, side, 2, side, 2).max((2, 4))


def with_bias(h, bias):
    return h + bias.reshape(-1, *[1] * (h.ndim - 1))


def column_by_formula(p, k, adapter, names, x, earlier):
    """Features and logits of column ``k`` for one image, from named arrays."""
    h, features = x, []
    for index, name in enumerate(names):
        own, lateral = f"columns.{k}.{name}", f"columns.{k}.laterals.{name}"
        z = with_bias(linear(p[f"{own}.weight"], h), p[f"{own}.bias"])
        below = [column[index - 1] for column in earlier] if index else []
        if below and adapter == "linear":
            z = z + sum(
                linear(p[f"{lateral}.combine.{j}.weight"], h)
                for j, h in enumerate(below)
            )
        if below and adapter == "mlp":
            v, alpha = p[f"{lateral}.project.weight"], p[f"{lateral}.alpha"]
            parts = [a * h for a, h in zip(alpha, below, strict=True)]
            hidden = with_bias(
                linear(v, numpy.concatenate(parts)), p[f"{lateral}.project.bias"]
            )
            z = z + linear(p[f"{lateral}.combine.weight"], numpy.maximum(hidden, 0))
        if name == "output":
            return features, z
        h = numpy.maximum(z, 0)
        h = pooled(h) if h.ndim == 3 else h
        features.append(h)
    raise AssertionError


@each_form
@pytest.mark.parametrize("columns", [2, 3])
def test_columns_compute_the_formula(kind, adapter, preserving, columns):
    model = network(columns, kind, adapter, preserving)
    p = {name: tensor.numpy() for name, tensor in model.state_dict().items()}
    layer = "conv" if kind == "cnn" else "linear"
    x, expected = images(), []
    for image in x.numpy():
        earlier, logits = [], []
        for k in range(columns):
            features, z = column_by_formula(
                p, k, adapter, [f"{layer}0", f"{layer}1", "output"], image, earlier
            )
            earlier.append(features)
            logits.append(z)
        expected.append(sum(logits) if preserving else logits[-1])
    expected = torch.from_numpy(numpy.stack(expected))
    torch.testing.assert_close(model(x), expected, atol=1e-10, rtol=1e-12)


@given(
    st.sampled_from(FORMS[1::2]),
    st.lists(st.integers(1, 4), min_size=1, max_size=3),
    st.integers(8, 11),
    st.integers(1, 3),
)
def test_a_new_column_keeps_the_function_where_it_says_so(form, widths, size, columns):
    kind, adapter, _ = form
    model = network(columns, kind, adapter, True, size, widths)
    x = images(size)
    before = model(x)
    model.add_column()
    torch.testing.assert_close(model(x), before, atol=1e-10, rtol=0)


@each_form
def test_otherwise_the_new_columns_logits_are_the_networks(kind, adapter, preserving):
    model, x = network(1, kind, adapter, preserving), images()
    before = model(x)
    model.add_column()
    assert torch.equal(before, model(x)) == preserving


@each_form
def test_gradients_flow_into_all_of_the_new_column_and_nowhere_else(
    kind, adapter, preserving
):
    # Wide, so that no adapter has all of its ReLUs off.
    model = network(3, kind, adapter, preserving, widths=(12, 12))
    model.requires_grad_(False)
    model.columns[-1].requires_grad_(True)
    model(images(count=8)).square().sum().backward()
    for name, parameter in model.named_parameters():
        if name.startswith("columns.2."):
            assert parameter.grad.abs().max() > 0, name
        else:
            assert parameter.grad is None, name


def test_old_columns_get_no_graph():
    model = network(2)
    model.columns[0].requires_grad_(False)
    features = model.columns[0](images(), [])
    assert not any(h.requires_grad for h in features)
    assert all(h.requires_grad for h in model.columns[1](images(), [features]))


@pytest.mark.parametrize("adapter", ["linear", "mlp", "none"])
@pytest.mark.parametrize("kind", ["cnn", "mlp"])
def test_the_zero_output_layer_learns_from_its_first_step(kind, adapter):
    model = ProgressiveNetwork(2, 5, 4, (12, 12), kind, adapter, preserving=True)
    model.add_column()
    model.double()(images()).logsumexp(1).sum().backward()
    new = model.columns[1]
    # Only what makes logits of features has a gradient as yet.
    combine = {"linear": "combine.0.weight", "mlp": "combine.weight"}
    learning = {"output.weight", "output.bias"}
    learning |= {f"laterals.output.{combine[a]}" for a in [adapter] if a != "none"}
    for name, parameter in new.named_parameters():
        assert (parameter.grad.abs().max() > 0) == (name in learning), name
        if name in learning or parameter.ndim > 1:
            assert (parameter.abs().max() == 0) == (name in learning), name


def parameters_by_formula(kind, adapter, columns, widths, inputs, size, classes):
    """Columns of equal layers, and laterals that grow with the column's number."""
    area, sides = (9, size // 2 ** len(widths)) if kind == "cnn" else (1, 1)
    first = inputs * (1 if kind == "cnn" else size**2)
    weights = [a * b * area for a, b in itertools.pairwise([first, *widths])]
    weights.append(widths[-1] * sides**2 * classes)
    total = columns * (sum(weights) + sum(widths) + classes)
    for k in range(1, columns):
        for width, weight in zip(widths, weights[1:], strict=True):
            if adapter == "linear":
                total += k * weight
            if adapter == "mlp":
                total += k + (k * width * width + width) + weight
    return total


@each_form
def test_parameters_grow_faster_than_columns(kind, adapter, preserving):
    counts = []
    for columns in (1, 2, 3, 4):
        model = network(columns, kind, adapter, preserving, widths=(3, 4))
        expected = parameters_by_formula(kind, adapter, columns, (3, 4), 2, 5, 4)
        assert count_parameters(model) == expected
        counts.append(expected)
    steps = [new - old for old, new in itertools.pairwise(counts)]
    assert steps == sorted(steps) and (adapter == "none" or steps[0] < steps[-1])


# Multiplications and additions for a sample of 2 x 8 x 8, widths 3 and 5, 4 classes.
CONV0, CONV1, OUTPUT = 2 * 64 * 3 * 18, 2 * 16 * 5 * 27, 2 * 4 * 20
PROJECT1, PROJECT_OUTPUT = 2 * 16 * 3 * 6, 2 * 4 * 5 * 10


@pytest.mark.parametrize("preserving", [False, True])
def test_old_columns_cost_their_forward_pass_and_nothing_else(preserving):
    model = network(3, "cnn", "mlp", preserving, 8, (3, 5))
    model.requires_grad_(False)
    model.columns[2].requires_grad_(True)
    own = CONV0 + CONV1 + OUTPUT
    laterals = CONV1 + PROJECT1 + OUTPUT + PROJECT_OUTPUT
    # Of old columns the convolutions; the output layers only where their logits count.
    first = CONV0 + CONV1 + OUTPUT * preserving
    second = CONV0 + 2 * CONV1 + PROJECT1 // 2
    second += (2 * OUTPUT + PROJECT_OUTPUT // 2) * preserving
    expected = Flops(
        forward=first + second + own + laterals,
        weight_gradients=own + laterals,
        # All but the images; the projections' inputs for the sake of alpha.
        input_gradients=own - CONV0 + laterals,
    )
    step = training_flops(model, images(8, 2))
    assert step == expected
    assert forward_flops(model, images(8, 1)) == expected.forward


def test_linear_adapters_on_frozen_features_need_no_gradients_of_them():
    model = network(3, "cnn", "linear", False, 8, (3, 5))
    model.requires_grad_(False)
    model.columns[2].requires_grad_(True)
    step = training_flops(model, images(8, 2))
    assert step.weight_gradients == CONV0 + 3 * (CONV1 + OUTPUT)
    assert step.input_gradients == CONV1 + OUTPUT


def test_unused_columns_are_not_computed():
    model = network(3, "cnn", "none", False, 8, (3, 5))
    assert forward_flops(model, images(8, 1)) == CONV0 + CONV1 + OUTPUT


@each_form
def test_the_graph_can_be_traced(kind, adapter, preserving):
    model, x = network(3, kind, adapter, preserving), images()
    assert torch.equal(torch.fx.symbolic_trace(model)(x), model(x))


@each_form
def test_weights_come_back_from_a_state(tmp_path, kind, adapter, preserving):
    model = network(3, kind, adapter, preserving)
    torch.save(model.state_dict(), tmp_path / "state.pt")
    other, x = network(3, kind, adapter, preserving), images()
    assert not torch.equal(other(x), model(x))
    other.load_state_dict(torch.load(tmp_path / "state.pt"))
    assert torch.equal(other(x), model(x))


def test_layers_have_plain_names():
    names = [name for name, _ in network(2, adapter="mlp").named_parameters()]
    assert "columns.0.conv1.weight" in names
    assert "columns.1.laterals.conv1.project.weight" in names
    assert not any("laterals" in n for n in names if n.startswith("columns.0"))
    assert not any("conv0" in n for n in names if "laterals" in n)


def test_a_column_takes_the_networks_type_and_mode():
    model = network(1).eval()
    model.add_column()
    assert {p.dtype for p in model.parameters()} == {torch.float64}
    assert not any(module.training for module in model.modules())


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"image_size": 7}, "7 x 7 are too small for 3 convolutions .* fewer widths"),
        ({"adapter": "other"}, "no adapter 'other'; there are: linear, mlp, none"),
        ({"kind": "other"}, "no kind of column 'other'; there are: cnn, mlp"),
        ({"widths": []}, r"widths are \[\]; give .* at least one unit"),
        ({"widths": [4, 0]}, r"widths are \[4, 0\]; give"),
    ],
    ids=str,
)
def test_invalid_arguments_are_refused(changes, message):
    with pytest.raises(InvalidInputError, match=message):
        ProgressiveNetwork(**changes)


def test_the_smallest_images_do():
    smallest = functools.partial(ProgressiveNetwork, 1, widths=(2, 2, 2))
    assert smallest(image_size=8)(torch.zeros(1, 1, 8, 8)).shape == (1, 10)
    assert smallest(image_size=1, kind="mlp")(torch.zeros(1, 1, 1, 1)).shape == (1, 10)
