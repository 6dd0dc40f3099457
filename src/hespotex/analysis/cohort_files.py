"""Files of a cohort: h5ad, Parquet and CSV, written row by row."""

from __future__ import annotations

import csv
from collections.abc import Collection, Iterable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import pandas as pd

from hespotex import keys
from hespotex.analysis.cohort_rows import LAYERS, SETS, RowValues, joined_row
from hespotex.analysis.slide_summary import SlideSummary
from hespotex.errors import RunError
from hespotex.evaluation.grades import UNGRADED
from hespotex.progress import Advance
from hespotex.storage.atomic import atomic_path
from hespotex.storage.clock import versions
from hespotex.storage.disk_errors import disk_fields

FORMAT_VERSION: Final = 1
_DENSE: Final = {"encoding-type": "array", "encoding-version": "0.2.0"}
_GRADES: Final = ("A", "B", "C", "D", UNGRADED)
_ROWS: Final = 512  # of a group of the Parquet file, which keeps an entry a gene for each group
UNITS: Final[Mapping[str, str]] = {
    "X": "log1p(CPM over the model's gene panel) of the pseudobulk; spots weigh by predicted depth",
    keys.COMPOSITION: f"mean over spots of {keys.UNIT_COMPOSITION}",
    "spread": "standard deviation of composition over spots",
    "above_upper_quartile": "part of the spots whose composition lies above the upper quartile of the training spots",
    "morans_i": "Moran's I of composition among touching spots",
    keys.LOWER: "X with the pseudobulk at the lower end of the 90 % interval of the largest calibrated region",
    keys.UPPER: "X with the pseudobulk at the upper end of the 90 % interval of the largest calibrated region",
    keys.RIDGE: "log1p(CPM) by the ridge on the mean feature of a slide, which predictions carry",
    SETS[0]: f"{keys.UNIT_GENE_SETS}; of the pseudobulk",
    SETS[1]: "standard deviation of the set's composition over spots",
    SETS[
        2
    ]: "part of the spots whose composition of the set lies above the upper quartile of the training spots",
    SETS[3]: "Moran's I of the set's composition among touching spots",
    SETS[4]: "gene_sets at the lower end of the 90 % interval of the largest calibrated region",
    SETS[5]: "gene_sets at the upper end of the 90 % interval of the largest calibrated region",
}
_OLD: Final = "the model that predicted these slides learnt none for its sets: it is of before this version, was not calibrated, or had other sets"


@dataclass(frozen=True)
class CohortPaths:
    """What was written."""

    h5ad: Path
    parquet: Path
    csv: Path
    genes: Path
    slides: Path
    gene_sets: Path | None = None


class _Columns:
    """var, or that of gene sets, filled while slides pass by: the worst grade that a column has on a slide like the training's."""

    def __init__(
        self, names: Sequence[str], grades: Sequence[str], numbers: Sequence[str], *, sets: bool
    ) -> None:
        self.place = {g: j for j, g in enumerate(names)}
        self._of, self._prefix = ("sets", "set_") if sets else ("genes", "")
        self.n_slides = np.zeros(len(names), np.int64)
        self.grades = {name: np.full(len(names), -1) for name in grades}
        self.numbers = {name: np.full(len(names), np.nan) for name in numbers}

    def see(self, slide: SlideSummary) -> None:
        at = [self.place[g] for g in getattr(slide, self._of).tolist()]
        self.n_slides[at] += 1
        for name, values in self.numbers.items():
            values[at] = getattr(slide, self._prefix + name)
        if not slide.unlike:
            for name, worst in self.grades.items():
                worst[at] = np.maximum(worst[at], _ranks(getattr(slide, self._prefix + name)))

    def table(self) -> pd.DataFrame:
        var = pd.DataFrame(index=pd.Index(list(self.place), dtype=object))
        for name, worst in self.grades.items():
            var[name] = pd.Categorical([_GRADES[k] if k >= 0 else UNGRADED for k in worst])
        for name, values in self.numbers.items():
            var[name] = values
        var["n_slides"] = self.n_slides
        return var


def _ranks(grades: npt.NDArray[np.str_]) -> npt.NDArray[np.int_]:
    place = {g: k for k, g in enumerate(_GRADES)}
    return np.array([place.get(g, len(_GRADES) - 1) for g in grades.tolist()], dtype=np.int_)


def write_cohort(
    out: Path,
    obs: pd.DataFrame,
    genes: Sequence[str],
    sets: Sequence[str],
    rows: Iterable[Sequence[SlideSummary]],
    *,
    by: str,
    model_id: str,
    notes: Sequence[str],
    advance: Advance,
) -> CohortPaths:
    """Write all files of a cohort; memory holds one row at a time, and the descriptions.

    Args:
        obs: one row a patient or slide.
        rows: the slides of each row of `obs`, in its order.
        by: slide or patient.
        notes: sentences that the table carries.

    Raises:
        RunError: a file cannot be written.
    """
    paths = CohortPaths(
        out / "cohort.h5ad", out / "expression.parquet", out / "expression.csv", out / "genes.csv", out / "slides.csv",
        out / "gene_sets.csv" if sets else None,
    )  # fmt: skip
    var = _Columns(genes, (keys.GRADE, keys.LEVEL_GRADE), (keys.POOLED_SHARE, keys.UPPER_QUARTILE), sets=False)  # fmt: skip
    of_sets = _Columns(sets, (keys.GRADE,), (keys.UPPER_QUARTILE,), sets=True)
    with ExitStack() as stack:
        try:
            file = _opened(stack, paths.h5ad)
            tables = _tables(file, (len(obs), len(genes)), len(sets))
            text, wide = _text(stack, paths.csv), _Parquet(stack, paths.parquet, genes)
            text.writerow([by, *genes, "use"])
            set_text = _text(stack, paths.gene_sets) if paths.gene_sets is not None else None
            if set_text is not None:
                set_text.writerow([by, *sets, "use"])
            known: set[str] = set()
            for row, slides in enumerate(rows):
                values = joined_row(slides, var.place, of_sets.place)
                for slide in slides:
                    var.see(slide)
                    of_sets.see(slide)
                known |= _fill(tables, row, values)
                name = obs.index[row]
                text.writerow([name, *(f"{v:.6g}" for v in values.x), keys.RESEARCH_USE])
                if set_text is not None:
                    shown = (f"{v:.6g}" for v in values.sets[keys.GENE_SETS])
                    set_text.writerow([name, *shown, keys.RESEARCH_USE])
                wide.add(str(name), values.x)
                advance(1)
            wide.flush()
            absent = _without_empty(file, known) if sets else {}
            _describe(file, obs, var.table(), of_sets.table(), absent, by, model_id, notes)
            file.close()
        except (OSError, RuntimeError) as error:
            said = disk_fields(error, writing=True, otherwise="free space or choose another folder")
            raise RunError(expected=f"to write the cohort in {out}", **said) from error
    with atomic_path(paths.genes) as temporary:
        table = var.table().rename_axis("gene").reset_index()
        table.assign(use=keys.RESEARCH_USE).to_csv(temporary, index=False)
    return paths


