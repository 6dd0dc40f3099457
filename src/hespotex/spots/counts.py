"""The checks that every reader's counts pass: raw, whole, >= 0, each gene and spot once."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Sequence

import numpy as np
import numpy.typing as npt
from scipy import sparse

from hespotex.errors import SpotTableError

_BLOCK = 2**22  # values looked at together, so that a check never copies a whole matrix
_SHOWN = 5
# Measured depths of two spots are hardly ever equal; totals that agree to this are a normalisation.
_SAME_TOTAL = 1e-3


def check_counts(
    counts: sparse.csr_matrix,
    genes: Sequence[str] | npt.NDArray[np.str_],
    barcodes: Sequence[str] | npt.NDArray[np.str_],
    source: str,
) -> sparse.csr_matrix:
    """Raw counts in their one form: CSR, int32, indices sorted, no stored zeros.

    Args:
        counts: (n, g) values as they were read; entries stored twice are summed and stored zeros
            removed in place, which leaves the matrix that it stands for as it is.
        genes, barcodes: g and n names.
        source: file and place in it, for messages.

    Raises:
        SpotTableError: no gene or spot, a name that occurs twice, NaN, negative, logged, scaled or
            other values that are not whole numbers.
    """
    check_names(genes, "gene", source)
    check_names(barcodes, "spot", source)
    counts.sum_duplicates()
    counts.eliminate_zeros()
    problem = find_count_problem(counts, genes, barcodes)
    if problem is not None:
        raise SpotTableError(expected=f"raw counts in {source}", found=problem)
    if counts.nnz == 0:
        raise SpotTableError(
            expected=f"counts in {source}", found="only zeros", remedy="check the file"
        )
    return sparse.csr_matrix(
        (counts.data.astype(np.int32, copy=False), counts.indices, counts.indptr),
        shape=counts.shape,
    )


# Probes and codewords of imaging panels (Xenium, CosMx, HEST's tables of them) that stand for no gene.
_CONTROL = re.compile(
    r"^(BLANK_|Blank-|NegControl|NegPrb|Negative(Control)?|UnassignedCodeword_|DeprecatedCodeword_|"
    r"DEPRECATED_ENSG|Intergenic_Region_|antisense_|SystemControl|__)"
)


def is_control(genes: npt.NDArray[np.str_]) -> npt.NDArray[np.bool_]:
    """(g,) True where a name is that of a control probe, or of reads of no gene (`__ambiguous[...]`)."""
    return np.array([_CONTROL.match(name) is not None for name in genes.tolist()], dtype=bool)


def distinct_names(
    symbols: npt.NDArray[np.str_], ids: npt.NDArray[np.str_]
) -> tuple[npt.NDArray[np.str_], int]:
    """Symbols, where a symbol that several genes share gives way to each one's id; and how many did.

    References hold a few symbols twice; the id is the name that tells them apart.
    """
    times = Counter(symbols.tolist())
    shared = np.array([times[symbol] > 1 for symbol in symbols.tolist()], dtype=bool)
    return np.where(shared, ids, symbols), int(shared.sum())


def check_names(names: Sequence[str] | npt.NDArray[np.str_], what: str, source: str) -> None:
    """Refuse an empty list of names, an empty name, and a name that occurs twice.

    Raises:
        SpotTableError: names the first few.
    """
    if len(names) == 0:
        raise SpotTableError(expected=f"at least one {what} in {source}", found="none")
    unique, first, times = np.unique(np.asarray(names), return_index=True, return_counts=True)
    if len(unique) and not str(unique[0]).strip():
        raise SpotTableError(
            expected=f"a name for every {what} in {source}",
            found=f"an empty one at place {int(first[0]) + 1}",
            remedy=f"name this {what}, or leave it out",
        )
    doubled = unique[times > 1]
    if len(doubled):
        remedy = (
            "sum or rename them before (no choice between them is made here)"
            if what == "gene"
            else "keep one entry for each"
        )
        raise SpotTableError(
            expected=f"every {what} once in {source}",
            found=f"{len(doubled)} {what} names more than once ({_some(doubled)})",
            remedy=remedy,
        )


def find_count_problem(
    counts: sparse.csr_matrix,
    genes: Sequence[str] | npt.NDArray[np.str_] | None = None,
    barcodes: Sequence[str] | npt.NDArray[np.str_] | None = None,
) -> str | None:
    """The reason why a matrix is no raw counts, with the remedy; None if it is raw counts."""
    bad_nan = bad_negative = bad_fraction = 0
    place: dict[str, int] = {}
    for start, block in _blocks(counts.data):
        if block.dtype.kind in "iub":
            masks = {"negative": block < 0}
        else:
            masks = {
                "nan": ~np.isfinite(block),
                "negative": block < 0,
                "fraction": block != np.rint(block),
            }
        for name, mask in masks.items():
            if name not in place and mask.any():
                place[name] = start + int(np.argmax(mask))
        bad_nan += int(masks["nan"].sum()) if "nan" in masks else 0
        bad_negative += int(masks["negative"].sum())
        bad_fraction += int(masks["fraction"].sum()) if "fraction" in masks else 0

    def where(name: str) -> str:
        return _where(counts, place[name], genes, barcodes)

    if bad_nan:
        return f"{bad_nan} values that are no numbers ({where('nan')}); fill or remove them"
    if bad_negative:
        return (
            f"{bad_negative} negative values ({where('negative')}), as scaled or corrected data has; "
            "give the raw counts"
        )
    if bad_fraction:
        kind = _recognise(counts)
        example = where("fraction")
        if kind is None:
            kind = f"{bad_fraction} values that are not whole numbers"
        return f"{kind} ({example}); give the raw counts"
    if counts.nnz and float(counts.data.max()) > np.iinfo(np.int32).max:
        return f"a value of {counts.data.max():g}, too large for a count; give the raw counts"
    return None


def _recognise(counts: sparse.csr_matrix) -> str | None:
    """Name the transformation that made fractions out of counts, where it can be told."""
    filled = np.flatnonzero(np.diff(counts.indptr))[:2000]
    rows = counts[filled].astype(np.float64)
    totals = np.asarray(rows.sum(axis=1)).ravel()
    if float(rows.data.max()) < 50:
        for base, name in ((np.expm1, "log1p"), (lambda v: np.exp2(v) - 1, "log2(1 + x)")):
            linear = rows.copy()
            linear.data = base(linear.data)
            sums = np.asarray(linear.sum(axis=1)).ravel()
            if len(sums) > 1 and np.ptp(sums) <= _SAME_TOTAL * np.median(sums):
                return f"already logged values, {name} of spots scaled to a total of {np.median(sums):.6g}"
            if np.allclose(linear.data, np.rint(linear.data), atol=1e-3):
                return f"already logged values, {name} of counts"
    if len(totals) > 1 and np.ptp(totals) <= _SAME_TOTAL * np.median(totals):
        return f"already scaled values, every spot has a total of {np.median(totals):.6g}"
    if float(rows.data.max()) < 20:
        return f"values that look logged (largest {float(rows.data.max()):.4g}, not whole numbers)"
    return None


def _blocks(data: npt.NDArray[np.float64]) -> Iterator[tuple[int, npt.NDArray[np.float64]]]:
    for start in range(0, len(data), _BLOCK):
        yield start, data[start : start + _BLOCK]


def _where(
    counts: sparse.csr_matrix,
    entry: int,
    genes: Sequence[str] | npt.NDArray[np.str_] | None,
    barcodes: Sequence[str] | npt.NDArray[np.str_] | None,
) -> str:
    row = int(np.searchsorted(counts.indptr, entry, side="right")) - 1
    column = int(counts.indices[entry])
    gene = genes[column] if genes is not None else f"column {column + 1}"
    spot = barcodes[row] if barcodes is not None else f"row {row + 1}"
    return f"for example {counts.data[entry]:.6g} for gene {gene} in spot {spot}"


def _some(names: Sequence[str] | npt.NDArray[np.str_]) -> str:
    shown = ", ".join(str(n) for n in names[:_SHOWN])
    return shown + (", ..." if len(names) > _SHOWN else "")
