"""How a scene is stained: optical densities of haematoxylin and eosin to RGB."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt
from scipy.ndimage import gaussian_filter

from hespotex.datasets.tissue import Floats, Nuclei, Scene, resized, value_noise

# Optical density (natural logarithm) per unit of stain in red, green, blue.
_HAEMATOXYLIN: Final = np.array([0.72, 0.63, 0.29])
_EOSIN: Final = np.array([0.16, 0.90, 0.41])
# Eosin and haematoxylin of each tissue between its nuclei, and how much the fibres show in it.
_EOSIN_OF: Final = np.array([0.52, 0.50, 0.46, 0.34, 0.50, 0.92, 0.80], dtype=np.float32)
_HAEMATOXYLIN_OF: Final = np.array([0.06, 0.34, 0.10, 0.24, 0.04, 0.07, 0.16], dtype=np.float32)
_FIBRES_OF: Final = np.array([0.30, 0.05, 0.22, 0.08, 0.05, 0.13, 0.04], dtype=np.float32)
_NUCLEUS_OF: Final = np.array([1.05, 1.05, 1.15, 1.75, 0.95, 1.05, 1.90])
_RIM_OF: Final = np.array([0.1, 0.45, 0.35, 0.0, 0.1, 0.1, 0.1])


@dataclass(frozen=True)
class Stain:
    """A laboratory's staining and scanner.

    Attributes:
        vectors: (2, 3) optical density of haematoxylin and eosin in red, green, blue.
        background: (3,) colour of the empty slide, 0 to 255.
        thickness: factor on all densities.
    """

    vectors: npt.NDArray[np.float64]
    background: npt.NDArray[np.float64]
    thickness: float


@dataclass(frozen=True)
class Scanner:
    """How a scanner shows a stained section.

    Attributes:
        colour: matrix on optical densities in red, green, blue: seen = densities @ colour. Unity shows them as they are.
        mpp: microns per pixel; None: the plan's.
        contrast: of the tone curve, -2 to 1: light x becomes x + contrast * x (1 - x) (2 x - 1), steeper in the middle and
            flatter at both ends where it is above 0. No change of colour does the same. Pictures alone show it.

    Raises:
        ValueError: a contrast by which the curve would fall.
    """

    colour: tuple[tuple[float, float, float], ...] = ((1.0, 0.0, 0.0), (0.0, 1.0, 0.0), (0.0, 0.0, 1.0))  # fmt: skip
    mpp: float | None = None
    contrast: float = 0.0

    def __post_init__(self) -> None:
        if not -2 <= self.contrast <= 1:
            raise ValueError(f"expected a contrast from -2 to 1, found {self.contrast}")

    def show(self, stain: Stain) -> Stain:
        """The stain as this scanner sees it: exact, since densities add up."""
        colour = np.array(self.colour)
        white = 255 * np.exp(np.log(stain.background / 255) @ colour)
        return Stain(stain.vectors @ colour, white, stain.thickness)

    def expose(self, image: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
        """The picture under this scanner's tone curve."""
        light = np.arange(256) / 255
        light += self.contrast * light * (1 - light) * (2 * light - 1)
        return np.asarray(np.rint(255 * light).astype(np.uint8)[image])


def draw_stain(rng: np.random.Generator) -> Stain:
    """A staining as laboratories differ: hue, strength of each dye, white point."""
    vectors = np.stack([_HAEMATOXYLIN, _EOSIN]) + rng.normal(scale=0.04, size=(2, 3))
    strength = np.array([rng.uniform(0.75, 1.25), rng.uniform(0.7, 1.3)])
    background = np.array([243.0, 242.0, 244.0]) + rng.normal(scale=2.0, size=3)
    return Stain(
        vectors * strength[:, None], np.minimum(background, 253.0), float(rng.uniform(0.92, 1.08))
    )


