"""Registration of two sections' pictures: where a point of one lies in the other, in microns, and how well they fit.

Both pictures are brought to one pixel size. Grey is the amount of haematoxylin, ranked within the tissue, so that
another stain or scanner changes little. All turns in steps of 15 degrees are tried, with and without a mirror; the
best go through SimpleITK's rigid, then affine search. A fit that is not good enough is refused by its numbers.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import numpy.typing as npt

from hespotex.errors import GeometryError
from hespotex.geometry import Affine
from hespotex.slide.tissue import tissue_mask

if TYPE_CHECKING:
    from hespotex.export.h5ad import Thumbnail

Image = npt.NDArray[np.float32]
Mask = npt.NDArray[np.bool_]

# Pixels of the longer side of both pictures in the search; the finer one is for the last step.
_COARSE_PX: Final = 64
_FINE_PX: Final = 256
_TURNS: Final = 24
_KEPT: Final = 3
# Pictures are compared smoothed by this part of the tissue's size.
_SMOOTHED: Final = 28
# Tissue of fewer pixels has no shape to go by.
_LEAST_TISSUE_PX: Final = 60
# Longest stretch that a cut or a mounting explains; beyond it the search has gone astray.
_MOST_STRETCH: Final = 1.25
# Refusal, as chosen on real tissue: see docs/agree.md.
LEAST_DICE: Final = 0.5
LEAST_CORRELATION: Final = 0.58
LEAST_DETAIL: Final = 0.45


@dataclass(frozen=True)
class Picture:
    """A section as it is registered.

    Attributes:
        grey: (h, w) haematoxylin, ranked within tissue to 0..1; 0 on glass.
        tissue: (h, w).
        um_per_px: of both axes.
    """

    grey: Image
    tissue: Mask
    um_per_px: float


@dataclass(frozen=True)
class Quality:
    """How well two sections fit.

    Attributes:
        dice: of the tissue: twice the common area over the sum of areas.
        correlation: of grey over the common tissue, smoothed by a 28th of the tissue's size.
        detail: the same of what a four times wider smoothing leaves: structures, not how tissue darkens as a whole.
        mutual_information: of grey there, normalised: (H(a) + H(b)) / H(a, b) - 1, 0 to 1.
        overlap: common tissue as a share of the smaller one.
    """

    dice: float
    correlation: float
    detail: float
    mutual_information: float
    overlap: float

    @property
    def refusal(self) -> str:
        """Why the fit must not be used; empty where it may be."""
        if not self.dice >= LEAST_DICE:
            return f"Dice of tissue {self.dice:.2f}, at least {LEAST_DICE} is needed"
        if not (self.correlation >= LEAST_CORRELATION and self.detail >= LEAST_DETAIL):
            return (
                f"correlation of grey {self.correlation:.2f}, of its detail {self.detail:.2f}; "
                f"at least {LEAST_CORRELATION} and {LEAST_DETAIL} are needed"
            )
        return ""


UNKNOWN: Final = Quality(*(float("nan"),) * 5)
"""Of a map that was given for sections without pictures."""


@dataclass(frozen=True)
class Registration:
    """What was found of a pair.

    Attributes:
        to_fixed: from microns of the moving section to microns of the fixed one.
        quality: of the fit.
        kind: `rigid`, `affine`, or `given`.
        residual_um: of landmarks, root mean square; NaN where none were given.
    """

    to_fixed: Affine
    quality: Quality
    kind: str
    residual_um: float = float("nan")


def picture_of(thumbnail: Thumbnail, mpp: float) -> Picture:
    """Tissue and ranked haematoxylin of a section's picture.

    Raises:
        GeometryError: there is too little tissue to go by.
    """
    from skimage.color import rgb2hed

    um = thumbnail.px0_per_px * mpp
    rgb = thumbnail.image[..., :3]
    tissue, _ = tissue_mask(rgb, um)
    if tissue.sum() < _LEAST_TISSUE_PX:
        raise GeometryError(
            expected="tissue to register by",
            found=f"{int(tissue.sum())} pixels of it",
            remedy="give --transform or --landmarks",
        )
    stain = rgb2hed(rgb)[..., 0].astype(np.float32)
    return Picture(_ranked(stain, tissue), tissue, um)


def _ranked(values: Image, within: Mask) -> Image:
    from scipy.stats import rankdata

    grey = np.zeros(values.shape, np.float32)
    grey[within] = rankdata(values[within]) / max(int(within.sum()), 1)
    return grey


def scaled(picture: Picture, um_per_px: float) -> Picture:
    """The picture at a coarser pixel size, ranked anew."""
    import cv2

    factor = picture.um_per_px / um_per_px
    size = tuple(max(2, round(n * factor)) for n in picture.grey.shape[::-1])
    share = cv2.resize(picture.tissue.astype(np.float32), size, interpolation=cv2.INTER_AREA)
    grey = cv2.resize(picture.grey, size, interpolation=cv2.INTER_AREA)
    grey = np.divide(grey, share, out=np.zeros_like(grey), where=share > 0)
    tissue = share > 0.5
    if tissue.sum() < _LEAST_TISSUE_PX:
        tissue = share > 0
    return Picture(_ranked(grey, tissue), tissue, um_per_px)


def register(fixed: Picture, moving: Picture) -> Registration:
    """Where the moving section lies on the fixed one.

    Raises:
        GeometryError: SimpleITK is not installed.
    """
    extent = max(_extent_um(p) for p in (fixed, moving))
    finest = max(fixed.um_per_px, moving.um_per_px)
    coarse = max(extent / _COARSE_PX, finest)
    fine = max(extent / _FINE_PX, finest)
    small = scaled(fixed, coarse), scaled(moving, coarse)
    starts = sorted(
        ((quality_of(*small, start), start) for start in _starts(*small)),
        key=lambda found: -_merit(found[0], 1.0),
    )
    tried = [_searched(*small, start, "rigid") for _, start in starts[: 3 * _KEPT]]
    tried = sorted(tried, key=lambda start: -_merit(quality_of(*small, start), 1.0))[:_KEPT]
    tried += [_searched(*small, start, "affine") for start in tried]
    # Tissue that one section lacks pulls on the whole map: once near, only what both have counts.
    tried += [_searched(*small, start, "affine", inside=True) for start in tried]
    large = scaled(fixed, fine), scaled(moving, fine)
    best = max(tried, key=lambda start: _merit(quality_of(*large, start), 0.5))
    last = [_searched(*large, best, "affine")]
    last += [_searched(*large, start, "affine", inside=True) for start in (best, *last)]
    found = max((best, *last), key=lambda one: _merit(quality_of(*large, one), 0.5))
    kind = "rigid" if found.stretches[0] - found.stretches[1] < 1e-9 else "affine"
    return Registration(found, quality_of(*large, found), kind)


def _extent_um(picture: Picture) -> float:
    """The longer side of the box around the tissue."""
    rows, columns = np.nonzero(picture.tissue)
    return float(max(np.ptp(rows), np.ptp(columns)) + 1) * picture.um_per_px


def _starts(fixed: Picture, moving: Picture) -> Iterable[Affine]:
    """Turns and mirrors that lay the middle of one tissue on that of the other."""
    to, of = _middle(fixed), _middle(moving)
    for mirror in (1.0, -1.0):
        for step in range(_TURNS):
            linear = Affine.turn(step * 360 / _TURNS).linear @ np.diag([mirror, 1.0])
            yield Affine.of(linear, to - linear @ of)


def _middle(picture: Picture) -> npt.NDArray[np.float64]:
    rows, columns = np.nonzero(picture.tissue)
    return np.array([columns.mean() + 0.5, rows.mean() + 0.5]) * picture.um_per_px


def _merit(quality: Quality, of_shape: float) -> float:
    """What the search looks for. Dice leads to the right start; at the end it stretches a cut section over a whole one."""
    return of_shape * quality.dice + 2 * (quality.correlation + quality.detail)


def warped(image: npt.NDArray[Any], of: Picture, onto: Picture, to_fixed: Affine) -> Image:
    """(h, w) an image of one section in the pixels of the other, in which 0 is outside."""
    import cv2

    centre = Affine.of(np.eye(2), (0.5, 0.5))
    in_px = (
        centre.inverse()
        @ Affine.scale(1 / onto.um_per_px)
        @ to_fixed
        @ Affine.scale(of.um_per_px)
        @ centre
    )
    size = onto.grey.shape[::-1]
    return np.asarray(
        cv2.warpAffine(np.asarray(image, np.float32), np.array(in_px.rows), size), np.float32
    )


def quality_of(fixed: Picture, moving: Picture, to_fixed: Affine) -> Quality:
    """The numbers of a fit; a map that stretches by more than a quarter has none."""
    most, least = to_fixed.stretches
    tissue = warped(moving.tissue, moving, fixed, to_fixed) > 0.5
    both = tissue & fixed.tissue
    area = (fixed.um_per_px / moving.um_per_px) ** 2
    own = moving.tissue.sum() / area * most * least
    total = own + fixed.tissue.sum()
    dice = 2 * both.sum() / total if total else 0.0
    overlap = both.sum() / max(min(own, float(fixed.tissue.sum())), 1.0)
    if both.sum() < _LEAST_TISSUE_PX or most > _MOST_STRETCH or least < 1 / _MOST_STRETCH:
        return Quality(float(dice), 0.0, 0.0, 0.0, float(overlap))
    grey = warped(moving.grey, moving, fixed, to_fixed)
    over = max(2.0, np.sqrt(min(own, float(fixed.tissue.sum()))) / _SMOOTHED)
    near = _smoothed((fixed.grey, grey), both, over)
    wide = _smoothed((fixed.grey, grey), both, 4 * over)
    return Quality(
        float(dice),
        _correlation(*near),
        _correlation(*(n - w for n, w in zip(near, wide, strict=True))),
        _mutual_information(fixed.grey[both], grey[both]),
        float(overlap),
    )


def _smoothed(images: tuple[Image, Image], within: Mask, over_px: float) -> tuple[Image, Image]:
    """Values of the pixels within, each a mean of those around it that lie within."""
    import cv2

    share = within.astype(np.float32)
    weight = np.maximum(cv2.GaussianBlur(share, (0, 0), over_px), 1e-6)
    a, b = ((cv2.GaussianBlur(image * share, (0, 0), over_px) / weight)[within] for image in images)
    return a, b


def _correlation(a: Image, b: Image) -> float:
    found = float(np.corrcoef(a, b)[0, 1]) if a.std() > 0 and b.std() > 0 else 0.0
    return found if np.isfinite(found) else 0.0


def _mutual_information(a: Image, b: Image) -> float:
    from scipy.stats import entropy

    joint, _, _ = np.histogram2d(a, b, bins=16)
    both = entropy(joint.ravel())
    return float((entropy(joint.sum(0)) + entropy(joint.sum(1))) / both - 1) if both > 0 else 0.0


def _searched(
    fixed: Picture, moving: Picture, start: Affine, kind: str, *, inside: bool = False
) -> Affine:
    """The local optimum of the difference of grey around a start; `inside`: over common tissue alone."""
    itk = _itk()
    method = itk.ImageRegistrationMethod()
    if inside:
        method.SetMetricFixedMask(_image(fixed, mask=True))
        method.SetMetricMovingMask(_image(moving, mask=True))
    # Ranks are on one scale whatever the stain. A correlation would be highest where hardly a pixel is common.
    method.SetMetricAsMeanSquares()
    method.SetOptimizerAsRegularStepGradientDescent(
        fixed.um_per_px,
        0.02 * fixed.um_per_px,
        100,
        relaxationFactor=0.6,
        gradientMagnitudeTolerance=1e-6,
    )
    method.SetOptimizerScalesFromPhysicalShift()
    method.SetInterpolator(itk.sitkLinear)
    method.SetNumberOfThreads(1)
    # SimpleITK's map leads from the fixed section to the moving one.
    back, middle = start.inverse(), _middle(fixed)
    if kind == "rigid":
        # A mirror is no turn: it is taken into the moving picture.
        mirror = Affine.around(np.diag([-1.0, 1.0]), _middle(moving)) if back.mirrors else Affine()
        turned = mirror @ back
        if back.mirrors:
            flat = Picture(
                warped(moving.grey, moving, moving, mirror),
                warped(moving.tissue, moving, moving, mirror) > 0.5,
                moving.um_per_px,
            )
        else:
            flat = moving
        found = itk.Euler2DTransform()
        found.SetCenter(middle.tolist())
        found.SetAngle(float(np.arctan2(turned.linear[1, 0], turned.linear[0, 0])))
        found.SetTranslation((turned(middle[None])[0] - middle).tolist())
        method.SetInitialTransform(found, inPlace=True)
        _execute(method, fixed, flat)
        return (mirror.inverse() @ _affine(found)).inverse()
    found = itk.AffineTransform(2)
    found.SetCenter(middle.tolist())
    found.SetMatrix(back.linear.ravel().tolist())
    found.SetTranslation((back(middle[None])[0] - middle).tolist())
    method.SetInitialTransform(found, inPlace=True)
    _execute(method, fixed, moving)
    return _affine(found).inverse()


def _execute(method: Any, fixed: Picture, moving: Picture) -> None:
    """Run a search; one that leaves the picture stays where it was."""
    try:
        method.Execute(_image(fixed), _image(moving))
    except RuntimeError:
        return


def _image(picture: Picture, *, mask: bool = False) -> Any:
    import cv2

    itk = _itk()
    # Points outside an image do not count: a rim of glass makes them count.
    rim = max(picture.grey.shape) // 2
    of = picture.tissue.astype(np.uint8) if mask else picture.grey
    values = cv2.copyMakeBorder(of, rim, rim, rim, rim, cv2.BORDER_CONSTANT, value=0)
    image = itk.GetImageFromArray(values if mask else cv2.GaussianBlur(values, (0, 0), 1.0))
    image.SetSpacing((picture.um_per_px, picture.um_per_px))
    image.SetOrigin(((0.5 - rim) * picture.um_per_px,) * 2)
    return image


def _affine(transform: Any) -> Affine:
    matrix = np.array(transform.GetMatrix()).reshape(2, 2)
    centre, shift = np.array(transform.GetCenter()), np.array(transform.GetTranslation())
    return Affine.of(matrix, shift + centre - matrix @ centre)


def _itk() -> Any:
    try:
        import SimpleITK
    except ImportError as error:
        raise GeometryError(
            expected="SimpleITK for the registration of sections",
            found="it is not installed",
            remedy="pip install 'hespotex[register]', or give --transform",
        ) from error
    SimpleITK.ProcessObject.SetGlobalWarningDisplay(False)
    return SimpleITK
