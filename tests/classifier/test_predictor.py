"""A predictor scores as a loop does, and comes back from its file bit by bit."""

import copy
import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from cases import CASES, NUM_CLASSES, Case
from reference import assert_same, gradients_by_loop
from torch import Tensor, nn

from gradnet.checkpoints.fingerprint import weights_fingerprint
from gradnet.checkpoints.tensor_file import load_with_header, save_with_header
from gradnet.classifier.features import FeatureSettings
from gradnet.classifier.predictor import GradNetPredictor
from gradnet.classifier.recipes import DEFAULT, GRADNET_2018, Recipe
from gradnet.core.memory import peak_bytes
from gradnet.errors import DamagedFileError, GradnetError, InvalidInputError

RECIPES: Mapping[str, Recipe] = {
    "default": DEFAULT,
    "2018": replace(GRADNET_2018, hidden=(2, 3, 2)),
    "scaled tangent": replace(DEFAULT, features=FeatureSettings(scaling="std")),
    "all of it": Recipe(
        layers=("conv1", "linear"),
        biases=True,
        features=FeatureSettings(percent=60, scaling="standard", unit_norm=True),
        hidden=(4,),
        window=2,
        dropout=0.5,
    ),
}
every_recipe = pytest.mark.parametrize("recipe", RECIPES)


def make_predictor(
    recipe: Recipe = DEFAULT, case: Case | None = None
) -> GradNetPredictor:
    """A fitted predictor of random weights, on the float64 CNN if no other is given."""
    found = case or CASES["cnn"]()
    predictor = GradNetPredictor(found.model, recipe, NUM_CLASSES)
    for parameter in predictor.network.parameters():
        nn.init.normal_(parameter)
    # Not the inputs that are scored: the root of rounding error at a minimum is large.
    x = torch.cat([found.x + 0.3, 0.5 - found.x])
    _, blocks = predictor.blocks(x)
    predictor.features.partial_fit(blocks)
    return predictor


def inputs() -> Tensor:
    return CASES["cnn"]().x


def scores_by_loop(predictor: GradNetPredictor, x: Tensor) -> Tensor:
    """Gradients, features and outputs of one sample and one label at a time."""
    labels = torch.arange(NUM_CLASSES).expand(len(x), -1)
    gradients = gradients_by_loop(predictor.base, x, labels)
    decay = predictor.recipe.weight_decay_term
    predictor.network.eval()
    scores = []
    for n in range(len(x)):
        outputs = []
        for c in range(NUM_CLASSES):
            blocks: dict[str, list[Tensor]] = {}
            for name in predictor.layout.shapes:
                weights = predictor.base.get_parameter(name).detach()
                gradient = (gradients[name][n, c] + decay * weights).flatten()
                blocks.setdefault(name.rpartition(".")[0], []).append(gradient)
            joined = {name: torch.cat(parts) for name, parts in blocks.items()}
            outputs.append(predictor.network(predictor.features.transform(joined)))
        if predictor.recipe.head == "sum":
            scores.append(sum(outputs))
        else:
            scores.append(predictor.base(x[n : n + 1])[0] + torch.stack(outputs))
    return torch.stack(scores).detach()


@every_recipe
def test_scores_equal_a_loop_over_samples_and_labels(recipe: str) -> None:
    predictor = make_predictor(RECIPES[recipe])
    assert_same(predictor.scores(inputs()), scores_by_loop(predictor, inputs()))


@every_recipe
@pytest.mark.parametrize("chunk", [1, 3])
def test_scores_do_not_depend_on_chunks(recipe: str, chunk: int) -> None:
    predictor = make_predictor(RECIPES[recipe])
    expected = predictor.scores(inputs())
    predictor.extractor.chunk_sizes.chunk_size = chunk
    done: list[int] = []
    assert_same(predictor.scores(inputs(), done.append), expected)
    assert done == {1: [1, 1, 1, 1], 3: [3, 1]}[chunk]


@every_recipe
def test_chunks_stay_within_the_memory_budget(recipe: str) -> None:
    predictor = make_predictor(RECIPES[recipe])
    x = inputs()[torch.arange(64) % len(inputs())]
    one = peak_bytes(lambda: predictor.outputs(x[:1]), x.device)
    budget = 9 * one
    limited = GradNetPredictor(
        predictor.base, predictor.recipe, NUM_CLASSES, max_memory=budget
    )
    limited.network.load_state_dict(predictor.network.state_dict())
    limited.features.load_state_dict(predictor.features.state_dict())
    done: list[int] = []
    assert_same(limited.scores(x, done.append), predictor.scores(x))
    assert 1 < max(done) < 64
    taken = peak_bytes(lambda: limited.outputs(x[: max(done)]), x.device)
    assert taken <= budget


