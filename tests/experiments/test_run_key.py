"""A key names the files of a run, which stay in the run folder."""

import pytest

from gradnet.errors import InvalidInputError
from gradnet.experiments.run_key import RunKey


@pytest.mark.parametrize(
    "name",
    ["", ".", "..", "../x", "/tmp/x", "a/b", "a\x1b[31m", "a\n", "\0", "x" * 300],
)
def test_a_row_keeps_to_its_folder(name):
    with pytest.raises(InvalidInputError, match="cannot be that of a row"):
        RunKey(0, name)


def test_a_key_names_files_and_fields():
    key = RunKey(2, "grown")
    assert key.path(".pt").as_posix() == "seed-2/grown.pt"
    assert key.fields == {"seed": 2, "method": "grown"}
    assert RunKey(0, "a", 0.10).path("").as_posix() == "seed-0/level-0.1/a"
