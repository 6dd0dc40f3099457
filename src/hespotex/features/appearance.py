"""Colour and texture of patches; encoders look past both."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from hespotex.errors import HESpotExError
from hespotex.slide.pixel_size import AGREEMENT

N_COLOURS = 6
# A level of the pyramid smaller than this says little of a patch.
_SMALLEST_PX = 12
# Luma, and the red difference, which parts haematoxylin from eosin.
_CHANNELS = (0, 1)
# A channel is resolved from so many pixels of the slide on: JPEG keeps colour at half the resolution.
_RESOLVED_PX = (1.0, 2.0)
# Contrast below one grey level is rounding.
_FLOOR = 1.0


@dataclass(frozen=True)
class Appearance:
    """How the patches of n spots look.

    Attributes:
        colours: (n, 6) mean and standard deviation of R, G and B in the smallest patch, 0 to 1.
        textures: (n, T) by how many octaves (log2 of mean squared contrast) each octave band is stronger
            than the next finer one, in the smallest and the widest patch, luma and chroma; NaN where the slide's
            pixels do not resolve the finer band. T may be 0.
    """

    colours: npt.NDArray[np.float32]
    textures: npt.NDArray[np.float32]

    def __post_init__(self) -> None:
        if len(self.colours) != len(self.textures):
            raise HESpotExError(
                expected="colours and textures of the same spots",
                found=f"{len(self.colours)} and {len(self.textures)}",
            )

    def __len__(self) -> int:
        return len(self.colours)

    def spots(self, rows: npt.NDArray[np.intp] | npt.NDArray[np.bool_]) -> Appearance:
        """Only these spots."""
        return Appearance(self.colours[rows], self.textures[rows])

    @classmethod
    def joined(cls, parts: Sequence[Appearance]) -> Appearance:
        """Spots of all parts, one after another."""
        return cls(
            np.concatenate([p.colours for p in parts]), np.concatenate([p.textures for p in parts])
        )


def describe_patches(
    patches: npt.NDArray[np.uint8], pitches_um: Sequence[float], mpp: float
) -> Appearance:
    """Colour and texture of spots.

    Args:
        patches: (b, S, H, W, 3) RGB, smallest patch first.
        pitches_um: (S,) microns per pixel of the patches.
        mpp: microns per level-0 pixel of the slide.
    """
    kept = sorted({0, patches.shape[1] - 1})
    by_side = [patch_textures(patches[:, s], pitches_um[s], mpp) for s in kept]
    return Appearance(patch_colours(patches[:, 0]), np.concatenate(by_side, axis=1))


def n_textures(n_sides: int, size_px: int) -> int:
    """How many columns `describe_patches` gives as textures."""
    return min(n_sides, 2) * len(_CHANNELS) * max(_n_bands(size_px) - 1, 0)


def patch_colours(patches: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
    """(b, 6) mean and standard deviation of R, G and B of patches (b, H, W, 3), on a scale of 0 to 1."""
    import cv2

    moments = [np.concatenate(cv2.meanStdDev(patch)).ravel() for patch in patches]
    return np.asarray(np.reshape(moments, (len(patches), N_COLOURS)) / 255, dtype=np.float32)


def patch_textures(
    patches: npt.NDArray[np.uint8], pitch_um: float, mpp: float
) -> npt.NDArray[np.float32]:
    """(b, T) steps between octave bands of a Laplacian pyramid (Burt and Adelson 1983) of luma, then of chroma.

    A step does not change with the strength of the stain, and moves by a band where the scale is wrong by two.

    Args:
        patches: (b, H, W, 3) RGB.
        pitch_um: microns per pixel of the patches.
        mpp: microns per level-0 pixel of the slide.
    """
    import cv2

    n_bands = _n_bands(min(patches.shape[1:3]))
    steps = np.empty((len(patches), len(_CHANNELS), max(n_bands - 1, 0)), np.float32)
    if steps.size:
        for i, patch in enumerate(patches):
            seen = cv2.cvtColor(patch, cv2.COLOR_RGB2YCrCb)
            for c, channel in enumerate(_CHANNELS):
                power = _band_power(cv2.extractChannel(seen, channel).astype(np.float32), n_bands)
                steps[i, c] = np.diff(np.log2(power + _FLOOR))
        finer_um = pitch_um * 2.0 ** np.arange(n_bands - 1)
        for c, pixels in enumerate(_RESOLVED_PX):
            steps[:, c, finer_um < pixels * mpp * (1 - AGREEMENT)] = np.nan
    return steps.reshape(len(patches), -1)


def _n_bands(size_px: int) -> int:
    count = 0
    while size_px >= _SMALLEST_PX:
        count, size_px = count + 1, (size_px + 1) // 2
    return count


def _band_power(channel: npt.NDArray[np.float32], n_bands: int) -> npt.NDArray[np.float64]:
    """(n_bands,) mean squares of the levels of the pyramid, finest first."""
    import cv2

    power = np.empty(n_bands)
    for k in range(n_bands):
        below = cv2.pyrDown(channel)
        smooth = cv2.pyrUp(below, dstsize=channel.shape[::-1])
        power[k] = cv2.norm(channel, smooth, cv2.NORM_L2SQR) / channel.size
        channel = below
    return power
