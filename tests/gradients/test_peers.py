"""Opacus and BackPACK, written by others: independent oracles for the fast engine."""

from collections.abc import Mapping
from functools import partial

import pytest
from cases import CASES, NUM_CLASSES, Case
from layer_cases import FAST, layer_case
from methods import METHODS, opacus, relative_error, stacked
from reference import assert_same

from gradnet.gradients.extractor import GradientExtractor

pytestmark = [
    pytest.mark.peers,
    # On a first layer, whose input needs no gradient; on whole numbers beside float64.
    pytest.mark.filterwarnings("ignore:Full backward hook is firing:UserWarning"),
    pytest.mark.filterwarnings("ignore:In CPU autocast:UserWarning"),
    # Of modules whose parameters belong to their parts.
    pytest.mark.filterwarnings("ignore:Extension saving to grad_batch:UserWarning"),
]

# What a peer refuses, or reads in another way than plain backward passes do; with
# those, ours is compared in test_factored.py.
OTHERWISE_IN_BOTH = {"windows", "windows of images", "overwriting", "unused"}
OTHERWISE_IN_OPACUS = OTHERWISE_IN_BOTH | {
    n for n in FAST if n.startswith("batch norm")
}
OTHERWISE: Mapping[str, set[str]] = {
    "Opacus, functorch": OTHERWISE_IN_OPACUS,
    "Opacus, hooks": OTHERWISE_IN_OPACUS
    | {
        "conv2d, reflect",
        "conv2d, circular and same",
        "embedding with padding",
        "layer norm without bias",
    },
    "BackPACK BatchGrad": OTHERWISE_IN_BOTH
    | {
        "conv2d, same",
        "conv2d, reflect",
        "conv2d, circular and same",
        "transposed conv2d, output padding",
        "embedding",  # it is in float32 only
        "embedding with padding",
        *(n for n in FAST if n.startswith(("layer norm", "group norm", "rms norm"))),
    },
}
NETWORKS = {
    "Opacus, functorch": ["cnn", "mlp", "shared", "layer_norm", "own_parameters"],
    "Opacus, hooks": ["cnn", "mlp", "shared", "layer_norm", "own_parameters"],
    "BackPACK BatchGrad": ["cnn", "mlp", "residual"],
}


def assert_agrees(peer: str, case: Case, engine: str) -> None:
    """In every weight and bias of every sample, at all labels."""
    pytest.importorskip(peer.split(",")[0].split(" ")[0].lower())
    extractor = GradientExtractor(case.model, biases=True, engine=engine)
    method = partial(METHODS[peer], num_classes=NUM_CLASSES)
    theirs = stacked(method(case.model, case.x)())
    assert_same(extractor.all_labels(case.x), theirs)


@pytest.mark.parametrize(
    ("peer", "name"),
    [(p, n) for p, left_out in OTHERWISE.items() for n in FAST if n not in left_out],
)
def test_layers(peer: str, name: str) -> None:
    assert_agrees(peer, layer_case(name), "factored")


@pytest.mark.parametrize(
    ("peer", "name"), [(p, name) for p, names in NETWORKS.items() for name in names]
)
def test_networks(peer: str, name: str) -> None:
    assert_agrees(peer, CASES[name](), "auto")


def test_the_general_engine_too() -> None:
    assert_agrees("Opacus, hooks", CASES["cnn"](), "func")


def test_a_wrong_rival_would_not_be_timed() -> None:
    pytest.importorskip("opacus")
    case = CASES["mlp"]()
    gradients = stacked(opacus(case.model, case.x, num_classes=NUM_CLASSES)())
    assert relative_error(gradients, gradients) == 0
    wrong = {name: gradient.roll(1, 1) for name, gradient in gradients.items()}
    assert relative_error(wrong, gradients) > 0.1
