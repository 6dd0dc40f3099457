"""A fine map read by area by the offline encoder: nothing tells where one tile ends and the next begins."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import anndata
import numpy as np
import pytest

from hespotex import pipeline
from hespotex.config import Machine, RunConfig
from hespotex.datasets import make_cohort
from hespotex.encoders import offline
from hespotex.encoders.base import Tile
from hespotex.encoders.offline_encoder import OfflineEncoder
from hespotex.predicting import SlideOptions, SlideTask, open_predictor, predict_slide

SIDE_UM, MPP = 77.2, 1.5


@pytest.mark.slow
@pytest.mark.parametrize(
    ("tiles", "seamless"),
    [(offline.TILES, True), ((Tile(24, 2),), False)],
    ids=["as it is", "too narrow a halo"],
)
def test_predictions_do_not_tell_where_seams_of_tiles_lie(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, tiles: tuple[Tile, ...], seamless: bool
) -> None:
    config = RunConfig.from_values(
        {"patches": {"sides_um": [SIDE_UM]}, "model": {"epochs": 2, "ensemble": 1}}
    )
    cohort = make_cohort(
        tmp_path / "cohort", n_patients=2, n_genes=60, side_um=450.0, sections_per_patient=1
    )
    machine = Machine(device="cpu", threads=1, cache=tmp_path / "cache")
    model = pipeline.train(
        cohort, tmp_path / "m.hespotex", config=config, validate=False, machine=machine
    )
    usual = open_predictor(model, machine)
    predictor = replace(usual, plan=replace(usual.plan, reading="area"))
    task = SlideTask(
        "s",
        cohort.parent / "images" / "P1S1.jpg",
        SlideOptions(mpp=MPP, pitch_um=16.0, untested=True, patient="P9"),
    )
    moved = tuple(replace(tile, offset=tile.offset + 5) for tile in tiles)
    tables = []
    for number, own in enumerate((tiles, moved)):  # no seam of one lies on a seam of the other
        monkeypatch.setattr(OfflineEncoder, "area_tiles", lambda _, own=own: own)
        paths = predict_slide(predictor, task, tmp_path / str(number)).paths
        tables.append(anndata.read_h5ad(paths["prediction"]))
    here, there = (table.X.astype(np.float64) for table in tables)
    assert len(here) > 300
    spread = here.std(axis=0)
    vary = spread > 0.01
    assert vary.sum() >= 10
    apart = (np.abs(here - there) / spread)[:, vary]
    assert (np.sqrt((apart**2).mean()) < 0.01) == seamless
    assert (apart.max() < 0.05) == seamless
