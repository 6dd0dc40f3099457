"""Which sections of a run `agree` compares, what came of each pair, and what is said beside it."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
import pandas as pd

from hespotex.analysis.prediction_file import PredictionFile, read_by_section
from hespotex.analysis.registration import Registration
from hespotex.errors import RunError, shorten
from hespotex.storage.run_folder import RunDir

Pair = tuple[str, str]

OTHER_PATIENT: Final = "they are no slices of one block, however well they fit"


@dataclass(frozen=True)
class PairResult:
    """What came of a pair.

    Attributes:
        first, second: section ids; the frame is the first one's.
        registration: None where there is none.
        trained: why consistency of the pair is no evidence; empty where nothing is known against it.
        refused: why the pair was not compared; empty where it was.
        table: of `agreement`; empty where the pair was refused.
        apart: steps between them in the series; NaN where they are of none, or of two.
        series: of both; empty where they are of none, or of two.
        same_patient: both sections are of one patient.
        unlike: which of them are unlike the training slides, so that no grade holds there; empty where neither is.
        genes: how many are common, of how many; empty where both hold the same.
    """

    first: str
    second: str
    registration: Registration | None
    trained: str
    refused: str
    table: pd.DataFrame
    apart: float
    same_patient: bool = True
    series: str = ""
    unlike: str = ""
    genes: str = ""


def read_sections(run: Path) -> dict[str, PredictionFile]:
    """The predictions of a run folder by section id.

    Raises:
        RunError: there is none, or a section stands in two files.
    """
    files = read_by_section(RunDir(run).predicted())
    if not files:
        raise RunError(
            expected=f"predictions of sections in {run}",
            found="none",
            remedy="give the folder of cross-validate, evaluate or predict",
        )
    return files


def choose_pairs(
    files: Mapping[str, PredictionFile], asked: Sequence[str] = ()
) -> tuple[list[Pair], dict[str, float]]:
    """Pairs to compare, and the place of sections in their series.

    Args:
        asked: `A:B`, each taken once, also where B:A stands beside it; empty: all pairs within each `series` that the manifest named.

    Raises:
        RunError: a name is unknown, or there is no series.
    """
    order = {name: _number(_of_manifest(file, "order")) for name, file in files.items()}
    if asked:
        pairs = [tuple(text.split(":")) for text in asked]
        for text, pair in zip(asked, pairs, strict=True):
            if len(pair) != 2 or pair[0] == pair[1]:
                raise RunError(expected="two sections as A:B", found=text)
            if unknown := [name for name in pair if name not in files]:
                raise RunError(
                    expected=f"sections of the run ({shorten(list(files))})", found=unknown[0]
                )
        once: dict[frozenset[str], Pair] = {}
        for a, b in pairs:
            once.setdefault(frozenset((a, b)), (a, b))
        return list(once.values()), order
    series: dict[str, list[str]] = {}
    for name, file in files.items():
        if text := series_of(file):
            series.setdefault(text, []).append(name)
    found = [
        pair
        for names in series.values()
        for pair in itertools.combinations(
            sorted(names, key=lambda n: (np.nan_to_num(order[n], nan=np.inf), n)), 2
        )
    ]
    if not found:
        raise RunError(
            expected="a column series in the manifest of the run with two sections of one block",
            found="none",
            remedy="say which sections belong together: --pairs A:B",
        )
    return found, order


def series_of(file: PredictionFile) -> str:
    """The series that the manifest named for a section; empty where none."""
    return _of_manifest(file, "series")


def _of_manifest(file: PredictionFile, column: str) -> str:
    with file.opened() as table:
        from anndata.io import read_elem

        if column not in table["obs"]:
            return ""
        return str(np.asarray(read_elem(table[f"obs/{column}"]))[0])


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        return float("nan")


def trained_note(a: PredictionFile, b: PredictionFile) -> str:
    """Why the consistency of a pair is no evidence: one section, or its patient, trained the other's model."""
    said = []
    for this, other in ((a, b), (b, a)):
        known = [str(name) for name in other.spots.record.get("training_sections", ())]
        if this.spots.section_id in known:
            said.append(f"{this.spots.section_id} trained the model of {other.spots.section_id}")
        elif this.spots.patient_id == other.spots.patient_id and other.claims.patient == "same":
            said.append(f"their patient trained the model of {other.spots.section_id}")
    return "trained on it: " + "; ".join(said) if said else ""


def unlike_note(a: PredictionFile, b: PredictionFile) -> str:
    """Which sections are unlike the training slides, each with its verdict; empty where none is."""
    said = [f"{f.spots.section_id} ({f.claims.verdict})" for f in (a, b) if f.claims.suspended]
    return f"no grade holds on {' and '.join(said)}" if said else ""


def pair_notes(result: PairResult) -> list[str]:
    """What has to be known of a pair, in sentences."""
    both = f"{result.first} and {result.second}"
    notes = [] if result.same_patient else [f"{both} are of different patients: {OTHER_PATIENT}"]
    if result.unlike:
        notes.append(f"{both}: {result.unlike}")
    if result.refused:
        return [*notes, f"{both} are not compared: {result.refused}"]
    return [*notes, f"{both}: {result.genes}"] if result.genes else notes


def ridge_note(results: Sequence[PairResult]) -> str:
    """Which pairs lack a comparison of ridge, and why; empty where none does."""
    lacking = [
        f"{r.first}:{r.second}"
        for r in results
        if not r.table.empty and not r.table["what"].str.startswith("ridge A / ridge B").any()
    ]
    if not lacking:
        return ""
    return (
        f"ridge is not compared on {shorten(lacking)}: files of hespotex before this version, of slides without "
        "spots, and of models without a ridge hold no maps of it; predict at spots, evaluate or cross-validate again"
    )
