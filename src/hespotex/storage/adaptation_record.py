"""NAME.adaptation.json: what adapting a model to own sections is worth, beside the model as it came and own sections alone."""

# ruff: noqa: RUF012 - pydantic gives every instance its own copy of a default

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import ClassVar, Final

from hespotex.storage.schema import JsonFile, Schema, Score

CAME: Final = "came"
ADAPTED: Final = "adapted"
OWN: Final = "own"
ROWS: Final[Mapping[str, str]] = {
    CAME: "model as it came",
    ADAPTED: "adapted",
    OWN: "own sections alone",
}


class RowScores(Schema):
    """Scores of one of the three rows, over the genes of the model as it came."""

    pcc_composition_mean: Score = math.nan
    """Mean over genes."""
    pcc_composition_abundant200: Score = math.nan
    """Over the 200 most abundant genes of the model's training."""
    rmse_log1p: Score = math.nan
    """Over all measured genes and spots; none where a section measured a part of the genes."""


class SectionPair(Schema):
    """A difference of mean PCC of composition on one section."""

    value: Score = math.nan
    deviation: Score = math.nan
    """Over draws of spatial blocks."""
    n_blocks: int = 0


class AdaptedSection(Schema):
    """What the rows reached on one held-out section."""

    section_id: str
    patient_id: str = ""
    scores: dict[str, RowScores] = {}
    """By row."""
    differences: dict[str, SectionPair] = {}
    """Adapted less another row."""


class AdaptedFold(JsonFile):
    """What one outer fold, or all blocks of the one section, gave."""

    holds: ClassVar[str] = "the record of a fold of adapt"

    strengths: list[tuple[float | None, bool]] = []
    """Chosen inside the training part, one a part: penalty of the pattern, and whether levels were fitted."""
    sections: list[AdaptedSection] = []


class DifferenceRecord(Schema):
    """Adapted less another row, over all held-out sections."""

    value: Score = math.nan
    lower: Score = math.nan
    """Of the 95 % interval."""
    upper: Score = math.nan
    units: str = ""
    """`patients`, or `blocks` of these sections; empty where there is no interval."""


class AdaptationRecord(JsonFile):
    """The whole file; a model file holds the same."""

    holds: ClassVar[str] = "the record of adapt"

    model: str
    """Id of the model as it came."""
    held_out: str
    """What was left out in turn: `patient`, `kfold`, `section` or `blocks`."""
    note: str = ""
    """What every number here must carry."""
    rows: dict[str, RowScores] = {}
    """By row: means over patients."""
    differences: dict[str, DifferenceRecord] = {}
    """Adapted less another row, of the mean PCC of composition."""
    chosen: str = ""
    """The strength that all own sections choose, in words."""
    folds_kept: int = 0
    """Of how many training parts the choice was the model as it came."""
    folds: int = 0
    """Training parts in all."""
    new_genes: int = 0
    """Genes that the model lacked."""
    pays: bool = False
    sentence: str = ""
    """What follows."""
    sections: list[AdaptedSection] = []
