"""A training section of fine bins is known again as bins, in squares and in part; another section's bins are not taken for it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from helpers.fine_cohort import fine_cohort
from helpers.heard import Heard
from hespotex.config import PanelConfig, PoolingConfig, RunConfig
from hespotex.errors import SpotTableError
from hespotex.genes.panel import GenePanel
from hespotex.models.bundle import Bundle, TrainedOn, read_model, write_model
from hespotex.models.trained_on import check_not_trained_on, training_note, with_inputs
from hespotex.models.types import EncoderRecord, FittedModel
from hespotex.sections.fine import fitted_squares
from hespotex.sections.section import Section


@pytest.fixture(scope="module")
def squares() -> dict[str, Section]:
    """Three sections of 1,600 bins, summed into squares."""
    found = {item.section.section_id: item.section for item in fine_cohort().items}
    assert all(len(s.barcodes) < 500 for s in found.values())
    return found


@pytest.fixture(scope="module")
def bundle(squares: dict[str, Section], tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    """A model file that was written after a fit on the squares of A1, read again."""
    section, path = squares["A1"], tmp_path_factory.mktemp("bins") / "m.hespotex"
    panel = GenePanel.fit([section], PanelConfig())
    made = Bundle(
        config=RunConfig(),
        genes=panel.genes,
        training_totals=panel.training_totals,
        encoder=EncoderRecord("toy", "k", 3, 16, (0.5,) * 3, (0.5,) * 3),
        sides_um=(50.0,),
        spot_pitch_um=section.geometry.spot_pitch_um,
        spot_diameter_um=section.geometry.spot_diameter_um,
        sections=(TrainedOn("A1", "A", section.expression_key(), section.n_spots, 0.5),),
        model=FittedModel("default", {"w": np.zeros(2, np.float32)}),
    )
    write_model(path, with_inputs(made, [section]))
    return read_model(path)


def bins_of(section: Section) -> Section:
    """As `predict` reads the section."""
    assert section.bins is not None
    return section.bins


def a_part(bins: Section) -> Section:
    """Without its first rows and columns: its squares hold other bins than those that were fitted."""
    assert bins.array_xy is not None
    return bins.spots(np.flatnonzero((bins.array_xy >= 3).all(axis=1)))


def older(bundle: Bundle) -> Bundle:
    """A file of before bins were written down."""
    return replace(bundle, sections=(replace(bundle.sections[0], bins=None),))


def test_the_bins_of_a_training_section_are_recognised(
    squares: dict[str, Section], bundle: Bundle
) -> None:
    heard, own = Heard(), bins_of(squares["A1"])
    for known in (bundle, older(bundle)):
        note = training_note(known, own, heard)
        assert note is not None
        assert note.startswith("the model was fitted on this section (its training section A1)")
    assert heard.warned[0].startswith("section A1: the model was fitted on this section")


def test_a_part_and_a_shifted_copy_of_the_bins_are_recognised(
    squares: dict[str, Section], bundle: Bundle
) -> None:
    own = bins_of(squares["A1"])
    part = a_part(own)
    note = training_note(bundle, part, Heard())
    assert note is not None
    assert "of 1," not in note  # a sketch was compared
    assert "compared spots in its training section A1" in note
    assert training_note(bundle, replace(own, xy_px0=own.xy_px0 + 7), Heard()) is not None
    assert training_note(older(bundle), part, Heard()) is None  # of the squares it shares none


def test_squares_of_a_part_are_refused_where_they_would_be_scored(
    squares: dict[str, Section], bundle: Bundle
) -> None:
    for section in (squares["A1"], fitted_squares(a_part(bins_of(squares["A1"])))):
        with pytest.raises(
            SpotTableError,
            match=r"section A1: .*was not trained on, found .*its training section A1",
        ):
            check_not_trained_on(Path("m.hespotex"), bundle, [section])


@pytest.mark.parametrize("other", ["A2", "B1"])
def test_bins_and_squares_of_other_sections_pass(
    squares: dict[str, Section], bundle: Bundle, other: str
) -> None:
    heard = Heard()
    assert training_note(bundle, bins_of(squares[other]), heard) is None
    check_not_trained_on(Path("m.hespotex"), bundle, [squares[other], bins_of(squares[other])])
    assert heard.warned == []


def test_bins_that_fill_no_square_of_the_stated_side_are_still_compared(
    squares: dict[str, Section], bundle: Bundle
) -> None:
    config = bundle.config.model_copy(update={"pooling": PoolingConfig(side_um=40.0)})
    odd = replace(bundle, config=config)
    assert training_note(odd, bins_of(squares["A2"]), Heard()) is None
    assert training_note(odd, bins_of(squares["A1"]), Heard()) is not None
    assert training_note(older(odd), bins_of(squares["A1"]), Heard()) is None
