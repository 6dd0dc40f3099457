"""One prediction file as one row of a cohort: pseudobulk, spread and pattern of every gene; memory holds a block at a time."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import pandas as pd
from scipy import sparse

from hespotex import keys
from hespotex.errors import HESpotExError, RunError
from hespotex.evaluation.claims import is_unlike
from hespotex.evaluation.grades import UNGRADED
from hespotex.evaluation.regions import SIZES
from hespotex.export.gene_trust import read_half_width
from hespotex.storage.atomic import atomic_path
from hespotex.storage.hdf5 import open_h5

Floats = npt.NDArray[np.float64]

# Values of one block, as float64: 16 MiB.
_BLOCK_VALUES: Final = 2**21
# Neighbours lie nearer than this many times the usual distance: 6 on hexagons, 8 on squares.
_REACH: Final = 1.6


@dataclass(frozen=True)
class SlideSummary:
    """A slide of a cohort; G genes, K gene sets.

    Attributes:
        section_id, patient_id: as the prediction has them.
        model_id: which model predicted.
        n_spots: predicted spots; `n_used` of them count: those that are readable and not flagged as unlike the training's.
            On a slide that is unlike as a whole flagged spots count, too.
        flagged: share of spots that are flagged.
        verdict: of the out-of-distribution check; empty without one.
        tissue_mm2: NaN where it is not known.
        depth: mean predicted depth of the used spots; NaN where the model predicts none.
        genes: (G,) names.
        share: (G,) each gene's part of all expected counts of the used spots (spots weigh by predicted depth).
        composition, spread: (G,) mean and standard deviation of composition over used spots.
        above: (G,) part of the used spots above the training's upper quartile; NaN where the model knows none.
        moran: (G,) Moran's I of composition among touching spots; NaN where nothing varies.
        ridge: (G,) deviation of the log share from the training's, by the model's ridge on the mean feature; NaN without.
        half_width: (G,) of the interval of composition, for the largest calibrated region; NaN without.
        grade, level_grade: (G,) what the model's grades are, inside slides and between them.
        pooled_share, upper_quartile: (G,) of the training.
        sets: (K,) names; the other `set_` arrays: (K,) as those of genes. A set is a gene with the counts of its members;
            `set_composition` is that of the pseudobulk, not a mean of logs. `set_genes`: words that differ where a file's set
            has other genes under the name: numbers listed and in the panel, and the upper quartile that a model learnt.
    """

    section_id: str
    patient_id: str
    model_id: str
    n_spots: int
    n_used: int
    flagged: float
    verdict: str
    tissue_mm2: float
    depth: float
    genes: npt.NDArray[np.str_]
    share: Floats
    composition: Floats
    spread: Floats
    above: Floats
    moran: Floats
    ridge: Floats
    half_width: Floats
    grade: npt.NDArray[np.str_]
    level_grade: npt.NDArray[np.str_]
    pooled_share: Floats
    upper_quartile: Floats
    sets: npt.NDArray[np.str_] = field(default_factory=lambda: np.zeros(0, np.str_))
    set_grade: npt.NDArray[np.str_] = field(default_factory=lambda: np.zeros(0, np.str_))
    set_composition: Floats = field(default_factory=lambda: np.zeros(0))
    set_spread: Floats = field(default_factory=lambda: np.zeros(0))
    set_moran: Floats = field(default_factory=lambda: np.zeros(0))
    set_above: Floats = field(default_factory=lambda: np.zeros(0))
    set_half_width: Floats = field(default_factory=lambda: np.zeros(0))
    set_upper_quartile: Floats = field(default_factory=lambda: np.zeros(0))
    set_genes: npt.NDArray[np.str_] = field(default_factory=lambda: np.zeros(0, "U1"))

    @property
    def unlike(self) -> bool:
        """Whether nothing may be claimed of the slide."""
        return is_unlike(self.verdict)

    def of_sets(self, names: Collection[str]) -> SlideSummary:
        """The same with these gene sets alone."""
        kept = np.isin(self.sets, list(names))
        own = (f.name for f in fields(self) if f.name == "sets" or f.name.startswith("set_"))
        return self if kept.all() else replace(self, **{n: getattr(self, n)[kept] for n in own})

    def write(self, path: Path) -> None:
        """Keep it in a file, whole or not at all."""
        with atomic_path(path) as temporary, temporary.open("wb") as handle:
            arrays: dict[str, Any] = {
                f.name: np.asarray(getattr(self, f.name)) for f in fields(self)
            }
            np.savez(handle, **arrays)

    @classmethod
    def read(cls, path: Path) -> SlideSummary:
        """What `write` wrote.

        Raises:
            ValueError, OSError, KeyError: it is damaged.
        """
        with np.load(path, allow_pickle=False) as stored:
            found = {f.name: stored[f.name] for f in fields(cls)}
        return cls(**{k: v.item() if v.ndim == 0 else v for k, v in found.items()})


def summarise_slide(path: Path) -> SlideSummary:
    """Read a prediction once, block by block.

    Raises:
        RunError: the file is missing, cut short, none of ours, or lacks what a pseudobulk needs.
    """
    from anndata.io import read_elem

    with open_h5(path, "a prediction of hespotex in", RunError, "predict again") as file:
        obs, var, uns = (read_elem(file[name]) for name in ("obs", "var", "uns"))
        record = uns.get(keys.UNS)
        if record is not None and record.get("kind") == "cohort":
            raise RunError(
                expected=f"a prediction of hespotex in {path}", found="a cohort, which is made of them",
                remedy="give the folders of `hespotex predict`; a cohort goes to `hespotex associate`",
            )  # fmt: skip
        if record is None or keys.COMPOSITION not in file["layers"]:
            raise RunError(
                expected=f"a prediction of hespotex in {path}", found="another h5ad",
                remedy="give files of a run's predictions folder",
            )  # fmt: skip
        if keys.POOLED_SHARE not in var:
            raise RunError(
                expected=f"shares of the training (var {keys.POOLED_SHARE}) in {path}",
                found="none: an earlier version wrote it",
                remedy="predict again with this version",
            )
        xy_um = np.asarray(read_elem(file[f"obsm/{keys.SPATIAL}"])) * float(record["mpp"])
        return _summary(file, obs, var, record, xy_um, path)


def _summary(
    file: Any,
    obs: pd.DataFrame,
    var: pd.DataFrame,
    record: Mapping[str, Any],
    xy_um: Floats,
    path: Path,
) -> SlideSummary:
    verdict = str(record.get(keys.OOD_VERDICT) or "")
    used, flagged = _used(obs, verdict)
    if not used.any():
        raise RunError(
            expected=f"spots that can be summed up in {path}",
            found=f"{len(obs):,} spots, all unreadable",
            remedy="look at its overview picture",
        )
    depth = obs[keys.PREDICTED_DEPTH].to_numpy(np.float64)[used]
    known = bool(np.isfinite(depth).all())
    weight = np.maximum(depth, 1e-9) if known else np.ones(len(depth))
    rows, edges = np.flatnonzero(used), _touching(xy_um[used])
    quartile, pooled = (_numbers(var, n) for n in (keys.UPPER_QUARTILE, keys.POOLED_SHARE))
    of_genes = _sums(file[f"layers/{keys.COMPOSITION}"], rows, weight, edges, quartile)
    if not np.isfinite(of_genes.mean).all():
        raise RunError(
            expected=f"a value of every gene in each spot of {path}",
            found="some that do not exist",
            remedy="predict again",
        )
    return SlideSummary(
        section_id=str(record[keys.SECTION_ID]),
        patient_id=str(record[keys.PATIENT_ID]),
        model_id=str(record.get("model_id", "")),
        n_spots=len(obs),
        n_used=len(rows),
        flagged=flagged,
        verdict=verdict,
        tissue_mm2=float(record.get("tissue_mm2", np.nan)),
        depth=float(depth.mean()) if known else np.nan,
        genes=var.index.to_numpy(dtype=str),
        share=of_genes.exponent * pooled,
        composition=of_genes.mean,
        spread=of_genes.deviation,
        above=np.where(np.isfinite(quartile), of_genes.above, np.nan),
        moran=of_genes.moran,
        ridge=_numbers(var, keys.RIDGE_LEVEL),
        half_width=_largest(var, len(rows)),
        grade=_words(var, keys.GRADE),
        level_grade=_words(var, keys.LEVEL_GRADE),
        pooled_share=pooled,
        upper_quartile=quartile,
        **_of_sets(file, record, rows, weight, edges),
    )


def _used(obs: pd.DataFrame, verdict: str) -> tuple[npt.NDArray[np.bool_], float]:
    """(n,) which spots count, and the share that is flagged."""
    readable = np.ones(len(obs), bool)
    if keys.BAD_TILE in obs:
        readable &= ~obs[keys.BAD_TILE].to_numpy(bool)
    flags = obs[keys.OOD].to_numpy(bool) if keys.OOD in obs else np.zeros(len(obs), bool)
    usable = readable & ~flags
    share = float(flags.mean()) if len(flags) else 0.0
    return (readable if is_unlike(verdict) or not usable.any() else usable), share


def _of_sets(
    file: Any,
    record: Mapping[str, Any],
    rows: npt.NDArray[np.intp],
    weight: Floats,
    edges: sparse.csr_matrix,
) -> dict[str, Any]:
    table = record.get(keys.GENE_SETS)
    if table is None or keys.GENE_SETS not in file["obsm"]:
        return {}
    quartile = _numbers(table, keys.UPPER_QUARTILE)
    found = _sums(file[f"obsm/{keys.GENE_SETS}"], rows, weight, edges, quartile)
    return {
        "sets": table.index.to_numpy(dtype=str),
        "set_grade": table[keys.GRADE].to_numpy(dtype=str),
        "set_composition": np.log(np.maximum(found.exponent, 1e-30)),
        "set_spread": found.deviation,
        "set_moran": found.moran,
        "set_above": np.where(np.isfinite(quartile), found.above, np.nan),
        "set_half_width": _largest(table, len(rows)),
        "set_upper_quartile": quartile,
        "set_genes": np.array(
            [
                f"{a} {b} {c}"
                for a, b, c in zip(table["n_listed"], table["n_panel_genes"], quartile, strict=True)
            ],
            str,
        ),
    }


def _touching(xy_um: Floats) -> sparse.csr_matrix:
    """(n, n) 1 above the diagonal where two spots touch."""
    from scipy.spatial import cKDTree

    n = len(xy_um)
    if n < 3:
        return sparse.csr_matrix((n, n))
    tree = cKDTree(xy_um)
    nearest = np.median(tree.query(xy_um, k=2)[0][:, 1])
    pairs = tree.query_pairs(_REACH * max(float(nearest), 1e-9), output_type="ndarray")
    pairs = np.sort(pairs, axis=1)
    return sparse.csr_matrix((np.ones(len(pairs)), (pairs[:, 0], pairs[:, 1])), shape=(n, n))


@dataclass(frozen=True)
class _Sums:
    """(G,) each: what one pass finds of every column."""

    mean: Floats
    deviation: Floats
    exponent: Floats
    above: Floats
    moran: Floats


def _sums(
    table: Any, rows: npt.NDArray[np.intp], weight: Floats, edges: sparse.csr_matrix, above: Floats
) -> _Sums:
    """Means, deviations, weighted means of exp, shares above a value and Moran's I of the columns of a table in a file.

    Edges look at most `ahead` rows further, so a block is read with that many more rows; where spots stand in no order
    the columns are taken in parts instead.
    """
    n, n_columns = len(rows), int(table.shape[1])
    coo = edges.tocoo()
    ahead = int((coo.col - coo.row).max(initial=0))
    wide = max(1, min(n_columns, _BLOCK_VALUES // max(1, min(2 * ahead, n))))
    step = max(1, _BLOCK_VALUES // wide - ahead)
    degree = np.asarray(edges.sum(axis=0)).ravel() + np.asarray(edges.sum(axis=1)).ravel()
    weight = weight / weight.sum()
    total = np.zeros((6, n_columns))
    for left in range(0, n_columns, wide):
        part = slice(left, min(left + wide, n_columns))
        for start in range(0, n, step):
            stop, end = min(start + step, n), min(start + step + ahead, n)
            first = int(rows[start])
            block = table[first : int(rows[end - 1]) + 1, part]
            values = np.asarray(block[rows[start:end] - first], dtype=np.float64)
            own = values[: stop - start]
            total[0, part] += own.sum(axis=0)
            total[1, part] += (own**2).sum(axis=0)
            total[2, part] += weight[start:stop] @ np.exp(own)
            total[3, part] += (own > above[part]).sum(axis=0)
            total[4, part] += (own * (edges[start:stop, start:end] @ values)).sum(axis=0)
            total[5, part] += degree[start:stop] @ own
    mean = total[0] / n
    variance = np.maximum(total[1] / n - mean**2, 0)
    # Sum over ordered pairs of (x_i - m)(x_j - m), each edge counted both ways.
    both = 2 * total[4] - 2 * mean * total[5] + mean**2 * degree.sum()
    varies = variance > 1e-10
    moran = np.full(n_columns, np.nan)
    if degree.sum() > 0:
        moran[varies] = both[varies] / degree.sum() / variance[varies]
    return _Sums(mean, np.sqrt(variance), total[2], total[3] / n, moran)


def _largest(table: pd.DataFrame, n_spots: int) -> Floats:
    """(G,) half width of the largest calibrated region of at most so many spots; NaN without."""
    width, found = read_half_width(table), np.full(len(table), np.nan)
    for row, size in enumerate(SIZES):
        if width is not None and size <= n_spots:
            found = np.where(np.isfinite(width[row]), width[row], found)
    return found


def _numbers(var: pd.DataFrame, name: str) -> Floats:
    return var[name].to_numpy(np.float64) if name in var else np.full(len(var), np.nan)


def _words(var: pd.DataFrame, name: str) -> npt.NDArray[np.str_]:
    return var[name].to_numpy(dtype=str) if name in var else np.full(len(var), UNGRADED)


def read_kept(path: Path) -> SlideSummary | None:
    """A summary that an earlier call kept; None where there is none, or a damaged one."""
    import zipfile

    try:
        return SlideSummary.read(path)
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile, HESpotExError):
        return None
