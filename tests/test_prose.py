"""Every path, command, module and make target that the prose names exists."""

import ast
import importlib
import re
import tomllib
from pathlib import Path

import pytest

from gradnet.cli.commands import COMMANDS

ROOT = Path(__file__).parents[1]
PAGES = sorted(
    [
        ROOT / "README.md",
        ROOT / "CONTRIBUTING.md",
        ROOT / "CHANGELOG.md",
        *ROOT.glob("docs/*.md"),
        *ROOT.glob("checkpoints/*.md"),
        *ROOT.glob("benchmarks/**/*.md"),
        *ROOT.glob("notebooks/*.ipynb"),
    ]
)
MODULES = sorted((ROOT / "gradnet").rglob("*.py"))
# Entry point groups look like dotted names.
GROUPS = {
    group
    for path in MODULES
    for group in re.findall(r'\bgroup="(gradnet\.\w+)"', path.read_text())
}
SUFFIXES = "md|py|toml|yaml|ipynb|json|png|csv|safetensors"


def prose_of(path: Path) -> str:
    """A page's text; of a module the docstrings."""
    if path.suffix != ".py":
        return path.read_text()
    nodes = ast.walk(ast.parse(path.read_text()))
    kinds = (ast.Module, ast.ClassDef, ast.FunctionDef)
    return "\n".join(ast.get_docstring(n) or "" for n in nodes if isinstance(n, kinds))


def resolves(name: str) -> bool:
    """Whether a dotted name such as ``gradnet.training.loop.fit`` exists."""
    parts = name.split(".")
    for end in range(len(parts), 0, -1):
        try:
            found = importlib.import_module(".".join(parts[:end]))
        except ModuleNotFoundError:
            continue
        for attribute in parts[end:]:
            if not hasattr(found, attribute):
                return False
            found = getattr(found, attribute)
        return True
    return False


@pytest.mark.parametrize("page", PAGES + MODULES, ids=lambda p: p.name)
def test_dotted_names_exist(page):
    for name in re.findall(r"\bgradnet(?:\.[A-Za-z_]\w*)+", prose_of(page)):
        if not re.search(rf"\.({SUFFIXES})$", name) and name not in GROUPS:
            assert resolves(name), f"{page.name} names {name}"


@pytest.mark.parametrize("page", PAGES, ids=lambda p: p.name)
def test_make_targets_exist(page):
    targets = re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.M)
    for target in re.findall(r"`?\bmake ([a-z]+(?:-[a-z]+)*)\b`", page.read_text()):
        assert target in targets, f"{page.name} names make {target}"


@pytest.mark.parametrize("page", PAGES, ids=lambda p: p.name)
def test_commands_exist(page):
    used = re.findall(r"(?:^|`|!|&& )gradnet ([a-z][a-z-]*)", page.read_text(), re.M)
    assert set(used) <= set(COMMANDS)


@pytest.mark.parametrize("page", PAGES, ids=lambda p: p.name)
def test_paths_exist(page):
    roots = "gradnet|tests|notebooks|benchmarks|checkpoints|docs|\\.ci"
    pattern = rf"(?<![\w/.])((?:{roots})/[\w./-]+\.(?:{SUFFIXES}))\b"
    for path in re.findall(pattern, page.read_text()):
        assert (ROOT / path).exists(), f"{page.name} names {path}"


def test_every_folder_is_on_the_architecture_page():
    page = (ROOT / "docs/architecture.md").read_text()
    for path in (ROOT / "gradnet").glob("*/__init__.py"):
        assert f"`{path.parent.name}`" in page, f"no word on {path.parent.name}"


def test_the_levels_of_the_architecture_page_are_the_contract():
    rows = re.findall(
        r"^\| \d \| ([^|]+) \|", (ROOT / "docs/architecture.md").read_text(), re.M
    )
    text = (ROOT / "pyproject.toml").read_text()
    layers = tomllib.loads(text)["tool"]["importlinter"]["contracts"][0]["layers"]
    assert [re.findall(r"`(\w+)`", row) for row in rows] == [
        layer.split(" | ") for layer in layers
    ]


def test_every_dependency_has_its_reason():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    page = (ROOT / "docs/dependencies.md").read_text().lower()
    for requirement in project["dependencies"]:
        name = re.match(r"[\w-]+", requirement)[0].lower()
        assert name in page, f"no reason for {name}"
    for extra in project["optional-dependencies"]:
        assert f"`{extra}`" in page, f"no word on the extra {extra}"
