"""The overview of a slide: words stay on the page and tell what was found, however long names and notes are."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import shapely

from helpers.drawn import beyond_the_page
from helpers.made_claims import claims_of
from helpers.toy_prediction import GENES, GRADES, toy_stored
from hespotex.export.h5ad import StoredPrediction
from hespotex.plots.overview import plot_overview

TISSUE = shapely.MultiPolygon([shapely.box(80, 120, 640, 580)])
NOTES = [
    "predicted at its own spots; measured values are written by a manifest of sections alone",
    "0.5 um per pixel is used as stated; the slide's tag openslide.mpp says 0.25",
    "accepted by the user: spots of the section lie outside the image, and are left out of all that follows",
]


@pytest.fixture
def stored(tmp_path: Path) -> StoredPrediction:
    return toy_stored(tmp_path)


def _nothing(stored: StoredPrediction) -> StoredPrediction:
    none = np.zeros(0, dtype=np.intp)
    return replace(
        stored, barcodes=stored.barcodes[none], xy_px0=stored.xy_px0[none], log1p=stored.log1p[none],
        depth=stored.depth[none],
    )  # fmt: skip


def unlike(stored: StoredPrediction) -> StoredPrediction:
    verdict = "unlike: tissue, staining"
    claims = claims_of(GRADES, verdict=verdict)
    return replace(
        stored,
        extras=replace(stored.extras, claims=claims),
        record={**stored.record, "ood_verdict": verdict},
    )


def _words(figure) -> list[str]:  # type: ignore[no-untyped-def]
    return [text.get_text() for text in figure.texts]


@pytest.mark.parametrize("genes", [GENES[:3], GENES[:1], ()])
@pytest.mark.parametrize("depth", [True, False])
def test_words_stay_on_the_page(
    stored: StoredPrediction, genes: tuple[str, ...], depth: bool
) -> None:
    named = replace(stored, section_id="slide of a very long name " * 8)
    if not depth:
        named = replace(named, depth=np.full_like(named.depth, np.nan))
    figure = plot_overview(unlike(named), genes, tissue=TISSUE, notes=NOTES, n_bad=3)
    _assert_words_apart(figure)
    assert "…" in _words(figure)[0]


def _assert_words_apart(figure) -> None:  # type: ignore[no-untyped-def]
    figure.canvas.draw()
    page = figure.bbox
    boxes = [text.get_window_extent() for text in figure.texts]
    assert all(b.x0 >= 0 and b.y0 >= 0 and b.x1 <= page.x1 and b.y1 <= page.y1 for b in boxes)
    overlapping = [
        (one.get_text(), other.get_text())
        for k, one in enumerate(figure.texts)
        for m, other in enumerate(figure.texts[k + 1 :], start=k + 1)
        if boxes[k].overlaps(boxes[m])
    ]
    assert not overlapping


def test_grades_within_patients_stand_below_their_genes_and_a_training_section_is_named_first(
    stored: StoredPrediction,
) -> None:
    note = "the model was fitted on this section (its training section S1): that predicted and measured agree here says nothing of others"
    claims = claims_of(("A",) * len(GENES), scope="within_patient")
    trained = replace(
        stored,
        measured=stored.log1p,
        extras=replace(stored.extras, claims=claims),
        record={**stored.record, "training_note": note},
    )
    figure = plot_overview(trained, GENES[:3], tissue=TISSUE)
    _assert_words_apart(figure)
    words = _words(figure)
    assert words.count("grade A, training patients alone") == 3
    assert set(GENES[:3]) - {"ENSG00000141736.9"} <= set(words)
    assert " ".join(words[1].split()).startswith("The model was fitted on this section")


@pytest.mark.slow
def test_a_section_that_was_measured_is_not_said_to_be_unmeasured(stored: StoredPrediction) -> None:
    told = " ".join(_words(plot_overview(stored, GENES[:3])))
    assert "nothing here was measured" in told
    measured = replace(stored, measured=stored.log1p)
    told = " ".join(_words(plot_overview(measured, GENES[:3])))
    assert "nothing here was measured" not in told
    assert "what was measured stands beside it in the h5ad" in told


def test_colour_bars_of_small_numbers_stay_on_the_page(stored: StoredPrediction) -> None:
    small = replace(stored, log1p=(stored.log1p - stored.log1p.mean()) / 100)
    figure = plot_overview(small, GENES[:3], tissue=TISSUE)
    assert beyond_the_page(figure) == 0


@pytest.mark.parametrize(
    ("tissue", "note", "told"),
    [
        (shapely.MultiPolygon(), "no tissue found", ["No tissue found: nothing was predicted."]),
        (
            TISSUE,
            "the outline in t.geojson holds no spot of the grid on this slide",
            [
                "No spot of the grid lies on the tissue: nothing was predicted.",
                "The outline in t.geojson holds no spot of the grid on this slide.",
            ],
        ),
    ],
)
def test_a_slide_without_spots_says_why_and_nothing_of_grades(
    stored: StoredPrediction, tissue: shapely.MultiPolygon, note: str, told: list[str]
) -> None:
    figure = plot_overview(_nothing(stored), (), tissue=tissue, notes=[note])
    words = _words(figure)
    assert words[words.index("H&E") + 1 :] == told
