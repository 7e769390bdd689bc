"""Images are read within bounds; tests/hostile has those that are damaged."""

from pathlib import Path

import pytest
from hostile_foreign import image_bytes, png

from gradnet.data.image_folder import check_links, read_image
from gradnet.errors import DamagedFileError, InvalidInputError


def test_the_pixels_of_an_image(tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    path.write_bytes(image_bytes("PNG"))
    image = read_image(str(path), (4, 5))
    assert image.shape == (4, 5, 3) and image[0, 0].tolist() == [1, 2, 3]
    with pytest.raises(InvalidInputError, match=r"a\.png is 5 x 4, the images before"):
        read_image(str(path), (5, 4))


def test_a_large_image_is_refused_before_it_is_decoded(tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    path.write_bytes(png(8000, 8000, b""))
    with pytest.raises(DamagedFileError, match="8000 x 8000 pixels, more than"):
        read_image(str(path))


def test_links_to_other_folders_pass(tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "a").symlink_to(tmp_path / "elsewhere")
    check_links(tmp_path / "data")
    (tmp_path / "data" / "b").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(DamagedFileError, match="is the same folder as"):
        check_links(tmp_path / "data")
