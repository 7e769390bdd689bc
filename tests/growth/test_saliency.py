"""The lowest go first; one weight of a quadratic costs what is predicted; units too."""

import pytest
import torch
from torch import nn

from gradnet.curvature.diagonal import hessian_diagonal
from gradnet.errors import InvalidInputError
from gradnet.growth.saliency import (
    deletion_curve,
    magnitude_scores,
    prune_lowest,
    random_scores,
    remove_weakest_units,
    unit_scores,
    weight_saliencies,
)
from gradnet.models import build_model


def at_the_minimum():
    """A linear network on a squared error, solved: the error is quadratic there."""
    generator = torch.manual_seed(0)
    x = torch.randn(50, 6, generator=generator, dtype=torch.float64)
    y = torch.randn(50, 2, generator=generator, dtype=torch.float64)
    model = nn.Sequential(nn.Linear(6, 2, bias=False)).double()
    with torch.no_grad():
        model[0].weight.copy_(torch.linalg.lstsq(x, y).solution.T)
    return model, x, y


def squared_error(model, x, y):
    return (model(x) - y).square().sum(1).mean().item()


def test_one_deleted_weight_of_a_quadratic_costs_what_is_predicted():
    model, x, y = at_the_minimum()
    saliencies = weight_saliencies(
        model, hessian_diagonal(model, x, y, "squared_error")
    )
    order = saliencies["0.weight"].flatten().sort().values
    curve = deletion_curve(
        model,
        saliencies,
        saliencies,
        [0, 1 / 12, 1 / 4],
        lambda pruned: {"error": squared_error(pruned, x, y)},
    )
    assert curve["remaining"] == [12, 11, 9] and curve["deleted"] == [0, 1 / 12, 1 / 4]
    before, after, later = curve["error"]
    assert before == squared_error(model, x, y)
    assert after - before == pytest.approx(order[0].item(), rel=1e-10)
    assert curve["predicted"] == pytest.approx(
        [0, order[0].item(), order[:3].sum().item()]
    )
    # The diagonal does not know what three have to do with each other.
    assert abs(later - before - curve["predicted"][2]) > 1e-6


def test_every_single_weight_does():
    model, x, y = at_the_minimum()
    saliencies = weight_saliencies(
        model, hessian_diagonal(model, x, y, "squared_error")
    )
    before = squared_error(model, x, y)
    for index in range(12):
        pruned = nn.Sequential(nn.Linear(6, 2, bias=False)).double()
        pruned.load_state_dict(model.state_dict())
        with torch.no_grad():
            pruned[0].weight.view(-1)[index] = 0
        increase = squared_error(pruned, x, y) - before
        expected = saliencies["0.weight"].flatten()[index].item()
        assert increase == pytest.approx(expected, rel=1e-9)


SCORES = {
    "a": torch.tensor([[1.0, 9.0], [2.0, 8.0]]),
    "b": torch.tensor([0.5, 7.0, 6.0, 5.0]),
}
ALL = {name: torch.ones_like(score, dtype=torch.bool) for name, score in SCORES.items()}


def test_the_lowest_go_first_of_all_or_layer_by_layer():
    kept = prune_lowest(SCORES, ALL, 0.5)
    assert kept["a"].tolist() == [[False, True], [False, True]]
    assert kept["b"].tolist() == [False, True, True, False]
    again = prune_lowest(SCORES, kept, 0.25)
    assert again["b"].tolist() == [False, True, False, False]
    assert torch.equal(again["a"], kept["a"])
    layered = prune_lowest(SCORES, ALL, 0.5, "layer")
    assert layered["b"].tolist() == [False, True, True, False]
    layered = prune_lowest(SCORES, ALL, 0.25, "layer")
    assert layered["a"].tolist() == [[False, True], [True, True]]
    assert all(mask.all() for mask in ALL.values())


def test_the_number_is_rounded_down_and_equal_scores_keep_to_it():
    same = {"a": torch.zeros(100)}
    whole = {"a": torch.ones(100, dtype=torch.bool)}
    for fraction, left in ((0.29, 71), (0.999, 1), (1, 0), (0, 100), (0.005, 100)):
        assert int(prune_lowest(same, whole, fraction)["a"].sum()) == left
    for fraction in (-0.1, 1.1):
        with pytest.raises(InvalidInputError, match="fraction to prune"):
            prune_lowest(same, whole, fraction)


def test_the_baselines():
    torch.manual_seed(0)
    model = build_model("mlp", image_size=4, hidden=[5])
    weights = magnitude_scores(model)
    assert list(weights) == ["linear0.weight", "linear1.weight"]
    for name, score in weights.items():
        assert torch.equal(score, model.get_parameter(name).detach() ** 2 / 2)
    draws = [random_scores(model, torch.manual_seed(seed)) for seed in (0, 0, 1)]
    assert torch.equal(draws[0]["linear0.weight"], draws[1]["linear0.weight"])
    assert not torch.equal(draws[0]["linear0.weight"], draws[2]["linear0.weight"])


def test_a_unit_counts_what_goes_out_of_it_and_is_really_gone():
    torch.manual_seed(0)
    model = build_model("cnn-small", width=4, num_classes=3).eval()
    probe = torch.randn(6, 1, 8, 8)
    scores = magnitude_scores(model)
    of_units = unit_scores(model, "conv1", scores, probe)
    # The flatten puts the 2 x 2 positions of each of the 4 channels side by side.
    columns = scores["linear.weight"].reshape(3, 4, -1)
    torch.testing.assert_close(of_units, columns.sum((0, 2)))
    of_first = unit_scores(model, "conv0", scores, probe)
    torch.testing.assert_close(of_first, scores["conv1.weight"].sum((0, 2, 3)))
    silent = of_units.argsort()[:2].tolist()
    with torch.no_grad():
        model.linear.weight.view(3, 4, -1)[:, silent] = 0
    edit = remove_weakest_units(model, "conv1", of_units, 2, probe)
    assert edit.model.conv1.weight.shape[0] == 2
    assert edit.model.linear.weight.shape[1] == model.linear.weight.shape[1] // 2
    torch.testing.assert_close(edit.model(probe), model(probe))
    rest = [unit for unit in range(4) if unit not in silent]
    assert torch.equal(edit.model.conv1.weight, model.conv1.weight[rest])


def test_the_last_layer_has_no_units_to_remove():
    model = build_model("mlp", image_size=4, hidden=[5])
    with pytest.raises(InvalidInputError, match="output"):
        unit_scores(model, "linear1", magnitude_scores(model), torch.randn(2, 1, 4, 4))
