"""How domains agree with labels, with other domains, and between sections that were laid on one another."""

from __future__ import annotations

import csv
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import pandas as pd

from hespotex import keys
from hespotex.analysis.agree_given import check_scale
from hespotex.analysis.common_maps import common_places
from hespotex.analysis.domain_fit import Labels
from hespotex.analysis.prediction_file import PredictionFile
from hespotex.errors import ConfigError, GeometryError, shorten
from hespotex.export.raster import pitch_um
from hespotex.geometry import CommonFrame, read_frames
from hespotex.storage.text_files import read_text

Words = npt.NDArray[np.object_]
Domains = Mapping[str, Mapping[str, Labels]]

ALL: Final = "all"
# What stands in tables of labels where nobody knew; spelled in lower case.
UNLABELLED: Final = frozenset(
    {"", "undefined", "unknown", "unassigned", "unlabelled", "unlabeled", "nan", "na", "n/a", "none", "<na>"}
)  # fmt: skip
_MOST_CLASSES: Final = 50
_OURS: Final = frozenset({*keys.OBS, keys.ARRAY_ROW, keys.ARRAY_COL})


def read_obs(file: PredictionFile) -> pd.DataFrame:
    """obs of a prediction."""
    from anndata.io import read_elem

    with file.opened() as table:
        return pd.DataFrame(read_elem(table["obs"]))


def label_columns(
    obs: Mapping[str, pd.DataFrame], asked: Sequence[str] | None = None
) -> dict[str, dict[str, Words]]:
    """Labels by column and section; None where a spot has none.

    Without a name every column of words counts that differs within a section and has 2 to 50 classes.

    Raises:
        ConfigError: a column that was asked for is in no file, or holds numbers that are no classes.
    """
    names = list(dict.fromkeys(c for table in obs.values() for c in table.columns))
    unknown = [name for name in asked or () if name not in names]
    if unknown:
        own = [n for n in names if n not in _OURS]
        raise ConfigError(
            expected=f"a column of labels of the predictions ({shorten(own) or 'they have none'})",
            found=unknown[0],
            remedy="name a file of labels in the manifest's column labels, and predict again",
        )
    for name in asked or ():
        _check_labels(name, [table[name] for table in obs.values() if name in table])
    found = {}
    for name in names if asked is None else asked:
        columns = {s: _words(table[name]) for s, table in obs.items() if name in table}
        if asked is None and not _are_labels(name, obs, columns):
            continue
        found[name] = columns
    return found


def _check_labels(name: str, columns: Sequence[pd.Series]) -> None:
    """Refuse measurements: fractions, or more whole numbers than classes."""
    if any(pd.api.types.is_float_dtype(c.dtype) and c.notna().any() for c in columns):
        found = "numbers with fractions"
    elif any(pd.api.types.is_integer_dtype(c.dtype) for c in columns) and (
        (n := len(set().union(*(c.dropna() for c in columns)))) > _MOST_CLASSES
    ):
        found = f"{n:,} numbers"
    else:
        return
    raise ConfigError(
        expected=f"labels in column {name}: words, or at most {_MOST_CLASSES} whole numbers",
        found=found,
        remedy="name a column that says which class a spot is of",
    )


def _words(column: pd.Series) -> Words:
    text: Words = column.astype(str).to_numpy(dtype=object).copy()
    none = column.isna().to_numpy() | np.array([t.strip().casefold() in UNLABELLED for t in text])
    text[none] = None
    return text


def _are_labels(name: str, obs: Mapping[str, pd.DataFrame], columns: Mapping[str, Words]) -> bool:
    kinds = [obs[s][name].dtype for s in columns]
    if name in _OURS or any(
        pd.api.types.is_numeric_dtype(k) and not pd.api.types.is_bool_dtype(k) for k in kinds
    ):
        return False
    classes = [{w for w in v.tolist() if w is not None} for v in columns.values()]
    return 2 <= len(set().union(*classes)) <= _MOST_CLASSES and max(map(len, classes)) > 1


def score(first: npt.NDArray[Any], second: npt.NDArray[Any]) -> dict[str, float]:
    """ARI and NMI of two partitions of the same spots, and how many these are.

    Neither exists for fewer than two spots, or where one side has a single class.
    """
    from sklearn.metrics import adjusted_rand_score, normalized_mutual_info_score

    n = len(first)
    if n < 2 or min(len(set(first.tolist())), len(set(second.tolist()))) < 2:
        return {"ari": np.nan, "nmi": np.nan, "n_spots": n}
    return {
        "ari": float(adjusted_rand_score(first, second)),
        "nmi": float(normalized_mutual_info_score(first, second)),
        "n_spots": n,
    }


def against_labels(
    domains: Domains, labels: Mapping[str, Mapping[str, Words]]
) -> Iterator[dict[str, Any]]:
    """One row a source, column of labels and section, and one over all sections together."""
    for source, of in domains.items():
        for column, words in labels.items():
            pairs = {s: _both(of[s], words[s]) for s in of if s in words}
            pairs = {s: p for s, p in pairs.items() if len(p[0])}
            if not pairs:
                continue
            pairs[ALL] = tuple(np.concatenate(part) for part in zip(*pairs.values(), strict=True))  # type: ignore[assignment]
            for section, (found, known) in pairs.items():
                row = {"source": source, "compared": f"labels: {column}", "section": section}
                yield {**row, **score(found, known), "n_classes": len(set(known.tolist()))}


