"""Owns flat tables of a prediction for people without AnnData: which genes, and Parquet."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import numpy as np
import numpy.typing as npt
import pandas as pd

from hespotex import keys
from hespotex.errors import GenePanelError
from hespotex.export.h5ad import UNITS, StoredPrediction
from hespotex.runs import atomic_path

MAX_GENES: Final = 50
MAX_SETS: Final = 20


def chosen_columns(
    section: StoredPrediction, genes: Sequence[str] | None, max_genes: int = MAX_GENES
) -> npt.NDArray[np.intp]:
    """Columns of the genes to write: those asked for, else the best graded in the order of the panel.

    Raises:
        GenePanelError: a gene is not in the prediction; the message names those that are missing.
    """
    if genes is None:
        if section.extras.grades is None:
            return np.arange(min(max_genes, len(section.genes)))
        order = np.argsort(np.asarray(section.extras.grades, dtype=str), kind="stable")
        return np.asarray(order[:max_genes], dtype=np.intp)
    place = {name: j for j, name in enumerate(section.genes.tolist())}
    missing = [g for g in genes if g not in place]
    if missing:
        more = f" (+{len(missing) - 5} more)" if len(missing) > 5 else ""
        raise GenePanelError(
            f"expected genes of the prediction's {len(place)}, found unknown: {', '.join(missing[:5])}{more}; "
            "names are those of the model's panel",
            section=section.section_id,
        )
    return np.array([place[g] for g in genes], dtype=np.intp)


def prediction_frame(
    section: StoredPrediction, genes: Sequence[str] | None = None, max_genes: int = MAX_GENES
) -> pd.DataFrame:
    """One row a spot: name, place, depth, log1p(CPM) of each gene, the scores of the best graded gene sets."""
    columns = chosen_columns(section, genes, max_genes)
    x, y = section.xy_px0.T
    facts = {
        "spot": section.barcodes.astype(object),
        "x_px0": x,
        "y_px0": y,
        "x_um": x * section.mpp,
        "y_um": y * section.mpp,
        keys.PREDICTED_DEPTH: section.depth,
    }
    if section.extras.ood_score is not None:
        facts[keys.OOD_SCORE] = section.extras.ood_score
    values = pd.DataFrame(section.log1p[:, columns], columns=section.genes[columns].astype(object))
    of_sets = pd.DataFrame(set_columns(section))
    return pd.concat([pd.DataFrame(facts), values, of_sets], axis=1)


def set_columns(section: StoredPrediction) -> dict[str, npt.NDArray[np.float32]]:
    """The best graded gene sets' scores, as columns whose names no gene has."""
    scores = section.extras.gene_sets
    if scores is None or scores.values is None:
        return {}
    return {
        f"gene set {scores.names[k]}": scores.values[:, k] for k in scores.best(MAX_SETS).tolist()
    }


def write_parquet(
    path: Path,
    section: StoredPrediction,
    *,
    genes: Sequence[str] | None = None,
    max_genes: int = MAX_GENES,
) -> None:
    """Write `prediction_frame` as Parquet; its metadata `hespotex` says units, section and model.

    Raises:
        GenePanelError: a gene is not in the prediction.
        RunError: the file cannot be written.
    """
    import pyarrow as pa
    from pyarrow import parquet

    table = pa.Table.from_pandas(prediction_frame(section, genes, max_genes), preserve_index=False)
    about = {
        keys.SECTION_ID: section.section_id,
        keys.PATIENT_ID: section.patient_id,
        "model_id": str(section.record.get("model_id", "")),
        "units": {
            "genes": UNITS["X"],
            keys.GENE_SETS: UNITS[keys.GENE_SETS],
            keys.PREDICTED_DEPTH: UNITS[keys.PREDICTED_DEPTH],
        },
    }
    metadata = {**(table.schema.metadata or {}), b"hespotex": json.dumps(about).encode()}
    with atomic_path(path) as temporary:
        parquet.write_table(table.replace_schema_metadata(metadata), temporary)
