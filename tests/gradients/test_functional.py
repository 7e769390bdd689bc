"""The general engine equals the loop, parameter by parameter."""

import pytest
import torch
from cases import CASES, NUM_CLASSES
from reference import assert_same, gradients_by_loop

from gradnet.errors import InvalidInputError
from gradnet.gradients.cotangents import label_cotangents
from gradnet.gradients.functional import FunctionalEngine
from gradnet.gradients.inputs import check_labels


@pytest.mark.parametrize("case", CASES)
def test_some_parameters_equal_the_loop(case: str) -> None:
    found = CASES[case]()
    names = [name for name, _ in found.model.named_parameters()][::2]
    labels = check_labels(None, len(found.x), NUM_CLASSES, found.x.device)
    expected = gradients_by_loop(found.model, found.x, labels)
    out = {name: torch.full_like(expected[name], 7.0) for name in names}
    engine = FunctionalEngine(found.model, names)
    logits, pullback = engine.logits_and_pullback(found.x)
    engine.pull_back(pullback, label_cotangents(logits, labels), out)
    assert_same(logits, found.model(found.x).detach())
    assert_same(out, {name: expected[name] for name in names})


def test_random_models_are_refused() -> None:
    class Noisy(torch.nn.Linear):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return super().forward(x) + torch.randn(3)

    with pytest.raises(InvalidInputError, match=r"random numbers.*model\.eval"):
        FunctionalEngine(Noisy(4, 3), ["weight"]).logits_and_pullback(torch.ones(2, 4))
