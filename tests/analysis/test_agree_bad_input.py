"""What people bring to `agree`: wrong scales, folds, other lattices, files that lack something. Compared, or refused in words."""

from __future__ import annotations

import dataclasses
import shutil
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pandas as pd
import pytest

from helpers.agree_runs import MPP, block, same_place, write
from helpers.toy_prediction import GENES
from hespotex.analysis.agree import agree, choose_pairs, read_sections, summary
from hespotex.analysis.agree_given import searched_notes
from hespotex.analysis.agreement import CONSISTENT
from hespotex.analysis.common_maps import common_places
from hespotex.analysis.landmarks import points_of, read_landmarks
from hespotex.errors import GeometryError, RunError
from hespotex.evaluation.claims import untested
from hespotex.geometry import Affine, CommonFrame, SectionFrame, read_frames, write_frames
from hespotex.plots.pair_picture import plot_pair
from hespotex.report.agree_page import drifts_of, write_pages


def compared(run: Path, **more: Any) -> float:
    """Mean consistency of the only pair."""
    (result,) = agree(run, run / "out", pairs=["S1:S2"], **more)
    assert result.refused == ""
    table = result.table
    return float(table.loc[table["what"] == CONSISTENT, "pcc"].mean())


def test_a_scale_tag_that_is_off_by_two_is_refused_and_named_while_the_right_one_passes(
    tmp_path: Path,
) -> None:
    first, second, _ = block()
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
    first, second, _ = block()
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
    write(tmp_path, "S1", block()[0])
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
    write(tmp_path, "S1", block()[0])
    write(tmp_path, "S2", np.full_like(block()[0], 240))
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


def test_a_section_that_stands_in_two_files_of_a_run_is_named(tmp_path: Path) -> None:
    write(tmp_path, "S1", None)
    write(tmp_path, "S2", None)
    shutil.copy(tmp_path / "predictions" / "S1.h5ad", tmp_path / "predictions" / "again.h5ad")
    with pytest.raises(RunError, match=r"every section once, found S1 in .*S1\.h5ad and in|again"):
        agree(tmp_path, tmp_path / "out", pairs=["S1:S2"], transform=same_place(tmp_path))
    (tmp_path / "predictions" / "again.h5ad").unlink()
    assert compared(tmp_path, transform=same_place(tmp_path)) > 0.9


def test_sections_that_name_genes_otherwise_are_refused(tmp_path: Path) -> None:
    write(tmp_path, "S1", None)
    write(tmp_path, "S2", None)
    with h5py.File(tmp_path / "predictions" / "S2.h5ad", "r+") as file:
        index = file["var"].attrs["_index"]
        file[f"var/{index}"][...] = [f"ENSG{j:011d}" for j in range(len(GENES))]
    with pytest.raises(
        GeometryError,
        match=r"genes that both .* hold, found none common of 6 and 6 genes; predict both",
    ):
        agree(tmp_path, tmp_path / "out", pairs=["S1:S2"], transform=same_place(tmp_path))


def test_two_blocks_of_a_run_have_frames_of_their_own(tmp_path: Path) -> None:
    names = ("S1", "S2", "T1", "T2")
    for name in names:
        write(tmp_path, name, None)
    moved = Affine.of(np.eye(2), (40.0, 0.0))
    places = {n: SectionFrame(MPP, moved if n[1] == "2" else Affine()) for n in names}
    write_frames(tmp_path / "f.json", CommonFrame(places))
    agree(tmp_path, tmp_path / "o", pairs=["S1:S2", "T2:T1"], transform=tmp_path / "f.json")
    frames = read_frames(tmp_path / "o" / "frames.json")
    assert {n: f.block for n, f in frames.sections.items()} == {"S1": 0, "S2": 0, "T2": 1, "T1": 1}
    assert frames.between("T1", "T2")([[0.0, 0.0]]).tolist() == [[-40.0, 0.0]]
    for name in names:
        with h5py.File(tmp_path / "o" / "sections" / f"{name}.h5ad") as file:
            assert file["uns/hespotex/common_block"][()] == frames[name].block
    with pytest.raises(GeometryError, match="found S1 of block 0 and T1 of block 1"):
        frames.between("S1", "T1")


