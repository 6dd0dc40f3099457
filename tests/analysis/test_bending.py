"""A bend after the affine map: used where a warp is there, left where it is not, and kept in frames and files."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import anndata
import cv2
import numpy as np
import pandas as pd
import pytest
from scipy.ndimage import gaussian_filter

from helpers.agree_runs import MPP, SIDE_UM, block, same_place, write
from helpers.heard import Heard
from hespotex.analysis.agree import agree, frames_of, read_sections, summary
from hespotex.analysis.bending import judged
from hespotex.analysis.registration import register
from hespotex.analysis.section_picture import Picture, picture_of
from hespotex.datasets import PaintedPlan, Serial, draw_patients
from hespotex.export.h5ad import Thumbnail
from hespotex.geometry import Affine, Bend, CommonFrame, SectionFrame, Smooth, read_frames
from hespotex.report.agree_page import write_pages


@pytest.mark.parametrize(
    ("moved", "most", "apart", "detail", "refusal"),
    [
        (30.0, 80.0, 9.0, 0.72, ""),
        (30.0, 80.0, 11.0, 0.72, "moves tissue by 30 um, and by another search 11 um elsewhere"),
        (30.0, 80.0, 9.0, 0.71, "detail does not gain (0.700 to 0.710)"),
        (30.0, 210.0, 9.0, 0.72, "by up to 210 um, a tenth of its size is 200 um"),
        (0.0, 0.0, 0.0, 0.7, "does not gain"),
    ],
)
def test_a_bend_is_used_that_two_searches_find_alike_and_that_pays(
    moved: float, most: float, apart: float, detail: float, refusal: str
) -> None:
    found = judged(moved, most, apart, before=0.7, detail=detail, size_um=2000.0)
    assert bool(found.refusal) == bool(refusal)
    assert found.said.startswith("not bent: " if refusal else "bent by 30 um (root")
    assert found.brief == ("not bent" if refusal else "bent by 30 um")
    assert refusal in found.refusal


def _warp(side_um: float, most_um: float) -> Bend:
    """From a warped section's microns to those before."""
    moved = gaussian_filter(np.random.default_rng(4).normal(size=(30, 30, 2)), (6, 6, 0))
    return Bend((0.0, 0.0), side_um / 29, moved * most_um / np.linalg.norm(moved, axis=-1).max())


def _bent(image: np.ndarray, um: float, warp: Bend) -> np.ndarray:
    height, width = image.shape[:2]
    at = (np.stack(np.meshgrid(np.arange(width), np.arange(height)), -1).reshape(-1, 2) + 0.5) * um
    x, y = (warp(at) / um - 0.5).astype(np.float32).T.reshape(2, height, width)
    return cv2.remap(image, x, y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)


def _rms(off: np.ndarray) -> float:
    return float(np.sqrt(np.mean(np.square(off).sum(axis=1))))


@pytest.mark.slow
def test_a_warped_slice_is_bent_a_still_one_and_a_wrong_partner_are_not() -> None:
    serial = Serial((0.0, 10.0), turn_degrees=180, mirror_chance=0.5, stretch=0.05, restained=True)
    plan = PaintedPlan(
        seed=19, patients=draw_patients(2), sections_per_patient=2, n_genes=20, lattice="square",
        side_um=1800.0, serial=serial,
    )  # fmt: skip

    def picture(patient: int, section: int, most_um: float = 0.0) -> Picture:
        arrays = plan.section(patient, section).arrays
        image = cv2.resize(arrays.image, None, fx=0.5, fy=0.5, interpolation=cv2.INTER_AREA)
        um = 2.0 * arrays.mpp
        if most_um:
            image = _bent(image, um, _warp(image.shape[0] * um, most_um))
        return picture_of(Thumbnail(image, 2.0), arrays.mpp)

    first, still, warped = picture(0, 0), picture(0, 1), picture(0, 1, 90.0)
    true = plan.frames(0).between(plan.section_id(0, 1), plan.section_id(0, 0))
    points = np.stack(np.meshgrid(np.arange(500.0, 1500, 90), np.arange(500.0, 1500, 90)), -1)
    points = points.reshape(-1, 2)
    where = true(_warp(warped.grey.shape[0] * warped.um_per_px, 90.0)(points))
    bent = register(first, warped)
    affine = register(first, warped, bend=False)
    assert isinstance(bent.to_fixed, Smooth)
    assert bent.to_fixed.affine == affine.to_fixed
    assert affine.bending is None
    assert bent.quality == affine.quality  # refusals rest on the affine map
    assert _rms(bent.to_fixed(points) - where) < min(
        8.0, 0.4 * _rms(affine.to_fixed(points) - where)
    )
    not_bent = register(first, still)
    assert isinstance(not_bent.to_fixed, Affine)
    assert not_bent.bending is not None
    assert not_bent.bending.refusal
    wrong = register(picture(1, 0), warped)
    assert wrong.quality.refusal
    assert wrong.bending is None


