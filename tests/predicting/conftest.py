"""A small model and a painted slide for all tests of slide prediction."""

from __future__ import annotations

from pathlib import Path

import pytest

from helpers.toy_slide import toy_bundle, toy_predictor, toy_trust, write_slide
from hespotex.models.bundle import Bundle
from hespotex.predicting import Predictor, executor, many_slides, store


@pytest.fixture(scope="session")
def bundle() -> Bundle:
    return toy_bundle()


@pytest.fixture(scope="session")
def predictor(bundle: Bundle) -> Predictor:
    return toy_predictor(bundle, toy_trust())


@pytest.fixture(scope="session")
def slide(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_slide(tmp_path_factory.mktemp("slides") / "painted.png")


@pytest.fixture
def small_chunks(monkeypatch: pytest.MonkeyPatch) -> int:
    """Chunks of 16 spots, so that a small slide has many."""
    monkeypatch.setattr(store, "CHUNK_SPOTS", 16)
    return 16


@pytest.fixture
def toy_model(predictor: Predictor, monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (many_slides, executor):
        monkeypatch.setattr(module, "open_predictor", lambda *_args: predictor)
