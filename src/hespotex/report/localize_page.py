"""The verb `localize`: which spots of slides a diagnosis hangs on, tested over patients, and the page about it."""

from __future__ import annotations

import base64
import shutil
from collections.abc import Sequence
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Final

import numpy as np
import pandas as pd

from hespotex.analysis.association.result import RESEARCH_SENTENCE
from hespotex.analysis.localize import compare, outlined, outputs
from hespotex.analysis.localize.bags import FEWEST_PATIENTS, Bags, patient_folds, patients_by_class
from hespotex.analysis.localize.cohort import COMPOSITION, Slides, read_slides, write_inputs
from hespotex.analysis.localize.differences import differing_genes
from hespotex.analysis.localize.evidence import (
    LEVEL,
    PERMUTATIONS,
    STABLE,
    Scores,
    SpotMap,
    patient_labels,
    patient_margins,
    run_null,
    scores,
    spot_map,
)
from hespotex.analysis.localize.nested import Passed, nested_pass
from hespotex.analysis.localize.reduce import Reduced, reduce_folds
from hespotex.analysis.regions import Region
from hespotex.errors import ConfigError, shorten
from hespotex.progress import Reporter, heard
from hespotex.report.page import render_page
from hespotex.storage.atomic import atomic_path, check_writable, write_json

FINDING: Final = "finding"
NO_SIGNAL: Final = "no signal"
TOO_FEW: Final = "too few patients"
NO_EVIDENCE: Final = "no evidence"
CONFOUNDED: Final = "confounded"
FEW_PATIENTS: Final = "few-patients"
_SEEDS: Final = 3
_MOST_FIGURES: Final = 12
_MOST_GENES: Final = 25
_ATTENTION: Final = "attention over spots"
_NUMBERS: Final = "localize.json"
_WORK: Final = ".localize"


@dataclass
class LocalizeResult:
    """What `localize` found.

    Attributes:
        evidence: finding, confounded, no signal, no evidence or too few patients; every output carries it.
        sentences: to be read first.
        p_value: of the best input, by permuting labels among patients; NaN where nothing was tested.
        permutations: how many were made.
        rows: of the table of inputs and baselines.
        n_shown: spots that pass; 0 without a map.
        paths: of what was written, by label.
        genes: what is different in the drawn spots; None without a map.
    """

    evidence: str
    sentences: list[str]
    p_value: float = float("nan")
    permutations: int = 0
    rows: list[dict[str, Any]] = field(default_factory=list)
    n_shown: int = 0
    paths: dict[str, Path] = field(default_factory=dict)
    genes: pd.DataFrame | None = None


def localize(
    predicted: str | Path | Sequence[str | Path],
    out: str | Path,
    *,
    label: str,
    clinical: str | Path,
    site: str | None = None,
    features: str | Path | None = None,
    slides: str | Path | None = None,
    regions: str | Path | None = None,
    accept: Sequence[str] = (),
    permutations: int = PERMUTATIONS,
    seed: int = 0,
    reporter: Reporter | None = None,
) -> LocalizeResult:
    """Find the spots that a diagnosis hangs on, on slides of which only the diagnosis is known; for research use only.

    Example:
        >>> localize("predicted", "where", label="diagnosis", clinical="clinical.csv")  # doctest: +SKIP

    Args:
        predicted: run folders of `predict`, folders of h5ad, or h5ad files.
        out: folder for report.html, slides.csv, and where there is a finding maps and tables of spots.
        label: column of the table that names the diagnosis.
        clinical: a table with a column patient_id or section_id.
        site: column of the laboratory or scanner.
        features: folder of encoder features (TRIDENT, CLAM, LazySlide), each file named as its prediction.
        slides: folder of the slides, for the gallery.
        regions: folder of outlines, SECTION.geojson each; the map is scored against them.
        accept: `few-patients` runs with fewer than 8 patients of a diagnosis, and marks every output `no evidence`.
        permutations: of the labels, at least 19.
        seed: of folds, fits and permutations.
        reporter: hears of progress.

    Raises:
        HESpotExError: an input that does not fit; nothing is written then.
    """
    reporter, out = heard(reporter), Path(out)
    _check(accept, permutations)
    given = [predicted] if isinstance(predicted, (str, Path)) else list(predicted)
    read = read_slides(
        [Path(p) for p in given], Path(clinical), label,
        site=site, features=None if features is None else Path(features),
    )  # fmt: skip
    counts = patients_by_class(read.bags)
    outlines = outlined.read_outlines(read, None if regions is None else Path(regions))
    if FEW_PATIENTS in accept and min(counts.values()) < 2:
        raise ConfigError(
            expected="two patients of each diagnosis or more",
            found=", ".join(f"{n} {name}" for name, n in counts.items()),
        )
    check_writable(out)
    _clear(out)
    few = min(counts.values()) < FEWEST_PATIENTS
    notes = [*read.notes, f"Patients: {', '.join(f'{n} {name}' for name, n in counts.items())}."]
    if few and FEW_PATIENTS not in accept:
        result = LocalizeResult(
            TOO_FEW,
            [f"Too few patients: {FEWEST_PATIENTS} of each diagnosis are needed. Nothing was tested and no map is drawn.", *notes],
        )  # fmt: skip
        return _written(result, out, {}, reporter)
    work = out / _WORK
    try:
        inputs = write_inputs(read, work, reporter)
        return _tested(
            read, inputs, out, few, notes, outlines, slides, permutations, seed, reporter
        )
    finally:
        shutil.rmtree(work, ignore_errors=True)


