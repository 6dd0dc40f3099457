"""Folders and manifests of slides: all are tried, the broken are named, the finished are kept."""

from __future__ import annotations

import contextlib
import os
import pickle
import shutil
import socket
import sys
from pathlib import Path

import anndata
import numpy as np
import pandas as pd
import pytest

from helpers.toy_slide import MPP, write_slide
from hespotex import pipeline
from hespotex.config import InputChoices, Machine
from hespotex.errors import ConfigError, GeometryError, RunError, SlideError
from hespotex.predicting import Cluster, SlideOptions, executor, many_slides, plan_input
from hespotex.progress import Silent

OPTIONS = SlideOptions(mpp=MPP)
MODEL = Path("toy.hespotex")


pytestmark = pytest.mark.usefixtures("toy_model", "blank_pictures")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Two good slides around a broken one, and a file that is no slide."""
    slides = tmp_path / "slides"
    slides.mkdir()
    write_slide(slides / "a.png")
    (slides / "b.tif").write_bytes(b"II*\0 broken")
    shutil.copy(slides / "a.png", slides / "c.png")
    (slides / "notes.md").write_text("x")
    return slides


@pytest.mark.slow
def test_folder_goes_on_after_a_broken_slide_and_ends_with_a_table(
    folder: Path, tmp_path: Path
) -> None:
    result = pipeline.predict(MODEL, folder, tmp_path / "out", options=OPTIONS)
    assert [(s.section_id, s.status) for s in result.slides] == [
        ("a", "done"),
        ("b", "failed"),
        ("c", "done"),
    ]
    assert "expected a whole TIFF file" in result.slides[1].why
    assert result.n_failed == 1
    table = pd.read_csv(tmp_path / "out" / "slides.csv")
    assert table.status.tolist() == ["done", "failed", "done"]
    assert {p.name for p in (tmp_path / "out" / "predictions").iterdir()} == {"a.h5ad", "c.h5ad"}
    again = pipeline.predict(MODEL, folder, tmp_path / "out", options=OPTIONS)
    assert [s.status for s in again.slides] == ["skipped", "failed", "skipped"]
    (folder / "b.tif").unlink()
    mended = pipeline.predict(MODEL, folder, tmp_path / "out", options=OPTIONS)
    assert mended.n_failed == 0
    assert not (tmp_path / "out" / "work").exists()


@pytest.mark.slow
def test_a_link_that_leads_nowhere_is_a_slide_that_failed(folder: Path, tmp_path: Path) -> None:
    (folder / "b.tif").unlink()
    (folder / "b.tif").symlink_to(tmp_path / "moved.tif")
    result = pipeline.predict(MODEL, folder, tmp_path / "out", options=OPTIONS)
    assert [s.status for s in result.slides] == ["done", "failed", "done"]
    assert "No such file" in result.slides[1].why


def test_single_broken_slide_raises(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(SlideError, match="section b: expected a whole TIFF file"):
        pipeline.predict(MODEL, folder / "b.tif", tmp_path / "out", options=OPTIONS)


def test_other_options_on_the_same_folder_are_refused(folder: Path, tmp_path: Path) -> None:
    pipeline.predict(MODEL, folder / "a.png", tmp_path / "out", options=OPTIONS)
    with pytest.raises(RunError, match=r"options\.mpp: 2\.0 there, 1\.0 now"):
        pipeline.predict(MODEL, folder / "a.png", tmp_path / "out", options=SlideOptions(mpp=1.0))


def test_a_folder_where_nothing_was_finished_takes_other_options(
    folder: Path, tmp_path: Path
) -> None:
    with pytest.raises(GeometryError, match="give --mpp"):
        pipeline.predict(MODEL, folder / "a.png", tmp_path / "out")
    result = pipeline.predict(MODEL, folder / "a.png", tmp_path / "out", options=OPTIONS)
    assert result.slides[0].status == "done"


def test_slides_of_one_name_get_names_of_their_own(folder: Path, tmp_path: Path) -> None:
    write_slide(folder / "a.bmp")
    tasks = plan_input(folder, OPTIONS).tasks
    assert [t.section_id for t in tasks] == ["a.bmp", "a.png", "b", "c"]


@pytest.mark.slow
def test_manifest_of_slides_states_scale_and_patient_of_each(folder: Path, tmp_path: Path) -> None:
    manifest = folder / "slides.csv"
    manifest.write_text(
        "section_id,patient_id,slide,mpp,spot_pitch_um\n"
        "one,P1,a.png,2.0,100\n"
        "two,P2,c.png,2.0,200\n"
        "three,P3,c.png,,\n"
    )
    result = pipeline.predict(MODEL, manifest, tmp_path / "out")
    one, two, three = result.slides
    assert (one.status, two.status, three.status) == ("done", "done", "failed")
    assert "give --mpp" in three.why
    assert two.n_spots < one.n_spots / 3
    stored = anndata.read_h5ad(tmp_path / "out" / "predictions" / "two.h5ad")
    assert stored.obs["patient_id"].unique().tolist() == ["P2"]
    assert stored.uns["hespotex"]["mpp"] == 2.0


@pytest.mark.slow
def test_row_with_spots_among_slides_is_predicted_at_them(folder: Path, tmp_path: Path) -> None:
    x, y = np.meshgrid(np.arange(150, 550, 50), np.arange(150, 450, 50))
    spots = pd.DataFrame({"x": x.ravel() // 50, "y": y.ravel() // 50})
    spots = spots.assign(new_x=spots.x, new_y=spots.y, pixel_x=x.ravel(), pixel_y=y.ravel())
    spots.assign(selected=1).to_csv(folder / "spots.tsv", sep="\t", index=False)
    manifest = folder / "mixed.csv"
    rows = (
        "section_id,patient_id,slide,format,spots,mpp,x_age\n"
        "bare,P,a.png,,,2,50\n"
        "spotted,P,c.png,legacy_st,spots.tsv,2,50\n"
    )
    manifest.write_text(rows)
    result = pipeline.predict(MODEL, manifest, tmp_path / "out")
    assert [s.status for s in result.slides] == ["done", "done"]
    stored = anndata.read_h5ad(tmp_path / "out" / "predictions" / "spotted.h5ad")
    assert sorted(map(tuple, stored.obsm["spatial"])) == sorted(
        zip(x.ravel().tolist(), y.ravel().tolist(), strict=True)
    )
    manifest.write_text(rows.replace("spots.tsv,2,50", "spots.tsv,2,51"))
    again = pipeline.predict(MODEL, manifest, tmp_path / "out")
    assert [s.status for s in again.slides] == ["skipped", "done"]
    stored = anndata.read_h5ad(tmp_path / "out" / "predictions" / "spotted.h5ad")
    assert set(stored.obs["x_age"]) == {"51"}


def test_what_is_no_input_is_refused(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(SlideError, match=r"expected slides .* found nothing"):
        plan_input(tmp_path / "empty", OPTIONS)
    (tmp_path / "outs").mkdir()
    with pytest.raises(SlideError, match=r"found Space Ranger's outs.*give a manifest"):
        plan_input(tmp_path, OPTIONS)
    with pytest.raises(ConfigError, match="expected a manifest with --sections, found a slide"):
        plan_input(tmp_path / "a.svs", OPTIONS, ["x"])
    with pytest.raises(SlideError, match="expected a readable slide, found: No such file"):
        pipeline.predict(MODEL, tmp_path / "a.svs", tmp_path / "out")


def test_faulty_files_have_their_true_cause(shared_data: Path, tmp_path: Path) -> None:
    wsi = shared_data / "wsi"
    with pytest.raises(SlideError, match=r"Unsupported transfer syntax .*JPEG-LS lossless"):
        pipeline.predict(MODEL, wsi / "sm_image_jpegls.dcm", tmp_path / "o", options=OPTIONS)
    whole = (wsi / "CMU-1-Small-Region.svs").read_bytes()
    (tmp_path / "cut.svs").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(SlideError, match="cut short"):
        pipeline.predict(MODEL, tmp_path / "cut.svs", tmp_path / "o")


@pytest.mark.slow
def test_real_slides_are_predicted(shared_data: Path, tmp_path: Path) -> None:
    svs = shared_data / "wsi" / "CMU-1-Small-Region.svs"
    result = pipeline.predict(MODEL, svs, tmp_path / "svs")
    assert result.slides[0].n_spots > 50
    stored = anndata.read_h5ad(tmp_path / "svs" / "predictions" / "CMU-1-Small-Region.h5ad")
    assert stored.uns["hespotex"]["mpp"] == 0.499
    boxes = pipeline.predict(
        MODEL, shared_data / "wsi" / "boxes.tiff", tmp_path / "b", options=OPTIONS
    )
    assert boxes.slides[0].status == "done"


@pytest.mark.slow
def test_a_cluster_writes_what_one_process_writes(
    folder: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    from distributed import LocalCluster

    caplog.set_level("CRITICAL", logger="distributed")
    model = tmp_path / "toy.hespotex"
    model.touch()
    serial = pipeline.predict(model, folder, tmp_path / "serial", options=OPTIONS)
    with LocalCluster(
        n_workers=2, threads_per_worker=2, processes=False, dashboard_address="localhost:0"
    ) as local:
        cluster = Cluster(local.scheduler_address)
        shared = pipeline.predict(
            model, folder, tmp_path / "shared", options=OPTIONS, cluster=cluster
        )
    assert shared.slides == serial.slides
    assert [s.status for s in shared.slides] == ["done", "failed", "done"]
    for part in (
        "predictions/a.h5ad",
        "predictions/c.h5ad",
        "figures/c_overview.png",
        "slides.csv",
    ):
        one, other = (tmp_path / way / part for way in ("serial", "shared"))
        assert one.read_bytes() == other.read_bytes(), part


@pytest.mark.slow
def test_workers_are_started_without_a_word_where_somebody_has_dasks_usual_port(
    tmp_path: Path,
) -> None:
    with socket.socket() as somebody:
        with contextlib.suppress(OSError):  # it is taken already
            somebody.bind(("", 8787))
            somebody.listen()
        to_load = executor.ToLoad(tmp_path / "never.hespotex", None, Machine(device="cpu"))
        outcomes = executor.predict_on_cluster(
            Cluster(workers=1), to_load, [], tmp_path, Silent(), lambda _outcome: None
        )
    assert outcomes == []


def test_workers_of_this_machine_share_its_cores_unless_threads_are_asked_for(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(executor, "usable_cores", lambda: 8)
    auto, two = Machine(device="cpu"), Machine(device="cpu", threads=2)
    assert executor.machine_of_worker(Cluster(workers=3), auto, 50).threads == 2
    assert executor.machine_of_worker(Cluster(workers=20), auto, 50).threads == 1
    assert executor.machine_of_worker(Cluster(), auto, 50).threads == 1
    assert executor.machine_of_worker(Cluster(workers=6), auto, 2).threads == 4
    assert executor.machine_of_worker(Cluster(workers=3), two, 50) == two
    assert executor.machine_of_worker(Cluster("tcp://host:8786"), auto, 50) == auto


@pytest.mark.slow
def test_a_slide_whose_name_is_too_long_is_refused_before_it_is_read(
    folder: Path, tmp_path: Path
) -> None:
    (folder / "b.tif").rename(folder / f"{'b' * 151}.tif")
    result = pipeline.predict(MODEL, folder, tmp_path / "out", options=OPTIONS)
    assert [s.status for s in result.slides] == ["done", "failed", "done"]
    assert (
        "name of at most 150 bytes, since files are named by it, found 151" in result.slides[1].why
    )


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="other systems have no such names")
def test_a_slide_whose_name_is_no_text_is_refused_and_stands_in_the_table(
    folder: Path, tmp_path: Path
) -> None:
    (folder / "b.tif").rename(folder / os.fsdecode(b"b\xe4.tif"))
    result = pipeline.predict(MODEL, folder, tmp_path / "out", options=OPTIONS)
    assert [s.status for s in result.slides] == ["done", "failed", "done"]
    assert r"name in UTF-8, found 'b\udce4'" in result.slides[1].why
    table = pd.read_csv(tmp_path / "out" / "slides.csv")
    assert table.section_id.tolist() == ["a", r"b\udce4", "c"]


def test_another_process_may_work_on_another_slide_of_the_folder(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    predict_serially = many_slides.predict_serially

    def predict(*arguments: object) -> object:
        (tmp_path / "out" / "work" / "z").mkdir(parents=True)  # of the other one
        return predict_serially(*arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(many_slides, "predict_serially", predict)
    result = pipeline.predict(MODEL, folder / "a.png", tmp_path / "out", options=OPTIONS)
    assert result.slides[0].status == "done"
    assert (tmp_path / "out" / "work" / "z").is_dir()


def test_what_a_worker_is_sent_survives_pickling(folder: Path) -> None:
    tasks = plan_input(folder, OPTIONS).tasks
    sent = (executor.ToLoad(MODEL, None, Machine(device="cpu")), tasks)
    assert pickle.loads(pickle.dumps(sent)) == sent
    assert pickle.loads(pickle.dumps(executor._predict_on_worker)) is executor._predict_on_worker


@pytest.fixture
def of_sections(tmp_path: Path) -> Path:
    """A manifest whose only row has spots."""
    write_slide(tmp_path / "s.png")
    x, y = np.meshgrid(np.arange(150, 550, 50), np.arange(150, 450, 50))
    pd.DataFrame(
        {"x": x.ravel() // 50, "y": y.ravel() // 50, "pixel_x": x.ravel(), "pixel_y": y.ravel()}
    ).assign(new_x=0, new_y=0, selected=1).to_csv(tmp_path / "s.tsv", sep="\t", index=False)
    manifest = tmp_path / "sections.csv"
    row = "s,P,s.png,legacy_st,s.tsv,2\n"
    manifest.write_text(f"section_id,patient_id,slide,format,spots,mpp\n{row}")
    return manifest


@pytest.mark.parametrize(
    ("name", "options", "cluster"),
    [
        ("--mpp", SlideOptions(mpp=1.0), None),
        ("--tissue", SlideOptions(tissue=Path("t.geojson")), None),
        ("--spots", SlideOptions(spots=Path("s.csv")), None),
        ("--grid", SlideOptions(grid="square"), None),
        ("--spot-pitch-um", SlideOptions(pitch_um=50.0), None),
        ("--spot-diameter-um", SlideOptions(diameter_um=50.0), None),
        ("--max-bad-tiles", SlideOptions(max_bad_tiles=0.5), None),
        ("--workers", SlideOptions(), Cluster(workers=2)),
        ("--scheduler", SlideOptions(), Cluster("tcp://127.0.0.1:9")),
    ],
)
def test_options_without_effect_on_sections_are_refused(
    of_sections: Path, tmp_path: Path, name: str, options: SlideOptions, cluster: Cluster
) -> None:
    with pytest.raises(ConfigError, match=f"slides without spots with {name}, found a manifest"):
        pipeline.predict(MODEL, of_sections, tmp_path / "o", options=options, cluster=cluster)
    assert not (tmp_path / "o").exists()


@pytest.mark.parametrize("source", ["slides", "slides/a.png"])
def test_choices_about_sections_are_refused_for_slides(folder: Path, source: str) -> None:
    options = SlideOptions(mpp=MPP, choices=InputChoices(allow_hires=True))
    with pytest.raises(ConfigError, match="expected a manifest with --allow-hires, found a"):
        plan_input(folder.parent / source, options)


def test_a_worker_finds_a_mask_that_was_named_from_here(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(folder.parent)
    tasks = plan_input(folder / "a.png", SlideOptions(mpp=MPP, nuclei="mask:slides")).tasks
    assert executor._absolute(tasks[0]).options.nuclei == f"mask:{folder}"


def test_a_cluster_that_is_not_there_is_named(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(executor, "_CONNECT_S", 1)
    cluster = Cluster("tcp://127.0.0.1:9")
    with pytest.raises(
        ConfigError, match=r"expected a Dask scheduler at tcp://127\.0\.0\.1:9, found"
    ):
        pipeline.predict(MODEL, folder, tmp_path / "o", options=OPTIONS, cluster=cluster)
    with pytest.raises(ConfigError, match="--scheduler or --workers, found both"):
        Cluster("tcp://127.0.0.1:9", 2)
    with pytest.raises(ConfigError, match="--workers of at least 1, found 0"):
        Cluster(workers=0)
