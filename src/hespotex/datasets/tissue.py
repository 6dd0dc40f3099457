"""What lies where in a painted section: outline, tissues, glands, fat cells, foci, nuclei.

All lengths in microns; pixel arrays are (H, W), points are x, y. Everything is a function of the
random generators that are passed in.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt
from PIL import Image
from scipy.spatial import cKDTree

from hespotex.datasets.draws import Draws, part_of, uniform_at

Floats = npt.NDArray[np.float32]
Points = npt.NDArray[np.float64]

TISSUES: Final = ("stroma", "tumour", "gland", "immune", "adipose", "muscle")
STROMA, TUMOUR, GLAND, IMMUNE, ADIPOSE, MUSCLE = range(len(TISSUES))
# A rare structure that only some plans paint: patches of large dark nuclei in dense ground.
FOCUS: Final = len(TISSUES)
KINDS: Final = (*TISSUES, "focus")

# Nuclei per mm2 in each tissue (glands: between the rings; fat: along the walls of its cells).
NUCLEI_PER_MM2: Final = np.array([1300.0, 5600.0, 900.0, 9800.0, 800.0, 600.0, 3200.0])
# Half axes of a nucleus in microns, by tissue.
NUCLEUS_HALF_AXES_UM: Final = np.array(
    [[6.0, 1.7], [5.2, 3.9], [4.6, 2.7], [3.0, 2.7], [5.0, 1.5], [7.5, 1.5], [7.4, 6.0]]
)

PATIENT_SIDE_UM: Final = 3200.0
PREVALENCE_SD: Final = 0.18
_FOCUS_LENGTH_UM: Final = 160.0
# After so many microns of depth nothing is left of what a slice showed of a part: coarse ones reach far, a nucleus
# through its own diameter.
_REACH_UM: Final = {
    "tissue": 400.0, "outline": 600.0, "fibres": 200.0, "warp": 100.0, "fat": 80.0, "glands": 150.0, "nuclei": 6.0,
    "foci": 150.0,
}  # fmt: skip
_PARTS: Final = tuple(_REACH_UM)
_LOGIT_LENGTHS_UM: Final = (330.0, 120.0)
_PREVALENCE: Final = np.array([0.20, 0.35, 0.05, 0.0, -0.30, -0.30])


@dataclass(frozen=True)
class PatientPlan:
    """What the sections of one patient share: coarse fields that decide which tissue lies where."""

    fields: tuple[Floats, ...]  # one (tissues, k, k) array per length scale
    prevalence: npt.NDArray[np.float64]  # (tissues,)


@dataclass(frozen=True)
class Nuclei:
    """Nuclei of a section.

    Attributes:
        xy_um: (m, 2) centres.
        tissue: (m,) index into KINDS.
        angle: (m,) direction of the long axis, radians.
        half_axes_um: (m, 2) long and short half axis.
    """

    xy_um: Points
    tissue: npt.NDArray[np.int64]
    angle: npt.NDArray[np.float64]
    half_axes_um: npt.NDArray[np.float64]

    def chosen(self, kept: npt.NDArray[np.bool_]) -> Nuclei:
        """Some of them, by a mask (m,)."""
        return Nuclei(
            self.xy_um[kept], self.tissue[kept], self.angle[kept], self.half_axes_um[kept]
        )


@dataclass(frozen=True)
class Scene:
    """A section before it is stained.

    Attributes:
        mpp: microns per pixel.
        inside: (H, W) tissue is here (not background, tear, lumen).
        outline: (H, W) inside the section's outline, lumina and fat included.
        tissue: (H, W) index into KINDS.
        fibre: (H, W) texture along the fibres, mean 0, standard deviation about 1.
        empty: (H, W) share of the pixel that holds no tissue (lumen, fat droplet, tear), 0 to 1.
        gland_wall: (H, W) cytoplasm of the cells around a lumen, 0 to 1.
        nuclei: all nuclei.
    """

    mpp: float
    outline: npt.NDArray[np.bool_]
    tissue: npt.NDArray[np.uint8]
    fibre: Floats
    empty: Floats
    gland_wall: Floats
    nuclei: Nuclei


@dataclass(frozen=True)
class FociDraw:
    """Where foci lie.

    Attributes:
        rng: of their places.
        share: part of the area inside the outline that they take.
    """

    rng: Draws
    share: float


def plan_patient(rng: Draws, prevalence_sd: float = PREVALENCE_SD) -> PatientPlan:
    """Draw what the sections of one patient share; `prevalence_sd` is how far patients differ in their tissues."""
    fields = tuple(
        rng.normal(size=(len(TISSUES), k, k)).astype(np.float32)
        for k in (int(PATIENT_SIDE_UM / length) + 4 for length in _LOGIT_LENGTHS_UM)
    )
    return PatientPlan(fields, _PREVALENCE + rng.normal(scale=prevalence_sd, size=len(TISSUES)))


def build_scene(
    plan: PatientPlan, rng: Draws, *, side_um: float, mpp: float, foci: FociDraw | None = None
) -> Scene:
    """Lay out one section of a patient: about `side_um` / `mpp` pixels a side."""
    size = round(side_um / mpp)

    def part(name: str) -> Draws:
        return part_of(rng, _PARTS.index(name), _REACH_UM[name])

    tissue = _tissue_map(plan, part("tissue"), side_um, size)
    outline, tear = _outline(part("outline"), side_um, size)
    angle_field, fibre = _fibres(part("fibres"), side_um, size)
    bends = part("warp")
    warp = np.stack([value_noise(bends, side_um, 55.0, size) for _ in "xy"], axis=-1)

    droplet, tissue = _fat_cells(part("fat"), tissue, side_um, mpp)
    lumen, wall, rings = _glands(part("glands"), tissue, outline, warp, side_um, mpp)
    empty = np.maximum.reduce([droplet, lumen, tear])
    if foci is not None:
        in_focus = _foci(foci, outline, side_um)
        tissue[in_focus], empty[in_focus], wall[in_focus] = FOCUS, 0, 0
        rings = rings.chosen(at_points(tissue, rings.xy_um, mpp) != FOCUS)

    wandering = _scattered_nuclei(
        part("nuclei"), tissue, outline, empty, wall, angle_field, side_um, mpp
    )
    nuclei = Nuclei(
        *(
            np.concatenate([getattr(a, name) for a in (wandering, rings)])
            for name in ("xy_um", "tissue", "angle", "half_axes_um")
        )
    )
    return Scene(mpp, outline, tissue, fibre, empty, wall, nuclei)


def value_noise(rng: Draws, side_um: float, length_um: float, size: int) -> Floats:
    """(size, size) smooth noise of unit standard deviation; `length_um` between its knots."""
    knots = int(np.ceil(side_um / length_um)) + 3
    coarse = rng.normal(size=(knots, knots)).astype(np.float32)
    offset = rng.uniform(0, 1, size=2)
    field = _enlarge(coarse, offset + 1, side_um / length_um, size)
    return field / max(float(field.std()), 1e-6)


def resized(field: Floats, size: int) -> Floats:
    """The same square field with (size, size) pixels, bilinear."""
    image = Image.fromarray(field).resize((size, size), Image.Resampling.BILINEAR)
    return np.array(image, dtype=np.float32)


def at_points(field: npt.NDArray[Any], xy_um: Points, mpp: float) -> npt.NDArray[Any]:
    """Values of the pixels under points; points outside take the nearest border pixel."""
    height, width = field.shape[:2]
    column = np.clip((xy_um[:, 0] / mpp).astype(np.int64), 0, width - 1)
    row = np.clip((xy_um[:, 1] / mpp).astype(np.int64), 0, height - 1)
    return field[row, column]


def _enlarge(coarse: Floats, origin: npt.NDArray[np.float64], extent: float, size: int) -> Floats:
    box = (origin[0], origin[1], origin[0] + extent, origin[1] + extent)
    image = Image.fromarray(coarse).resize((size, size), Image.Resampling.BICUBIC, box=box)
    return np.array(image, dtype=np.float32)


def _tissue_map(plan: PatientPlan, rng: Draws, side_um: float, size: int) -> npt.NDArray[np.uint8]:
    """Each pixel takes the tissue whose field is highest; sections of a patient share 80 %."""
    best = np.full((size, size), -np.inf, dtype=np.float32)
    tissue = np.zeros((size, size), dtype=np.uint8)
    start_um = (PATIENT_SIDE_UM - side_um) * rng.uniform(0.3, 0.7, size=2)
    for k in range(len(TISSUES)):
        logit = np.full((size, size), plan.prevalence[k], dtype=np.float32)
        for field, length, weight in zip(plan.fields, _LOGIT_LENGTHS_UM, (0.90, 0.32), strict=True):
            own = rng.normal(size=field[k].shape).astype(np.float32)
            mixed = np.sqrt(0.8) * field[k] + np.sqrt(0.2) * own
            logit += weight * _enlarge(mixed, start_um / length + 1, side_um / length, size)
        logit += 0.13 * value_noise(rng, side_um, 26.0, size)
        higher = logit > best
        tissue[higher] = k
        np.maximum(best, logit, out=best)
    return tissue


def _outline(rng: Draws, side_um: float, size: int) -> tuple[npt.NDArray[np.bool_], Floats]:
    axis = (np.arange(size, dtype=np.float32) + 0.5) / size * 2 - 1
    x, y = np.meshgrid(axis, axis)
    theta = np.arctan2(y, x)
    radius = np.full_like(theta, 0.86)
    for k in range(2, 7):
        radius += np.float32(rng.normal(scale=0.13 / k)) * np.cos(
            k * theta + np.float32(rng.uniform(0, 2 * np.pi))
        )
    # A block is cut more square than round: the norm lies between the two.
    distance = (np.abs(x) ** 2.6 + np.abs(y) ** 2.6) ** np.float32(1 / 2.6)
    rough = 0.03 * value_noise(rng, side_um, 330.0, size)
    rough += 0.012 * value_noise(rng, side_um, 90.0, size)
    rough += 0.004 * value_noise(rng, side_um, 24.0, size)
    rough += 0.002 * value_noise(rng, side_um, 9.0, size)
    outline = (distance < np.minimum(radius, 0.93) + rough) & (distance < 0.965)
    ridge = np.abs(value_noise(rng, side_um, 420.0, size))
    where = value_noise(rng, side_um, 300.0, size)
    width = 0.012 + 0.01 * value_noise(rng, side_um, 60.0, size)
    tear = np.clip((width - ridge) * 60 + 0.5, 0, 1) * np.clip((where - 1.1) * 8, 0, 1)
    return outline, tear.astype(np.float32)


def _fibres(rng: Draws, side_um: float, size: int) -> tuple[Floats, Floats]:
    """Direction of the fibres (radians) and a wavy texture that is drawn out along them."""
    direction = np.float32(rng.uniform(0, np.pi))
    axis = (np.arange(size, dtype=np.float32) + 0.5) / size * side_um
    x, y = np.meshgrid(axis, axis)
    bend = 75 * value_noise(rng, side_um, 260.0, size) + 9 * value_noise(rng, side_um, 55.0, size)
    c, s = np.float32(np.cos(direction)), np.float32(np.sin(direction))
    along, across = c * x + s * y, c * y - s * x + bend
    coarse, fine = rng.normal(size=(2, 256, 1024)).astype(np.float32)
    broad = _wrapped(coarse, along[::2, ::2] / 110, across[::2, ::2] / 13)
    texture = 0.6 * _wrapped(fine, along / 60, across / 5)
    texture += 0.7 * resized(broad, size)
    gradient_y, gradient_x = np.gradient(bend, side_um / size)
    return (np.arctan2(s - gradient_x * 0.8, c + gradient_y * 0.8).astype(np.float32), texture)


def _wrapped(knots: Floats, row: npt.NDArray[Any], column: npt.NDArray[Any]) -> Floats:
    """Linear interpolation in a table of knots that repeats at its ends."""
    n, m = knots.shape
    i, j = np.floor(row), np.floor(column)
    fi, fj = row - i, column - j
    i0, j0 = i.astype(np.int32) % n, j.astype(np.int32) % m
    i1, j1 = (i0 + 1) % n, (j0 + 1) % m
    low = knots[i0, j0] * (1 - fj) + knots[i0, j1] * fj
    high = knots[i1, j0] * (1 - fj) + knots[i1, j1] * fj
    return np.asarray(low * (1 - fi) + high * fi, dtype=np.float32)


def _jittered_grid(rng: Draws, side_um: float, spacing_um: float, jitter: float) -> Points:
    """Points of a hexagonal grid, each moved at random by up to `jitter` spacings."""
    rows = np.arange(-1, int(side_um / (spacing_um * 0.866)) + 2)
    columns = np.arange(-1, int(side_um / spacing_um) + 2)
    row, column = np.meshgrid(rows, columns, indexing="ij")
    x = (column + 0.5 * (row % 2)) * spacing_um
    xy = np.stack([x, row * spacing_um * 0.866], axis=-1).reshape(-1, 2)
    return np.asarray(xy + rng.uniform(-jitter, jitter, size=xy.shape) * spacing_um)


def _foci(foci: FociDraw, outline: npt.NDArray[np.bool_], side_um: float) -> npt.NDArray[np.bool_]:
    """The highest places of a smooth field, exactly so many pixels as their share asks for."""
    size = len(outline)
    rng = part_of(foci.rng, _PARTS.index("foci"), _REACH_UM["foci"])
    field = value_noise(rng, side_um, _FOCUS_LENGTH_UM, size)
    chosen = np.zeros(outline.size, dtype=bool)
    inside = np.flatnonzero(outline)
    wanted = round(foci.share * len(inside))
    if wanted:
        highest = np.argpartition(-field.ravel()[inside], wanted - 1)[:wanted]
        chosen[inside[highest]] = True
    return chosen.reshape(outline.shape)


def _fat_cells(
    rng: Draws, tissue: npt.NDArray[np.uint8], side_um: float, mpp: float
) -> tuple[Floats, npt.NDArray[np.uint8]]:
    """Droplets with thin walls; a fat cell is whole, so the map of tissues follows the cells."""
    seeds = _jittered_grid(rng, side_um, 52.0, 0.33)
    is_fat = at_points(tissue, seeds, mpp) == ADIPOSE
    droplet = np.zeros(tissue.shape, dtype=np.float32)
    result = np.where(tissue == ADIPOSE, np.uint8(STROMA), tissue)
    if not is_fat.any():
        return droplet, result
    tree, fat = cKDTree(seeds), cKDTree(seeds[is_fat])
    # The distance to fat cells is needed near them only: blocks of 16 pixels find where that is.
    size = len(tissue)
    block = (np.stack(np.meshgrid(*(np.arange(0, size, 16),) * 2), -1) + 8.0) * mpp
    near = fat.query(block)[0] < 36.0 + 12 * mpp
    mask = near.repeat(16, axis=0).repeat(16, axis=1)[:size, :size]
    row, column = np.nonzero(mask)
    xy = (np.stack([column, row], axis=1) + 0.5) * mpp
    distance, index = tree.query(xy, k=2)
    radius = 21.0 + 9.0 * rng.random(len(seeds))
    wall = np.minimum((distance[:, 1] - distance[:, 0]) / 2, radius[index[:, 0]] - distance[:, 0])
    in_fat = is_fat[index[:, 0]] & (distance[:, 0] < 36.0)
    droplet[row, column] = np.where(in_fat, np.clip((wall - 1.3) / 1.2, 0, 1), 0)
    result[row[in_fat], column[in_fat]] = ADIPOSE
    return droplet, result


def _glands(
    rng: Draws,
    tissue: npt.NDArray[np.uint8],
    outline: npt.NDArray[np.bool_],
    warp: Floats,
    side_um: float,
    mpp: float,
) -> tuple[Floats, Floats, Nuclei]:
    """Rings of epithelium around a lumen, bent by `warp`; nuclei stand at the base of the ring."""
    centres = _jittered_grid(rng, side_um, 92.0, 0.16)
    kept = (at_points(tissue, centres, mpp) == GLAND) & at_points(outline, centres, mpp)
    centres = centres[kept]
    lumen = np.zeros(tissue.shape, dtype=np.float32)
    wall = np.zeros(tissue.shape, dtype=np.float32)
    if not len(centres):
        return lumen, wall, Nuclei(centres, np.zeros(0, np.int64), np.zeros(0), centres)
    inner, thickness = uniform_at(rng, kept, 9.0, 20.0), uniform_at(rng, kept, 14.0, 18.0)
    bend_um = 9.0
    row, column = np.nonzero(tissue == GLAND)
    xy = (np.stack([column, row], axis=1) + 0.5) * mpp + bend_um * warp[row, column]
    distance, index = cKDTree(centres).query(xy)
    lumen[row, column] = np.clip((inner[index] - distance) / 1.5 + 0.5, 0, 1)
    ring = np.clip((inner + thickness)[index] - distance + 0.5, 0, 1)
    wall[row, column] = ring * (1 - lumen[row, column])

    base = inner + 0.62 * thickness
    per_ring = np.maximum((2 * np.pi * base / 6.3).astype(np.int64), 6)
    owner = np.repeat(np.arange(len(centres)), per_ring)
    step = np.arange(len(owner)) - np.repeat(np.cumsum(per_ring) - per_ring, per_ring)
    theta = 2 * np.pi * (step + rng.uniform(-0.25, 0.25, len(owner))) / per_ring[owner]
    r = base[owner] + rng.normal(scale=1.6, size=len(owner))
    bent = centres[owner] + r[:, None] * np.stack([np.cos(theta), np.sin(theta)], axis=1)
    position = bent
    for _ in range(4):  # the inverse of xy + bend(xy), by fixed point
        position = bent - bend_um * at_points(warp, position, mpp)
    inside = (at_points(tissue, position, mpp) == GLAND) & at_points(outline, position, mpp)
    axes = NUCLEUS_HALF_AXES_UM[GLAND] * rng.uniform(0.85, 1.15, size=(len(owner), 2))
    nuclei = Nuclei(
        position[inside],
        np.full(int(inside.sum()), GLAND, dtype=np.int64),
        theta[inside],
        axes[inside],
    )
    return lumen, wall, nuclei


def _scattered_nuclei(
    rng: Draws,
    tissue: npt.NDArray[np.uint8],
    outline: npt.NDArray[np.bool_],
    empty: Floats,
    wall: Floats,
    angle_field: Floats,
    side_um: float,
    mpp: float,
) -> Nuclei:
    """Nuclei of each tissue's density on a thinned, jittered grid; spindles follow the fibres."""
    spacing = 8.6
    xy = _jittered_grid(rng, side_um, spacing, 0.33)
    xy = xy[((xy > 0) & (xy < side_um)).all(axis=1)]
    kind = at_points(tissue, xy, mpp).astype(np.int64)
    crowding = np.exp(0.35 * at_points(value_noise(rng, side_um, 45.0, len(tissue)), xy, mpp))
    per_point = NUCLEI_PER_MM2 * spacing**2 * 0.866e-6
    kept = rng.random(len(xy)) < per_point[kind] * crowding
    kept &= at_points(outline, xy, mpp) & (at_points(empty, xy, mpp) < 0.3)
    kept &= at_points(wall, xy, mpp) < 0.3
    xy, kind = xy[kept], kind[kept]
    # Lymphocytes wander into every tissue.
    kind = np.where((rng.random(len(xy)) < 0.06) & (kind == STROMA), IMMUNE, kind)
    spindle = np.isin(kind, (STROMA, MUSCLE))
    angle = np.where(
        spindle,
        at_points(angle_field, xy, mpp) + rng.normal(scale=0.22, size=len(xy)),
        rng.uniform(0, np.pi, size=len(xy)),
    )
    spread = np.where(kind == TUMOUR, 0.30, 0.15)[:, None]
    axes = NUCLEUS_HALF_AXES_UM[kind] * np.exp(spread * rng.normal(size=(len(xy), 2)) * 0.7)
    return Nuclei(xy, kind, angle, axes)
