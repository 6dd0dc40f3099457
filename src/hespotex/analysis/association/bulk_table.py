"""Bulk RNA tables as groups exchange them: either way round, any unit, Ensembl ids or symbols; reads files."""

from __future__ import annotations

import csv
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Literal

import numpy as np
import numpy.typing as npt
import pandas as pd

from hespotex.analysis.clinical import (
    PATIENT_COLUMNS,
    find_column,
    read_any_table,
    with_points,
)
from hespotex.analysis.patient_ids import is_normal, is_tcga, patient_of
from hespotex.errors import ConfigError, counted, shorten
from hespotex.genes.gene_names import ENSEMBL, find_names
from hespotex.storage.text_files import open_text

Floats = npt.NDArray[np.float64]
Unit = Literal["auto", "linear", "log"]

_HEAD: Final = 60  # lines that tell which way a table lies
_PREFIX: Final = ("rna_", "RNA_", "gene_")
# log2(TPM + 1) stays below: 2^25 is more than all molecules of a million.
_MOST_LOG: Final = 25.0
DOUBLED: Final = {True: "summed", False: "logs, the one with most counts"}


@dataclass(frozen=True)
class Bulk:
    """Bulk samples of patients of the cohort; S samples, g genes.

    Attributes:
        values: (S, g) on a log scale.
        patients: (S,) whose; a patient may have several samples.
        genes: (g,) as the cohort names them.
        unit: what was found and made of it, in words.
        dropped: (what, name, why).
    """

    values: npt.NDArray[np.float32]
    patients: tuple[str, ...]
    genes: tuple[str, ...]
    unit: str
    dropped: tuple[tuple[str, str, str], ...]


def read_bulk(
    path: Path, genes: Sequence[str], patients: Sequence[str], *, unit: Unit = "auto"
) -> Bulk:
    """Read the samples of these patients and the genes of the cohort; nothing else is kept in memory.

    Args:
        path: genes x samples, or samples x genes with a column of patients; text, packed or not.
        genes: of the cohort, any of which may be missing.
        patients: of the cohort; barcodes of TCGA are cut to the patient on both sides.
        unit: of the values; `auto` looks at them.

    Raises:
        ConfigError: the file is no such table, no patient or gene matches, a value is no number, or units are mixed.
    """
    head, separator = _head(path)
    columns = [str(c) for c in head.columns]
    bare = {c: _without_prefix(c) for c in columns}
    across = find_names(genes, _unique([bare[c] for c in columns]))
    lookup = {bare[c]: c for c in reversed(columns)}
    down = _gene_column(head, genes, path, separator)
    if len(across) >= max(1, len(down[1])):
        table, whose, names = _samples_by_row(path, head, separator, across, lookup, patients)
    elif down[1]:
        table, whose, names = _samples_by_column(path, head, separator, down, patients)
    else:
        raise _other_names(path, genes, columns, head, patients)
    return _finished(path, table, whose, names, unit)


def _head(path: Path) -> tuple[pd.DataFrame, str]:
    """The first lines, and the separator."""
    with open_text(path, "a bulk table", ConfigError) as stream:
        lines = [line for _, line in zip(range(_HEAD), stream, strict=False)]
    separator = max("\t,;", key=lines[0].count) if lines else ","
    if len(lines) < 2 or not lines[0].count(separator):
        read_any_table(path, "a bulk table")  # says what is wrong
    parsed = list(csv.reader(lines, delimiter=separator))
    first, second = parsed[:2]
    names = first if len(second) == len(first) else ["", *first]  # R writes no name above row names
    rows = parsed[1:]
    whole = [row for row in rows if len(row) == len(names)]
    if not whole:
        raise ConfigError(
            expected=f"a bulk table in {path}", found=f"{len(names)} column names above {len(rows[0])} cells",
            remedy="give every line as many cells as the first",
        )  # fmt: skip
    stripped = [[cell.strip().strip('"') for cell in row] for row in (names, *whole)]
    header = [name or f"column {k + 1}" for k, name in enumerate(stripped[0])]
    table = pd.DataFrame(stripped[1:], columns=_told_apart(header))
    return with_points(table) if separator == ";" else table, separator


def _told_apart(names: Sequence[str]) -> list[str]:
    seen: dict[str, int] = {}
    out = []
    for name in names:
        seen[name] = seen.get(name, 0) + 1
        out.append(name if seen[name] == 1 else f"{name}#{seen[name]}")
    return out


