"""Sections that should tell the same story: pairs of a run, each registered, then compared gene by gene."""

from __future__ import annotations

import itertools
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

import numpy as np
import pandas as pd

from hespotex import keys
from hespotex.analysis import agreement as scores
from hespotex.analysis.bending import as_columns
from hespotex.analysis.landmarks import LEAST_LANDMARKS, fit_landmarks, read_landmarks
from hespotex.analysis.prediction_file import PredictionFile, read_by_section
from hespotex.analysis.registration import UNKNOWN, Registration, quality_of_given, register
from hespotex.analysis.section_picture import Picture, picture_of
from hespotex.errors import GeometryError, RunError, shorten
from hespotex.export.raster import pitch_um
from hespotex.geometry import Affine, CommonFrame, Map, SectionFrame, read_frames, write_frames
from hespotex.progress import Reporter, heard
from hespotex.storage.atomic import atomic_path
from hespotex.storage.run_folder import RunDir

Pair = tuple[str, str]

OTHER_PATIENT: Final = "they are no slices of one block, however well they fit"


@dataclass(frozen=True)
class PairResult:
    """What came of a pair.

    Attributes:
        first, second: section ids; the frame is the first one's.
        registration: None where there is none.
        trained: why consistency of the pair is no evidence; empty where nothing is known against it.
        refused: why the pair was not compared; empty where it was.
        table: of `agreement`; empty where the pair was refused.
        apart: steps between them in the series.
        same_patient: both sections are of one patient.
    """

    first: str
    second: str
    registration: Registration | None
    trained: str
    refused: str
    table: pd.DataFrame
    apart: float
    same_patient: bool = True


def read_sections(run: Path) -> dict[str, PredictionFile]:
    """The predictions of a run folder by section id.

    Raises:
        RunError: there is none, or a section stands in two files.
    """
    files = read_by_section(RunDir(run).predicted())
    if not files:
        raise RunError(
            expected=f"predictions of sections in {run}",
            found="none",
            remedy="give the folder of cross-validate, evaluate or predict",
        )
    return files


def choose_pairs(
    files: Mapping[str, PredictionFile], asked: Sequence[str] = ()
) -> tuple[list[Pair], dict[str, float]]:
    """Pairs to compare, and the place of sections in their series.

    Args:
        asked: `A:B`; empty: all pairs within each `series` that the manifest named.

    Raises:
        RunError: a name is unknown, or there is no series.
    """
    order = {name: _number(_of_manifest(file, "order")) for name, file in files.items()}
    if asked:
        pairs = [tuple(text.split(":")) for text in asked]
        for text, pair in zip(asked, pairs, strict=True):
            if len(pair) != 2 or pair[0] == pair[1]:
                raise RunError(expected="two sections as A:B", found=text)
            if unknown := [name for name in pair if name not in files]:
                raise RunError(
                    expected=f"sections of the run ({shorten(list(files))})", found=unknown[0]
                )
        return [(p[0], p[1]) for p in pairs], order
    series: dict[str, list[str]] = {}
    for name, file in files.items():
        if text := _of_manifest(file, "series"):
            series.setdefault(text, []).append(name)
    found = [
        pair
        for names in series.values()
        for pair in itertools.combinations(
            sorted(names, key=lambda n: (np.nan_to_num(order[n], nan=np.inf), n)), 2
        )
    ]
    if not found:
        raise RunError(
            expected="a column series in the manifest of the run with two sections of one block",
            found="none",
            remedy="say which sections belong together: --pairs A:B",
        )
    return found, order


def _of_manifest(file: PredictionFile, column: str) -> str:
    with file.opened() as table:
        from anndata.io import read_elem

        if column not in table["obs"]:
            return ""
        return str(np.asarray(read_elem(table[f"obs/{column}"]))[0])


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        return float("nan")


def trained_note(a: PredictionFile, b: PredictionFile) -> str:
    """Why the consistency of a pair is no evidence: one section, or its patient, trained the other's model."""
    said = []
    for this, other in ((a, b), (b, a)):
        known = [str(name) for name in other.spots.record.get("training_sections", ())]
        if this.spots.section_id in known:
            said.append(f"{this.spots.section_id} trained the model of {other.spots.section_id}")
        elif this.spots.patient_id == other.spots.patient_id and other.claims.patient == "same":
            said.append(f"their patient trained the model of {other.spots.section_id}")
    return "trained on it: " + "; ".join(said) if said else ""


