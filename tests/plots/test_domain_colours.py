"""Colours of domains: what the comment on them claims, for eyes with and without each kind of colour blindness."""

from __future__ import annotations

from itertools import combinations

import numpy as np
import numpy.typing as npt
import pytest
from matplotlib.colors import to_rgb
from skimage.color import rgb2lab

from hespotex.plots.domain_colours import OKABE_ITO, PALETTE, colours_of

# Machado, Oliveira and Fernandes 2009 (doi 10.1109/TVCG.2009.113), table of severity 1.0, on linear RGB; the same numbers as
# colorspacious 1.1.2 gives for a severity of 100.
EYES = {
    "without": np.eye(3),
    "protanopia": np.array(
        [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216], [-0.003882, -0.048116, 1.051998]]
    ),
    "deuteranopia": np.array(
        [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.011820, 0.042940, 0.968881]]
    ),
    "tritanopia": np.array(
        [[1.255528, -0.076749, -0.178779], [-0.078411, 0.930809, 0.147602], [0.004733, 0.691367, 0.303900]]
    ),
}  # fmt: skip


def seen(colours: tuple[str, ...], eyes: str) -> npt.NDArray[np.float64]:
    """(n, 3) CIE Lab of colours as these eyes see them."""
    rgb = np.array([to_rgb(c) for c in colours])
    linear = np.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4)
    linear = np.clip(linear @ EYES[eyes].T, 0, 1)
    again = np.where(linear <= 0.0031308, linear * 12.92, 1.055 * linear ** (1 / 2.4) - 0.055)
    return np.asarray(rgb2lab(again[None])[0])


def least(colours: tuple[str, ...]) -> float:
    """Of the distances of any two colours, for any eyes."""
    return min(
        float(np.linalg.norm(of[a] - of[b]))
        for of in (seen(colours, eyes) for eyes in EYES)
        for a, b in combinations(range(len(colours)), 2)
    )


def test_the_nearest_two_colours_lie_as_far_apart_as_is_said_for_all_eyes() -> None:
    assert least(PALETTE) == pytest.approx(15.7, abs=0.05)
    assert least(OKABE_ITO) == pytest.approx(16.1, abs=0.05)


def test_no_colour_is_near_to_white_paper() -> None:
    for eyes in EYES:
        white = np.array([100.0, 0.0, 0.0])
        assert np.linalg.norm(seen(PALETTE, eyes) - white, axis=1).min() > 15


def test_red_and_green_that_are_one_colour_to_some_eyes_are_found_near() -> None:
    assert least(("#bb6633", "#777733")) < 12  # so a palette of such colours would fail


def test_first_colours_stay_however_many_follow_and_start_again_after_24() -> None:
    assert colours_of(3) == colours_of(24)[:3]
    assert colours_of(26)[24:] == colours_of(2)