def _without_prefix(name: str) -> str:
    return next((name[len(p) :] for p in _PREFIX if name.startswith(p)), name)


def _unique(names: Sequence[str]) -> list[str]:
    return list(dict.fromkeys(names))


def _is_text(values: pd.Series) -> bool:
    return bool(
        pd.to_numeric(values.replace({"": None, "NA": None}), errors="coerce").isna().mean() > 0.5
    )


def _gene_column(
    head: pd.DataFrame, genes: Sequence[str], path: Path, separator: str
) -> tuple[str, dict[str, str]]:
    """The column of text that names most genes of the cohort, and how it spells them."""
    best: tuple[str, dict[str, str]] = ("", {})
    texts = [c for c in head.columns[:8] if _is_text(head[c]) or c in head.columns[:1]]
    for column in texts:
        names = _read(path, separator, list(head.columns), [column], {column: str})[column]
        found = find_names(genes, _unique(names.fillna("").astype(str).tolist()))
        if len(found) > len(best[1]):
            best = (column, found)
    return best


def _read(
    path: Path, separator: str, names: Sequence[str], columns: Sequence[str], kinds: dict[str, Any]
) -> pd.DataFrame:
    with open_text(path, "a bulk table", ConfigError) as stream:
        try:
            return pd.read_csv(
                stream, sep=separator, names=list(names), header=None, skiprows=1, usecols=list(columns), dtype=kinds,
                index_col=False, keep_default_na=True, decimal=_decimal(path, separator),
            )[list(columns)]  # fmt: skip
        except (pd.errors.ParserError, pd.errors.ParserWarning, ValueError) as error:
            raise ConfigError(
                expected=f"numbers for genes and samples in {path}", cause=" ".join(str(error).split())[:200],
                remedy="take out lines and columns that are no expression",
            ) from error  # fmt: skip


def _decimal(path: Path, separator: str) -> str:
    """A comma where semicolons separate and the first lines have one inside a number."""
    with open_text(path, "a bulk table", ConfigError) as stream:
        head = "".join(line for _, line in zip(range(_HEAD), stream, strict=False))
    return "," if separator == ";" and re.search(r";[+-]?\d+,\d+\s*(?:;|$)", head, re.M) else "."


def _samples_by_row(
    path: Path,
    head: pd.DataFrame,
    separator: str,
    across: dict[str, str],
    lookup: dict[str, str],
    patients: Sequence[str],
) -> tuple[pd.DataFrame, list[str], list[str]]:
    genes = {lookup[spelt] for spelt in across.values()}
    others = [c for c in head.columns if c not in genes]
    named = {find_column(head, PATIENT_COLUMNS), *head.columns[:1]}  # ids may look like numbers
    texts = [c for c in others if _is_text(head[c]) or c in named]
    wanted = set(patients)
    rows = _read(path, separator, list(head.columns), texts, dict.fromkeys(texts, str)).fillna("")
    stated = find_column(rows, PATIENT_COLUMNS)
    counts = {c: int(rows[c].map(patient_of).isin(wanted).sum()) for c in texts}
    column = (
        stated
        if stated and counts.get(stated)
        else max(counts, key=lambda c: counts[c], default="")
    )
    if not column or not counts[column]:
        raise _no_patient(path, patients, [] if not column else rows[column].tolist())
    # A barcode in another column may say that the tissue is normal.
    normal = np.any([rows[c].map(is_normal) for c in texts], axis=0)
    spelt_as = {spelling: gene for gene, spelling in across.items()}
    gene_of = {
        c: spelt_as[_without_prefix(c.partition("#")[0])]
        for c in head.columns
        if _without_prefix(c.partition("#")[0]) in spelt_as
    }
    values = _numbers(_read(path, separator, list(head.columns), list(gene_of), {}), path)
    values.columns = pd.Index([gene_of[c] for c in values.columns])
    names = [" ".join(row) for row in rows[texts].itertuples(index=False)] if texts else []
    whose = rows[column].map(patient_of).tolist()
    marked = [f"{name} (normal)" if n else name for name, n in zip(names, normal, strict=True)]
    own = np.array([w in wanted for w in whose])
    return (
        values[own].reset_index(drop=True),
        [w for w, o in zip(whose, own, strict=True) if o],
        [m for m, o in zip(marked, own, strict=True) if o],
    )


