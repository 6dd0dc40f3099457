"""Plans of painted cohorts: what is stated of patients, foci and scanners is what comes out, and truth is known anywhere."""

from __future__ import annotations

import itertools
from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from hespotex.datasets import (
    PaintedPatient,
    PaintedPlan,
    PaintedSection,
    Scanner,
    draw_patients,
    make_section_arrays,
    write_cohort,
)
from hespotex.datasets.tissue import FOCUS
from hespotex.progress import Silent
from hespotex.stages import read_sections

P = PaintedPatient
SMALL = PaintedPlan(
    seed=3,
    patients=(P("P1"), P("P2")),
    sections_per_patient=1,
    n_genes=100,
    lattice="hexagonal",
    side_um=800.0,
    mpp=4.0,
)
BLUE = Scanner(((0.8, 0.15, 0.05), (0.1, 0.9, 0.1), (0.0, 0.2, 0.8)))


@pytest.fixture(scope="module")
def plain() -> PaintedSection:
    return SMALL.section(0, 0)


def test_a_plain_plan_paints_what_the_plain_cohort_has(plain: PaintedSection) -> None:
    arrays = make_section_arrays(seed=3, n_genes=100, lattice="hexagonal", side_um=800.0, mpp=4.0)
    assert arrays.image.tobytes() == plain.arrays.image.tobytes()
    assert arrays.counts.tobytes() == plain.arrays.counts.tobytes()
    assert (plain.section_id, plain.patient_id, plain.frame.mpp) == ("P1S1", "P1", 4.0)


def test_sections_are_painted_one_by_one_and_do_not_depend_on_each_other() -> None:
    plan = replace(SMALL, sections_per_patient=2)
    ids = [plan.section_id(i, j) for i in range(2) for j in range(2)]
    painted = {s.section_id: s.arrays for s in itertools.islice(plan.sections(), 3)}
    assert list(painted) == ids[:3]
    alone = plan.section(1, 0).arrays
    assert alone.counts.tobytes() == painted["P2S1"].counts.tobytes()
    assert alone.image.tobytes() == painted["P2S1"].image.tobytes()


def test_the_level_of_a_gene_is_found_in_pooled_counts(plain: PaintedSection) -> None:
    """Of two genes alike in every tissue, the ratio moves by what is stated: exactly in what is expected."""
    stated = {"FLAT-01": 0.7, "FLAT-02": -0.4}
    level = replace(SMALL, patients=(P("P1", genes=stated), P("P2"))).section(0, 0)
    one, two = (int(np.flatnonzero(plain.arrays.truth.genes == name)[0]) for name in stated)

    def log_ratio(values: np.ndarray) -> float:
        pooled = values.sum(axis=0)
        return float(np.log(pooled[one] / pooled[two]))

    in_share = log_ratio(level.arrays.share) - log_ratio(plain.arrays.share)
    assert in_share == pytest.approx(1.1, abs=1e-9)
    counts = level.arrays.counts, plain.arrays.counts
    noise = np.sqrt(sum((1 / c.sum(axis=0)[[one, two]]).sum() for c in counts))
    assert log_ratio(counts[0]) - log_ratio(counts[1]) == pytest.approx(1.1, abs=4 * noise)
    assert level.arrays.image.tobytes() == plain.arrays.image.tobytes(), "no slide shows it"


def test_a_programme_has_a_level_and_it_is_listed() -> None:
    plan = replace(SMALL, patients=(P("P1", genes={"tumour": 0.5, "TUMOUR-02": 0.25}), P("P2")))
    added = plan.gene_levels(0) - SMALL.gene_levels(0)
    tumour = plan.genes.programme == "tumour"
    assert added[~tumour] == pytest.approx(0)
    assert added[tumour] == pytest.approx(np.where(plan.genes.genes[tumour] == "TUMOUR-02", 0.75, 0.5))  # fmt: skip
    none = replace(SMALL, gene_sd=0.0)
    assert not none.gene_levels(0).any()


def test_the_depth_of_a_patient_is_what_is_stated() -> None:
    plan = replace(SMALL, patients=(P("P1", depth=-0.8), P("P2")), mean_depth=3000.0)
    arrays = plan.section(0, 0).arrays
    assert np.exp(np.log(arrays.depth).mean()) == pytest.approx(3000.0 * np.exp(-0.8))
    ratio = arrays.counts.sum() / arrays.depth.sum()
    assert ratio == pytest.approx(1.0, abs=0.05)