def agree(
    run: Path,
    out: Path,
    *,
    pairs: Sequence[str] = (),
    transform: Path | None = None,
    landmarks: Path | None = None,
    bend: bool = True,
    reporter: Reporter | None = None,
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
    reporter = heard(reporter)
    files = read_sections(run)
    chosen, order = choose_pairs(files, pairs)
    given = read_frames(transform) if transform is not None else CommonFrame({})
    marks = read_landmarks(landmarks) if landmarks is not None else {}
    pictures: dict[str, Picture] = {}
    results = []
    with reporter.task("sections compared", len(chosen)) as advance:
        for a, b in chosen:
            result = _compare(files, (a, b), pictures, given, marks.get((a, b)), bend)
            same = files[a].spots.patient_id == files[b].spots.patient_id
            results.append(replace(result, apart=abs(order[b] - order[a]), same_patient=same))
            if not same:
                reporter.warn(f"{a} and {b} are of different patients: {OTHER_PATIENT}")
            if result.refused:
                reporter.warn(f"{a} and {b} are not compared: {result.refused}")
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
    _write(out, files, results, reporter)
    return results


def ridge_note(results: Sequence[PairResult]) -> str:
    """Which pairs lack a comparison of ridge, and why; empty where none does."""
    lacking = [
        f"{r.first}:{r.second}"
        for r in results
        if not r.table.empty and not r.table["what"].str.startswith("ridge A / ridge B").any()
    ]
    if not lacking:
        return ""
    return (
        f"ridge is not compared on {shorten(lacking)}: files of hespotex before this version, of slides without "
        "spots, and of models without a ridge hold no maps of it; predict at spots, evaluate or cross-validate again"
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
    if all(name in given.sections for name in pair):
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


def frames_of(
    files: Mapping[str, PredictionFile], results: Sequence[PairResult], reporter: Reporter
) -> CommonFrame:
    """All sections that hang together by accepted pairs, in the frame of the first; neighbours are used first."""
    links = sorted((r for r in results if not r.refused), key=lambda r: np.nan_to_num(r.apart))
    placed: dict[str, Map] = {}
    while True:
        grown = False
        for link in links:
            if link.registration is None:
                continue
            to = link.registration.to_fixed
            if not placed:
                placed[link.first] = Affine()
            if link.first in placed and link.second not in placed:
                placed[link.second], grown = placed[link.first] @ to, True
            elif link.second in placed and link.first not in placed:
                placed[link.first], grown = placed[link.second] @ to.inverse(), True
        if not grown:
            break
    return CommonFrame({name: _frame(files[name], to, reporter) for name, to in placed.items()})


def _frame(file: PredictionFile, to: Map, reporter: Reporter) -> SectionFrame:
    """Where a section lies, its bend over all of its picture and spots."""
    lower, upper, mpp = np.zeros(2), file.xy_um.max(axis=0), file.spots.mpp
    if (picture := file.spots.thumbnail) is not None:
        side = np.array(picture.image.shape[1::-1]) * picture.px0_per_px * mpp
        upper = np.maximum(upper, side)
    try:
        return SectionFrame.of(mpp, to, lower, upper)
    except GeometryError as error:
        affine = to if isinstance(to, Affine) else to.affine
        reporter.warn(
            f"{file.spots.section_id} lies in the common frame without its bends: {error}"
        )
        return SectionFrame(mpp, affine)


def summary(results: Sequence[PairResult]) -> pd.DataFrame:
    """One row a pair, scale and comparison: means over genes, and how many genes stand out of the smooth null."""
    rows = []
    for r in results:
        head = {"section_a": r.first, "section_b": r.second, "apart": r.apart}
        head |= {"same_patient": r.same_patient}
        q = r.registration.quality if r.registration is not None else None
        head |= {"registration": r.registration.kind if r.registration else ""}
        head |= {
            name: getattr(q, name, np.nan)
            for name in ("dice", "correlation", "detail", "lead", "mutual_information", "overlap")
        }
        head |= {"residual_um": r.registration.residual_um if r.registration else np.nan}
        head |= as_columns(r.registration.bending if r.registration else None)
        tail = {"trained": r.trained, "refused": r.refused}
        if r.table.empty:
            rows.append({**head, **tail})
            continue
        for (scale, what), group in r.table.groupby(["scale", "what"], sort=False):
            mean = {"scale": scale, "what": what, "n_genes": int(group["pcc"].notna().sum())}
            for name in ("pcc", "others", "specificity"):
                values = group[name].dropna() if name in group else pd.Series(dtype=float)
                mean[name] = float(values.mean()) if len(values) else np.nan
            mean["beyond_null"] = int((group["q_value"] < 0.05).sum())
            rows.append({**head, **mean, "n_places": int(group["n_places"].iloc[0]), **tail})
    return pd.DataFrame(rows)


def _write(
    out: Path,
    files: Mapping[str, PredictionFile],
    results: Sequence[PairResult],
    reporter: Reporter,
) -> None:
    kept = [
        r.table.assign(section_a=r.first, section_b=r.second, trained=r.trained)
        for r in results
        if not r.table.empty
    ]
    for name, table in (("agree.csv", pd.concat(kept)), ("pairs.csv", summary(results))):
        with atomic_path(out / name) as temporary:
            table.to_csv(temporary, index=False, float_format="%.6g")
    frames = frames_of(files, results, reporter)
    write_frames(out / "frames.json", frames)
    for name in frames.sections:
        _write_section(out / "sections" / f"{name}.h5ad", files[name], frames)


def _write_section(path: Path, file: PredictionFile, frames: CommonFrame) -> None:
    """The prediction's file with the place of its spots in the common frame."""
    import h5py
    from anndata.io import write_elem

    to_common = frames[file.spots.section_id].common_of_px0
    with atomic_path(path) as temporary:
        shutil.copyfile(file.path, temporary)
        with h5py.File(temporary, "r+") as table:
            write_elem(table["obsm"], keys.SPATIAL_COMMON_UM, to_common(file.spots.xy_px0))
