"""Colour and texture of patches; encoders look past both."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

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
# Pixels so alike are copied, not resampled: their finest octave is sharper than at any other scale.
_ALIKE = 1e-6
# Contrast below one grey level is rounding.
_FLOOR = 1.0


@dataclass(frozen=True)
class Appearance:
    """How the patches of n spots look.

    Attributes:
        colours: (n, 6) mean and standard deviation of R, G and B in the smallest patch, 0 to 1.
        textures: (n, T) by how many octaves (log2 of mean squared contrast) each octave band is stronger
            than the next finer one, in the smallest and the widest patch, luma and chroma; NaN where the slide's
            pixels do not resolve the finer band, or are copied as they are. T may be 0.
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
    n_bands = _n_bands(min(patches.shape[1:3]))
    power = np.empty((len(patches), len(_CHANNELS), n_bands))
    if n_bands > 1:
        for i, patch in enumerate(patches):
            for c, channel in enumerate(_channels(patch)):
                power[i, c] = _band_power(channel, n_bands)
    return _steps(power, pitch_um, mpp)


def _steps(power: npt.NDArray[np.float64], pitch_um: float, mpp: float) -> npt.NDArray[np.float32]:
    """(b, T) steps between the powers (b, channels, bands); NaN where the slide does not resolve the finer one, or it was copied."""
    n_steps = max(power.shape[2] - 1, 0)
    steps = np.empty((*power.shape[:2], n_steps), np.float32)
    if n_steps:
        steps[:] = np.diff(np.log2(power + _FLOOR), axis=2)
        finer_um = pitch_um * 2.0 ** np.arange(n_steps)
        for c, pixels in enumerate(_RESOLVED_PX):
            steps[:, c, finer_um < pixels * mpp * (1 - AGREEMENT)] = np.nan
        if abs(pitch_um / mpp - 1) < _ALIKE:
            steps[:, :, 0] = np.nan
    return steps.reshape(len(steps), -1)


def _channels(picture: npt.NDArray[np.uint8]) -> Iterator[npt.NDArray[np.float32]]:
    import cv2

    seen = cv2.cvtColor(picture, cv2.COLOR_RGB2YCrCb)
    return (cv2.extractChannel(seen, channel).astype(np.float32) for channel in _CHANNELS)


def n_cell_moments(size_px: int) -> int:
    """How many numbers `cell_appearance` gives a cell."""
    return N_COLOURS + len(_CHANNELS) * _n_bands(size_px)


def cell_appearance(
    tile: npt.NDArray[np.uint8], cell_px: int, halo: int, size_px: int
) -> npt.NDArray[np.float32]:
    """(T, T, M) what the appearance of a patch is made of, cell by cell: a mean over its cells means something.

    Args:
        tile: (H, H, 3) RGB.
        cell_px: side of a cell; a multiple of the pixels of the coarsest band.
        halo: cells on each side that are left out.
        size_px: side of a patch.
    """
    import cv2

    n_cells, kept = len(tile) // cell_px, slice(halo, len(tile) // cell_px - halo)

    def cell_means(values: Any) -> Any:
        return cv2.resize(values, (n_cells, n_cells), interpolation=cv2.INTER_AREA)[kept, kept]

    rgb = tile.astype(np.float32)
    colours = [cell_means(rgb), cell_means(cv2.multiply(rgb, rgb))]
    level, bands = cv2.merge(list(_channels(tile))), []  # OpenCV is faster over both at once
    for _ in range(_n_bands(size_px)):
        below = cv2.pyrDown(level)
        band = cv2.subtract(level, cv2.pyrUp(below, dstsize=level.shape[1::-1]))
        bands.append(cell_means(cv2.multiply(band, band)))
        level = below
    inner = colours[0].shape[:2]
    power = np.stack(bands, axis=3) if bands else np.empty((*inner, 0), np.float32)
    return np.concatenate([*colours, power.reshape(*inner, -1)], axis=2)


def appearance_of_cells(
    moments: Sequence[npt.NDArray[np.float64]], pitches_um: Sequence[float], mpp: float
) -> Appearance:
    """Colour and texture of spots from the means of `cell_appearance` over their patches.

    Args:
        moments: (n, M) of the smallest patch, and of the widest where there are several.
        pitches_um: microns per pixel of these patches.
        mpp: microns per level-0 pixel of the slide.
    """
    mean, square = moments[0][:, :3], moments[0][:, 3:N_COLOURS]
    deviation = np.sqrt(np.maximum(square - np.square(mean), 0))
    colours = np.concatenate([mean, deviation], axis=1) / 255
    textures = [
        _steps(own[:, N_COLOURS:].reshape(len(own), len(_CHANNELS), -1), pitch_um, mpp)
        for own, pitch_um in zip(moments, pitches_um, strict=True)
    ]
    return Appearance(colours.astype(np.float32), np.concatenate(textures, axis=1))


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
