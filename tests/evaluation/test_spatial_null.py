"""The smooth null: right error rates, power, and no credit for depth."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest
from scipy import sparse
from scipy.spatial.distance import cdist
from scipy.stats import norm

from hespotex.errors import HESpotExError
from hespotex.evaluation.baselines import depth_only
from hespotex.evaluation.noise_ceiling import noise_ceiling
from hespotex.evaluation.scores import pcc_per_gene, without
from hespotex.evaluation.spatial_null import (
    benjamini_hochberg,
    build_modes,
    combine_sections,
    compare_maps,
    depth_basis,
    score_against_null,
    training_correlation,
)
from hespotex.evaluation.spatial_structure import lattice_weights, morans_i
from hespotex.genes.panel import log1p_cpm, pearson_residuals


def tissue(n: int) -> npt.NDArray[np.float64]:
    """An irregular piece of a hexagonal lattice, pitch 1."""
    width = int(np.ceil(np.sqrt(2 * n)))
    y, x = np.divmod(np.arange(width * width), width)
    xy = np.column_stack([x + 0.5 * (y % 2), np.sqrt(0.75) * y])
    centred = xy - xy.mean(axis=0)
    angle = np.arctan2(centred[:, 1], centred[:, 0])
    return xy[np.argsort(np.hypot(*centred.T) * (1 + 0.3 * np.cos(3 * angle)), kind="stable")[:n]]


def smooth_maps(
    xy: npt.NDArray[np.float64], reach: float, n_maps: int, rng: np.random.Generator
) -> npt.NDArray[np.float64]:
    covariance = np.exp(-((cdist(xy, xy) / reach) ** 2) / 2) + 1e-6 * np.eye(len(xy))
    return np.linalg.cholesky(covariance) @ rng.normal(size=(len(xy), n_maps))


@pytest.mark.parametrize("max_modes", [1000, 120])
def test_modes_part_the_correlation_without_rest(max_modes: int) -> None:
    xy, rng = tissue(150), np.random.default_rng(0)
    a, b, given = rng.normal(size=(150, 4)), rng.normal(size=(150, 4)), rng.normal(size=(150, 2))
    score, z = compare_maps(a, b, given, build_modes(xy, max_modes))
    np.testing.assert_allclose(score, pcc_per_gene(without(a, given), without(b, given)), atol=1e-5)
    assert np.isfinite(z).all()


def test_the_variance_is_that_of_maps_with_random_signs() -> None:
    xy, rng = tissue(80), np.random.default_rng(1)
    modes = build_modes(xy)
    a, b = smooth_maps(xy, 2.0, 1, rng), smooth_maps(xy, 2.0, 1, rng)
    given = np.zeros((80, 0))
    score, z = compare_maps(a, b, given, modes)
    coefficients = modes.vectors.T @ (a - a.mean())
    signs = rng.choice([-1.0, 1.0], (80, 4000))
    surrogates = modes.vectors @ (signs * coefficients)
    spread = pcc_per_gene(surrogates, np.repeat(b, 4000, axis=1)).std()
    # z is divided by 1.04, the largest deviation of z seen under simulated nulls.
    assert score[0] / z[0] == pytest.approx(1.04 * spread, rel=0.05)


@pytest.mark.parametrize("reach", [1.0, 3.0])
@pytest.mark.parametrize(("n", "max_modes"), [(150, 1000), (400, 200)])
def test_independent_smooth_maps_are_called_significant_as_often_as_stated(
    n: int, max_modes: int, reach: float
) -> None:
    xy, rng = tissue(n), np.random.default_rng(2)
    a, b = smooth_maps(xy, reach, 1500, rng), smooth_maps(xy, reach, 1500, rng)
    _, z = compare_maps(a, b, np.zeros((n, 0)), build_modes(xy, max_modes))
    assert np.mean(norm.sf(z) <= 0.05) < 0.075
    assert np.mean(norm.sf(z) <= 0.005) < 0.011
    # The same maps under a test that takes spots as independent: what this file is for.
    naive = np.arctanh(pcc_per_gene(a, b)) * np.sqrt(n - 3)
    assert np.mean(norm.sf(naive) <= 0.05) > 0.12


def simulate(
    rng: np.random.Generator, xy: npt.NDArray[np.float64], n_true: int, n_genes: int
) -> tuple[npt.NDArray[np.float64], sparse.csr_matrix]:
    """Predicted composition, and counts whose first `n_true` genes follow it; all genes are smooth."""
    predicted = smooth_maps(xy, 2.0, n_genes, rng)
    truth = smooth_maps(xy, 2.0, n_genes, rng)
    truth[:, :n_true] = 0.7 * predicted[:, :n_true] + 0.7 * truth[:, :n_true]
    depth = np.exp(smooth_maps(xy, 3.0, 1, rng))
    return predicted, sparse.csr_matrix(rng.poisson(6 * depth * np.exp(0.5 * truth)).astype(float))


def test_false_discoveries_stay_below_the_stated_rate_and_true_genes_are_found() -> None:
    xy = tissue(180)
    modes = build_modes(xy)
    shares, power = [], []
    for seed in range(12):
        rng = np.random.default_rng(seed)
        z = []
        for _ in range(3):
            predicted, counts = simulate(rng, xy, 20, 120)
            z.append(score_against_null(predicted, counts, modes).z)
        found = combine_sections(z).q_value <= 0.05
        shares.append(found[20:].sum() / max(found.sum(), 1))
        power.append(found[:20].mean())
    assert np.mean(shares) < 0.08
    assert np.mean(power) > 0.5


def test_a_model_that_outputs_depth_scores_well_in_log1p_and_finds_no_gene_beyond_depth() -> None:
    xy, rng = tissue(180), np.random.default_rng(3)
    _, counts = simulate(rng, xy, 0, 200)
    shallow = sparse.csr_matrix(rng.binomial(counts.toarray().astype(int), 1 / 30).astype(float))
    depth = depth_only(shallow)
    assert pcc_per_gene(depth, log1p_cpm(shallow)).mean() > 0.25
    for prediction in (depth, np.expm1(depth), np.repeat(depth, 200, axis=1)):
        null = score_against_null(prediction, shallow, build_modes(xy))
        test = combine_sections([null.z])
        assert (test.n_sections > 0).sum() == 200
        assert not (test.q_value <= 0.05).any()


def test_a_gene_constant_in_a_section_is_not_tested_there() -> None:
    xy, rng = tissue(60), np.random.default_rng(4)
    predicted, counts = simulate(rng, xy, 3, 6)
    table = counts.tolil()
    table[:, 1] = 0
    first = score_against_null(predicted, table.tocsr(), build_modes(xy))
    assert np.isnan(first.z[1])
    second = score_against_null(predicted, counts, build_modes(xy))
    test = combine_sections([first.z, second.z])
    assert test.n_sections.tolist() == [2, 1, 2, 2, 2, 2]
    assert test.z[1] == pytest.approx(second.z[1])
    alone = combine_sections([first.z])
    assert np.isnan([alone.p_value[1], alone.q_value[1]]).all()
    assert (alone.n_sections > 0).sum() == 5


def test_a_constant_prediction_is_no_discovery_and_nan_is_no_score() -> None:
    xy, rng = tissue(40), np.random.default_rng(5)
    predicted, counts = simulate(rng, xy, 2, 3)
    predicted[:, 0], predicted[4, 2] = 1.5, np.nan
    z = score_against_null(predicted, counts, build_modes(xy)).z
    assert z[0] == 0
    assert np.isfinite(z[1])
    assert np.isnan(z[2])


def test_stouffer_and_benjamini_hochberg_by_hand() -> None:
    test = combine_sections([np.array([1.0, 2.0, np.nan]), np.array([3.0, np.nan, np.nan])])
    np.testing.assert_allclose(test.z[:2], [4 / np.sqrt(2), 2.0])
    np.testing.assert_allclose(test.p_value[:2], norm.sf([4 / np.sqrt(2), 2.0]))
    q = benjamini_hochberg(np.array([0.01, 0.04, 0.03, 1.0]), np.array([True, True, True, False]))
    np.testing.assert_allclose(q, [0.03, 0.04, 0.04, np.nan])


class TestSectionsOfOnePatient:
    z = (np.array([2.0]), np.array([2.0]), np.array([2.0]))

    def test_without_ceilings_they_count_as_one_section(self) -> None:
        assert combine_sections(self.z, ["P", "P", "P"]).z[0] == pytest.approx(2.0)

    def test_they_are_correlated_by_the_product_of_their_ceilings(self) -> None:
        ceilings = [np.array([0.5]), np.array([0.4]), np.array([0.9])]
        variance = 3 + 2 * (0.5 * 0.4 + 0.5 * 0.9 + 0.4 * 0.9)
        result = combine_sections(self.z, ["P", "P", "P"], ceilings)
        assert result.z[0] == pytest.approx(6 / np.sqrt(variance))

    def test_another_patients_section_is_independent(self) -> None:
        ceilings = [np.array([0.5]), np.array([0.4]), np.array([0.9])]
        result = combine_sections(self.z, ["P", "Q", "P"], ceilings)
        assert result.z[0] == pytest.approx(6 / np.sqrt(3 + 2 * 0.5 * 0.9))

    def test_a_section_without_a_score_adds_nothing(self) -> None:
        z = [np.array([2.0]), np.array([np.nan])]
        assert combine_sections(z, ["P", "P"]).z[0] == pytest.approx(2.0)

    def test_noise_ceilings_of_zero_make_them_independent(self) -> None:
        result = combine_sections(self.z, ["P"] * 3, [np.zeros(1)] * 3)
        assert result.z[0] == pytest.approx(6 / np.sqrt(3))

    @pytest.mark.slow
    def test_repeated_sections_make_no_discoveries_of_chance_alignments(self) -> None:
        xy, modes = tissue(150), build_modes(tissue(150))
        naive, honest = [], []
        for seed in range(8):
            rng = np.random.default_rng(seed)
            predicted, truth = smooth_maps(xy, 2.5, 150, rng), smooth_maps(xy, 2.5, 150, rng)
            z, ceilings = [], []
            for _ in range(4):  # four near copies: the same maps, counted anew
                counts = sparse.csr_matrix(rng.poisson(12 * np.exp(0.6 * truth)).astype(float))
                z.append(score_against_null(predicted, counts, modes).z)
                ceilings.append(noise_ceiling(counts, n_splits=3).composition)
            naive.append((combine_sections(z).q_value <= 0.05).any())
            honest.append((combine_sections(z, ["P"] * 4, ceilings).q_value <= 0.05).any())
        assert np.mean(naive) > 0.9
        assert np.mean(honest) < 0.2

    def test_a_patient_too_few_is_an_error(self) -> None:
        with pytest.raises(HESpotExError, match="a patient for each of 3 sections, found 2"):
            combine_sections(self.z, ["P", "P"])


class TestSectionsThatTrainedOneAnother:
    def test_two_groups_left_out_in_turn_are_a_single_test(self) -> None:
        shared = training_correlation(["P", "Q"], [{"Q"}, {"P"}])
        test = combine_sections([np.array([3.0]), np.array([2.0])], ["P", "Q"], None, shared)
        assert test.z[0] == pytest.approx(2.5)

    @pytest.mark.parametrize("n", [3, 5])
    def test_the_sum_varies_twice_as_much_as_that_of_independent_tests(self, n: int) -> None:
        groups = [f"P{i}" for i in range(n)]
        shared = training_correlation(groups, [set(groups) - {g} for g in groups])
        test = combine_sections([np.array([2.0])] * n, groups, None, shared)
        assert test.z[0] == pytest.approx(2.0 * n / np.sqrt(2 * n))

    def test_sections_that_no_model_trained_on_are_independent(self) -> None:
        assert not training_correlation(["P", "Q"], [set(), set()]).any()
        # P was trained on for Q, and not the other way round.
        assert not training_correlation(["P", "Q"], [set(), {"P"}]).any()

    def test_chance_slopes_left_out_in_turn_are_called_as_often_as_stated(self) -> None:
        """Genes unrelated to the image, predicted by regression on the other patients' sections."""
        xy, modes = tissue(120), build_modes(tissue(120))
        groups = ["P0", "P1", "P2"]
        shared = training_correlation(groups, [set(groups) - {g} for g in groups])
        naive, honest = [], []
        for seed in range(6):
            rng = np.random.default_rng(seed)
            image = [smooth_maps(xy, 2.5, 4, rng) for _ in groups]
            genes = [smooth_maps(xy, 2.5, 250, rng) for _ in groups]
            slopes = [
                np.linalg.lstsq(x, y, rcond=None)[0] for x, y in zip(image, genes, strict=True)
            ]
            z = []
            for i in range(3):
                others = sum(slope for j, slope in enumerate(slopes) if j != i)
                z.append(compare_maps(image[i] @ others, genes[i], np.zeros((120, 0)), modes)[1])
            naive.append(combine_sections(z, groups).z)
            honest.append(combine_sections(z, groups, None, shared).z)
        assert np.std(naive) > 1.1
        assert np.std(honest) < 1.0

    def test_rows_of_other_sections_are_an_error(self) -> None:
        with pytest.raises(HESpotExError, match="a row for each of 1 sections, found 2"):
            combine_sections([np.zeros(1)], None, None, np.zeros((2, 2)))


