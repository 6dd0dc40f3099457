"""Intervals of a region's composition find the error beneath counting noise, and hold what they state."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import numpy.typing as npt
import pytest

from hespotex.errors import HESpotExError
from hespotex.evaluation.intervals import LEVELS
from hespotex.evaluation.region_intervals import (
    RegionIntervals,
    calibrate_regions,
    region_coverage,
    region_errors,
    spread_follows_error,
)
from hespotex.evaluation.regions import HeldOutRegions, Regions


def fit(
    sections: Sequence[HeldOutRegions], sizes: Sequence[int], levels: Sequence[float] = LEVELS
) -> RegionIntervals | None:
    return calibrate_regions([region_errors(s) for s in sections], sizes, levels)


def drawn(
    rng: np.random.Generator,
    sd: npt.NDArray[np.float64],
    mean: npt.NDArray[np.float64],
    *,
    k: int = 150,
    shared: float = 0.0,
    sizes: tuple[int, ...] = (4,),
) -> HeldOutRegions:
    """Counts whose expectations err by a log-normal factor, of which a part is the whole section's."""
    by_size = {}
    for size in sizes:
        own = rng.normal(size=(k, len(sd))) * np.sqrt(1 - shared)
        own += rng.normal(size=len(sd)) * np.sqrt(shared)
        expected = np.broadcast_to(mean, own.shape)
        counts = rng.poisson(expected * np.exp(own * sd))
        genes = np.ones(len(sd), bool)
        by_size[size] = Regions(
            counts.astype(np.float32), expected.astype(np.float32), genes, np.arange(k)[:, None]
        )
    return HeldOutRegions(by_size)


def test_the_deviation_of_each_gene_is_found_beneath_counting_noise() -> None:
    rng = np.random.default_rng(0)
    sd, mean = np.tile([0.15, 0.5], 30), np.full(60, 40.0)
    found = fit([drawn(rng, sd, mean, k=300) for _ in range(4)], (4,))
    assert found is not None
    np.testing.assert_allclose(found.sd[0], sd, rtol=0.25)
    np.testing.assert_allclose(found.factor[0], 1, atol=0.12)
    np.testing.assert_allclose(
        found.half_width(0.9)[0],
        1.645 * found.sd[0] * found.factor[0, LEVELS.index(0.9)],
        rtol=1e-3,
    )


def test_a_gene_of_few_counts_borrows_from_equally_abundant_ones() -> None:
    rng = np.random.default_rng(0)
    sd, mean = np.full(60, 0.4), np.geomspace(0.05, 0.3, 60)
    found = fit([drawn(rng, sd, mean, k=200) for _ in range(3)], (4,))
    assert found is not None
    assert (np.abs(np.log(found.sd[0] / 0.4)) < np.log(2)).all()


@pytest.mark.parametrize("shared", [0.0, 0.7])
@pytest.mark.parametrize("abundance", [0.5, 30.0])
def test_coverage_is_within_three_points_on_exchangeable_sections(
    shared: float, abundance: float
) -> None:
    seen = []
    for seed in range(8):
        rng = np.random.default_rng(seed)
        sd, mean = rng.uniform(0.1, 0.8, 60), abundance * np.exp(rng.normal(size=60))
        sections = [drawn(rng, sd, mean, k=60, shared=shared) for _ in range(8)]
        found = fit(sections[:5], (4,))
        assert found is not None
        seen.append(np.mean([region_coverage(found, s)[0] for s in sections[5:]], axis=0))
    np.testing.assert_allclose(np.mean(seen, axis=0), LEVELS, atol=0.03)


def test_counting_noise_alone_is_no_error_of_the_expectation() -> None:
    rng = np.random.default_rng(0)
    sections = [drawn(rng, np.zeros(60), np.full(60, 100.0), k=200) for _ in range(4)]
    found = fit(sections[:3], (4,))
    assert found is not None
    assert found.half_width(0.9).max() < 0.06
    np.testing.assert_allclose(region_coverage(found, sections[3])[0], LEVELS, atol=0.02)


def test_coverage_says_what_was_seen_where_sections_err_more_than_those_calibrated_on() -> None:
    rng = np.random.default_rng(0)
    mean = np.full(60, 50.0)
    found = fit([drawn(rng, np.full(60, 0.2), mean) for _ in range(3)], (4,))
    assert found is not None
    assert region_coverage(found, drawn(rng, np.full(60, 0.8), mean))[0, 2] < 0.5


