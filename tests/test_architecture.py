"""Every module has a docstring, a test of its name, and a limited size."""

import ast
import importlib
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "gradnet"

FILES = sorted(p for p in PACKAGE.rglob("*.py") if p != PACKAGE / "__init__.py")
FOLDERS = [path for path in FILES if path.name == "__init__.py"]


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(PACKAGE)))
def test_every_module_says_in_one_line_what_it_is_for(path):
    docstring = ast.get_docstring(ast.parse(path.read_text()))
    assert docstring and docstring.splitlines()[0].endswith((".", ";"))


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(PACKAGE)))
def test_no_module_or_function_is_too_long(path):
    text = path.read_text()
    assert text.count("\n") <= 400
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.FunctionDef):
            # Examples in a docstring are no reason to split a function.
            code = node.body[1:] if ast.get_docstring(node) else node.body
            first = code[0].lineno if code else node.end_lineno
            assert node.end_lineno - first < 60, node.name


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(PACKAGE)))
def test_every_module_has_a_test_of_its_name(path):
    relative = path.relative_to(PACKAGE)
    # Tested through all others, or by the tests of the command line.
    if relative.name in ("__init__.py", "__main__.py", "errors.py"):
        return
    if relative.parts[0] != "cli":
        assert (ROOT / "tests" / relative.parent / f"test_{relative.name}").exists()


@pytest.mark.parametrize("path", FOLDERS, ids=lambda p: str(p.parent.name))
def test_every_folder_lists_the_names_that_it_offers(path):
    body = ast.parse(path.read_text()).body
    folder = ".".join(path.relative_to(ROOT).parts[:-1])
    offered = {
        name.asname or name.name
        for node in body
        if isinstance(node, ast.ImportFrom) and node.module.startswith(folder)
        for name in node.names
    }
    defined = (ast.FunctionDef, ast.ClassDef)
    offered |= {node.name for node in body if isinstance(node, defined)}
    module = importlib.import_module(folder)
    listed = set(getattr(module, "__all__", ()))
    assert {name for name in offered if not name.startswith("_")} <= listed
    assert all(hasattr(module, name) for name in listed)


def test_every_dependency_and_extra_has_its_reason():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    page = (ROOT / "docs/dependencies.md").read_text()
    rows = "\n".join(line.split("|")[1] for line in page.splitlines() if "|" in line)
    for requirement in project["dependencies"]:
        name = re.split("[^A-Za-z0-9-]", requirement)[0]
        assert re.search(rf"\b{name}\b", rows), name
    for extra in project["optional-dependencies"]:
        assert f"`{extra}`" in rows


def test_help_does_not_import_torch():
    code = (
        "import sys, gradnet.cli.main\n"
        "try: gradnet.cli.main.main(['--help'])\n"
        "except SystemExit: pass\n"
        "assert 'torch' not in sys.modules and 'numpy' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True)
