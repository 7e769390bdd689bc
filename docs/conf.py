"""Sphinx: the pages are Markdown, the API reference comes from docstrings."""

import re
from pathlib import Path

import gradnet

project = "gradnet"
author = "The gradnet developers"
version = release = gradnet.__version__

extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon"]
myst_enable_extensions = ["colon_fence"]
myst_heading_anchors = 3
exclude_patterns = ["_build"]

html_theme = "furo"
html_title = "gradnet"
html_static_path = ["_static"]
html_css_files = ["tables.css"]
html_show_copyright = False
html_show_sourcelink = False
html_copy_source = False

autodoc_member_order = "bysource"
autodoc_typehints = "none"
napoleon_numpy_docstring = False
napoleon_use_ivar = True

HERE = Path(__file__).parent
PACKAGE = Path(gradnet.__file__).parent


def write_api_pages() -> None:
    """Write a page for each folder of the package, a section for each module."""
    folders = sorted(path.parent for path in PACKAGE.glob("*/__init__.py"))
    target = HERE / "api"
    target.mkdir(exist_ok=True)
    pages = {"gradnet": [PACKAGE / "errors.py"]}
    for folder in folders:
        modules = sorted(folder.rglob("*.py"))
        pages[f"gradnet.{folder.name}"] = [
            path for path in modules if path.name != "__init__.py"
        ]
    for name, modules in pages.items():
        lines = [f"# {name}", "", *automodule(name, members=False)]
        for path in modules:
            dotted = ".".join(path.relative_to(PACKAGE.parent).with_suffix("").parts)
            lines += [
                f"## {dotted.removeprefix('gradnet.')}",
                "",
                *automodule(dotted, members=True),
            ]
        text = "\n".join(lines)
        page = target / f"{name.removeprefix('gradnet.')}.md"
        if not page.exists() or page.read_text() != text:
            page.write_text(text)
    for page in target.glob("*.md"):
        if page.stem != "gradnet" and f"gradnet.{page.stem}" not in pages:
            page.unlink()


def automodule(name: str, members: bool) -> list[str]:
    """The lines of a directive of autodoc."""
    option = [":members:"] if members else []
    body = [f".. automodule:: {name}", *(f"   {line}" for line in option)]
    return ["```{eval-rst}", *body, "```", ""]


def convert_tables(app, what, name, obj, options, lines: list[str]) -> None:
    """Write the Markdown tables of docstrings as tables of reStructuredText."""
    converted: list[str] = []
    is_in_table = False
    for line in lines:
        if not re.fullmatch(r"\s*\|.*\|\s*", line):
            is_in_table = False
            converted.append(line)
            continue
        if re.fullmatch(r"[\s|:-]+", line):
            continue
        if not is_in_table:
            converted += [".. list-table::", "   :header-rows: 1", ""]
        is_in_table = True
        for number, cell in enumerate(line.strip().strip("|").split(" | ")):
            mark = "* -" if number == 0 else "  -"
            converted.append(f"   {mark} {cell.strip()}")
    lines[:] = converted


def skip_member(app, what, name, obj, skip, options) -> bool | None:
    """Leave out the methods that scikit-learn adds for metadata routing."""
    return True if re.fullmatch(r"set_\w+_request", name) else None


def setup(app) -> None:
    """Register the two hooks."""
    app.connect("autodoc-process-docstring", convert_tables)
    app.connect("autodoc-skip-member", skip_member)


write_api_pages()
