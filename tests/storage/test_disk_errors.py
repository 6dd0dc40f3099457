"""Contracts of what a refusal of the disk is turned into: its cause and a remedy of its own, however it was wrapped."""

from __future__ import annotations

import errno
import os
import resource
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
import pytest
from safetensors import SafetensorError
from safetensors.numpy import save_file

from hespotex.errors import HESpotExError, RunError
from hespotex.genes.gene_sets import read_gmt
from hespotex.models.bundle import read_model
from hespotex.sections.manifest import read_manifest
from hespotex.slide import open_slide
from hespotex.spots.base import SpotSource
from hespotex.spots.registry import read_spots
from hespotex.storage.atomic import atomic_path, check_writable
from hespotex.storage.disk_errors import cause_of, disk_words, number_of, remedy_of
from hespotex.storage.run_folder import RunDir

REMEDIES = {
    errno.ENOSPC: "free space",
    errno.EDQUOT: "quota",
    errno.EACCES: "permission|that you may write in",
    errno.EPERM: "permission|forbids",
    errno.EROFS: "a disk that can be written|can only be read",
    errno.ENOENT: "check the path",
    errno.EISDIR: "a file",
    errno.EMFILE: "ulimit -n",
    errno.ENAMETOOLONG: "shorter name",
    errno.EIO: "another disk|another folder",
    errno.ESTALE: "run again: the network disk",
    errno.ENOLCK: "HDF5_USE_FILE_LOCKING=FALSE",
    errno.EAGAIN: "close the program .*HDF5_USE_FILE_LOCKING=FALSE",
    errno.EWOULDBLOCK: "HDF5_USE_FILE_LOCKING=FALSE",
    errno.ETIMEDOUT: "when the network disk answers",
    errno.EXDEV: r"look at the disk, and run again \(Invalid cross-device link\)",
}


@pytest.mark.parametrize("writing", [False, True])
@pytest.mark.parametrize("number", list(REMEDIES), ids=errno.errorcode.get)
def test_every_number_has_its_own_remedy_and_none_is_to_copy_again(
    number: int, writing: bool
) -> None:
    error = OSError(number, os.strerror(number), "x")
    words = disk_words(error, writing=writing)
    with pytest.raises(RunError, match=rf"^{os.strerror(number)}; .*({REMEDIES[number]})"):
        raise RunError(words)
    assert "copy it again" not in words


@pytest.mark.parametrize(
    "error",
    [
        OSError(28, "No space left on device"),
        OSError("[Errno 28] Error writing bytes to file. Detail: No space left on device"),
        RuntimeError("Can't write data (file write failed: time = x\n, errno = 28, error message = 'No space')"),
        SafetensorError('Error while serializing: IoError(Os { code: 28 }) (os error 28)'),
    ],
)  # fmt: skip
def test_a_full_disk_is_known_however_a_library_wraps_it(error: Exception) -> None:
    assert number_of(error) == errno.ENOSPC
    assert disk_words(error, writing=True) == (
        "No space left on device; free space or choose another folder"
    )


def test_what_is_not_the_disks_is_left_to_the_caller() -> None:
    error = ValueError("a line\nand another")
    assert (number_of(error), remedy_of(error)) == (None, None)
    assert disk_words(error, otherwise="look") == "a line and another; look"
    assert cause_of(KeyError()) == "KeyError"
    assert len(cause_of(ValueError("x" * 999))) == 200


def test_hdf5_and_safetensors_say_what_the_disk_said(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="No such file") as missing:
        h5py.File(tmp_path / "none.h5", "r")
    assert number_of(missing.value) == errno.ENOENT
    with pytest.raises((SafetensorError, OSError)) as absent:
        save_file({"a": np.zeros(3)}, tmp_path / "none" / "m.safetensors")
    assert number_of(absent.value) == errno.ENOENT


LONG = "x" * 300
READERS: dict[str, Callable[[Path], object]] = {
    "slide": open_slide,
    "h5ad": lambda p: read_spots("h5ad", SpotSource(expression=p)),
    "gene sets": read_gmt,
    "manifest": read_manifest,
    "legacy": lambda p: read_spots("legacy_st", SpotSource(spots=p)),
}


@pytest.mark.parametrize("reader", list(READERS))
def test_names_too_long_and_too_many_open_files_are_told_by_every_reader(
    reader: str, tmp_path: Path
) -> None:
    with pytest.raises(HESpotExError, match=r"File name too long.*; give it a shorter name"):
        READERS[reader](tmp_path / LONG)
    (tmp_path / "x").write_bytes(b"x")
    import_all(reader, tmp_path)
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    lowest = os.open(tmp_path / "x", os.O_RDONLY)
    os.close(lowest)
    resource.setrlimit(resource.RLIMIT_NOFILE, (lowest, hard))
    try:
        with pytest.raises(HESpotExError, match=r"Too many open files.*; allow more .*ulimit -n"):
            READERS[reader](tmp_path / "x")
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def import_all(reader: str, folder: Path) -> None:
    """Import what the reader imports: that needs files, too."""
    with pytest.raises(HESpotExError):
        READERS[reader](folder / "x")


def test_writing_says_its_own_remedy(tmp_path: Path) -> None:
    with (
        pytest.raises(RunError, match=r"write .*, found: File name too long; choose a shorter"),
        atomic_path(tmp_path / f"{LONG}.json"),
    ):
        pass
    (tmp_path / "file").touch()
    with pytest.raises(RunError, match=r"found: Not a directory; check the path: a part of it"):
        check_writable(tmp_path / "file" / "inner")
    (tmp_path / "run" / "run.json").mkdir(parents=True)
    with pytest.raises(RunError, match=r"found: Is a directory; give a file in it"):
        RunDir(tmp_path / "run").begin({})


def test_a_missing_model_is_named(tmp_path: Path) -> None:
    with pytest.raises(HESpotExError, match=r"a model file at .*found nothing"):
        read_model(tmp_path / "none")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no device that is always full")
def test_a_full_disk_is_told_by_what_wrote_to_it() -> None:
    with pytest.raises(OSError, match="No space left") as full:
        Path("/dev/full").write_bytes(b"x" * 99)
    assert disk_words(full.value, writing=True).endswith("free space or choose another folder")


@pytest.mark.slow
@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no device that is always full")
def test_a_listing_onto_a_full_disk_is_one_line_and_exit_code_2(tmp_path: Path) -> None:
    with Path("/dev/full").open("w") as full:
        done = subprocess.run(
            [sys.executable, "-m", "hespotex", "inspect", str(tmp_path / "none.svs"), "--json"],
            stdout=full, stderr=subprocess.PIPE, text=True, check=False,
            env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path), "PYTHONUNBUFFERED": "1"},
        )  # fmt: skip
    assert done.returncode == 2
    assert done.stderr == (
        "hespotex: expected a disk that works, found: No space left on device; free space or choose another folder\n"
    )