def test_a_section_that_is_unlike_the_training_is_named_and_keeps_no_grade(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plotted: list[str] = []

    def plot(*given: Any) -> Any:
        plotted.append(given[-1][1])
        return plot_pair(*given)

    monkeypatch.setattr("hespotex.report.agree_page.plot_pair", plot)
    graded = untested(len(GENES), "")
    graded = dataclasses.replace(graded, grade=np.full(len(GENES), "A"))
    write(tmp_path, "S1", block()[0], claims=graded)
    write(tmp_path, "S2", block()[0], claims=dataclasses.replace(graded, verdict="unlike: blurred"))
    results = agree(tmp_path, tmp_path / "o", pairs=["S1:S2"], transform=same_place(tmp_path))
    said = "no grade holds on S2 (unlike: blurred)"
    assert results[0].unlike == said
    for name in ("agree.csv", "pairs.csv"):
        assert (pd.read_csv(tmp_path / "o" / name)["unlike"] == said).all()
    table = pd.read_csv(tmp_path / "o" / "agree.csv")
    assert set(table["grade_a"]) == {"A"}
    assert set(table["grade_b"]) == {"ungraded"}
    page = write_pages(tmp_path, tmp_path / "o", results)["report"].read_text(encoding="utf-8")
    assert "No grade holds on S2 (unlike: blurred)." in page
    assert plotted == [said]


def test_frames_of_another_scale_are_refused_with_both_values(tmp_path: Path) -> None:
    for name in ("S1", "S2"):
        write(tmp_path, name, None)
    path = tmp_path / "f.json"
    for mpp, fits in ((MPP * 1.005, True), (MPP * 1.02, False)):
        write_frames(path, CommonFrame({"S1": SectionFrame(MPP), "S2": SectionFrame(mpp)}))
        if fits:
            assert compared(tmp_path, transform=path) > 0.9
            continue
        with pytest.raises(
            GeometryError, match=r"2 um per pixel of S2, .* in .*f\.json, found 2\.04"
        ):
            agree(tmp_path, tmp_path / "o", pairs=["S1:S2"], transform=path)


def test_pairs_that_frames_or_landmarks_do_not_name_are_told() -> None:
    given = CommonFrame({"S1": SectionFrame(MPP)})
    marks = {("S2", "S1"): (np.zeros((3, 2)), np.ones((3, 2)))}
    pairs = [("S1", "S2"), ("S1", "S3")]
    notes = searched_notes(pairs, given, marks, Path("f.json"), Path("m.csv"))
    assert notes == [
        "S1 and S3 are laid on one another by search: f.json has no frame of S3; m.csv has no points of them"
    ]
    fixed, moving = points_of(marks, ("S1", "S2")) or ((), ())
    assert np.all(np.asarray(fixed) == 1)
    assert np.all(np.asarray(moving) == 0)
    assert searched_notes(pairs, given, {}, None, None) == []


@pytest.mark.parametrize("value", ["nan", "inf"])
def test_landmarks_that_are_not_finite_are_named_with_their_line(
    tmp_path: Path, value: str
) -> None:
    path = tmp_path / "marks.csv"
    rows = f"S1,S2,0,0,0,0\nS1,S2,1,{value},2,2\n"
    path.write_text("section_a,section_b,x_a_um,y_a_um,x_b_um,y_b_um\n" + rows)
    with pytest.raises(GeometryError, match=rf"finite .*marks\.csv, found .*{value}.* in line 3"):
        read_landmarks(path)


def test_eight_spots_are_asked_of_the_second_section_too(tmp_path: Path) -> None:
    """A fine lattice within reach of four coarse spots: many places of the first, four of the second."""
    fine = np.stack(np.meshgrid(np.arange(10.0), np.arange(10.0)), -1).reshape(-1, 2)
    for n, refused in ((4, True), (8, False)):
        coarse = fine[:: 100 // n][:n]
        usable = np.ones(100, bool), np.ones(n, bool)
        if not refused:
            assert len(common_places(fine, coarse, 5.0, usable).rows) > 8
            continue
        with pytest.raises(
            GeometryError,
            match=r"found \d+ of the first's 100 usable spots and 4 of the second's 4;",
        ):
            common_places(fine, coarse, 5.0, usable)


def test_few_common_genes_are_refused_and_others_counted(tmp_path: Path) -> None:
    genes = [f"G{j}" for j in range(30)]
    for shared, refused in ((9, True), (10, False)):
        run = tmp_path / str(shared)
        write(run, "S1", None, names=genes, model="m1")
        write(run, "S2", None, names=[*genes[:shared], *(f"H{j}" for j in range(20))], model="m2")
        said = rf"{shared} common of 30 and {shared + 20} genes, predicted by two models"
        frames = same_place(run)
        if refused:
            with pytest.raises(GeometryError, match=rf"at least 10 genes .*found {said}"):
                agree(run, run / "o", pairs=["S1:S2"], transform=frames)
            continue
        (result,) = agree(run, run / "o", pairs=["S1:S2"], transform=frames)
        assert result.genes == said
        page = write_pages(run, run / "o", [result])["report"].read_text(encoding="utf-8")
        assert f"compared at {result.table['n_places'].iloc[0]} spots of the first; {said}" in page


def test_a_pair_is_compared_once_however_often_it_is_asked(tmp_path: Path) -> None:
    for name in ("S1", "S2", "S3"):
        write(tmp_path, name, None)
    asked = ["S2:S1", "S1:S2", "S1:S3", "S2:S1"]
    pairs, _ = choose_pairs(read_sections(tmp_path), asked)
    assert pairs == [("S2", "S1"), ("S1", "S3")]


def test_what_an_older_run_wrote_goes_and_files_of_others_stay(tmp_path: Path) -> None:
    for name in ("S1", "S2", "a b"):
        write(tmp_path / "run", name.replace(" ", "_"), block()[0], section=name)
    path, out = tmp_path / "f.json", tmp_path / "o"
    write_frames(path, CommonFrame({n: SectionFrame(MPP) for n in ("S1", "S2", "a b")}))
    for pair, there, gone in (("S1:S2", "S1_S2", ""), ("S1:a b", "S1_a_b", "S1_S2")):
        results = agree(tmp_path / "run", out, pairs=[pair], transform=path)
        write_pages(tmp_path / "run", out, results)
        for name in ("mine.png", "drift_mine.png", *(() if gone else ("drift_2.png",))):
            (out / "figures" / name).write_bytes(b"")
        if not gone:  # as another command leaves it under the name of ours
            shutil.copy(tmp_path / "run" / "predictions" / "S2.h5ad", out / "sections")
        assert (out / "figures" / f"{there}.png").exists()
        assert not gone or not (out / "figures" / f"{gone}.png").exists()
    assert {p.name for p in (out / "sections").iterdir()} == {"S1.h5ad", "S2.h5ad", "a_b.h5ad"}
    assert {p.name for p in (out / "figures").iterdir()} == {
        *("S1_a_b.png", "mine.png", "drift_mine.png")
    }


def test_frames_that_are_given_are_never_written_over(tmp_path: Path) -> None:
    for name in ("S1", "S2"):
        write(tmp_path, name, None)
    given = same_place(tmp_path).rename(tmp_path / "frames.json")
    before = given.read_bytes()
    with pytest.raises(RunError, match=r"another place than that of the input .*frames\.json"):
        agree(tmp_path, tmp_path, pairs=["S1:S2"], transform=given)
    assert given.read_bytes() == before
    assert not (tmp_path / "pairs.csv").exists()
    agree(tmp_path, tmp_path / "o", pairs=["S1:S2"], transform=given)


def test_an_out_that_cannot_be_written_is_refused_before_the_work(tmp_path: Path) -> None:
    for name in ("S1", "S2"):
        write(tmp_path, name, None)
    (tmp_path / "file").write_text("")
    with pytest.raises(RunError, match=r"folder that can be written at .*file"):
        agree(tmp_path, tmp_path / "file", pairs=["S1:S2"])  # without pictures: never searched for


def test_sections_of_two_series_have_no_distance_and_each_series_its_own_drift(
    tmp_path: Path,
) -> None:
    places = {
        "S1": ("a", "1"),
        "S2": ("a", "2"),
        "S3": ("a", "4"),
        "T1": ("b", "1"),
        "T2": ("b", "2"),
    }
    for name, (series, order) in places.items():
        write(tmp_path, name, None, series=series, order=order)
    write_frames(tmp_path / "f.json", CommonFrame({n: SectionFrame(MPP) for n in places}))
    asked = ["S1:S2", "S1:S3", "T1:T2", "S1:T2"]
    results = agree(tmp_path, tmp_path / "o", pairs=asked, transform=tmp_path / "f.json")
    assert [r.series for r in results] == ["a", "a", "b", ""]
    np.testing.assert_array_equal([r.apart for r in results], [1, 3, 1, np.nan])
    drifts = drifts_of(summary(results))
    assert list(drifts) == ["a"]  # b has one distance
    assert [p.apart for p in drifts["a"]["consistency"]] == [1, 3]
