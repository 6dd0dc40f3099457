"""z against permuted maps without the map itself; curves of deletion and insertion with known answers."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from scipy import sparse

from hespotex.analysis.localize.bags import Bag, Bags
from hespotex.analysis.localize.curves import (
    ATTENTION,
    CHANCE,
    MAP,
    PARTS,
    by_groups,
    curves,
    tenth_sentences,
)
from hespotex.analysis.localize.evidence import Null, spot_map, z_against_others
from hespotex.analysis.localize.nested import Passed

N, B = 40, 30


def _passed(loss: np.ndarray, **more: np.ndarray) -> Passed:
    """One label vector; what is not given says nothing."""
    flat = np.ones_like(loss)
    given = {"alone": loss, "votes": flat, "attention": flat / N, "speaks": flat} | more
    return Passed(
        margin=np.zeros((1, 1, 2), np.float32),
        loss=loss,
        variant=np.zeros((1, 1), np.intp),
        **given,
    )


def test_each_map_is_held_against_the_others_alone() -> None:
    maps = np.random.default_rng(0).normal(loc=3, scale=2, size=(12, 6))
    z = z_against_others(maps)
    for k in range(12):
        rest = np.delete(maps, k, axis=0)
        np.testing.assert_allclose(z[k], (maps[k] - rest.mean(axis=0)) / rest.std(axis=0))


def test_a_map_drawn_like_the_permuted_ones_shows_next_to_nothing() -> None:
    shown = []
    for seed in range(20):
        rng = np.random.default_rng(seed)
        maps = rng.normal(size=(2, B, 2_000)).astype(np.float16)
        loss, alone = rng.normal(size=(2, 1, 2_000)).astype(np.float32)
        found = spot_map(
            [_passed(loss, alone=alone)],
            Null("x", 0.5, np.zeros(B), maps, np.ones(maps.shape[1:], bool)),
            np.ones(2_000, bool),
        )
        shown.append(int(found.shown.sum()))
    assert np.mean(shown) < 2


def test_a_spot_far_above_the_permuted_maps_is_shown_unless_it_is_flagged() -> None:
    rng = np.random.default_rng(1)
    maps = rng.normal(size=(2, B, N)).astype(np.float16)
    true = np.zeros((1, N), np.float32)
    true[0, :4] = 9.0
    usable = np.arange(N) != 2
    found = spot_map(
        [_passed(true)], Null("x", 0.01, np.zeros(B), maps, np.ones(maps.shape[1:], bool)), usable
    )
    assert np.flatnonzero(found.shown).tolist() == [0, 1, 3]
    assert (found.usable == usable).all()


def test_permuted_maps_count_where_they_are_steady_too() -> None:
    rng = np.random.default_rng(1)
    maps = rng.normal(size=(2, B, N)).astype(np.float16)
    maps[:, :, 10:] += 5.0 * np.arange(B)[:, None].astype(np.float16) / B
    maps[:, -1, 10:] = 60.0  # far above the others, but not steady
    true = np.where(np.arange(N) < 4, 9.0, 0.0)[None].astype(np.float32)
    steady = np.ones((B, N), bool)
    steady[-1, 10:] = False

    def shown(also: np.ndarray) -> list[int]:
        null = Null("x", 0.01, np.zeros(B), maps, also)
        found = spot_map([_passed(true)], null, np.ones(N, bool))
        return np.flatnonzero(found.shown).tolist()

    assert shown(steady) == [0, 1, 2, 3]
    assert shown(np.ones((B, N), bool)) == []


@pytest.fixture
def slide() -> tuple[Bags, sparse.csr_matrix, Passed]:
    """40 spots in a line, groups of one spot; the first four say everything."""
    xy = np.stack([np.arange(N), np.zeros(N)], axis=1) * 100.0
    speaks = np.where(np.arange(N) < 4, 10.0, 0.0)[None].astype(np.float32)
    passed = _passed(np.zeros((1, N), np.float32), speaks=speaks)
    return Bags((Bag("S", "P", "ill", xy),), Path(), Path()), sparse.eye(N, format="csr"), passed


def test_what_a_few_spots_say_goes_with_them_and_they_say_it_alone(
    slide: tuple[Bags, sparse.csr_matrix, Passed],
) -> None:
    bags, near, passed = slide
    z = np.where(np.arange(N) < 4, 5.0, 0.0)
    table = curves(bags, near, passed, z).set_index(["order", "part"])
    whole = 4 * 10 / N
    assert table.loc[(MAP, 0.0), "deletion"] == pytest.approx(whole)
    assert table.loc[(MAP, PARTS[2]), "deletion"] == pytest.approx(0.0)  # a tenth: these four
    assert table.loc[(MAP, PARTS[2]), "insertion"] == pytest.approx(10.0)
    assert table.loc[(CHANCE, PARTS[2]), "deletion"] > 0.6 * whole
    for order in (MAP, ATTENTION, CHANCE):
        assert table.loc[(order, 1.0), "deletion"] == pytest.approx(0.0)
        assert table.loc[(order, 1.0), "insertion"] == pytest.approx(whole)
    (said,) = tenth_sentences(curves(bags, near, passed, z))
    assert said.startswith(
        "ill: the tenth of the spots that is highest on the map takes 1.00 of 1.00"
    )
    assert "says 10.00 alone" in said


def test_the_order_takes_a_spot_with_its_neighbours_and_each_spot_once() -> None:
    line = sparse.diags([1.0, 1.0, 1.0], [-1, 0, 1], shape=(6, 6), format="csr")
    order = by_groups(np.array([0.0, 1.0, 0.0, 0.0, 5.0, 0.0]), line)
    assert order.tolist() == [4, 3, 5, 1, 0, 2]
