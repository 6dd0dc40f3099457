"""Tables that a user gives beside a cohort: clinical data by patient or slide; reads files."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import pandas as pd

from hespotex import keys
from hespotex.analysis.patient_ids import patient_of
from hespotex.errors import ConfigError, shorten
from hespotex.storage.text_files import open_text

# How tables name the patient, in lower case; the first that is there counts.
PATIENT_COLUMNS: Final = (
    "patient_id", "patient", "case_id", "case_submitter_id", "bcr_patient_barcode", "submitter_id", "participant",
    "case", "patientid",
)  # fmt: skip
SLIDE_COLUMNS: Final = (keys.SECTION_ID, "slide_id", "slide", "wsi_file_name", "sample_id")
_SNIFFED: Final = 65536


def read_any_table(path: Path, what: str) -> pd.DataFrame:
    """A table with a header in text, whatever its separator and packing; every cell is text, an empty one is empty.

    Raises:
        ConfigError: it is missing, no text, or no table.
    """
    with open_text(path, what, ConfigError) as stream:
        head = stream.readline()
        separator = max("\t,;", key=head.count)
        if not head.count(separator):
            raise ConfigError(
                expected=f"{what} in {path}", found="a first line with neither commas, tabs nor semicolons",
                remedy="save it as CSV or TSV with a line of column names",
            )  # fmt: skip
        columns = next(csv.reader([head], delimiter=separator))
        try:
            table = pd.read_csv(
                stream, sep=separator, names=_named(columns), header=None, dtype=str,
                keep_default_na=False, index_col=False, on_bad_lines="error",
            )  # fmt: skip
        except (pd.errors.ParserError, pd.errors.ParserWarning, ValueError) as error:
            raise ConfigError(
                expected=f"{what} in {path}", cause=" ".join(str(error).split()),
                remedy="give every line as many cells as the first",
            ) from error  # fmt: skip
    if table.empty:
        raise ConfigError(expected=f"{what} in {path}", found="no row below the column names")
    return table


def _named(columns: Sequence[str]) -> list[str]:
    """R leaves the name of the first column out where it holds row names; doubled names stay told apart."""
    seen: dict[str, int] = {}
    names = []
    for k, name in enumerate(columns):
        bare = name.strip() or f"column {k + 1}"
        seen[bare] = seen.get(bare, 0) + 1
        names.append(bare if seen[bare] == 1 else f"{bare}.{seen[bare]}")
    return names


def find_column(table: pd.DataFrame, names: Sequence[str]) -> str | None:
    """The column that has one of these names in any case."""
    by_lower = {str(c).strip().lower(): str(c) for c in reversed(list(table.columns))}
    return next((by_lower[name] for name in names if name in by_lower), None)


def attach_clinical(obs: pd.DataFrame, path: Path) -> tuple[pd.DataFrame, list[str]]:
    """The rows of a cohort with all columns of a table, and sentences on what did not meet.

    Args:
        obs: index names the rows; `patient_id`, and `section_id` where rows are slides.
        path: a table with a column of patients or of slides; barcodes of TCGA are cut to the patient.

    Raises:
        ConfigError: no such column, nothing matches, or two rows of a patient differ.
    """
    table = read_any_table(path, "a clinical table")
    of_slide = find_column(table, SLIDE_COLUMNS) if keys.SECTION_ID in obs else None
    column = of_slide or find_column(table, PATIENT_COLUMNS)
    if column is None:
        raise ConfigError(
            expected=f"a column patient_id{' or section_id' if keys.SECTION_ID in obs else ''} in {path}",
            found=shorten([str(c) for c in table.columns], 6),
            remedy="name the column of patients patient_id",
        )
    cut = (lambda name: name.strip()) if of_slide else patient_of
    wanted = obs[keys.SECTION_ID if of_slide else keys.PATIENT_ID].astype(str)
    rows = table.assign(**{column: table[column].map(cut)}).drop_duplicates()
    if of_slide:
        known = set(wanted)
        rows[column] = [n if n in known else Path(n).stem for n in rows[column]]
    rows = rows[rows[column].isin(set(wanted))]
    if rows.empty:
        raise ConfigError(
            expected=f"{'slides' if of_slide else 'patients'} of the cohort in column {column} of {path}",
            found=f"{shorten(list(dict.fromkeys(table[column])), 3)}, where the cohort has "
            f"{shorten(list(dict.fromkeys(wanted)), 3)}",
            remedy="give the names that the predictions have (predict --patient, or the manifest's patient_id)",
        )
    twice = rows[column][rows[column].duplicated()].unique().tolist()
    if twice:
        first = rows[rows[column] == twice[0]]
        differing = [c for c in first.columns if first[c].nunique() > 1]
        raise ConfigError(
            expected=f"one row a {'slide' if of_slide else 'patient'} in {path}",
            found=f"{len(twice):,} with several that differ: {shorten(twice, 3)} (in {shorten(differing, 3)})",
            remedy="keep one row each, or name slides in a column section_id",
        )
    joined = _joined(obs, rows.set_index(column), wanted, of_slide is not None)
    missing = wanted[~wanted.isin(rows[column])].unique().tolist()
    notes = []
    if missing:
        noun = "slides" if of_slide else "patients"
        notes.append(
            f"{len(missing):,} {noun} of the cohort are not in {path.name}: {shorten(missing, 3)}"
        )
    return joined, notes


def _joined(
    obs: pd.DataFrame, rows: pd.DataFrame, wanted: pd.Series, of_slide: bool
) -> pd.DataFrame:
    """obs with the columns of the table; numbers become numbers, an empty cell is missing."""
    found = rows.reindex(wanted.to_numpy())
    out = obs.copy()
    if of_slide and (patients := find_column(rows, PATIENT_COLUMNS)) is not None:
        said = found[patients].fillna("").to_numpy(dtype=str)
        out[keys.PATIENT_ID] = [
            patient_of(new) if new.strip() else old
            for old, new in zip(out[keys.PATIENT_ID], said, strict=True)
        ]
        found = found.drop(columns=patients)
    for name in found.columns:
        values = found[name].map(lambda v: v.strip() if isinstance(v, str) else v).replace("", None)
        numbers = pd.to_numeric(values, errors="coerce")
        whole = bool((numbers.notna() == values.notna()).all() and values.notna().any())
        own = str(name).replace("/", " per ")
        own = f"{own} of table" if own in out else own
        kept = numbers.astype(float) if whole else values.astype(object)
        out[own] = kept.to_numpy()
    return out
