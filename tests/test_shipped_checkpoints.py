"""What ships is what the manifest says, loads, and is as accurate as it says."""

from pathlib import Path

import pytest

from gradnet.checkpoints.snapshots import load_snapshot
from gradnet.classifier.predictor import GradNetPredictor
from gradnet.core.files import read_json, sha256
from gradnet.data.problem import ProblemSettings, SplitSettings, make_problem
from gradnet.training.supervised import evaluate

FOLDER = Path(__file__).parents[1] / "checkpoints"
MANIFEST = read_json(FOLDER / "manifest.json")


def load(name):
    about = MANIFEST[name]
    if about["kind"] == "base network":
        return load_snapshot(FOLDER / name).model
    base = load_snapshot(FOLDER / about["base"]).model
    return GradNetPredictor.load(FOLDER / name, base)


def test_the_manifest_names_every_file():
    files = {str(path.relative_to(FOLDER)) for path in FOLDER.rglob("*.safetensors")}
    assert files == set(MANIFEST)
    assert sum((FOLDER / name).stat().st_size for name in files) < 20e6


@pytest.mark.parametrize("name", MANIFEST)
def test_a_file_is_what_its_hash_says_and_loads(name):
    assert sha256(FOLDER / name) == MANIFEST[name]["sha256"]
    assert load(name) is not None


def accuracy_of(name, problem):
    loaded = load(name)
    if isinstance(loaded, GradNetPredictor):
        x = problem.augmentation.evaluate(problem.data.x_test)
        hits = loaded.scores(x).argmax(1) == problem.data.y_test
        return hits.float().mean().item()
    return evaluate(loaded, problem.test)["accuracy"]


@pytest.mark.parametrize("name", [n for n in MANIFEST if n.startswith("digits/")])
def test_digits_accuracy_is_reproduced(name):
    problem = make_problem(ProblemSettings(device="cpu"))
    expected = MANIFEST[name]["test_accuracy"]
    assert accuracy_of(name, problem) == pytest.approx(expected, abs=1e-4)


@pytest.mark.realdata
@pytest.mark.parametrize("name", [n for n in MANIFEST if not n.startswith("digits/")])
def test_accuracy_on_real_data_is_reproduced(name, real_data):
    data = {"cifar10-jpeg": "cifar10.npz", "mnist": "mnist.npz"}[Path(name).parent.name]
    problem = make_problem(
        ProblemSettings(data=str(real_data / data), device="cpu", split=SplitSettings())
    )
    expected = MANIFEST[name]["test_accuracy"]
    assert accuracy_of(name, problem) == pytest.approx(expected, abs=3e-4)
