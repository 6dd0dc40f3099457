"""Features beside a prediction: bit for bit what was given, readable as TRIDENT's, and what is said of damage."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from hespotex.errors import RunError
from hespotex.features.foreign_h5 import encoder_named_in, read_features_file
from hespotex.features.kept import Kept, MadeBy, kept_beside, kept_bytes, said_key, write_kept

MADE_BY = MadeBy("an-encoder", "0123456789abcdef", (112.0, 224.5), "patches", None)
N, SIDES, DIM = 70, 2, 5
XY = np.random.default_rng(1).uniform(0, 1e5, size=(N, 2))
VALUES = np.random.default_rng(0).normal(size=(N, SIDES, DIM)).astype(np.float32)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = kept_beside(tmp_path / "my.slide.h5ad")
    write_kept(path, MADE_BY, XY, 101.3, [VALUES[:32], VALUES[32:64], VALUES[64:]], "a key")
    return path


def test_what_is_kept_comes_back_bit_for_bit_with_what_made_it(path: Path) -> None:
    assert path.name == "my.slide.features.h5"
    kept = Kept.open(path)
    assert (kept.made_by, kept.prediction_key, kept.width) == (MADE_BY, "a key", SIDES * DIM)
    np.testing.assert_array_equal(kept.read(), VALUES.reshape(N, -1))
    assert kept.lies_at(XY)
    assert not kept.lies_at(XY[::-1])
    assert not kept.lies_at(XY[:-1])
    assert not kept.lies_at(XY + 0.01)
    assert path.stat().st_size - kept_bytes(N, SIDES * DIM) < 20_000


def test_other_readers_of_tridents_layout_take_it_too(path: Path) -> None:
    values, side, _ = read_features_file(path, XY)
    np.testing.assert_array_equal(values, VALUES.reshape(N, -1))
    assert side == 101.3
    assert encoder_named_in(path) == "an-encoder"


@pytest.mark.parametrize(
    "other",
    [{"encoder": "b"}, {"key": "fedcba9876543210"}, {"sides_um": (112.0,)}, {"reading": "area"}, {"projection": 8}],
)  # fmt: skip
def test_words_are_equal_only_where_features_can_be_compared(other: dict[str, object]) -> None:
    assert replace(MADE_BY).words() == MADE_BY.words()
    assert replace(MADE_BY, **other).words() != MADE_BY.words()  # type: ignore[arg-type]


def test_a_damaged_file_is_one_line_and_no_key(path: Path, tmp_path: Path) -> None:
    assert said_key(path) == "a key"
    path.write_bytes(path.read_bytes()[:1500])
    assert said_key(path) is None
    assert said_key(tmp_path / "none.h5") is None
    with pytest.raises(RunError, match=r"expected features of a prediction at .*my.slide.features.h5, found"):  # fmt: skip
        Kept.open(path)


def test_what_fails_half_way_leaves_no_file(tmp_path: Path) -> None:
    def blocks():  # type: ignore[no-untyped-def]
        yield VALUES[:32]
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_kept(tmp_path / "a.h5", MADE_BY, XY, 10.0, blocks())
    assert list(tmp_path.iterdir()) == []
