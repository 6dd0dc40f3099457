"""Scores of single genes in squares of fine bins, as a model file takes them over."""

from __future__ import annotations

from hespotex.storage.schema import Schema, Score


class GeneSizes(Schema):
    """PCC of composition of every gene at each size of square: mean over the held-out sections of fine bins that have it."""

    genes: tuple[str, ...] = ()
    """Names."""
    sizes_um: tuple[float, ...] = ()
    """Sides of the squares, smallest first."""
    pcc: tuple[tuple[Score, ...], ...] = ()
    """A list a gene, a number a size."""
    ceiling: tuple[tuple[Score, ...], ...] = ()
    """What counting noise leaves at most, likewise."""
