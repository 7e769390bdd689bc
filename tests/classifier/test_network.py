"""GradNet equals its dense twin, and its losses and scores equal loops over labels."""

import pytest
import torch
from reference import assert_same
from torch import Tensor, nn
from torch.nn import functional

from gradnet.classifier.network import GradNet
from gradnet.errors import InvalidInputError

SIZES = {"conv0": 3, "conv1": 2, "linear": 4}
NUM_SAMPLES, NUM_CLASSES = 5, 3
HEADS = pytest.mark.parametrize("head", ["sum", "scorer"])
ACTIVATIONS = pytest.mark.parametrize("activation", ["relu", "identity"])


def make_network(**arguments: object) -> GradNet:
    """A network in float64, no weight of it zero."""
    arguments = {"hidden": 2, **arguments}
    network = GradNet(SIZES, NUM_CLASSES, **arguments).double()
    for parameter in network.parameters():
        nn.init.normal_(parameter)
    return network


def random_features(*leading: int) -> dict[str, Tensor]:
    return {
        name: torch.randn(*leading, size, dtype=torch.float64)
        for name, size in SIZES.items()
    }


def base_logits() -> Tensor:
    return torch.randn(NUM_SAMPLES, NUM_CLASSES, dtype=torch.float64)


@HEADS
@ACTIVATIONS
@pytest.mark.parametrize("window", [1, 2, 3])
def test_network_equals_the_dense_one(head: str, activation: str, window: int) -> None:
    network = make_network(head=head, activation=activation, window=window)
    features = random_features(NUM_SAMPLES, 2)
    expected = network.to_dense()(torch.cat(list(features.values()), -1))
    outputs = network(features)
    assert_same(outputs if head == "sum" else outputs[..., None], expected)


def test_network_of_known_weights() -> None:
    network = GradNet({"a": 2, "b": 1}, 2, hidden=1, head="sum")
    tensors = {
        "first.weights.0": [[1.0, -1.0]],
        "first.weights.1": [[2.0]],
        "first.bias": [0.5, 1.0],
        "output.weight": [[1.0, 10.0], [2.0, 20.0]],
        "output.bias": [0.1, 0.2],
    }
    network.load_state_dict({name: torch.tensor(v) for name, v in tensors.items()})
    # The hidden units are relu(3 - 1 + 0.5) = 2.5 and relu(-2 + 1) = 0.
    outputs = network({"a": torch.tensor([[3.0, 1.0]]), "b": torch.tensor([[-1.0]])})
    assert_same(outputs, torch.tensor([[2.6, 5.2]]), 1e-6)


@HEADS
def test_shape_of_the_output_follows_the_head(head: str) -> None:
    outputs = make_network(head=head)(random_features(NUM_SAMPLES, NUM_CLASSES))
    tail = (NUM_CLASSES,) if head == "sum" else ()
    assert outputs.shape == (NUM_SAMPLES, NUM_CLASSES, *tail)


@pytest.mark.parametrize("num_labels", [1, 4])
def test_random_label_loss_equals_a_loop(num_labels: int) -> None:
    network = make_network(head="sum")
    outputs = network(random_features(NUM_SAMPLES, num_labels))
    y = torch.randint(NUM_CLASSES, (NUM_SAMPLES,))
    expected = torch.zeros((), dtype=torch.float64)
    for n in range(NUM_SAMPLES):
        for c in range(num_labels):
            probability = outputs[n, c].softmax(0)[y[n]]
            expected = expected - probability.log() / num_labels
    assert_same(network.loss(outputs, base_logits(), y), expected)


def test_scorer_loss_equals_a_loop() -> None:
    network, logits = make_network(head="scorer"), base_logits()
    features = random_features(NUM_SAMPLES, NUM_CLASSES)
    y = torch.randint(NUM_CLASSES, (NUM_SAMPLES,))
    expected = torch.zeros((), dtype=torch.float64)
    for n in range(NUM_SAMPLES):
        scores = [
            logits[n, c] + network({name: f[n, c] for name, f in features.items()})
            for c in range(NUM_CLASSES)
        ]
        expected = expected - torch.stack(scores).softmax(0)[y[n]].log()
    assert_same(network.loss(network(features), logits, y), expected)


