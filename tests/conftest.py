"""What every test shares: seeds, few threads, and skips for what this machine lacks."""

import os
from pathlib import Path

import pytest
import store_cases
import torch
from hypothesis import settings

from gradnet.store.reader import GradientStore

# The processes that tests start share the cores as well: notebooks, commands, kills.
os.environ["OMP_NUM_THREADS"] = "1"
settings.register_profile("gradnet", deadline=None, max_examples=25, derandomize=True)
settings.load_profile("gradnet")


@pytest.fixture(autouse=True)
def seeded() -> None:
    """Two workers share two cores: one thread each, and the same numbers every time."""
    torch.set_num_threads(1)
    torch.manual_seed(0)


@pytest.fixture
def real_data() -> Path:
    """The folder of ``cifar10.npz`` and ``mnist.npz``."""
    return Path(os.environ["GRADNET_DATA"])


@pytest.fixture(scope="session")
def store_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small store, to be read only."""
    folder = tmp_path_factory.mktemp("store")
    store_cases.write(folder)
    return folder


@pytest.fixture
def store(store_folder: Path) -> GradientStore:
    """The same, open."""
    return GradientStore(str(store_folder))


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Skip what needs a GPU or real data where there is none."""
    folder = Path(os.environ.get("GRADNET_DATA", "/nonexistent"))
    has_data = all((folder / name).is_file() for name in ("cifar10.npz", "mnist.npz"))
    for item in items:
        if "cuda" in item.keywords and not torch.cuda.is_available():
            item.add_marker(pytest.mark.skip(reason="needs a GPU"))
        if "realdata" in item.keywords and not has_data:
            reason = "GRADNET_DATA names no folder with cifar10.npz and mnist.npz"
            item.add_marker(pytest.mark.skip(reason=reason))
