"""Contracts of the physical scale: every source is asked, all agree, none is invented."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hespotex.errors import GeometryError
from hespotex.geometry import StatedScale, decide_geometry, fit_lattice
from hespotex.spots.base import ScaleHints
from hespotex.spots.legacy_st import read_spot_file


def lattice(
    kind: str,
    pitch: float = 100.0,
    angle: float = 0.0,
    side: int = 14,
    keep: float = 1.0,
    seed: int = 0,
) -> np.ndarray:
    x, y = (a.ravel().astype(float) for a in np.meshgrid(np.arange(side), np.arange(side)))
    if kind == "hexagonal":
        x, y = x + 0.5 * (y % 2), y * np.sqrt(0.75)
    turn = np.radians(angle)
    points = pitch * np.column_stack(
        [x * np.cos(turn) - y * np.sin(turn), x * np.sin(turn) + y * np.cos(turn)]
    )
    return points[np.random.default_rng(seed).random(len(points)) < keep]


@settings(max_examples=60, deadline=None)
@given(
    kind=st.sampled_from(["square", "hexagonal"]),
    pitch=st.floats(0.5, 5000),
    angle=st.floats(-40, 40),
    keep=st.floats(0.4, 1.0),
    jitter=st.floats(0, 0.05),
    seed=st.integers(0, 2**16),
)
def test_pitch_and_kind_are_found_whatever_is_missing_turned_or_jittered(
    kind: str, pitch: float, angle: float, keep: float, jitter: float, seed: int
) -> None:
    xy = lattice(kind, pitch, angle, keep=keep, seed=seed)
    xy = xy + np.random.default_rng(seed).normal(size=xy.shape) * jitter * pitch + [1e4, -50]
    found = fit_lattice(xy)
    assert found is not None
    assert found.kind == kind
    assert found.pitch_px == pytest.approx(pitch, rel=0.01)
    period = 90 if kind == "square" else 60
    off = (found.angle_degrees - angle + period / 2) % period - period / 2
    assert abs(off) < 1.0


def test_most_spots_may_be_alone() -> None:
    xy = lattice("square", side=60, keep=0.15)
    found = fit_lattice(xy)
    assert found is not None
    assert found.pitch_px == pytest.approx(100, rel=0.01)


def test_positions_without_order_are_no_lattice() -> None:
    assert fit_lattice(np.random.default_rng(0).random((3000, 2)) * 1000) is None
    assert fit_lattice(np.array([[0.0, 0.0], [1.0, 0.0]])) is None
    assert fit_lattice(np.zeros((10, 2))) is None


def test_one_row_of_spots_has_a_pitch() -> None:
    found = fit_lattice(np.column_stack([np.arange(9) * 50.0, np.zeros(9)]))
    assert found is not None
    assert found.pitch_px == pytest.approx(50)


def test_a_stretched_image_is_measured() -> None:
    found = fit_lattice(lattice("square") * [1.0, 1.1])
    assert found is not None
    assert found.stretch == pytest.approx(1.1, rel=1e-3)


def decide(xy: np.ndarray | None = None, **parts: Any) -> Any:
    hints = parts.pop("hints", ScaleHints())
    slide = parts.pop("slide_mpp", {})
    positions = lattice("square") if xy is None else xy
    return decide_geometry(positions, hints, stated=StatedScale(**parts), slide_mpp=slide)


def test_the_pitch_gives_the_scale() -> None:
    geometry = decide(spot_pitch_um=200.0, spot_diameter_um=100.0)
    assert geometry.mpp == pytest.approx(2.0)
    assert (geometry.spot_pitch_um, geometry.spot_diameter_um) == (200.0, 100.0)
    assert list(geometry.mpp_sources) == ["spot pitch (200 um = 100 px)"]
    assert geometry.notes == ()


def test_all_sources_that_agree_are_listed_and_the_manifest_goes_first() -> None:
    hints = ScaleHints(mpp={"json": 2.01}, spot_diameter_um=100, spot_diameter_px0=50.5)
    geometry = decide(mpp=2.02, spot_pitch_um=200.0, hints=hints, slide_mpp={"aperio": 1.99})
    assert geometry.mpp == 2.02
    assert geometry.mpp_sources == pytest.approx(
        {
            "manifest column mpp": 2.02,
            "slide tag aperio": 1.99,
            "json": 2.01,
            "spot pitch (200 um = 100 px)": 2.0,
            "spot diameter (100 um = 50.5 px)": 100 / 50.5,
        }
    )


@pytest.mark.parametrize(
    ("parts", "named"),
    [
        ({"mpp": 4.0}, ["manifest column mpp: 4,", "spot pitch (200 um = 100 px): 2", "2-fold"]),
        ({"mpp": 20.0}, ["manifest column mpp: 20,", "10-fold"]),
        ({"slide_mpp": {"openslide.mpp-x": 0.5}}, ["slide tag openslide.mpp-x: 0.5", "4-fold"]),
        ({"hints": ScaleHints(mpp={"scalefactors": 1.0})}, ["scalefactors: 1", "2-fold"]),
        ({"mpp": 2.0 * 1.031}, ["manifest column mpp: 2.062", "1.03-fold"]),
        (
            {"hints": ScaleHints(spot_diameter_um=100, spot_diameter_px0=100)},
            ["spot diameter (100 um = 100 px): 1"],
        ),
    ],
)
def test_sources_that_disagree_are_each_named(parts: dict[str, Any], named: list[str]) -> None:
    with pytest.raises(GeometryError, match=r"agree within 3 %.*correct the wrong one") as caught:
        decide(spot_pitch_um=200.0, **parts)
    for text in [*named, "spot pitch (200 um = 100 px): 2"]:
        assert text in str(caught.value)


def test_what_differs_by_less_than_3_percent_agrees() -> None:
    assert decide(spot_pitch_um=200.0, mpp=2.0 * 1.029).mpp == 2.0 * 1.029


def test_no_source_is_an_error_that_names_the_choices() -> None:
    with pytest.raises(GeometryError, match=r"found none .*100 px apart.*set mpp .*spot_pitch_um"):
        decide()
    loose = np.random.default_rng(0).random((300, 2))
    with pytest.raises(GeometryError, match=r"pitch of 200 um .*without one.*set mpp"):
        decide(loose, spot_pitch_um=200.0)
    for pitch_um in (None, 200.0):
        with pytest.raises(GeometryError, match=r"^section C2: expected "):
            decide_geometry(
                loose, ScaleHints(), stated=StatedScale(spot_pitch_um=pitch_um), section="C2"
            )


def test_manifest_and_files_state_one_pitch_and_one_diameter() -> None:
    with pytest.raises(
        GeometryError, match="one spot pitch, found 200 um in the manifest and 100 um"
    ):
        decide(spot_pitch_um=200.0, hints=ScaleHints(spot_pitch_um=100))
    with pytest.raises(GeometryError, match=r"one spot diameter, .*column spot_diameter_um"):
        decide(mpp=1.0, spot_diameter_um=100.0, hints=ScaleHints(spot_diameter_um=55))


@pytest.mark.parametrize("value", [1000.0, 1e-4])
def test_absurd_scales_are_refused(value: float) -> None:
    with pytest.raises(
        GeometryError, match=r"0\.02 to 100 microns per pixel, found .* from manifest"
    ):
        decide(mpp=value)


def test_tags_of_a_collection_known_for_wrong_ones_are_set_aside_aloud() -> None:
    hints = ScaleHints(mpp={"HEST": 2.0}, trust_slide_mpp=False)
    geometry = decide(hints=hints, slide_mpp={"tiff": 20.0}, spot_pitch_um=200.0)
    assert geometry.mpp == 2.0
    assert str(geometry.notes[0]).startswith("slide tag tiff says 20 um/px; not used")


def test_what_was_measured_or_assumed_is_said() -> None:
    geometry = decide(mpp=2.0)
    assert geometry.spot_pitch_um == pytest.approx(200)
    assert geometry.spot_diameter_um == pytest.approx(100)
    assert "measured from the positions: 200 um" in str(geometry.notes[0])
    assert "half the pitch, 100 um, is assumed; set spot_diameter_um" in str(geometry.notes[1])
    assert [note.doubtful for note in geometry.notes] == [False, True]
    assert geometry.notes[1].remedy == "set spot_diameter_um in the manifest"
    loose = decide(np.random.default_rng(0).random((400, 2)) * 1e4, mpp=1.0)
    assert "on no lattice" in str(loose.notes[0])


def test_real_arrays_have_the_pitch_that_their_readme_says(shared_data: Path) -> None:
    expected = {"her2st": (290.0, ("B4", "C2", "C3", "C4")), "mob": (72.5, ("MOB4", "MOB9"))}
    for folder, (pitch, names) in expected.items():
        for name in names:
            _, xy, *_ = read_spot_file(shared_data / folder / "spots" / f"{name}_selection.tsv")
            found = fit_lattice(xy)
            assert found is not None
            assert found.kind == "square"
            assert found.pitch_px == pytest.approx(pitch, rel=0.005)
            assert found.explained > 0.95
