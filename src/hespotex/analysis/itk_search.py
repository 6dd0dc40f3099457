"""SimpleITK's local search for the map between two pictures."""

from __future__ import annotations

from typing import Any

import numpy as np

from hespotex.analysis.section_picture import Picture, middle, warped
from hespotex.errors import GeometryError
from hespotex.geometry import Affine


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
    found = itk.AffineTransform(2)
    found.SetCenter(centre.tolist())
    found.SetMatrix(back.linear.ravel().tolist())
    found.SetTranslation((back(centre[None])[0] - centre).tolist())
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