def test_a_tissue_of_which_there_is_more_is_painted_more(plain: PaintedSection) -> None:
    more = replace(SMALL, patients=(P("P1", tissue={"tumour": 1.5}), P("P2"))).section(0, 0)
    share = [s.arrays.area[:, 1].sum() / s.arrays.area.sum() for s in (plain, more)]
    assert share[1] > share[0] + 0.2


FOCI = replace(
    SMALL,
    patients=(P("P1", label="case", foci=0.05), P("P2", label="control")),
    focus_genes=8,
)


@pytest.fixture(scope="module")
def case() -> PaintedSection:
    return FOCI.section(0, 0)


def test_foci_take_their_share_of_the_area_in_the_patients_that_have_them(
    case: PaintedSection,
) -> None:
    scene = case.truth.scene
    share = (scene.tissue == FOCUS).sum() / scene.outline.sum()
    assert share == pytest.approx(0.05, abs=1 / scene.outline.sum())
    assert not (scene.empty[scene.tissue == FOCUS] > 0).any()
    control = FOCI.section(1, 0)
    assert not (control.truth.scene.tissue == FOCUS).any()
    assert case.arrays.area.shape[1] == control.arrays.area.shape[1] == 7


def test_foci_lie_in_the_stated_sections_alone() -> None:
    patient = P("P1", foci=0.1, foci_sections=(1,))
    plan = replace(SMALL, patients=(patient,), sections_per_patient=2)
    has = [(s.truth.scene.tissue == FOCUS).any() for s in plan.sections()]
    assert has == [False, True]


def test_without_foci_a_control_is_the_same_section(case: PaintedSection) -> None:
    null = replace(FOCI, patients=(P("P1", label="case"), P("P2", label="control")))
    one, other = (plan.section(1, 0).arrays for plan in (FOCI, null))
    assert one.image.tobytes() == other.image.tobytes()
    assert one.counts.tobytes() == other.counts.tobytes()
    assert null.section(0, 0).arrays.image.tobytes() != case.arrays.image.tobytes()


def test_focus_genes_are_high_where_foci_are_and_all_others_stay_what_they_were(
    case: PaintedSection,
) -> None:
    truth, plain = FOCI.genes, SMALL.genes
    focus = truth.programme == "focus"
    assert truth.genes[focus].tolist() == [f"FOCUS-{i:02d}" for i in range(1, 9)]
    assert truth.predictable[focus].all()
    np.testing.assert_array_equal(truth.profile[:6], plain.profile)
    np.testing.assert_array_equal(truth.genes[~focus], plain.genes[~focus])
    in_focus = case.arrays.area[:, FOCUS] > 0.3
    assert in_focus.any()
    mean = case.arrays.share[:, focus].sum(axis=1)
    assert mean[in_focus].min() > 1.3 * np.median(mean[~in_focus])


def test_a_scanner_changes_colours_and_nothing_else(plain: PaintedSection) -> None:
    plan = replace(SMALL, patients=(P("P1", scanner="blue"), P("P2")), scanners={"blue": BLUE})
    seen = plan.section(0, 0)
    assert seen.scanner == "blue"
    assert seen.arrays.counts.tobytes() == plain.arrays.counts.tobytes()
    tissue = plain.truth.scene.outline & (plain.truth.scene.empty == 0)
    density = [-np.log(np.maximum(s.arrays.image[tissue], 1) / 255) for s in (plain, seen)]
    expected = density[0] @ np.array(BLUE.colour)
    error, change = (np.abs(density[1] - d).mean() for d in (expected, density[0]))
    assert error < 0.012
    assert change > 3 * error


def test_a_tone_curve_moves_light_as_stated_and_nothing_else(plain: PaintedSection) -> None:
    plan = replace(SMALL, patients=(P("P1", scanner="s"), P("P2")), scanners={"s": Scanner(contrast=0.8)})  # fmt: skip
    seen = plan.section(0, 0)
    light = plain.arrays.image / 255
    expected = 255 * (light + 0.8 * light * (1 - light) * (2 * light - 1))
    assert np.abs(seen.arrays.image - expected).max() <= 0.5 + 1e-9
    assert np.abs(seen.arrays.image - 255 * light).max() > 10
    assert seen.arrays.counts.tobytes() == plain.arrays.counts.tobytes()


