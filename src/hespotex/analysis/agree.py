"""Sections that should tell the same story: pairs of a run, each registered, then compared gene by gene."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd

from hespotex.analysis import agreement as scores
from hespotex.analysis.agree_files import FRAMES, TABLES, frames_of, summary, write_results
from hespotex.analysis.agree_given import check_scale, searched_notes
from hespotex.analysis.agree_pairs import (
    OTHER_PATIENT,
    Pair,
    PairResult,
    choose_pairs,
    pair_notes,
    read_sections,
    ridge_note,
    series_of,
    trained_note,
    unlike_note,
)
from hespotex.analysis.landmarks import LEAST_LANDMARKS, fit_landmarks, points_of, read_landmarks
from hespotex.analysis.prediction_file import PredictionFile
from hespotex.analysis.registration import UNKNOWN, Registration, quality_of_given, register
from hespotex.analysis.section_picture import Picture, picture_of
from hespotex.errors import GeometryError
from hespotex.export.raster import pitch_um
from hespotex.geometry import CommonFrame, Map, read_frames
from hespotex.progress import Progress, heard
from hespotex.storage.atomic import check_writable, refuse_to_overwrite

__all__ = [
    "OTHER_PATIENT",
    "PairResult",
    "agree",
    "choose_pairs",
    "frames_of",
    "read_sections",
    "ridge_note",
    "summary",
]


def agree(
    run: Path,
    out: Path,
    *,
    pairs: Sequence[str] = (),
    transform: Path | None = None,
    landmarks: Path | None = None,
    bend: bool = True,
    progress: Progress = None,
) -> list[PairResult]:
    """Register and compare pairs of sections of a run, and write tables, frames and h5ad files.

    Args:
        run: folder of cross-validate, evaluate or predict.
        out: folder for the results.
        pairs: `A:B`; empty: all pairs of each series.
        transform: frames of sections as `write_frames` writes them; sections in it are not registered.
        landmarks: CSV with section_a, section_b, x_a_um, y_a_um, x_b_um, y_b_um; three or more a pair are fitted.
        bend: look for a bend after the affine map of a search.

    Raises:
        HESpotExError: the run has no predictions, pairs or files are wrong, or no pair can be compared.
    """
    reporter = heard(progress)
    files = read_sections(run)
    chosen, order = choose_pairs(files, pairs)
    _check_out(out, [path for path in (transform, landmarks) if path is not None])
    given = read_frames(transform) if transform is not None else CommonFrame({})
    marks = read_landmarks(landmarks) if landmarks is not None else {}
    if transform is not None:
        check_scale(given, {name: files[name] for pair in chosen for name in pair}, transform)
    for note in searched_notes(chosen, given, marks, transform, landmarks):
        reporter.warn(note)
    pictures: dict[str, Picture] = {}
    results = []
    with reporter.task("sections compared", len(chosen)) as advance:
        for a, b in chosen:
            found = _compare(files, (a, b), pictures, given, points_of(marks, (a, b)), bend)
            results.append(_known(files, found, abs(order[b] - order[a])))
            for note in pair_notes(results[-1]):
                reporter.warn(note)
            advance(1)
    if without := ridge_note(results):
        reporter.warn(without)
    if all(result.refused for result in results):
        astray = results[0].registration is not None
        raise GeometryError(
            expected="a pair of sections that can be compared",
            found=f"none; {results[0].first} and {results[0].second}: {results[0].refused}",
            remedy="check that they are of one block; --landmarks or --transform say how they lie"
            if astray
            else "",
        )
    write_results(out, files, results, reporter)
    return results


def _check_out(out: Path, read: Sequence[Path]) -> None:
    """Before the work, not after it; leaves no folder where none was."""
    refuse_to_overwrite(read, [out / name for name in (*TABLES, FRAMES)])
    made = not out.exists()
    check_writable(out)
    if made:
        out.rmdir()


def _known(files: Mapping[str, PredictionFile], found: PairResult, apart: float) -> PairResult:
    """A pair with what the files say of it.

    Args:
        apart: difference of the sections' places, which is a distance within one series alone.
    """
    a, b = files[found.first], files[found.second]
    series = series_of(a) if series_of(a) == series_of(b) else ""
    return replace(
        found,
        apart=apart if series else np.nan,
        series=series,
        same_patient=a.spots.patient_id == b.spots.patient_id,
        unlike=unlike_note(a, b),
        genes=scores.common_genes(a, b),
    )


def _compare(
    files: Mapping[str, PredictionFile],
    pair: Pair,
    pictures: dict[str, Picture],
    given: CommonFrame,
    marks: tuple[np.ndarray, np.ndarray] | None,
    bend: bool,
) -> PairResult:
    a, b = (files[name] for name in pair)
    trained = trained_note(a, b)
    registration = None
    try:
        for file in (a, b):
            if not len(file.genes):
                raise GeometryError(
                    expected="genes in the prediction",
                    found=f"none in {file.path.name}: no gene has evidence for its patient",
                    remedy="predict with --untested or --all-genes: evidence of each stands beside its numbers",
                )
        registration = _registered(pair, (a, b), pictures, given, marks, bend)
        refused = registration.quality.refusal if registration.kind in ("rigid", "affine") else ""
        if refused:
            raise GeometryError(refused + _areas(pair, pictures))
        pitch = max(pitch_um(f.spots) for f in (a, b))
        table = scores.agreement(a, b, registration.to_fixed, pitch)
    except GeometryError as error:
        return PairResult(*pair, registration, trained, str(error), pd.DataFrame(), 0.0)
    return PairResult(*pair, registration, trained, "", table, 0.0)


def _areas(pair: Pair, pictures: Mapping[str, Picture]) -> str:
    """What to look at where tissues differ much in size: one of the pixel sizes may be wrong."""
    areas = [float(pictures[n].tissue.sum()) * pictures[n].um_per_px ** 2 / 1e6 for n in pair]
    if max(areas) < 1.6 * min(areas):
        return ""
    said = " and ".join(f"{n} {v:.1f} mm2" for n, v in zip(pair, areas, strict=True))
    return f"; tissue of {said}: check microns per pixel (mpp) of both"


def _registered(
    pair: Pair,
    files: tuple[PredictionFile, PredictionFile],
    pictures: dict[str, Picture],
    given: CommonFrame,
    marks: tuple[np.ndarray, np.ndarray] | None,
    bend: bool,
) -> Registration:
    by_hand: Map | None = None
    if given.together(*pair):
        by_hand = given.between(pair[1], pair[0])
    elif marks is not None and len(marks[0]) >= LEAST_LANDMARKS:
        by_hand = fit_landmarks(*marks)
    for name, file in zip(pair, files, strict=True):
        if name not in pictures and file.spots.thumbnail is not None:
            try:
                pictures[name] = picture_of(file.spots.thumbnail, file.spots.mpp)
            except GeometryError as error:
                error.of_section(name)
                if by_hand is None:
                    raise
    fixed, moving = (pictures.get(name) for name in pair)
    if by_hand is not None:
        quality = UNKNOWN
        if fixed is not None and moving is not None:
            quality = quality_of_given(fixed, moving, by_hand)
        return _with_residual(Registration(by_hand, quality, "given"), marks)
    if fixed is None or moving is None:
        without = " and ".join(name for name in pair if name not in pictures)
        raise GeometryError(
            expected="a picture of both sections",
            found=f"none of {without}, predicted from features without a slide",
            remedy="give --transform or --landmarks",
        )
    return _with_residual(register(fixed, moving, bend=bend), marks)


def _with_residual(
    found: Registration, marks: tuple[np.ndarray, np.ndarray] | None
) -> Registration:
    if marks is None:
        return found
    off = np.linalg.norm(found.to_fixed(marks[1]) - marks[0], axis=1)
    return replace(found, residual_um=float(np.sqrt(np.mean(off**2))))
