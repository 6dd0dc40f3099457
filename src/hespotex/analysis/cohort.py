"""Predictions of any number of slides as one table: patients or slides x genes."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, Literal

import pandas as pd

from hespotex import keys
from hespotex.analysis.clinical import attach_clinical, read_any_table
from hespotex.analysis.cohort_files import CohortPaths, write_cohort
from hespotex.analysis.cohort_rows import patient_rows, slide_obs, slides_of_patient
from hespotex.analysis.patient_ids import owner
from hespotex.analysis.slide_summary import SlideSummary, read_kept, summarise_slide
from hespotex.config.values import expect_kind
from hespotex.errors import ConfigError, HESpotExError, RunError, counted, shorten
from hespotex.progress import Progress, Reporter, heard
from hespotex.storage.atomic import atomic_path, check_writable
from hespotex.storage.content_keys import content_key
from hespotex.storage.run_folder import RunDir

By = Literal["slide", "patient"]
_VERSION: Final = 4  # of the summaries that are kept


@dataclass(frozen=True)
class CohortResult:
    """What came of a cohort.

    Attributes:
        paths: of what was written, by label.
        n_rows: patients or slides in the table.
        n_genes: columns.
        n_failed: files that could not be used; `slides.csv` says why.
        notes: sentences to be read beside the table.
    """

    paths: CohortPaths
    n_rows: int
    n_genes: int
    n_failed: int
    notes: tuple[str, ...] = ()


@dataclass
class _Source:
    """A file, and what came of it."""

    path: Path
    kept: Path
    section_id: str = ""
    patient_id: str = ""
    model_id: str = ""
    why: str = ""
    genes: tuple[str, ...] = ()
    sets: tuple[str, ...] = ()
    set_genes: tuple[str, ...] = ()
    summary_of: dict[str, float | str] = field(default_factory=dict)


def cohort(
    predicted: str | Path | Sequence[str | Path],
    out: str | Path,
    *,
    clinical: str | Path | None = None,
    by: By = "patient",
    progress: Progress = None,
) -> CohortResult:
    """Sum predictions up, one row a patient or slide, and write `cohort.h5ad` with tables beside it.

    Every file is read once and in blocks, and its summary is kept in `out`: a later call with more slides, or after
    an interruption, goes on. A file that cannot be used is a row of `slides.csv`.

    Example:
        >>> cohort("predicted", "cohort", clinical="clinical.csv")  # doctest: +SKIP

    Args:
        predicted: run folders of `predict`, folders of h5ad, or h5ad files.
        out: folder for cohort.h5ad, expression.parquet, expression.csv, genes.csv, slides.csv.
        clinical: a table with a column patient_id or section_id; all its columns go to obs.
        by: one row a patient (all slides joined) or one a slide.
        progress: True draws bars, False says nothing, a `hespotex.Reporter` hears it; None draws bars where somebody looks.

    Raises:
        HESpotExError: there is no prediction, none can be used, or the table does not fit.
    """
    out, reporter = Path(out), heard(progress)
    if by not in {"slide", "patient"}:
        raise ConfigError(expected="--by slide or patient", found=f"{by!r}")
    expect_kind("progress", reporter, object)
    given = [predicted] if isinstance(predicted, (str, Path)) else list(predicted)
    files = prediction_files([Path(p) for p in given])
    if clinical is not None and not Path(clinical).is_file():
        raise ConfigError(
            expected=f"a clinical table at {clinical}", found="no file", remedy="check the path"
        )
    if clinical is not None:
        read_any_table(Path(clinical), "a clinical table")  # says what is wrong before any slide
    check_writable(out)
    sources = _summarised(files, out / "summaries", reporter)
    used, notes = _chosen(sources, reporter)
    if not used:
        why = Counter(s.why for s in sources).most_common(1)[0][0]
        raise RunError(
            expected=f"predictions that can be used among {counted(len(sources), 'file')}",
            found=f"none; the first says: {why}",
        )
    obs = slide_obs([s.summary_of for s in used])
    unnamed, own = obs.pop("patient_named") == 0, obs[keys.PATIENT_ID]
    said: list[str] = []
    if clinical is not None:
        obs, said = attach_clinical(obs, Path(clinical))
    notes += [*_unnamed(obs[unnamed & (obs[keys.PATIENT_ID] == own)]), *said]
    genes = list(dict.fromkeys(g for s in used for g in s.genes))
    sets, said = _sets_of(used)
    notes += said
    rows = obs if by == "slide" else patient_rows(obs)
    members = _members(obs, rows, by)
    if left := len(obs) - sum(map(len, members)):
        notes.append(
            f"{counted(left, 'slide')} without a part in the row of a patient: unlike the training's, or frozen beside FFPE"
        )
    for sentence in notes:
        reporter.warn(sentence)
    with reporter.task("writing the cohort", len(rows)) as advance:
        paths = write_cohort(
            out,
            rows,
            genes,
            sets,
            ([_read(used[k]).of_sets(sets) for k in of_row] for of_row in members),
            by=by,
            model_id=used[0].model_id,
            notes=notes,
            advance=advance,
        )
    _write_sources(out / "slides.csv", sources)
    n_failed = sum(bool(s.why) for s in sources)
    return CohortResult(paths, len(rows), len(genes), n_failed, tuple(notes))


def prediction_files(given: Sequence[Path]) -> list[Path]:
    """The h5ad files of run folders, folders and paths, each once, in the order given.

    Raises:
        RunError: a path is missing or holds no prediction.
    """
    files: dict[Path, None] = {}
    for path in given:
        if path.is_dir():
            found = RunDir(path).predicted() or sorted(
                p for p in path.glob("*.h5ad") if not p.name.startswith(".")
            )
            if not found:
                raise RunError(
                    expected=f"predictions in {path}", found="a folder without h5ad files",
                    remedy="give the folder that `hespotex predict --out` wrote",
                )  # fmt: skip
        elif path.exists():
            found = [path]
        else:
            raise RunError(
                expected=f"predictions at {path}", found="nothing", remedy="check the path"
            )
        files |= dict.fromkeys(p.resolve() for p in found)
    return list(files)


def _summarised(files: Sequence[Path], kept: Path, reporter: Reporter) -> list[_Source]:
    """Every file summed up, or why it cannot be; memory holds one at a time."""
    sources = []
    same: dict[tuple[str, ...], tuple[str, ...]] = {}  # names are held once, not once a file
    with reporter.task("summing up slides", len(files)) as advance:
        for path in files:
            source = _summarise(path, kept)
            source.genes = same.setdefault(source.genes, source.genes)
            source.sets = same.setdefault(source.sets, source.sets)
            source.set_genes = same.setdefault(source.set_genes, source.set_genes)
            sources.append(source)
            advance(1)
    return sources


def _summarise(path: Path, kept: Path) -> _Source:
    try:
        facts = path.stat()
    except OSError as error:
        return _Source(path, kept, why=f"expected a prediction at {path}, found: {error.strerror}")
    key = content_key(_VERSION, [str(path), facts.st_size, facts.st_mtime_ns])
    source = _Source(path, kept / f"{key[:24]}.npz")
    summary = read_kept(source.kept)
    if summary is None:
        try:
            summary = summarise_slide(path)
        except HESpotExError as error:
            source.why = str(error)
            return source
        except Exception as error:  # noqa: BLE001 - a damaged table raises anything; one file must not end a cohort
            source.why = f"expected a prediction of hespotex in {path}, found: {type(error).__name__}: {' '.join(str(error).split())}"
            return source
        summary.write(source.kept)
    source.section_id, source.model_id = summary.section_id, summary.model_id
    source.patient_id, named = owner(summary.section_id, summary.patient_id)
    source.genes, source.sets = tuple(summary.genes.tolist()), tuple(summary.sets.tolist())
    source.set_genes = tuple(summary.set_genes.tolist())
    source.summary_of = {
        keys.SECTION_ID: summary.section_id,
        keys.PATIENT_ID: source.patient_id,
        "patient_named": float(named),
        "n_spots": summary.n_spots,
        "n_used": summary.n_used,
        "flagged": summary.flagged,
        "verdict": summary.verdict,
        "tissue_mm2": summary.tissue_mm2,
        keys.PREDICTED_DEPTH: summary.depth,
    }
    return source


def _chosen(sources: Sequence[_Source], reporter: Reporter) -> tuple[list[_Source], list[str]]:
    """Sources that make one table: of one model, each section once; the others say why."""
    good = [s for s in sources if not s.why]
    models = Counter(s.model_id for s in good)
    model = models.most_common(1)[0][0] if models else ""
    seen: dict[str, Path] = {}
    used = []
    for source in good:
        if source.model_id != model:
            source.why = f"expected a prediction of model {model}, as {models[model]:,} of {len(good):,} are, found one of {source.model_id}; make a cohort of its own"
        elif source.section_id in seen:
            source.why = f"expected every section once, found {source.section_id} in {seen[source.section_id]}, too"
        else:
            seen[source.section_id] = source.path
            used.append(source)
    failed = [s for s in sources if s.why]
    notes = []
    if failed and used:
        first = f"{failed[0].path.name}: {failed[0].why}"
        notes.append(
            f"{counted(len(failed), 'file')} of {len(sources):,} left out, see slides.csv; first {first}"
        )
    return used, notes


def _sets_of(used: Sequence[_Source]) -> tuple[list[str], list[str]]:
    """Gene sets that have the same genes in all files, and a line on the others."""
    known: dict[str, set[str]] = {}
    for names, genes in dict.fromkeys((s.sets, s.set_genes) for s in used):
        for name, of in zip(names, genes, strict=True):
            known.setdefault(name, set()).add(of)
    mixed = [name for name, of in known.items() if len(of) > 1]
    notes = [
        f"{counted(len(mixed), 'gene set')} left out, of other genes in some files under the same name: {shorten(mixed, 3)}; "
        "predict all slides with one --gene-sets."
    ]
    return [name for name in known if name not in mixed], notes if mixed else []


def _unnamed(obs: pd.DataFrame) -> list[str]:
    lone = obs[keys.SECTION_ID].tolist()
    if not lone:
        return []
    return [
        f"{counted(len(lone), 'slide')} without a patient's name: each counts as a patient of its own ({shorten(lone, 3)})"
    ]


def _members(obs: pd.DataFrame, rows: pd.DataFrame, by: By) -> list[list[int]]:
    """Places of the slides that make each row."""
    if by == "slide":
        return [[k] for k in range(len(obs))]
    place = {name: k for k, name in enumerate(obs[keys.SECTION_ID])}
    groups = {p: slides_of_patient(every) for p, every in obs.groupby(keys.PATIENT_ID)}
    return [[place[s] for s in groups[p][keys.SECTION_ID]] for p in rows[keys.PATIENT_ID]]


def _read(source: _Source) -> SlideSummary:
    return SlideSummary.read(source.kept)


def _write_sources(path: Path, sources: Sequence[_Source]) -> None:
    """slides.csv: one row a file."""

    def rows() -> Iterator[dict[str, object]]:
        for s in sources:
            yield {
                "file": s.path.name, "status": "left out" if s.why else "used", "why": s.why, **s.summary_of,
            }  # fmt: skip

    table = pd.DataFrame(list(rows())).drop(columns="patient_named", errors="ignore")
    with atomic_path(path) as temporary:
        table.assign(use=keys.RESEARCH_USE).to_csv(
            temporary, index=False, errors="backslashreplace"
        )
