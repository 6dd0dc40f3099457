"""Nuclei found on 16 images with a mask of every nucleus: error of the count and F1 at IoU 0.5, every segmenter that is here."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.harness import Context, Row, Table

NAME = "nuclei"
H_AND_E = ("4193474b", "57bd029b", "87ea7289", "8f27ebc7")
# The images state no scale. By eye, from the magnifications that they look like: microns per pixel.
ASSUMED_MPP: Mapping[float, tuple[str, ...]] = {
    0.25: H_AND_E,
    0.4: ("00ae65c1", "0121d675", "0c2550a2", "0e4c2e27", "15039b3a", "1631352d"),
    0.5: ("0bf33d3d", "0e21d7b3", "136000dc"),
    0.2: ("01d44a26", "0d3640c1", "13f2bec0"),
}
IOU = 0.5


def parts(context: Context) -> Mapping[str, Mapping[str, Any]]:
    from hespotex.nuclei import list_segmenters

    if not (context.data / "nuclei_cc0").is_dir():
        return {}
    return {s.name: {"segmenter": s.name} for s in list_segmenters() if s.ready}


def run(parameters: Mapping[str, Any], context: Context) -> dict[str, Any]:
    images = {}
    start = time.process_time()
    area = 0.0
    for mpp, names in ASSUMED_MPP.items():
        for name in names:
            picture, truth = read_image(context.data / "nuclei_cc0" / name)
            found = segment(parameters["segmenter"], picture, mpp)
            area += found.size * (mpp * 1e-3) ** 2
            images[name] = compare(truth, found)
    return {"images": images, "core_s_per_mm2": (time.process_time() - start) / area}


def read_image(folder: Path) -> tuple[np.ndarray, np.ndarray]:
    """(h, w, 3) picture and (h, w) labels."""
    from PIL import Image

    picture = np.asarray(Image.open(folder / "image.png").convert("RGB"))
    labels = np.zeros(picture.shape[:2], np.int32)
    for number, path in enumerate(sorted((folder / "masks").glob("*.png")), start=1):
        labels[np.asarray(Image.open(path).convert("L")) > 0] = number
    return picture, labels


def segment(name: str, picture: np.ndarray, mpp: float) -> np.ndarray:
    """Labels in the pixels of the picture, found at the scale at which slides are looked at."""
    import cv2

    from hespotex.nuclei.classical import ClassicalSegmenter
    from hespotex.nuclei.networks import NetworkSegmenter
    from hespotex.nuclei.segmenters import SEGMENTED_MPP

    height, width = picture.shape[:2]
    scale = mpp / SEGMENTED_MPP
    how = cv2.INTER_AREA if scale < 1 else cv2.INTER_CUBIC
    resized = cv2.resize(picture, (round(width * scale), round(height * scale)), interpolation=how)
    if name == "classical":
        segmenter: Any = ClassicalSegmenter.calibrated([resized], SEGMENTED_MPP)
    else:
        segmenter = NetworkSegmenter(name, "cpu")
    labels = segmenter.segment(resized, SEGMENTED_MPP)
    return np.asarray(cv2.resize(labels, (width, height), interpolation=cv2.INTER_NEAREST))


def compare(truth: np.ndarray, found: np.ndarray) -> dict[str, int]:
    """Nuclei there, nuclei found, and how many agree: at IoU above 0.5 a pair is unique."""
    _, truth = np.unique(truth, return_inverse=True)
    _, found = np.unique(found, return_inverse=True)
    both = np.zeros((truth.max() + 1, found.max() + 1))
    np.add.at(both, (truth.ravel(), found.ravel()), 1)
    union = both.sum(axis=1)[1:, None] + both.sum(axis=0)[None, 1:] - both[1:, 1:]
    matched = int((both[1:, 1:] > IOU * union).sum())
    return {"true": int(truth.max()), "found": int(found.max()), "matched": matched}


def tables(found: Mapping[str, dict[str, Any]], context: Context) -> Sequence[Table]:
    rows = []
    for name, result in found.items():
        every = set(result["images"])
        for what, names in (
            ("all 16 images", every),
            ("H&E, 4 images", set(H_AND_E)),
            ("purple stains, 12 images", every - set(H_AND_E)),
        ):
            chosen = [result["images"][n] for n in sorted(names)]
            true, there, matched = (sum(c[k] for c in chosen) for k in ("true", "found", "matched"))
            error = np.mean([abs(c["found"] - c["true"]) / c["true"] for c in chosen])
            rows.append(
                Row(
                    f"{name}: {what}",
                    f"F1 {2 * matched / (true + there):.3f}",
                    f"{there} found of {true}; error of the count {error:.0%} of an image's nuclei",
                )
            )
        rows.append(Row(f"{name}: cost", f"{result['core_s_per_mm2']:.1f} core-s per mm2"))
    from hespotex.nuclei import list_segmenters

    absent = [f"{s.name}: {s.missing}" for s in list_segmenters() if not s.ready]
    notes = (
        "One mask a nucleus, 541 in all; the images state no scale, so one was assumed by eye. The classical "
        "segmenter was tuned on these very images.",
        *(f"Not measured: {text}." for text in absent),
    )
    return [Table("Nuclei", ("what", "F1 at IoU 0.5", "count", "bar"), tuple(rows), notes)]
