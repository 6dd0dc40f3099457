"""One slide from file to files: equal to a section, resumable, honest about faults, open to other tools."""

from __future__ import annotations

import errno
import json
import threading
from dataclasses import replace
from pathlib import Path

import anndata
import h5py
import numpy as np
import pandas as pd
import pytest
import shapely
import tifffile

from helpers.broken_pixels import break_pixels
from helpers.toy_slide import MPP, ToyEncoder, graded, toy_trust, write_slide
from hespotex.errors import GenePanelError, RunError, SlideError
from hespotex.export.h5ad import read_prediction, write_prediction
from hespotex.features.encode import encode_section
from hespotex.models.predict import predict_expression
from hespotex.predicting import Predictor, SlideOptions, SlideTask, predict_slide
from hespotex.predicting import decode as decoding
from hespotex.sections.section import Geometry, Section
from hespotex.slide import Slide, open_slide

pytestmark = pytest.mark.usefixtures("blank_pictures")

OPTIONS = SlideOptions(mpp=MPP)


def _task(slide: Path, **options: object) -> SlideTask:
    return SlideTask("s", slide, replace(OPTIONS, **options))  # type: ignore[arg-type]


def _prediction(out: Path) -> Path:
    return out / "predictions" / "s.h5ad"


@pytest.mark.slow
@pytest.mark.usefixtures("small_chunks")
def test_bare_slide_on_a_sections_spots_equals_the_section(
    predictor: Predictor, slide: Path, tmp_path: Path
) -> None:
    rng = np.random.default_rng(4)
    xy = rng.uniform(60, 540, size=(70, 2)).round(2)
    section = Section(
        section_id="s",
        patient_id="p",
        slide=slide,
        geometry=Geometry(MPP, 100.0, 55.0),
        barcodes=np.array([f"b{i}" for i in range(70)]),
        xy_px0=xy,
        counts=None,
        genes=None,
    )
    features = encode_section(section, ToyEncoder(), predictor.plan, cache_dir=tmp_path / "c")
    whole = predict_expression(predictor.bundle.model, features.values, section.xy_um)
    table = pd.DataFrame({"spot": section.barcodes, "x": xy[:, 0], "y": xy[:, 1]})
    table.to_csv(tmp_path / "spots.csv", index=False)
    predict_slide(
        predictor,
        _task(slide, spots=tmp_path / "spots.csv", pitch_um=100.0, all_genes=True),
        tmp_path,
    )
    found = anndata.read_h5ad(_prediction(tmp_path))[list(section.barcodes)]
    np.testing.assert_allclose(found.X, whole.log1p, atol=1e-5)
    np.testing.assert_allclose(found.layers["composition"], whole.composition, atol=1e-5)
    np.testing.assert_allclose(found.obs["predicted_depth"], whole.depth, rtol=1e-5)
    extras = toy_trust().extras(whole, features.values, features.appearance)
    np.testing.assert_allclose(found.layers["upper"], extras.upper, atol=1e-5)
    np.testing.assert_allclose(found.obs["ood_score"], extras.ood_score, rtol=1e-4)
    record = found.uns["hespotex"]
    assert (record["ood_verdict"], record["mpp"]) == (extras.verdict, MPP)


@pytest.mark.slow
@pytest.mark.usefixtures("small_chunks")
def test_file_written_by_chunks_is_that_of_write_prediction(
    predictor: Predictor, slide: Path, tmp_path: Path
) -> None:
    genes = predictor.bundle.genes
    grades = dict(zip(genes, "ABCD" * len(genes), strict=False))
    chosen = replace(predictor, bundle=graded(predictor.bundle, grades))
    predict_slide(chosen, _task(slide, all_genes=True), tmp_path)
    stored = read_prediction(_prediction(tmp_path))
    table = anndata.read_h5ad(_prediction(tmp_path))
    section = Section(
        section_id="s",
        patient_id="unknown",
        slide=slide,
        geometry=Geometry(MPP, 100.0, 55.0),
        barcodes=stored.barcodes,
        xy_px0=stored.xy_px0,
        counts=None,
        genes=None,
        array_xy=table.obs[["array_x", "array_y"]].to_numpy(),
    )
    from hespotex.models.types import Prediction

    made_by = {k: v for k, v in table.uns["hespotex"].items() if k not in {"units"}}
    write_prediction(
        tmp_path / "whole.h5ad",
        section=section,
        genes=genes,
        prediction=Prediction(stored.log1p, stored.composition, stored.depth),
        thumbnail=stored.thumbnail,
        provenance=made_by,
        extras=stored.extras,
    )
    assert _content(tmp_path / "whole.h5ad") == _content(_prediction(tmp_path))


