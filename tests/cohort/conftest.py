"""A small model that is loaded in place of any file."""

from __future__ import annotations

import pytest

from hespotex.predicting import Predictor, executor, many_slides
from toy_slide import toy_bundle, toy_predictor, toy_trust


@pytest.fixture(scope="module")
def predictor() -> Predictor:
    return toy_predictor(toy_bundle(), toy_trust())


@pytest.fixture
def toy_model(predictor: Predictor, monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (many_slides, executor):
        monkeypatch.setattr(module, "open_predictor", lambda *_args: predictor)
