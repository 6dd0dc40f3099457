"""What lies on disk is whole, belongs to one run, and is named by its content."""

from __future__ import annotations

import json
import resource
import sys
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file

from hespotex.errors import RunError
from hespotex.results.run_outputs import write_metrics
from hespotex.sections.splits import Fold, Folds
from hespotex.storage import clock, content_keys
from hespotex.storage.atomic import atomic_path, check_writable, sweep_leftovers, write_json
from hespotex.storage.clock import StageClock
from hespotex.storage.content_keys import content_key, file_key
from hespotex.storage.run_folder import RunDir


def test_failed_write_leaves_the_old_file_and_nothing_else(tmp_path: Path) -> None:
    target = tmp_path / "a.txt"
    target.write_text("old")

    def write_half() -> None:
        with atomic_path(target) as temporary:
            temporary.write_text("half")
            raise ValueError("half-way")

    with pytest.raises(ValueError, match="half-way"):
        write_half()
    assert target.read_text() == "old"
    assert [p.name for p in tmp_path.iterdir()] == ["a.txt"]


def test_predictions_are_whole_files_and_no_hidden_ones(tmp_path: Path) -> None:
    run = RunDir(tmp_path)
    run.predictions.mkdir()
    for name in ("b.h5ad", "a.h5ad", ".a.h5ad.12ab.tmp.h5ad", "._b.h5ad", "c.csv"):
        (run.predictions / name).touch()
    assert [path.name for path in run.predicted()] == ["a.h5ad", "b.h5ad"]


def test_full_disk_is_a_run_error_whatever_library_writes(tmp_path: Path) -> None:
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1_000, before[1]))
    try:
        with (
            pytest.raises(RunError, match=r"expected to write .*m\.safetensors.*large") as caught,
            atomic_path(tmp_path / "m.safetensors") as temporary,
        ):
            save_file({"w": np.zeros(10_000)}, temporary)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert "\n" not in str(caught.value)
    assert list(tmp_path.iterdir()) == []


def test_two_writers_of_one_file_have_temporary_files_of_their_own(tmp_path: Path) -> None:
    target = tmp_path / "a.txt"
    with atomic_path(target) as one, atomic_path(target) as other:
        assert one != other
        assert one.parent == other.parent == tmp_path
        one.write_text("one")
        other.write_text("other")
    assert target.read_text() == "one"  # the last to finish, whole
    assert [p.name for p in tmp_path.iterdir()] == ["a.txt"]


def test_sweeping_one_slide_leaves_what_is_being_written_of_another(tmp_path: Path) -> None:
    with (
        atomic_path(tmp_path / "S1_2.h5ad") as other,
        atomic_path(tmp_path / "S1_overview.png") as mine,
    ):
        other.write_text("half")
        mine.write_text("half")
        sweep_leftovers(tmp_path, "S1")
        assert other.exists()
        assert not mine.exists()
        mine.write_text("anew")


def test_a_folder_is_tried_before_the_work_and_left_empty(tmp_path: Path) -> None:
    check_writable(tmp_path / "new" / "folder")
    assert list((tmp_path / "new" / "folder").iterdir()) == []
    (tmp_path / "file").write_text("")
    with pytest.raises(
        RunError,
        match=r"expected a folder that can be written at .*Not a directory; check the path: .*, or do this",
    ):
        check_writable(tmp_path / "file" / "folder", "do this")


def test_unwritable_folder_is_a_run_error_that_names_the_file(tmp_path: Path) -> None:
    blocker = tmp_path / "file"
    blocker.write_text("")
    with pytest.raises(RunError, match=r"expected to write .*x\.json"):
        write_json(blocker / "x.json", {})


def test_json_has_null_for_nan_and_plain_numbers(tmp_path: Path) -> None:
    file = tmp_path / "x.json"
    write_json(file, {"a": np.float32("nan"), "b": np.arange(2), "c": np.int64(3), "d": 0.1})
    assert json.loads(file.read_text()) == {"a": None, "b": [0, 1], "c": 3, "d": 0.1}


def test_content_key_depends_on_values_type_shape_and_order() -> None:
    a = np.arange(6.0)
    keys = {
        content_key(a),
        content_key(a.reshape(2, 3)),
        content_key(a.astype(np.float32)),
        content_key(a + 1),
        content_key("x", "y"),
        content_key("y", "x"),
        content_key("xy"),
    }
    assert len(keys) == 7
    assert content_key(a, {"b": 1, "a": 2}) == content_key(a.copy(), {"a": 2, "b": 1})


