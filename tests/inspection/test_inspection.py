"""Contracts of the preflight: what is right is green, what is wrong is named with what to do."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from helpers import made_sections
from helpers.inspected_sections import (
    SIZE,
    counts_of,
    make_section,
    paint,
    save,
    shape,
    spots_on,
    write_legacy,
    write_manifest,
)
from hespotex import pipeline
from hespotex.datasets import make_section_arrays
from hespotex.errors import HESpotExError
from hespotex.geometry import ORIENTATIONS, Geometry, orient
from hespotex.inspection import check_sections, exit_code, inspect_input, refuse_errors, verdict
from hespotex.inspection.findings import Finding
from hespotex.inspection.inputs import resolve_input
from hespotex.inspection.slides import read_thumbnail
from hespotex.slide import open_slide


@pytest.fixture(scope="module")
def slide(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save(paint(shape()), tmp_path_factory.mktemp("slide") / "l.png")


def about(findings: list[Finding] | tuple[Finding, ...], topic: str, colour: str) -> list[Finding]:
    return [f for f in findings if f.topic == topic and f.colour == colour]


# ------------------------------------------------------------------------------------- findings


def test_the_worst_colour_is_the_verdict() -> None:
    levels = {
        "ok": ("green", 0),
        "info": ("green", 0),
        "warning": ("yellow", 1),
        "error": ("red", 2),
    }
    found: list[Finding] = []
    assert verdict(found) == "green"
    for level, (colour, code) in levels.items():
        found.append(Finding("A", "counts", level, "x"))  # type: ignore[arg-type]
        assert (verdict(found), exit_code(found)) == (colour, code)


def test_red_stops_with_every_red_finding_named() -> None:
    refuse_errors([Finding("A", "scale", "warning", "doubtful")])
    red = [Finding(s, "scale", "error", f"wrong {s}", f"cure {s}") for s in "AB"]
    with pytest.raises(
        HESpotExError, match=r"section A: wrong A; cure A \| section B: wrong B; cure B"
    ):
        refuse_errors(red)


# ------------------------------------------------------------------------------------- position


def test_right_positions_are_green(slide: Path) -> None:
    found = check_sections([make_section(slide, spots_on(shape()))])
    assert verdict(found) == "green"
    assert "100 % of spots lie on tissue as given" in about(found, "position", "green")[0].found


@pytest.mark.slow
@pytest.mark.parametrize("name", list(ORIENTATIONS)[1:])
def test_every_wrong_orientation_is_red(slide: Path, name: str) -> None:
    wrong = orient(spots_on(shape()), name, SIZE)
    (red,) = about(check_sections([make_section(slide, wrong)]), "position", "red")
    assert "of spots lie on tissue if corrected" in red.found
    assert "correct the positions" in red.remedy


@pytest.mark.parametrize("factor", [0.5, 0.25, 0.1])
def test_every_wrong_scale_is_red_and_named(slide: Path, factor: float) -> None:
    found = check_sections([make_section(slide, spots_on(shape()) * factor)])
    (red,) = about(found, "position", "red")
    assert f"multiplied by {1 / factor:.4g}" in red.found


@pytest.mark.slow
def test_symmetric_tissue_is_undecidable_not_fine(tmp_path: Path) -> None:
    mask = shape(disc=True)
    path = save(paint(mask), tmp_path / "disc.png")
    (yellow,) = about(check_sections([make_section(path, spots_on(mask))]), "position", "yellow")
    assert "does not tell the orientation" in yellow.found
    assert "overlay" in yellow.remedy


@pytest.mark.slow
def test_counts_tell_the_orientation_of_symmetric_tissue(tmp_path: Path) -> None:
    mask = shape(disc=True)
    y, x = np.mgrid[:900, :1200]
    shade = 1 - 0.5 * (0.7 * x / 1200 + 0.3 * y / 900)
    path = save(paint(mask, shade), tmp_path / "disc.png")
    xy = spots_on(mask)
    depth = 400 * (1 - shade[xy[:, 1].astype(int), xy[:, 0].astype(int)])
    right = check_sections([make_section(path, xy, counts=counts_of(len(xy), depth=depth))])
    assert not about(right, "position", "yellow")
    assert "speaks for the positions as given" in about(right, "position", "green")[0].found
    turned = orient(xy, "turned by 180 degrees", SIZE)
    wrong = check_sections([make_section(path, turned, counts=counts_of(len(xy), depth=depth))])
    assert "speaks for another orientation" in about(wrong, "position", "yellow")[0].found


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "says"),
    [("as given", "the positions as given"), ("turned by 180 degrees", "another orientation")],
)
def test_counts_are_asked_about_the_orientations_that_the_tissue_leaves_open(
    tmp_path: Path, name: str, says: str
) -> None:
    """A section of the demo: its outline rules six orientations out, and leaves a turn open."""
    arrays = make_section_arrays(seed=0, patient=0, section=1)
    path = save(arrays.image, tmp_path / "painted.png")
    height, width = arrays.image.shape[:2]
    section = make_section(
        path,
        orient(arrays.xy_px0, name, (width, height)),
        genes=np.array(arrays.truth.genes),
        counts=arrays.counts,
    )
    scale = Geometry(arrays.mpp, 100.0, 55.0, {"slide tag": arrays.mpp, "spot pitch": arrays.mpp})
    section = replace(section, geometry=scale)
    (found,) = [f for f in check_sections([section]) if f.topic == "position"]
    assert "the tissue does not tell the orientation" in found.found
    assert f"speaks for {says}" in found.found
    assert (found.colour == "green") == (name == "as given")


# ---------------------------------------------------------------------------------------- slides


@pytest.mark.slow
def test_a_reduced_jpeg_looks_as_the_slide_does_turned_by_exif_too(tmp_path: Path) -> None:
    big = np.kron(paint(shape()), np.ones((3, 3, 1), np.uint8))
    exif = Image.Exif()
    exif[274] = 6
    for name, tags in (("plain", None), ("turned", exif)):
        path = tmp_path / f"{name}.jpg"
        Image.fromarray(big).save(path, quality=95, **({"exif": tags} if tags else {}))
        with open_slide(path) as opened:
            quick, whole = read_thumbnail(opened), opened.thumbnail(800)[0]
        assert quick.shape == whole.shape
        assert np.abs(quick.astype(int) - whole).mean() < 2


@pytest.mark.parametrize(
    ("image", "text"),
    [
        (np.repeat(paint(shape()).mean(axis=2).astype(np.uint8)[..., None], 3, axis=2), "grey"),
        (
            np.where((np.arange(1200) > 900)[None, :, None], 0, paint(shape())).astype(np.uint8),
            "black",
        ),
        (paint(shape())[400:560, 100:260], "160 x 160 px"),
    ],
    ids=["grey", "black tiles", "small"],
)
def test_doubtful_images_are_yellow(tmp_path: Path, image: np.ndarray, text: str) -> None:
    path = save(image, tmp_path / "slide.png")
    row = {"section_id": "S", "patient_id": "P", "slide": path.name, "mpp": "2.5"}
    inspection = inspect_input(write_manifest(tmp_path, [row]))
    assert inspection.exit_code == 1
    assert any(text in f.found for f in about(inspection.findings, "slide", "yellow"))


@pytest.mark.parametrize("value", [0, 230, 255])
def test_a_slide_without_tissue_is_red_since_nothing_can_be_predicted_on_it(
    tmp_path: Path, value: int
) -> None:
    path = save(np.full((300, 300, 3), value, np.uint8), tmp_path / "slide.png")
    (red,) = about(inspect_input(path).findings, "slide", "red")
    assert red.found == "no tissue can be told from the background"
    assert "--tissue or --spots" in red.remedy
    spots = make_section(path, spots_on(shape()) / 4)
    yellow = about(check_sections([spots]), "slide", "yellow")  # its spots are given
    assert "no tissue" in " ".join(f.found for f in yellow)


# ---------------------------------------------------------------------------------------- inputs


@pytest.mark.slow
def test_a_broken_section_does_not_hide_the_others(tmp_path: Path) -> None:
    xy = spots_on(shape())
    rows = [write_legacy(tmp_path, name, xy, seed=i) for i, name in enumerate("ABC")]
    (tmp_path / "B_counts.tsv").write_text("")
    (tmp_path / "C.png").write_bytes(b"no image")
    inspection = inspect_input(write_manifest(tmp_path, rows))
    assert [item.verdict for item in inspection.items] == ["green", "red", "red"]
    assert inspection.exit_code == 2
    # The counts of a section whose slide is broken are looked at all the same.
    assert about(inspection.items[2].findings, "counts", "green")


def test_all_problems_of_a_manifest_are_findings(tmp_path: Path) -> None:
    row = write_legacy(tmp_path, "A", spots_on(shape()))
    path = write_manifest(tmp_path, [{**row, "slide": "no.png", "format": "legcy"}])
    found = inspect_input(path).findings
    assert {f.colour for f in found} == {"red"}
    assert all(any(word in f.found for f in found) for word in ("no.png", "legcy"))


@pytest.mark.slow
def test_a_bad_row_of_a_manifest_does_not_hide_the_good_ones(tmp_path: Path) -> None:
    good = write_legacy(tmp_path, "A", spots_on(shape()))
    path = write_manifest(tmp_path, [{**good, "section_id": "B", "mpp": "0,5"}, good])
    inspection = inspect_input(path)
    assert {item.name: item.verdict for item in inspection.items} == {"B": "red", "A": "green"}
    assert inspection.exit_code == 2
    assert "row 2 (section B), column mpp" in inspection.items[0].findings[0].found
    assert inspect_input(path, sections=["A"]).verdict == "green"


@pytest.mark.slow
def test_a_wrong_mpp_names_every_source(tmp_path: Path) -> None:
    row = write_legacy(tmp_path, "A", spots_on(shape()))
    inspection = inspect_input(write_manifest(tmp_path, [{**row, "mpp": "5"}]))
    text = about(inspection.findings, "reading", "red")[0].found
    assert "manifest column mpp: 5" in text
    assert "spot pitch (100 um = 40 px): 2.5" in text


def test_positions_outside_are_weighed_on_the_tissue_too(tmp_path: Path) -> None:
    row = write_legacy(tmp_path, "A", spots_on(shape()) * 4)
    inspection = inspect_input(write_manifest(tmp_path, [row]))
    assert "outside" in about(inspection.findings, "reading", "red")[0].found
    assert "multiplied by 0.25" in about(inspection.findings, "position", "red")[0].found


def test_a_slide_alone_needs_a_scale(tmp_path: Path, slide: Path) -> None:
    inspection = inspect_input(slide)
    assert (inspection.kind, inspection.exit_code) == ("slide", 2)
    (finding,) = about(inspection.findings, "scale", "red")
    assert finding.remedy.startswith("give --mpp")
    known = tmp_path / "known.tif"
    Image.fromarray(paint(shape())).save(known, resolution=2e4, resolution_unit="cm")
    inspection = inspect_input(known)
    assert inspection.exit_code == 0
    assert inspection.as_dict()["sections"][0]["mpp"] == pytest.approx(0.5)


def test_nothing_at_a_path_is_red(tmp_path: Path) -> None:
    inspection = inspect_input(tmp_path / "absent.svs")
    assert inspection.exit_code == 2
    assert "nothing at" in inspection.findings[0].found


def test_a_folder_of_slides_is_told_from_spots(tmp_path: Path, slide: Path) -> None:
    for name in ("b.png", "a.png"):
        (tmp_path / name).write_bytes(slide.read_bytes())
    found = resolve_input(tmp_path)
    assert (found.kind, [row.section_id for row in found.rows]) == ("folder of slides", ["a", "b"])


# -------------------------------------------------------------------------------------- pipeline


class Recording:
    def __init__(self) -> None:
        self.warnings: list[str] = []

    @contextmanager
    def task(self, description: str, total: int) -> Iterator[object]:
        yield lambda _steps: None

    def say(self, message: str) -> None: ...

    def warn(self, message: str) -> None:
        self.warnings.append(message)


@pytest.mark.slow
def test_runs_stop_on_red_and_warn_on_yellow(tmp_path: Path) -> None:
    xy = spots_on(shape())
    right = write_manifest(tmp_path, [write_legacy(tmp_path, "A", xy)])
    reporter = Recording()
    assert len(pipeline.read_sections(right, None, reporter)) == 1  # type: ignore[arg-type]
    assert reporter.warnings == []
    wrong = orient(xy, "turned by 180 degrees", SIZE)
    manifest = write_manifest(tmp_path, [write_legacy(tmp_path, "A", wrong, true_xy_px0=xy)])
    with pytest.raises(HESpotExError, match=r"section A: .*\(turned by 180 degrees\)"):
        pipeline.read_sections(manifest, None, reporter)  # type: ignore[arg-type]
    mask = shape(disc=True)
    disc = write_legacy(tmp_path, "D", spots_on(mask), image=paint(mask))
    pipeline.read_sections(write_manifest(tmp_path, [disc]), None, reporter)  # type: ignore[arg-type]
    assert len(reporter.warnings) == 1
    assert "does not tell the orientation" in reporter.warnings[0]


# ------------------------------------------------------------------------------------- real data


@pytest.mark.slow
@pytest.mark.parametrize(("cohort", "dropped"), [("her2st", 3), ("mob", 0)])
def test_real_cohorts_are_green_with_dropped_spots_said(
    shared_data: Path, cohort: str, dropped: int
) -> None:
    inspection = inspect_input(shared_data / cohort / "sections.csv")
    assert inspection.verdict == "green"
    left_out = [f for f in inspection.findings if f.topic == "left out"]
    assert len(left_out) == dropped
    assert all(item.facts["orientation"] == "as given" for item in inspection.items)


@pytest.mark.slow
def test_visium_without_its_full_image_says_so_with_the_effective_mpp(shared_data: Path) -> None:
    inspection = inspect_input(shared_data / "visium_crc16" / "outs")
    (item,) = inspection.items
    assert inspection.exit_code == 2
    (red,) = about(item.findings, "slide", "red")
    assert "no full-resolution image" in red.found
    assert "aligned_fiducials.jpg 1,871 x 2,000 px: effective 4.516 um per pixel" in red.found
    assert "spaceranger count was given, or stands on the data set's page" in red.remedy
    assert "give a copy as slide with --allow-hires" in red.remedy
    assert list(item.facts["mpp_sources"].values()) == pytest.approx([1.292, 1.295], abs=1e-3)


@pytest.mark.parametrize(
    ("name", "code", "text"),
    [
        ("CMU-1-Small-Region.svs", 0, "0.499 um per pixel (aperio mpp 0.499)"),
        ("boxes.tiff", 2, "expected microns per pixel in the tags"),
        ("boxes_0.dcm", 2, "only 16 x 16 px"),
        ("sm_image_jpegls.dcm", 2, "JPEG-LS lossless"),
    ],
)
def test_given_slides_have_their_true_verdict(
    shared_data: Path, name: str, code: int, text: str
) -> None:
    inspection = inspect_input(shared_data / "wsi" / name)
    assert inspection.exit_code == code
    assert any(text in f.found for f in inspection.findings)


@pytest.mark.slow
@pytest.mark.parametrize(
    "kind", ["space_ranger", "visium_hd", "xenium", "h5ad", "hest", "spatialdata"]
)
@pytest.mark.filterwarnings("ignore")  # of spatialdata's own imports
def test_every_kind_of_spots_is_recognised_and_read(tmp_path: Path, kind: str) -> None:
    source = getattr(made_sections, kind)(tmp_path / "sample", made_sections.KNOWN)
    (row,) = resolve_input(source.expression).rows
    assert row.format == kind
    (item,) = inspect_input(source.expression).items
    if kind == "spatialdata":  # the store says nothing of its scale
        assert "set mpp" in about(item.findings, "reading", "red")[0].remedy
    elif kind == "h5ad":
        assert "expected microns per pixel" in about(item.findings, "reading", "red")[0].found
    else:
        assert not about(item.findings, "reading", "red")
        assert item.facts["mpp"] == pytest.approx(0.5, rel=0.01)
        assert "no full-resolution image was given" in about(item.findings, "slide", "red")[0].found
