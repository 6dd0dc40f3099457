"""What a run hands back in a Python session."""

from __future__ import annotations

import sys
from inspect import signature
from pathlib import Path

import anndata
import numpy as np
import pytest

import hespotex
from hespotex.errors import RunError
from hespotex.progress import Bars, Silent, heard
from hespotex.results.outcome import RunResult, SlideOutcome


@pytest.fixture
def result(tmp_path: Path) -> RunResult:
    folder = tmp_path / "predictions"
    folder.mkdir()
    anndata.AnnData(np.eye(3, dtype=np.float32)).write_h5ad(folder / "C2.h5ad")
    slides = (SlideOutcome("C2", "done"), SlideOutcome("C3", "failed", why="cut short"))
    return RunResult({"predictions": folder}, {"headline": "1 of 3 genes"}, slides)


def test_a_section_of_a_run_is_read_by_its_name(result: RunResult) -> None:
    np.testing.assert_array_equal(result.adata("C2").X, np.eye(3))


def test_a_section_that_a_run_lacks_is_named_beside_those_that_it_has(result: RunResult) -> None:
    with pytest.raises(RunError, match=r"a section of the run in .*found C4.*it has C2"):
        result.adata("C4")


def test_a_run_whose_every_slide_failed_has_no_section(tmp_path: Path) -> None:
    failed = RunResult({"slides": tmp_path / "slides.csv"}, slides=(SlideOutcome("C2", "failed"),))
    with pytest.raises(RunError, match="a section of the run, found C2; it has none"):
        failed.adata("C2")


def test_a_run_says_what_it_found_and_where(result: RunResult, tmp_path: Path) -> None:
    assert repr(result).splitlines() == [
        "1 of 3 genes",
        "1 slide predicted, 1 failed",
        f"predictions: {tmp_path / 'predictions'}",
    ]


def test_bars_are_drawn_where_somebody_looks_and_a_given_reporter_is_kept(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    given = Silent()
    assert heard(given) is given
    assert isinstance(heard(True), Bars)
    assert isinstance(heard(False), Silent)
    monkeypatch.setattr(sys.stderr, "isatty", lambda: False)
    assert isinstance(heard(None), Silent)
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    assert isinstance(heard(None), Bars)
    assert isinstance(heard(False), Silent)
    monkeypatch.setattr(sys, "stderr", None)  # as of a program without a console
    assert isinstance(heard(None), Silent)
    assert isinstance(heard(True), Silent)


def test_bars_tell_of_tasks_and_messages_on_standard_error(
    capsys: pytest.CaptureFixture[str],
) -> None:
    bars = Bars()
    with bars.task("encoding", 2) as advance:
        advance(1)
        bars.say("half of it")
        bars.warn("look at C3")
        advance(1)
    out, err = capsys.readouterr()
    assert out == ""
    assert "encoding" in err
    assert "half of it" in err
    assert "warning: look at C3" in err


def test_every_public_name_is_there_and_nothing_else_is_listed() -> None:
    assert dir(hespotex) == sorted(hespotex.__all__)
    for name in hespotex.__all__:
        assert getattr(hespotex, name) is not None, name


def test_every_verb_takes_progress_and_none_another_name_for_it() -> None:
    verbs = [getattr(hespotex, name) for name in ("cross_validate", "train", "predict", "adapt", "evaluate", "cohort", "associate", "demo")]  # fmt: skip
    for verb in [*verbs, hespotex.tl.predict_expression, hespotex.tl.extract_features]:
        names = signature(verb).parameters
        assert names["progress"].default is None, verb
        assert "reporter" not in names, verb
