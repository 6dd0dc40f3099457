"""The stages of SHELL as features, for a trial: a network of pathology that is trained to tell epithelium from stroma.

Its weights are those in the wheel of lavlab-shell 0.9.1 (MIT): `pip install --no-deps --target FOLDER lavlab-shell==0.9.1`,
with FOLDER on PYTHONPATH. It reads eosin, haematoxylin and optical density of a slide, and groups of its channels are normalised
over the whole picture; so it reads patches alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from importlib import util
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from hespotex.features.patches import PatchPlan, crop_patches
from hespotex.slide import open_slide
from hespotex.storage.content_keys import content_key, file_key

Floats = npt.NDArray[np.float32]

# A multiple of 64, as it asks; at the default's sides 0.6 to 4.8 um per pixel, where it was trained at about 1.
SIZE_PX = 128
_BATCH = 8
_THUMBNAIL_PX = 1500
_WHITE_OD, _ANGLES, _RANGE = 0.15, (1, 99), (1, 99)


def weights_file() -> Path | None:
    """The network, where the wheel was unpacked on the path."""
    spec = util.find_spec("shell")
    if spec is None or not spec.submodule_search_locations:
        return None
    found = Path(spec.submodule_search_locations[0]) / "weights" / "model_v1.onnx"
    return found if found.is_file() else None


def features(section: Any, sides_um: Sequence[float], cache: Path, threads: int) -> Floats:
    """(n, S, D) mean and deviation over a patch of the sums that end each level of the network, and of its three maps."""
    path = weights_file()
    assert path is not None
    key = content_key("shell 1", SIZE_PX, file_key(path.with_suffix(".onnx.data")), str(section.slide), list(sides_um),
                      section.xy_px0)  # fmt: skip
    kept = cache / f"{section.section_id}-shell-{key[:12]}.npy"
    if kept.is_file():
        return np.asarray(np.load(kept))
    network, mpp = _network(path, threads), section.geometry.mpp
    plan = PatchPlan(tuple(sides_um), SIZE_PX)
    found: list[tuple[Any, list[Floats]]] = []
    with open_slide(section.slide, mpp=mpp, bits=section.bits) as slide:
        stains = _Stains(slide)
        for rows, patches in crop_patches(slide, section.xy_px0, mpp, plan, _BATCH):
            sides = [_moments(network(stains(patches[:, s]))) for s in range(len(sides_um))]
            found.append((rows, sides))
    out = np.empty((section.n_spots, len(sides_um), found[0][1][0].shape[1]), np.float32)
    for rows, sides in found:
        out[rows] = np.stack(sides, axis=1)
    kept.parent.mkdir(parents=True, exist_ok=True)
    np.save(kept, out)
    return out


def _network(path: Path, threads: int) -> Any:
    """(b, 3, H, W) -> the maps at the end of each level, from the first to the output."""
    import openvino

    core = openvino.Core()
    model = core.read_model(str(path))
    adds = [op for op in model.get_ordered_ops() if op.get_type_name() == "Add"]
    # Of each run of sums of one size the last: a level of the network ends there.
    ends, before = [], None
    for op in adds:
        shape = op.output(0).partial_shape
        if shape.rank.get_length() != 4 or shape[1].is_dynamic:
            continue
        size = (shape[1].get_length(), str(shape[2]))
        if size == before:
            ends[-1] = op
        else:
            ends.append(op)
        before = size
    model.add_outputs([op.output(0) for op in ends])
    compiled = core.compile_model(model, "CPU", {"INFERENCE_NUM_THREADS": threads})
    outputs = compiled.outputs

    def run(given: Floats) -> list[Floats]:
        found = compiled(given)
        return [np.asarray(found[o]) for o in outputs]

    return run


def _moments(maps: Sequence[Floats]) -> Floats:
    parts = [f(m, axis=(2, 3)) for m in maps for f in (np.mean, np.std)]
    return np.concatenate(parts, axis=1).astype(np.float32)


class _Stains:
    """RGB -> eosin, haematoxylin, optical density on 0 to 1; the stains are found on the slide (Macenko 2009)."""

    def __init__(self, slide: Any) -> None:
        width, height = slide.width_px0, slide.height_px0
        factor = max(width, height) / _THUMBNAIL_PX
        small = slide.read_region(
            0, 0, width, height, round(width / factor), round(height / factor)
        )
        every = self._od(small).reshape(-1, 3)
        od = every[every.mean(axis=1) > _WHITE_OD]
        plane = np.linalg.eigh(np.cov(od.T))[1][:, 1:]
        plane *= np.where(plane.sum(axis=0) < 0, -1, 1)
        along = od @ plane
        angles = np.percentile(np.arctan2(along[:, 1], along[:, 0]), _ANGLES)
        vectors = np.stack([plane @ [np.cos(a), np.sin(a)] for a in angles])
        # Of the two, haematoxylin takes more of the red.
        haematoxylin, eosin = sorted(vectors, key=lambda v: v[0], reverse=True)
        inverse = np.linalg.pinv(np.stack([eosin, haematoxylin]).T)
        self._mix = np.vstack([inverse, np.full(3, 1 / 3)]).T
        # As the network was trained: over the whole slide, glass included.
        self._low, self._high = np.percentile(every @ self._mix, _RANGE, axis=0)

    @staticmethod
    def _od(rgb: npt.NDArray[np.uint8]) -> npt.NDArray[np.float64]:
        return -np.log10(np.clip(rgb.astype(np.float64), 1, 240) / 240)

    def __call__(self, patches: npt.NDArray[np.uint8]) -> Floats:
        seen = (self._od(patches) @ self._mix - self._low) / (self._high - self._low)
        return np.ascontiguousarray(np.clip(seen, 0, 1).transpose(0, 3, 1, 2), np.float32)
