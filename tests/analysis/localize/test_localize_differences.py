"""Genes that differ in drawn spots: known differences, permuted maps as the null, the part of depth."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np

from hespotex.analysis.localize.bags import Bag, Bags, write_bags
from hespotex.analysis.localize.differences import differing
from hespotex.analysis.localize.evidence import SpotMap

N, SPOTS, DRAWN, PERMUTED = 8, 20, 5, 39
NAMES = {"high": "A", "deep": "B", "noise": "C"}


def _cohort(folder: Path) -> tuple[Bags, SpotMap, np.ndarray]:
    """Gene 0 is 2 higher in the drawn spots, gene 1 follows depth, which is high there, gene 2 is noise."""
    rng = np.random.default_rng(3)
    shown = np.tile(np.arange(SPOTS) < DRAWN, N)
    depth = rng.normal(scale=0.1, size=N * SPOTS) + 1.0 * shown
    values = rng.normal(scale=0.1, size=(N * SPOTS, 3))
    values[:, 0] += 2 * shown
    values[:, 1] += 1.5 * depth
    xy = np.stack([np.arange(SPOTS), np.zeros(SPOTS)], axis=1) * 100.0
    slides = [Bag(f"S{k}", f"P{k}", "ab"[k % 2], xy) for k in range(N)]
    parts = [values[k * SPOTS : (k + 1) * SPOTS].astype(np.float32) for k in range(N)]
    chance = rng.normal(size=(PERMUTED, N * SPOTS)).astype(np.float32)
    z = np.where(shown, 4.0, 0.0).astype(np.float32)
    found = SpotMap(z, chance, np.ones(N * SPOTS, np.float32), 2.0, shown, np.ones(N * SPOTS, bool))
    return write_bags(folder, slides, parts), found, depth


def test_a_stated_difference_is_found_in_each_diagnosis_and_noise_is_not(tmp_path: Path) -> None:
    bags, found, depth = _cohort(tmp_path)
    table = differing(bags, NAMES, found, depth)
    assert len(table) == 6
    of = table.set_index(["label", "gene"])
    for label in "ab":
        np.testing.assert_allclose(of.loc[(label, "high"), "difference"], 2.0, atol=0.1)
        assert of.loc[(label, "high"), "p_value"] == 1 / (1 + PERMUTED)
        assert of.loc[(label, "noise"), "p_value"] > 0.05
        assert of.loc[(label, "high"), "n_patients"] == 4


def test_a_difference_that_depth_explains_is_gone_without_depth(tmp_path: Path) -> None:
    bags, found, depth = _cohort(tmp_path)
    of = differing(bags, NAMES, found, depth)
    deep = of[of["gene"] == "deep"]
    assert (deep["difference"] > 1).all()
    assert (deep["without_depth"].abs() < 0.1).all()
    np.testing.assert_allclose(deep["explained_by_depth"], 1, atol=0.1)
    high = of[of["gene"] == "high"]
    part = 1 - high["without_depth"] / high["difference"]
    np.testing.assert_allclose(high["explained_by_depth"], part)


def test_a_map_that_permuted_diagnoses_draw_as_well_makes_no_gene_different(tmp_path: Path) -> None:
    bags, found, depth = _cohort(tmp_path)
    same = replace(found, z_permuted=np.tile(found.z, (PERMUTED, 1)))
    table = differing(bags, NAMES, same, depth)
    assert (table["p_value"] == 1).all()


def test_slides_without_a_drawn_spot_have_no_part(tmp_path: Path) -> None:
    bags, found, depth = _cohort(tmp_path)
    none = replace(found, shown=np.zeros_like(found.shown))
    assert differing(bags, NAMES, none, depth).empty


def test_a_flagged_spot_is_drawn_by_no_permuted_map_and_belongs_to_no_rest(tmp_path: Path) -> None:
    bags, found, depth = _cohort(tmp_path)
    before = differing(bags, NAMES, found, depth)
    last = np.tile(np.arange(SPOTS) == SPOTS - 1, N)
    values = np.load(bags.values, mmap_mode="r+")
    values[last] = 500.0
    values.flush()
    high = np.where(last, np.float32(99), found.z_permuted)  # the top of every permuted map
    marked = replace(found, z_permuted=high, usable=~last)
    table = differing(bags, NAMES, marked, depth)
    np.testing.assert_allclose(
        table.set_index(["label", "gene"])["difference"].sort_index(),
        before.set_index(["label", "gene"])["difference"].sort_index(),
        atol=0.1,
    )
    chance = table[table["gene"] == "high"]["p_value"]
    assert (chance == 1 / (1 + PERMUTED)).all()
