"""Owns how the samples of a TIFF page become the 8-bit RGB that a viewer shows, as its tags say; pure."""

from __future__ import annotations

from typing import Any, Final

import numpy as np
import numpy.typing as npt

WHITE_IS_ZERO, BLACK_IS_ZERO, RGB, PALETTE, CMYK, YCBCR = 0, 1, 2, 3, 5, 6
# ExtraSamples: colours multiplied with alpha already, or not; 0 says that the channel means nothing known.
_ASSOCIATED, _UNASSOCIATED = 1, 2
_COLOUR_SAMPLES: Final = {RGB: 3, CMYK: 4, YCBCR: 3}


def to_rgb(values: npt.NDArray[Any], page: Any) -> npt.NDArray[np.uint8]:
    """(H, W, S) samples of a TIFF page -> (H, W, 3) uint8, by photometric interpretation.

    Transparency is laid over white where a tag calls the channel alpha; a channel without meaning is left out.
    """
    photometric = int(page.photometric)
    if photometric == PALETTE and page.colormap is not None:
        return np.asarray(
            (page.colormap[:, values[..., 0]] >> 8).astype(np.uint8).transpose(1, 2, 0)
        )
    eight = _to_8_bit(values, int(page.bitspersample))
    if photometric == WHITE_IS_ZERO:
        eight = 255 - eight
    n = eight.shape[2]
    if photometric == CMYK and n >= 4:
        ink = 255 - eight[..., :4].astype(np.uint16)
        return np.asarray((ink[..., :3] * ink[..., 3:] + 127) // 255, np.uint8)
    colour = eight[..., :3] if n >= 3 else np.repeat(eight[..., :1], 3, axis=2)
    alpha = _alpha_channel(page, n)
    if alpha is None:
        return np.ascontiguousarray(colour)
    channel, premultiplied = alpha
    return _over_white(colour, eight[..., channel : channel + 1], premultiplied=premultiplied)


def _alpha_channel(page: Any, n_samples: int) -> tuple[int, bool] | None:
    """Which sample is alpha, and whether colours are multiplied with it; None where no tag says so."""
    first = _COLOUR_SAMPLES.get(int(page.photometric), 1)
    for i, kind in enumerate(int(k) for k in page.extrasamples):
        if kind in {_ASSOCIATED, _UNASSOCIATED} and first + i < n_samples:
            return first + i, kind == _ASSOCIATED
    return None


def _to_8_bit(values: npt.NDArray[Any], bits: int) -> npt.NDArray[np.uint8]:
    if values.dtype == bool or bits == 1:
        return (values.astype(np.uint8) * 255).astype(np.uint8)
    if bits < 8:
        return np.asarray(values.astype(np.uint16) * 255 // (2**bits - 1), np.uint8)
    return np.asarray(values >> (bits - 8), np.uint8)


def _over_white(
    colour: npt.NDArray[np.uint8], alpha: npt.NDArray[np.uint8], *, premultiplied: bool
) -> npt.NDArray[np.uint8]:
    a = alpha.astype(np.uint16)
    part = colour.astype(np.uint16) if premultiplied else (colour * a + 127) // 255
    return np.asarray(np.minimum(part + (255 - a), 255), np.uint8)
