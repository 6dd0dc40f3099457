"""The pictures of a run: right genes, right places, readable with few and many genes."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from matplotlib.collections import EllipseCollection
from PIL import Image

from helpers.toy_prediction import (
    MARKED,
    toy_stored,
)
from hespotex.evaluation.measured_composition import measured_composition
from hespotex.export.claim_words import claims_of, short
from hespotex.export.h5ad import StoredPrediction
from hespotex.export.scales import column_limits, robust_limits
from hespotex.export.shown import COMPOSITION_IS
from hespotex.plots import maps as plots
from hespotex.plots import style


@pytest.fixture
def stored(tmp_path: Path) -> StoredPrediction:
    return toy_stored(tmp_path, measured=True)


def genes_table(n_genes: int, sections: tuple[str, ...] = ("S1",)) -> pd.DataFrame:
    rng = np.random.default_rng(0)
    names = [f"G{i}" for i in range(n_genes)]
    parts = [
        pd.DataFrame(
            {
                "section_id": section,
                "gene": names,
                "pcc_log1p": rng.normal(0.4, 0.1, n_genes),
                "pcc_composition": np.linspace(0.8, -0.2, n_genes),
                "ridge_pcc_log1p": rng.normal(0.3, 0.1, n_genes),
                "ridge_pcc_composition": rng.normal(0.2, 0.1, n_genes),
            }
        )
        for section in sections
    ]
    return pd.concat(parts, ignore_index=True)


def pixels(path: Path) -> np.ndarray:
    with Image.open(path) as picture:
        return np.asarray(picture.convert("RGB"))


def texts(figure: object) -> str:
    found = figure.findobj(lambda artist: hasattr(artist, "get_text"))
    return " | ".join(a.get_text() for a in found)


def test_genes_to_draw_are_ranked_without_genes_that_have_no_score() -> None:
    table = genes_table(7).sample(frac=1, random_state=1)
    table.loc[table.gene == "G0", "pcc_composition"] = np.nan
    picks = plots.pick_genes(table)
    assert [(p.label, p.gene) for p in picks] == [
        ("best", "G1"), ("second best", "G2"), ("middle", "G3"), ("worst", "G6"),
    ]  # fmt: skip
    assert picks[3].pcc_composition == pytest.approx(-0.2)


@pytest.mark.parametrize(("n", "labels"), [(0, []), (1, ["best"]), (2, ["best", "worst"])])
def test_fewer_genes_give_fewer_picks(n: int, labels: list[str]) -> None:
    assert [p.label for p in plots.pick_genes(genes_table(n))] == labels


def test_a_spot_is_drawn_over_what_lies_under_it(stored: StoredPrediction, tmp_path: Path) -> None:
    """Only spot MARKED has a value, and only under it the picture is dark."""
    figure = style.new_figure(4, 4)
    axes = style.place(figure, 0, 0, 4, 4)
    style.draw_tissue(axes, stored)
    x, y = np.round(
        axes.transData.transform(stored.xy_px0[MARKED]) * [1, -1] + [0, figure.bbox.height]
    ).astype(int)
    style.save_figure(figure, tmp_path / "tissue.png")
    picture = pixels(tmp_path / "tissue.png")
    assert picture[y, x].tolist() == [60, 20, 90]

    values = np.full(len(stored.barcodes), np.nan)
    values[MARKED] = 1.0
    style.draw_spots(axes, stored, values, limits=(0, 1), colours="Reds")
    style.save_figure(figure, tmp_path / "spots.png")
    picture = pixels(tmp_path / "spots.png").astype(int)
    red = (picture[..., 0] - picture[..., 2]) > 60
    rows, columns = np.nonzero(red)
    assert abs(columns.mean() - x) < 1.5
    assert abs(rows.mean() - y) < 1.5


def test_spots_have_their_true_size(stored: StoredPrediction) -> None:
    figure = style.new_figure(4, 4)
    axes = style.place(figure, 0, 0, 4, 4)
    spots = style.draw_spots(axes, stored, stored.log1p[:, 0], limits=(0, 1))
    np.testing.assert_allclose(spots.get_widths(), 100.0 / 2.0)


def test_measured_and_predicted_composition_of_a_gene_have_one_scale_around_0(
    stored: StoredPrediction,
) -> None:
    picks = (plots.GenePick("best", "TUM-01", 0.61, 0.42),)
    figure = plots.plot_genes(stored, picks)
    collections = [c for c in figure.findobj(EllipseCollection) if c.get_array() is not None]
    measured, predicted = collections
    expected = measured_composition(stored.measured_counts, np.array([4]))[:, 0]
    np.testing.assert_allclose(
        measured.get_array(), expected + stored.composition[:, 4].mean(), atol=1e-5
    )
    np.testing.assert_allclose(predicted.get_array(), stored.composition[:, 4])
    low, high = measured.get_clim()
    assert (low, high) == predicted.get_clim()
    assert low == -high
    claim = f"TUM-01 ({short(claims_of(stored), 4)})"
    for said in ("Section S1", claim, "0.61", "0.42", COMPOSITION_IS[:30], "patient P-7"):
        assert said.lower() in texts(figure).lower()


def test_pictures_of_genes_say_the_verdict_on_the_slide(stored: StoredPrediction) -> None:
    assert stored.extras.claims is not None
    for verdict in ("like the training slides", "unlike: staining"):
        told = replace(
            stored,
            extras=replace(stored.extras, claims=replace(stored.extras.claims, verdict=verdict)),
        )
        picks = (plots.GenePick("best", "TUM-01", 0.61, 0.42),)
        assert f"the slide is {verdict}" in texts(plots.plot_genes(told, picks)).lower()


def test_unmeasured_gene_is_drawn_hollow(stored: StoredPrediction) -> None:
    figure = plots.plot_genes(stored, (plots.GenePick("worst", "CD3E", np.nan, np.nan),))
    hollow = [c for c in figure.findobj(EllipseCollection) if c.get_array() is None]
    assert max(len(c.get_offsets()) for c in hollow) == len(stored.barcodes)


def test_pictures_need_measured_values(stored: StoredPrediction) -> None:
    bare = replace(stored, measured=None, measured_counts=None, measured_depth=None)
    with pytest.raises(ValueError, match="section S1: expected measured values"):
        plots.plot_genes(bare, ())
    with pytest.raises(ValueError, match="section S1: expected measured and predicted depth"):
        plots.plot_depth(bare)


@pytest.mark.slow
@pytest.mark.parametrize("n_genes", [1, 50, 5000])
def test_distribution_counts_every_gene_once_a_section(n_genes: int, tmp_path: Path) -> None:
    table = genes_table(n_genes, ("S1", "S2"))
    table.loc[: n_genes // 2, "pcc_log1p"] = np.nan
    table.loc[n_genes:, "pcc_log1p"] += 0.2
    figure = plots.plot_pcc_distribution(table)
    expected = table.pcc_log1p.mean()
    said = texts(figure)
    assert f"mean {expected:.3f}" in said
    assert f"{n_genes:,} genes" in said
    assert "genes in 2 sections" in said
    assert "ridge" in said
    assert "measured depth alone" not in said
    style.save_figure(figure, tmp_path / "pcc.png")
    with Image.open(tmp_path / "pcc.png") as picture:
        assert picture.size == (1999, 630)


def test_a_predictor_without_any_score_leaves_an_empty_row() -> None:
    table = genes_table(20).assign(ridge_pcc_composition=np.nan, ridge_pcc_log1p=np.nan)
    figure = plots.plot_pcc_distribution(table)
    assert texts(figure).count("mean 0") == 2


def test_depth_is_shown_with_its_correlation(stored: StoredPrediction) -> None:
    expected = np.corrcoef(np.log10(1 + stored.measured_depth), np.log10(1 + stored.depth))[0, 1]
    assert f"{expected:.2f}" in texts(plots.plot_depth(stored))


def test_equal_figures_give_equal_files(stored: StoredPrediction, tmp_path: Path) -> None:
    for name in ("a.png", "b.png"):
        style.save_figure(plots.plot_depth(stored), tmp_path / name)
    assert (tmp_path / "a.png").read_bytes() == (tmp_path / "b.png").read_bytes()


def test_section_without_a_picture_is_drawn_on_white(stored: StoredPrediction) -> None:
    figure = plots.plot_depth(replace(stored, thumbnail=None))
    assert not [image for axes in figure.axes for image in axes.images]


def test_limits_of_columns_equal_those_of_each_column() -> None:
    table = np.random.default_rng(0).normal(size=(57, 5))
    table[:9, 1] = np.nan
    table[:, 2] = 4.0
    table[:, 3] = np.nan
    expected = [robust_limits([column]) for column in table.T]
    np.testing.assert_allclose(column_limits(table), expected)


def test_names_are_drawn_as_they_are_whatever_signs_they_have(tmp_path: Path) -> None:
    figure = style.new_figure(4, 3)
    style.heading(figure, "cost$x^_$ 日本", "b$_{$")
    style.save_figure(figure, tmp_path / "a.png")  # neither a formula that is none, nor a warning
    plain = style.new_figure(4, 3)
    style.heading(plain, "cost", "b")
    style.save_figure(plain, tmp_path / "b.png")
    drawn, other = (np.asarray(Image.open(tmp_path / name)) for name in ("a.png", "b.png"))
    assert (drawn < 128).sum() > (other < 128).sum()
