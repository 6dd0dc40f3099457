"""A package as pip leaves it, in any folder of the path: sources and entry points."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path


def install(
    site: Path, name: str, sources: Mapping[str, str], points: Mapping[str, Mapping[str, str]]
) -> Path:
    """Write a package into `site`; returns its dist-info folder.

    Args:
        site: folder on the path.
        name: of the package.
        sources: text by file.
        points: value by name, by group.
    """
    for file, text in sources.items():
        (site / file).write_text(text)
    folder = site / f"{name.replace('-', '_')}-1.0.dist-info"
    folder.mkdir()
    (folder / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
    lines = []
    for group, named in points.items():
        lines += [f"[{group}]", *(f"{point} = {value}" for point, value in named.items())]
    (folder / "entry_points.txt").write_text("\n".join(lines) + "\n")
    return folder
