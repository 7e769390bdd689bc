"""The choice of engine: what can be read fast is, and the rest is not lost."""

import pytest
import torch
from layer_cases import layer_case
from reference import assert_same

from gradnet.errors import InvalidInputError
from gradnet.gradients.dispatch import Engines
from gradnet.gradients.extractor import GradientExtractor
from gradnet.gradients.layout import BlockLayout


def test_every_parameter_is_explained() -> None:
    found = layer_case("elsewhere")
    extractor = GradientExtractor(found.model, biases=True)
    promised = {path.parameter: path for path in extractor.explain()}
    assert {path.engine for path in promised.values()} == {"factored"}
    kept = {path.parameter: path for path in extractor.explain(found.x)}
    assert set(kept) == set(extractor.layout.shapes)
    assert kept["0.layer.weight"].engine == "func"
    assert "another way than by its layer's" in kept["0.layer.weight"].reason
    assert kept["0.layer.bias"].engine == kept["3.weight"].engine == "factored"
    assert kept["3.weight"].reason == ""


def test_the_general_engine_on_demand() -> None:
    found = layer_case("linear")
    paths = GradientExtractor(found.model, engine="func").explain(found.x)
    assert {(path.engine, path.reason) for path in paths} == {
        ("func", "asked for with engine='func'")
    }


def test_both_engines_share_one_set_of_logits_and_gradients() -> None:
    found = layer_case("elsewhere")
    layout = BlockLayout.of(found.model, biases=True)
    labels = torch.tensor([[0, 2]] * len(found.x))
    engines = {
        name: Engines(found.model, layout, "cross_entropy", 0.1, name)
        for name in ("auto", "func")
    }
    read = {name: engine.read(found.x, labels) for name, engine in engines.items()}
    assert_same(read["auto"][0], read["func"][0])
    formed = {
        name: {key: block.form() for key, block in blocks.items()}
        for name, (_, blocks) in read.items()
    }
    assert_same(formed["auto"], formed["func"])


def test_unknown_engine() -> None:
    with pytest.raises(InvalidInputError, match="no engine 'fast'; give auto, func or"):
        GradientExtractor(torch.nn.Linear(2, 2), engine="fast")