def test_twelve_spots_are_enough_to_ask_and_seven_are_an_error() -> None:
    xy, rng = tissue(12), np.random.default_rng(6)
    predicted, counts = simulate(rng, xy, 2, 5)
    assert np.isfinite(score_against_null(predicted, counts, build_modes(xy)).z).all()
    with pytest.raises(HESpotExError, match="at least 8 spots for a spatial null, found 7"):
        build_modes(tissue(7))


def test_predictions_of_other_spots_are_an_error() -> None:
    counts = sparse.csr_matrix(np.ones((9, 2)))
    with pytest.raises(HESpotExError, match=r"shape \(9, 2\), found \(8, 2\)"):
        score_against_null(np.zeros((8, 2)), counts, build_modes(tissue(9)))


def test_depth_basis_is_centred_log_depth_and_its_square() -> None:
    counts = sparse.csr_matrix([[1.0, 0.0], [3.0, 4.0]])
    depth = np.log1p([1.0, 7.0]) - np.log1p([1.0, 7.0]).mean()
    np.testing.assert_allclose(depth_basis(counts), np.column_stack([depth, depth**2]))


def test_modes_are_orthonormal_smooth_first_and_detail_has_its_place() -> None:
    xy = tissue(90)
    for modes in (build_modes(xy), build_modes(xy, 80)):
        k = modes.vectors.shape[1]
        np.testing.assert_allclose(modes.vectors.T @ modes.vectors, np.eye(k), atol=1e-4)
        assert np.ptp(modes.vectors[:, 0]) < 0.02  # the constant map is the smoothest
        roughness = morans_i(modes.vectors[:, 1:].astype(float), lattice_weights(xy))
        assert roughness[:5].min() > 0.5
        assert roughness[:5].mean() > roughness[-5:].mean() + 0.5
    assert isinstance(modes.groups, sparse.csr_matrix)
    np.testing.assert_array_equal(modes.groups.sum(axis=0), np.ones((1, 90)))


def test_the_score_is_the_composition_pcc_given_depth() -> None:
    xy, rng = tissue(70), np.random.default_rng(7)
    predicted, counts = simulate(rng, xy, 2, 5)
    null = score_against_null(predicted, counts, build_modes(xy))
    sides = (without(x, depth_basis(counts)) for x in (predicted, pearson_residuals(counts)))
    expected = pcc_per_gene(*sides)
    np.testing.assert_allclose(null.score, expected, atol=1e-5)
