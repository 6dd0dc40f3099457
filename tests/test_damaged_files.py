"""The contract of every reader on damaged files: an error of one line or a result; never another exception, never a hang."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from safetensors import safe_open
from safetensors.numpy import load_file, save_file

from helpers.fuzzed_readers import READERS, STORED
from helpers.fuzzing import Fuzzer, broken
from helpers.made_sections import KNOWN, h5ad, write_10x_h5
from hespotex.errors import HESpotExError, ModelFileError, RunError
from hespotex.export.h5ad import read_prediction
from hespotex.models.bundle import read_model, write_model
from hespotex.storage.hdf5 import open_h5

N = 50
FIRST_SEED = 1000


@pytest.fixture(scope="module")
def fuzzer(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fuzzer]:
    made = Fuzzer(list(READERS), tmp_path_factory.mktemp("kept"))
    yield made
    made.close()


@pytest.mark.slow
@pytest.mark.parametrize("name", list(READERS))
def test_damage_ends_in_one_line_or_in_a_result(name: str, fuzzer: Fuzzer) -> None:
    whole = fuzzer.read_whole(name)
    findings = [fuzzer.run(name, seed) for seed in range(FIRST_SEED, FIRST_SEED + N)]
    assert broken(findings, whole, every_cut=READERS[name].whole) == []
    said = [f.text for f in findings if f.outcome == "refused"]
    assert [text for text in said if "found" not in text] == []


def test_a_message_is_one_line_whatever_was_found() -> None:
    found = "a\nb\rc\x1ed\u2028e\x85f"
    assert str(HESpotExError(f"expected x, found {found}")) == "expected x, found a b c d e f"
    assert str(HESpotExError("expected x", section="A\nB")) == "section A B: expected x"


def test_a_model_whose_weights_were_changed_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "m.hespotex"
    write_model(path, read_model(STORED / "tiny.hespotex"))
    with safe_open(path, framework="numpy") as handle:
        metadata = handle.metadata()
    tensors = load_file(path)
    name = max(tensors, key=lambda key: tensors[key].size)
    changed = tensors[name].copy()
    changed.reshape(-1)[0] = np.nextafter(changed.reshape(-1)[0], np.inf)
    save_file({**tensors, name: changed}, path, metadata=metadata)
    with pytest.raises(ModelFileError, match=r"whose bytes were changed: .*compare it with the"):
        read_model(path)
    save_file(tensors, path, metadata=metadata)
    assert read_model(path).model_id == read_model(STORED / "tiny.hespotex").model_id


def test_a_model_of_before_its_content_was_written_down_opens(tmp_path: Path) -> None:
    path = tmp_path / "m.hespotex"
    write_model(path, read_model(STORED / "tiny.hespotex"))
    with safe_open(path, framework="numpy") as handle:
        metadata = {k: v for k, v in handle.metadata().items() if k != "content_key"}
    save_file(load_file(path), path, metadata=metadata)
    assert read_model(path).genes == read_model(STORED / "tiny.hespotex").genes


@pytest.mark.parametrize("filled", [0, 255])
@pytest.mark.parametrize("entry", range(1, 12))
def test_a_filled_entry_of_a_heap_on_which_hdf5_never_comes_back_is_told(
    entry: int, filled: int, tmp_path: Path
) -> None:
    path = tmp_path / "p.h5ad"
    content = bytearray((STORED / "tiny-0.1.0.h5ad").read_bytes())
    at = content.index(b"GCOL") + 16
    for _ in range(entry - 1):
        at += 16 + (int.from_bytes(content[at + 8 : at + 16], "little") + 7) // 8 * 8
    content[at : at + 16] = bytes([filled] * 16)
    path.write_bytes(content)
    with pytest.raises(RunError, match=rf"one that is damaged at byte {at:,}; predict again"):
        read_prediction(path)


def test_whole_files_have_no_such_entry(tmp_path: Path, shared_data: Path) -> None:
    assert read_prediction(STORED / "tiny-0.1.0.h5ad").genes.size
    h5ad(tmp_path, KNOWN)
    write_10x_h5(tmp_path / "m.h5", KNOWN)
    real = shared_data / "visium_crc16" / "outs" / "filtered_feature_bc_matrix.h5"
    for path in (tmp_path / "section.h5ad", tmp_path / "m.h5", real):
        with open_h5(path, "an HDF5 file at", RunError) as file:
            assert len(file)
