"""What the disk refuses is one line; what is done is kept; nothing is left over."""

from __future__ import annotations

import os
import resource
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from helpers.broken_pixels import break_pixels
from helpers.toy_slide import MPP, ToyEncoder
from hespotex.errors import RunError, SlideError
from hespotex.predicting import Predictor, SlideOptions, SlideTask, predict_slide

pytestmark = pytest.mark.usefixtures("blank_pictures")

OPTIONS = SlideOptions(mpp=MPP, formats=("geojson",))


@contextmanager
def _files_of_at_most(n_bytes: int) -> Iterator[None]:
    """The kernel refuses to let any file grow beyond so many bytes (EFBIG)."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (n_bytes, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def _files(out: Path) -> dict[str, bytes]:
    folders = [out / "predictions", out / "figures"]
    return {p.name: p.read_bytes() for f in folders if f.is_dir() for p in f.iterdir()}


@pytest.mark.slow
@pytest.mark.usefixtures("small_chunks")
@pytest.mark.parametrize("limit", [1_000, 1_800, 40_000, 120_000], ids=str)
def test_full_disk_is_one_line_wherever_it_happens_and_the_next_run_goes_on(
    predictor: Predictor, slide: Path, tmp_path: Path, limit: int
) -> None:
    task = SlideTask("s", slide, OPTIONS)
    predict_slide(predictor, task, tmp_path / "whole")
    whole = _files(tmp_path / "whole")
    assert max(map(len, whole.values())) > 120_000
    with _files_of_at_most(limit), pytest.raises(RunError) as caught:
        predict_slide(predictor, task, tmp_path / "cut")
    assert "\n" not in str(caught.value)
    assert "expected to write" in str(caught.value)
    assert "File too large" in str(caught.value)
    for name, content in _files(tmp_path / "cut").items():
        assert content == whole[name]
    predict_slide(predictor, task, tmp_path / "cut")
    assert _files(tmp_path / "cut") == whole
    assert not (tmp_path / "cut" / "work" / "s").exists()


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_folder_without_permission_is_one_line(
    predictor: Predictor, slide: Path, tmp_path: Path
) -> None:
    (tmp_path / "out").mkdir(mode=0o500)
    with pytest.raises(RunError, match=r"expected to write .*Permission denied"):
        predict_slide(predictor, SlideTask("s", slide, OPTIONS), tmp_path / "out")


def test_what_a_killed_process_left_half_written_is_swept(
    predictor: Predictor, slide: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "predictions"
    folder.mkdir()
    mine = (".s.h5ad.123.tmp.h5ad", ".s.geojson.7.tmp.geojson")
    others = (".s2.h5ad.123.tmp.h5ad", ".s.b.h5ad.123.tmp.h5ad", ".s")
    for name in (*mine, *others):
        (folder / name).write_bytes(b"half")
    (folder / ".s.zarr.tmp.zarr").mkdir()
    predict_slide(predictor, SlideTask("s", slide, OPTIONS), tmp_path)
    assert {p.name for p in folder.iterdir()} == {"s.h5ad", "s.geojson", *others}


@pytest.mark.slow
@pytest.mark.usefixtures("small_chunks")
def test_slide_that_breaks_half_way_stops_every_time_and_loses_nothing(
    predictor: Predictor, slide: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    break_pixels(monkeypatch, lambda y: y > 470)
    encoded: list[int] = []
    original = ToyEncoder.encode

    def encode(self: ToyEncoder, patches: object) -> object:
        encoded[-1] += 1
        return original(self, patches)  # type: ignore[arg-type]

    monkeypatch.setattr(ToyEncoder, "encode", encode)
    task, kept = SlideTask("s", slide, OPTIONS), []
    for _ in range(2):
        encoded.append(0)
        with pytest.raises(SlideError, match=r"at most 1\.00% of .* the first: .* found damage"):
            predict_slide(predictor, task, tmp_path)
        chunks = (tmp_path / "work" / "s" / "features").glob("chunk-*")
        kept.append({path.name: path.read_bytes() for path in chunks})
    assert encoded[1] > 0
    assert kept[0].items() <= kept[1].items()
    tolerant = SlideTask("s", slide, replace(OPTIONS, max_bad_tiles=0.5))
    encoded.append(0)
    result = predict_slide(predictor, tolerant, tmp_path)
    assert result.n_bad > 0
    # A chunk is one batch here: what was kept is not encoded again.
    assert encoded[2] == -(-result.n_spots // 16) - len(kept[1])
