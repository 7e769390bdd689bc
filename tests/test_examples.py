"""Every example runs, and examples/README.md names it."""

import runpy
from pathlib import Path

import pytest

from gradnet.growth import GROWTH

EXAMPLES = Path(__file__).parents[1] / "examples"
SCRIPTS = sorted(EXAMPLES.glob("*.py"))


@pytest.fixture
def growth_methods():
    """Scripts may register methods of their own."""
    before = set(GROWTH)
    yield
    for name in set(GROWTH) - before:
        GROWTH.unregister(name)


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.name)
def test_it_runs_and_writes_nothing(
    script, growth_methods, tmp_path, monkeypatch, capsys
):
    monkeypatch.chdir(tmp_path)
    runpy.run_path(str(script), run_name="__main__")
    assert capsys.readouterr().out.strip()
    assert not list(tmp_path.iterdir())


def test_the_table_names_every_script():
    table = (EXAMPLES / "README.md").read_text()
    assert [s.name for s in SCRIPTS if f"| `{s.name}` |" not in table] == []