@every_recipe
def test_scores_do_not_depend_on_company(recipe: str) -> None:
    predictor = make_predictor(RECIPES[recipe])
    expected = predictor.scores(inputs())
    chosen = [3, 0, 0]
    assert_same(predictor.scores(inputs()[chosen]), expected[chosen])
    assert_same(predictor.scores(inputs()[1:2]), expected[1:2])
    assert predictor.scores(inputs()[:0]).shape == (0, NUM_CLASSES)


def test_fresh_default_repeats_the_base_network() -> None:
    found = CASES["cnn"]()
    predictor = GradNetPredictor(found.model, DEFAULT, NUM_CLASSES)
    assert_same(predictor.scores(found.x), found.model(found.x).detach())


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
def test_network_has_the_type_of_its_base(dtype: torch.dtype) -> None:
    base = CASES["cnn"]().model.to(dtype)
    predictor = GradNetPredictor(base, RECIPES["all of it"], NUM_CLASSES)
    assert {p.dtype for p in predictor.network.parameters()} == {dtype}


@every_recipe
def test_gradients_used_are_counted(recipe: str) -> None:
    predictor = make_predictor(RECIPES[recipe])
    predictor.gradients_used = 0
    predictor.scores(inputs())
    assert predictor.gradients_used == len(inputs()) * NUM_CLASSES
    predictor.blocks(inputs(), torch.zeros(len(inputs()), 2, dtype=torch.long))
    assert predictor.gradients_used == len(inputs()) * (NUM_CLASSES + 2)


@every_recipe
def test_outputs_carry_slopes_to_every_weight(recipe: str) -> None:
    predictor = make_predictor(RECIPES[recipe])
    logits, outputs = predictor.outputs(inputs())
    y = torch.tensor([0, 1, 2, 0])
    predictor.network.loss(outputs, logits, y).backward()
    assert all(p.grad is not None for p in predictor.network.parameters())
    assert all(p.grad is None for p in predictor.base.parameters())


def test_base_in_training_mode_is_refused_by_layer() -> None:
    for recipe in (DEFAULT, replace(DEFAULT, activation="relu")):
        found = CASES["residual"]()
        predictor = make_predictor(recipe, found)
        found.model.train()
        with pytest.raises(InvalidInputError, match=r"'block.norm'.*eval\(\)"):
            predictor.scores(found.x)


@every_recipe
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
def test_saved_predictor_comes_back_bit_by_bit(
    recipe: str, dtype: torch.dtype, tmp_path: Path
) -> None:
    found = CASES["cnn"]()
    found = replace(found, model=found.model.to(dtype), x=found.x.to(dtype))
    predictor = make_predictor(RECIPES[recipe], found)
    path = predictor.save(tmp_path / "net.safetensors", accuracy=0.75)
    loaded = GradNetPredictor.load(path, copy.deepcopy(found.model))
    assert loaded.recipe == predictor.recipe
    assert loaded.layout == predictor.layout
    for restored, original in (
        (loaded.network.state_dict(), predictor.network.state_dict()),
        (loaded.features.state_dict(), predictor.features.state_dict()),
    ):
        assert_same(dict(restored), dict(original), 0)
    assert torch.equal(loaded.scores(found.x), predictor.scores(found.x))


def test_file_tells_what_it_holds(tmp_path: Path) -> None:
    predictor = make_predictor()
    path = predictor.save(tmp_path / "net.safetensors", accuracy=0.75, seed=3)
    header, _ = load_with_header(path)
    assert header["kind"] == "gradnet"
    assert (header["accuracy"], header["seed"]) == (0.75, 3)
    assert header["layout"] == json.loads(json.dumps(predictor.layout.to_dict()))
    assert header["base"] == weights_fingerprint(predictor.base)


def test_base_network_is_not_in_the_file(tmp_path: Path) -> None:
    path = make_predictor().save(tmp_path / "net.safetensors")
    names = load_with_header(path)[1]
    assert names and all(name.startswith(("network/", "features/")) for name in names)


