"""The linear scorer without gradients equals the one with gradients, and its slopes."""

import copy

import pytest
import torch
from cases import CASES, NUM_CLASSES, Case
from reference import assert_same
from torch import Tensor, nn

from gradnet.classifier.features import Features, FeatureSettings
from gradnet.classifier.network import GradNet
from gradnet.classifier.tangent import (
    is_tangent_model,
    logits_and_scores,
    tangent_weights,
)
from gradnet.errors import InvalidInputError
from gradnet.gradients.extractor import GradientExtractor

every_case = pytest.mark.parametrize("case", CASES)
SCALINGS = pytest.mark.parametrize("scaling", ["none", "std", "max-abs"])


def make_network(extractor: GradientExtractor, window: int = 1) -> GradNet:
    """A linear scorer on the extractor's blocks, in float64, no weight of it zero."""
    layout = extractor.layout
    sizes = dict(zip(layout.names, layout.sizes, strict=True))
    network = GradNet(
        sizes, NUM_CLASSES, hidden=2, window=window, activation="identity"
    )
    for parameter in network.parameters():
        nn.init.normal_(parameter)
    return network.double()


def make_features(extractor: GradientExtractor, case: Case, scaling: str) -> Features:
    gradients = extractor.all_labels(case.x + 0.3)
    blocks = extractor.layout.to_blocks(gradients)
    return FeatureSettings(scaling=scaling).make().partial_fit(blocks)


def formed(
    extractor: GradientExtractor, features: Features, network: GradNet, x: Tensor
) -> tuple[Tensor, Tensor]:
    """Logits and scores by way of the gradients themselves."""
    logits, gradients = extractor.logits_and_gradients(x)
    blocks = extractor.layout.to_blocks(gradients)
    return logits, network(features.transform(blocks))


def slopes(network: GradNet, logits: Tensor, scores: Tensor, y: Tensor) -> list[Tensor]:
    """The gradient of the scorer's loss with respect to each of its weights."""
    loss = network.loss(scores, logits, y)
    return list(torch.autograd.grad(loss, list(network.parameters())))


def assert_both_ways_agree(
    case: Case, extractor: GradientExtractor, scaling: str, window: int = 1
) -> None:
    features = make_features(extractor, case, scaling)
    network = make_network(extractor, window)
    assert is_tangent_model(extractor, features, network)
    weights = tangent_weights(extractor, features, network)
    logits, scores = logits_and_scores(extractor, weights, case.x)
    expected_logits, expected = formed(extractor, features, network, case.x)
    assert_same(logits, expected_logits)
    assert_same(scores, expected)
    assert scores.abs().max() > 1e-3
    actual_slopes = slopes(network, logits, scores, case.y)
    assert_same(actual_slopes, slopes(network, logits, expected, case.y))
    assert all(slope.any() for slope in actual_slopes)


@every_case
@SCALINGS
def test_scores_and_slopes_equal_those_of_formed_gradients(
    case: str, scaling: str
) -> None:
    found = CASES[case]()
    # A bias of all keys alike moves no attention: what its gradient holds is rounding
    # error, which a scaling would bring to the size of the others.
    extractor = GradientExtractor(found.model, biases=case != "attention")
    assert_both_ways_agree(found, extractor, scaling)


@pytest.mark.parametrize("window", [2, 3])
def test_windows_agree_too(window: int) -> None:
    found = CASES["cnn"]()
    assert_both_ways_agree(found, GradientExtractor(found.model), "std", window)


def test_chosen_and_frozen_layers_agree_too() -> None:
    found = CASES["strange_convolutions"]()
    found.model.strided.requires_grad_(False)
    for layers in (None, ["strided", "linear"]):
        extractor = GradientExtractor(found.model, layers)
        assert_both_ways_agree(found, extractor, "max-abs")


def test_scores_weighted_by_probability_sum_to_zero() -> None:
    found = CASES["cnn"]()
    extractor = GradientExtractor(found.model)
    weights = tangent_weights(extractor, Features(), make_network(extractor))
    logits, scores = logits_and_scores(extractor, weights, found.x)
    assert scores.abs().max() > 1e-3
    assert (logits.softmax(-1) * scores).sum(-1).abs().max() < 1e-10


def test_scores_are_the_fall_of_log_probability_along_the_weights() -> None:
    found = CASES["cnn"]()
    extractor = GradientExtractor(found.model)
    weights = tangent_weights(extractor, Features(), make_network(extractor))
    _, scores = logits_and_scores(extractor, weights, found.x)
    losses = []
    for sign in (1, -1):
        moved = copy.deepcopy(found.model)
        with torch.no_grad():
            for name, weight in weights.items():
                moved.get_parameter(name).add_(sign * 1e-6 * weight)
            losses.append(-moved(found.x).log_softmax(-1))
    assert_same(scores.detach(), (losses[0] - losses[1]) / 2e-6, 1e-6)


def test_empty_batch_has_no_scores() -> None:
    found = CASES["cnn"]()
    extractor = GradientExtractor(found.model)
    weights = tangent_weights(extractor, Features(), make_network(extractor))
    logits, scores = logits_and_scores(extractor, weights, found.x[:0])
    assert logits.shape == scores.shape == (0, NUM_CLASSES)


@every_case
def test_model_is_left_as_it_was(case: str) -> None:
    found = CASES[case]()
    before = copy.deepcopy(found.model.state_dict())
    extractor = GradientExtractor(found.model, biases=True)
    network = make_network(extractor)
    weights = tangent_weights(extractor, Features(), network)
    logits, scores = logits_and_scores(extractor, weights, found.x)
    network.loss(scores, logits, found.y).backward()
    assert not logits.requires_grad
    assert_same(dict(found.model.state_dict()), dict(before), 0)
    assert all(p.requires_grad and p.grad is None for p in found.model.parameters())


def test_layer_that_changes_from_call_to_call_is_refused() -> None:
    found = CASES["residual"]()
    extractor = GradientExtractor(found.model)
    weights = tangent_weights(extractor, Features(), make_network(extractor))
    found.model.train()
    with pytest.raises(InvalidInputError, match=r"'block.norm'.*eval\(\)"):
        logits_and_scores(extractor, weights, found.x)


@pytest.mark.parametrize(
    ("reading", "features", "network"),
    [
        ({"weight_decay": 1e-3}, {}, {}),
        ({"loss": nn.functional.cross_entropy}, {}, {}),
        ({}, {"percent": 50.0}, {}),
        ({}, {"scaling": "min-max"}, {}),
        ({}, {"scaling": "standard"}, {}),
        ({}, {"unit_norm": True}, {}),
        ({}, {"power": 0.5}, {}),
        ({}, {}, {"activation": "relu"}),
        ({}, {}, {"head": "sum"}),
        ({}, {}, {"dropout": 0.5}),
    ],
    ids=lambda changes: "+".join(changes) or "-",
)
def test_what_is_not_linear_is_no_tangent_model(
    reading: dict[str, object], features: dict[str, object], network: dict[str, object]
) -> None:
    extractor = GradientExtractor(CASES["bare_layer"]().model, **reading)
    arguments = {"activation": "identity", **network}
    net = GradNet({"": extractor.layout.size}, NUM_CLASSES, **arguments)
    assert not is_tangent_model(extractor, FeatureSettings(**features).make(), net)
