"""Tables that a user gives beside a cohort: clinical data by patient or slide; reads files."""

from __future__ import annotations

import csv
import re
from collections.abc import Sequence
from pathlib import Path
from typing import IO, Final

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
# What stands in a cell of which nothing is known, as R, pandas, TCGA and the GDC write it. "none" and "unknown" stay: they may be groups.
_NOTHING: Final = frozenset(
    {
        "na", "n/a", "#n/a", "nan", "null", "--", "'--", "[not available]", "[not applicable]", "[not evaluated]", "[unknown]",
        "[discrepancy]", "not reported", "not available", "not applicable",
    }
)  # fmt: skip
_SEPARATORS: Final = "\t,;"
_ZERO_FIRST: Final = re.compile(r"[+-]?0\d+")
_DECIMAL_COMMA: Final = r"[+-]?\d+(?:,\d+)?(?:[eE][+-]?\d+)?"


def read_any_table(path: Path, what: str) -> pd.DataFrame:
    """A table with a header in text, whatever its separator and packing; every cell is text, an empty one is empty.

    Raises:
        ConfigError: it is missing, no text, or no table.
    """
    with open_text(path, what, ConfigError) as stream:
        head = _below_comments(stream)
        separator = max(_SEPARATORS, key=head.count)
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
    return with_points(table) if separator == ";" else table


def with_points(table: pd.DataFrame) -> pd.DataFrame:
    """Decimal commas as points, in columns whose every cell is a number: where semicolons separate, a comma can be nothing else."""
    out = table.copy()
    for name in table.columns:
        cells = table[name].str.strip()
        filled = cells[~cells.str.lower().isin({"", *_NOTHING})]
        if filled.str.fullmatch(_DECIMAL_COMMA).all() and filled.str.contains(",").any():
            out[name] = cells.where(~cells.isin(filled), cells.str.replace(",", "."))
    return out


def _below_comments(stream: IO[str]) -> str:
    """The line of column names: lines that begin with # may stand above it, as cBioPortal writes, or it begins so itself."""
    first = head = stream.readline()
    n = 0
    while head.startswith("#"):
        head, n = stream.readline(), n + 1
    if n == 1 and all(first.count(s) >= head.count(s) for s in _SEPARATORS):
        stream.seek(0)
        return stream.readline()[1:]
    return head


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
    of_patient = find_column(table, PATIENT_COLUMNS)
    of_slide = find_column(table, SLIDE_COLUMNS) if keys.SECTION_ID in obs else None
    if of_slide and of_patient and not _names_slides(table[of_slide], obs):
        of_slide = None  # samples or slides of another kind: the patient is what both know
    column = of_slide or of_patient
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


def _names_slides(names: pd.Series, obs: pd.DataFrame) -> bool:
    known = set(obs[keys.SECTION_ID].astype(str))
    return any(name.strip() in known or Path(name.strip()).stem in known for name in names)


def _values(column: pd.Series) -> pd.Series:
    """A column as numbers where all cells are; codes that begin with 0 stay text, since 01 and 1 may be two things."""
    bare = column.map(lambda v: v.strip() if isinstance(v, str) else v)
    values = bare.map(lambda v: None if isinstance(v, str) and v.lower() in _NOTHING else v)
    values = values.replace("", None)
    if values.map(lambda v: isinstance(v, str) and _ZERO_FIRST.fullmatch(v) is not None).any():
        return values.astype(object)
    numbers = pd.to_numeric(values, errors="coerce")
    whole = bool((numbers.notna() == values.notna()).all() and values.notna().any())
    return numbers.astype(float) if whole else values.astype(object)


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
        own = str(name).replace("/", " per ")
        own = f"{own} of table" if own in out else own
        out[own] = _values(found[name]).to_numpy()
    return out
