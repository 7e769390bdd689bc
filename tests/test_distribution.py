"""Wheel and sdist are complete, and the wheel works with what it declares alone."""

import os
import re
import subprocess
import sys
import tarfile
import venv
import zipfile
from email import message_from_bytes
from email.message import Message
from importlib.metadata import distribution
from pathlib import Path

import pytest

import gradnet

ROOT = Path(__file__).parents[1]
pytestmark = pytest.mark.slow


def _run(command: list[object], cwd: Path) -> str:
    env = {k: v for k, v in os.environ.items() if not k.startswith("PYTHON")}
    run = subprocess.run(
        [str(part) for part in command],
        cwd=cwd,
        env=env,
        capture_output=True,
        text=True,
    )
    assert run.returncode == 0, run.stdout + run.stderr
    return run.stdout


@pytest.fixture(scope="module")
def built(tmp_path_factory) -> tuple[Path, Path]:
    """The sdist, and the wheel that is built from the sdist."""
    for name in ("build", "hatchling", "packaging"):
        pytest.importorskip(name)
    folder = tmp_path_factory.mktemp("dist")
    build = [sys.executable, "-m", "build", "--no-isolation", "--outdir", folder, ROOT]
    _run(build, folder)
    (sdist,), (wheel,) = folder.glob("*.tar.gz"), folder.glob("*.whl")
    return sdist, wheel


@pytest.fixture(scope="module")
def metadata(built) -> Message:
    """What the wheel says of itself."""
    with zipfile.ZipFile(built[1]) as wheel:
        (name,) = [n for n in wheel.namelist() if n.endswith(".dist-info/METADATA")]
        return message_from_bytes(wheel.read(name))


def test_the_wheel_holds_the_package_and_nothing_else(built):
    with zipfile.ZipFile(built[1]) as wheel:
        names = set(wheel.namelist())
    modules = (ROOT / "gradnet").rglob("*.py")
    expected = {str(path.relative_to(ROOT)) for path in modules}
    expected.add("gradnet/py.typed")
    assert {name for name in names if ".dist-info/" not in name} == expected
    assert any(name.endswith("licenses/LICENSE") for name in names)


def test_the_sdist_holds_what_the_wheel_and_its_tests_need(built):
    with tarfile.open(built[0]) as sdist:
        names = {name.partition("/")[2] for name in sdist.getnames()}
    for name in ("LICENSE", "README.md", "CHANGELOG.md", "CITATION.cff", "Makefile"):
        assert name in names or not (ROOT / name).exists()
    assert {"LICENSE", "README.md", "pyproject.toml", "tests/conftest.py"} <= names
    assert not [name for name in names if name.endswith((".safetensors", ".png"))]


def test_the_metadata_has_authors_urls_classifiers_and_the_one_version(metadata):
    assert metadata["Version"] == gradnet.__version__
    assert metadata["Author"] == "The gradnet developers"
    urls = [url.partition(",")[0] for url in metadata.get_all("Project-URL")]
    assert sorted(urls) == ["Changelog", "Documentation", "Homepage", "Issues"]
    assert "Typing :: Typed" in metadata.get_all("Classifier")


def _closure(requirements: list[str]) -> set[str]:
    """The distributions that requirements need, and those that these need."""
    from packaging.requirements import Requirement

    names: set[str] = set()
    todo = [Requirement(text) for text in requirements]
    while todo:
        found = todo.pop()
        extras = [*found.extras, ""]
        if found.marker and not found.marker.evaluate({"extra": ""}):
            continue
        known = found.name.lower() in names and not found.extras
        names.add(found.name.lower())
        if not known:
            for text in distribution(found.name).requires or []:
                inner = Requirement(text)
                if not inner.marker or any(
                    inner.marker.evaluate({"extra": extra}) for extra in extras
                ):
                    inner.marker = None
                    todo.append(inner)
    return names


@pytest.fixture(scope="module")
def python(built, metadata, tmp_path_factory) -> Path:
    """The interpreter of an environment with the wheel and what it declares, alone.

    The distributions are linked, not installed: torch alone would take minutes.
    """
    folder = tmp_path_factory.mktemp("empty")
    venv.create(folder, symlinks=True)
    (site,) = (folder / "lib").glob("python*/site-packages")
    for name in _closure(metadata.get_all("Requires-Dist")):
        files = distribution(name).files or []
        for top in {file.parts[0] for file in files} - {".."}:
            target = Path(str(distribution(name).locate_file(top)))
            if not (site / top).exists() and target.exists():
                (site / top).symlink_to(target)
    python = folder / "bin/python"
    pip = [sys.executable, "-m", "pip", "--python", python, "install", "--no-deps"]
    _run([*pip, "--no-index", "--quiet", built[1]], folder)
    return python


def test_the_command_works(python, tmp_path):
    command = python.parent / "gradnet"
    assert _run([command, "--version"], tmp_path).strip() == gradnet.__version__
    assert "learning_rate" in _run([command, "recipe", "default"], tmp_path)
    train = ["train-base", "--data=digits", "--out=base", "--levels=[0.2]"]
    _run([command, *train, "--training.steps=200"], tmp_path)
    assert list((tmp_path / "base").rglob("*.safetensors"))


def test_every_module_is_imported_without_the_extras(python, tmp_path):
    modules = sorted(
        re.sub(r"\.__init__$", "", ".".join(path.with_suffix("").parts))
        for path in (p.relative_to(ROOT) for p in (ROOT / "gradnet").rglob("*.py"))
        if path.name != "__main__.py"
    )
    code = (
        "import importlib, importlib.util, pathlib, sys, gradnet\n"
        "assert pathlib.Path(gradnet.__file__).is_relative_to(sys.prefix)\n"
        "assert importlib.util.find_spec('torchvision') is None\n"
        f"for name in {modules}: importlib.import_module(name)\n"
        "try: gradnet.load_user_model('torchvision:resnet18')\n"
        "except gradnet.GradnetError as error: print(error)\n"
    )
    said = _run([python, "-c", code], tmp_path)
    assert "pip install 'gradnet[torchvision]'" in said
