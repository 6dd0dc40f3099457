"""Domains where several models predicted: each model's sections by themselves, then one name for what is alike.

Two models agree on what differs inside a section better than on how much: clustered together, spots part by model. So each
model's sections are divided alone, and domains whose mean composition is alike over the genes get one name.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

from hespotex.analysis.domain_fit import NONE, Assign, Labels, Reduced, assigned, by_size
from hespotex.analysis.domain_sources import Source
from hespotex.analysis.prediction_file import PredictionFile

Floats = npt.NDArray[np.float64]

# Domains of two models whose mean composition correlates less have no name in common. Means of sections that share two
# of three tissues make the third ones correlate by 0.33, whatever these are.
LEAST_SIMILARITY: Final = 0.4
# Spots that a model must have for each domain to be divided alone, and how many domains are counted on if no number is given.
SPOTS_PER_DOMAIN: Final = 10
_UNKNOWN_NUMBER: Final = 4


@dataclass(frozen=True)
class Match:
    """A domain of one model under the name that it shares.

    Attributes:
        model: id.
        domain: number of the name.
        similarity: correlation over genes with the mean of that name's domains of the models before; NaN for the first model,
            and where the name is the domain's own.
    """

    model: str
    domain: int
    similarity: float


def model_of(file: PredictionFile) -> str:
    """Which model predicted; empty where the file does not say."""
    return str(file.spots.record.get("model_id", ""))


def divided(reduced: Reduced, models: Mapping[str, str], n: int | None) -> dict[str, Reduced]:
    """The part of every model that has enough spots, the one with most first; empty where fewer than two have.

    Sections of the other models are in the first part and shape nothing.

    Args:
        models: id by section.
        n: number of domains; None: not known yet.
    """
    names: dict[str, list[str]] = {}
    for name in reduced.scores:
        names.setdefault(models[name], []).append(name)
    sizes = {m: sum(len(reduced.fitted[s]) for s in of) for m, of in names.items()}
    least = SPOTS_PER_DOMAIN * (n or _UNKNOWN_NUMBER)
    enough = [m for m in names if sizes[m] >= least]
    if len(enough) < 2:
        return {}
    ordered = sorted(enough, key=lambda m: (-len(names[m]), -sizes[m], names[m]))
    parts = {m: _part(reduced, names[m]) for m in ordered}
    rest = [s for m in names if m not in parts for s in names[m]]
    first = parts[ordered[0]]
    none = dict.fromkeys(rest, np.zeros(0, np.intp))
    parts[ordered[0]] = Reduced(
        {**first.scores, **{s: reduced.scores[s] for s in rest}}, {**first.fitted, **none}
    )
    return parts


def _part(reduced: Reduced, names: Sequence[str]) -> Reduced:
    return Reduced({s: reduced.scores[s] for s in names}, {s: reduced.fitted[s] for s in names})


def joined(
    reduced: Reduced,
    parts: Mapping[str, Reduced],
    assigns: Sequence[Assign],
    sources: Mapping[str, Source],
) -> tuple[dict[str, Labels], list[Match]]:
    """Domains of all sections under common names.

    Args:
        parts: of the models.
        assigns: what was fitted on each of them.
        sources: composition, by section.
    """
    labels: dict[str, Labels] = {}
    matches: list[Match] = []
    total, n = np.zeros((0, 0)), np.zeros(0)
    for model, part, assign in zip(parts, parts.values(), assigns, strict=True):
        of = assigned(part, assign)
        own = profiles(of, part, sources)
        if not labels:
            names, likeness = np.arange(len(own)), np.full(len(own), np.nan)
            total, n = np.zeros_like(own), np.zeros(len(own))
        else:
            names, likeness = paired(own, total / np.maximum(n, 1)[:, None])
        more = max(int(names.max(initial=NONE)) + 1 - len(total), 0)
        total = np.concatenate([total, np.zeros((more, own.shape[1]))])
        n = np.concatenate([n, np.zeros(more)])
        total[names] += np.nan_to_num(own)
        n[names] += np.isfinite(own).all(axis=1)
        labels |= {s: np.where(v >= 0, names[v], NONE).astype(np.int32) for s, v in of.items()}
        matches += [Match(model, int(k), float(r)) for k, r in zip(names, likeness, strict=True)]
    fitted = {s: rows for part in parts.values() for s, rows in part.fitted.items()}
    ordered, place = by_size({s: labels[s] for s in reduced.scores}, fitted)
    kept = [m for m in matches if m.domain < len(place)]  # the others have no spot
    return ordered, [Match(m.model, int(place[m.domain]), m.similarity) for m in kept]


def paired(own: Floats, named: Floats) -> tuple[npt.NDArray[np.intp], Floats]:
    """(k,) name of each domain, and how alike it is to what has that name; the sum of likeness is the highest there is.

    A domain that is not alike enough gets a number after the names, and NaN.

    Args:
        own: (k, G) profiles.
        named: (m, G) profiles of the names so far.
    """
    from scipy.optimize import linear_sum_assignment

    similarity = np.nan_to_num(_unit(own) @ _unit(named).T, nan=-1.0)
    names, likeness = np.full(len(own), NONE, np.intp), np.full(len(own), np.nan)
    rows, columns = linear_sum_assignment(-similarity)
    for row, column in zip(rows, columns, strict=True):
        if similarity[row, column] >= LEAST_SIMILARITY:
            names[row], likeness[row] = column, similarity[row, column]
    lonely = names == NONE
    names[lonely] = len(named) + np.arange(int(lonely.sum()))
    return names, likeness


def _unit(profiles_of: Floats) -> Floats:
    """Rows less their mean, of length 1; NaN where a row is constant."""
    centred = profiles_of - profiles_of.mean(axis=1, keepdims=True)
    length = np.linalg.norm(centred, axis=1, keepdims=True)
    return np.asarray(centred / np.where(length > 0, length, np.nan))


def profiles(labels: Mapping[str, Labels], part: Reduced, sources: Mapping[str, Source]) -> Floats:
    """(k, G) mean composition of each domain less its section's, sections alike; NaN where none of its spots shaped domains."""
    k = 1 + max(int(v.max(initial=NONE)) for v in labels.values())
    total, n = np.zeros((k, 1)), np.zeros((k, 1))
    for name, of in labels.items():
        shaped = np.zeros(len(of), bool)
        shaped[part.fitted[name]] = True
        inside, spots = _sums(of, shaped, k, sources[name])
        if not spots.any():
            continue
        there = spots > 0
        mean = inside.sum(axis=0) / spots.sum()
        off = np.where(there, inside / np.where(there, spots, 1.0) - mean, 0.0)
        total = total + off
        n += there
    return np.asarray(total / np.where(n > 0, n, np.nan))