@HEADS
def test_all_label_scores_equal_a_loop(head: str) -> None:
    network, logits = make_network(head=head), base_logits()
    features = random_features(NUM_SAMPLES, NUM_CLASSES)
    expected = torch.zeros_like(logits)
    for n in range(NUM_SAMPLES):
        for c in range(NUM_CLASSES):
            output = network({name: f[n, c] for name, f in features.items()})
            if head == "sum":
                expected[n] += output
            else:
                expected[n, c] = logits[n, c] + output
    assert_same(network.predict(network(features), logits), expected)


def test_fresh_scorer_repeats_the_base_network() -> None:
    for activation in ("relu", "identity"):
        network = GradNet(SIZES, NUM_CLASSES, activation=activation).double()
        logits = base_logits()
        outputs = network(random_features(NUM_SAMPLES, NUM_CLASSES))
        assert_same(network.predict(outputs, logits), logits, 0)


@HEADS
@ACTIVATIONS
def test_fresh_network_learns_from_its_first_step(head: str, activation: str) -> None:
    network = GradNet(SIZES, NUM_CLASSES, head=head, activation=activation).double()
    outputs = network(random_features(NUM_SAMPLES, NUM_CLASSES))
    y = torch.zeros(NUM_SAMPLES, dtype=torch.long)
    network.loss(outputs, base_logits(), y).backward()
    assert any(parameter.grad.any() for parameter in network.parameters())


@HEADS
def test_initial_spread_is_that_asked_for(head: str) -> None:
    network = GradNet({"a": 200}, 50, hidden=100, head=head, initial_std=0.02)
    for weight in (network.first.weights[0], network.output.weight):
        assert weight.std().item() == pytest.approx(0.02, rel=0.2)
    assert not network.first.bias.any()


def test_scorer_has_no_output_bias_and_tangent_model_no_bias_at_all() -> None:
    assert make_network(head="scorer").output.bias is None
    assert make_network(head="sum").output.bias is not None
    linear = make_network(activation="identity")
    assert linear.first.bias is None and linear.output.bias is None


@pytest.mark.parametrize("window", [1, 2, 3])
def test_linear_weights_are_the_scorer_multiplied_out(window: int) -> None:
    network = make_network(activation="identity", window=window)
    features, weights = random_features(4, 2), network.linear_weights()
    assert {name: len(weight) for name, weight in weights.items()} == SIZES
    expected = sum(features[name] @ weights[name] for name in SIZES)
    assert_same(network(features), expected)


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({}, True),
        ({"activation": "relu"}, False),
        ({"head": "sum"}, False),
        ({"dropout": 0.1}, False),
    ],
)
def test_only_the_linear_scorer_calls_itself_linear(
    changes: dict[str, object], expected: bool
) -> None:
    network = make_network(**{"activation": "identity", **changes})
    assert network.is_linear_scorer == expected


def test_dropout_acts_in_training_only() -> None:
    network = make_network(dropout=0.5, hidden=20)
    features = random_features(NUM_SAMPLES)
    assert not torch.equal(network(features), network(features))
    network.eval()
    assert torch.equal(network(features), network(features))


def test_loss_reaches_every_weight() -> None:
    network = make_network(head="scorer", window=2)
    outputs = network(random_features(NUM_SAMPLES, NUM_CLASSES))
    y = torch.arange(NUM_SAMPLES) % NUM_CLASSES
    functional.cross_entropy(outputs, y).backward()
    assert all(parameter.grad.any() for parameter in network.parameters())


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"head": "mean"}, "no head 'mean'.*sum, scorer"),
        ({"activation": "tanh"}, "no activation 'tanh'"),
        ({"dropout": 1.0}, "dropout is 1.0"),
        ({"dropout": -0.1}, "dropout is -0.1"),
        ({"hidden": (1, 2)}, "each of the 3 groups"),
        ({"window": 4}, "window of 4"),
    ],
)
def test_argument_out_of_range_is_refused(
    arguments: dict[str, object], message: str
) -> None:
    with pytest.raises(InvalidInputError, match=message):
        make_network(**arguments)
