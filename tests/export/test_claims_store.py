"""Claims travel in prediction files; files of 0.1.0 open, and claim nothing."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import anndata
import matplotlib as mpl
import numpy as np
import pytest

from helpers.made_claims import claims_of
from helpers.toy_prediction import GENES, toy_extras, toy_half_widths, toy_prediction, toy_section
from hespotex.export.h5ad import read_prediction, write_prediction
from hespotex.export.h5ad_chunks import read_some_genes, write_prediction_by_chunks

OF_0_1_0 = Path(__file__).parents[1] / "stored" / "tiny-0.1.0.h5ad"
CLAIMS = claims_of(["A", "B", "C", "D", "D", "ungraded"])


def _write(path: Path, columns: list[int] | None, *, chunks: bool) -> Path:
    section, prediction = toy_section(), toy_prediction(toy_section())
    extras = replace(toy_extras(section), claims=CLAIMS)
    if not chunks:
        write_prediction(
            path,
            section=section,
            genes=GENES,
            prediction=prediction,
            extras=extras,
            columns=None if columns is None else np.array(columns, np.intp),
        )
        return path
    whole = {"log1p": prediction.log1p, "composition": prediction.composition,
             "lower": extras.lower, "upper": extras.upper}  # fmt: skip
    write_prediction_by_chunks(
        path,
        section=section,
        genes=GENES,
        depth=prediction.depth,
        extras=extras,
        chunks=[(slice(0, section.n_spots), whole)],
        thumbnail=None,
        provenance={"n_panel_genes": len(GENES)},
        columns=None if columns is None else np.array(columns, np.intp),
    )
    return path


@pytest.mark.parametrize("chunks", [False, True])
@pytest.mark.parametrize("columns", [None, [5, 0, 3], []])
def test_claims_are_read_as_they_were_written(
    tmp_path: Path, columns: list[int] | None, chunks: bool
) -> None:
    path = _write(tmp_path / "S1.h5ad", columns, chunks=chunks)
    expected = CLAIMS if columns is None else CLAIMS.subset(columns)
    found = read_prediction(path).extras.claims
    assert found is not None
    widths = read_prediction(path).extras.half_width
    kept = slice(None) if columns is None else columns
    np.testing.assert_array_equal(widths, toy_half_widths()[:, kept])
    for name, values in expected.columns().items():
        np.testing.assert_array_equal(found.columns()[name], values, err_msg=name)
    assert found.counts() == CLAIMS.counts()
    assert found.sentence() == CLAIMS.sentence()
    record = anndata.read_h5ad(path).uns["hespotex"]
    assert record["format_version"] == 2
    assert record["sentence"] == CLAIMS.sentence()
    assert record["scope"] == "between_patients"
    assert record["evidence_counts"] == CLAIMS.counts()
    assert record["reason"] == CLAIMS.reason
    assert "given measured depth" in record["score_is"]


def test_a_few_genes_of_a_file_bring_their_claims(tmp_path: Path) -> None:
    path = _write(tmp_path / "S1.h5ad", None, chunks=True)
    claims = read_some_genes(path, [GENES[3], GENES[1]]).extras.claims
    assert claims is not None
    assert claims.grade.tolist() == ["D", "B"]


# The library warns of its own futures while it is imported and drawn; not ours to cure.
@pytest.mark.filterwarnings("ignore::FutureWarning")
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.filterwarnings("ignore::PendingDeprecationWarning")
@pytest.mark.filterwarnings("ignore::SyntaxWarning")
@pytest.mark.parametrize("chunks", [False, True])
def test_a_file_without_genes_is_opened_by_scanpy(tmp_path: Path, chunks: bool) -> None:
    mpl.use("agg")
    import matplotlib.pyplot as plt
    import scanpy

    table = scanpy.read_h5ad(_write(tmp_path / "S1.h5ad", [], chunks=chunks))
    assert table.shape == (toy_section().n_spots, 0)
    assert {"predicted_depth", "ood_score", "ood"} <= set(table.obs)
    assert table.layers["composition"].shape == table.shape
    assert {"grade", "evidence", "scope"} <= set(table.var)
    figure = scanpy.pl.embedding(table, "spatial", color=["predicted_depth"], return_fig=True)
    drawn = figure.axes[0].collections[0].get_offsets()
    plt.close("all")
    assert len(drawn) == len(table)


def test_a_prediction_of_0_1_0_opens_with_scope_none_and_no_letter() -> None:
    stored = read_prediction(OF_0_1_0)
    table = anndata.read_h5ad(OF_0_1_0)
    assert table.uns["hespotex"]["format_version"] == 1
    assert set(table.var["grade"]) == set("ABCD")  # what it said then
    claims = stored.extras.claims
    assert claims is not None
    assert len(claims) == len(stored.genes) == 6
    assert set(claims.grade) == {"ungraded"}
    assert set(claims.evidence) == {"untested"}
    assert claims.scope == "none"
    assert claims.counts()["untested"] == 6
    assert "hespotex 0.1.0" in claims.sentence()
    np.testing.assert_array_equal(stored.log1p, np.asarray(table.X))
    assert stored.extras.ood_score is not None
