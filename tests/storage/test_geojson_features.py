"""GeoJSON read in pieces: the same features as json gives, wherever a piece ends; faults are errors."""

from __future__ import annotations

import io
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hespotex.storage import geojson as geojson_features
from hespotex.storage.geojson import read_features

_VALUES: Any = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)
_FEATURES = st.lists(st.dictionaries(st.text(), _VALUES, max_size=3), max_size=6)


@pytest.mark.slow
@given(
    features=_FEATURES,
    piece=st.integers(1, 40),
    collection=st.booleans(),
    indent=st.sampled_from([None, 1]),
    coding=st.sampled_from(["utf-8", "utf-8-sig"]),
)
def test_pieces_give_what_the_whole_gives(
    features: list[dict[str, Any]], piece: int, collection: bool, indent: int | None, coding: str
) -> None:
    everything: Any = {"type": "FeatureCollection", "features": features}
    content = json.dumps(everything if collection else features, ensure_ascii=False, indent=indent)
    stored = content.encode(coding, errors="surrogatepass")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(geojson_features, "_PIECE", piece)
        found = list(read_features(io.BytesIO(stored)))
    texts = [stored[f.start : f.start + f.length] for f in found]
    assert [json.loads(t.decode("utf-8", errors="surrogatepass")) for t in texts] == features
    assert [f.value for f in found] == [json.loads(t.decode("latin-1")) for t in texts]


@pytest.mark.parametrize(
    "content", [b"", b"nothing", b'{"features": [{"a": 1}', b'[{"a": 1}, {"a"']
)
def test_what_is_cut_short_is_an_error(content: bytes) -> None:
    with pytest.raises(ValueError, match="Expecting"):
        list(read_features(io.BytesIO(content)))


def test_one_feature_alone_is_read() -> None:
    (found,) = read_features(io.BytesIO(b'\xef\xbb\xbf {"type": "Point"}'))
    assert found == ({"type": "Point"}, 3, 18)