def _samples_by_column(
    path: Path,
    head: pd.DataFrame,
    separator: str,
    down: tuple[str, dict[str, str]],
    patients: Sequence[str],
) -> tuple[pd.DataFrame, list[str], list[str]]:
    column, spelt = down
    wanted = set(patients)
    samples = [c for c in head.columns if c != column and patient_of(c.partition("#")[0]) in wanted]
    if not samples:
        raise _no_patient(path, patients, [c for c in head.columns if c != column])
    rows = _read(path, separator, list(head.columns), [column, *samples], {column: str})
    gene_of = {spelling: gene for gene, spelling in spelt.items()}
    rows = rows[rows[column].isin(set(gene_of))]
    values = _numbers(rows[samples], path)
    values.index = pd.Index([gene_of[name] for name in rows[column]])
    whose = [patient_of(c.partition("#")[0]) for c in samples]
    marked = [f"{c} (normal)" if is_normal(c.partition("#")[0]) else c for c in samples]
    return values.T.reset_index(drop=True), whose, marked


def _numbers(table: pd.DataFrame, path: Path) -> pd.DataFrame:
    wrong = [str(c) for c in table.columns if not pd.api.types.is_numeric_dtype(table[c])]
    if wrong:
        values = table[wrong[0]].dropna().astype(str)
        text = values[pd.to_numeric(values, errors="coerce").isna()]
        raise ConfigError(
            expected=f"numbers in column {wrong[0]} of {path}", found=repr(text.iloc[0]) if len(text) else "text",
            remedy="write a missing value as an empty cell or NA",
        )  # fmt: skip
    return table.astype(np.float64)


def _usable(
    values: Floats, whose: Sequence[str], names: Sequence[str]
) -> tuple[npt.NDArray[np.bool_], list[tuple[str, str, str]]]:
    """Samples that count: no normal tissue, something measured, equal ones of a patient once; and why others do not."""
    dropped: list[tuple[str, str, str]] = []
    keep = np.ones(len(values), bool)
    seen: dict[tuple[str, bytes], str] = {}
    for k, (owner, name) in enumerate(zip(whose, names, strict=True)):
        same = (owner, values[k].tobytes())
        if name.endswith("(normal)"):
            why = "normal tissue or blood, by its barcode"
        elif not np.nansum(np.abs(values[k])):
            why = "zero or missing in all genes"
        elif same in seen:
            why = f"the same values as {seen[same]}, of the same patient"
        else:
            seen[same] = name
            continue
        dropped.append(("bulk sample", name, why))
        keep[k] = False
    return keep, dropped


def _finished(
    path: Path, table: pd.DataFrame, whose: Sequence[str], names: Sequence[str], unit: Unit
) -> Bulk:
    """Normal samples out, equal rows once, one scale."""
    values = table.to_numpy(np.float64)
    keep, dropped = _usable(values, whose, names)
    if not keep.any():
        raise ConfigError(
            expected=f"a bulk sample of tumour or tissue in {path}", found=f"none that can be used: {dropped[0][2]}",
        )  # fmt: skip
    values = values[keep]
    kept_names = [n for n, k in zip(names, keep, strict=True) if k]
    linear, said = _is_linear(values, kept_names, path, unit)
    values, genes, twice = _each_once(values, [str(c) for c in table.columns], linear)
    dropped += [("bulk gene", g, f"several rows of one gene: {DOUBLED[linear]}") for g in twice]
    complete = np.asarray(np.isfinite(values).all(axis=0), dtype=np.bool_)
    dropped += [
        ("feature", g, "a bulk sample has no value")
        for g, c in zip(genes, complete, strict=True)
        if not c
    ]
    values = values[:, complete]
    if not values.shape[1]:
        raise ConfigError(expected=f"a gene without missing values in {path}", found="none")
    if linear:
        whole = bool((values == np.rint(values)).all())
        values = np.log1p(1e6 * values / np.maximum(values.sum(axis=1, keepdims=True), 1e-300))
        what = "whole numbers, taken as counts" if whole else "linear values such as TPM or FPKM"
        said = f"{what} {said}; made log1p of a million over the shared genes"
    return Bulk(
        values.astype(np.float32),
        tuple(w for w, k in zip(whose, keep, strict=True) if k),
        tuple(g for g, c in zip(genes, complete, strict=True) if c),
        said,
        tuple(dropped),
    )


