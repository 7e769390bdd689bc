"""The rows of a store are the gradients of its images at the labels asked for."""

import dataclasses
from pathlib import Path

import numpy as np
import pytest
import torch
from reference import assert_same, gradients_by_loop
from torch import Tensor, nn

from gradnet.checkpoints.inputs import Inputs, InputSettings, load_inputs, to_network
from gradnet.errors import GradnetError
from gradnet.gradients.projections import Projection, Subset
from gradnet.store.extraction import Extraction, ExtractionSettings

NUM_IMAGES, NUM_LOGITS = 11, 3


@pytest.fixture
def inputs(tmp_path: Path) -> Inputs:
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (NUM_IMAGES, 6, 6), dtype=np.uint8)
    labels = np.arange(NUM_IMAGES) % NUM_LOGITS
    arrays = {"x_train": images, "y_train": labels, "x_test": images, "y_test": labels}
    np.savez(tmp_path / "data.npz", **arrays)
    return load_inputs(InputSettings(data=str(tmp_path / "data.npz")))


@pytest.fixture
def network() -> nn.Module:
    torch.manual_seed(0)
    layers = nn.Conv2d(1, 2, 3), nn.Tanh(), nn.Flatten(), nn.Linear(32, NUM_LOGITS)
    return nn.Sequential(*layers).double().eval()


def make(network: nn.Module, inputs: Inputs, **settings: object) -> Extraction:
    return Extraction(network, inputs, ExtractionSettings(**settings), "mine")


def joined(
    extraction: Extraction, start: int = 0, stop: int = NUM_IMAGES
) -> dict[str, Tensor]:
    chunks = [
        {name: values.clone() for name, values in rows.items()}
        for rows in extraction.rows(start, stop)
    ]
    return {name: torch.cat([c[name] for c in chunks]) for name in chunks[0]}


def expected_blocks(
    network: nn.Module, inputs: Inputs, labels: Tensor, weight_decay: float = 0.0
) -> dict[str, Tensor]:
    x = to_network(network, inputs, slice(None))
    found = gradients_by_loop(network, x, labels)
    weights = {"0": "0.weight", "3": "3.weight"}
    return {
        f"block/{name}": (
            found[key] + weight_decay * network.get_parameter(key).detach()
        )
        .flatten(2)
        .flatten(0, 1)
        .float()
        for name, key in weights.items()
    }


def labels_of(rows: dict[str, Tensor], count: int) -> Tensor:
    return rows["label"].view(NUM_IMAGES, count)


def assert_close(actual: dict[str, Tensor], expected: dict[str, Tensor]) -> None:
    assert_same({name: actual[name] for name in expected}, expected, 1e-6)


@pytest.mark.parametrize("weight_decay", [0.0, 0.5])
def test_all_labels(network: nn.Module, inputs: Inputs, weight_decay: float) -> None:
    extraction = make(network, inputs, weight_decay=weight_decay)
    rows = joined(extraction)
    every = torch.arange(NUM_LOGITS).expand(NUM_IMAGES, -1)
    assert_close(rows, expected_blocks(network, inputs, every, weight_decay))
    assert torch.equal(labels_of(rows, NUM_LOGITS), every)
    assert torch.equal(rows["index"], torch.arange(NUM_IMAGES).repeat_interleave(3))
    assert torch.equal(rows["target"], inputs.targets.repeat_interleave(3))
    logits = network(to_network(network, inputs, slice(None))).detach().float()
    assert_same(rows["logits"], logits.repeat_interleave(3, dim=0), 1e-6)
    assert extraction.plan.num_rows == len(rows["index"])
    assert dict(extraction.plan.blocks) == {"0": 18, "3": 96}


@pytest.mark.parametrize("kind", ["random", "true", "predicted"])
def test_one_label(network: nn.Module, inputs: Inputs, kind: str) -> None:
    rows = joined(make(network, inputs, labels=kind, seed=5))
    labels = labels_of(rows, 1)
    assert_close(rows, expected_blocks(network, inputs, labels))
    if kind == "true":
        assert torch.equal(labels[:, 0], inputs.targets)
    elif kind == "predicted":
        x = to_network(network, inputs, slice(None))
        assert torch.equal(labels[:, 0], network(x).argmax(1))
    else:
        assert len(labels.unique()) == NUM_LOGITS
        again = joined(make(network, inputs, labels=kind, seed=5))
        other = joined(make(network, inputs, labels=kind, seed=6))
        assert torch.equal(again["label"], rows["label"])
        assert not torch.equal(other["label"], rows["label"])


@pytest.mark.parametrize("settings", [{}, {"labels": "random"}, {"project": 4}])
@pytest.mark.parametrize("max_memory", ["1", "20KB", "1GB"])
def test_chunks_and_ranges_change_nothing(
    network: nn.Module, inputs: Inputs, settings: dict[str, object], max_memory: str
) -> None:
    whole = joined(make(network, inputs, **settings))
    parts = make(network, inputs, max_memory=max_memory, **settings)
    both = [joined(parts, 0, 4), joined(parts, 4, NUM_IMAGES)]
    assert_close({n: torch.cat([b[n] for b in both]) for n in whole}, whole)


@pytest.mark.parametrize(
    ("settings", "reduction"),
    [
        ({"project": 5, "seed": 2}, Projection(5, seed=2)),
        ({"project": 5, "projection": "gaussian"}, Projection(5, "gaussian")),
        ({"subset": 7, "seed": 1}, Subset(7, seed=1)),
    ],
)
def test_reductions(
    network: nn.Module, inputs: Inputs, settings: dict[str, object], reduction: object
) -> None:
    extraction = make(network, inputs, **settings)
    rows = joined(extraction)
    x = to_network(network, inputs, slice(None))
    _, expected = extraction.extractor.reduced(x, reduction)
    assert_close(
        rows, {f"block/{n}": block.flatten(0, 1) for n, block in expected.items()}
    )
    assert dict(extraction.plan.blocks) == {n: b.shape[-1] for n, b in expected.items()}


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_types(network: nn.Module, inputs: Inputs, dtype: str) -> None:
    exact = joined(make(network, inputs))
    rows = joined(make(network, inputs, dtype=dtype))
    assert rows["block/3"].dtype == getattr(torch, dtype)
    error = torch.linalg.vector_norm(rows["block/3"].float() - exact["block/3"])
    assert error <= 0.01 * torch.linalg.vector_norm(exact["block/3"])
    assert rows["logits"].dtype == torch.float32


def test_the_fingerprint_tells_what_made_the_rows(
    network: nn.Module, inputs: Inputs
) -> None:
    plain = make(network, inputs).plan.fingerprint
    assert plain == make(network, inputs, max_memory="1KB", seed=3).plan.fingerprint
    changed = [
        make(network, inputs, **settings).plan.fingerprint
        for settings in (
            {"labels": "random"},
            {"labels": "random", "seed": 1},
            {"project": 4},
            {"project": 4, "seed": 1},
            {"weight_decay": 0.1},
            {"layers": ["3"]},
            {"biases": True},
        )
    ]
    network[0].weight.data[0, 0, 0, 0] += 1
    changed.append(make(network, inputs).plan.fingerprint)
    fewer = dataclasses.replace(inputs, description={"count": 3})
    changed.append(make(network, fewer).plan.fingerprint)
    assert len({repr(fingerprint) for fingerprint in [plain, *changed]}) == 10


def test_a_projection_and_a_subset_are_one_too_many() -> None:
    with pytest.raises(GradnetError, match="a projection or a subset, not both"):
        ExtractionSettings(project=3, subset=3).reduction()