def _content(path: Path) -> dict[str, object]:
    """Every data set and attribute of an HDF5 file."""
    found: dict[str, object] = {}

    def keep(name: str, item: h5py.Group | h5py.Dataset) -> None:
        attributes = {k: str(v) for k, v in item.attrs.items()}
        value = item[()] if isinstance(item, h5py.Dataset) else None
        found[name] = (attributes, None if value is None else np.asarray(value).tolist())

    with h5py.File(path) as file:
        found[""] = {k: str(v) for k, v in file.attrs.items()}
        file.visititems(keep)
    return {k: json.dumps(v, default=str) for k, v in found.items()}


@pytest.mark.slow
@pytest.mark.usefixtures("small_chunks")
@pytest.mark.parametrize("moment", ["encoding", "decoding", "writing"])
def test_interrupted_run_goes_on_and_equals_the_uninterrupted_one_bit_for_bit(
    predictor: Predictor,
    slide: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    moment: str,
) -> None:
    task = _task(slide, formats=("geojson", "parquet"))
    predict_slide(predictor, task, tmp_path / "whole")
    calls: dict[str, int] = {"encode": 0, "decode": 0}

    def after(name: str, limit: int, call: object) -> object:
        def counted(*args: object, **kwargs: object) -> object:
            calls[name] += 1
            if calls[name] > limit:
                raise KeyboardInterrupt
            return call(*args, **kwargs)  # type: ignore[operator]

        return counted

    with monkeypatch.context() as patch:
        if moment == "encoding":
            patch.setattr(ToyEncoder, "encode", after("encode", 3, ToyEncoder.encode))
        elif moment == "decoding":
            broken = after("decode", 2, decoding.predict_expression)
            patch.setattr(decoding, "predict_expression", broken)
        else:
            from hespotex.predicting import outputs

            patch.setattr(outputs, "write_prediction_by_chunks", after("encode", 0, print))
        with pytest.raises(KeyboardInterrupt) as kept:
            predict_slide(predictor, task, tmp_path / "cut")
    assert kept.value is not None
    assert "hespotex-patches" not in {t.name for t in threading.enumerate()}
    assert not _prediction(tmp_path / "cut").exists()
    n_batches = _count_batches(monkeypatch)
    result = predict_slide(predictor, task, tmp_path / "cut")
    total = -(-result.n_spots // 16)
    assert n_batches[0] == (total - 3 if moment == "encoding" else 0)
    for part in ("predictions/s.h5ad", "predictions/s.geojson", "figures/s_overview.png"):
        whole, cut = (tmp_path / name / part for name in ("whole", "cut"))
        assert whole.read_bytes() == cut.read_bytes(), part
    assert not (tmp_path / "cut" / "work" / "s").exists()


def _count_batches(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    count, original = [0], ToyEncoder.encode

    def counted(self: ToyEncoder, patches: np.ndarray) -> np.ndarray:
        count[0] += 1
        return original(self, patches)

    monkeypatch.setattr(ToyEncoder, "encode", counted)
    return count


@pytest.mark.slow
def test_damaged_and_foreign_chunks_are_made_again(
    predictor: Predictor, slide: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    predict_slide(predictor, _task(slide), tmp_path / "whole")

    def stop(*_args: object, **_kwargs: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(decoding, "predict_expression", stop)
        with pytest.raises(KeyboardInterrupt):
            predict_slide(predictor, _task(slide), tmp_path / "cut")
    chunk = next((tmp_path / "cut" / "work" / "s" / "features").iterdir())
    chunk.write_bytes(chunk.read_bytes()[:1000])
    predict_slide(predictor, _task(slide), tmp_path / "cut")
    assert (
        _prediction(tmp_path / "whole").read_bytes() == _prediction(tmp_path / "cut").read_bytes()
    )


def test_finished_slide_is_skipped_and_another_option_is_not(
    predictor: Predictor, slide: Path, tmp_path: Path
) -> None:
    first = predict_slide(predictor, _task(slide), tmp_path)
    again = predict_slide(predictor, _task(slide), tmp_path)
    assert (first.skipped, again.skipped) == (False, True)
    assert again.n_spots == first.n_spots
    other = predict_slide(predictor, _task(slide, pitch_um=150.0), tmp_path)
    assert not other.skipped
    assert other.n_spots < first.n_spots


@pytest.mark.slow
@pytest.mark.usefixtures("small_chunks")
def test_unreadable_tiles_are_marked_and_counted(
    predictor: Predictor, slide: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    break_pixels(monkeypatch, lambda y: y < 80)
    result = predict_slide(predictor, _task(slide, max_bad_tiles=0.2, all_genes=True), tmp_path)
    table = anndata.read_h5ad(_prediction(tmp_path))
    bad = table.obs["bad_tile"].to_numpy(bool)
    assert 0 < result.n_bad == bad.sum() < 0.2 * len(bad)
    assert (table.obsm["spatial"][bad][:, 1] < 80 + 50).all()
    assert np.isnan(table.X[bad]).all()
    assert np.isfinite(table.X[~bad]).all()
    assert not table.obs["ood"][bad].any()
    assert table.uns["hespotex"]["dropped"]["spots with unreadable pixels (NaN)"] == result.n_bad


@pytest.mark.usefixtures("small_chunks")
def test_too_many_unreadable_tiles_stop_with_the_first_cause_and_keep_what_is_done(
    predictor: Predictor, slide: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        break_pixels(patch, lambda y: y < 80)
        match = r"section s: expected at most 1\.00% of \d+ spots unreadable \(--max-bad-tiles\), found \d+; the first: .*damage"
        with pytest.raises(SlideError, match=match):
            predict_slide(predictor, _task(slide), tmp_path)
    assert any((tmp_path / "work" / "s" / "features").iterdir())
    assert not _prediction(tmp_path).exists()


@pytest.fixture
def damaged(slide: Path, tmp_path: Path) -> Path:
    """The slide without a pyramid, the tile in its upper left corner zeroed: its thumbnail has a hole, too."""
    path = tmp_path / "damaged.tif"
    with open_slide(slide, mpp=MPP) as whole:
        size = whole.width_px0, whole.height_px0
        pixels = whole.read_region(0, 0, *size, *size)
    tifffile.imwrite(path, pixels, tile=(64, 64), compression="jpeg", photometric="rgb")
    with tifffile.TiffFile(path) as file:
        page = file.pages[0]
        start, length = page.dataoffsets[0], page.databytecounts[0]
    content = bytearray(path.read_bytes())
    content[start : start + length] = bytes(length)
    path.write_bytes(content)
    return path


@pytest.mark.slow
@pytest.mark.usefixtures("small_chunks")
def test_a_damaged_tile_on_the_only_level_leaves_a_hole(
    predictor: Predictor, damaged: Path, tmp_path: Path
) -> None:
    with open_slide(damaged, mpp=MPP) as slide:
        with pytest.raises(SlideError, match="damaged"):
            slide.thumbnail(300)
        with pytest.raises(SlideError, match="damaged"):
            slide.read_region(32, 0, 64, 64, 64, 64)
        assert slide.read_region(64, 0, 64, 64, 64, 64).min() < 255
        rgb, scale, share = slide.thumbnail_around_holes(300)
        side = int(64 / scale)
        assert (rgb[: side - 8, : side - 8] == 255).all()
        assert rgb.shape[1] == 300
        tile = 64 * 64 / (slide.width_px0 * slide.height_px0)
        assert tile <= share < 2 * tile  # whole blocks of the thumbnail are left white
        assert rgb[-8:, -8:].min() < 255
    with pytest.raises(SlideError, match=r"at most 1\.00% of damaged\.tif unreadable .* found \d+"):
        predict_slide(predictor, _task(damaged), tmp_path)
    result = predict_slide(predictor, _task(damaged, max_bad_tiles=1.0), tmp_path)
    assert result.n_spots > 0
    assert "of the slide cannot be read: no tissue is looked for there" in result.note


def test_a_slide_without_a_readable_pixel_is_an_error(
    slide: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def read(_self: Slide, *_box: float) -> np.ndarray:
        raise SlideError("expected pixels, found damage")

    monkeypatch.setattr(Slide, "read_region", read)
    with open_slide(slide, mpp=MPP) as opened, pytest.raises(SlideError, match="found damage"):
        opened.thumbnail_around_holes(64)


def test_full_disk_is_one_line_and_keeps_what_is_done(
    predictor: Predictor, slide: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import safetensors.numpy

    def full(*_args: object, **_kwargs: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(safetensors.numpy, "save_file", full)
    match = r"expected to write .*chunk-000000\.safetensors, found: No space left on device; free space .* kept"
    with pytest.raises(RunError, match=match):
        predict_slide(predictor, _task(slide), tmp_path)


def test_slide_without_tissue_is_no_success(predictor: Predictor, tmp_path: Path) -> None:
    blank = write_slide(tmp_path / "blank.png", np.full((300, 400, 3), 240, np.uint8))
    with pytest.raises(SlideError, match=r"section s: expected tissue on blank.png, found none"):
        predict_slide(predictor, _task(blank, formats=("geojson", "parquet")), tmp_path)
    assert not _prediction(tmp_path).exists()


@pytest.mark.slow
def test_exports_hold_the_chosen_genes_and_open_in_other_libraries(
    predictor: Predictor, slide: Path, tmp_path: Path
) -> None:
    import warnings

    genes = (predictor.bundle.genes[5], predictor.bundle.genes[2])
    task = _task(slide, genes=genes, formats=("geojson", "parquet", "spatialdata"), untested=True)
    predict_slide(predictor, task, tmp_path)
    table = anndata.read_h5ad(_prediction(tmp_path))
    folder = tmp_path / "predictions"
    collection = json.loads((folder / "s.geojson").read_text())
    centres = np.array(
        [shapely.geometry.shape(f["geometry"]).centroid.coords[0] for f in collection["features"]]
    )
    np.testing.assert_allclose(centres, table.obsm["spatial"], atol=0.01)
    measured = collection["features"][3]["properties"]["measurements"]
    shown = table[:, list(genes)].layers["composition"]
    name = next(n for n in measured if n.startswith(f"{genes[0]} composition"))
    assert measured[name] == pytest.approx(shown[3, 0], abs=1e-4)
    frame = pd.read_parquet(folder / "s.parquet")
    np.testing.assert_array_equal(frame[genes[1]], shown[:, 1])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import spatialdata

        store = spatialdata.read_zarr(folder / "s.zarr")
    assert list(store.tables["hespotex_spots"].var["gene"]) == list(genes)
    assert len(store.shapes["spots"]) == len(table)


def test_unknown_gene_is_refused_before_the_work(
    predictor: Predictor, slide: Path, tmp_path: Path
) -> None:
    with pytest.raises(GenePanelError, match="found none: NOPE is not in this model's panel"):
        predict_slide(predictor, _task(slide, genes=("NOPE",)), tmp_path)
    assert not (tmp_path / "work").exists()


def test_batches_never_straddle_chunks() -> None:
    from hespotex.features.encode import BATCH
    from hespotex.predicting.store import CHUNK_SPOTS

    assert CHUNK_SPOTS % BATCH == 0
