"""Contracts of the small parsers: no content ends in anything but an error that names the file."""

from __future__ import annotations

import gzip
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from hespotex.errors import SpotTableError
from hespotex.spots.outlines import read_outlines
from hespotex.spots.space_ranger import POSITION_COLUMNS, read_positions, read_scale
from hespotex.spots.sparse_reading import read_matrix_market
from hespotex.spots.text import read_json, read_table
from hespotex.spots.xenium import read_alignment
from hespotex.storage.text_files import Packed, open_text

PARSERS: dict[str, Callable[[Any], object]] = {
    "positions": read_positions,
    "scale factors": read_scale,
    "table": lambda path: read_table(path, ("a", "b")),
    "alignment": read_alignment,
    "outlines": read_outlines,
    "matrix": read_matrix_market,
}
cell = st.one_of(
    st.text(max_size=6),
    st.floats().map(str),
    st.integers(-5, 5).map(str),
    st.sampled_from(["barcode", "in_tissue", "a", "b", '"', "1,0,0", "{}", "[]"]),
)
tables = st.lists(st.lists(cell, max_size=7), max_size=5).map(
    lambda rows: "\n".join(",".join(row) for row in rows).encode("utf-8", errors="replace")
)
jsons = st.recursive(
    st.none() | st.booleans() | st.floats() | st.integers() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(
                [
                    "spot_diameter_fullres",
                    "tissue_hires_scalef",
                    "features",
                    "properties",
                    "cell_id",
                    "geometry",
                    "coordinates",
                ]
            ),
            inner,
            max_size=4,
        )
    ),
    max_leaves=12,
).map(lambda value: json.dumps(value).encode())


number = st.one_of(st.integers(-3, 9).map(str), st.floats().map(str), st.text(max_size=3))
matrices = st.lists(st.lists(number, min_size=2, max_size=4).map(" ".join), max_size=5).map(
    lambda rows: "\n".join(["%%MatrixMarket matrix coordinate integer general", *rows]).encode(
        "utf-8", errors="replace"
    )
)


@pytest.mark.slow
@settings(max_examples=60, deadline=None)
@given(content=matrices)
@example(
    content=b"%%MatrixMarket matrix coordinate integer general\n0 0 1\n0 0\n0 2147483648.0",
)
@example(content=b"%%MatrixMarket matrix coordinate integer general\n0 0 1\n0 inf 1")
@example(content=b"%%MatrixMarket matrix coordinate integer general\n0 0 1\n1e99 0 1")
@example(content=b"%%MatrixMarket matrix coordinate integer general\n0 0 1\n0 0 0 0")
def test_any_matrix_is_read_or_named(content: bytes) -> None:
    message = fault(read_matrix_market, content)
    assert message is None or ("the file.csv" in message and message.startswith("expected "))


@pytest.mark.parametrize("name", list(PARSERS))
@settings(max_examples=60, deadline=None)
@given(content=st.one_of(st.binary(max_size=60), tables, jsons, tables.map(gzip.compress)))
def test_any_content_is_read_or_named(name: str, content: bytes) -> None:
    message = fault(PARSERS[name], content)
    if message is not None:
        assert "the file.csv" in message
        assert message.startswith("expected ")
        assert "found" in message


def fault(parser: Callable[[Any], object], content: bytes) -> str | None:
    """What the parser has against the content; any other exception than its own passes through."""
    try:
        parser(Packed("the file.csv", content))
    except SpotTableError as error:
        return str(error)
    return None


values = st.floats(-1e6, 1e6, allow_nan=False)


@settings(max_examples=40, deadline=None)
@given(
    rows=st.lists(st.tuples(st.integers(0, 1), values, values), min_size=1, max_size=8).filter(
        lambda rows: any(row[0] for row in rows)
    ),
    header=st.booleans(),
    end=st.sampled_from(["\n", "\r\n"]),
    mark=st.booleans(),
)
def test_positions_read_back_equal(
    rows: list[tuple[int, float, float]], header: bool, end: str, mark: bool
) -> None:
    lines = [",".join(POSITION_COLUMNS)] if header else []
    lines += [f"B{i}-1,{t},{i},{2 * i},{y!r},{x!r}" for i, (t, x, y) in enumerate(rows)]
    content = (b"\xef\xbb\xbf" if mark else b"") + end.join([*lines, ""]).encode()
    table = read_positions(Packed("p.csv", content))
    assert table["barcode"].tolist() == [f"B{i}-1" for i in range(len(rows))]
    found = table[["in_tissue", "pxl_col_in_fullres", "pxl_row_in_fullres"]].to_numpy()
    np.testing.assert_allclose(found, np.array(rows), rtol=1e-12)


def test_a_folder_or_nothing_in_place_of_a_file_is_named(tmp_path: Path) -> None:
    with (
        pytest.raises(SpotTableError, match=r"readable file at .*found: Is a directory"),
        open_text(tmp_path),
    ):
        pass
    with pytest.raises(SpotTableError, match=r"readable file at .*none.*No such file"):
        read_json(tmp_path / "none")
    link = tmp_path / "link"
    link.symlink_to(link)
    with pytest.raises(SpotTableError, match=r"readable file at .*link.*symbolic links"):
        read_json(link)