def test_content_key_sees_through_memory_layout() -> None:
    a = np.arange(6.0).reshape(2, 3)
    assert content_key(np.asfortranarray(a)) == content_key(a)


def test_file_key_changes_with_any_byte(tmp_path: Path) -> None:
    file = tmp_path / "a"
    file.write_bytes(b"0" * 1000)
    before = file_key(file)
    file.write_bytes(b"0" * 500 + b"1" + b"0" * 499)
    assert file_key(file) != before


def test_key_of_a_large_file_covers_both_ends(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(content_keys, "FULL_HASH_BYTES", 10)
    monkeypatch.setattr(content_keys, "_SAMPLE_BYTES", 2)
    file = tmp_path / "a"
    keys = set()
    for content in (b"0" * 1000, b"1" + b"0" * 999, b"0" * 999 + b"1", b"0" * 1001):
        file.write_bytes(content)
        keys.add(file_key(file))
    assert len(keys) == 4


def test_same_run_goes_on_and_finished_run_says_so(tmp_path: Path) -> None:
    run = RunDir(tmp_path / "r")
    identity = {"config": {"seed": 1}, "folds": (1, 2)}
    assert run.begin(identity) is False
    assert run.begin(identity) is False
    run.finish(identity, {"seconds": {}})
    assert run.begin(identity) is True
    assert json.loads(run.run_json.read_text())["versions"]["hespotex"]


def test_other_configuration_is_refused_by_key_and_values(tmp_path: Path) -> None:
    run = RunDir(tmp_path / "r")
    run.begin({"config": {"seed": 1, "profile": "default"}})
    with pytest.raises(RunError, match=r"config\.seed: 1 there, 2 now; choose another --out"):
        run.begin({"config": {"seed": 2, "profile": "default"}})


def test_a_run_that_fails_before_its_first_result_leaves_nothing_behind(tmp_path: Path) -> None:
    run = RunDir(tmp_path / "r")
    run.begin({"encoder": "absent"})
    with pytest.raises(ValueError, match="no weights"), run.withdrawn_on_error():
        raise ValueError("no weights")
    assert not run.path.exists()
    assert RunDir(run.path).begin({"encoder": "present"}) is False


def test_a_failing_run_keeps_what_is_done_and_claims_of_others(tmp_path: Path) -> None:
    done, other = RunDir(tmp_path / "done"), RunDir(tmp_path / "other")
    done.begin({"seed": 1})
    write_json(done.work / "fold-0.json", {"fold": 0})
    other.begin({"seed": 1})
    for run in (
        done,
        RunDir(other.path),
    ):  # a second process that shares the folder claimed nothing
        run.begin({"seed": 1})
        with pytest.raises(KeyboardInterrupt), run.withdrawn_on_error():
            raise KeyboardInterrupt
        with pytest.raises(RunError, match="seed: 1 there, 2 now"):
            run.begin({"seed": 2})


def test_file_in_place_of_the_folder_is_refused(tmp_path: Path) -> None:
    (tmp_path / "r").write_text("")
    with pytest.raises(RunError, match="expected a folder for the output, found a file"):
        RunDir(tmp_path / "r").begin({})


def test_damaged_run_record_is_named(tmp_path: Path) -> None:
    (tmp_path / "run.json").write_text("{")
    with pytest.raises(RunError, match=r"expected the record of a run in .*run\.json"):
        RunDir(tmp_path).begin({})


def test_clock_adds_up_stages_and_knows_the_peak() -> None:
    clock = StageClock()
    for _ in range(2):
        with clock.stage("a"):
            pass
    summary = clock.summary()
    assert set(summary["seconds"]) == {"a"}
    assert summary["peak_memory_mib"] > 10


def test_runs_are_written_where_the_system_tells_no_peak(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "resource", None)  # as on Windows
    assert np.isnan(clock._peak_by_the_system())
    write_json(tmp_path / "x.json", {"peak_memory_mib": clock._peak_by_the_system()})
    assert json.loads((tmp_path / "x.json").read_text()) == {"peak_memory_mib": None}


def test_a_run_whose_records_another_process_took_away_says_so(tmp_path: Path) -> None:
    folds = Folds("section", (Fold(("A",), ("B",)),), "")
    with pytest.raises(
        RunError, match=r"fold 0 in .*fold-0\.json, found none: another process works in"
    ):
        write_metrics(RunDir(tmp_path), folds, score_nan_as_zero=False)
