"""Copies of a section under another name, recognised by the counts of their spots.

A mark is one number for the counts of a spot. It depends neither on the order of spots and genes nor on where the spots
lie, so it reveals copies in another order, on another scale, or of a part of the spots. It misses copies whose counts
differ: with other genes than those compared, other names for genes, spots pooled anew, counts rounded or thinned.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
from scipy import sparse

from hespotex.errors import SpotTableError
from hespotex.sections.section import Section

Marks = npt.NDArray[np.uint64]

SKETCH_SIZE = 512
# Two spots with so many genes never have the same counts by chance; a section that shares more than this part
# of its spots with another is a copy of it.
_MARKED_GENES = 20
_COPIED_SHARE = 0.5


def check_distinct(sections: Sequence[Section]) -> None:
    """Refuse the same section under two ids: one copy would be tested with the other in training.

    A copy is recognised by positions and counts, or by its counts alone where spots come in another order, on another
    scale, or in part.

    Raises:
        SpotTableError: names both ids.
    """
    seen: dict[str, str] = {}
    for section in sections:
        key = section.expression_key()
        if key in seen:
            raise SpotTableError(
                expected="different sections",
                found=f"the positions and counts of {seen[key]} again as {section.section_id}",
                remedy="keep one of the two in the manifest",
                section=section.section_id,
            )
        seen[key] = section.section_id
    known: list[tuple[str, Marks]] = []
    for section in sections:
        marks = spot_marks(section)
        for other, theirs in known:
            shared, smaller = len(np.intersect1d(marks, theirs)), min(len(marks), len(theirs))
            if shared > _COPIED_SHARE * smaller:
                raise SpotTableError(
                    expected="different sections",
                    found=f"the counts of {shared:,} of {smaller:,} spots of {other} again in {section.section_id}",
                    remedy="keep one of the two in the manifest",
                    section=section.section_id,
                )
        known.append((section.section_id, marks))


def spot_marks(section: Section, genes: Sequence[str] | None = None) -> Marks:
    """One number for the counts of every spot with enough genes, whatever the order; sorted, without repeats.

    Args:
        section: with or without counts.
        genes: compare these alone, so that a copy that lacks others is recognised, too; None: all.
    """
    if section.counts is None or section.genes is None:
        return np.zeros(0, np.uint64)
    counts, names = sparse.csr_matrix(section.counts), section.genes
    if genes is not None:
        columns = np.flatnonzero(np.isin(names, np.asarray(genes, dtype=str)))
        counts, names = counts[:, columns], names[columns]
    marks = counts.astype(np.uint64) @ _gene_weights(names)  # wraps around, as a hash may
    return np.unique(marks[np.diff(counts.indptr) >= _MARKED_GENES])


def sketch(marks: Marks) -> tuple[int, ...]:
    """The smallest marks: a sample of the spots that is the same spots in every copy (a bottom-k sketch)."""
    return tuple(int(mark) for mark in marks[:SKETCH_SIZE])


def copied_spots(marks: Marks, kept: Sequence[int]) -> tuple[int, int] | None:
    """How many spots a section shares with one of which a sketch was kept, if that makes it a copy.

    A sketch holds all marks up to its largest one, which is a random choice of spots, since marks are hashes. Only
    spots up to that mark are compared, as `check_distinct` does: the shared ones with the smaller number of the two. So a
    part of a section is a copy, and so is a section that holds another. A part of m spots of a section of n is missed with
    probability (1 - SKETCH_SIZE / n)^m: then none of its spots is in the sketch.

    Args:
        marks: of the section, sorted.
        kept: `sketch` of the other one; empty where nothing was kept.

    Returns:
        shared and compared spots; None if the section is no copy.
    """
    theirs = np.array(kept, dtype=np.uint64)
    if len(theirs) == SKETCH_SIZE:
        marks = marks[marks <= theirs[-1]]
    shared, compared = len(np.intersect1d(marks, theirs)), min(len(marks), len(theirs))
    return (shared, compared) if shared > _COPIED_SHARE * compared else None


def _gene_weights(names: npt.NDArray[np.str_]) -> npt.NDArray[np.uint64]:
    """(g,) a hash of every name that no version of a library changes: sketches are kept in files."""
    digests = b"".join(hashlib.blake2b(name.encode(), digest_size=8).digest() for name in names)
    return np.frombuffer(digests, dtype="<u8").astype(np.uint64)
