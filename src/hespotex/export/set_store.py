"""How scores of gene sets lie in a prediction file: obsm, and a table in uns["hespotex"]."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from hespotex import keys
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
    return pd.DataFrame(
        {
            keys.GRADE: pd.Categorical(list(scores.grades)),
            **{name: pd.Categorical(list(found)) for name, found in words.items() if found},
            "n_listed": scores.n_listed,
            "n_panel_genes": scores.n_panel,
        },
        index=pd.Index(list(scores.names), dtype=object, name="gene_set"),
    )


def read_set_scores(table: AnnData) -> SetScores | None:
    """What a table holds of gene sets; None where it holds none."""
    known = table.uns[keys.UNS].get(keys.GENE_SETS)
    if known is None:
        return None
    obsm = table.obsm
    return SetScores(
        tuple(known.index.astype(str)),
        tuple(known[keys.GRADE].astype(str)),
        known["n_listed"].to_numpy(),
        known["n_panel_genes"].to_numpy(),
        np.asarray(obsm[keys.GENE_SETS]) if keys.GENE_SETS in obsm else None,
        np.asarray(obsm[keys.GENE_SETS_MEASURED]) if keys.GENE_SETS_MEASURED in obsm else None,
        *(
            tuple(known[name].astype(str)) if name in known else ()
            for name in (keys.EVIDENCE, keys.SCOPE)
        ),
    )