def _both(found: Labels, words: Words) -> tuple[Labels, npt.NDArray[np.str_]]:
    both = (found >= 0) & np.array([w is not None for w in words], bool)
    return found[both], words[both].astype(str)


def between_sources(domains: Domains) -> Iterator[dict[str, Any]]:
    """How alike the domains of two sources are, over all spots that have both."""
    names = list(domains)
    for at, first in enumerate(names):
        for second in names[at + 1 :]:
            shared = [s for s in domains[first] if s in domains[second]]
            pairs = [(domains[first][s], domains[second][s]) for s in shared]
            if pairs:
                a, b = (np.concatenate(part) for part in zip(*pairs, strict=True))
                both = (a >= 0) & (b >= 0)
                yield {"source": first, "compared": f"domains of {second}", "section": ALL,
                       **score(a[both], b[both])}  # fmt: skip


@dataclass(frozen=True)
class Agreed:
    """What `agree` found of some sections.

    Attributes:
        frames: where they lie.
        pairs: that were compared, each with what marks it.
    """

    frames: CommonFrame
    pairs: Sequence[tuple[str, str, str]]


def read_agreed(files: Mapping[str, PredictionFile], agree: Path) -> Agreed:
    """What lies in a folder of `agree` of these sections: frames.json and pairs.csv.

    Raises:
        GeometryError: the folder is none of `agree`'s, holds no pair of these sections or no frames of one, or a frame has
            another scale than its section.
    """
    frames = read_frames(agree / "frames.json")
    pairs = _pairs(agree / "pairs.csv")
    ours = [p for p in pairs if p[0] in files and p[1] in files]
    if not ours:
        raise GeometryError(
            expected=f"pairs of these sections in {agree / 'pairs.csv'}",
            found=shorten([f"{a}:{b}" for a, b, _ in pairs]) or "none",
            remedy="run hespotex agree on the run of these predictions",
        )
    _check_frames(frames, ours, files, agree / "frames.json")
    return Agreed(frames, ours)


def between_sections(
    domains: Domains, files: Mapping[str, PredictionFile], agreed: Agreed
) -> Iterator[dict[str, Any]]:
    """Domains at the same places of two sections that `agree` laid on one another."""
    frames = agreed.frames
    for a, b, mark in agreed.pairs:
        if not {a, b} <= frames.sections.keys():  # the other scores stand all the same
            yield from _no_scores(domains, f"{a} and {b}: no frame in frames.json", a, mark)
            continue
        first, second = files[a], files[b]
        pitch = max(pitch_um(first.spots), pitch_um(second.spots))
        whole = np.ones(first.n_spots, bool), np.ones(second.n_spots, bool)
        moved, laid = frames.between(b, a)(second.xy_um), f"{a} and {b} laid on one another"
        try:
            places = common_places(first.xy_um, moved, pitch, whole)
        except GeometryError:
            yield from _no_scores(domains, f"{laid}: they do not overlap", a, mark)
            continue
        nearest = np.asarray(places.weights.argmax(axis=1)).ravel()
        for source, of in domains.items():
            if a in of and b in of:
                x, y = of[a][places.rows], of[b][nearest]
                both = (x >= 0) & (y >= 0)
                yield {"source": source, "compared": laid, "section": a,
                       **score(x[both], y[both]), "mark": mark}  # fmt: skip


def _no_scores(
    domains: Domains, compared: str, section: str, mark: str
) -> Iterator[dict[str, Any]]:
    for source in domains:
        yield {"source": source, "compared": compared, "section": section, "ari": np.nan, "nmi": np.nan,
               "n_spots": 0, "mark": mark}  # fmt: skip


def _check_frames(
    frames: CommonFrame,
    pairs: Sequence[tuple[str, str, str]],
    files: Mapping[str, PredictionFile],
    path: Path,
) -> None:
    """A pair has frames there, and every frame has the scale of its section's prediction."""
    names = {n for pair in pairs for n in pair[:2]}
    if not any({a, b} <= frames.sections.keys() for a, b, _ in pairs):
        raise GeometryError(
            expected=f"frames of both sections of a pair ({shorten([f'{a}:{b}' for a, b, _ in pairs])}) in {path}",
            found=shorten(sorted(frames.sections)) or "none",
            remedy="run hespotex agree on these pairs alone, into a folder of their own",
        )
    check_scale(frames, {name: files[name] for name in sorted(names)}, path)


def _pairs(path: Path) -> list[tuple[str, str, str]]:
    """Pairs that were compared, each once, with what marks them."""
    rows = csv.DictReader(read_text(path, "pairs of hespotex agree", GeometryError).splitlines())
    try:
        found = {
            (row["section_a"], row["section_b"]): row.get("trained") or ""
            for row in rows
            if not row["refused"]
        }
    except KeyError as error:
        raise GeometryError(
            expected=f"columns section_a, section_b, refused in {path}", found=f"no column {error}"
        ) from error
    return [(a, b, mark) for (a, b), mark in found.items()]
