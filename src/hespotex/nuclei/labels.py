"""A source of nuclei as the counting sees it: a label image of the slide, read by regions."""

from __future__ import annotations

from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

Labels = npt.NDArray[np.integer[Any]]


class LabelSource(Protocol):
    """A label image that covers a slide: 0 is background, any other value a nucleus.

    Attributes:
        step_px0: level-0 pixels per pixel of the label image.
        given: whether a user brought it.
    """

    step_px0: float
    given: bool

    def read(self, x: int, y: int, width: int, height: int) -> Labels:
        """(height, width) labels from pixel x, y of the label image on; 0 outside the slide.

        A value means one nucleus within one call; what it means elsewhere is not said.

        Raises:
            SlideError: the slide is damaged there.
            NucleiError: the mask is.
        """

    def key(self) -> str:
        """Key of everything that the labels depend on besides the slide."""
