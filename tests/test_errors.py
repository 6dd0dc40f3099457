"""Errors carry fields, and become one line of text once."""

from __future__ import annotations

import pickle

import pytest

from hespotex.errors import HESpotExError, ManifestError, SlideError


def test_the_fields_of_an_error_make_its_sentence() -> None:
    error = SlideError(expected="a slide", found=3, remedy="take another", section="S1")
    assert str(error) == "section S1: expected a slide, found 3; take another"
    assert (error.expected, error.found, error.remedy) == ("a slide", "3", "take another")
    assert error.finding == "expected a slide, found 3"
    assert error.message == "expected a slide, found 3; take another"


def test_a_cause_stands_behind_a_colon() -> None:
    error = SlideError(expected="a slide", cause="no such file", remedy="check the path")
    assert str(error) == "expected a slide, found: no such file; check the path"


def test_what_is_wrong_may_be_said_in_free_words_and_is_one_line() -> None:
    assert str(SlideError("a\nb", remedy="c\nd")) == "a b; c d"


def test_a_section_is_named_once_and_by_whoever_knew_it_first() -> None:
    error = SlideError("no pixels")
    error.of_section("inner")
    error.of_section("outer")
    assert str(error) == "section inner: no pixels"


@pytest.mark.parametrize(
    "error",
    [
        SlideError(expected="a", found="b", remedy="c", section="S"),
        ManifestError("m.csv", ["row 2: no spots", "row 3: no slide"]),
    ],
)
def test_an_error_of_a_worker_process_keeps_its_fields(error: HESpotExError) -> None:
    """Dask sends what a worker raised by pickle."""
    there = pickle.loads(pickle.dumps(error))
    assert type(there) is type(error)
    assert str(there) == str(error)
    assert vars(there) == vars(error)