def _sums(
    of: Labels, shaped: npt.NDArray[np.bool_], k: int, source: Source
) -> tuple[Floats, Floats]:
    """(k, G) sums over a section's spots that shaped domains, and (k, 1) how many these are."""
    from scipy import sparse

    rows = np.flatnonzero(shaped & (of >= 0))
    member = sparse.csr_matrix((np.ones(len(rows)), (of[rows], rows)), shape=(k, len(of)))
    total = np.zeros((k, 1))
    for at, values in source.blocks():
        keep = member[:, at]
        got = np.flatnonzero(np.asarray(keep.sum(axis=0)).ravel())
        total = total + np.asarray(keep[:, got] @ values[got].astype(np.float64))
    return total, np.asarray(member.sum(axis=1), np.float64).reshape(-1, 1)


def matched(labels: Mapping[str, Labels], to: Mapping[str, Labels]) -> dict[str, Labels]:
    """The same domains under the numbers of those of another source that they share most spots with.

    Those that share none take the lowest numbers that are free.
    """
    from scipy.optimize import linear_sum_assignment

    k = 1 + max(int(v.max(initial=NONE)) for part in (labels, to) for v in part.values())
    shared = np.zeros((k, k))
    for name in labels.keys() & to.keys():
        both = (labels[name] >= 0) & (to[name] >= 0)
        np.add.at(shared, (labels[name][both], to[name][both]), 1 / max(both.sum(), 1))
    rows, columns = linear_sum_assignment(-shared)
    like = shared[rows, columns] > 0
    place = np.full(k, NONE, np.int32)
    place[rows[like]] = columns[like]
    there = np.unique(np.concatenate([of[of >= 0] for of in labels.values()]))
    alone = there[place[there] == NONE]
    place[alone] = np.setdiff1d(np.arange(k), columns[like])[: len(alone)]
    return {
        name: np.where(of >= 0, place[np.maximum(of, 0)], NONE).astype(np.int32)
        for name, of in labels.items()
    }
