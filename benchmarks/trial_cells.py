"""Features of spots for trials: cells of each patch are encoded once, and windows of every form are put together afterwards.

A window is 7 x 7 weights over the cells of a patch; equal ones make the square of the product. Patches may be turned before
they are encoded, and cut with cells around them that are thrown away, as tiles of a reading by area are.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from hespotex.encoders.base import CELL_PX, Tile
from hespotex.features.patches import PatchPlan, crop_patches
from hespotex.slide import open_slide
from hespotex.storage.atomic import atomic_path
from hespotex.storage.content_keys import content_key

Floats = npt.NDArray[np.float32]

# A side of a patch in cells; the product's 224 px.
CELLS = 7
_BATCH = 8


def windows() -> dict[str, npt.NDArray[np.float64]]:
    """(7, 7) weights of each form, with sum 1."""
    at = np.arange(CELLS) - CELLS // 2
    radius = np.hypot(at[:, None], at)
    cosine = np.cos(np.pi * at / (CELLS + 1)) ** 2
    forms = {
        "square": np.ones((CELLS, CELLS)),
        "disc": np.clip(CELLS / 2 + 0.5 - radius, 0, 1),
        "cosine": np.outer(cosine, cosine),
        **{f"gauss {sd:g}": np.exp(-(radius**2) / (2 * sd**2)) for sd in (1.0, 1.5, 2.0)},
    }
    return {name: form / form.sum() for name, form in forms.items()}


def features(
    section: Any, encoder: Any, sides_um: Sequence[float], halo: int, quarters: int, cache: Path
) -> Mapping[str, Floats]:
    """(n, S, D) features of each form of window.

    Args:
        section: with its slide.
        encoder: the offline one.
        sides_um: of the square windows.
        halo: cells around a patch that the network sees, too; 0: none, as where patches are encoded one by one.
        quarters: by which patches are turned, counter-clockwise.
        cache: folder in which they are kept.
    """
    mpp = section.geometry.mpp
    sides = [side * mpp for side in PatchPlan(tuple(sides_um), CELLS * CELL_PX).sides_px0(mpp)]
    key = content_key(
        "trial cells", section.section_id, str(section.slide), encoder.key(), encoder.engine,
        sides, halo, [quarters, False], sorted(windows()), section.xy_px0,
    )  # fmt: skip
    path = cache / f"{section.section_id}-{halo}-{quarters}-{key[:12]}.npz"
    if path.is_file():
        with np.load(path) as kept:
            return {name: kept[name] for name in kept.files}
    found = _encode(section, encoder, sides, halo, quarters)
    path.parent.mkdir(parents=True, exist_ok=True)
    with atomic_path(path) as temporary, open(temporary, "wb") as file:
        np.savez(file, **found)
    return found


def _encode(
    section: Any, encoder: Any, sides_um: Sequence[float], halo: int, quarters: int
) -> dict[str, Floats]:
    mpp, tile = section.geometry.mpp, Tile(CELLS, halo)
    reader = encoder.by_area((tile,))
    # Forms other than the square are tried on the picture as it lies.
    forms = {k: v for k, v in windows().items() if not quarters or k == "square"}
    weights = np.stack(list(forms.values()))
    plan = PatchPlan(tuple(side * tile.side / CELLS for side in sides_um), tile.side_px)
    out = np.empty((len(forms), section.n_spots, len(sides_um), encoder.dim), np.float32)
    with open_slide(section.slide, mpp=mpp, bits=section.bits) as slide:
        for rows, patches in crop_patches(slide, section.xy_px0, mpp, plan, _BATCH):
            for side in range(len(sides_um)):
                cells = (
                    reader.phases[0].cells(_turned(patches[:, side], quarters)).astype(np.float64)
                )
                for form, means in enumerate(np.einsum("wij,bijk->wbk", weights, cells)):
                    out[form, rows, side] = reader.features(means)
    return dict(zip(forms, out, strict=True))


def _turned(patches: npt.NDArray[np.uint8], quarters: int) -> npt.NDArray[np.uint8]:
    return np.ascontiguousarray(np.rot90(patches, quarters, axes=(1, 2)))
