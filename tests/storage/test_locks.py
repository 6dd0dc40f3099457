"""Contracts on file systems that give no locks: what is read is read without, what is written is told before the work."""

from __future__ import annotations

import errno
import fcntl
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from helpers.made_sections import KNOWN, h5ad, space_ranger
from hespotex.features.foreign_h5 import read_features_file
from hespotex.spots.base import SpotSource
from hespotex.spots.registry import read_spots
from hespotex.storage.run_folder import RunDir

_REFUSING = """
#include <errno.h>
#include <stdlib.h>
int flock(int file, int operation) { errno = atoi(getenv("REFUSED_WITH")); return -1; }
"""
_BEGIN = """
import sys
from pathlib import Path
from hespotex.errors import RunError
from hespotex.storage.run_folder import RunDir
from hespotex.spots.base import SpotSource
from hespotex.spots.registry import read_spots

table = read_spots("h5ad", SpotSource(expression=Path(sys.argv[1])))
print(table.n_spots, int(table.counts.sum()))
try:
    RunDir(Path(sys.argv[2])).begin({"verb": "predict"})
except RunError as error:
    print(error)
"""


@pytest.fixture(scope="module")
def without_locks(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A library that refuses every lock, as some network disks do."""
    compiler = shutil.which("cc")
    if compiler is None or not sys.platform.startswith("linux"):
        pytest.skip("no compiler, or no LD_PRELOAD")
    folder = tmp_path_factory.mktemp("refusing")
    (folder / "refusing.c").write_text(_REFUSING)
    made = folder / "refusing.so"
    subprocess.run([compiler, "-shared", "-fPIC", "-o", made, folder / "refusing.c"], check=True)
    return made


def begin(library: Path, folder: Path, number: int, **more: str) -> list[str]:
    """What reading a table and beginning a run print where locks are refused with `number`."""
    source = h5ad(folder, KNOWN).expression
    known = {k: v for k, v in os.environ.items() if k != "HDF5_USE_FILE_LOCKING"}
    environment = {
        **known,
        "LD_PRELOAD": str(library),
        "REFUSED_WITH": str(number),
        "PYTHONPATH": os.pathsep.join(sys.path),
        **more,
    }
    done = subprocess.run(
        [sys.executable, "-c", _BEGIN, str(source), str(folder / "deep" / "run")],
        env=environment, capture_output=True, text=True, check=True,
    )  # fmt: skip
    return done.stdout.splitlines()


@pytest.mark.slow
@pytest.mark.parametrize("number", [errno.ENOLCK, errno.EAGAIN, errno.ENOTSUP])
def test_a_table_is_read_and_a_run_refused_before_its_work(
    number: int, without_locks: Path, tmp_path: Path
) -> None:
    read, said = begin(without_locks, tmp_path, number)
    assert read == f"30 {int(KNOWN.counts.sum())}"
    assert said == (
        f"expected a folder where HDF5 can lock files at {tmp_path}, found: {os.strerror(number)}; set "
        "HDF5_USE_FILE_LOCKING=FALSE and run again (this file system gives no locks), or choose a folder on another disk"
    )
    assert not (tmp_path / "deep").exists()
    assert sorted(p.name for p in tmp_path.iterdir()) == ["section.h5ad"]


@pytest.mark.slow
def test_what_the_message_says_helps(without_locks: Path, tmp_path: Path) -> None:
    said = begin(without_locks, tmp_path, errno.ENOLCK, HDF5_USE_FILE_LOCKING="FALSE")
    assert said == [f"30 {int(KNOWN.counts.sum())}"]
    assert (tmp_path / "deep" / "run" / "run.json").is_file()


def test_a_file_that_another_program_holds_is_read_all_the_same(tmp_path: Path) -> None:
    import h5py

    features = tmp_path / "f.h5"
    with h5py.File(features, "w") as file:
        file["features"], file["coords"] = np.ones((30, 3)), KNOWN.xy_px0 - 50
        file["coords"].attrs["patch_size_level0"] = 100
    sources = {"h5ad": h5ad(tmp_path, KNOWN), "space_ranger": space_ranger(tmp_path / "v", KNOWN)}
    held = [features, tmp_path / "section.h5ad", tmp_path / "v" / "filtered_feature_bc_matrix.h5"]
    handles = [path.open("rb") for path in held]
    try:
        for handle in handles:
            fcntl.flock(handle, fcntl.LOCK_EX)
        for name, source in sources.items():
            table = read_spots(name, SpotSource(expression=source.expression))
            assert table.counts is not None
            np.testing.assert_array_equal(table.counts.toarray(), KNOWN.counts)
        assert read_features_file(features, KNOWN.xy_px0)[0].shape == (30, 3)
    finally:
        for handle in handles:
            handle.close()


def test_where_locks_are_given_a_run_begins_and_leaves_no_trial_behind(tmp_path: Path) -> None:
    assert RunDir(tmp_path / "run").begin({}) is False
    assert [p.name for p in tmp_path.rglob("*")] == ["run", "run.json"]
