"""A folder of slides: every kind is found by every verb, and what is passed over is named."""

from __future__ import annotations

import gzip
import json
import shutil
from pathlib import Path

import pytest
import tifffile
from PIL import Image

from helpers.inspected_sections import paint, shape
from hespotex.inspection import inspect_input
from hespotex.inspection.inputs import resolve_input
from hespotex.predicting import SlideOptions
from hespotex.predicting.plan import plan_input
from hespotex.slide import SLIDE_SUFFIXES, slides_in
from hespotex.slide.sources import wsidata_readers

KINDS = ("a.tif", "b.btf", "c.ome.btf", "d.tf8", "e.jp2", "f.PNG", "g.jpeg")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    image, path = paint(shape()), tmp_path / "slides"
    path.mkdir()
    for name in KINDS:
        if name[0] in "abcd":
            resolution = {"resolution": (4000, 4000), "resolutionunit": "CENTIMETER"}
            tifffile.imwrite(path / name, image, photometric="rgb", **resolution)  # type: ignore[arg-type]
        else:
            Image.fromarray(image).save(path / name)
    return path


@pytest.mark.slow
def test_inspect_and_predict_find_the_same_slides(folder: Path) -> None:
    names = [name.rsplit(".", 1)[0] for name in KINDS]
    tasks = plan_input(folder, SlideOptions()).tasks
    assert [task.section_id for task in tasks] == names
    inspection = inspect_input(folder)
    assert [item.name for item in inspection.items] == names
    assert all(item.verdict == "green" for item in inspection.items[:4])
    assert inspection.together == ()


@pytest.mark.slow
def test_slides_of_one_stem_keep_their_endings(folder: Path) -> None:
    shutil.copy(folder / "a.tif", folder / "a.tiff")
    tasks = plan_input(folder, SlideOptions()).tasks
    names = [item.name for item in inspect_input(folder).items]
    assert names[:2] == ["a.tif", "a.tiff"]
    assert [task.section_id for task in tasks] == names


@pytest.mark.slow
def test_what_may_hold_slides_and_is_passed_over_is_named(folder: Path) -> None:
    (folder / "h.tif.gz").write_bytes(gzip.compress((folder / "a.tif").read_bytes()))
    shutil.copy(folder / "a.tif", folder / "scan.img")
    (folder / "more").mkdir()
    shutil.copy(folder / "a.tif", folder / "more" / "z.tif")
    found = slides_in(folder)
    assert [p.name for p in found.doubtful] == ["h.tif.gz", "more", "scan.img"]
    for name in KINDS[4:]:  # without a scale they are red for that
        (folder / name).unlink()
    inspection = inspect_input(folder)
    assert inspection.exit_code == 1
    (finding,) = inspection.together
    assert finding.found.endswith("slides may be in there: h.tif.gz, more/, scan.img")
    assert finding.remedy.startswith("unpack or rename")


@pytest.mark.slow
def test_what_lies_beside_slides_as_a_rule_raises_no_doubt(folder: Path) -> None:
    for name in ("notes.txt", "regions.geojson", "sections.csv", ".DS_Store"):
        (folder / name).write_text("x")
    shutil.make_archive(str(folder / "table"), "zip", folder.parent, "slides/notes.txt")
    (folder / "table.zip").rename(folder / "table.ods")
    predicted = folder / "predicted"
    predicted.mkdir()
    (predicted / "run.json").write_text(json.dumps({}))
    shutil.copy(folder / "a.tif", predicted / "map.tif")
    (folder / "counts.tsv.gz").write_bytes(gzip.compress(b"x"))
    (folder / "slide_data").mkdir()  # as MIRAX has it beside its slide
    (folder / "slide_data" / "Data0000.dat").write_bytes(b"x")
    found = slides_in(folder)
    assert found.doubt is None
    assert found.remark == (
        "passed over, no slides: counts.tsv.gz, notes.txt, regions.geojson, sections.csv, table.ods"
    )
    inspection = inspect_input(folder)
    assert [f.level for f in inspection.together] == ["info"]


def test_endings_are_told_in_any_case() -> None:
    assert all(s == s.lower() and s.startswith(".") for s in SLIDE_SUFFIXES)
    assert len(set(SLIDE_SUFFIXES)) == len(SLIDE_SUFFIXES)


def test_inspect_and_predict_take_every_ending_and_no_other(tmp_path: Path) -> None:
    taken = [f"{n:02d}{s}" for n, s in enumerate(SLIDE_SUFFIXES)]
    taken += [f"{n + 50}{s.upper()}" for n, s in enumerate(SLIDE_SUFFIXES)]
    others = ["x", "x.gif", "x.pdf", "x.svs.part", "x.json", "svs"]
    for name in (*taken, *others):
        (tmp_path / name).write_bytes(b"x")
    planned = [task.slide.name for task in plan_input(tmp_path, SlideOptions()).tasks]
    looked_at = [row.slide.name for row in resolve_input(tmp_path).rows if row.slide is not None]
    assert planned == looked_at == sorted(taken)


def test_every_ending_that_a_reader_opens_is_a_slide() -> None:
    for reader in wsidata_readers():
        endings = {Path(f"s{ending.lower()}").suffix for ending in reader.extensions or ()}
        assert endings - {".zarr"} <= set(SLIDE_SUFFIXES), (
            reader.__name__
        )  # stores are told by what they hold
