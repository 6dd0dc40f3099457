"""Painted slices that were also warped smoothly on their glass, by a map that is known exactly."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from hespotex.geometry import Bend

# Over such lengths a slice is warped, and so far apart are the nodes that say how.
LENGTH_UM = 450.0
_STEP_UM = 75.0


def drawn_warp(seed: int, number: int, side_um: float, most_um: float) -> Bend:
    """From the warped slice's microns to those of the slice as it was cut: smooth, the largest displacement `most_um`."""
    from scipy.ndimage import gaussian_filter

    n = int(np.ceil(side_um / _STEP_UM)) + 1
    rng = np.random.default_rng([seed, number])
    over = LENGTH_UM / _STEP_UM
    moved = np.stack([gaussian_filter(rng.normal(size=(n, n)), over) for _ in "xy"], axis=-1)
    moved *= most_um / np.linalg.norm(moved, axis=-1).max()
    return Bend((0.0, 0.0), _STEP_UM, moved)


def warped_image(image: npt.NDArray[np.uint8], mpp: float, warp: Bend) -> npt.NDArray[np.uint8]:
    """The picture of a slice as it lies after the warp; beyond its rim its outermost pixels."""
    import cv2

    height, width = image.shape[:2]
    columns, rows = np.meshgrid(np.arange(width), np.arange(height))
    at = (warp((np.stack([columns.ravel(), rows.ravel()], axis=1) + 0.5) * mpp) / mpp - 0.5).astype(
        "f4"
    )
    x, y = (at[:, k].reshape(height, width) for k in (0, 1))
    return np.asarray(
        cv2.remap(image, x, y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE), np.uint8
    )
