"""Rules are for layers that compute as the kind that they are of."""

import pytest
import torch
from reference import assert_same, gradients_by_loop
from torch import Tensor, nn

from gradnet.errors import InvalidInputError
from gradnet.gradients import Formed, GradientExtractor, Product, register_layer_rule
from gradnet.gradients.layer_rules import LAYER_RULES, LayerRules, rules_of


class Renamed(nn.Linear):
    """A Linear under another name."""


class Doubled(nn.Linear):
    """Computes something else."""

    def forward(self, x: Tensor) -> Tensor:
        return 2 * super().forward(x)


@pytest.mark.parametrize(
    "layer",
    [
        nn.Linear(2, 3),
        Renamed(2, 3),
        nn.Conv1d(2, 2, 1),
        nn.ConvTranspose3d(2, 2, 1),
        nn.BatchNorm1d(2),
        nn.BatchNorm3d(2),
        nn.LayerNorm(2),
        nn.RMSNorm(2),
        nn.GroupNorm(1, 2),
        nn.Embedding(2, 3, padding_idx=0),
    ],
    ids=lambda layer: type(layer).__name__,
)
def test_layers_with_rules(layer: nn.Module) -> None:
    rules = rules_of(layer)
    assert rules is not None
    assert set(dict(layer.named_parameters())) <= set(rules.rules)


@pytest.mark.parametrize(
    "layer",
    [
        Doubled(2, 3),
        nn.Bilinear(2, 2, 2),
        nn.LSTM(2, 3),
        nn.PReLU(),
        nn.SyncBatchNorm(2),
        nn.EmbeddingBag(3, 2),
        nn.Embedding(2, 3, max_norm=1.0),
        nn.Embedding(2, 3, scale_grad_by_freq=True),
        nn.MultiheadAttention(4, 2),
    ],
    ids=lambda layer: type(layer).__name__,
)
def test_layers_without(layer: nn.Module) -> None:
    assert rules_of(layer) is None


class Own(nn.Module):
    """A user's layer: ``(A x) * s``, of any number of dimensions."""

    def __init__(self, size: int) -> None:
        super().__init__()
        self.matrix = nn.Parameter(torch.randn(size, size))
        self.scale = nn.Parameter(torch.randn(size))

    def forward(self, x: Tensor) -> Tensor:
        return (x @ self.matrix.T) * self.scale


class NearerOwn(Own):
    """A subclass that computes the same."""


def matrix_rule(layer: Own, x: Tensor, cotangents: Tensor) -> Product:
    def make() -> tuple[Tensor, Tensor]:
        left = (cotangents * layer.scale.detach()).flatten(2, -2)
        return left.transpose(2, 3)[:, :, None], x.flatten(1, -2)[:, None]

    return Product(make)


def scale_rule(layer: Own, x: Tensor, cotangents: Tensor) -> Formed:
    product = cotangents * (x @ layer.matrix.detach().T)[:, None]
    return Formed(product.flatten(2, -2).sum(2))


def wrong_rule(layer: Own, x: Tensor, cotangents: Tensor) -> Formed:
    return Formed(2 * scale_rule(layer, x, cotangents).gradient)


@pytest.fixture
def own_rules():
    yield
    for name in ("own", "nearer"):
        if name in LAYER_RULES:
            LAYER_RULES.unregister(name)


def own_model() -> tuple[nn.Module, Tensor, Tensor]:
    model = nn.Sequential(Own(4), nn.Tanh(), Own(4), nn.Flatten(), nn.Linear(12, 3))
    labels = torch.arange(3).expand(5, -1)
    return model.double().eval(), torch.randn(5, 3, 4).double(), labels


def paths(extractor: GradientExtractor, x: Tensor) -> dict[str, str]:
    return {path.parameter: path.engine for path in extractor.explain(x)}


def test_a_rule_of_ones_own_gives_the_gradients_of_the_loop(own_rules: None) -> None:
    model, x, labels = own_model()
    rules = LayerRules(Own, {"matrix": matrix_rule, "scale": scale_rule})
    assert "func" in paths(GradientExtractor(model), x).values()
    register_layer_rule("own", rules)
    extractor = GradientExtractor(model, biases=True, engine="factored")
    assert set(paths(extractor, x).values()) == {"factored"}
    _, actual = extractor.logits_and_gradients(x, labels)
    assert_same(actual, gradients_by_loop(model, x, labels))


def test_a_wrong_rule_is_found_and_not_used(own_rules: None) -> None:
    model, x, labels = own_model()
    register_layer_rule(
        "own", LayerRules(Own, {"matrix": matrix_rule, "scale": wrong_rule})
    )
    extractor = GradientExtractor(model, biases=True)
    _, actual = extractor.logits_and_gradients(x, labels)
    assert_same(actual, gradients_by_loop(model, x, labels))
    found = paths(extractor, x)
    assert (found["0.matrix"], found["0.scale"]) == ("factored", "func")


def test_the_rules_of_the_nearest_class_win(own_rules: None) -> None:
    general = LayerRules(Own, {"scale": scale_rule})
    nearer = LayerRules(NearerOwn, {"scale": scale_rule})
    register_layer_rule("own", general)
    assert rules_of(NearerOwn(2)) is general
    register_layer_rule("nearer", nearer)
    assert rules_of(NearerOwn(2)) is nearer
    assert rules_of(Own(2)) is general


@pytest.mark.parametrize(
    ("rules", "message"),
    [
        (scale_rule, "give a LayerRules"),
        (LayerRules(int, {"scale": scale_rule}), "no subclass of nn.Module"),
        (LayerRules(Own, {}), "a function for each"),
        (LayerRules(Own, {"scale": "rule"}), "a function for each"),
    ],
)
def test_what_is_no_rule_is_refused(rules: object, message: str) -> None:
    with pytest.raises(InvalidInputError, match=message):
        register_layer_rule("own", rules)
    assert "own" not in LAYER_RULES


def test_a_name_that_is_taken_is_refused() -> None:
    with pytest.raises(InvalidInputError, match="'Linear' exists already"):
        register_layer_rule("Linear", LayerRules(Own, {"scale": scale_rule}))
