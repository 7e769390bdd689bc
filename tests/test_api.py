"""The public names are few, lazy, and known to type checkers and editors."""

import ast
import subprocess
import sys
import textwrap
import venv
from importlib import import_module
from pathlib import Path

import pytest

import gradnet

ROOT = Path(__file__).parents[1]

# As a user writes it: gradients of one's own network, then GradNet, then a snapshot.
SCRIPT = """
    import numpy as np
    import torch
    from torch import nn

    import gradnet
    from gradnet.data import ProblemSettings, make_problem
    from gradnet.models import build_model, register_model

    def main(path: str) -> float:
        problem = make_problem(ProblemSettings(data="digits"))
        model: nn.Module = build_model("mlp", image_size=8).eval()
        extractor = gradnet.GradientExtractor(model, layers="linear1")
        x = problem.augmentation.evaluate(problem.data.x_test[:4])
        gradients: dict[str, torch.Tensor] = extractor.all_labels(x)
        shapes = {name: tuple(value.shape) for name, value in gradients.items()}
        try:
            snapshot = gradnet.load_snapshot(path)
        except gradnet.DamagedFileError as error:
            raise SystemExit(str(error)) from error
        recipe: gradnet.Recipe = gradnet.RECIPES["default"]
        classifier = gradnet.GradNetClassifier(base=snapshot.model, recipe=recipe)
        inputs = problem.augmentation.evaluate(problem.data.x_train).numpy()
        labels = problem.data.y_train.numpy()
        classifier.fit(inputs, labels)
        predictions = classifier.predict(x.numpy())
        print(shapes, snapshot.info.level, predictions)
        gradnet.load_weights("my.pt", model)
        register_model("mine", nn.Identity)
        return float(np.mean(predictions == problem.data.y_test[:4].numpy()))

    if __name__ == "__main__":
        print(main("level-0.7.safetensors"))
"""


def _lists() -> dict[str, set[str]]:
    """The names in each of the three lists of ``gradnet/__init__.py``."""
    tree = ast.parse((ROOT / "gradnet/__init__.py").read_text())
    (branch,) = [node for node in tree.body if isinstance(node, ast.If)]
    typed = {
        (f"{node.module}", name.name, name.asname)
        for node in branch.body
        if isinstance(node, ast.ImportFrom)
        for name in node.names
    }
    assert all(name == alias for _, name, alias in typed), "write X as X"
    return {
        "public": set(gradnet.__all__),
        "typed": {f"{module}.{name}" for module, name, _ in typed},
        "lazy": {f"{module}.{name}" for name, module in gradnet._MODULES.items()},
    }


def test_the_three_lists_name_the_same():
    lists = _lists()
    assert lists["typed"] == lists["lazy"]
    assert lists["public"] == {name.rpartition(".")[2] for name in lists["lazy"]}
    assert len(gradnet.__all__) == len(lists["public"]) <= 24


@pytest.mark.parametrize("name", gradnet.__all__)
def test_every_public_name_is_that_of_its_module(name):
    module = import_module(gradnet._MODULES[name])
    assert getattr(gradnet, name) is getattr(module, name) is not None
    assert name in dir(gradnet)


def test_an_unknown_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="'gradnet' has no attribute 'Gradient'"):
        gradnet.Gradient  # noqa: B018


def _run(code: str) -> None:
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert run.returncode == 0, run.stderr


def test_importing_the_package_or_its_errors_does_not_import_torch():
    _run(
        "import sys, gradnet; gradnet.GradnetError, dir(gradnet)\n"
        "assert not {'torch', 'numpy', 'sklearn'} & set(sys.modules)"
    )


def test_the_library_works_without_what_only_commands_and_studies_need():
    only = ("jsonargparse", "matplotlib", "pandas", "rich", "torchvision", "yaml")
    _run(
        "import sys\n"
        f"sys.modules.update(dict.fromkeys({only}))\n"
        "import gradnet, gradnet.data, gradnet.models, gradnet.growth, gradnet.store\n"
        "library = set(gradnet.__all__) - {'study_network'}  # which is a study\n"
        "for name in library: getattr(gradnet, name)\n"
        "data = gradnet.data.load_data('digits')\n"
        "model = gradnet.models.build_model('mlp', image_size=8).eval()\n"
        "gradnet.GradientExtractor(model).all_labels(data.x_test[:2].float())\n"
    )


@pytest.fixture(scope="module")
def outside(tmp_path_factory) -> Path:
    """An environment that finds the package as if installed, outside the repository."""
    folder = tmp_path_factory.mktemp("outside")
    venv.create(folder / "venv", symlinks=True)
    (site,) = (folder / "venv/lib").glob("python*/site-packages")
    paths = [str(ROOT), *(path for path in sys.path if path.endswith("-packages"))]
    (site / "gradnet.pth").write_text("\n".join(paths))
    return folder


def _mypy(folder: Path, script: str) -> str:
    (folder / "script.py").write_text(textwrap.dedent(script))
    command = [sys.executable, "-m", "mypy", "--strict", "--config-file=", "script.py"]
    options = ["--python-executable", folder / "venv/bin/python"]
    run = subprocess.run(
        [*command, *options], cwd=folder, env={}, capture_output=True, text=True
    )
    return run.stdout + run.stderr


@pytest.mark.slow
def test_a_users_script_passes_mypy_strict(outside):
    pytest.importorskip("mypy")
    assert len(SCRIPT.strip().splitlines()) <= 40
    assert _mypy(outside, SCRIPT).startswith("Success: no issues found")
    wrong = SCRIPT.replace("all_labels(x)", "all_label(x)")
    assert '"GradientExtractor" has no attribute "all_label"' in _mypy(outside, wrong)


@pytest.mark.slow
def test_type_checkers_know_every_public_name(outside):
    pytest.importorskip("mypy")
    names = "\n".join(f"reveal_type(gradnet.{name})" for name in gradnet.__all__)
    answer = _mypy(outside, f"import gradnet\n{names}\ngradnet.Gradient\n")
    revealed = [line for line in answer.splitlines() if "Revealed type is" in line]
    assert len(revealed) == len(gradnet.__all__)
    for line in revealed:
        assert not line.endswith(('"Any"', '"object"', '"builtins.object"')), line
    assert 'Module has no attribute "Gradient"' in answer