def _tested(
    read: Slides,
    inputs: dict[str, Bags],
    out: Path,
    few: bool,
    notes: list[str],
    outlines: dict[str, tuple[Region, ...]],
    slides: str | Path | None,
    permutations: int,
    seed: int,
    reporter: Reporter,
) -> LocalizeResult:
    bags = inputs[COMPOSITION]
    folds, near = patient_folds(bags, seed=seed), bags.neighbours()
    true = patient_labels(bags, bags.labels)
    with reporter.task("reducing values inside folds", len(inputs)) as advance:
        reduced: dict[str, Reduced] = {}
        for name, of in inputs.items():
            reduced[name] = reduce_folds(of, folds)
            advance(1)
    passes = {n: nested_pass(r, bags.labels[None], near, seed=seed) for n, r in reduced.items()}
    of_input = {n: scores(patient_margins(bags, p.margin[0]), true) for n, p in passes.items()}
    with reporter.task("permuting labels", permutations) as advance:
        null = run_null(
            reduced, passes, near, permutations=permutations, seed=seed, advance=advance
        )
    best, found = null.best, null.p_value <= LEVEL
    said, same = compare.site_sentence(bags, seed=seed)
    evidence = NO_EVIDENCE if few else NO_SIGNAL if not found else CONFOUNDED if same else FINDING
    rows = _rows(of_input, reduced[best], bags, read)
    if (own := compare.site_folds(bags)) is not None:
        by_site = nested_pass(reduce_folds(inputs[best], own), bags.labels[None], near, seed=seed)
        rows.append(
            _row(f"{_ATTENTION}, {best}, each site left out", scores(patient_margins(bags, by_site.margin[0]), true))
        )  # fmt: skip
    result = LocalizeResult(evidence, [], null.p_value, len(null.permuted), rows)
    mapped = None
    if found or few:
        more = [
            nested_pass(reduced[best], bags.labels[None], near, seed=seed + k)
            for k in range(1, _SEEDS)
        ]
        mapped = spot_map([passes[best], *more], null, read.usable)
        result.n_shown = int(mapped.shown.sum())
    by = best if len(inputs) == 1 else f"{best}, the best of {len(inputs)} inputs"
    result.sentences = [
        *_sentences(result, of_input[best], by, mapped),
        *([said] if said else []),
        *notes,
    ]
    if mapped is not None:
        result.sentences += outlined.against_outlines(read, mapped, passes[best], outlines)
    pictures = _write_outputs(result, out, read, bags, passes[best], mapped, slides)
    return _written(result, out, pictures, reporter)


def _write_outputs(
    result: LocalizeResult,
    out: Path,
    read: Slides,
    bags: Bags,
    passed: Passed,
    mapped: SpotMap | None,
    slides: str | Path | None,
) -> dict[str, Path]:
    """Tables, and where spots are drawn genes and pictures of them; the pictures by caption."""
    table = outputs.slides_table(read, passed, bags.classes, result.evidence)
    if mapped is None or not result.n_shown:
        result.paths = outputs.write_tables(out, table, None)
        return {}
    spots = outputs.spots_table(read, passed, mapped, result.evidence)
    result.paths = outputs.write_tables(out, table, spots)
    genes = differing_genes(bags, read.genes, read.grades, mapped, read.log_depth)
    result.genes = genes.assign(evidence=result.evidence)
    result.paths["genes"] = out / "genes.csv"
    with atomic_path(result.paths["genes"]) as temporary:
        result.genes.to_csv(temporary, index=False, errors="backslashreplace")
    words = f"Evidence: {result.evidence}. {RESEARCH_SENTENCE}"
    pictures = outputs.write_maps(out, read, spots, words, result.evidence != FINDING)
    result.paths["maps"] = out / "figures"
    result.paths["GeoJSON"] = out / "geojson"
    if slides is not None and (patches := outputs.gallery_patches(read, spots, Path(slides))):
        result.paths["gallery"] = out / "gallery.png"
        outputs.write_contact_sheet(result.paths["gallery"], patches, words)
        pictures = {"Gallery": result.paths["gallery"], **pictures}
    return pictures


def _check(accept: Sequence[str], permutations: int) -> None:
    if unknown := [code for code in accept if code != FEW_PATIENTS]:
        raise ConfigError(expected=f"--accept {FEW_PATIENTS}", found=f"{unknown[0]!r}")
    if permutations < 19:
        raise ConfigError(
            expected="19 permutations or more, since fewer cannot reach 5 %", found=permutations
        )
    if find_spec("torchmil") is None:
        raise ConfigError(
            expected="torchmil, which `localize` fits attention with", found="it is not installed",
            remedy="pip install 'hespotex[mil]'",
        )  # fmt: skip


