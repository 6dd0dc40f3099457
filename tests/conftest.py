"""Fixtures that every test may use: the real sections beside the repository, where they are."""

from __future__ import annotations

import functools
import os
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, settings

from helpers import blank

# A busy machine is no failure; continuous integration draws the same examples every time.
settings.register_profile(
    "project",
    deadline=None,
    max_examples=50,
    suppress_health_check=[HealthCheck.too_slow],
    derandomize=bool(os.environ.get("CI")),
)
settings.load_profile("project")

SHARED = Path(__file__).resolve().parents[2] / "shared"


@pytest.fixture(autouse=True)
def _fresh_torch() -> None:
    """Neither the weights that a test draws nor its time depend on the tests before it.

    Python's and numpy's draws are seeded already. A run sets the threads of its process: several of them, in two test
    processes, wait for one another.
    """
    torch = sys.modules.get("torch")
    if torch is None:
        return
    torch.manual_seed(0)
    if torch.get_num_threads() > 1:
        from hespotex.config import Machine
        from hespotex.models.fit import use_threads

        use_threads(Machine(threads=1))


@pytest.fixture(autouse=True)
def _no_reader_left() -> Iterator[None]:
    """Whoever stops in the middle of a slide, by an error too, ends the thread that reads it."""
    yield
    left = [t.name for t in threading.enumerate() if t.name == "hespotex-patches"]
    assert not left, f"{len(left)} threads still read patches"


@pytest.fixture
def homeless(monkeypatch: pytest.MonkeyPatch) -> None:
    """As for a user that the system does not know: no home folder, and no cache named."""
    monkeypatch.delenv("HESPOTEX_CACHE", raising=False)
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.setattr("os.path.expanduser", lambda path: path)  # what it does for an unknown user


@pytest.fixture(scope="module")
def blank_pictures() -> Iterator[None]:
    """For a module whose contracts are not what pictures show: they are drawn blank."""
    with blank.blank_pictures():
        yield


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    """Chromium, for a module that is marked with `helpers.in_browser.IN_BROWSER`."""
    from helpers.in_browser import chromium

    with chromium() as opened:
        yield opened


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Folder with the real sections; a test that asks for it is skipped where it is absent."""
    folder = SHARED / "data"
    if not folder.is_dir():
        pytest.skip(f"real sections are not here: {folder} does not exist")
    return folder


@pytest.fixture(scope="session")
def shared_golden() -> Path:
    """Folder with the numbers that the reference produced; skipped where it is absent."""
    folder = SHARED / "golden"
    if not folder.is_dir():
        pytest.skip(f"reference numbers are not here: {folder} does not exist")
    return folder


@pytest.fixture(scope="session")
def golden() -> Callable[[str], dict[str, np.ndarray]]:
    """Arrays of tests/golden/<name>.npz by name."""

    @functools.cache
    def read(name: str) -> dict[str, np.ndarray]:
        with np.load(Path(__file__).parent / "golden" / f"{name}.npz") as arrays:
            return {key: arrays[key] for key in arrays.files}

    return read
