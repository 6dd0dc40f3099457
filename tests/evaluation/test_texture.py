"""A slide's texture tells a wrong scale, blur and coarse JPEG from slides of the same kind."""

from __future__ import annotations

import io

import cv2
import numpy as np
import numpy.typing as npt
import pytest
from PIL import Image

from hespotex.errors import HESpotExError
from hespotex.evaluation.out_of_distribution import OodModel, fit_ood
from hespotex.evaluation.texture import fit_textures
from hespotex.evaluation.trust import Trust
from hespotex.features.appearance import Appearance, describe_patches, patch_textures

Patches = npt.NDArray[np.uint8]
N, SIZE = 40, 112
PATIENTS = ["P", "Q", "R"]


def tissue(seed: int, scale: float = 1.0) -> Patches:
    """(n, 1, size, size, 3) violet discs of 5 to 8 px at scale 1, on pink: nuclei, spot by spot more or fewer."""
    rng = np.random.default_rng(seed)
    out = np.empty((N, 1, SIZE, SIZE, 3), np.uint8)
    for i in range(N):
        picture = np.full((SIZE, SIZE, 3), (225, 170, 200), np.uint8)
        for _ in range(int(rng.integers(40, 90) / scale**2)):
            centre = tuple(int(v) for v in rng.integers(0, SIZE, 2))
            colour = (int(rng.integers(80, 120)), 60, 140)
            cv2.circle(picture, centre, round(rng.uniform(2.5, 4) * scale), colour, -1, cv2.LINE_AA)
        out[i, 0] = np.clip(picture + rng.normal(0, 2, picture.shape), 0, 255).astype(np.uint8)
    return out


def seen(patches: Patches, mpp: float = 0.45) -> Appearance:
    return describe_patches(patches, (0.5,), mpp)


def blurred(patches: Patches) -> Patches:
    return np.stack([cv2.GaussianBlur(p[0], (0, 0), 2)[None] for p in patches])


def compressed(patches: Patches) -> Patches:
    def one(picture: Patches) -> Patches:
        buffer = io.BytesIO()
        Image.fromarray(picture).save(buffer, "JPEG", quality=10)
        return np.asarray(Image.open(buffer).convert("RGB"))

    return np.stack([one(p[0])[None] for p in patches])


@pytest.fixture(scope="module")
def model() -> OodModel:
    """Of three sections; features say nothing."""
    sections = [seen(tissue(i)) for i in range(3)]
    xy = np.column_stack([np.arange(N) * 100.0, np.zeros(N)])
    return fit_ood([features(i) for i in range(3)], [xy] * 3, sections, PATIENTS)


def features(seed: int) -> npt.NDArray[np.float32]:
    return np.random.default_rng(seed).normal(size=(N, 6)).astype(np.float32)


def test_a_slide_of_the_same_kind_is_like_them(model: OodModel) -> None:
    for seed in range(10, 14):
        report = model.report(features(seed), seen(tissue(seed)))
        assert report.verdict == "like the training slides"
        assert report.share < 0.25


@pytest.mark.parametrize("scale", [0.5, 2.0])
def test_a_scale_wrong_by_two_is_named(model: OodModel, scale: float) -> None:
    report = model.report(features(10), seen(tissue(10, scale)))
    assert report.verdict == "unlike: scale or sharpness"
    assert report.flagged.all()


def test_blur_and_coarse_jpeg_are_seen_in_the_texture(model: OodModel) -> None:
    assert model.textures is not None
    assert model.textures.shift(seen(tissue(10)).textures) < 1
    for fault in (blurred, compressed):
        faulty = seen(fault(tissue(10)))
        assert model.textures.shift(faulty.textures) > 5, fault
        assert model.report(features(10), faulty).flagged.all()


def test_a_stronger_stain_does_not_change_the_texture() -> None:
    picture = tissue(0)
    pale = (255 - (255 - picture.astype(np.float64)) * 0.6).round().astype(np.uint8)
    step = np.median(seen(picture).textures - seen(pale).textures, axis=0)
    assert np.nanmax(np.abs(step)) < 0.5


