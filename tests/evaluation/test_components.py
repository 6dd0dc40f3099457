import numpy as np
import pytest
from sklearn.decomposition import PCA

from hespotex.evaluation.components import drawn_evenly, fit_components


@pytest.mark.parametrize("shape", [(40, 90), (300, 12)])
def test_components_are_those_of_sklearn_up_to_their_sign(shape: tuple[int, int]) -> None:
    rng = np.random.default_rng(0)
    x = (rng.normal(size=shape) * np.linspace(3, 0.5, shape[1])).astype(np.float32)
    found, expected = fit_components(x, 5), PCA(5, svd_solver="full").fit(x)
    agreement = np.abs(np.sum(found.directions.T * expected.components_, axis=1))
    np.testing.assert_allclose(agreement, 1, atol=1e-4)
    np.testing.assert_allclose(np.abs(found.transform(x)), np.abs(expected.transform(x)), atol=2e-3)


def test_directions_are_orthonormal_where_nothing_varies() -> None:
    found = fit_components(np.ones((6, 9), np.float32), 3)
    np.testing.assert_allclose(found.directions.T @ found.directions, np.eye(3), atol=1e-5)


def test_many_spots_take_the_randomised_way_to_the_same_subspace(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    rng = np.random.default_rng(1)
    x = (rng.normal(size=(200, 4)) @ rng.normal(size=(4, 60))).astype(np.float32)
    exact = fit_components(x, 4).directions
    monkeypatch.setattr("hespotex.evaluation.components._EXACT", 10)
    randomised = fit_components(x, 4).directions
    cosines = np.linalg.svd(exact.T @ randomised, compute_uv=False)
    np.testing.assert_allclose(cosines, 1, atol=1e-4)
    np.testing.assert_array_equal(randomised, fit_components(x, 4).directions)


def test_rows_are_drawn_evenly_over_tables_laid_end_to_end() -> None:
    assert [r.tolist() for r in drawn_evenly([2, 3])] == [[0, 1], [0, 1, 2]]
    rows = drawn_evenly([100, 300], at_most=40)
    assert [len(r) for r in rows] == [10, 30]
    assert rows[0][0] == 0
    assert rows[1][-1] == 299
