"""Fine bins become squares that hold enough counts: by a rule that looks at one section, along the bins' own lattice."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import sparse

from hespotex.config import PoolingConfig
from hespotex.errors import SpotTableError
from hespotex.geometry import Geometry
from hespotex.models.types import EncodedSection
from hespotex.progress import Silent
from hespotex.sections.fine import (
    LEAST_COUNTS,
    MOST_SQUARES,
    fitted_squares,
    in_squares,
    null_holds,
    own_squares,
    sizes_of,
    squares,
)
from hespotex.sections.section import Section

MPP = 0.5


def fine_section(
    n_side: int, counts: float | np.ndarray, *, pitch: float = 16.0, turn: float = 0.0
) -> Section:
    """A square of bins, row by row; `counts` of one gene in each, the same in a second one."""
    row, column = np.divmod(np.arange(n_side**2), n_side)
    place = np.column_stack([column, row]).astype(float)
    c, s = np.cos(turn), np.sin(turn)
    xy_um = (place + 0.5) * pitch @ np.array([[c, s], [-s, c]]) + 50.0
    values = np.broadcast_to(np.asarray(counts, np.float32), n_side**2)
    return Section(
        section_id="F",
        patient_id="P",
        slide=None,
        geometry=Geometry(MPP, pitch, pitch),
        barcodes=np.array([f"b{i}" for i in range(n_side**2)]),
        xy_px0=xy_um / MPP,
        counts=sparse.csr_matrix(np.column_stack([values, values])),
        genes=np.array(["A", "B"]),
        array_xy=place,
    )


def test_bins_are_summed_and_a_square_lies_where_its_area_does() -> None:
    section = fine_section(4, np.arange(16))
    found = squares(section, 32.0)
    assert found.section.counts is not None
    order = np.lexsort(found.section.array_xy.T)  # type: ignore[union-attr]
    dense = np.arange(16).reshape(2, 2, 2, 2).sum(axis=(1, 3)).ravel()
    np.testing.assert_array_equal(found.section.counts.toarray()[order, 0], dense)
    np.testing.assert_allclose(
        found.section.xy_um[order] - 50.0, [[16, 16], [48, 16], [16, 48], [48, 48]]
    )
    assert found.section.geometry.spot_pitch_um == found.section.geometry.spot_diameter_um == 32.0


@pytest.mark.parametrize("with_places", [True, False])
def test_squares_follow_a_turned_lattice_where_rows_and_columns_are_known(
    with_places: bool,
) -> None:
    section = fine_section(16, 1.0, turn=0.3)
    found = squares(section if with_places else replace(section, array_xy=None), 64.0)
    assert found.section.counts is not None
    each = found.section.counts.toarray()[:, 0]
    if with_places:
        np.testing.assert_array_equal(each, np.full(16, 16.0))
        expected = section.xy_um.reshape(4, 4, 4, 4, 2).mean(axis=(1, 3)).reshape(-1, 2)
        order = np.lexsort(found.section.array_xy.T)  # type: ignore[union-attr]
        np.testing.assert_allclose(found.section.xy_um[order], expected)
    else:
        assert each.min() < 16 < each.max() + 1


@pytest.mark.parametrize(
    ("n_side", "depth", "side"),
    [
        (32, LEAST_COUNTS / 2, 16.0),  # two genes: LEAST_COUNTS in a bin
        (32, LEAST_COUNTS / 2 - 1, 32.0),
        (32, LEAST_COUNTS / 32, 64.0),
        (32, 1.0, 64.0),  # shallow: no wider for the sake of counts
        (260, 1.0, 64.0),
        (530, 1.0, 128.0),  # more than MOST_SQUARES of 64 um
        (130, LEAST_COUNTS, 32.0),  # deep, but more than MOST_SQUARES
    ],
)
def test_squares_double_until_they_hold_enough_counts_and_are_few_enough(
    n_side: int, depth: float, side: float
) -> None:
    found = fitted_squares(fine_section(n_side, depth))
    assert found.geometry.spot_pitch_um == side
    assert found.n_spots <= MOST_SQUARES
    assert found.n_spots == np.ceil(n_side * 16 / side - 0.5) ** 2
    assert found.bins is not None


def test_coarse_lattices_slides_and_given_features_stay_as_they_are(tmp_path) -> None:  # type: ignore[no-untyped-def]
    coarse = fine_section(8, 1.0, pitch=50.0)
    fine = fine_section(8, 1.0)
    for section in (
        coarse,
        replace(fine, counts=None, genes=None),
        replace(fine, features_file=tmp_path / "features.h5"),
    ):
        assert fitted_squares(section) is section
    with pytest.raises(SpotTableError, match="squares of fine bins"):
        own_squares(coarse)


def test_a_stated_side_is_taken_and_one_that_cuts_bins_is_refused() -> None:
    section = fine_section(8, 1000.0)
    assert fitted_squares(section, 64.0).geometry.spot_pitch_um == 64.0
    assert fitted_squares(section, 48.0).geometry.spot_pitch_um == 48.0
    bins = fitted_squares(section, 10.0)
    np.testing.assert_array_equal(bins.barcodes, section.barcodes)
    np.testing.assert_array_equal(own_squares(bins).member, np.arange(64))
    with pytest.raises(SpotTableError, match=r"multiple of the lattice's 16 um, found 40"):
        fitted_squares(section, 40.0)


def test_no_squares_are_finer_than_the_null_was_simulated_for() -> None:
    section = fine_section(16, LEAST_COUNTS, pitch=8.0)
    assert not null_holds(section)
    found = fitted_squares(section)  # a single bin would be deep enough
    assert found.geometry.spot_pitch_um == 16.0
    assert null_holds(found)
    assert fitted_squares(section, 16.0).n_spots == found.n_spots == 64
    for side in (8.0, 4.0):
        with pytest.raises(
            SpotTableError,
            match=rf"of at least 16, .*found {side:g}, where bins are 8 um apart; leave",
        ):
            fitted_squares(section, side)


def test_squares_at_a_rim_with_few_bins_are_left_out_and_counted() -> None:
    found = squares(fine_section(9, 1.0), 64.0)
    assert found.section.n_spots == 4
    assert found.section.dropped == {"bins at a rim": 81 - 64}
    assert (found.member < 0).sum() == 17


def test_columns_that_differ_between_bins_are_said_of_no_square() -> None:
    section = fine_section(4, 1.0)
    obs = pd.DataFrame({"x_lab": "L", "label": list("abcdabcdabcdabcd")}, index=section.barcodes)
    found = squares(replace(section, obs=obs), 32.0).section
    assert found.obs is not None
    assert list(found.obs.columns) == ["x_lab"]
    assert list(found.obs.index) == found.barcodes.tolist()


def test_what_a_model_sees_of_a_section_has_no_bins() -> None:
    section = fitted_squares(fine_section(32, 20.0))
    item = EncodedSection(section, np.zeros((section.n_spots, 1, 1), np.float32))
    assert item.without_expression().section.bins is None
    assert section.spots(np.arange(2)).bins is None


def test_the_counts_of_one_section_decide_nothing_of_another() -> None:
    first, other = fine_section(32, 20.0), fine_section(32, 0.5)
    deep = replace(other, counts=other.counts * 2000)  # type: ignore[operator]
    one, two = (in_squares([first, o], PoolingConfig(), Silent()) for o in (other, deep))
    assert one[1].n_spots != two[1].n_spots
    assert one[0].expression_key() == two[0].expression_key()


def test_a_run_is_told_what_became_of_the_bins() -> None:
    said: list[str] = []
    reporter = Silent()
    reporter.say = said.append  # type: ignore[method-assign, assignment]
    in_squares(
        [fine_section(32, 20.0), fine_section(8, 1.0, pitch=100.0)], PoolingConfig(), reporter
    )
    assert said == [
        "section F: 1,024 spots 16 um apart are fitted on and scored as 64 squares of 64 um "
        "(640 counts in the median)"
    ]


@settings(max_examples=25, deadline=None)
@given(
    n_side=st.integers(4, 20),
    turn=st.floats(-0.1, 0.1),
    seed=st.integers(0, 99),
    kept=st.floats(0.5, 1.0),
)
def test_squares_nest_and_no_count_is_lost_or_doubled(
    n_side: int, turn: float, seed: int, kept: float
) -> None:
    rng = np.random.default_rng(seed)
    section = fine_section(n_side, rng.poisson(3.0, n_side**2), turn=turn)
    section = section.spots(np.flatnonzero(rng.random(n_side**2) < kept))
    if section.n_spots == 0:
        return
    for size in sizes_of(section):
        found = squares(section, size)
        assert found.section.counts is not None
        assert section.counts is not None
        inside = found.member >= 0
        sums = np.bincount(
            found.member[inside], section.counts.toarray()[inside, 0], found.section.n_spots
        )
        np.testing.assert_allclose(sums, found.section.counts.toarray()[:, 0])
        larger = squares(section, 2 * size).member
        for square in range(found.section.n_spots):
            assert len(np.unique(larger[found.member == square])) == 1
