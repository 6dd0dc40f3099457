"""Neighbours, Moran's I and structural similarity on the lattice."""

from __future__ import annotations

import warnings

import numpy as np
import numpy.typing as npt
import pytest
from scipy import sparse

from hespotex.errors import HESpotExError
from hespotex.evaluation.spatial_structure import lattice_weights, morans_i, ssim_per_gene


def grid(width: int, height: int, *, hexagonal: bool = False) -> npt.NDArray[np.float64]:
    y, x = np.divmod(np.arange(width * height), width)
    if hexagonal:
        return np.column_stack([100.0 * (x + 0.5 * (y % 2)), 100 * np.sqrt(0.75) * y])
    return np.column_stack([200.0 * x, 200.0 * y])


@pytest.mark.parametrize(("hexagonal", "inside"), [(False, 4), (True, 6)])
def test_an_inner_spot_has_its_lattice_neighbours_even_where_positions_wobble(
    hexagonal: bool, inside: int
) -> None:
    xy = grid(7, 7, hexagonal=hexagonal)
    pitch = 100.0 if hexagonal else 200.0
    wobble = np.random.default_rng(0).uniform(-0.04, 0.04, xy.shape) * pitch
    weights = lattice_weights(xy + wobble)
    assert weights[24].sum() == inside
    assert (weights != weights.T).nnz == 0
    assert not weights.diagonal().any()


@pytest.mark.slow
def test_morans_i_equals_squidpys() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of squidpy's own imports
        import anndata
        import squidpy

    xy = grid(8, 9, hexagonal=True)
    rng = np.random.default_rng(0)
    values = rng.normal(size=(72, 5)) + xy[:, :1] / 300
    weights = lattice_weights(xy)
    table = anndata.AnnData(values)
    table.obsp["spatial_connectivities"] = weights
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        squidpy.gr.spatial_autocorr(
            table, mode="moran", n_jobs=1, n_perms=None, show_progress_bar=False
        )
    expected = table.uns["moranI"].loc[table.var_names, "I"].to_numpy()
    np.testing.assert_allclose(morans_i(values, weights), expected, rtol=1e-6)


def test_morans_i_of_a_checkerboard_is_minus_one_and_of_a_constant_nothing() -> None:
    y, x = np.divmod(np.arange(64), 8)
    values = np.column_stack([(x + y) % 2, np.ones(64)]).astype(float)
    result = morans_i(values, lattice_weights(grid(8, 8)))
    assert result[0] == pytest.approx(-1)
    assert np.isnan(result[1])


def test_ssim_equals_scikit_images_inside_the_grid() -> None:
    from skimage.metrics import structural_similarity

    rng = np.random.default_rng(0)
    a, b = rng.normal(size=(2, 13, 13))
    xy = grid(13, 13)
    # With the diagonals, window and neighbours are the same 3 x 3 square.
    weights = lattice_weights(xy, factor=1.5)
    za, zb = ((v - v.mean()) / v.std() for v in (a, b))
    za, zb = za - zb.min(), zb - zb.min()
    _, full = structural_similarity(
        za, zb, win_size=3, data_range=np.ptp(zb), full=True, use_sample_covariance=False
    )
    # Windows at the rim differ (ours has fewer spots there): take the inner spots' part of our mean out of two
    # sections, the whole and the rim's contribution computed by hand.
    rim = np.ones((13, 13), dtype=bool)
    rim[1:-1, 1:-1] = False
    by_hand = [
        _window_ssim(za.ravel(), zb.ravel(), weights, i) for i in np.flatnonzero(rim.ravel())
    ]
    ours = ssim_per_gene(a.reshape(-1, 1), b.reshape(-1, 1), weights)[0]
    inner_sum = ours * 169 - np.sum(by_hand)
    assert inner_sum / 121 == pytest.approx(full[1:-1, 1:-1].mean(), abs=1e-9)
    assert ssim_per_gene(b.reshape(-1, 1), b.reshape(-1, 1), weights)[0] == pytest.approx(1)


def _window_ssim(
    a: npt.NDArray[np.float64], b: npt.NDArray[np.float64], weights: sparse.csr_matrix, spot: int
) -> float:
    window = np.append(weights[spot].indices, spot)
    x, y = a[window], b[window]
    c1, c2 = (0.01 * np.ptp(b)) ** 2, (0.03 * np.ptp(b)) ** 2
    covariance = np.mean((x - x.mean()) * (y - y.mean()))
    top = (2 * x.mean() * y.mean() + c1) * (2 * covariance + c2)
    return float(top / ((x.mean() ** 2 + y.mean() ** 2 + c1) * (x.var() + y.var() + c2)))


def test_ssim_does_not_know_scale_but_sign() -> None:
    xy = grid(9, 9)
    b = np.sin(xy[:, :1] / 300)
    weights = lattice_weights(xy)
    assert ssim_per_gene(5 * b + 2, b, weights)[0] == pytest.approx(1)
    assert ssim_per_gene(-b, b, weights)[0] < 0
    assert np.isnan(ssim_per_gene(np.ones_like(b), b, weights)[0])


def test_weights_of_other_spots_are_an_error() -> None:
    with pytest.raises(HESpotExError, match=r"between 3 spots, found a table of shape \(4, 4\)"):
        morans_i(np.zeros((3, 1)), lattice_weights(grid(2, 2)))


def test_one_spot_has_no_neighbours() -> None:
    weights = lattice_weights(np.zeros((1, 2)))
    assert weights.nnz == 0
    assert np.isnan(morans_i(np.ones((1, 2)), weights)).all()