def _clear(out: Path) -> None:
    """Take away what an earlier call left: a map of then must not stand beside the words of now."""
    there = {p.name for p in out.iterdir()}
    if there and not there & {_NUMBERS, _WORK}:  # a killed call leaves the second alone
        raise ConfigError(
            expected=f"an empty folder, or one of an earlier `localize`, at {out}",
            found=shorten(sorted(there), 3), remedy="choose another --out",
        )  # fmt: skip
    for name in ("figures", "geojson", _WORK):
        shutil.rmtree(out / name, ignore_errors=True)
    for name in (
        "spots.parquet",
        "spots.h5ad",
        "genes.csv",
        "gallery.png",
        "slides.csv",
        "report.html",
        _NUMBERS,
    ):
        (out / name).unlink(missing_ok=True)


def _rows(
    of_input: dict[str, Scores], reduced: Reduced, bags: Bags, read: Slides
) -> list[dict[str, Any]]:
    rows = [_row(f"{_ATTENTION}, {name}", found) for name, found in of_input.items()]
    composition = np.stack([bags.read(k).mean(axis=0) for k in range(len(bags.slides))])
    plain = compare.baselines(reduced, composition, read.log_depth)
    return rows + [_row(name, found) for name, found in plain.items()]


def _row(name: str, found: Scores) -> dict[str, Any]:
    def interval(value: float, ends: tuple[float, float]) -> str:
        return f"{value:.2f} ({ends[0]:.2f} to {ends[1]:.2f})"

    return {
        "what": name,
        "AUROC": interval(found.auroc, found.auroc_interval),
        "balanced accuracy": interval(found.balanced, found.balanced_interval),
    }


def _sentences(
    result: LocalizeResult, best: Scores, name: str, mapped: SpotMap | None
) -> list[str]:
    """What a pathologist is told first."""
    tested = (
        f"Patients left out are told apart with AUROC {best.auroc:.2f} (95 % {best.auroc_interval[0]:.2f} to "
        f"{best.auroc_interval[1]:.2f}) by {name}; p = {result.p_value:.3g} over {result.permutations} permutations of the "
        "diagnoses among patients."
    )
    if result.evidence == NO_SIGNAL:
        return [f"No signal beyond chance: no map is drawn. {tested}"]
    first = {
        NO_EVIDENCE: "No evidence: there are too few patients, and what follows was asked for all the same.",
        CONFOUNDED: "The diagnosis cannot be told from the site: what is drawn may show the site.",
    }.get(result.evidence, "The diagnoses leave a trace on the slides.")
    lines = [f"{first} {tested}"]
    if mapped is not None and result.n_shown:
        lines.append(
            f"{result.n_shown:,} spots are drawn: without them the slides would look less like their diagnosis, alone they "
            f"speak for it, in {STABLE:.0%} of the fits or more, and further than on maps of permuted diagnoses (z at "
            f"least {mapped.threshold:.2f}, where those maps draw at most a tenth as many on average)."
        )
    else:
        lines.append("No spot stands out from maps of permuted diagnoses: no map is drawn.")
    lines.append(
        "A drawn spot says where the prediction comes from; it is no diagnosis of the spot."
    )
    return lines


def _cells(table: pd.DataFrame) -> list[list[str]]:
    return [
        [
            ("–" if np.isnan(v) else f"{v:.3g}".replace("-", "−"))
            if isinstance(v, float)
            else str(v)
            for v in row
        ]
        for row in table.itertuples(index=False)
    ]


def _written(
    result: LocalizeResult, out: Path, pictures: dict[str, Path], reporter: Reporter
) -> LocalizeResult:
    table = pd.DataFrame(result.rows)
    shown = list(pictures.items())[:_MOST_FIGURES]
    page = render_page(
        "localize.html.j2",
        research=RESEARCH_SENTENCE,
        evidence=result.evidence,
        alarm=result.evidence != FINDING,
        sentences=result.sentences,
        columns=list(table.columns),
        rows=table.to_numpy().tolist(),
        gene_columns=[] if result.genes is None else list(result.genes.columns),
        genes=[] if result.genes is None else _cells(result.genes.head(_MOST_GENES)),
        n_pictures=len(pictures),
        pictures=[
            {"caption": name, "data": base64.b64encode(path.read_bytes()).decode()}
            for name, path in shown
        ],
    )
    result.paths["report"] = out / "report.html"
    with atomic_path(result.paths["report"]) as temporary:
        temporary.write_text(page, encoding="utf-8")
    result.paths["numbers"] = out / _NUMBERS
    write_json(
        result.paths["numbers"],
        {
            "evidence": result.evidence, "p_value": result.p_value, "permutations": result.permutations,
            "n_shown": result.n_shown, "scores": result.rows, "sentences": result.sentences,
        },
    )  # fmt: skip
    if result.evidence != FINDING:
        reporter.warn(result.sentences[0])
    return result
