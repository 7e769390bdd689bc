"""The header and the statistics in the file of a GradNet are checked one by one."""

import re
from typing import Any

import pytest
import torch

from gradnet.classifier.predictor_file import (
    recipe_of,
    statistics_fault,
    tensors_below,
)
from gradnet.classifier.recipes import RECIPES
from gradnet.errors import DamagedFileError
from gradnet.gradients.layout import BlockLayout

LAYOUT = BlockLayout.of(torch.nn.Sequential(torch.nn.Linear(3, 2)))
RECIPE = RECIPES["default"]


def header(**changes: Any) -> dict[str, Any]:
    whole = {"base": "0" * 12, "recipe": RECIPE.to_dict(), "num_classes": 2}
    return whole | changes


def statistics(**changes: torch.Tensor) -> dict[str, torch.Tensor]:
    size = LAYOUT.sizes[0]
    values = {
        "count": torch.tensor(5),
        "mean": torch.zeros(size),
        "squares": torch.ones(size),
        "minimum": -torch.ones(size),
        "maximum": torch.ones(size),
    }
    return {f"{LAYOUT.names[0]}/{k}": v for k, v in (values | changes).items()}


def test_the_recipe_comes_back() -> None:
    assert recipe_of(header(layout=None, versions={"torch": "2"}), "file") == RECIPE


@pytest.mark.parametrize(
    ("changes", "fault"),
    [
        ({"base": 3}, "base is 3"),
        ({"num_classes": "2"}, "num_classes is '2'"),
        ({"recipe": RECIPE.to_dict() | {"hidden": -1}}, "hidden is -1"),
        ({"versions": {"torch": 2}}, "versions"),
    ],
    ids=str,
)
def test_a_field_out_of_order_is_named(changes: dict[str, Any], fault: str) -> None:
    with pytest.raises(DamagedFileError, match=f"^file.*{fault}"):
        recipe_of(header(**changes), "file")


@pytest.mark.parametrize(
    ("changes", "fault"),
    [
        ({"mean": torch.zeros(1)}, "mean is .1,. of torch.float32"),
        ({"count": torch.tensor(5.0)}, "count is .. of torch.float32"),
        ({"count": torch.tensor(-1)}, "count is negative"),
        ({"mean": torch.full(LAYOUT.sizes[:1], torch.nan)}, "mean is not finite"),
        ({"maximum": torch.full(LAYOUT.sizes[:1], -2.0)}, "below its minimum"),
        ({"other": torch.zeros(1)}, "missing or unknown: .*other"),
    ],
    ids=str,
)
def test_statistics_out_of_order_are_named(
    changes: dict[str, torch.Tensor], fault: str
) -> None:
    assert statistics_fault(statistics(), LAYOUT, is_scaled=True) is None
    found = statistics_fault(statistics(**changes), LAYOUT, is_scaled=True)
    assert found is not None and re.search(fault, found)


def test_features_without_a_fitted_step_have_no_statistics() -> None:
    assert statistics_fault({}, LAYOUT, is_scaled=False) is None
    assert "unknown" in str(statistics_fault(statistics(), LAYOUT, is_scaled=False))


def test_tensors_below_a_prefix_lose_it() -> None:
    tensors = {"a/x": torch.zeros(1), "b/x": torch.ones(1)}
    assert tensors_below(tensors, "b/") == {"x": tensors["b/x"]}
