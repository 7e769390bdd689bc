"""Installed packages with entry points, made in a folder of sys.path."""

import textwrap
from collections.abc import Mapping
from pathlib import Path


def write_package(
    folder: Path, name: str, module: str, group: str, points: Mapping[str, str]
) -> None:
    """A distribution of one module, as pip would have installed it."""
    (folder / f"{name}.py").write_text(textwrap.dedent(module))
    info = folder / f"{name}-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\n")
    lines = [f"{key} = {value}" for key, value in points.items()]
    (info / "entry_points.txt").write_text("\n".join([f"[{group}]", *lines, ""]))
