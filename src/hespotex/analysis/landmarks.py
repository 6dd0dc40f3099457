"""Points that somebody found on two sections, and the map that they give."""

from __future__ import annotations

import csv
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Final

import numpy as np

from hespotex.errors import GeometryError
from hespotex.geometry import Affine
from hespotex.storage.text_files import read_text

Pair = tuple[str, str]
Points = tuple[np.ndarray, np.ndarray]

LEAST_LANDMARKS: Final = 3
_LANDMARKS: Final = ("section_a", "section_b", "x_a_um", "y_a_um", "x_b_um", "y_b_um")


def read_landmarks(path: Path) -> dict[Pair, Points]:
    """(n, 2) points of the first and second section in microns, by pair.

    Raises:
        GeometryError: the file cannot be read, lacks a column, or holds no finite numbers.
    """
    lines = read_text(path, "landmarks", GeometryError).splitlines()
    rows = csv.DictReader(lines)
    found: dict[Pair, list[list[float]]] = {}
    try:
        for row in rows:
            pair = (row["section_a"].strip(), row["section_b"].strip())
            points = [float(row[name]) for name in _LANDMARKS[2:]]
            if not all(map(math.isfinite, points)):
                raise GeometryError(
                    expected=f"finite microns in {path}",
                    found=f"{', '.join(map(str, points))} in line {rows.line_num}",
                )
            found.setdefault(pair, []).append(points)
    except (KeyError, ValueError, TypeError, AttributeError) as error:
        raise GeometryError(
            expected=f"columns {', '.join(_LANDMARKS)} with numbers in {path}", cause=error
        ) from error
    return {p: (np.array(v)[:, :2], np.array(v)[:, 2:]) for p, v in found.items()}


def points_of(marks: Mapping[Pair, Points], pair: Pair) -> Points | None:
    """Points of a pair, those of B:A turned round; None where there are none."""
    turned = marks.get((pair[1], pair[0]))
    found = [part for part in (marks.get(pair), turned and turned[::-1]) if part]
    if not found:
        return None
    return np.concatenate([p[0] for p in found]), np.concatenate([p[1] for p in found])


def fit_landmarks(fixed: np.ndarray, moving: np.ndarray) -> Affine:
    """The affine map of least squares from the second section's points to the first's.

    Raises:
        GeometryError: the points lie on one line.
    """
    design = np.column_stack([moving, np.ones(len(moving))])
    solved, _, rank, _ = np.linalg.lstsq(design, fixed, rcond=1e-8)
    if rank < LEAST_LANDMARKS:
        raise GeometryError(
            expected="landmarks that are not all on one line", found=f"{len(moving)} that are"
        )
    return Affine.of(solved[:2].T, solved[2])
