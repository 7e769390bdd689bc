"""GradNet learns from a store what it learns from fresh gradients."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from gradnet.checkpoints.inputs import InputSettings, load_inputs
from gradnet.checkpoints.snapshots import Snapshot, load_snapshot
from gradnet.classifier.estimator import GradNetClassifier
from gradnet.classifier.fit import fit_gradnet
from gradnet.classifier.recipes import RECIPES, Recipe
from gradnet.data.datasets import load_data
from gradnet.errors import InvalidInputError
from gradnet.store.extraction import Extraction, ExtractionSettings
from gradnet.store.reader import GradientStore
from gradnet.store.writer import write_store
from gradnet.training.loop import TrainingSettings

SNAPSHOT = (
    Path(__file__).parents[2] / "checkpoints" / "digits" / "level-0.7.safetensors"
)
SHORT = TrainingSettings(
    steps=200, batch_size=32, optimizer="adamw", learning_rate=3e-3, evaluate_every=100
)


def short(name: str) -> Recipe:
    return replace(RECIPES[name], training=SHORT)


@pytest.fixture(scope="module")
def snapshot() -> Snapshot:
    return load_snapshot(SNAPSHOT)


def write(snapshot: Snapshot, place: Path, **settings: object) -> str:
    inputs = load_inputs(InputSettings(limit=300), snapshot.info)
    wanted = ExtractionSettings(**{"shard_size": "8MB", **settings})
    extraction = Extraction(snapshot.model, inputs, wanted)
    write_store(str(place), extraction.plan, extraction.rows)
    return str(place)


@pytest.fixture(scope="module")
def place(snapshot: Snapshot, tmp_path_factory: pytest.TempPathFactory) -> str:
    return write(snapshot, tmp_path_factory.mktemp("stored") / "store")


def accuracies(
    classifier: GradNetClassifier, snapshot: Snapshot
) -> tuple[float, float]:
    """On test images: of the classifier, and of the base network."""
    data = load_data("digits")
    x = snapshot.info.make_augmentation().evaluate(data.x_test)
    base = (snapshot.model(x).argmax(1) == data.y_test).float().mean()
    return classifier.score(x.numpy(), data.y_test.numpy()), float(base)


def test_it_beats_the_base_network(place: str, snapshot: Snapshot) -> None:
    classifier = GradNetClassifier(snapshot.model, short("default"), device="cpu")
    found, base = accuracies(classifier.fit_store(place), snapshot)
    assert found > base + 0.05
    assert classifier.classes_.tolist() == list(range(10))


def test_the_sum_head_and_fitted_features(snapshot: Snapshot, tmp_path: Path) -> None:
    recipe = short("gradnet2018")
    place = write(snapshot, tmp_path / "store", weight_decay=recipe.weight_decay_term)
    predictor, history = fit_gradnet(snapshot.model, GradientStore(place), recipe)
    assert predictor.features.scale is not None
    assert set(predictor.features.scale.statistics) == {"conv0", "conv1", "linear"}
    assert history.records[-1]["train_loss"] < history.records[1]["train_loss"] * 1.02


def test_the_same_seed_gives_the_same_numbers(place: str, snapshot: Snapshot) -> None:
    first, second, other = (
        fit_gradnet(snapshot.model, GradientStore(place), short("default"), seed=seed)
        for seed in (1, 1, 2)
    )
    weights = [
        fitted[0].network.state_dict()["first.weights.0"]
        for fitted in (first, second, other)
    ]
    assert torch.equal(weights[0], weights[1])
    assert not torch.equal(weights[0], weights[2])


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"labels": "true"}, "its labels is 'true', .* need 'all'"),
        ({"project": 4}, "its reduction is"),
        ({"weight_decay": 0.1}, "its weight_decay is 0.1"),
        ({"layers": ["linear"]}, "its layers is"),
    ],
)
def test_gradients_that_prediction_cannot_repeat(
    snapshot: Snapshot, tmp_path: Path, settings: dict[str, object], message: str
) -> None:
    store = GradientStore(write(snapshot, tmp_path / "store", **settings))
    with pytest.raises(InvalidInputError, match=f"does not fit: {message}"):
        fit_gradnet(snapshot.model, store, RECIPES["default"])


def test_a_store_of_another_network(place: str) -> None:
    other = load_snapshot(SNAPSHOT.with_name("level-0.5.safetensors")).model
    with pytest.raises(InvalidInputError, match="its weights is"):
        GradNetClassifier(other).fit_store(place)


def test_no_base_network(place: str) -> None:
    with pytest.raises(InvalidInputError, match="holds no base network"):
        GradNetClassifier().fit_store(place)


def test_batches_have_every_training_sample_once_an_epoch(
    place: str, snapshot: Snapshot
) -> None:
    from gradnet.classifier.predictor import GradNetPredictor
    from gradnet.classifier.sources import StoredGradients

    predictor = GradNetPredictor(snapshot.model, short("default"), 10)
    train = torch.arange(0, 300, 3)
    store = GradientStore(place)
    source = StoredGradients(predictor, store, train, train + 1, seed=0)
    steps = len(train) // source.batch_size
    epochs = [
        np.concatenate([source.indices(e * steps + s) for s in range(steps)])
        for e in range(2)
    ]
    for epoch in epochs:
        assert len(set(epoch)) == steps * source.batch_size
        assert set(epoch) <= set(train.tolist())
    assert not np.array_equal(*epochs)
