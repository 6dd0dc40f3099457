"""How the samples of a TIFF page become the 8-bit RGB that a viewer shows, as its tags say."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from hespotex.errors import SlideError
from hespotex.slide.bit_depth import MOST_BITS, to_8_bit

WHITE_IS_ZERO, BLACK_IS_ZERO, RGB, PALETTE, CMYK, YCBCR, CIELAB, ICCLAB = 0, 1, 2, 3, 5, 6, 8, 9
# ExtraSamples: colours multiplied with alpha already, or not; 0 says that the channel means nothing known.
_ASSOCIATED, _UNASSOCIATED = 1, 2
_COLOUR_SAMPLES: Final = {RGB: 3, CMYK: 4, YCBCR: 3, CIELAB: 3, ICCLAB: 3}
_KNOWN: Final = {WHITE_IS_ZERO, BLACK_IS_ZERO, PALETTE, *_COLOUR_SAMPLES}
# Compressions whose samples stay YCbCr; decoders of all others turn them into RGB themselves.
_KEEPS_YCBCR: Final = {1, 5, 8, 32773, 32946, 33003, 34925, 50000}
_LUMA: Final = (0.299, 0.587, 0.114)
_D65: Final = np.array([0.95047, 1.0, 1.08883], np.float32)
_XYZ_TO_RGB: Final = np.array(
    [[3.2406, -1.5372, -0.4986], [-0.9689, 1.8758, 0.0415], [0.0557, -0.2040, 1.0570]], np.float32
)
_LAB_L: Final = {(CIELAB, 8): 255.0, (CIELAB, 16): 65535.0, (ICCLAB, 8): 255.0, (ICCLAB, 16): 65280.0}  # fmt: skip


def check_colours(page: Any, path: Path) -> None:
    """Refuse samples that are no colours.

    Raises:
        SlideError: floating point values, or a colour space that nobody photographs a slide in.
    """
    photometric, bits = int(page.photometric), int(page.bitspersample)
    lab = photometric in {CIELAB, ICCLAB}
    known = page.dtype is not None and page.dtype.kind in ("uib" if lab else "ub")
    if not known or bits > MOST_BITS:
        raise SlideError(
            expected="colours of 8 or 16 bit",
            found=f"{page.dtype} in {path}",
            remedy="export the image as 8-bit RGB",
        )
    if photometric not in _KNOWN or (lab and bits not in {8, 16}):
        name = getattr(page.photometric, "name", str(photometric))
        raise SlideError(
            expected="grey, RGB, YCbCr, CMYK, CIELAB or a palette",
            found=f"colours of kind {name} with {bits} bits in {path}",
            remedy="export the image as 8-bit RGB",
        )


def fills_its_bits(page: Any) -> bool:
    """Whether the values of a colour space are defined over all bits of a sample: nothing is to be asked of it."""
    return int(page.photometric) in {PALETTE, CIELAB, ICCLAB}


def colour_samples(page: Any) -> int:
    """How many samples of a pixel are colours: as many as their kind has, whether or not a tag calls the rest extra."""
    n = int(page.samplesperpixel) - len(page.extrasamples)
    return max(1, min(n, _COLOUR_SAMPLES.get(int(page.photometric), n)))


def has_full_range(page: Any, bits: int) -> bool:
    """Whether black is 0 and white the largest value of so many bits; ReferenceBlackWhite may say otherwise of RGB."""
    reference = _reference(page) if int(page.photometric) == RGB else None
    return reference is None or np.allclose(reference, [0, float((1 << bits) - 1)] * 3)


def keeps_ycbcr(page: Any) -> bool:
    """Whether samples are YCbCr still, after they are unpacked."""
    return int(page.photometric) == YCBCR and int(page.compression) in _KEEPS_YCBCR


def to_rgb(values: npt.NDArray[Any], page: Any, bits: int) -> npt.NDArray[np.uint8]:
    """(H, W, S) samples of a TIFF page -> (H, W, 3) uint8, by photometric interpretation.

    Transparency is laid over white where a tag calls the channel alpha; a channel without meaning is left out.

    Args:
        values: as they are stored.
        page: with its tags.
        bits: of a sample, that hold the picture.
    """
    photometric = int(page.photometric)
    if photometric == PALETTE and page.colormap is not None:
        # Maps of 8 bits in entries of 16 are no rule of TIFF, but libtiff shows them, too.
        shift = 8 if int(page.colormap.max()) > 255 else 0
        return np.asarray(
            (page.colormap[:, values[..., 0]] >> shift).astype(np.uint8).transpose(1, 2, 0)
        )
    n = values.shape[2]
    if photometric in {CIELAB, ICCLAB} and n >= 3:
        colour = _of_lab(values[..., :3], photometric, int(page.bitspersample))
    elif keeps_ycbcr(page) and n >= 3:
        colour = _of_ycbcr(values[..., :3], page, bits)
    else:
        colour = _plain(_in_reference(values, page, bits), photometric)
    alpha = _alpha_channel(page, n)
    if alpha is None:
        return np.ascontiguousarray(colour)
    channel, premultiplied = alpha
    covering = to_8_bit(values[..., channel : channel + 1], bits)
    return _over_white(colour, covering, premultiplied=premultiplied)


def _plain(eight: npt.NDArray[np.uint8], photometric: int) -> npt.NDArray[np.uint8]:
    """Grey, RGB or CMYK of 8 bits as RGB; whatever comes behind the colours is left out."""
    if photometric == WHITE_IS_ZERO:
        eight = 255 - eight
    n = eight.shape[2]
    if photometric == CMYK and n >= 4:
        ink = 255 - eight[..., :4].astype(np.uint16)
        return np.asarray((ink[..., :3] * ink[..., 3:] + 127) // 255, np.uint8)
    return eight[..., :3] if n >= 3 else np.repeat(eight[..., :1], 3, axis=2)


def _in_reference(values: npt.NDArray[Any], page: Any, bits: int) -> npt.NDArray[np.uint8]:
    """8 bits between the black and the white that ReferenceBlackWhite gives for RGB; all of them without it."""
    reference = _reference(page)
    if reference is None or values.shape[2] < 3 or has_full_range(page, bits):
        return to_8_bit(values, bits)
    black, white = reference[::2], reference[1::2]
    scaled = (values[..., :3].astype(np.float32) - black) * (255 / np.maximum(white - black, 1))
    return np.asarray(np.clip(np.rint(scaled), 0, 255), np.uint8)


def _reference(page: Any) -> npt.NDArray[np.float32] | None:
    """(6,) black and white of each sample, as the tag ReferenceBlackWhite gives them."""
    found = page.tags.valueof("ReferenceBlackWhite")
    if found is None:
        return None
    pairs = np.asarray(found, np.float64).reshape(-1)
    if len(pairs) == 12:  # rationals
        pairs = pairs[::2] / np.where(pairs[1::2] == 0, 1, pairs[1::2])
    return pairs.astype(np.float32) if len(pairs) == 6 else None


def _of_ycbcr(values: npt.NDArray[Any], page: Any, bits: int) -> npt.NDArray[np.uint8]:
    """TIFF 6.0, section 21: headroom and footroom are taken off, then the luma coefficients undone."""
    full, half = float((1 << bits) - 1), float(1 << (bits - 1))
    reference = _reference(page)
    if reference is None:
        reference = np.array([0, full, half, full, half, full], np.float32)
    black, white = reference[::2], reference[1::2]
    span = np.array([255.0, 127.0, 127.0], np.float32)
    y, cb, cr = np.moveaxis(
        (values.astype(np.float32) - black) * (span / np.maximum(white - black, 1)), -1, 0
    )
    red, green, blue = _luma(page)
    r = y + cr * (2 - 2 * red)
    b = y + cb * (2 - 2 * blue)
    g = (y - blue * b - red * r) / green
    return np.asarray(np.clip(np.rint(np.stack([r, g, b], axis=-1)), 0, 255), np.uint8)


def _luma(page: Any) -> tuple[float, float, float]:
    found = page.tags.valueof("YCbCrCoefficients")
    if found is None:
        return _LUMA
    values = np.asarray(found, np.float64).reshape(-1)
    if len(values) == 6:
        values = values[::2] / np.where(values[1::2] == 0, 1, values[1::2])
    red, green, blue = values.tolist() if len(values) == 3 and values.all() else _LUMA
    return red, green, blue


def _of_lab(values: npt.NDArray[Any], photometric: int, bits: int) -> npt.NDArray[np.uint8]:
    """L* from 0 to 100; a*, b* are signed, or lifted by half the range in ICCLAB. The white point is D65's."""
    kinds = (np.uint8, np.int8) if bits == 8 else (np.uint16, np.int16)
    unsigned, signed = (np.ascontiguousarray(values).view(kind) for kind in kinds)
    lightness = unsigned[..., 0].astype(np.float32) * np.float32(100 / _LAB_L[photometric, bits])
    if photometric == ICCLAB:
        a, b = np.moveaxis(unsigned[..., 1:].astype(np.float32) - (1 << (bits - 1)), -1, 0)
    else:
        a, b = np.moveaxis(signed[..., 1:].astype(np.float32), -1, 0)
    one = 1 if bits == 8 else 256
    y = (lightness + 16) / 116
    cubed = np.stack([y + a / one / 500, y, y - b / one / 200], axis=-1)
    xyz = np.where(cubed > 6 / 29, cubed**3, 3 * (6 / 29) ** 2 * (cubed - 4 / 29)) * _D65
    linear = np.clip(xyz @ _XYZ_TO_RGB.T, 0, 1)
    shown = np.where(linear <= 0.0031308, 12.92 * linear, 1.055 * linear ** (1 / 2.4) - 0.055)
    return np.asarray(np.rint(shown * 255), np.uint8)


def _alpha_channel(page: Any, n_samples: int) -> tuple[int, bool] | None:
    """Which sample is alpha, and whether colours are multiplied with it; None where no tag says so."""
    first = _COLOUR_SAMPLES.get(int(page.photometric), 1)
    for i, kind in enumerate(int(k) for k in page.extrasamples):
        if kind in {_ASSOCIATED, _UNASSOCIATED} and first + i < n_samples:
            return first + i, kind == _ASSOCIATED
    return None


def _over_white(
    colour: npt.NDArray[np.uint8], alpha: npt.NDArray[np.uint8], *, premultiplied: bool
) -> npt.NDArray[np.uint8]:
    a = alpha.astype(np.uint16)
    part = colour.astype(np.uint16) if premultiplied else (colour * a + 127) // 255
    return np.asarray(np.minimum(part + (255 - a), 255), np.uint8)
