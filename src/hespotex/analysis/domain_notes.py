"""Sentences on predictions that are to be read beside their domains."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from hespotex.analysis.domain_scores import Words
from hespotex.analysis.domain_space import spacing_um
from hespotex.analysis.prediction_file import PredictionFile
from hespotex.errors import shorten
from hespotex.export.raster import pitch_um

# A section of fewer spots has no mean to be standardised by.
LEAST_SPOTS: Final = 10
# Factor by which spots may lie nearer or farther than their stated pitch.
_PITCHES: Final = 1.5


def notes_of_files(
    files: Mapping[str, PredictionFile], known: Mapping[str, Mapping[str, Words]]
) -> list[str]:
    """Sentences on small, unlike and flagged sections, scales that do not fit, and labels that are not there."""
    notes = []
    small = [name for name, f in files.items() if f.n_spots < LEAST_SPOTS]
    if small:
        notes.append(f"fewer than {LEAST_SPOTS} spots, kept without a domain: {shorten(small)}")
    notes += _notes_of_flags({n: f for n, f in files.items() if n not in small})
    for name, file in files.items():
        stated, found = pitch_um(file.spots), spacing_um(file.xy_um)
        if not 1 / _PITCHES <= found / stated <= _PITCHES and file.n_spots > 1:
            notes.append(
                f"{name}: its spots lie {found:.3g} um apart by its scale (mpp {file.spots.mpp:g}), and {stated:.3g} um by its pitch: "
                "where the scale is wrong, it is smoothed over another length than the others"
            )
    for column, words in known.items():
        lacking = [n for n in files if n not in words or all(w is None for w in words[n])]
        if lacking:
            notes.append(f"no labels ({column}) for {shorten(lacking)}: not scored there")
    if not known:
        notes.append("no labels in the predictions: domains are compared with none")
    return notes


def _notes_of_flags(files: Mapping[str, PredictionFile]) -> list[str]:
    unlike = [n for n, f in files.items() if f.claims.suspended]
    flagged = [n for n, f in files.items() if n not in unlike and not f.usable.any()]
    shaped = "" if len(unlike) + len(flagged) == len(files) else " and shaped none of those from predictions or features (measured counts are sound whatever the picture)"  # fmt: skip
    said = {"unlike the training slides": unlike, "every spot is flagged": flagged}
    return [
        f"{what}: {shorten(names)}; their spots got domains{shaped}, and markers leave them out"
        for what, names in said.items()
        if names
    ]
