"""Archives that grow, or that are damaged, are refused before they are read."""

import zipfile
from pathlib import Path

import pytest
from hostile_foreign import torch_bytes, zip_bomb

from gradnet.core.archives import check_archive
from gradnet.errors import DamagedFileError


def test_a_bomb_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.zip"
    path.write_bytes(zip_bomb("a", 10**12))
    with pytest.raises(DamagedFileError, match="would take 1,000,000,000,000"):
        check_archive(path)


def test_whole_archives_and_other_files_pass(tmp_path: Path) -> None:
    path = tmp_path / "a.pt"
    for content in (torch_bytes({"a": 1}), b"text", b""):
        path.write_bytes(content)
        check_archive(path)


def test_a_wrong_checksum_is_seen_where_it_is_asked_for(tmp_path: Path) -> None:
    path = tmp_path / "a.zip"
    with zipfile.ZipFile(path, "w") as file:
        file.writestr("entry", b"content")
    path.write_bytes(path.read_bytes().replace(b"content", b"contend"))
    check_archive(path, checksums=False)
    with pytest.raises(DamagedFileError, match="the checksum of entry differs"):
        check_archive(path)