def test_a_tone_curve_that_falls_is_refused() -> None:
    for contrast in (-2.0, 1.0):
        curve = Scanner(contrast=contrast).expose(np.arange(256, dtype=np.uint8)[None, :, None])
        assert (np.diff(curve[0, :, 0].astype(int)) >= 0).all()
    for contrast in (-2.1, 1.1):
        with pytest.raises(ValueError, match=f"expected a contrast from -2 to 1, found {contrast}"):
            Scanner(contrast=contrast)


def test_a_scanner_has_pixels_of_its_own() -> None:
    scanners = {"coarse": Scanner(mpp=8.0)}
    plan = replace(SMALL, patients=(P("P1", scanner="coarse"), P("P2")), scanners=scanners)
    coarse, usual = (plan.section(k, 0) for k in (0, 1))
    assert (coarse.frame.mpp, usual.frame.mpp) == (8.0, 4.0)
    assert coarse.arrays.image.shape[0] * 2 == usual.arrays.image.shape[0]


@pytest.mark.parametrize("seed", range(5))
def test_scanners_are_dealt_inside_each_label(seed: int) -> None:
    patients = draw_patients(24, seed=seed, labels=("case", "control"), scanners=("a", "b", "c"))
    cells = Counter((p.label, p.scanner) for p in patients)
    assert set(cells.values()) == {4}
    assert len(cells) == 6
    assert patients == draw_patients(
        24, seed=seed, labels=("case", "control"), scanners=("a", "b", "c")
    )


def test_a_label_says_nothing_of_the_patients_whose_genes_are_silent() -> None:
    patients = draw_patients(24, seed=1, labels=("case", "control"))
    cells = Counter((p.label, i % 2) for i, p in enumerate(patients))
    assert set(cells.values()) == {6}
    uneven = Counter(p.label for p in draw_patients(7, labels=("x", "y", "z")))
    assert sorted(uneven.values()) == [2, 2, 3]


def test_a_confounded_scanner_says_the_label() -> None:
    patients = draw_patients(
        10, labels=("case", "control"), foci={"case": 0.05}, scanners=("a", "b"), confounded=True
    )
    assert {(p.label, p.scanner, p.foci) for p in patients} == {
        ("case", "a", 0.05),
        ("control", "b", 0.0),
    }


def test_truth_at_the_spots_is_what_the_counts_were_drawn_from(case: PaintedSection) -> None:
    arrays = case.arrays
    truth = case.truth.at(arrays.xy_um)
    np.testing.assert_allclose(truth.share, arrays.share, rtol=1e-9)
    np.testing.assert_array_equal(truth.nuclei, arrays.nuclei)
    np.testing.assert_allclose(truth.area, arrays.area, atol=1e-12)
    luck = np.log(arrays.depth / truth.depth)
    assert 0.1 < luck.std() < 0.3
    assert abs(luck.mean()) < 0.1
    assert abs(np.corrcoef(luck, np.log(truth.depth))[0, 1]) < 0.5


def test_counts_lie_about_what_is_expected_of_each_gene(plain: PaintedSection) -> None:
    """Pooled over spots, within the noise of a negative binomial of dispersion 10."""
    arrays = plain.arrays
    expected = replace(plain.truth.at(arrays.xy_um), depth=arrays.depth).counts
    spread = np.sqrt(expected.sum(axis=0) + (expected**2).sum(axis=0) / 10)
    z = (arrays.counts.sum(axis=0) - expected.sum(axis=0)) / np.maximum(spread, 1e-9)
    assert abs(z[expected.sum(axis=0) > 0]).max() < 4.5
    assert 0.7 < z.std() < 1.3


def test_truth_is_known_on_a_lattice_as_fine_as_one_likes(plain: PaintedSection) -> None:
    """Overlapping discs each count for themselves; beyond the tissue nothing is expected."""
    x, y = np.meshgrid(np.arange(8.0, 800, 16), np.arange(8.0, 800, 16))
    xy_um = np.column_stack([x.ravel(), y.ravel()])
    fine = plain.truth.at(xy_um, diameter_um=16.0)
    scene = plain.truth.scene
    tissue = np.where(scene.outline, 1 - scene.empty, 0).mean()
    assert fine.area.sum(axis=1).mean() == pytest.approx(tissue, abs=0.02)
    glass = fine.area.sum(axis=1) == 0
    assert np.isnan(fine.share[glass & (fine.nuclei.sum(axis=1) == 0)]).all()
    np.testing.assert_allclose(fine.share[~glass].sum(axis=1), 1.0)
    assert not fine.depth[glass].any()
    some = np.flatnonzero(~glass)[::97]
    alone = plain.truth.at(xy_um[some])
    np.testing.assert_array_equal(plain.truth.at(xy_um).nuclei[some], alone.nuclei)
    assert fine.counts.shape == (len(xy_um), 100)
    assert not fine.counts[glass & (fine.depth == 0)].any()


