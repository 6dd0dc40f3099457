"""What `agree` writes: tables of genes and pairs, frames, and sections with the place of their spots."""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Final

import numpy as np
import pandas as pd

from hespotex import keys
from hespotex.analysis.agree_pairs import Pair, PairResult
from hespotex.analysis.bending import as_columns
from hespotex.analysis.prediction_file import PredictionFile
from hespotex.errors import GeometryError
from hespotex.geometry import Affine, CommonFrame, Map, SectionFrame, read_frames, write_frames
from hespotex.progress import Reporter
from hespotex.storage.atomic import atomic_path
from hespotex.storage.hdf5 import holds
from hespotex.storage.safe_names import safe_names, safe_paths

TABLES: Final = ("agree.csv", "pairs.csv")
FRAMES: Final = "frames.json"


def frames_of(
    files: Mapping[str, PredictionFile], results: Sequence[PairResult], reporter: Reporter
) -> CommonFrame:
    """All sections that were laid on one another; those that hang together are a block, in the frame of its first.

    Neighbours are used first.
    """
    links = sorted(
        (r for r in results if not r.refused), key=lambda r: np.nan_to_num(r.apart, nan=np.inf)
    )
    maps = [(r.first, r.second, r.registration.to_fixed) for r in links if r.registration]
    placed: dict[str, tuple[Map, int]] = {}
    block = 0
    while left := [m for m in maps if m[0] not in placed]:
        placed[left[0][0]] = Affine(), block
        while _grown(placed, maps):
            pass
        block += 1
    return CommonFrame({name: _frame(files[name], *at, reporter) for name, at in placed.items()})


def _grown(placed: dict[str, tuple[Map, int]], maps: Sequence[tuple[str, str, Map]]) -> bool:
    """Whether a section was placed beside one that was."""
    before = len(placed)
    for first, second, to in maps:
        if first in placed and second not in placed:
            at, block = placed[first]
            placed[second] = at @ to, block
        elif second in placed and first not in placed:
            at, block = placed[second]
            placed[first] = at @ to.inverse(), block
    return len(placed) > before


def _frame(file: PredictionFile, to: Map, block: int, reporter: Reporter) -> SectionFrame:
    """Where a section lies, its bend over all of its picture and spots."""
    lower, upper, mpp = np.zeros(2), file.xy_um.max(axis=0), file.spots.mpp
    if (picture := file.spots.thumbnail) is not None:
        side = np.array(picture.image.shape[1::-1]) * picture.px0_per_px * mpp
        upper = np.maximum(upper, side)
    try:
        return replace(SectionFrame.of(mpp, to, lower, upper), block=block)
    except GeometryError as error:
        affine = to if isinstance(to, Affine) else to.affine
        reporter.warn(
            f"{file.spots.section_id} lies in the common frame without its bends: {error}"
        )
        return SectionFrame(mpp, affine, block=block)


def summary(results: Sequence[PairResult]) -> pd.DataFrame:
    """One row a pair, scale and comparison: means over genes, and how many genes stand out of the smooth null."""
    rows = []
    for r in results:
        head = {"section_a": r.first, "section_b": r.second, "series": r.series, "apart": r.apart}
        head |= {"same_patient": r.same_patient}
        q = r.registration.quality if r.registration is not None else None
        head |= {"registration": r.registration.kind if r.registration else ""}
        head |= {
            name: getattr(q, name, np.nan)
            for name in ("dice", "correlation", "detail", "lead", "mutual_information", "overlap")
        }
        head |= {"residual_um": r.registration.residual_um if r.registration else np.nan}
        head |= as_columns(r.registration.bending if r.registration else None)
        tail = {"trained": r.trained, "unlike": r.unlike, "genes": r.genes, "refused": r.refused}
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


def write_results(
    out: Path,
    files: Mapping[str, PredictionFile],
    results: Sequence[PairResult],
    reporter: Reporter,
) -> None:
    """Write agree.csv, pairs.csv, frames.json and sections; those and pictures of an older run go."""
    _sweep(out)
    kept = [
        r.table.assign(section_a=r.first, section_b=r.second, trained=r.trained, unlike=r.unlike)
        for r in results
        if not r.table.empty
    ]
    for name, table in zip(TABLES, (pd.concat(kept), summary(results)), strict=True):
        with atomic_path(out / name) as temporary:
            table.to_csv(temporary, index=False, float_format="%.6g")
    frames = frames_of(files, results, reporter)
    write_frames(out / FRAMES, frames)
    for name, path in safe_paths(out / "sections", frames.sections, ".h5ad").items():
        _write_section(path, files[name], frames)


def picture_paths(out: Path, pairs: Iterable[Pair]) -> dict[Pair, Path]:
    """Where the picture of each pair lies."""
    once = list(dict.fromkeys(pairs))
    names = safe_names([f"{a}_{b}" for a, b in once])
    return {p: out / "figures" / f"{n}.png" for p, n in zip(once, names, strict=True)}


def _sweep(out: Path) -> None:
    """Delete what an older run left, as its own tables name it: other files of the folder are not ours."""
    left: list[Path] = []
    with suppress(OSError, ValueError, KeyError, GeometryError):
        old = pd.read_csv(out / "pairs.csv", dtype=str, keep_default_na=False)
        left += picture_paths(out, zip(old["section_a"], old["section_b"], strict=True)).values()
        left += (p for p in out.glob("figures/*") if re.fullmatch(r"drift(_\d+)?\.png", p.name))
        older = safe_paths(out / "sections", read_frames(out / FRAMES).sections, ".h5ad")
        left += (p for p in older.values() if holds(p, f"obsm/{keys.SPATIAL_COMMON_UM}"))
    for path in left:
        path.unlink(missing_ok=True)


def _write_section(path: Path, file: PredictionFile, frames: CommonFrame) -> None:
    """The prediction's file with the place of its spots in the common frame."""
    import h5py
    from anndata.io import write_elem

    frame = frames[file.spots.section_id]
    with atomic_path(path) as temporary:
        shutil.copyfile(file.path, temporary)
        with h5py.File(temporary, "r+") as table:
            write_elem(
                table["obsm"], keys.SPATIAL_COMMON_UM, frame.common_of_px0(file.spots.xy_px0)
            )
            write_elem(table[f"uns/{keys.UNS}"], keys.COMMON_BLOCK, frame.block)
