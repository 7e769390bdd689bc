"""``gradnet extract`` and ``gradnet inspect``, from a checkpoint to a picture."""

import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from reference import assert_same, gradients_by_loop
from torch import nn

from gradnet.cli.main import main
from gradnet.store.reader import GradientStore

MODULE = """\
from torch import nn

def make(num_classes=3):
    return nn.Sequential(
        nn.Conv2d(3, 2, 3), nn.ReLU(), nn.Flatten(), nn.Linear(32, num_classes)
    )
"""


@pytest.fixture
def network(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> nn.Module:
    """The user's network, its module and its checkpoint in the current folder."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [str(tmp_path), *sys.path])
    monkeypatch.delitem(sys.modules, "networks_to_extract", raising=False)
    (tmp_path / "networks_to_extract.py").write_text(MODULE)
    import networks_to_extract

    torch.manual_seed(0)
    model: nn.Module = networks_to_extract.make()
    torch.save(model.state_dict(), "mine.pt")
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (12, 6, 6, 3), dtype=np.uint8)
    arrays = {"x_train": images, "y_train": np.arange(12) % 3}
    np.savez("data.npz", **arrays, x_test=images[:5], y_test=np.arange(5) % 3)
    return model.eval()


def extract(*arguments: str) -> None:
    network = ["--checkpoint", "mine.pt", "--model", "networks_to_extract:make"]
    common = ["--data", "data.npz", "--device", "cpu", "--out", "store"]
    main(["extract", *network, *common, *arguments])


def test_rows_are_the_gradients_of_the_users_network(
    network: nn.Module, capsys: pytest.CaptureFixture[str]
) -> None:
    extract("--part", "test")
    lines = capsys.readouterr().out.splitlines()
    assert "5 samples x 3 labels x 150 coordinates x 4 bytes" in lines[0]
    assert lines[1].startswith("to write: ") and " are free; about " in lines[1]
    assert lines[-1] == "store"
    store = GradientStore("store")
    with np.load("data.npz") as arrays:
        images = torch.from_numpy(arrays["x_test"]).permute(0, 3, 1, 2)
    labels = torch.arange(3).expand(5, -1)
    expected = gradients_by_loop(network, images.float() / 255, labels)
    rows = store.read()
    for block, name in (("0", "0.weight"), ("3", "3.weight")):
        assert_same(
            rows[f"block/{block}"], expected[name].flatten(2).flatten(0, 1), 1e-5
        )


def test_the_same_command_continues(network: nn.Module) -> None:
    extract("--shard-size", "2KB")
    shards = sorted(Path("store").glob("*.safetensors"))
    before = {path: path.read_bytes() for path in shards}
    assert len(shards) == 12
    shards[3].unlink()
    extract("--shard-size", "2KB", "--writer", "2/2")
    extract("--shard-size", "2KB")
    assert {path: path.read_bytes() for path in shards} == before


def test_writers_share_the_work(network: nn.Module) -> None:
    extract("--shard-size", "2KB", "--writer", "1/2")
    assert len(list(Path("store").glob("*.safetensors"))) == 6
    extract("--shard-size", "2KB", "--writer", "2/2")
    assert GradientStore("store").num_samples == 12


def test_a_plan_writes_nothing(
    network: nn.Module, capsys: pytest.CaptureFixture[str]
) -> None:
    extract("--plan-only")
    assert "12 samples" in capsys.readouterr().out
    assert not Path("store").exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--labels", "random"], "labels"),
        (["--project", "4"], "blocks.0"),
        (["--layers", "3"], "blocks"),
        (["--limit", "3"], "num_samples"),
        (["--dtype", "float16"], "dtype"),
        (["--mean", "0.5", "0.5", "0.5"], "mean"),
    ],
)
def test_a_store_of_something_else_is_refused(
    network: nn.Module,
    capsys: pytest.CaptureFixture[str],
    arguments: list[str],
    message: str,
) -> None:
    extract()
    with pytest.raises(SystemExit) as stopped:
        extract(*arguments)
    assert stopped.value.code == 2
    assert message in capsys.readouterr().err


@pytest.mark.parametrize("writer", ["0/2", "3/2", "2", "a/b"])
def test_no_such_writer(
    network: nn.Module, capsys: pytest.CaptureFixture[str], writer: str
) -> None:
    with pytest.raises(SystemExit):
        extract("--writer", writer)
    assert "say 1/2 and 2/2" in capsys.readouterr().err


def test_inspect(network: nn.Module, capsys: pytest.CaptureFixture[str]) -> None:
    extract("--labels", "true")
    capsys.readouterr()
    main(["inspect", "store"])
    out = capsys.readouterr().out
    assert '"conv' not in out and 'labels: "true"' in out
    rows = GradientStore("store").read()
    mean = torch.linalg.vector_norm(rows["block/3"], dim=1).mean()
    assert f"{mean:.4g}" in out and "all 1 shards are whole" in out
    with Image.open("store-norms.png") as picture:
        assert picture.size[0] > 100


def test_inspect_names_what_is_damaged(
    network: nn.Module, capsys: pytest.CaptureFixture[str]
) -> None:
    extract()
    path = Path("store/shard-00000.safetensors")
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(bytes(data))
    with pytest.raises(SystemExit):
        main(["inspect", "store"])
    assert "shard-00000.safetensors is damaged" in capsys.readouterr().err
    assert not Path("store-norms.png").exists()
