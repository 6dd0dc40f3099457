"""Smoke test on real tissue: sections of olfactory bulb and of breast as two diagnoses, which separate trivially."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from hespotex.analysis.localize.bags import Bag, patient_folds, write_bags
from hespotex.analysis.localize.evidence import auroc, patient_labels, patient_margins
from hespotex.analysis.localize.nested import nested_pass
from hespotex.analysis.localize.reduce import reduce_folds

HALF_PX = {"mob": 18, "her2st": 72}  # half a spot


def _colours(picture: np.ndarray, x: float, y: float, half: int) -> np.ndarray:
    """Quartiles of the three colours under a spot."""
    top, left = max(int(y) - half, 0), max(int(x) - half, 0)
    patch = picture[top : int(y) + half, left : int(x) + half].reshape(-1, 3)
    return np.quantile(patch / 255.0, (0.25, 0.5, 0.75), axis=0).ravel()


@pytest.mark.slow
def test_smoke_bulb_and_breast_separate_by_the_colours_of_their_spots(
    shared_data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", None)  # pictures of 92 megapixels
    slides, values = [], []
    for tissue, half in HALF_PX.items():
        folder = shared_data / tissue
        for row in pd.read_csv(folder / "sections.csv").to_dict("records"):
            picture = np.asarray(Image.open(folder / row["slide"]).convert("RGB"))
            xy = pd.read_csv(folder / row["spots"], sep="\t")[["pixel_x", "pixel_y"]].to_numpy()
            inside = (xy > 0).all(axis=1) & (xy < picture.shape[1::-1]).all(axis=1)
            own = xy[inside]
            mpp = 100.0 / (2 * half)
            patient = f"{tissue}-{row['patient_id']}"
            slides.append(Bag(row["section_id"], patient, tissue, own * mpp))
            colours = [_colours(picture, x, y, half) for x, y in own.tolist()]
            values.append(np.array(colours, np.float32))
    bags = write_bags(tmp_path, slides, values)
    assert len(bags.patient_names) == 4
    folds = patient_folds(bags)
    seen = nested_pass(reduce_folds(bags, folds), bags.labels[None], bags.neighbours())
    assert auroc(patient_margins(bags, seen.margin[0]), patient_labels(bags, bags.labels)) == 1.0
    # With the diagnoses of one fold's patients changed they do not.
    wrong = np.where(folds == 0, 1 - bags.labels, bags.labels)
    crossed = nested_pass(reduce_folds(bags, folds), wrong[None], bags.neighbours())
    margin = patient_margins(bags, crossed.margin[0])
    assert auroc(margin, patient_labels(bags, wrong)) < 0.5
