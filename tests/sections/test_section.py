"""Contracts of a section: spots, slide, scale and labels belong together, or the reason is said."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import anndata as ad
import numpy as np
import pandas as pd
import pytest
from PIL import Image

from helpers.toy_cohort import toy_cohort
from hespotex.config import InputChoices
from hespotex.errors import GeometryError, SlideError, SpotTableError
from hespotex.sections.duplicates import check_distinct
from hespotex.sections.manifest import read_manifest
from hespotex.sections.section import ManifestRow, read_section


@pytest.fixture
def row(tmp_path: Path) -> ManifestRow:
    Image.new("RGB", (120, 90), "white").save(tmp_path / "slide.png")
    spots = ["x\ty\tpixel_x\tpixel_y"]
    counts = ["\tG1\tG2"]
    for x in range(5):
        for y in range(4):
            spots.append(f"{x}\t{y}\t{10 + 20 * x}\t{10 + 20 * y}")
            counts.append(f"{x}x{y}\t{x}\t{y + 1}")
    (tmp_path / "spots.tsv").write_text("\n".join(spots))
    (tmp_path / "counts.tsv").write_text("\n".join(counts))
    return ManifestRow(
        section_id="S",
        patient_id="P",
        slide=tmp_path / "slide.png",
        expression=tmp_path / "counts.tsv",
        format="legacy_st",
        spots=tmp_path / "spots.tsv",
        spot_pitch_um=200.0,
        spot_diameter_um=100.0,
    )


def test_a_section_holds_what_its_files_hold(row: ManifestRow) -> None:
    section = read_section(replace(row, extra={"x_batch": "7"}, missing_genes="unmeasured"))
    assert section.n_spots == 20
    assert section.geometry.mpp == pytest.approx(10.0)
    np.testing.assert_allclose(section.xy_um[0], [100, 100])
    assert section.counts is not None
    assert section.counts.toarray()[-1].tolist() == [4, 4]
    assert section.missing_genes == "unmeasured"
    assert section.measured
    assert section.obs is not None
    assert section.obs["x_batch"].tolist() == ["7"] * 20
    assert section.obs.index.tolist() == section.barcodes.tolist()


def test_without_expression_there_are_positions(row: ManifestRow) -> None:
    section = read_section(replace(row, expression=None))
    assert not section.measured
    assert section.genes is None
    assert section.n_spots == 20


def test_labels_are_joined_by_spot_and_misses_are_counted(row: ManifestRow, tmp_path: Path) -> None:
    (tmp_path / "labels.tsv").write_text("spot\tregion\n0x1\tcortex\n0x0\tlayer\n9x9\tnone\n")
    section = read_section(replace(row, labels=tmp_path / "labels.tsv"))
    assert section.obs is not None
    assert section.obs["region"].iloc[:2].tolist() == ["layer", "cortex"]
    assert section.obs["region"].isna().sum() == 18
    assert section.dropped == {"spots without a label (kept)": 18, "labels without a spot": 1}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("spot\tregion\nAAC-1\tx\n", "names of spots such as 0x0 .*found AAC-1"),
        ("spot\tregion\n0x0\tx\n0x0\ty\n", "every spot once in .*found 0x0 again"),
        ("spot\tregion\n", "rows below the header"),
    ],
)
def test_labels_of_another_section_are_refused(
    row: ManifestRow, tmp_path: Path, text: str, message: str
) -> None:
    (tmp_path / "labels.tsv").write_text(text)
    with pytest.raises(SpotTableError, match=f"section S: .*{message}"):
        read_section(replace(row, labels=tmp_path / "labels.tsv"))


def shifted(row: ManifestRow, tmp_path: Path, change: str) -> ManifestRow:
    table = pd.read_csv(row.spots, sep="\t")
    if change == "swapped":
        table["pixel_x"], table["pixel_y"] = table["pixel_y"], table["pixel_x"] + 25
    elif change == "negative":
        table["pixel_x"] -= 15
    else:
        table["pixel_y"] *= 10
    table.to_csv(tmp_path / "moved.tsv", sep="\t", index=False)
    return replace(row, spots=tmp_path / "moved.tsv")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("negative", r"inside slide\.png \(120 x 90 px\), found 4 of 20 outside \(x -5 to 75"),
        ("scaled", r"found 20 of 20 outside .*in full resolution"),
        ("swapped", r"found 8 of 20 outside .*inside with x and y swapped"),
    ],
)
def test_spots_outside_the_image_are_counted_in_the_error(
    row: ManifestRow, tmp_path: Path, change: str, message: str
) -> None:
    with pytest.raises(SpotTableError, match=f"section S: expected all spots of .*{message}"):
        read_section(shifted(row, tmp_path, change))


def test_errors_name_the_section(row: ManifestRow) -> None:
    with pytest.raises(GeometryError, match=r"section S: expected microns per pixel .*set mpp"):
        read_section(replace(row, spot_pitch_um=None))
    with pytest.raises(GeometryError, match=r"section S: .*manifest column mpp: 5, spot pitch"):
        read_section(replace(row, mpp=5.0))
    with pytest.raises(SpotTableError, match=r"section S: .*a slide alone"):
        read_section(replace(row, expression=None, format=None, spots=None))


def test_the_same_section_under_two_ids_is_refused(row: ManifestRow) -> None:
    one, other = read_section(row), read_section(replace(row, section_id="T", patient_id="Q"))
    check_distinct([one])
    with pytest.raises(SpotTableError, match=r"section T: .*positions and counts of S again as T"):
        check_distinct([one, other])


@pytest.mark.parametrize("part", [slice(None, None, -1), slice(0, 40), slice(10, 81)])
def test_a_copy_with_other_positions_order_or_fewer_spots_is_refused(part: slice) -> None:
    sections = [item.section for item in toy_cohort().items]
    spots = np.arange(sections[0].n_spots)[part]
    item = toy_cohort().items[0].spots(spots)
    copied = replace(
        item.section, section_id="Z", patient_id="Z", xy_px0=2 * item.section.xy_px0 + 5
    )
    assert copied.expression_key() not in {s.expression_key() for s in sections}
    with pytest.raises(
        SpotTableError, match=r"counts of \d+ of \d+ spots of A1 again in Z; keep one"
    ):
        check_distinct([*sections, copied])
    check_distinct(sections)


def test_two_formats_of_one_section_give_the_same_section(row: ManifestRow, tmp_path: Path) -> None:
    legacy = read_section(row)
    assert legacy.genes is not None
    ad.AnnData(
        X=legacy.counts.astype(np.float32),
        obs=pd.DataFrame(index=legacy.barcodes.astype(object)),
        var=pd.DataFrame(index=legacy.genes.astype(object)),
        obsm={"spatial": legacy.xy_px0},
    ).write_h5ad(tmp_path / "same.h5ad")
    h5ad = read_section(replace(row, format="h5ad", expression=tmp_path / "same.h5ad", spots=None))
    assert h5ad.expression_key() == legacy.expression_key()
    assert h5ad.geometry == legacy.geometry
    with pytest.raises(SpotTableError, match="again as U"):
        check_distinct([legacy, replace(h5ad, section_id="U")])


def test_a_down_scaled_copy_is_not_taken_for_the_slide(row: ManifestRow, tmp_path: Path) -> None:
    data = ad.AnnData(
        X=np.ones((20, 3), dtype=np.float32) * np.arange(20)[:, None],
        obs=pd.DataFrame(index=[f"s{i}" for i in range(20)]),
        var=pd.DataFrame(index=list("abc")),
        obsm={"spatial": read_section(row).xy_px0 * 4},
        uns={
            "spatial": {
                "lib": {
                    "scalefactors": {"tissue_hires_scalef": 0.25, "microns_per_pixel": 2.5},
                    "metadata": {"software_version": "2.0"},
                }
            }
        },
    )
    data.write_h5ad(tmp_path / "visium.h5ad")
    visium = replace(
        row, format="h5ad", expression=tmp_path / "visium.h5ad", spots=None, spot_pitch_um=None
    )
    with pytest.raises(
        SlideError,
        match=r"section S: .*slide\.png of 120 x 90 px.*hires copy \(0\.25 .*effective 10 um",
    ):
        read_section(visium)
    section = read_section(visium, InputChoices(allow_hires=True))
    assert section.geometry.mpp == pytest.approx(10.0)
    np.testing.assert_allclose(section.xy_px0, read_section(row).xy_px0)


@pytest.mark.slow
def test_real_sections_are_read(shared_data: Path) -> None:
    rows = read_manifest(shared_data / "mob" / "sections.csv").rows
    sections = [read_section(row) for row in rows]
    check_distinct(sections)
    assert [section.n_spots for section in sections] == [264, 237]
    for section in sections:
        assert section.geometry.mpp == pytest.approx(2.76, rel=0.01)
        assert section.obs is not None
        assert "Granular Cell Layer" in set(section.obs["region"])
        assert section.dropped == {}
