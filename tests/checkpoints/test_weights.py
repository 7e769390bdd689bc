"""Weights of other origin load safely, give the same logits, or are refused."""

import io
import operator
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.torch
import torch
from hypothesis import given
from hypothesis import strategies as st
from numpy.lib.stride_tricks import sliding_window_view
from torch import nn

from gradnet.checkpoints.weights import load_weights
from gradnet.errors import GradnetError
from gradnet.models import build_model

MAIN = "updater/model:main/predictor/"
LINKS = {"c0": "conv0", "c1": "conv1", "l1": "linear"}
SIZES = dict(in_channels=3, image_size=10, num_classes=4, width=3)


class Hostile:
    """Makes a file when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (self.path,)


def make_model(seed: int = 0) -> nn.Module:
    torch.manual_seed(seed)
    model = build_model("cnn2018", **SIZES)
    for parameter in model.parameters():
        nn.init.normal_(parameter, std=0.3)
    return model


def chainer_arrays(model: nn.Module, prefix: str) -> dict[str, np.ndarray]:
    layers = {link: model.get_submodule(name) for link, name in LINKS.items()}
    arrays = {}
    for link, layer in layers.items():
        arrays[f"{prefix}{link}/W"] = layer.weight.detach().numpy()
        arrays[f"{prefix}{link}/b"] = layer.bias.detach().numpy()
    return arrays


def trainer_arrays(model: nn.Module, trap: Path) -> dict[str, Any]:
    """What a trainer snapshot holds: the model, the optimizer, counters, a log."""
    arrays = chainer_arrays(model, MAIN)
    others = np.empty(1, dtype=object)
    others[0] = Hostile(trap)
    for key in list(arrays):
        slot = key.replace("model:main", "optimizer:main")
        arrays[f"{slot}/v"] = np.full_like(arrays[key], 9)
        arrays[f"{slot}/t"] = np.array(91016)
    return arrays | {
        "updater/optimizer:main/t": np.array(91016),
        "updater/iterator:main/order": np.arange(5),
        "extensions/LogReport/_log": np.array('[{"epoch": 1}]'),
        "_snapshot_elapsed_time": others,
    }


def assert_same_weights(found: nn.Module, source: nn.Module) -> None:
    assert found.state_dict().keys() == source.state_dict().keys()
    for name, tensor in source.state_dict().items():
        assert torch.equal(found.state_dict()[name], tensor), name


def convolve(x: np.ndarray, weight: np.ndarray, bias: np.ndarray, pad: int):
    x = np.pad(x, ((0, 0), (0, 0), (pad, pad), (pad, pad)))
    windows = sliding_window_view(x, weight.shape[2:], axis=(2, 3))
    return np.einsum("nihwkl,oikl->nohw", windows, weight) + bias[:, None, None]


def pool(x: np.ndarray, cover_all: bool) -> np.ndarray:
    """2x2 pooling; ``cover_all`` keeps the odd row and column at the end."""
    extra = [(0, size % 2 if cover_all else 0) for size in x.shape[2:]]
    x = np.pad(x, ((0, 0), (0, 0), *extra), constant_values=-np.inf)
    height, width = (size // 2 for size in x.shape[2:])
    x = x[:, :, : 2 * height, : 2 * width]
    return x.reshape(*x.shape[:2], height, 2, width, 2).max(axis=(3, 5))


def forward_2018(arrays: dict[str, np.ndarray], x: np.ndarray) -> np.ndarray:
    """The Chainer network, written out."""
    w = {key.removeprefix(MAIN): array for key, array in arrays.items()}
    x = pool(np.maximum(convolve(x, w["c0/W"], w["c0/b"], 1), 0), cover_all=False)
    x = pool(np.maximum(convolve(x, w["c1/W"], w["c1/b"], 2), 0), cover_all=True)
    return x.reshape(len(x), -1) @ w["l1/W"].T + w["l1/b"]


def nest(state: dict[str, Any], form: str) -> Any:
    """The state dict as the frameworks that wrap models leave it."""
    if form.endswith("."):
        return {form + name: tensor for name, tensor in state.items()}
    if form == "ddp of lightning":
        return {"state_dict": nest(nest(state, "model."), "module."), "epoch": 3}
    if form == "twice":
        return {"model": {"state_dict": state}, "step": 3}
    return {form: state, "epoch": 3, "optimizer": {"lr": 0.1}} if form else state


FORMS = (
    "",
    "state_dict",
    "model_state_dict",
    "model",
    "net",
    "module",
    "module.",
    "_orig_mod.",
    "model.",
    "net.",
    "ddp of lightning",
    "twice",
)


def loaded(path: Path | str, model: nn.Module, **options: Any) -> nn.Module:
    """The model, after its weights were loaded."""
    load_weights(path, model, **options)
    return model


@pytest.mark.parametrize("suffix", [".pt", ".pth"])
@pytest.mark.parametrize("form", FORMS)
def test_state_dict_loads_however_it_is_wrapped(
    tmp_path: Path, form: str, suffix: str
) -> None:
    source, path = make_model(1), tmp_path / f"weights{suffix}"
    torch.save(nest(source.state_dict(), form), path)
    assert_same_weights(loaded(path, make_model(2)), source)


@pytest.mark.parametrize("is_training", [True, False])
def test_loading_is_in_place_and_leaves_the_mode(
    tmp_path: Path, is_training: bool
) -> None:
    torch.save(make_model(1).state_dict(), tmp_path / "a.pt")
    model = make_model(2).train(is_training)
    weights = list(model.parameters())
    assert load_weights(tmp_path / "a.pt", model) is None
    assert all(map(operator.is_, model.parameters(), weights))
    assert model.training == is_training


@pytest.mark.parametrize("prefix", ["", "module.", "_orig_mod.module."])
def test_bare_safetensors_loads(tmp_path: Path, prefix: str) -> None:
    source, path = make_model(1), tmp_path / "weights.safetensors"
    state = {prefix + name: value for name, value in source.state_dict().items()}
    safetensors.torch.save_file(state, path)
    assert_same_weights(loaded(str(path), make_model(2)), source)


def test_prefix_that_is_the_models_own_stays(tmp_path: Path) -> None:
    source = nn.ModuleDict({"model": nn.Linear(2, 3)})
    torch.save(source.state_dict(), tmp_path / "a.pt")
    target = nn.ModuleDict({"model": nn.Linear(2, 3)})
    assert_same_weights(loaded(tmp_path / "a.pt", target), source)


def test_buffers_load_too(tmp_path: Path) -> None:
    source, target = (nn.Sequential(nn.Linear(2, 3), nn.BatchNorm1d(3)) for _ in "ab")
    source(torch.randn(8, 2))
    torch.save(source.state_dict(), tmp_path / "a.pt")
    assert_same_weights(loaded(tmp_path / "a.pt", target), source)
    assert target[1].num_batches_tracked == 1


@pytest.mark.parametrize("name", ["snapshot.npz", "snapshot_iter_91016"])
def test_chainer_trainer_snapshot_loads_its_model_alone(
    tmp_path: Path, name: str
) -> None:
    source, trap = make_model(1), tmp_path / "trap"
    with (tmp_path / name).open("wb") as file:
        np.savez_compressed(file, **trainer_arrays(source, trap))
    assert_same_weights(loaded(tmp_path / name, make_model(2)), source)
    assert not trap.exists()
    with np.load(tmp_path / name, allow_pickle=True) as whole:
        assert whole["_snapshot_elapsed_time"].shape == (1,)
    assert trap.exists(), "the trap itself must work, or this test shows nothing"


@pytest.mark.parametrize("prefix", ["predictor/", "", MAIN, "updater/model:main/"])
def test_chainer_model_file_loads(tmp_path: Path, prefix: str) -> None:
    source, path = make_model(1), tmp_path / "model.npz"
    np.savez(path, **chainer_arrays(source, prefix))
    assert_same_weights(loaded(path, make_model(2)), source)


def test_chainer_weights_give_the_logits_of_the_chainer_network(
    tmp_path: Path,
) -> None:
    arrays = chainer_arrays(make_model(1), MAIN)
    np.savez(tmp_path / "a.npz", **arrays)
    model = loaded(tmp_path / "a.npz", make_model(2)).double()
    x = np.random.RandomState(0).randn(3, 3, 10, 10)
    expected = forward_2018({k: v.astype(np.float64) for k, v in arrays.items()}, x)
    with torch.no_grad():
        found = model(torch.from_numpy(x)).numpy()
    np.testing.assert_allclose(found, expected, rtol=1e-10, atol=1e-10)
    assert np.abs(expected).max() > 0.1


def test_link_names_of_ones_own_are_followed(tmp_path: Path) -> None:
    source = nn.Sequential(nn.Linear(2, 3), nn.Sequential(nn.Linear(3, 2)))
    inner = source[1][0]
    np.savez(
        tmp_path / "a.npz",
        **{
            "predictor/first/W": source[0].weight.detach().numpy(),
            "predictor/first/b": source[0].bias.detach().numpy(),
            "predictor/1/0/W": inner.weight.detach().numpy(),
            "predictor/1/0/b": inner.bias.detach().numpy(),
        },
    )
    target = nn.Sequential(nn.Linear(2, 3), nn.Sequential(nn.Linear(3, 2)))
    found = loaded(tmp_path / "a.npz", target, names={"first": "0"})
    assert_same_weights(found, source)


def save_state(path: Path, **changes: torch.Tensor | None) -> None:
    state = make_model(1).state_dict() | {
        name.replace("__", "."): value for name, value in changes.items()
    }
    state = {name: value for name, value in state.items() if value is not None}
    if path.suffix == ".safetensors":
        safetensors.torch.save_file(state, path)
    elif path.suffix == ".npz":
        links = {name: link for link, name in LINKS.items()}
        arrays = {}
        for name, value in state.items():
            module, kind = name.split(".")
            key = f"{links.get(module, module)}/{'W' if kind == 'weight' else 'b'}"
            arrays[MAIN + key] = value.numpy()
        np.savez(path, **arrays)
    else:
        torch.save(state, path)


MISFITS = {
    "missing": (dict(linear__bias=None), "missing: linear.bias"),
    "extra": (dict(conv9__bias=torch.ones(2)), "not in the model: conv9.bias"),
    "shape": (
        dict(conv0__weight=torch.ones(3, 3, 4, 4)),
        r"conv0.weight has shape \(3, 3, 4, 4\), the model's has \(3, 3, 5, 5\)",
    ),
    "nan": (dict(linear__bias=torch.full((4,), torch.nan)), "linear.bias .*not finite"),
}


@pytest.mark.parametrize("suffix", [".pt", ".safetensors", ".npz"])
@pytest.mark.parametrize(("changes", "reason"), MISFITS.values(), ids=MISFITS)
def test_misfit_is_named_and_the_model_left_unchanged(
    tmp_path: Path, suffix: str, changes: dict[str, Any], reason: str
) -> None:
    path = tmp_path / f"weights{suffix}"
    save_state(path, **changes)
    model = make_model(2)
    with pytest.raises(GradnetError, match=rf"weights\{suffix} does not fit.*{reason}"):
        load_weights(path, model)
    assert_same_weights(model, make_model(2))
    assert model.training


def test_missing_file_is_told(tmp_path: Path) -> None:
    for name in ("a.pt", "a.safetensors", "a.npz", "a"):
        with pytest.raises(GradnetError, match=f"{name}: no such file"):
            load_weights(tmp_path / name, make_model())


@pytest.mark.parametrize("name", ["weights.h5", "weights", "weights.onnx"])
def test_unknown_format_is_told_with_the_known_ones(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_bytes(b"something else")
    with pytest.raises(
        GradnetError, match=r"unknown format .*\.safetensors, \.pt, \.pth, or an \.npz"
    ):
        load_weights(tmp_path / name, make_model())


def test_pickled_module_is_refused_with_the_remedy(tmp_path: Path) -> None:
    torch.save(make_model(1), tmp_path / "whole.pt")
    with pytest.raises(GradnetError, match=r"whole\.pt is refused.*state_dict\(\)"):
        load_weights(tmp_path / "whole.pt", make_model())


def test_hostile_checkpoint_is_not_executed(tmp_path: Path) -> None:
    trap = tmp_path / "trap"
    torch.save({"state_dict": Hostile(trap)}, tmp_path / "a.pt")
    with pytest.raises(GradnetError, match=r"a\.pt is refused"):
        load_weights(tmp_path / "a.pt", make_model())
    assert not trap.exists()


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        ({"epoch": 3, "lr": 0.1}, "holds no state dict; its keys are: epoch, lr"),
        ({}, "holds no state dict"),
        ({0: torch.ones(2)}, "holds no state dict; its keys are: 0"),
        ([torch.ones(2)], "holds a list, not a state dict"),
        (torch.ones(2), "holds a Tensor, not a state dict"),
    ],
    ids=["other keys", "empty", "numbered", "list", "tensor"],
)
def test_checkpoint_without_state_dict_is_told(
    tmp_path: Path, content: Any, reason: str
) -> None:
    torch.save(content, tmp_path / "a.pt")
    with pytest.raises(GradnetError, match=reason):
        load_weights(tmp_path / "a.pt", make_model())


def single_array() -> bytes:
    file = io.BytesIO()
    np.save(file, np.ones(3))
    return file.getvalue()


@pytest.mark.parametrize("content", [b"", b"text", single_array()])
def test_file_that_is_no_npz_is_told(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "a.npz").write_bytes(content)
    with pytest.raises(GradnetError, match=r"a\.npz cannot be read as an \.npz"):
        load_weights(tmp_path / "a.npz", make_model())


@pytest.mark.parametrize(
    ("key", "array"),
    [
        (MAIN + "bn/gamma", np.ones(3)),
        ("arr_0", np.ones(3)),
    ],
)
def test_array_that_is_no_weight_is_named(
    tmp_path: Path, key: str, array: np.ndarray
) -> None:
    np.savez(tmp_path / "a.npz", **{key: array})
    with pytest.raises(GradnetError, match=f"{key} is not a weight of a Chainer model"):
        load_weights(tmp_path / "a.npz", make_model())


@pytest.mark.parametrize(
    "array", [np.array(None), np.array("text"), np.ones(4, ">f4").astype(">f8")]
)
def test_array_that_cannot_be_read_is_named(tmp_path: Path, array: np.ndarray) -> None:
    arrays = chainer_arrays(make_model(1), MAIN) | {MAIN + "l1/b": array}
    np.savez(tmp_path / "a.npz", **arrays)
    with pytest.raises(GradnetError, match=f"{MAIN}l1/b cannot be read"):
        load_weights(tmp_path / "a.npz", make_model())


Write = Callable[[Path], None]


def write_compressed(path: Path) -> None:
    np.savez_compressed(path, **chainer_arrays(make_model(1), MAIN))


@pytest.fixture(scope="module", params=[".pt", ".safetensors", ".npz"])
def whole(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Path:
    path = tmp_path_factory.mktemp("foreign") / f"whole{request.param}"
    write: Write = write_compressed if request.param == ".npz" else save_state
    write(path)
    return path


@given(data=st.data())
def test_truncated_file_is_refused(whole: Path, data: st.DataObject) -> None:
    content = whole.read_bytes()
    path = whole.with_stem("cut")
    path.write_bytes(content[: data.draw(st.integers(0, len(content) - 1))])
    with pytest.raises(GradnetError, match=r"cut\.\w+ (is|cannot|holds)"):
        load_weights(path, make_model())


def test_damaged_chainer_file_is_refused_or_read_whole(tmp_path: Path) -> None:
    path = tmp_path / "damaged.npz"
    write_compressed(path)
    content = path.read_bytes()
    refused = 0
    for position in range(0, len(content), 37):
        damaged = bytearray(content)
        damaged[position] ^= 0xFF
        path.write_bytes(damaged)
        try:
            assert_same_weights(loaded(path, make_model(2)), make_model(1))
        except GradnetError as error:
            assert "damaged.npz" in str(error)
            refused += 1
    assert refused > 50
