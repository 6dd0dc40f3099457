"""Contracts that every reader keeps: one known section, written in each format, reads back equal."""

from __future__ import annotations

import inspect
import re
from pathlib import Path

import numpy as np
import pytest

from helpers.made_sections import BUILDERS, KNOWN
from hespotex.errors import SpotTableError
from hespotex.geometry import StatedScale, decide_geometry
from hespotex.spots.base import OF_FORMATS, Reader, SpotSource
from hespotex.spots.registry import READERS, read_spots

QUIET = pytest.mark.filterwarnings("ignore")  # spatialdata and its libraries warn of each other
FORMATS = [pytest.param(name, marks=QUIET if name == "spatialdata" else ()) for name in BUILDERS]


@pytest.mark.slow
@pytest.mark.parametrize("name", FORMATS)
def test_the_known_section_reads_back_equal(name: str, tmp_path: Path) -> None:
    table = read_spots(name, BUILDERS[name](tmp_path / "data", KNOWN))
    order = np.lexsort(table.xy_px0.T)
    np.testing.assert_allclose(table.xy_px0[order], KNOWN.xy_px0, atol=1e-9)
    assert table.counts is not None
    assert table.counts.dtype == np.int32
    np.testing.assert_array_equal(table.counts.toarray()[order], KNOWN.counts)
    assert table.genes is not None
    assert table.genes.tolist() == KNOWN.genes
    if name != "legacy_st":
        assert table.barcodes[order].tolist() == KNOWN.barcodes
    if table.array_xy is not None:
        np.testing.assert_array_equal(table.array_xy[order], KNOWN.array_xy)
    assert table.missing_genes == "zero"


@pytest.mark.parametrize("name", FORMATS)
def test_the_scale_is_found_or_stated(name: str, tmp_path: Path) -> None:
    table = read_spots(name, BUILDERS[name](tmp_path / "data", KNOWN))
    pitch = None if table.hints.spot_pitch_um else KNOWN.pitch_um
    geometry = decide_geometry(table.xy_px0, table.hints, stated=StatedScale(spot_pitch_um=pitch))
    assert geometry.mpp == pytest.approx(KNOWN.mpp)
    assert geometry.spot_pitch_um == KNOWN.pitch_um
    states_itself = {"hest": 2, "space_ranger": 2, "visium_hd": 3}
    assert len(geometry.mpp_sources) == states_itself.get(name, 1)


@pytest.mark.parametrize("name", FORMATS)
def test_the_manifest_overrules_what_a_missing_gene_means(name: str, tmp_path: Path) -> None:
    from dataclasses import replace

    source = replace(BUILDERS[name](tmp_path / "data", KNOWN), missing_genes="unmeasured")
    assert read_spots(name, source).missing_genes == "unmeasured"


@pytest.mark.parametrize("name", list(READERS))
def test_nothing_there_is_named(name: str, tmp_path: Path) -> None:
    empty = tmp_path / "empty"
    empty.mkdir()
    for place in (tmp_path / "none", empty):
        source = SpotSource(expression=place, spots=place if name == "legacy_st" else None)
        with pytest.raises(SpotTableError, match=r"^expected .*found"):
            read_spots(name, source)
    with pytest.raises(SpotTableError, match=r"^expected .*found"):
        read_spots(name, SpotSource())


def test_an_unknown_format_names_the_known_ones() -> None:
    with pytest.raises(SpotTableError, match=r"legacy_st, h5ad, hest, .*found 'merfish'"):
        read_spots("merfish", SpotSource())


@pytest.mark.parametrize("name", list(READERS))
def test_a_reader_says_the_columns_that_it_uses(name: str) -> None:
    reader = READERS.find(name)
    assert reader is not None
    source = inspect.getsource(inspect.getmodule(reader.read))  # type: ignore[arg-type]
    named = set(re.findall(r"\bsource\.(\w+)", source)) & set(OF_FORMATS)
    if name == "positions":  # refuses counts
        named -= {"expression"}
    assert set(reader.columns) == named


def test_a_reader_of_unknown_columns_cannot_be_made() -> None:
    for columns in ((), ("library",), ("expression", "counts")):
        with pytest.raises(ValueError, match="expected columns of expression, spots, "):
            Reader(lambda _: None, columns=columns)  # type: ignore[arg-type,return-value]