def _tables(file: Any, shape: tuple[int, int], n_sets: int) -> dict[str, Any]:
    """X, its layers and the tables of gene sets, empty, by name."""
    tables = {"X": file.create_dataset("X", shape, np.float32)}
    for group, names, width in (("layers", LAYERS, shape[1]), ("obsm", SETS, n_sets)):
        made = file.create_group(group)
        made.attrs.update({"encoding-type": "dict", "encoding-version": "0.1.0"})
        for name in names if width else ():
            tables[name] = made.create_dataset(name, (shape[0], width), np.float32)
    for table in tables.values():
        table.attrs.update(_DENSE)
    return tables


def _fill(tables: Mapping[str, Any], row: int, values: RowValues) -> set[str]:
    """Write one row; the names of the tables that got a value."""
    known = set()
    for name, found in {"X": values.x, **values.layers, **values.sets}.items():
        if name in tables:
            tables[name][row] = found
            if np.isfinite(found).any():
                known.add(name)
    return known


def _without_empty(file: Any, known: Collection[str]) -> dict[str, str]:
    """Take out the tables of gene sets without any value; why each is missing, by name."""
    absent = [name for name in SETS if name not in known]
    for name in absent:
        del file[f"obsm/{name}"]
    why = {SETS[3]: "no set varies among spots that touch"}
    return {name: why.get(name, _OLD) for name in absent}


def _opened(stack: ExitStack, path: Path) -> Any:
    import h5py

    temporary = stack.enter_context(atomic_path(path))
    file = stack.enter_context(h5py.File(temporary, "w"))
    file.attrs.update({"encoding-type": "anndata", "encoding-version": "0.1.0"})
    return file


def _text(stack: ExitStack, path: Path) -> Any:
    temporary = stack.enter_context(atomic_path(path))
    stream = stack.enter_context(
        temporary.open("w", encoding="utf-8", errors="backslashreplace", newline="")
    )
    return csv.writer(stream, lineterminator="\n")


class _Parquet:
    """Rows are gathered into groups of a few hundred."""

    def __init__(self, stack: ExitStack, path: Path, genes: Sequence[str]) -> None:
        import pyarrow as pa
        import pyarrow.parquet as pq

        temporary = stack.enter_context(atomic_path(path))
        fields = [("row", pa.string()), *((g, pa.float32()) for g in genes)]
        self._schema = pa.schema(fields, metadata={"use": keys.RESEARCH_USE})
        self._writer = stack.enter_context(pq.ParquetWriter(temporary, self._schema))
        self._names: list[str] = []
        self._values: list[npt.NDArray[np.float32]] = []

    def add(self, name: str, values: npt.NDArray[np.float64]) -> None:
        self._names.append(name)
        self._values.append(values.astype(np.float32))
        if len(self._names) >= _ROWS:
            self.flush()

    def flush(self) -> None:
        import pyarrow as pa

        if self._names:
            block = np.stack(self._values).astype(np.float32)
            columns = [
                pa.array(self._names),
                *(pa.array(block[:, j]) for j in range(block.shape[1])),
            ]
            self._writer.write_table(pa.Table.from_arrays(columns, schema=self._schema))
        self._names, self._values = [], []


def _describe(
    file: Any, obs: pd.DataFrame, var: pd.DataFrame, of_sets: pd.DataFrame, absent: Mapping[str, str], by: str,
    model_id: str, notes: Sequence[str],
) -> None:  # fmt: skip
    from anndata.io import write_elem

    named = obs.copy()
    for name in named.columns:
        if named[name].dtype == object:
            given = named[name]
            named[name] = pd.Categorical(
                given.where(given.notna(), None).map(lambda v: v if v is None else str(v))
            )
    record: dict[str, Any] = {
        keys.FORMAT_VERSION: FORMAT_VERSION, "kind": "cohort", "by": by, "model_id": model_id, "units": dict(UNITS),
        "use": keys.RESEARCH_USE, "notes": np.array(list(notes), dtype=object), "versions": versions(),
    }  # fmt: skip
    if len(of_sets):
        record[keys.GENE_SETS] = of_sets.rename_axis("gene_set")
    if absent:
        record["gene_sets_absent"] = dict(absent)
    write_elem(file, "obs", named)
    write_elem(file, "var", var)
    write_elem(file, "uns", {keys.UNS: record})
    for name in ("varm", "obsp", "varp"):
        write_elem(file, name, {})
