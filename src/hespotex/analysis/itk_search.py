"""SimpleITK's local searches: for the affine map between two pictures, and for the bend that remains."""

from __future__ import annotations

from typing import Any, Final

import numpy as np
import numpy.typing as npt

from hespotex.analysis.section_picture import Picture, middle, warped
from hespotex.errors import GeometryError
from hespotex.geometry import Affine, Bend

# Nodes of the returned grid in a field of the mesh of B-splines.
_NODES: Final = 4
_ROUNDS: Final = 60


def searched(
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
    back, centre = start.inverse(), middle(fixed)
    if kind == "rigid":
        # A mirror is no turn: it is taken into the moving picture.
        mirror = Affine.around(np.diag([-1.0, 1.0]), middle(moving)) if back.mirrors else Affine()
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
        found.SetCenter(centre.tolist())
        found.SetAngle(float(np.arctan2(turned.linear[1, 0], turned.linear[0, 0])))
        found.SetTranslation((turned(centre[None])[0] - centre).tolist())
        method.SetInitialTransform(found, inPlace=True)
        _execute(method, fixed, flat)
        return (mirror.inverse() @ _affine(found)).inverse()
    found = _itk_affine(back, centre)
    method.SetInitialTransform(found, inPlace=True)
    _execute(method, fixed, moving)
    return _affine(found).inverse()


def searched_bend(fixed: Picture, moving: Picture, to_fixed: Affine, mesh: int) -> Bend:
    """Where a point of the fixed section lies in the moving one as `to_fixed` lays it: B-splines over the common tissue.

    Args:
        mesh: fields of B-splines along either side of the box around the fixed tissue and its rim.

    Raises:
        GeometryError: the bend that was found is too steep.
    """
    itk = _itk()
    method, image = itk.ImageRegistrationMethod(), _image(fixed)
    method.SetMetricFixedMask(_image(fixed, mask=True))
    method.SetMetricMovingMask(_image(moving, mask=True))
    method.SetMetricAsMeanSquares()
    method.SetOptimizerAsLBFGSB(gradientConvergenceTolerance=1e-5, numberOfIterations=_ROUNDS)
    method.SetInterpolator(itk.sitkLinear)
    method.SetNumberOfThreads(1)
    method.SetMovingInitialTransform(_itk_affine(to_fixed.inverse(), middle(fixed)))
    found = itk.BSplineTransformInitializer(image, [mesh, mesh], 3)
    method.SetInitialTransform(found, inPlace=True)
    _execute(method, fixed, moving)
    # Beyond the middles of its outer pixels SimpleITK moves nothing at all.
    sides = (np.array(image.GetSize()) - 1) * fixed.um_per_px
    step = float(sides.max()) / (_NODES * mesh)
    n = np.floor(sides / step + 1e-6).astype(int) + 1
    origin = np.array(image.GetOrigin())
    field = itk.TransformToDisplacementField(
        found, itk.sitkVectorFloat64, n.tolist(), origin.tolist(), [step, step]
    )
    moved: npt.NDArray[np.float64] = itk.GetArrayFromImage(field)
    return Bend((float(origin[0]), float(origin[1])), step, moved)


def _itk_affine(affine: Affine, centre: npt.NDArray[np.float64]) -> Any:
    """An affine map of SimpleITK about a centre."""
    found = _itk().AffineTransform(2)
    found.SetCenter(centre.tolist())
    found.SetMatrix(affine.linear.ravel().tolist())
    found.SetTranslation((affine(centre[None])[0] - centre).tolist())
    return found


def _execute(method: Any, fixed: Picture, moving: Picture) -> None:
    """Run a search; one that leaves the picture stays where it was."""
    try:
        method.Execute(_image(fixed), _image(moving))
    except RuntimeError:
        return


def _image(picture: Picture, *, mask: bool = False) -> Any:
    """The box around the tissue as an image of SimpleITK, with a rim of glass."""
    import cv2

    itk = _itk()
    rows, columns = np.nonzero(picture.tissue)
    top, left = int(rows.min()), int(columns.min())
    box = np.s_[top : int(rows.max()) + 1, left : int(columns.max()) + 1]
    of = picture.tissue.astype(np.uint8)[box] if mask else picture.grey[box]
    # Points outside an image do not count: a rim of glass makes them count.
    rim = max(of.shape) // 4
    values = cv2.copyMakeBorder(of, rim, rim, rim, rim, cv2.BORDER_CONSTANT, value=0)
    image = itk.GetImageFromArray(values if mask else cv2.GaussianBlur(values, (0, 0), 1.0))
    image.SetSpacing((picture.um_per_px, picture.um_per_px))
    image.SetOrigin([(0.5 + start - rim) * picture.um_per_px for start in (left, top)])
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
