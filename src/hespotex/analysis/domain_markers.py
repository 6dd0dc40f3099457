"""Genes that stand out in a domain: it describes, since the domains were drawn before the genes were looked at."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import pandas as pd
from scipy import sparse

from hespotex import keys
from hespotex.analysis.domain_fit import Labels
from hespotex.analysis.domain_scores import Domains
from hespotex.analysis.domain_sources import (
    Composition,
    common_genes,
    count_blocks,
    places_of,
)
from hespotex.analysis.prediction_file import PredictionFile
from hespotex.evaluation.grades import UNGRADED

Floats = npt.NDArray[np.float64]

DESCRIPTIVE: Final = (
    "Markers describe: the same predictions drew the domains, or came from the same pictures, so differences are large by "
    "construction and have no p-value. Where counts were measured, their difference stands beside."
)
# Of each domain that are written.
MOST: Final = 100
# A section counts where a domain and the rest have so many spots each.
_LEAST: Final = 3
_ORDER: Final = ("A", "B", "C", "D", UNGRADED)
_PRIOR: Final = 0.5  # counts, so that a logarithm exists


def markers(domains: Domains, files: Mapping[str, PredictionFile]) -> pd.DataFrame:
    """The genes that a domain has more of than the rest of the sections, by source.

    Spots that are flagged do not count, nor do slides that are unlike the training's.

    Returns:
        up to 100 rows a source and domain, genes with evidence first, then by `effect`: `difference` of composition
        (natural log, mean over sections), `effect` (in standard deviations of the section's spots), `measured_difference`
        (natural log of the part of all counts; NaN where nothing was measured), `n_sections`, `n_same_sign`, and the
        gene's lowest `grade` on these sections with its `evidence` and `scope`.
    """
    used = {name: f for name, f in files.items() if not f.claims.suspended}
    if not used:
        return pd.DataFrame()
    genes = common_genes(list(used.values()))
    ks = {s: 1 + max(int(v.max(initial=-1)) for v in of.values()) for s, of in domains.items()}
    shape = (sum(ks.values()), len(genes))
    sums = {name: np.zeros(shape) for name in ("difference", "effect", "n", "up", "measured", "n_measured")}  # fmt: skip
    for name, file in used.items():
        member = _membership(name, file, domains, ks)
        difference, effect = _predicted(file, genes, member)
        there = np.isfinite(difference)
        sums["difference"] += np.nan_to_num(difference)
        sums["effect"] += np.nan_to_num(effect)
        sums["n"] += there
        sums["up"] += there & (difference > 0)
        measured = _measured(file, genes, member)
        if measured is not None:
            sums["measured"] += np.nan_to_num(measured)
            sums["n_measured"] += np.isfinite(measured)
    with np.errstate(invalid="ignore", divide="ignore"):
        means = {name: sums[name] / sums["n"] for name in ("difference", "effect")}
        means["measured_difference"] = sums["measured"] / sums["n_measured"]
    claims = _worst(list(used.values()), genes)
    tables = []
    at = 0
    for source, k in ks.items():
        for domain in range(k):
            values = {name: v[at + domain] for name, v in means.items()}
            n, up = sums["n"][at + domain].astype(int), sums["up"][at + domain].astype(int)
            same = np.where(values["difference"] > 0, up, n - up)
            tables.append(_table(source, domain, genes, values, n, same, claims))
        at += k
    return pd.concat(tables, ignore_index=True)


def _membership(
    name: str, file: PredictionFile, domains: Domains, ks: Mapping[str, int]
) -> sparse.csr_matrix:
    """(K of all sources, n) which usable spots are of each domain; a source without the section has none."""
    parts = []
    for source, k in ks.items():
        of: Labels | None = domains[source].get(name)
        rows = np.flatnonzero((of >= 0) & file.usable) if of is not None else np.zeros(0, np.intp)
        which = of[rows] if of is not None else np.zeros(0, np.int32)
        parts.append(
            sparse.csr_matrix(
                (np.ones(len(rows), np.float32), (which, rows)), shape=(k, file.n_spots)
            )
        )
    return sparse.csr_matrix(sparse.vstack(parts, format="csr"))


def _sizes(member: sparse.csr_matrix, n: int) -> tuple[Floats, Floats]:
    """(K, 1) spots inside and outside; NaN where either are too few."""
    inside = np.asarray(member.sum(axis=1), np.float64).reshape(-1, 1)
    rest = n - inside
    few = (inside < _LEAST) | (rest < _LEAST)
    return np.where(few, np.nan, inside), np.where(few, np.nan, rest)


def _predicted(
    file: PredictionFile, genes: Sequence[str], member: sparse.csr_matrix
) -> tuple[Floats, Floats]:
    """(K, G) mean composition inside less that outside, and the same in standard deviations of the section's spots."""
    source = Composition(file, places_of(file, genes))
    total, square = np.zeros(len(genes)), np.zeros(len(genes))
    within, usable, n = np.zeros((member.shape[0], len(genes))), file.usable, 0
    for rows, values in source.blocks():
        ok = np.isfinite(values).all(axis=1) & usable[rows]
        part = values if ok.all() else np.where(ok[:, None], values, np.float32(0))
        within += member[:, rows.start : rows.stop] @ part
        total += part.sum(axis=0, dtype=np.float64)
        square += np.einsum("ij,ij->j", part, part, dtype=np.float64)
        n += int(ok.sum())
    inside, rest = _sizes(member, n)
    difference = within / inside - (total - within) / rest
    spread = np.sqrt(np.maximum(square / max(n, 1) - (total / max(n, 1)) ** 2, 0.0))
    return difference, difference / np.where(spread > 1e-9, spread, np.nan)


def _measured(
    file: PredictionFile, genes: Sequence[str], member: sparse.csr_matrix
) -> Floats | None:
    """(K, G) log of a gene's part of all counts inside over that outside; None where nothing was measured."""
    mask = file.looked_for
    if mask is None:
        return None
    usable = file.usable
    within, whole = np.zeros((member.shape[0], 1)), np.zeros((1, 1))
    for rows, counts in count_blocks(file):
        within = within + (member[:, rows] @ counts).toarray()
        whole = whole + np.asarray(counts[usable[rows]].sum(axis=0, dtype=np.float64)).reshape(
            1, -1
        )
    inside, rest = (v.sum(axis=1, keepdims=True) for v in (within, whole - within))
    with np.errstate(divide="ignore", invalid="ignore"):
        found = np.log((within + _PRIOR) / inside) - np.log((whole - within + _PRIOR) / rest)
    few = np.isnan(_sizes(member, int(usable.sum()))[0]).ravel()
    found[few | ~np.isfinite(found).all(axis=1)] = np.nan
    found[:, ~mask] = np.nan
    return np.asarray(found[:, places_of(file, genes)])


def _worst(files: Sequence[PredictionFile], genes: Sequence[str]) -> dict[str, npt.NDArray[Any]]:
    """Each gene's lowest grade on these slides, with the words that stand beside it there."""
    rank = np.full(len(genes), -1)
    found = {name: np.full(len(genes), "", object) for name in (keys.GRADE, keys.EVIDENCE, keys.SCOPE)}  # fmt: skip
    for file in files:
        at, claims = places_of(file, genes), file.claims
        here = np.array([_ORDER.index(str(g)) for g in claims.grade[at]])
        lower = here > rank
        rank = np.where(lower, here, rank)
        for name, values in zip(
            found, (claims.grade, claims.evidence, claims.gene_scope), strict=True
        ):
            found[name][lower] = values[at][lower]
    return found


def _table(
    source: str,
    domain: int,
    genes: Sequence[str],
    values: Mapping[str, Floats],
    n: npt.NDArray[np.int_],
    same: npt.NDArray[np.int_],
    claims: Mapping[str, npt.NDArray[Any]],
) -> pd.DataFrame:
    shown = claims[keys.EVIDENCE] == "predicted"
    order = np.lexsort((-np.nan_to_num(values["effect"]), ~shown))
    order = order[(np.nan_to_num(values["effect"]) > 0)[order]][:MOST]
    columns: dict[str, Any] = {name: v[order] for name, v in values.items()}
    columns |= {"n_sections": n[order], "n_same_sign": same[order]}
    columns |= {name: v[order] for name, v in claims.items()}
    return pd.DataFrame(
        {"source": source, "domain": domain, "gene": np.asarray(genes)[order], **columns}
    )
