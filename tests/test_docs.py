"""The code blocks of README and docs run; the commands in them have valid options."""

import io
import re
import shlex
import subprocess
import sys
from contextlib import redirect_stdout
from pathlib import Path

import pytest
import torch

from gradnet.cli.commands import COMMANDS
from gradnet.cli.main import main
from gradnet.growth import GROWTH

ROOT = Path(__file__).parents[1]
PAGES = sorted([ROOT / "README.md", *ROOT.glob("docs/*.md"), *ROOT.glob("*/README.md")])
BLOCK = re.compile(r"^```(\w+)\n(.*?)^```$", re.M | re.S)
# A command that runs in seconds on what ships; all others are parsed.
QUICK = {
    "gradnet grow",
    "gradnet recipe default",
    "gradnet extract --checkpoint checkpoints/digits/level-0.7.safetensors "
    "--limit 100 --out gradients",
    "gradnet inspect gradients",
}
SLOW = {
    "gradnet reproduce --data digits --levels 0.5 0.7 0.85 0.93 --seeds 0 "
    "--max_epochs 30 --out runs/digits",
}


def name_of(page):
    return str(page.relative_to(ROOT))


def blocks(page, *languages):
    return [text for kind, text in BLOCK.findall(page.read_text()) if kind in languages]


def commands(page):
    lines = "".join(blocks(page, "sh")).splitlines()
    return [line for line in lines if line.startswith("gradnet ")]


@pytest.fixture
def checkout(tmp_path, monkeypatch):
    """A folder to write into, with what ships beside it."""
    (tmp_path / "checkpoints").symlink_to(ROOT / "checkpoints")
    monkeypatch.chdir(tmp_path)


def run_command(line):
    output = io.StringIO()
    with redirect_stdout(output):
        main(shlex.split(line, comments=True)[1:])
    return output.getvalue()


@pytest.mark.parametrize("page", [p for p in PAGES if blocks(p, "python")], ids=name_of)
def test_python_blocks_run(page, checkout):
    for line in commands(page):
        if line in QUICK:
            run_command(line)
    torch.manual_seed(0)
    namespace = {"__name__": "page"}
    for number, text in enumerate(blocks(page, "python")):
        exec(compile(text, f"{page.name}, block {number}", "exec"), namespace)


@pytest.mark.parametrize("line", sorted(QUICK - {"gradnet inspect gradients"}))
def test_quick_commands_run(line, checkout):
    assert any(line in commands(page) for page in PAGES)
    run_command(line)


@pytest.mark.slow
@pytest.mark.parametrize("line", sorted(SLOW))
def test_slow_commands_run(line, checkout):
    assert any(line in commands(page) for page in PAGES)
    assert "fine-tuned" in run_command(line)


def help_of(words):
    with redirect_stdout(io.StringIO()) as output, pytest.raises(SystemExit):
        main(words)
    return set(re.findall(r"--[a-z][\w.]*", output.getvalue()))


@pytest.fixture(scope="module")
def options():
    """The options of each command line that was asked for."""
    known = {}

    def find(words):
        if words not in known:
            known[words] = help_of([*words, "--help"])
        return known[words]

    return find


@pytest.mark.parametrize("page", [p for p in PAGES if commands(p)], ids=name_of)
def test_options_of_commands_exist(page, options):
    for line in commands(page):
        words = shlex.split(line, comments=True)[1:]
        assert words[0] in COMMANDS, line
        if words == ["grow"]:
            continue
        known = words[:1]
        if words[0] == "grow":
            assert words[1] in GROWTH, line
            known = words[:2]
            if "--trials" in words:
                known += ["--data", words[words.index("--data") + 1]]
        given = {w.partition("=")[0] for w in words if w.startswith("--")}
        given = {"--" + option[2:].replace("-", "_") for option in given}
        assert given <= options(tuple(known)), line


def test_the_page_of_commands_names_all_of_them():
    page = (ROOT / "docs/command-line.md").read_text()
    for command in COMMANDS:
        assert f"| `{command}` |" in page


def test_options_that_pages_name_exist(options):
    lines = [(c,) for c in COMMANDS if c != "grow"]
    known = {"--config", "--print_config", "--help", "--version"}
    known |= set().union(*map(options, lines))
    known |= set().union(*(options(("grow", method)) for method in GROWTH))
    for page in ROOT.glob("docs/*.md"):
        for option in re.findall(r"`(--[a-z][\w.-]*)", page.read_text()):
            assert option.replace("-", "_").replace("__", "--", 1) in known, (
                f"{page.name} names {option}"
            )


def test_each_growth_method_has_its_card():
    page = (ROOT / "docs/growing.md").read_text()
    for method in GROWTH:
        card = page.partition(f"## `{method}`")[2].partition("\n## ")[0].lower()
        for part in ("source", "trains", "differs", "measured"):
            assert f"**{part}" in card or part in card, f"{method}: {part}"


def test_the_readme_is_short():
    assert len((ROOT / "README.md").read_text().splitlines()) <= 130


@pytest.mark.slow
def test_the_documentation_builds_without_a_warning(tmp_path):
    pytest.importorskip("sphinx")
    command = [sys.executable, "-m", "sphinx", "-W", "--keep-going", "-q", "-E"]
    run = subprocess.run(
        [*command, "-b", "html", "-d", tmp_path / "trees", ROOT / "docs", tmp_path],
        capture_output=True,
        text=True,
    )
    assert run.returncode == 0, run.stderr
    assert (tmp_path / "index.html").is_file()