def test_another_base_network_is_refused(tmp_path: Path) -> None:
    predictor = make_predictor()
    path = predictor.save(tmp_path / "net.safetensors")
    other = copy.deepcopy(predictor.base)
    with torch.no_grad():
        other.conv0.bias[0] += 1e-6
    with pytest.raises(InvalidInputError, match="another base network") as caught:
        GradNetPredictor.load(path, other)
    assert weights_fingerprint(other) in str(caught.value)
    assert weights_fingerprint(predictor.base) in str(caught.value)


def test_base_network_with_other_running_statistics_is_refused(tmp_path: Path) -> None:
    found = CASES["residual"]()
    path = make_predictor(case=found).save(tmp_path / "net.safetensors")
    GradNetPredictor.load(path, found.model)
    found.model.block.norm.running_mean[0] += 1e-6
    with pytest.raises(InvalidInputError, match="another base network"):
        GradNetPredictor.load(path, found.model)


def test_fingerprint_tells_names_and_values_apart() -> None:
    first, second = nn.Linear(2, 2), nn.Linear(2, 2)
    assert weights_fingerprint(first) == weights_fingerprint(copy.deepcopy(first))
    assert weights_fingerprint(first) != weights_fingerprint(second)
    assert weights_fingerprint(first) != weights_fingerprint(nn.Sequential(first))


@pytest.mark.parametrize("part", [0.0, 0.001, 0.1, 0.5, 0.9, 0.999])
def test_file_cut_short_is_refused(part: float, tmp_path: Path) -> None:
    predictor = make_predictor(RECIPES["2018"])
    path = predictor.save(tmp_path / "net.safetensors")
    contents = path.read_bytes()
    path.write_bytes(contents[: int(part * len(contents))])
    with pytest.raises(GradnetError, match="net.safetensors"):
        GradNetPredictor.load(path, predictor.base)


def test_missing_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(GradnetError, match="no such file"):
        GradNetPredictor.load(tmp_path / "none.safetensors", CASES["cnn"]().model)


def test_file_of_another_kind_is_refused(tmp_path: Path) -> None:
    path = save_with_header(tmp_path / "base.safetensors", {}, {"model": "mlp"})
    with pytest.raises(DamagedFileError, match="holds no GradNet"):
        GradNetPredictor.load(path, CASES["cnn"]().model)


@pytest.mark.parametrize("fault", ["missing", "extra", "shape", "nan", "header"])
def test_tampered_file_is_refused(fault: str, tmp_path: Path) -> None:
    predictor = make_predictor(RECIPES["2018"])
    path = predictor.save(tmp_path / "net.safetensors")
    header, tensors = load_with_header(path)
    if fault == "missing":
        del tensors["network/output.weight"]
    if fault == "extra":
        tensors["network/more.weight"] = torch.zeros(2)
    if fault == "shape":
        tensors["network/output.bias"] = torch.zeros(2)
    if fault == "nan":
        tensors["network/output.bias"][0] = float("nan")
    if fault == "header":
        del header["recipe"]["hidden"]
    save_with_header(path, tensors, header)
    with pytest.raises(GradnetError):
        GradNetPredictor.load(path, predictor.base)


@pytest.mark.parametrize("name", ["base", "recipe", "num_classes"])
def test_header_with_a_missing_entry_is_refused(name: str, tmp_path: Path) -> None:
    predictor = make_predictor()
    path = predictor.save(tmp_path / "net.safetensors")
    header, tensors = load_with_header(path)
    del header[name]
    save_with_header(path, tensors, header)
    with pytest.raises(DamagedFileError, match="net.safetensors.*damaged"):
        GradNetPredictor.load(path, predictor.base)


def test_statistics_of_another_size_are_refused(tmp_path: Path) -> None:
    predictor = make_predictor(RECIPES["2018"])
    path = predictor.save(tmp_path / "net.safetensors")
    header, tensors = load_with_header(path)
    for name in [n for n in tensors if n.startswith("features/conv0/")]:
        tensors[name] = tensors[name].flatten()[:1]
    save_with_header(path, tensors, header)
    with pytest.raises(DamagedFileError, match="conv0"):
        GradNetPredictor.load(path, predictor.base)


def test_recipe_that_does_not_fit_the_base_is_refused() -> None:
    recipe = replace(GRADNET_2018, hidden=(1, 2))
    with pytest.raises(InvalidInputError, match="each of the 3 groups"):
        GradNetPredictor(CASES["cnn"]().model, recipe, NUM_CLASSES)
