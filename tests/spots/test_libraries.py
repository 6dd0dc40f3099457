"""Several sections in one table are named and one can be chosen; one section in any dress passes."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import anndata as ad
import numpy as np
import pandas as pd
import pytest
from scipy import sparse

from helpers.made_sections import KNOWN, Known, positions, space_ranger, write_10x_h5, write_scale
from hespotex.errors import SpotTableError
from hespotex.sections.manifest import read_manifest
from hespotex.sections.section import ManifestRow, Section, read_section
from hespotex.spots.base import SpotSource, SpotTable
from hespotex.spots.registry import read_spots

N = 64
DNA = np.array(["".join("ACGT"[(i // 4**k) % 4] for k in range(8)) for i in range(N)])


def lattice(shift: tuple[float, float] = (0.0, 0.0), angle: float = 0.0) -> np.ndarray:
    y, x = np.divmod(np.arange(N), 8)
    xy = np.stack([100.0 * (x + 0.5 * (y % 2)), 86.60254 * y], axis=1)
    turn = np.array([[np.cos(angle), np.sin(angle)], [-np.sin(angle), np.cos(angle)]])
    return xy @ turn + 200.0 + np.array(shift)


def table(xy: np.ndarray, names: np.ndarray, seed: int = 0, **obs: object) -> ad.AnnData:
    counts = np.random.default_rng(seed).poisson(3.0, (len(xy), 5)) + 1
    made = ad.AnnData(
        sparse.csr_matrix(counts.astype(np.float32)),
        obs=pd.DataFrame(obs, index=names.astype(object)),
        var=pd.DataFrame(index=[f"G{i}" for i in range(5)]),
    )
    made.obsm["spatial"] = xy
    return made


def spots(kind: str) -> np.ndarray:
    return np.array([f"{kind}{i}" for i in range(N)])


def read(made: ad.AnnData, folder: Path, library: str | None = None) -> Section:
    made.write_h5ad(folder / "t.h5ad")
    return read_section(
        ManifestRow("S", "P", None, folder / "t.h5ad", "h5ad", mpp=1.0, library=library)
    )


def both(shift: tuple[float, float] = (31.0, 17.0), **kwargs: object) -> ad.AnnData:
    """Two sections as `anndata.concat` joins them."""
    one, other = table(lattice(), DNA), table(lattice(shift), DNA, seed=1)
    return ad.concat([one, other], keys=["V_A", "V_B"], **kwargs)


SEVERAL = {
    "names with the library behind them": (both(label="library_id", index_unique="-"), "obs['library_id'] (V_A, V_B)"),
    "a column of any name": (both(label="where from", index_unique="-"), "the endings of barcodes (V_A, V_B)"),
    "no column": (both(index_unique="-"), "the endings of barcodes (V_A, V_B)"),
}  # fmt: skip


@pytest.mark.parametrize("kind", SEVERAL)
def test_libraries_of_a_table_are_named_and_each_can_be_chosen(kind: str, tmp_path: Path) -> None:
    made, where = SEVERAL[kind]
    with pytest.raises(SpotTableError) as raised:
        read(made, tmp_path)
    assert f"found 2 libraries in {where}: 64 barcodes stand there twice; choose one" in str(
        raised.value
    )
    for library, xy in (("V_A", lattice()), ("V_B", lattice((31.0, 17.0)))):
        section = read(made, tmp_path, library)
        np.testing.assert_array_equal(section.xy_px0, xy)
        assert section.counts is not None
        of = made[made.obs_names.isin(section.barcodes)]
        assert section.counts.sum() == of.X.sum()
    with pytest.raises(SpotTableError, match=r"expected the library V_C in .*found V_A, V_B"):
        read(made, tmp_path, "V_C")


@pytest.mark.filterwarnings("ignore:Observation names are not unique")
def test_equal_names_of_two_sections_are_no_obstacle(tmp_path: Path) -> None:
    made = both(label="sample")
    with pytest.raises(SpotTableError, match=r"2 libraries in obs\['sample'\]"):
        read(made, tmp_path)
    section = read(made, tmp_path, "V_B")
    assert section.barcodes.tolist() == DNA.tolist()
    np.testing.assert_array_equal(section.xy_px0, lattice((31.0, 17.0)))


def library(scale: float) -> dict[str, object]:
    factors = {"tissue_hires_scalef": scale, "microns_per_pixel": 1.0}
    return {"scalefactors": factors, "metadata": {"software_version": "2.0"}}


def test_the_files_own_list_of_libraries_counts_and_gives_the_scale(tmp_path: Path) -> None:
    made = table(lattice(), spots("s"), library_id=["A", "B"] * (N // 2))
    made.uns["spatial"] = {"A": library(0.1), "B": library(0.2)}
    with pytest.raises(SpotTableError, match=r"obs\['library_id'\] \(A, B\): the file itself"):
        read(made, tmp_path)
    assert read(made, tmp_path, "B").image_scales == {"hires": 0.2}


@pytest.mark.parametrize("label", [None, "batch"])
def test_lattices_that_overlap_are_two_sections(tmp_path: Path, label: str | None) -> None:
    for second in (lattice((31.0, 17.0)), 1.01 * lattice((140.0, 90.0), angle=0.01)):
        names = np.concatenate([spots("a"), spots("b")])
        made = table(np.concatenate([lattice(), second]), names)
        if label:
            made.obs[label] = ["1"] * N + ["2"] * N
        where = r"found 2 libraries in obs\['batch'\] \(1, 2\)" if label else "found several"
        with pytest.raises(SpotTableError, match=f"{where}: its spots form 2 lattices that over"):
            read(made, tmp_path)


@pytest.mark.parametrize("column", ["array", "position"])
def test_places_that_stand_there_twice_are_two_sections(tmp_path: Path, column: str) -> None:
    y, x = np.divmod(np.arange(N), 8)
    names = np.concatenate([spots("a"), spots("b")])
    if column == "array":
        xy, obs = np.concatenate([lattice(), lattice((2000, 0))]), {"array_row": [*y] * 2, "array_col": [*x] * 2}  # fmt: skip
    else:
        xy, obs = np.concatenate([lattice(), lattice()]), {}
    with pytest.raises(SpotTableError, match=r"found several: 64 .*; write one table a section"):
        read(table(xy, names, **obs), tmp_path)


def cells(seed: int, shift: float = 0.0) -> np.ndarray:
    return np.random.default_rng(seed).uniform(0, 1000, (N, 2)) + np.array([shift, 0])


def test_cells_of_two_samples_are_two_sections_where_they_overlap_alone(tmp_path: Path) -> None:
    names = np.concatenate([spots("a"), spots("b")])
    sample = ["1"] * N + ["2"] * N
    over = table(np.concatenate([cells(0), cells(1)]), names, sample=sample)
    with pytest.raises(SpotTableError, match=r"obs\['sample'\] \(1, 2\): their spots overlap"):
        read(over, tmp_path)
    assert read(over, tmp_path, "2").n_spots == N
    beside = table(np.concatenate([cells(0), cells(1, 1500.0)]), names, sample=sample)
    assert read(beside, tmp_path).n_spots == 2 * N


def pieces() -> ad.AnnData:
    left = (np.arange(N) % 8) < 4
    return table(lattice(), np.char.add(DNA, "-1"), sample=np.where(left, "left", "right"))


ONE = {
    "barcodes of one library": table(lattice(), np.char.add(DNA, "-1")),
    "the second library of aggr": table(lattice(), np.char.add(DNA, "-2")),
    "a constant column left of a concat": table(lattice(), np.char.add(DNA, "-1-V_A"), library_id="V_A"),
    "two pieces of tissue that are two samples": pieces(),
    "labels that interlock on one lattice": table(lattice(), spots("s"), sample=["a", "b"] * (N // 2)),
    "bins": table(lattice(), np.array([f"s_008um_{i:05d}_00001-1" for i in range(N)])),
    "cells": table(cells(0), spots("cell-")),
    "spots without a place, at 0, 0": table(np.where(np.arange(N)[:, None] < 20, 0.0, cells(3)), spots("s")),
    "a few cells in one pixel": table(np.concatenate([cells(0)[:-2], cells(0)[:2]]), spots("cell-")),
    "two lattices side by side": table(np.concatenate([lattice()[:40], lattice((1333, 0), 0.2)[:40]]),
                                       np.concatenate([spots("a")[:40], spots("b")[:40]])),
}  # fmt: skip


@pytest.mark.parametrize("kind", ONE)
def test_one_section_passes(kind: str, tmp_path: Path) -> None:
    assert read(ONE[kind], tmp_path).n_spots == ONE[kind].n_obs


def test_libraries_left_in_uns_by_a_subset_pass(tmp_path: Path) -> None:
    made = table(lattice(), np.char.add(DNA, "-1"), library_id="B")
    made.uns["spatial"] = {"A": library(0.1), "B": library(0.2)}
    assert read(made, tmp_path).image_scales == {"hires": 0.2}
    del made.uns["spatial"]["A"]
    assert read(made, tmp_path).image_scales == {"hires": 0.2}
    assert read(made, tmp_path, "B").n_spots == N


def clustered(**obs: object) -> ad.AnnData:
    """One section with clusters 0 to 3, or 0 and 1."""
    return table(lattice(), np.char.add(DNA, "-7"), **obs)


@pytest.mark.parametrize("ids", [["1"], ["0", "1", "2", "3"]])
def test_a_library_is_never_taken_from_a_column_of_clusters(tmp_path: Path, ids: list[str]) -> None:
    made = clustered(leiden=pd.Categorical([str(i % 4) for i in range(N)]))
    made.uns["spatial"] = {name: library(0.1) for name in ids}
    assert read(made, tmp_path, "1").n_spots == N
    assert read(made, tmp_path).n_spots == N
    with pytest.raises(SpotTableError, match="expected the library 9"):
        read(made, tmp_path, "9")
    del made.uns["spatial"]
    with pytest.raises(SpotTableError, match=r"expected the library 1 in .*, found 7; correct the"):
        read(made, tmp_path, "1")


def test_a_column_about_samples_is_chosen_from_beside_clusters(tmp_path: Path) -> None:
    half = [str(i // (N // 2)) for i in range(N)]
    made = clustered(leiden=[str(i % 2) for i in range(N)], **{"patient-section": half})
    assert read(made, tmp_path, "1").barcodes.tolist() == [*made.obs_names[N // 2 :]]


def test_the_only_library_of_a_table_has_its_name(tmp_path: Path) -> None:
    made = clustered(library_id="A")
    assert read(made, tmp_path, "A").n_spots == read(made, tmp_path, "7").n_spots == N
    with pytest.raises(SpotTableError, match=r"expected the library Z in .*, found 7, A; correct"):
        read(made, tmp_path, "Z")


def test_lattices_that_a_column_of_another_name_tells_apart_ask_for_its_name(
    tmp_path: Path,
) -> None:
    names = np.concatenate([spots("a"), spots("b")])
    made = table(np.concatenate([lattice(), lattice((31.0, 17.0))]), names, x=["A"] * N + ["B"] * N)
    with pytest.raises(SpotTableError, match=r"2 that obs\['x'\] .*; name this column library_id"):
        read(made, tmp_path)
    made.obs = made.obs.rename(columns={"x": "library_id"})
    assert read(made, tmp_path, "B").n_spots == N


# ------------------------------------------------------------------------- Space Ranger's aggr


def numbered(known: Known, number: int) -> Known:
    names = [f"{name.rpartition('-')[0]}-{number}" for name in known.barcodes]
    return replace(known, barcodes=names)


def aggregated(folder: Path, *, listed: bool = True, folders: bool = False) -> Path:
    """The outs of `aggr` over the known section and one moved by 7 pixels."""
    outs = folder / "outs"
    parts = [numbered(KNOWN, 1), replace(numbered(KNOWN, 2), xy_px0=KNOWN.xy_px0 + 7)]
    whole = replace(
        KNOWN,
        barcodes=[name for part in parts for name in part.barcodes],
        counts=np.vstack([KNOWN.counts, KNOWN.counts[::-1]]),
    )
    (outs / "spatial").mkdir(parents=True)
    write_10x_h5(outs / "filtered_feature_bc_matrix.h5", whole)
    if listed:
        (outs / "aggregation.csv").write_text("library_id,molecule_h5\nliver,a.h5\nlung,b.h5\n")
    for name, part in zip(("liver", "lung"), parts, strict=True):
        own = outs / "spatial" / name
        own.mkdir()
        write_scale(own / "scalefactors_json.json")
        if folders:  # there, barcodes are those of the library alone
            first = numbered(part, 1)
            positions(first).to_csv(own / "tissue_positions.csv", index=False)
    if not folders:
        joined = pd.concat([positions(part, outside=0) for part in parts])
        joined.to_csv(outs / "aggr_tissue_positions.csv", index=False)
    return outs


def counts(found: SpotTable) -> np.ndarray:
    assert found.counts is not None
    return np.asarray(found.counts.toarray())


@pytest.mark.parametrize("folders", [False, True])
def test_each_library_of_aggr_can_be_read(tmp_path: Path, folders: bool) -> None:
    outs = aggregated(tmp_path, folders=folders)
    with pytest.raises(
        SpotTableError, match=r"2 libraries in the endings .* \(liver, lung\): .*-2"
    ):
        read_spots("space_ranger", SpotSource(expression=outs))
    for wanted in ("lung", "2"):
        found = read_spots("space_ranger", SpotSource(expression=outs, library=wanted))
        np.testing.assert_array_equal(found.xy_px0, KNOWN.xy_px0 + 7)
        np.testing.assert_array_equal(counts(found), KNOWN.counts[::-1])
        assert found.hints.image_scales["hires"] == 0.25
    with pytest.raises(SpotTableError, match=r"expected the library skin .*found liver, lung"):
        read_spots("space_ranger", SpotSource(expression=outs, library="skin"))


@pytest.mark.parametrize("folders", [False, True])
def test_a_library_is_meant_by_its_name_before_its_number(tmp_path: Path, folders: bool) -> None:
    outs = aggregated(tmp_path)
    (outs / "aggregation.csv").write_text("library_id,molecule_h5\n2,a.h5\n1,b.h5\n")
    if folders:  # of another scale: only the own folder of a library may speak of it
        for name, scale in (("1", 0.5), ("2", 0.125)):
            (outs / "spatial" / name).mkdir()
            factors = outs / "spatial" / name / "scalefactors_json.json"
            write_scale(factors, tissue_hires_scalef=scale)
    for wanted, shift, scale in (("2", 0, 0.125), ("1", 7, 0.5)):
        found = read_spots("space_ranger", SpotSource(expression=outs, library=wanted))
        np.testing.assert_array_equal(found.xy_px0, KNOWN.xy_px0 + shift)
        assert not folders or found.hints.image_scales["hires"] == scale
    (outs / "aggregation.csv").write_text("library_id,molecule_h5\n2,a.h5\n2,b.h5\n")
    with pytest.raises(
        SpotTableError, match=r"one library named 2 .*found 2 \(numbers 1, 2\); give"
    ):
        read_spots("space_ranger", SpotSource(expression=outs, library="2"))


def test_without_its_table_libraries_go_by_number(tmp_path: Path) -> None:
    outs = aggregated(tmp_path, listed=False)
    with pytest.raises(SpotTableError, match=r"endings of barcodes \(1, 2\)"):
        read_spots("space_ranger", SpotSource(expression=outs))
    found = read_spots("space_ranger", SpotSource(expression=outs, library="1"))
    np.testing.assert_array_equal(counts(found), KNOWN.counts)


def test_positions_of_several_libraries_are_stopped_too(tmp_path: Path) -> None:
    outs = aggregated(tmp_path)
    source = SpotSource(spots=outs / "aggr_tissue_positions.csv")
    with pytest.raises(SpotTableError, match=r"2 libraries in the endings of barcodes"):
        read_spots("space_ranger", source)
    assert read_spots("space_ranger", replace(source, library="lung")).n_spots == 30
    one = space_ranger(tmp_path / "one", KNOWN)
    with pytest.raises(SpotTableError, match=r"2 libraries in the endings of barcodes"):
        read_spots("space_ranger", replace(one, spots=source.spots))


def test_an_ordinary_folder_is_one_library(tmp_path: Path) -> None:
    source = space_ranger(tmp_path / "outs", KNOWN)
    assert read_spots("space_ranger", source).n_spots == 30
    assert read_spots("space_ranger", replace(source, library="1")).n_spots == 30


# ---------------------------------------------------------------------------------- manifest


def test_a_manifest_names_the_library_of_every_row(tmp_path: Path) -> None:
    both(label="library_id", index_unique="-").write_h5ad(tmp_path / "two.h5ad")
    (tmp_path / "m.csv").write_text(
        "section_id,patient_id,slide,features,expression,format,mpp,library\n"
        "A,P,,two.h5ad,two.h5ad,h5ad,1,V_A\nB,Q,,two.h5ad,two.h5ad,h5ad,1,V_B\n"
    )
    sections = [read_section(row) for row in read_manifest(tmp_path / "m.csv").rows]
    np.testing.assert_array_equal(sections[1].xy_px0 - sections[0].xy_px0, [[31.0, 17.0]] * N)


@pytest.mark.filterwarnings("ignore")  # of the libraries' own imports
def test_regions_of_a_spatialdata_table_can_be_chosen(tmp_path: Path) -> None:
    import geopandas
    import spatialdata as sd
    from shapely import Point
    from spatialdata.models import ShapesModel, TableModel

    shapes = {}
    for name, xy in (("one", lattice()), ("two", lattice((31.0, 17.0)))):
        frame = geopandas.GeoDataFrame({"radius": 20.0, "geometry": [Point(*p) for p in xy]})
        shapes[name] = ShapesModel.parse(frame)
    made = both(index_unique="-")
    made.obsm.clear()
    made.obs["region"] = pd.Categorical(["one"] * N + ["two"] * N)
    made.obs["instance"] = [*range(N)] * 2
    parsed = TableModel.parse(
        made, region=["one", "two"], region_key="region", instance_key="instance"
    )
    sd.SpatialData(shapes=shapes, tables={"table": parsed}).write(tmp_path / "s.zarr")
    source = SpotSource(expression=tmp_path / "s.zarr")
    with pytest.raises(SpotTableError, match=r"2 libraries in obs\['region'\] \(one, two\)"):
        read_spots("spatialdata", source)
    found = read_spots("spatialdata", replace(source, library="two"))
    np.testing.assert_allclose(found.xy_px0, lattice((31.0, 17.0)))