@pytest.mark.slow
def test_a_run_writes_the_bend_says_it_and_reads_it_again(tmp_path: Path) -> None:
    first, second, scale = block()
    um = scale * MPP
    warp = _warp(second.shape[1] * um, 90.0)
    write(tmp_path, "S1", first)
    write(tmp_path, "S2", _bent(second, um, warp))
    (result,) = agree(tmp_path, tmp_path / "out", pairs=["S1:S2"])
    frames = read_frames(tmp_path / "out" / "frames.json")
    tissue = picture_of(Thumbnail(_bent(second, um, warp), scale), MPP).tissue
    points = (np.argwhere(tissue)[:, ::-1] + 0.5) * um
    there = frames.between("S2", "S1")(points)
    affine = _rms(result.registration.to_fixed.affine(points) - warp(points))
    assert _rms(there - warp(points)) < min(20, 0.75 * affine)  # a pixel is 20 um
    np.testing.assert_allclose(frames.between("S1", "S2")(there), points, atol=1.0)
    assert frames["S1"].bend is None
    assert frames["S2"].bend is not None
    table = anndata.read_h5ad(tmp_path / "out" / "sections" / "S2.h5ad")
    common = result.registration.to_fixed(table.obsm["spatial"] * MPP)
    np.testing.assert_allclose(table.obsm["spatial_common_um"], common, atol=1.0)
    pairs = pd.read_csv(tmp_path / "out" / "pairs.csv")
    assert (pairs["bend_um"] > 5).all()
    assert pairs["bend_refused"].isna().all()
    page = write_pages(tmp_path, tmp_path / "out", [result])["report"].read_text(encoding="utf-8")
    assert "; bent by " in page
    (again,) = agree(
        tmp_path, tmp_path / "again", pairs=["S1:S2"], transform=tmp_path / "out" / "frames.json"
    )
    assert again.registration.kind == "given"
    assert again.registration.quality.detail > result.registration.quality.detail
    pd.testing.assert_series_equal(again.table["pcc"], result.table["pcc"], atol=0.01)
    (plain,) = agree(tmp_path, tmp_path / "plain", pairs=["S1:S2"], bend=False)
    assert read_frames(tmp_path / "plain" / "frames.json")["S2"].bend is None
    assert summary([plain])["bend_um"].isna().all()


def test_a_chain_of_bends_that_is_too_steep_together_is_laid_without_them_and_said(
    tmp_path: Path,
) -> None:
    write(tmp_path, "S1", None)
    write(tmp_path, "S2", None)
    (result,) = agree(tmp_path, tmp_path / "out", pairs=["S1:S2"], transform=same_place(tmp_path))
    moved = np.zeros((12, 12, 2))
    moved[..., 0] = np.sin(np.arange(12) * 0.9) * 60
    steep = Bend((0.0, 0.0), SIDE_UM / 11, moved)
    chain = Smooth((steep, steep, steep))
    bent = replace(result, registration=replace(result.registration, to_fixed=chain))
    heard = Heard()
    frames = frames_of(read_sections(tmp_path), [bent], heard)
    assert frames == CommonFrame({"S1": SectionFrame(MPP), "S2": SectionFrame(MPP)})
    (said,) = heard.warned
    assert "S2 lies in the common frame without its bends: expected displacement" in said
