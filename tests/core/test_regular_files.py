"""Only regular files are opened; tests/hostile/test_paths.py has the other kinds."""

from pathlib import Path

import pytest

from gradnet.core.regular_files import regular_file
from gradnet.errors import DamagedFileError


def test_a_file_and_a_link_to_it_pass(tmp_path: Path) -> None:
    (tmp_path / "a").touch()
    (tmp_path / "link").symlink_to(tmp_path / "a")
    assert regular_file(str(tmp_path / "a")) == tmp_path / "a"
    assert regular_file(tmp_path / "link") == tmp_path / "link"


def test_a_folder_is_named(tmp_path: Path) -> None:
    with pytest.raises(DamagedFileError, match="is a folder; give a regular file"):
        regular_file(tmp_path)
