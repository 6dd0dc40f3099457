"""How scores of gene sets lie in a prediction file: obsm, and a table in uns["hespotex"]."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from hespotex import keys
from hespotex.export.gene_trust import HALF_WIDTHS, read_column, read_half_width
from hespotex.genes.gene_sets import SetScores

if TYPE_CHECKING:
    from anndata import AnnData


def add_set_scores(table: AnnData, scores: SetScores) -> None:
    """Put the scores of gene sets into obsm."""
    for name, values in (
        (keys.GENE_SETS, scores.values),
        (keys.GENE_SETS_MEASURED, scores.measured),
    ):
        if values is not None:
            table.obsm[name] = np.ascontiguousarray(values, dtype=np.float32)


def set_table(scores: SetScores) -> pd.DataFrame:
    """One row a gene set, in the order of the columns in obsm."""
    words = {keys.EVIDENCE: scores.evidence, keys.SCOPE: scores.scopes}
    quartile, width = scores.upper_quartile, scores.half_width
    numbers = {} if quartile is None else {keys.UPPER_QUARTILE: quartile}
    numbers |= {} if width is None else dict(zip(HALF_WIDTHS, width, strict=True))
    return pd.DataFrame(
        {
            keys.GRADE: pd.Categorical(list(scores.grades)),
            **{name: pd.Categorical(list(found)) for name, found in words.items() if found},
            "n_listed": scores.n_listed,
            "n_panel_genes": scores.n_panel,
            **{name: np.asarray(values, np.float32) for name, values in numbers.items()},
        },
        index=pd.Index(list(scores.names), dtype=object, name="gene_set"),
    )


def read_set_scores(table: AnnData) -> SetScores | None:
    """What a table holds of gene sets; None where it holds none."""
    known = table.uns[keys.UNS].get(keys.GENE_SETS)
    if known is None:
        return None
    obsm = table.obsm

    def words(name: str) -> tuple[str, ...]:
        return tuple(known[name].astype(str)) if name in known else ()

    return SetScores(
        names=tuple(known.index.astype(str)),
        grades=words(keys.GRADE),
        n_listed=known["n_listed"].to_numpy(),
        n_panel=known["n_panel_genes"].to_numpy(),
        values=np.asarray(obsm[keys.GENE_SETS]) if keys.GENE_SETS in obsm else None,
        measured=np.asarray(obsm[keys.GENE_SETS_MEASURED])
        if keys.GENE_SETS_MEASURED in obsm
        else None,
        evidence=words(keys.EVIDENCE),
        scopes=words(keys.SCOPE),
        half_width=read_half_width(known),
        upper_quartile=read_column(known, keys.UPPER_QUARTILE),
    )
