"""Flat tables of a prediction for people without AnnData: which genes, and Parquet."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import pandas as pd

from hespotex import keys
from hespotex.errors import GenePanelError, shorten
from hespotex.export.claim_words import TRAINING_NOTE, as_record, best_first, claims_of
from hespotex.export.exporters import Exporter
from hespotex.export.h5ad import UNITS, StoredPrediction
from hespotex.export.shown import Show, explained, shown_values, unit
from hespotex.storage.atomic import atomic_path

MAX_GENES: Final = 50
MAX_SETS: Final = 20
# Spots that are made into a table at once: memory does not grow with the slide beyond the values themselves.
ROW_GROUP: Final = 65_536
# Entry of a prediction's record: genes of the h5ad, where fewer are held in memory.
N_WRITTEN: Final = "n_written_genes"


def chosen_columns(
    section: StoredPrediction, genes: Sequence[str] | None, max_genes: int = MAX_GENES
) -> npt.NDArray[np.intp]:
    """Columns of the genes to write: those asked for, else the best graded, in a grade by score.

    Raises:
        GenePanelError: a gene is not in the prediction; the message names those that are missing.
    """
    if genes is None:
        return best_first(claims_of(section), _abundance(section))[:max_genes]
    place = {name: j for j, name in enumerate(section.genes.tolist())}
    missing = [g for g in genes if g not in place]
    if missing:
        raise GenePanelError(
            expected=f"genes of the prediction's {len(place)}",
            found=f"unknown: {shorten(missing, 5)}",
            remedy="names are those of the model's panel",
            section=section.section_id,
        )
    return np.array([place[g] for g in genes], dtype=np.intp)


def _abundance(section: StoredPrediction) -> npt.NDArray[np.float64]:
    """(G,) mean predicted log1p(CPM) or, without it, composition: it ranks genes of equal grade and score."""
    values = section.composition if section.log1p is None else section.log1p
    known = np.isfinite(values)
    total = np.where(known, values, 0).sum(axis=0, dtype=np.float64)
    return np.asarray(total / np.maximum(known.sum(axis=0), 1))


def prediction_frame(
    section: StoredPrediction, genes: Sequence[str] | None = None, show: Show = "composition"
) -> pd.DataFrame:
    """One row a spot: name, place, depth, what is shown of each gene, the best graded gene sets.

    A gene that is named as another column is `gene NAME`.
    """
    columns = chosen_columns(section, genes)
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
    of_sets = set_columns(section)
    taken = {name.casefold() for name in (*facts, *of_sets)}
    names = [f"gene {g}" if g.casefold() in taken else g for g in section.genes[columns].tolist()]
    shown = np.asarray(shown_values(section, show)[:, columns], np.float32)
    values = pd.DataFrame(shown, columns=names)
    return pd.concat([pd.DataFrame(facts), values, pd.DataFrame(of_sets)], axis=1)


def set_columns(section: StoredPrediction) -> dict[str, npt.NDArray[np.float32]]:
    """The best graded gene sets' scores, as columns whose names no gene has."""
    scores = section.extras.gene_sets
    if scores is None or scores.values is None:
        return {}
    return {
        f"gene set {scores.names[k]}": scores.values[:, k] for k in scores.best(MAX_SETS).tolist()
    }


def about_file(
    section: StoredPrediction, columns: npt.NDArray[np.intp], show: Show
) -> dict[str, Any]:
    """What a file of chosen genes says of itself, as JSON values: units, model, and what is claimed of each gene."""
    known = UNITS if section.extras.gene_sets is not None else {}
    return {
        keys.SECTION_ID: section.section_id,
        keys.PATIENT_ID: section.patient_id,
        "model_id": str(section.record.get("model_id", "")),
        "shown": show,
        "explained": explained(show),
        "units": {
            "genes": unit(show),
            keys.PREDICTED_DEPTH: UNITS[keys.PREDICTED_DEPTH],
            **{name: known[name] for name in (keys.GENE_SETS,) if name in known},
        },
        **({TRAINING_NOTE: str(note)} if (note := section.record.get(TRAINING_NOTE)) else {}),
        "n_genes_here": len(columns),
        "n_genes_in_h5ad": int(section.record.get(N_WRITTEN, len(section.genes))),
        "claims": as_record(claims_of(section).subset(columns), section.genes[columns]),
    }


def write_parquet(
    path: Path,
    section: StoredPrediction,
    *,
    genes: Sequence[str] | None = None,
    show: Show = "composition",
) -> None:
    """Write `prediction_frame` as Parquet, in row groups of 65,536 spots; its metadata `hespotex` says units, section, model and claims.

    Raises:
        GenePanelError: a gene is not in the prediction.
        RunError: the file cannot be written.
    """
    import pyarrow as pa
    from pyarrow import parquet

    columns = chosen_columns(section, genes)
    chosen = [str(gene) for gene in section.genes[columns]]
    about = json.dumps(about_file(section, columns, show), allow_nan=False).encode()

    def rows(start: int) -> pa.Table:
        frame = prediction_frame(section.rows(slice(start, start + ROW_GROUP)), chosen, show)
        return pa.Table.from_pandas(frame, preserve_index=False)

    first = rows(0)
    schema = first.schema.with_metadata({**(first.schema.metadata or {}), b"hespotex": about})
    with atomic_path(path) as temporary, parquet.ParquetWriter(temporary, schema) as writer:
        writer.write_table(first.cast(schema), row_group_size=ROW_GROUP)
        for start in range(ROW_GROUP, len(section.barcodes), ROW_GROUP):
            writer.write_table(rows(start).cast(schema), row_group_size=ROW_GROUP)


EXPORTER: Final = Exporter(
    lambda path, section, wanted: write_parquet(
        path, section, genes=wanted.genes, show=wanted.show
    ),
    suffix=".parquet",
    most_genes=MAX_GENES,
)
