"""The rooms of the house: imports go one way; each has a first line and a test."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "gradnet"

# A room may import rooms of the rows above its own only; `base.py` of its folder too.
ROWS = (
    {"errors", "pickled"},
    {
        "blocks",
        "exported",
        "files",
        "order_statistics",
        "pictures",
        "progress",
        "runtime",
        "store_plan",
        "threads",
        "vision",
    },
    {
        "augmentation",
        "classic_problems",
        "cotangents",
        "data",
        "evaluation_mode",
        "factors",
        "places",
    }
    | {"models", "peak_memory", "running_statistics", "splits", "store_shard"},
    {
        "costs",
        "curvature_recursion",
        "functional_engine",
        "layer_rules",
        "reductions",
        "single_samples",
    }
    | {"store", "store_writer"},
    {"store_dataset", "surgery"},
    {"factored"},
    {"engines"},
    {"block_sparse", "features", "gradients", "problem", "snapshots"},
    {
        "agreement",
        "curvature",
        "foreign",
        "network",
        "supervised",
        "training",
        "user_data",
    },
    {"base_network", "controls", "recipes", "tangent", "user_model"},
    {"predictor", "run_folder"},
    {"classifier", "extraction", "growth", "stored"},
    {"estimator", "growth_study", "study"},
    {"growth_report", "report", "trials_report"},
    {"arguments", "cli"},
    {"commands"},
    {"__main__"},
)
LEVEL = {room: level for level, row in enumerate(ROWS) for room in row}
FILES = sorted(p for p in PACKAGE.rglob("*.py") if p != PACKAGE / "__init__.py")


def room_of(path: Path) -> str:
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


def imported_rooms(path: Path) -> set[str]:
    tree = ast.parse(path.read_text())
    names = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node.module:
            names |= {f"{node.module}.{alias.name}" for alias in node.names}
        elif isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
    return {n.split(".")[1] for n in names if n.startswith("gradnet.")}


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(PACKAGE)))
def test_imports_come_from_the_rows_above(path):
    room = room_of(path)
    for imported in imported_rooms(path) - {room, "__version__"}:
        assert LEVEL[imported] < LEVEL[room], f"{room} must not import {imported}"


def test_every_room_has_its_row():
    assert {room_of(path) for path in FILES} == set(LEVEL)


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(PACKAGE)))
def test_every_module_says_in_one_line_what_it_is_for(path):
    docstring = ast.get_docstring(ast.parse(path.read_text()))
    assert docstring and docstring.splitlines()[0].endswith((".", ";"))


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(PACKAGE)))
def test_no_module_or_function_outgrows_its_room(path):
    text = path.read_text()
    assert text.count("\n") <= 450
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.FunctionDef):
            assert node.end_lineno - node.lineno < 60, node.name


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(PACKAGE)))
def test_every_module_has_a_test_of_its_name(path):
    relative = path.relative_to(PACKAGE)
    if relative.name == "__init__.py":
        relative = relative.parent / f"{relative.parent.name}.py"
    by_the_command_line = {"errors", "__main__", "commands", "arguments"}
    if room_of(path) not in by_the_command_line:
        assert (ROOT / "tests" / relative.parent / f"test_{relative.name}").exists()


def test_help_does_not_import_torch():
    code = (
        "import sys, gradnet.cli\n"
        "try: gradnet.cli.main(['--help'])\n"
        "except SystemExit: pass\n"
        "assert 'torch' not in sys.modules and 'numpy' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True)


def test_every_public_name_can_be_imported():
    import gradnet

    for name in gradnet.__all__:
        assert getattr(gradnet, name) is not None
    assert len(gradnet.__all__) <= 16
