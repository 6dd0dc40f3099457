"""Pictures of single genes: one a gene, under its name, in the colours of its values."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from helpers.drawn import beyond_the_page
from helpers.toy_prediction import GENES, toy_stored
from hespotex.errors import GenePanelError
from hespotex.export.h5ad import StoredPrediction
from hespotex.plots.gene_pictures import plot_gene, write_gene_pictures


@pytest.fixture
def stored(tmp_path: Path) -> StoredPrediction:
    return toy_stored(tmp_path)


@pytest.mark.slow
def test_a_folder_holds_the_wanted_genes_alone_and_is_replaced_as_a_whole(
    stored: StoredPrediction, tmp_path: Path
) -> None:
    folder = tmp_path / "S1.pictures"
    write_gene_pictures(folder, stored, genes=GENES[:2])
    assert {p.name for p in folder.iterdir()} == {f"{g}.png" for g in GENES[:2]}
    with Image.open(folder / f"{GENES[0]}.png") as picture:
        assert min(picture.size) > 1000
    write_gene_pictures(folder, stored, genes=[GENES[2]])
    assert [p.name for p in folder.iterdir()] == [f"{GENES[2]}.png"]
    assert not list(tmp_path.glob(".*"))


def test_colours_follow_the_values_and_the_words_stay_on_the_page(stored: StoredPrediction) -> None:
    figure = plot_gene(stored, 1)
    assert beyond_the_page(figure) == 0
    drawn = next(c for c in figure.axes[0].collections if c.get_array() is not None)
    np.testing.assert_array_equal(drawn.get_array(), stored.composition[:, 1])


@pytest.mark.slow
def test_a_name_that_is_no_file_name_is_made_one(stored: StoredPrediction, tmp_path: Path) -> None:
    named = replace(stored, genes=np.array(["HLA/A:1", *GENES[1:]]))
    write_gene_pictures(tmp_path / "S1.pictures", named, genes=["HLA/A:1"])
    assert [p.name for p in (tmp_path / "S1.pictures").iterdir()] == ["HLA_A_1.png"]


def test_a_slide_without_spots_has_no_picture(stored: StoredPrediction, tmp_path: Path) -> None:
    none = replace(
        stored, barcodes=stored.barcodes[:0], xy_px0=stored.xy_px0[:0], log1p=stored.log1p[:0]
    )
    write_gene_pictures(tmp_path / "S1.pictures", none)
    assert not list((tmp_path / "S1.pictures").iterdir())


def test_an_unknown_gene_leaves_the_folder_as_it_is(
    stored: StoredPrediction, tmp_path: Path
) -> None:
    write_gene_pictures(tmp_path / "S1.pictures", stored, genes=GENES[:1])
    with pytest.raises(GenePanelError, match="found unknown: NOSUCH"):
        write_gene_pictures(tmp_path / "S1.pictures", stored, genes=["NOSUCH"])
    assert len(list((tmp_path / "S1.pictures").iterdir())) == 1
