"""torchvision imports beside a CPU build of torch, and its absence is told."""

import sys
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
import torch

from gradnet.core import torchvision as vision
from gradnet.errors import GradnetError

NMS = RuntimeError("operator torchvision::nms does not exist")


class Importer:
    """Stands for importlib: raises what it is given, then succeeds."""

    def __init__(self, *errors: Exception) -> None:
        self.errors = list(errors)
        self.module = ModuleType("torchvision.datasets")

    def import_module(self, name: str) -> ModuleType:
        assert name == "torchvision.datasets"
        if self.errors:
            raise self.errors.pop(0)
        return self.module


class Recorder:
    """Stands for torch.library.Library: notes what is defined."""

    made: list["Recorder"] = []

    def __init__(self, *args: Any) -> None:
        self.args, self.schemas = args, []
        self.made.append(self)

    def define(self, schema: str) -> None:
        self.schemas.append(schema.split("(")[0])


@pytest.fixture
def modules(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """What the importer takes for sys.modules."""
    names = ("torchvision", "torchvision.ops", "torchvision_other", "os")
    modules = dict.fromkeys(names)
    monkeypatch.setattr(vision, "sys", SimpleNamespace(modules=modules))
    monkeypatch.setattr(vision, "_LIBRARIES", [])
    monkeypatch.setattr(torch.library, "Library", Recorder)
    monkeypatch.setattr(Recorder, "made", [])
    return modules


def test_torchvision_data_sets_are_imported_once() -> None:
    datasets = vision.import_torchvision()
    assert datasets.__name__ == "torchvision.datasets"
    assert hasattr(datasets, "ImageFolder") and hasattr(datasets, "CIFAR10")
    assert vision.import_torchvision() is datasets
    assert sys.modules["torchvision.datasets"] is datasets


def test_missing_operators_are_declared_and_the_import_tried_again(
    modules: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    importer = Importer(NMS)
    monkeypatch.setattr(vision, "importlib", importer)
    assert vision.import_torchvision() is importer.module
    (library,) = Recorder.made
    assert library.args == ("torchvision", "FRAGMENT")
    assert library.schemas == ["nms", "qnms"]
    assert vision._LIBRARIES == [library]
    assert list(modules) == ["torchvision_other", "os"]


def test_working_torchvision_is_left_alone(
    modules: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(vision, "importlib", Importer())
    vision.import_torchvision()
    assert not Recorder.made
    assert "torchvision" in modules


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (RuntimeError("built for another torch"), "built for another torch"),
        (ModuleNotFoundError("No module named 'torchvision'"), "pip install"),
        (
            ImportError("libpng.so is missing"),
            r"libpng.*pip install 'gradnet\[torchvision\]'",
        ),
    ],
)
def test_other_failures_are_told_and_nothing_is_declared(
    error: Exception,
    reason: str,
    modules: dict[str, Any],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(vision, "importlib", Importer(error))
    with pytest.raises(GradnetError, match=f"torchvision cannot be imported.*{reason}"):
        vision.import_torchvision()
    assert not Recorder.made
