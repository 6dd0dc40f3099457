"""The patients of a cohort as rows that are tested: slides joined, unlike ones left out, covariates; reads the h5ad."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import pandas as pd

from hespotex import keys
from hespotex.errors import ConfigError, RunError, counted, shorten
from hespotex.evaluation.grades import UNGRADED
from hespotex.storage.hdf5 import open_h5

Floats = npt.NDArray[np.float64]
GENE, SET = "gene", "gene set"
_FOUNDED: Final = ("A", "B", "C")


@dataclass(frozen=True)
class Patients:
    """One row a patient; F features: genes, then gene sets.

    Attributes:
        obs: P rows, index is the patient.
        values: (P, F) X of genes (log1p CPM), composition of sets.
        features: (F,) names; `kind`: gene or gene set; `grade`, `level_grade` likewise.
        pooled_share: (G,) of the training.
        ridge: (P, F) X by the ridge of the predictions, NaN for gene sets; None where predictions carry none, or nobody asked.
        dropped: what was left out: `what`, `name`, `why`.
        notes: sentences that hold for every result.
    """

    obs: pd.DataFrame
    values: npt.NDArray[np.float32]
    features: npt.NDArray[np.str_]
    kind: npt.NDArray[np.str_]
    grade: npt.NDArray[np.str_]
    level_grade: npt.NDArray[np.str_]
    pooled_share: Floats
    ridge: npt.NDArray[np.float32] | None
    dropped: pd.DataFrame
    notes: tuple[str, ...] = ()

    @property
    def names(self) -> list[str]:
        """Of the patients."""
        return [str(name) for name in self.obs.index]

    @property
    def is_gene(self) -> npt.NDArray[np.bool_]:
        """(F,)."""
        return np.asarray(self.kind == GENE)

    def of_feature(self, name: str) -> Floats:
        """(P,) values of one feature; a gene before a set of the same name."""
        return self.values[:, int(np.flatnonzero(self.features == name)[0])].astype(np.float64)

    def keep(self, rows: npt.NDArray[np.bool_], why: str | Sequence[str]) -> Patients:
        """These patients alone; the others are noted with the reason, one for all or one each."""
        reasons = [why] * len(rows) if isinstance(why, str) else list(why)
        gone = [
            ("patient", n, r) for n, r, k in zip(self.names, reasons, rows, strict=True) if not k
        ]
        return replace(
            self,
            obs=self.obs[rows],
            values=self.values[rows],
            ridge=None if self.ridge is None else self.ridge[rows],
            dropped=_more(self.dropped, gone),
        )

    def take(self, columns: npt.NDArray[np.bool_], why: str) -> Patients:
        """These features alone."""
        if columns.all():
            return self
        gone = [("feature", n, why) for n in self.features[~columns].tolist()]
        return replace(
            self,
            values=self.values[:, columns],
            features=self.features[columns],
            kind=self.kind[columns],
            grade=self.grade[columns],
            level_grade=self.level_grade[columns],
            pooled_share=self.pooled_share[columns],
            ridge=None if self.ridge is None else self.ridge[:, columns],
            dropped=_more(self.dropped, gone),
        )

    def complete(self) -> Patients:
        """Features that every patient has, and that vary; a note names those that some patient lacks."""
        known = np.asarray(np.isfinite(self.values).all(axis=0), dtype=np.bool_)
        kept = self.take(
            known, "some patient has no value: its slides were predicted without the gene"
        )
        if lost := self.features[~known].tolist():
            said = f"{len(lost):,} of {len(known):,} genes and gene sets left out, since some patient has no value: {shorten(lost, 3)}."
            kept = replace(kept, notes=(*kept.notes, said))
        varies = np.greater(np.ptp(kept.values, axis=0), 1e-6)
        return kept.take(np.asarray(varies, dtype=np.bool_), "the same in every patient")

    def level_sentence(self) -> str:
        """What is to be read first: whether the model was ever shown to tell slides apart by these genes."""
        genes = self.level_grade[self.is_gene]
        sound = int(np.isin(genes, _FOUNDED).sum())
        if sound == len(genes):
            return ""
        untested = int((genes == UNGRADED).sum())
        return (
            f"The level of {len(genes) - sound:,} of {len(genes):,} genes is not shown to tell patients apart "
            f"({untested:,} ungraded, {len(genes) - sound - untested:,} D): a difference between patients in these genes may be "
            "stain, scanner or tissue area as well as expression."
        )

    def column(self, name: str, what: str) -> pd.Series:
        """A column of obs.

        Raises:
            ConfigError: there is none.
        """
        if name not in self.obs:
            raise ConfigError(
                expected=f"a column {name} of the cohort for {what}",
                found=shorten([str(c) for c in self.obs.columns], 30),
                remedy="give it with `hespotex cohort --clinical TABLE`",
            )
        return self.obs[name]


def _more(table: pd.DataFrame, rows: Sequence[tuple[str, str, str]]) -> pd.DataFrame:
    new = pd.DataFrame(rows, columns=["what", "name", "why"])
    return pd.concat([table, new], ignore_index=True) if len(table) else new


def read_patients(path: Path, *, with_unlike: bool = False, with_ridge: bool = False) -> Patients:
    """Read a cohort; several slides of a patient become one row, frozen and FFPE slides never together.

    Args:
        path: cohort.h5ad.
        with_unlike: test slides that are unlike the training's, too.
        with_ridge: read the ridge's values, too.

    Raises:
        RunError: the file is missing, damaged, no cohort, or one without genes.
    """
    from anndata.io import read_elem

    with open_h5(
        path, "a cohort of hespotex in", RunError, "make it again: hespotex cohort"
    ) as file:
        uns = read_elem(file["uns"]).get(keys.UNS, {})
        if uns.get("kind") != "cohort":
            raise RunError(
                expected=f"a cohort of hespotex in {path}", found="another h5ad",
                remedy="make one: hespotex cohort PREDICTED --out DIR, then give DIR/cohort.h5ad",
            )  # fmt: skip
        obs, var = read_elem(file["obs"]), read_elem(file["var"])
        values = np.asarray(file["X"], dtype=np.float32)
        sets = np.asarray(file["obsm/gene_sets"], np.float32) if keys.GENE_SETS in uns else None
        ridge = _ridge_of(file) if with_ridge else None
    known = uns.get(keys.GENE_SETS)
    n, k = len(var), 0 if known is None else len(known)
    if not n + k:
        raise RunError(
            expected=f"genes or gene sets in {path}", found="none",
            remedy="no gene of the model was shown to be predicted for these slides; "
            "`predict --all-genes` writes them all, marked, and `cohort` sums them up again",
        )  # fmt: skip
    table = _start(obs, values, sets, var, known, n, k)
    if ridge is not None:
        none = np.full((len(obs), k), np.nan, np.float32)
        table = replace(table, ridge=np.hstack([ridge, none]))
    unlike = table.obs["unlike"].to_numpy(bool)
    if unlike.any() and not with_unlike:
        verdicts = table.obs["verdict"].astype(str).tolist()
        table = table.keep(~unlike, [f"the slide is {v}" for v in verdicts])
    elif unlike.any():
        note = f"{counted(int(unlike.sum()), 'slide')} unlike the training's are tested with the others, as asked: no grade holds on them."
        table = replace(table, notes=(*table.notes, note))
    if not len(table.obs):
        raise RunError(
            expected=f"slides like the training's in {path}", found="none",
            remedy="look at their overviews, or test them all the same: --with-unlike",
        )  # fmt: skip
    return _joined(_one_preparation(table))


def _start(
    obs: pd.DataFrame,
    values: npt.NDArray[np.float32],
    sets: npt.NDArray[np.float32] | None,
    var: pd.DataFrame,
    known: Any,
    n: int,
    k: int,
) -> Patients:
    for name in obs.columns:
        if isinstance(obs[name].dtype, pd.CategoricalDtype):
            obs[name] = obs[name].astype(object)
    of_sets = [] if known is None else known[keys.GRADE].astype(str).tolist()
    return Patients(
        obs=obs,
        values=values if sets is None else np.hstack([values, sets]),
        features=np.array(
            [*var.index.astype(str), *([] if known is None else known.index.astype(str))]
        ),
        kind=np.array([GENE] * n + [SET] * k),
        grade=np.array([*var[keys.GRADE].astype(str), *of_sets]),
        level_grade=np.array([*var[keys.LEVEL_GRADE].astype(str), *[UNGRADED] * k]),
        pooled_share=np.concatenate(
            [var[keys.POOLED_SHARE].to_numpy(np.float64), np.full(k, np.nan)]
        ),
        ridge=None,
        dropped=pd.DataFrame(columns=["what", "name", "why"]),
    )


def _ridge_of(file: Any) -> npt.NDArray[np.float32] | None:
    if keys.RIDGE not in file["layers"]:
        return None
    values = np.asarray(file["layers"][keys.RIDGE], dtype=np.float32)
    return values if np.isfinite(values).any() else None


def _one_preparation(table: Patients) -> Patients:
    """A patient with FFPE and frozen slides keeps the FFPE ones."""
    if keys.SECTION_ID not in table.obs:
        return table
    kinds = table.obs["preparation"].fillna("").astype(str)
    ffpe = set(table.obs[keys.PATIENT_ID][kinds == "FFPE"])
    drop = (kinds == "frozen") & table.obs[keys.PATIENT_ID].isin(ffpe)
    return table.keep(~drop.to_numpy(bool), "a frozen slide of a patient with FFPE slides")


def _joined(table: Patients) -> Patients:
    """One row a patient: pseudobulks of genes and sets weigh by expected counts, other numbers by spots; a text that differs is missing."""
    owners = table.obs[keys.PATIENT_ID].astype(str)
    if owners.is_unique:
        return replace(table, obs=table.obs.set_index(pd.Index(owners, dtype=object)))
    spots = table.obs["n_used"].to_numpy(float)
    depth = table.obs[keys.PREDICTED_DEPTH].to_numpy(float)
    counts = spots * depth if np.isfinite(depth).all() else spots
    rows, values, ridge = [], [], []
    names = list(dict.fromkeys(owners))
    for name in names:
        own = np.flatnonzero((owners == name).to_numpy())
        each = np.average(
            np.expm1(table.values[own].astype(np.float64)), axis=0, weights=counts[own]
        )
        values.append(np.log1p(each).astype(np.float32))  # of a set log(1 + (ratio - 1)): its log
        if table.ridge is not None:
            ridge.append(np.average(table.ridge[own], axis=0, weights=spots[own]))
        rows.append(_row(table.obs.iloc[own], spots[own]))
    obs = pd.DataFrame(rows, index=pd.Index(names, dtype=object))
    joined = len(owners) - len(names)
    note = f"{counted(len(owners), 'slide')} of {counted(len(names), 'patient')}: slides of a patient are joined to one row ({joined:,} fewer)."
    return replace(
        table, obs=obs, values=np.stack(values), notes=(*table.notes, note),
        ridge=np.stack(ridge).astype(np.float32) if ridge else None,
    )  # fmt: skip


def _row(own: pd.DataFrame, spots: Floats) -> dict[str, Any]:
    row: dict[str, Any] = {}
    for name in own.columns:
        values = own[name]
        if name in {"n_spots", "n_used", "tissue_mm2"}:
            row[name] = values.sum(skipna=False)
        elif name in {"flagged", keys.PREDICTED_DEPTH}:
            row[name] = np.average(values, weights=spots)
        else:
            seen = values.dropna().unique()
            row[name] = seen[0] if len(seen) == 1 else None
    return row


def covariates(
    table: Patients, adjust: Sequence[str], *, what: str = "--adjust"
) -> tuple[Patients, Floats, tuple[str, ...]]:
    """Patients with all covariates, the (P, k) columns of a design without its constant, and their names.

    Numbers enter as they are, words as indicators of every level but the first. Patients without a value are dropped.

    Raises:
        ConfigError: a column is missing or empty, or there are more covariates than patients can bear.
    """
    for name in adjust:
        values = table.column(name, what)
        present = values.notna().to_numpy(bool)
        if pd.api.types.is_numeric_dtype(values):
            present &= np.isfinite(values.to_numpy(np.float64))
        if not present.any():
            raise ConfigError(expected=f"values in column {name} for {what}", found="none")
        table = table.keep(present, f"no value of {name}")
    columns, names = [], []
    for name in adjust:
        values = table.obs[name]
        if pd.api.types.is_numeric_dtype(values):
            columns.append(values.to_numpy(np.float64))
            names.append(name)
            continue
        levels = sorted(values.astype(str).unique())
        if len(levels) == 1:
            columns.append(np.zeros(len(values)))
            names.append(name)
        for level in levels[1:]:
            columns.append((values.astype(str) == level).to_numpy(np.float64))
            names.append(f"{name}={level}")
    given = (
        np.column_stack(columns)
        if columns and len(table.obs)
        else np.zeros((len(table.obs), len(names)))
    )
    design, kept = independent(given, names)
    if idle := [n for n in names if n not in kept]:
        said = f"Of {what} {shorten(idle, 5)} changed nothing: constant, or said by the others already."
        table = replace(table, notes=(*table.notes, said))
    if len(design) < 3 and not kept:
        raise ConfigError(
            expected="at least 3 patients to test over", found=counted(len(design), "patient"),
            remedy="give more slides and tables whose patients match; dropped ones have no value of what was asked for",
        )  # fmt: skip
    if len(design) < len(kept) + 3:  # a constant, and two patients to tell noise by
        raise ConfigError(
            expected=f"more patients than columns of {what} need (at least {len(kept) + 3})",
            found=f"{len(design)} with {shorten(kept, 6)}",
            remedy="adjust for less",
        )
    return table, design, kept


def independent(design: Floats, names: Sequence[str]) -> tuple[Floats, tuple[str, ...]]:
    """The columns of a design that neither a constant nor those before them say, centred, with a deviation of 1."""
    if not len(design):
        return design[:, :0], ()
    kept: list[int] = []
    # By a power of two: no square is too large then, and no digit changes.
    design = np.ldexp(design, -np.frexp(np.abs(design).max(axis=0))[1])
    basis = np.ones((len(design), 1)) / np.sqrt(max(len(design), 1))
    centred = design - design.mean(axis=0)
    size = np.sqrt((centred**2).mean(axis=0))
    for k in range(design.shape[1]):
        if size[k] <= 1e-9 * max(float(np.abs(design[:, k]).max()), 1e-300):
            continue
        column = centred[:, k] / size[k]
        left = column - basis @ (basis.T @ column)
        if np.sqrt((left**2).mean()) > 1e-6:
            basis = np.column_stack([basis, left / np.sqrt((left**2).sum())])
            kept.append(k)
    return centred[:, kept] / size[kept], tuple(names[k] for k in kept)
