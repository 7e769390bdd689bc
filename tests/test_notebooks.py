"""Every notebook runs from top to bottom, is thin, and keeps the outputs of one run."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

NOTEBOOKS = sorted((Path(__file__).parents[1] / "notebooks").glob("*.ipynb"))


def code_cells(path):
    cells = json.loads(path.read_text())["cells"]
    return [cell for cell in cells if cell["cell_type"] == "code"]


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda p: p.name)
def test_it_runs(path, tmp_path):
    command = [sys.executable, "-m", "pytest", "--nbmake", "-q", "--rootdir", tmp_path]
    options = ["-p", "no:cacheprovider", "-c", "/dev/null", "--nbmake-timeout=300"]
    run = subprocess.run(
        [*command, *options, path], cwd=path.parent, capture_output=True, text=True
    )
    assert run.returncode == 0, run.stdout + run.stderr


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda p: p.name)
def test_it_calls_and_does_not_define(path):
    for cell in code_cells(path):
        source = "".join(cell["source"])
        assert "def " not in source and "class " not in source, source


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda p: p.name)
def test_it_keeps_the_outputs_of_one_clean_run(path):
    cells = code_cells(path)
    counts = [cell["execution_count"] for cell in cells]
    assert counts == list(range(1, len(cells) + 1))
    outputs = [output for cell in cells for output in cell["outputs"]]
    assert not any(output["output_type"] == "error" for output in outputs)
    assert sum("image/png" in output.get("data", {}) for output in outputs) >= 2
    assert path.stat().st_size < 1_000_000
