"""What people bring to `agree`: wrong scales, folds, other lattices, files that lack something. Compared, or refused in words."""

from __future__ import annotations

import functools
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
import pandas as pd
import pytest

from helpers.toy_prediction import GENES
from hespotex.analysis.agree import agree, choose_pairs, read_sections
from hespotex.analysis.agreement import CONSISTENT
from hespotex.datasets import PaintedPlan, Serial, draw_patients
from hespotex.errors import GeometryError
from hespotex.export.h5ad import Thumbnail, write_prediction
from hespotex.geometry import CommonFrame, Geometry, SectionFrame, write_frames
from hespotex.models.types import Prediction
from hespotex.sections.section import Section

SIDE_UM = 1800.0
MPP = 2.0


@functools.cache
def _block() -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.uint8], float]:
    """Two slices of a block, 10 um apart and stained anew; pixels per level-0 pixel."""
    plan = PaintedPlan(
        seed=19, patients=draw_patients(1), sections_per_patient=2, n_genes=20, lattice="square",
        side_um=SIDE_UM, mpp=MPP, serial=Serial((0.0, 10.0), restained=True),
    )  # fmt: skip
    first, second = (plan.section(0, k).arrays.image for k in (0, 1))
    small = (first.shape[1] // 10, first.shape[0] // 10)
    a, b = (cv2.resize(i, small, interpolation=cv2.INTER_AREA) for i in (first, second))
    return a, b, first.shape[0] / small[1]


def write(
    run: Path,
    name: str,
    picture: npt.NDArray[np.uint8] | None,
    *,
    mpp: float = MPP,
    pitch_um: float = 150.0,
    spots: int | None = None,
    genes: int | None = None,
    **obs: str,
) -> None:
    """A prediction on a lattice over the tissue: smooth waves of the place, others for every gene."""
    steps = np.arange(300.0, SIDE_UM - 300, pitch_um)
    xy_um = np.stack(np.meshgrid(steps, steps), -1).reshape(-1, 2)[:spots]
    barcodes = np.array([f"s{i}" for i in range(len(xy_um))])
    section = Section(
        section_id=name, patient_id="P", slide=None, geometry=Geometry(mpp, pitch_um, pitch_um / 2),
        barcodes=barcodes, xy_px0=xy_um / MPP, counts=None, genes=None,
        obs=pd.DataFrame(obs, index=barcodes),
    )  # fmt: skip
    waves = np.random.default_rng(0).normal(size=(2, len(GENES))) / 300
    values = np.sin(xy_um @ waves).astype(np.float32)
    write_prediction(
        run / "predictions" / f"{name}.h5ad",
        section=section,
        genes=GENES,
        prediction=Prediction(np.exp(values), values, np.full(len(xy_um), 9.0, np.float32)),
        thumbnail=None if picture is None else Thumbnail(picture, _block()[2]),
        provenance={"spot_pitch_um": pitch_um},
        columns=None if genes is None else np.arange(genes),
    )


def compared(run: Path, **more: Any) -> float:
    """Mean consistency of the only pair."""
    (result,) = agree(run, run / "out", pairs=["S1:S2"], **more)
    assert result.refused == ""
    table = result.table
    return float(table.loc[table["what"] == CONSISTENT, "pcc"].mean())


def same_place(run: Path) -> Path:
    write_frames(run / "f.json", CommonFrame({n: SectionFrame(MPP) for n in ("S1", "S2")}))
    return run / "f.json"


def test_a_scale_tag_that_is_off_by_two_is_refused_and_named_while_the_right_one_passes(
    tmp_path: Path,
) -> None:
    first, second, _ = _block()
    write(tmp_path / "a", "S1", first)
    write(tmp_path / "a", "S2", second)
    assert compared(tmp_path / "a") > 0.9
    write(tmp_path / "b", "S1", first)
    write(tmp_path / "b", "S2", second, mpp=2 * MPP)
    with pytest.raises(
        GeometryError,
        match=r"tissue of S1 [\d.]+ mm2 and S2 [\d.]+ mm2: check microns per pixel \(mpp\) of both",
    ):
        agree(tmp_path / "b", tmp_path / "out", pairs=["S1:S2"])
    assert not (tmp_path / "out").exists()


def test_a_fold_line_does_not_lead_the_registration_astray(tmp_path: Path) -> None:
    first, second, _ = _block()
    folded = second.copy()
    middle = folded.shape[1] // 2
    folded[:, middle : middle + 4] = folded[:, middle : middle + 4] // 3
    write(tmp_path, "S1", first)
    write(tmp_path, "S2", folded)
    assert compared(tmp_path) > 0.9


def test_sections_on_lattices_of_different_pitch_are_compared(tmp_path: Path) -> None:
    write(tmp_path, "S1", None, pitch_um=150.0)
    write(tmp_path, "S2", None, pitch_um=107.0)
    assert compared(tmp_path, transform=same_place(tmp_path)) > 0.9


def test_a_section_without_a_slide_is_named_and_landmarks_help(tmp_path: Path) -> None:
    write(tmp_path, "S1", _block()[0])
    write(tmp_path, "S2", None)
    with pytest.raises(
        GeometryError,
        match="S1 and S2: expected a picture of both sections, found none of S2, predicted from features",
    ):
        agree(tmp_path, tmp_path / "out", pairs=["S1:S2"])
    marks = tmp_path / "marks.csv"
    marks.write_text(
        "section_a,section_b,x_a_um,y_a_um,x_b_um,y_b_um\n"
        "S1,S2,0,0,0,0\nS1,S2,900,0,900,0\nS1,S2,0,900,0,900\n"
    )
    assert compared(tmp_path, landmarks=marks) > 0.9


def test_a_picture_of_glass_is_named_by_its_section(tmp_path: Path) -> None:
    write(tmp_path, "S1", _block()[0])
    write(tmp_path, "S2", np.full_like(_block()[0], 240))
    with pytest.raises(GeometryError, match=r"section S2: expected tissue to register by"):
        agree(tmp_path, tmp_path / "out", pairs=["S1:S2"])


@pytest.mark.parametrize(("spots", "refused"), [(1, True), (7, True), (8, False)])
def test_a_section_of_few_spots_is_refused(tmp_path: Path, spots: int, refused: bool) -> None:
    write(tmp_path, "S1", None)
    write(tmp_path, "S2", None, spots=8)
    write(tmp_path, "S1", None, spots=spots)
    if not refused:
        assert compared(tmp_path, transform=same_place(tmp_path)) > 0.9
        return
    with pytest.raises(GeometryError, match=rf"at least 8 spots .* found {spots}"):
        agree(tmp_path, tmp_path / "out", pairs=["S1:S2"], transform=same_place(tmp_path))


def test_a_prediction_without_genes_says_how_to_get_them(tmp_path: Path) -> None:
    write(tmp_path, "S1", None)
    write(tmp_path, "S2", None, genes=0)
    with pytest.raises(
        GeometryError, match=r"none in S2\.h5ad: .*predict with --untested or --all-genes"
    ):
        agree(tmp_path, tmp_path / "out", pairs=["S1:S2"], transform=same_place(tmp_path))


def test_sections_of_a_series_without_a_place_come_last_and_have_no_distance(
    tmp_path: Path,
) -> None:
    for name, order in (("S3", ""), ("S2", "5"), ("S1", "nowhere"), ("S4", "1")):
        write(tmp_path, name, None, series="block", order=order)
    pairs, places = choose_pairs(read_sections(tmp_path))
    names = list(dict.fromkeys(name for pair in pairs for name in pair))
    assert names == ["S4", "S2", "S1", "S3"]
    assert np.isnan([places["S1"], places["S3"]]).all()