def paint_scene(scene: Scene, stain: Stain, rng: np.random.Generator) -> npt.NDArray[np.uint8]:
    """Stain a scene; returns (H, W, 3) RGB."""
    size = len(scene.tissue)
    side_um = size * scene.mpp
    covered = np.where(scene.outline, 1 - scene.empty, 0).astype(np.float32)
    covered = gaussian_filter(covered, 0.8 / scene.mpp)
    eosin = _soft(_EOSIN_OF, scene.tissue, 2.0 / scene.mpp)
    haematoxylin = _soft(_HAEMATOXYLIN_OF, scene.tissue, 2.0 / scene.mpp)
    depth = _soft(_FIBRES_OF, scene.tissue, 2.0 / scene.mpp)
    eosin *= np.clip(1 + depth * 1.5 * scene.fibre, 0.12, 2.2)
    haematoxylin *= 1 + 0.35 * value_noise(rng, side_um, 7.0, size)
    eosin *= 1 + 0.12 * value_noise(rng, side_um, 5.0, size)
    eosin += scene.gland_wall * (0.42 - eosin)
    haematoxylin += scene.gland_wall * (0.30 - haematoxylin)

    nuclear = paint_nuclei(scene.nuclei, scene.mpp, size)
    nuclear *= 1 + 0.16 * value_noise(rng, side_um, 2.4, size)
    haematoxylin = np.maximum(haematoxylin, 0) + nuclear
    eosin *= np.clip(1 - 0.35 * nuclear, 0.2, 1)

    uneven = 1 + 0.07 * value_noise(rng, side_um, 500.0, size)
    scale = covered * uneven * np.float32(stain.thickness)
    # Edges of a section curl and take more dye; the mounting medium keeps a trace of eosin.
    edge = covered - resized(gaussian_filter(covered[::4, ::4], 3.5 / scene.mpp), size)
    scale *= 1 + 0.35 * np.clip(edge, 0, 1)
    haematoxylin = gaussian_filter(haematoxylin * scale, 0.55)
    eosin = gaussian_filter(eosin * scale, 0.55) + np.float32(0.006)
    return _expose(haematoxylin, eosin, stain, rng)


def paint_nuclei(nuclei: Nuclei, mpp: float, size: int) -> Floats:
    """(size, size) haematoxylin of the nuclei; where nuclei overlap the darker one shows."""
    canvas = np.zeros(size * size, dtype=np.float32)
    reach = int(np.ceil(nuclei.half_axes_um.max(initial=1.0) / mpp)) + 1
    offset = np.arange(-reach, reach + 1)
    for start in range(0, len(nuclei.xy_um), 4096):
        part = slice(start, start + 4096)
        centre = nuclei.xy_um[part] / mpp
        corner = np.floor(centre).astype(np.int64)
        column = corner[:, 0, None, None] + offset[None, None, :]
        row = corner[:, 1, None, None] + offset[None, :, None]
        dx = ((column + 0.5 - centre[:, 0, None, None]) * mpp).astype(np.float32)
        dy = ((row + 0.5 - centre[:, 1, None, None]) * mpp).astype(np.float32)
        value = _ellipses(dx, dy, nuclei, part, mpp)
        inside = (value > 0) & (row >= 0) & (row < size) & (column >= 0) & (column < size)
        np.maximum.at(canvas, (row * size + column)[inside], value[inside])
    return canvas.reshape(size, size)


def _ellipses(dx: Floats, dy: Floats, nuclei: Nuclei, part: slice, mpp: float) -> Floats:
    angle = nuclei.angle[part, None, None].astype(np.float32)
    axes = nuclei.half_axes_um[part].astype(np.float32)
    kind = nuclei.tissue[part]
    along = (np.cos(angle) * dx + np.sin(angle) * dy) / axes[:, 0, None, None]
    across = (np.cos(angle) * dy - np.sin(angle) * dx) / axes[:, 1, None, None]
    distance = np.sqrt(along**2 + across**2)
    # An uneven contour: one shallow lobe, its phase tied to the nucleus's own angle.
    distance *= 1 + 0.08 * np.cos(3 * np.arctan2(across, along) + 5 * angle)
    sharp = axes[:, 1, None, None] / np.float32(0.9 * max(mpp, 0.6))
    cover = np.clip((1 - distance) * sharp + 0.5, 0, 1)
    rim = _RIM_OF[kind][:, None, None] * np.clip((distance - 0.45) / 0.5, -0.5, 1)
    strength = _NUCLEUS_OF[kind] * (0.85 + 0.3 * ((np.abs(nuclei.angle[part]) * 7.3) % 1))
    return np.asarray(cover * (1 + rim) * strength[:, None, None], dtype=np.float32)


def _soft(levels: Floats, tissue: npt.NDArray[np.uint8], sigma_px: float) -> Floats:
    """Level of each pixel's tissue; blurred at half the resolution, since borders are soft."""
    return resized(gaussian_filter(levels[tissue[::2, ::2]], sigma_px / 2), len(tissue))


def _expose(
    haematoxylin: Floats, eosin: Floats, stain: Stain, rng: np.random.Generator
) -> npt.NDArray[np.uint8]:
    size = len(eosin)
    light = stain.background * (1 - 0.012 * np.abs(np.linspace(-1, 1, size))[:, None, None] ** 2)
    image = np.empty((size, size, 3), dtype=np.uint8)
    grain = rng.standard_normal((size, size), dtype=np.float32) * np.float32(1.6)
    for c in range(3):
        h, e = (np.float32(stain.vectors[k, c]) for k in range(2))
        channel = np.exp(-(h * haematoxylin + e * eosin)) * light[..., c] + grain
        image[..., c] = np.clip(np.rint(channel), 0, 255)
    return image