def test_octaves_that_the_slide_does_not_resolve_are_unknown_and_left_out(model: OodModel) -> None:
    """Bands of 0.5, 1, 2 um a pixel: luma is known from the slide's pixel on, chroma from two of them."""
    coarse = seen(tissue(10), mpp=1.0).textures.reshape(N, 2, -1)
    assert np.isnan(coarse[0]).tolist() == [[True, False, False], [True, True, False]]
    fine = seen(tissue(10)).textures.reshape(N, 2, -1)
    assert np.isnan(fine[0]).tolist() == [[False, False, False], [True, False, False]]
    assert model.textures is not None
    smooth = np.stack([cv2.GaussianBlur(p[0], (0, 0), 0.7)[None] for p in tissue(10)])
    known = model.textures.shift(seen(smooth).textures)
    assert model.textures.shift(seen(smooth, mpp=1.0).textures) < known
    assert model.textures.shift(np.full_like(fine.reshape(N, -1), np.nan)) == 0


def test_sections_that_differ_leave_more_room() -> None:
    alike = [seen(tissue(i)).textures for i in range(3)]
    mixed = [*alike[:2], seen(blurred(tissue(2))).textures]
    near, wide = fit_textures(alike, PATIENTS), fit_textures(mixed, PATIENTS)
    assert near is not None
    assert wide is not None
    assert near.slide_limit == pytest.approx(1 + 1 / len(set(PATIENTS)))
    assert wide.slide_limit > 1


def test_without_texture_in_common_there_is_no_check() -> None:
    assert fit_textures([np.full((N, 3), np.nan, np.float32)] * 2, ["P", "Q"]) is None
    assert fit_textures([np.zeros((N, 0), np.float32)], ["P"]) is None


def test_texture_of_another_length_is_an_error(model: OodModel) -> None:
    assert model.textures is not None
    with pytest.raises(HESpotExError, match=r"expected 6 texture values a spot .* found 5"):
        model.textures.shift(np.zeros((N, 5), np.float32))


def test_the_check_travels_in_the_model_file_and_older_files_lack_it(model: OodModel) -> None:
    tensors = Trust(ood=model).tensors()
    again = Trust.from_tensors(tensors).ood
    assert again is not None
    faulty = seen(tissue(10, 2.0))
    assert again.report(features(10), faulty).verdict == "unlike: scale or sharpness"
    older = Trust.from_tensors({k: v for k, v in tensors.items() if "textures" not in k}).ood
    assert older is not None
    assert older.report(features(10), faulty).verdict == "like the training slides"
    assert again.report(features(10), None).verdict == "like the training slides"


def test_colours_and_textures_are_of_the_same_spots() -> None:
    with pytest.raises(HESpotExError, match="of the same spots, found 3 and 2"):
        Appearance(np.zeros((3, 6), np.float32), np.zeros((2, 4), np.float32))


def test_a_scale_at_which_pixels_are_copied_is_as_sharp_as_those_beside_it() -> None:
    """A pixel size that is off by 0.4 % once made a training slide unlike itself."""
    rng, places = np.random.default_rng(0), []
    for sigma in rng.uniform(0.6, 1.4, N):  # some places are sharper than others
        grey = cv2.GaussianBlur(rng.normal(140, 60, (230, 230)).astype(np.float32), (0, 0), sigma)
        places.append(np.repeat(grey.clip(0, 255).astype(np.uint8)[:, :, None], 3, axis=2))

    def textures(side_px: int) -> npt.NDArray[np.float32]:
        cut = [place[:side_px, :side_px] for place in places]
        patches = np.stack([cv2.resize(c, (224, 224), interpolation=cv2.INTER_AREA) for c in cut])
        return patch_textures(patches, side_px / 224, 1.0)

    copied, beside = textures(224), textures(225)
    assert np.isnan(copied[:, 0]).all()
    assert np.isfinite(beside[:, 0]).all()
    space = fit_textures([beside[::2], beside[1::2]], ["A", "B"])
    assert space is not None
    assert space.shift(copied) < 1
    assert space.shift(textures(112)) > 1  # a pixel size that is wrong by two is still told