def test_counts_of_a_fine_lattice_are_drawn_piece_by_piece_about_the_truth(
    plain: PaintedSection, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("hespotex.datasets.truth._PIECE", 700)
    xy_um = np.random.default_rng(1).uniform(0, 800, size=(2000, 2))
    expected = plain.truth.at(xy_um, 20.0)
    drawn = plain.truth.draw_counts(
        np.random.default_rng(2), xy_um, diameter_um=20.0, depth_factor=0.5
    )
    counts = drawn.toarray()
    assert counts.dtype == np.int32
    assert not counts[expected.depth == 0].any()
    usual = plain.truth.genes.programme != "rare"
    # exp(0.02) is the mean of a spot's luck in capturing, 0.04 about its variance beside the 0.1 of the counts.
    mean = 0.5 * np.exp(0.02) * expected.counts[:, usual]
    spread = np.sqrt(mean.sum(axis=0) + 0.15 * (mean**2).sum(axis=0))
    z = (counts[:, usual] - mean).sum(axis=0) / spread
    assert abs(z).max() < 4.5
    assert abs(z.mean()) < 1


@pytest.mark.slow
def test_a_written_plan_passes_the_preflight_with_its_columns(tmp_path: Path) -> None:
    patients = draw_patients(2, labels=("case", "control"), foci={"case": 0.08}, scanners=("a",))
    plan = replace(
        SMALL, patients=patients, focus_genes=5, scanners={"a": BLUE}, mpp=None, side_um=1200.0
    )
    manifest = write_cohort(plan, tmp_path)
    table = pd.read_csv(manifest)
    assert table.x_label.tolist() == ["case", "control"]
    assert table.x_scanner.tolist() == ["a", "a"]
    assert "area_focus" in pd.read_csv(tmp_path / "truth" / "P1S1_tissue.csv")
    sections = read_sections(manifest, None, Silent())
    assert [s.section_id for s in sections] == ["P1S1", "P2S1"]


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda: replace(SMALL, patients=(P("a"), P("a"))), "a name of its own"),
        (lambda: replace(SMALL, patients=(P("a", scanner="x"),)), "a scanner of none, found x"),
        (lambda: replace(SMALL, patients=(P("a", genes={"EGFR": 1.0}),)), "found EGFR"),
        (lambda: replace(SMALL, patients=(P("a", genes={"rare": 1.0}),)), "that has a level"),
        (lambda: replace(SMALL, side_um=3300.0), "at most 3200 um, found 3300.0"),
        (lambda: replace(SMALL, focus_genes=90), "at most .* focus genes, the flat ones; found 90"),
        (lambda: P("a", tissue={"bone": 1.0}), "expected tissues of stroma, .*, found bone"),
        (lambda: P("a", foci=1.0), "share of foci from 0 to below 1, found 1.0"),
        (lambda: draw_patients(4, labels="xy", scanners="a", confounded=True), "2 scanners"),
    ],
)
def test_a_plan_that_contradicts_itself_is_refused(make: object, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        make()  # type: ignore[operator]


def test_apart_what_a_picture_shows_moves_no_share_of_a_gene_that_it_does_not_show() -> None:
    plan = replace(SMALL, gene_sd=0.0, apart=True)
    flat = plan.genes.programme == "flat"
    found = {name: p.section(0, 0).arrays for name, p in (("apart", plan), ("as they are", SMALL))}
    spread = {name: np.ptp(np.log(a.share), axis=0)[flat].max() for name, a in found.items()}
    np.testing.assert_allclose(found["apart"].share.sum(axis=1), 1)
    shown = plan.genes.predictable
    np.testing.assert_allclose(found["apart"].share[:, shown].sum(axis=1), shown.mean())
    # Flat genes share what smooth ones leave; the picture has no part in it.
    of_block = found["apart"].share[:, ~shown]
    tissue = found["apart"].area
    assert spread["as they are"] > 0.1
    assert abs(np.corrcoef(of_block[:, flat[~shown]][:, 0], tissue[:, 0])[0, 1]) < 0.5
