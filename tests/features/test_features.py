"""Features: encoded once, kept under a key of their content, read from other tools' files."""

from __future__ import annotations

import threading
from dataclasses import replace
from pathlib import Path

import h5py
import numpy as np
import numpy.typing as npt
import pytest
from PIL import Image

from hespotex.config import PatchConfig
from hespotex.encoders.base import Encoder
from hespotex.encoders.cache import cache_folder
from hespotex.errors import ConfigError, GeometryError, RunError, SlideError
from hespotex.features.appearance import patch_colours
from hespotex.features.encode import (
    Features,
    default_sides,
    encode_section,
    orthonormal_projection,
    patch_plan,
)
from hespotex.features.foreign_h5 import read_features_file
from hespotex.features.patches import PatchPlan
from hespotex.sections.section import Geometry, Section


class MeanColour(Encoder):
    """Features are the mean colour of the patch, and zeros: known, and counted."""

    name = "mean-colour"
    licence = "none"
    mean = (0.5, 0.5, 0.5)
    std = (0.5, 0.5, 0.5)
    size_px = 16
    dim = 5

    def __init__(self, mpp: float | None = None, weights: str = "w", engine: str = "torch") -> None:
        self.mpp = mpp
        self.engine = engine
        self._weights = weights
        self.n_encoded = 0
        self.fail_after: int | None = None

    def key(self) -> str:
        return self._weights

    def encode(self, patches: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
        if self.fail_after is not None and self.n_encoded >= self.fail_after:
            raise KeyboardInterrupt
        self.n_encoded += len(patches)
        out = np.zeros((len(patches), self.dim), np.float32)
        out[:, :3] = patches.mean(axis=(1, 2))
        return out


PLAN = PatchPlan((20.0, 40.0), 16)


@pytest.fixture
def section(tmp_path: Path) -> Section:
    """Tissue whose red is the x and whose green is the y of the pixel; 30 spots."""
    y, x = np.mgrid[:200, :250]
    image = np.stack([x, y, np.full_like(x, 77)], axis=-1).astype(np.uint8)
    Image.fromarray(image).save(tmp_path / "slide.png")
    xy = np.random.default_rng(0).integers(40, 150, (30, 2)).astype(float)
    return Section(
        section_id="S1",
        patient_id="P",
        slide=tmp_path / "slide.png",
        geometry=Geometry(mpp=1.0, spot_pitch_um=20.0, spot_diameter_um=10.0),
        barcodes=np.array([f"b{i}" for i in range(30)]),
        xy_px0=xy,
        counts=None,
        genes=None,
    )


def encode(section: Section, encoder: Encoder, folder: Path, plan: PatchPlan = PLAN) -> Features:
    return encode_section(section, encoder, plan, cache_dir=folder / "cache")


def cache_file(folder: Path) -> Path:
    (path,) = (folder / "cache" / "features").iterdir()
    return path


def test_features_are_those_of_the_spots_in_their_order(section: Section, tmp_path: Path) -> None:
    told: list[int] = []
    features = encode_section(
        section, MeanColour(), PLAN, cache_dir=tmp_path / "cache", advance=told.append
    )
    assert features.values.shape == (30, 2, 5)
    assert features.values.dtype == np.float32
    for s in range(2):
        np.testing.assert_allclose(features.values[:, s, :2], section.xy_px0 - 0.5, atol=0.51)
        np.testing.assert_array_equal(features.values[:, s, 2], 77)
    assert features.sides_um == (20.0, 40.0)
    assert features.mpp == (1.25, 2.5)
    assert sum(told) == 30


def test_nothing_is_encoded_twice(section: Section, tmp_path: Path) -> None:
    encoder, told = MeanColour(), []
    first = encode(section, encoder, tmp_path)
    again = encode_section(
        section, encoder, PLAN, cache_dir=tmp_path / "cache", advance=told.append
    )
    assert encoder.n_encoded == 60
    assert sum(told) == 30
    assert again.key == first.key
    np.testing.assert_array_equal(again.values, first.values)


def test_the_name_of_the_slide_does_not_matter(section: Section, tmp_path: Path) -> None:
    first = encode(section, MeanColour(), tmp_path)
    assert section.slide is not None
    other = section.slide.rename(tmp_path / "renamed.png")
    assert encode(replace(section, slide=other), MeanColour(), tmp_path).key == first.key


@pytest.mark.parametrize("what", ["pixels", "weights", "engine", "sides", "size", "mpp", "spots"])
def test_whatever_features_depend_on_makes_new_ones(
    section: Section, tmp_path: Path, what: str
) -> None:
    before = encode(section, MeanColour(), tmp_path)
    encoder, plan, other = MeanColour(), PLAN, section
    if what == "pixels":
        assert section.slide is not None
        image = np.asarray(Image.open(section.slide)).copy()
        image[0, 0] = 1
        Image.fromarray(image).save(section.slide)
    elif what == "weights":
        encoder = MeanColour(weights="other")
    elif what == "engine":
        encoder = MeanColour(engine="openvino")
    elif what == "sides":
        plan = PatchPlan((20.0, 41.0), 16)
    elif what == "size":
        plan = PatchPlan((20.0, 40.0), 17)
    elif what == "mpp":
        other = replace(section, geometry=replace(section.geometry, mpp=1.01))
    else:
        other = replace(section, xy_px0=section.xy_px0 + 1)
    after = encode(other, encoder, tmp_path, plan)
    assert after.key != before.key
    assert encoder.n_encoded == 60


@pytest.mark.parametrize("fault", ["cut", "flipped", "empty", "foreign"])
def test_a_damaged_cache_is_noticed_and_made_again(
    section: Section, tmp_path: Path, fault: str
) -> None:
    first = encode(section, MeanColour(), tmp_path)
    path = cache_file(tmp_path)
    data = bytearray(path.read_bytes())
    if fault == "flipped":
        data[-40] ^= 1
    path.write_bytes(
        {"cut": data[: len(data) // 2], "flipped": data, "empty": b"", "foreign": b"x" * 900}[fault]
    )
    encoder = MeanColour()
    again = encode(section, encoder, tmp_path)
    assert encoder.n_encoded == 60
    np.testing.assert_array_equal(again.values, first.values)
    assert encode(section, MeanColour(), tmp_path).key == first.key
    assert cache_file(tmp_path).stat().st_size == len(data)


def test_an_interrupted_encoding_leaves_nothing(section: Section, tmp_path: Path) -> None:
    encoder = MeanColour()
    encoder.fail_after = 32
    with pytest.raises(KeyboardInterrupt):
        encode(section, encoder, tmp_path)
    assert not [p for p in tmp_path.rglob("*") if p.is_file() and p.suffix != ".png"]
    fresh = MeanColour()
    encode(section, fresh, tmp_path)
    assert fresh.n_encoded == 60


def test_an_error_while_encoding_ends_the_thread_that_reads(
    section: Section, tmp_path: Path
) -> None:
    # More batches than are read ahead, and the error kept, as a caller keeps it that tells of it.
    many = replace(
        section,
        xy_px0=np.tile(section.xy_px0, (8, 1)),
        barcodes=np.array([f"b{i}" for i in range(240)]),
    )
    encoder = MeanColour()
    encoder.fail_after = 32
    with pytest.raises(KeyboardInterrupt) as kept:
        encode(many, encoder, tmp_path)
    assert kept.value is not None
    assert "hespotex-patches" not in {t.name for t in threading.enumerate()}


def test_the_cache_folder_is_that_of_the_environment(
    section: Section, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HESPOTEX_CACHE", str(tmp_path / "elsewhere"))
    features = encode_section(section, MeanColour(), PLAN)
    assert (tmp_path / "elsewhere" / "features" / f"{features.key}.safetensors").is_file()


def test_a_cache_that_cannot_be_written_is_said_before_anything_is_encoded(
    section: Section, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("HESPOTEX_CACHE", str(tmp_path / "file"))
    encoder = MeanColour()
    with pytest.raises(
        RunError, match=r"at .*file/features, found: Not a directory; .*set HESPOTEX_CACHE"
    ):
        encode_section(section, encoder, PLAN)
    assert encoder.n_encoded == 0


@pytest.mark.usefixtures("homeless")
def test_a_user_without_a_home_is_told_which_variable_to_set() -> None:
    with pytest.raises(RunError, match="found none for this user; set HESPOTEX_CACHE"):
        cache_folder()


def test_a_projection_keeps_lengths_and_angles(section: Section, tmp_path: Path) -> None:
    matrix = orthonormal_projection(50, 8)
    np.testing.assert_allclose(matrix.T @ matrix, np.eye(8), atol=1e-12)
    stated = np.linalg.qr(np.random.default_rng(0).normal(size=(50, 8)))[0]
    np.testing.assert_array_equal(matrix, stated)
    plain = encode(section, MeanColour(), tmp_path)
    encoder = MeanColour()
    small = encode_section(section, encoder, PLAN, projection=3, cache_dir=tmp_path / "cache")
    assert encoder.n_encoded == 0
    assert small.key != plain.key
    np.testing.assert_allclose(
        small.values, plain.values @ orthonormal_projection(5, 3), rtol=1e-5, atol=1e-4
    )
    with pytest.raises(ConfigError, match=r"at most the encoder's 5 features, found 6; lower"):
        encode_section(section, encoder, PLAN, projection=6, cache_dir=tmp_path / "cache")


def test_default_sides_are_the_encoders_own_field_of_view() -> None:
    assert default_sides(MeanColour()) == (77.2, 154.5, 309.0, 617.9)
    assert default_sides(MeanColour(mpp=0.5)) == (8.0, 16.0, 32.0, 64.0)
    assert patch_plan(MeanColour(), PatchConfig(sides_um=(50.0,))) == PatchPlan((50.0,), 16)


def test_a_section_without_slide_and_features_is_refused(section: Section) -> None:
    with pytest.raises(SlideError, match=r"section S1: expected a slide or a features file"):
        encode_section(replace(section, slide=None), MeanColour(), PLAN)


# --------------------------------------------------------------------- files of TRIDENT and CLAM


def write_tiles(path: Path, xy: npt.NDArray[np.float64], side: int, trident: bool) -> Path:
    """Tiles centred within a few pixels of the positions, in another order, and some more."""
    rng = np.random.default_rng(5)
    centres = np.concatenate([xy + rng.integers(-3, 4, xy.shape), [[900.0, 900.0]]])
    order = rng.permutation(len(centres))
    features = np.stack([np.arange(len(centres)), np.arange(len(centres)) ** 2], 1).astype("f4")
    with h5py.File(path, "w") as file:
        file["features"] = features[order]
        file["coords"] = (centres[order] - side / 2).astype(np.int64)
        if trident:
            file["coords"].attrs["patch_size_level0"] = side
            file["coords"].attrs["patch_size"] = 224
    return path


GRID = np.stack(np.meshgrid(np.arange(4), np.arange(3)), -1).reshape(-1, 2) * 40.0 + 100


@pytest.mark.parametrize("trident", [True, False], ids=["trident", "clam"])
def test_spots_take_the_features_of_the_tile_around_them(
    section: Section, tmp_path: Path, trident: bool
) -> None:
    path = tmp_path / "f.h5"
    if trident:
        write_tiles(path, GRID, 36, trident=True)
    else:  # a gapless grid says its own side
        with h5py.File(path, "w") as file:
            file["features"] = np.stack([np.arange(12), np.arange(12) ** 2], 1).astype("f4")
            file["coords"] = (GRID - 20).astype(np.int64)
    own = replace(
        section, slide=None, features_file=path, xy_px0=GRID, barcodes=np.arange(12).astype(str)
    )
    encoder = MeanColour()
    features = encode_section(own, encoder, PLAN)
    assert encoder.n_encoded == 0
    assert features.values.shape == (12, 1, 2)
    np.testing.assert_array_equal(features.values[:, 0, 0], np.arange(12))
    np.testing.assert_array_equal(features.values[:, 0, 1], np.arange(12) ** 2)
    assert features.sides_um == ((36.0,) if trident else (40.0,))


def test_tiles_that_lie_elsewhere_are_an_error(tmp_path: Path) -> None:
    path = write_tiles(tmp_path / "f.h5", GRID, 36, trident=True)
    shifted = GRID.copy()
    shifted[:5] += 5000
    with pytest.raises(
        GeometryError, match=r"section A: .*each of 12 spots in f\.h5.*\(18 px\) for 5 of them"
    ):
        read_features_file(path, shifted, section="A")


def test_a_file_that_holds_no_features_is_an_error(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "x.h5", "w") as file:
        file["img"] = np.zeros(3)
    with pytest.raises(SlideError, match=r"features and coords .*x\.h5, found img; give"):
        read_features_file(tmp_path / "x.h5", GRID)
    with h5py.File(tmp_path / "y.h5", "w") as file:
        file["features"], file["coords"] = np.zeros((4, 2)), np.zeros((5, 2))
    with pytest.raises(SlideError, match=r"found \(4, 2\) and \(5, 2\); make the file again"):
        read_features_file(tmp_path / "y.h5", GRID)
    path = write_tiles(tmp_path / "f.h5", GRID, 36, trident=True)
    with h5py.File(path, "r+") as file:
        file["features"][3] = np.nan
    with pytest.raises(SlideError, match="found 1 of 13 tiles with NaN"):
        read_features_file(path, GRID)
    cut = tmp_path / "cut.h5"
    cut.write_bytes(path.read_bytes()[:700])
    with pytest.raises(
        SlideError,
        match=r"a features file \(h5\) at .*cut\.h5, found one that is cut short: it ends at byte .*; copy it again",
    ):
        read_features_file(cut, GRID)


def test_colours_are_mean_and_deviation_of_every_channel() -> None:
    patches = np.zeros((2, 4, 6, 3), np.uint8)
    patches[0, :2, :, 0] = 255
    patches[1] = (51, 102, 204)
    found = patch_colours(patches)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found[0], [0.5, 0, 0, 0.5, 0, 0], atol=1e-7)
    np.testing.assert_allclose(found[1], [0.2, 0.4, 0.8, 0, 0, 0], atol=1e-7)
    assert patch_colours(patches[:0]).shape == (0, 6)