def _each_once(
    values: Floats, genes: list[str], linear: bool
) -> tuple[Floats, list[str], list[str]]:
    """Every gene once: molecules of several rows are summed; of logs, whose base is not known, the row with most stays."""
    once = list(dict.fromkeys(genes))
    if len(once) == len(genes):
        return values, genes, []
    places: dict[str, list[int]] = {}
    for j, gene in enumerate(genes):
        places.setdefault(gene, []).append(j)
    sums = [
        values[:, own].sum(axis=1)
        if linear
        else values[:, max(own, key=lambda j: float(np.nansum(values[:, j])))]
        for own in places.values()
    ]
    return np.stack(sums, axis=1), once, [g for g, own in places.items() if len(own) > 1]


def _is_linear(values: Floats, names: Sequence[str], path: Path, unit: Unit) -> tuple[bool, str]:
    """Whether values are counts, TPM or alike, or logs already; and by which rule."""
    with np.errstate(invalid="ignore"):
        least: Floats = np.nanmin(values, axis=1)
        most: Floats = np.nanmax(values, axis=1)
    negative = np.asarray(least < 0, dtype=np.bool_)
    large = np.asarray(most > _MOST_LOG, dtype=np.bool_)
    if unit == "auto" and large.any() and not large.all():
        logs = [n for n, is_large in zip(names, large, strict=True) if not is_large]
        raise ConfigError(
            expected=f"one unit for all samples of {path}",
            found=f"{counted(int(large.sum()), 'sample')} with linear values (to {most.max():,.0f}) and {len(logs):,} that look like logs "
            f"(at most {most[~large].max():.3g}): {shorten(logs, 3)}",
            remedy="give all samples in one unit; if they are, say which: --bulk-unit linear or log",
        )
    linear = bool(large.all()) if unit == "auto" else unit == "linear"
    if linear and negative.any():
        raise ConfigError(
            expected=f"counts or TPM in {path}", found=f"negative values beside values to {most.max():,.0f} in {shorten([n for n, b in zip(names, negative, strict=True) if b], 3)}",
            remedy="give counts, TPM or FPKM, or logs",
        )  # fmt: skip
    if unit != "auto":
        rule = f"(as --bulk-unit {unit} says)"
    elif linear:
        rule = f"(every sample has a value above {_MOST_LOG:g})"
    else:
        rule = f"(no sample has a value above {_MOST_LOG:g}: with few genes of low expression give --bulk-unit)"
    if linear:
        return linear, rule
    centred = (
        "; some are negative, and if each gene was centred over samples the number ACROSS genes says nothing"
        if negative.any()
        else ""
    )
    return linear, f"values on a log scale {rule}, taken as they are{centred}"


def _no_patient(path: Path, patients: Sequence[str], seen: Sequence[str]) -> ConfigError:
    return ConfigError(
        expected=f"samples of the cohort's patients ({shorten(list(patients), 3)}) in {path}",
        found=shorten([str(s) for s in dict.fromkeys(seen)], 3) or "no column that names samples",
        remedy="name samples by the patient ids of the cohort, or give those by --clinical to `hespotex cohort`",
    )


def _other_names(
    path: Path,
    genes: Sequence[str],
    columns: Sequence[str],
    head: pd.DataFrame,
    patients: Sequence[str],
) -> ConfigError:
    """No gene matches: which kind of names either side has."""
    theirs = head.iloc[:, 0].astype(str).tolist()
    samples_by_row = find_column(head, PATIENT_COLUMNS) is not None or any(
        is_tcga(name) or patient_of(name) in set(patients) for name in theirs
    )
    if samples_by_row:
        theirs = [_without_prefix(c) for c in columns if not _is_text(head[c])]
    return ConfigError(
        expected=f"genes named as in the cohort ({_kind(genes)}: {shorten(list(genes), 3)}) in {path}",
        found=f"{_kind(theirs)}: {shorten(theirs, 3)}",
        remedy="give a table with such names; a second column of names beside the first is found by itself",
    )


def _kind(names: Sequence[str]) -> str:
    ensembl = sum(ENSEMBL.fullmatch(n) is not None for n in names)
    numbers = sum(n.isdigit() for n in names)
    if 2 * ensembl > len(names):
        return "Ensembl ids"
    return "Entrez numbers" if 2 * numbers > len(names) else "symbols"