def test_a_gene_that_was_measured_nowhere_has_no_interval_and_counts_in_no_coverage() -> None:
    rng = np.random.default_rng(0)
    sections = [drawn(rng, np.full(60, 0.3), np.full(60, 20.0)) for _ in range(3)]
    genes = np.arange(60) > 0
    masked = [HeldOutRegions({4: replace(s.by_size[4], genes=genes)}) for s in sections]
    found = fit(masked, (4,))
    assert found is not None
    assert np.isnan(found.sd[0, 0])
    assert np.isfinite(found.sd[0, 1:]).all()
    assert np.isfinite(region_coverage(found, sections[0])).all()


def test_a_size_without_regions_is_left_empty_and_nothing_at_all_is_none() -> None:
    rng = np.random.default_rng(0)
    sections = [drawn(rng, np.full(60, 0.3), np.full(60, 20.0)) for _ in range(3)]
    found = fit(sections, (4, 9))
    assert found is not None
    assert np.isnan(found.half_width(0.9)[1]).all()
    assert found.n_units.tolist() == [3, 0]
    assert np.isnan(region_coverage(found, sections[0])[1]).all()
    assert fit(sections, (9,)) is None
    assert fit(sections[:1], (4,)) is None  # there is nobody to leave out
    few = [drawn(rng, np.full(60, 0.3), np.full(60, 20.0), k=1) for _ in range(3)]
    assert fit(few, (4,)) is None


def test_sections_of_one_unit_are_left_out_together() -> None:
    rng = np.random.default_rng(0)
    sections = [drawn(rng, np.full(60, 0.3), np.full(60, 20.0)) for _ in range(4)]
    of_two = [HeldOutRegions(s.by_size, unit) for s, unit in zip(sections, "AABB", strict=True)]
    found = fit(of_two, (4,))
    assert found is not None
    assert found.n_units.tolist() == [2]


def test_a_level_that_was_not_calibrated_is_an_error() -> None:
    rng = np.random.default_rng(0)
    sections = [drawn(rng, np.full(60, 0.3), np.full(60, 20.0)) for _ in range(2)]
    found = fit(sections, (4,))
    assert found is not None
    with pytest.raises(HESpotExError, match=r"levels \(0.5, 0.8, 0.9, 0.95\), found 0.7"):
        found.half_width(0.7)
    with pytest.raises(HESpotExError, match="between 0 and 1, found"):
        fit(sections, (4,), levels=[90])


@pytest.mark.parametrize("mean", [0.2, 5.0, 100.0])
def test_a_spread_is_told_from_one_that_does_not_follow_the_error(mean: float) -> None:
    """Gene by gene: genes of even places err as their spread says, the others whatever theirs is."""
    rng = np.random.default_rng(0)
    k, n_genes = 400, 60
    calm = [drawn(rng, np.full(n_genes, 0.5), np.full(n_genes, mean), sizes=(1,)) for _ in range(3)]
    found = fit(calm, (1,))
    assert found is not None
    spread = rng.gamma(1.0, 1.0, (k, n_genes)).astype(np.float32)
    sd = np.where(np.arange(n_genes) % 2 == 0, spread, 0.7)
    counts = rng.poisson(mean * np.exp(sd * rng.normal(size=(k, n_genes))))
    expected = np.full((k, n_genes), mean, np.float32)
    spots = Regions(
        counts.astype(np.float32), expected, np.arange(n_genes) != 3, np.arange(k)[:, None]
    )
    rho = spread_follows_error(found, HeldOutRegions({1: spots}), spread)
    assert np.isnan(rho[3])
    other = rho[np.isfinite(rho) & (np.arange(n_genes) % 2 == 1)]
    assert abs(other.mean()) < 3 * 0.05 / np.sqrt(len(other))
    if mean > 1:  # of next to no counts nothing can be told
        assert rho[::2].min() > 0.1


def test_what_is_kept_of_a_section_does_not_grow_with_its_regions_and_stands_for_all() -> None:
    rng = np.random.default_rng(0)
    mean = np.geomspace(0.05, 200, 60)
    section = drawn(rng, np.full(60, 0.3), mean, k=400)
    kept = region_errors(section)
    assert kept.moments[4].shape == (4, 60)
    assert kept.entries[4].shape == (4, 8_000)
    count, expected, gene, number_of = kept.entries[4]
    np.testing.assert_allclose(expected, mean[gene.astype(int)], rtol=1e-5)
    assert number_of.sum() == pytest.approx(400 * 60, rel=0.15)
    assert number_of @ count == pytest.approx(section.by_size[4].counts.sum(), rel=0.02)
    assert np.median(expected) > 5 * np.median(mean)  # rare genes tell little
    small = region_errors(drawn(rng, np.full(60, 0.3), mean, k=20))
    assert small.entries[4].shape == (4, 20 * 60)
    assert (small.entries[4][3] == 1).all()
