"""Maps that somebody gave to `agree`: whether they fit the run, and which pairs they leave to the search."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

from hespotex.analysis.landmarks import LEAST_LANDMARKS, Pair, Points, points_of
from hespotex.analysis.prediction_file import PredictionFile
from hespotex.errors import GeometryError
from hespotex.geometry import CommonFrame

# Relative difference up to which two microns per pixel are one.
_SAME_SCALE: Final = 0.01


def check_scale(given: CommonFrame, files: Mapping[str, PredictionFile], path: Path) -> None:
    """Frames are of the same pixels as the predictions.

    Raises:
        GeometryError: a frame's microns per pixel are others than the section's.
    """
    for name, file in files.items():
        frame = given.sections.get(name)
        if frame is not None and abs(frame.mpp / file.spots.mpp - 1) > _SAME_SCALE:
            raise GeometryError(
                expected=f"{file.spots.mpp:.4g} um per pixel of {name}, as in its prediction, in {path}",
                found=f"{frame.mpp:.4g}",
                remedy="its frame was made at another scale: make the frames anew, or leave the section out of them",
            )


def searched_notes(
    pairs: Sequence[Pair],
    given: CommonFrame,
    marks: Mapping[Pair, Points],
    transform: Path | None,
    landmarks: Path | None,
) -> list[str]:
    """Which pairs are searched for all the same, and why: a sentence each."""
    notes = []
    for a, b in pairs:
        if given.together(a, b):
            continue
        why = []
        if transform is not None:
            lacking = [name for name in (a, b) if name not in given.sections]
            said = (
                f"no frame of {' and '.join(lacking)}" if lacking else "the two in different blocks"
            )
            why.append(f"{transform.name} has {said}")
        points = points_of(marks, (a, b))
        if landmarks is not None and points is None:
            why.append(f"{landmarks.name} has no points of them")
        if why and (points is None or len(points[0]) < LEAST_LANDMARKS):
            notes.append(f"{a} and {b} are laid on one another by search: {'; '.join(why)}")
    return notes
