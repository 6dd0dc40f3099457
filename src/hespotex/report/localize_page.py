"""The verb `localize`: which spots of slides a diagnosis hangs on, tested over patients, and the page about it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Final

import numpy as np
from scipy import sparse

from hespotex.analysis.association.result import RESEARCH_SENTENCE
from hespotex.analysis.localize import compare, outlined, outputs
from hespotex.analysis.localize.bags import (
    FEWEST_PATIENTS,
    Bags,
    Ints,
    given_folds,
    patient_folds,
    patients_by_class,
    permuted_labels,
)
from hespotex.analysis.localize.cohort import (
    COMPOSITION,
    FEATURES,
    Slides,
    read_slides,
    write_inputs,
    write_sets,
)
from hespotex.analysis.localize.curves import curves, tenth_sentences
from hespotex.analysis.localize.differences import differing
from hespotex.analysis.localize.evidence import (
    LEVEL,
    PERMUTATIONS,
    STABLE,
    Null,
    Scores,
    SpotMap,
    patient_labels,
    patient_margins,
    run_null,
    scores,
    spot_map,
)
from hespotex.analysis.localize.model import About, fit_model
from hespotex.analysis.localize.nested import Passed, nested_pass
from hespotex.analysis.localize.reduce import VARIANTS, Reduced, reduce_folds
from hespotex.analysis.regions import Region
from hespotex.errors import ConfigError
from hespotex.plots.evidence_curves import plot_curves
from hespotex.plots.style import save_figure
from hespotex.progress import Progress, Reporter, heard
from hespotex.report.localize_result import (
    CONFOUNDED,
    FINDING,
    MODEL_FILE,
    NO_EVIDENCE,
    NO_SIGNAL,
    TOO_FEW,
    LocalizeResult,
    clear,
    work_folder,
    write_page,
)

FEW_PATIENTS: Final = "few-patients"
_SEEDS: Final = 3
_ATTENTION: Final = "attention over spots"


@dataclass(frozen=True)
class _Asked:
    """A run whose input is read.

    Attributes:
        read: the slides.
        inputs: values of each kind.
        folds: (B,) of the slides.
        work: folder for what is needed while the run goes on.
        few: fewer patients than a finding takes.
        outlines: of an expert, by slide.
        slides: files of the slides by id, for the gallery.
    """

    read: Slides
    inputs: dict[str, Bags]
    folds: Ints
    out: Path
    work: Path
    few: bool
    notes: list[str]
    outlines: dict[str, tuple[Region, ...]]
    slides: dict[str, Path]
    permutations: int
    seed: int
    reporter: Reporter


@dataclass(frozen=True)
class _Found:
    """What was fitted: the best input's values by fold, groups of neighbours, pass of the true labels, null and map."""

    reduced: Reduced
    near: sparse.csr_matrix
    passed: Passed
    null: Null
    mapped: SpotMap | None


def localize(
    predicted: str | Path | Sequence[str | Path],
    out: str | Path,
    *,
    label: str,
    clinical: str | Path,
    site: str | None = None,
    split: str | None = None,
    features: str | Path | None = None,
    slides: str | Path | None = None,
    regions: str | Path | None = None,
    accept: Sequence[str] = (),
    permutations: int = PERMUTATIONS,
    seed: int = 0,
    progress: Progress = None,
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
        split: column of folds, in place of folds that are dealt.
        features: folder of encoder features (TRIDENT, CLAM, LazySlide), each file named as its prediction, or a manifest whose
            sections are in the cache; None takes those that `predict --keep-features` kept, if there are any.
        slides: folder of the slides, for the gallery.
        regions: folder of outlines, SECTION.geojson each; the map is scored against them.
        accept: `few-patients` runs with fewer than 8 patients of a diagnosis, and marks every output `no evidence`.
        permutations: of the labels, at least 19.
        seed: of folds, fits and permutations.
        progress: True draws bars, False says nothing, a `hespotex.Reporter` hears it; None draws bars where somebody looks.

    Raises:
        HESpotExError: an input that does not fit; nothing is written then.
    """
    reporter, out = heard(progress), Path(out)
    _check(accept, permutations)
    given = [predicted] if isinstance(predicted, (str, Path)) else list(predicted)
    read = read_slides(
        [Path(p) for p in given], Path(clinical), label,
        site=site, split=split, features=None if features is None else Path(features),
    )  # fmt: skip
    counts = patients_by_class(read.bags)
    of_slides = {} if slides is None else outputs.slides_of(read, Path(slides))
    outlines = outlined.read_outlines(read, None if regions is None else Path(regions))
    if FEW_PATIENTS in accept and min(counts.values()) < 2:
        raise ConfigError(
            expected="two patients of each diagnosis or more",
            found=", ".join(f"{n} {name}" for name, n in counts.items()),
        )
    folds = given_folds(read.bags) if split else None
    few = min(counts.values()) < FEWEST_PATIENTS
    notes = [*read.notes, f"Patients: {', '.join(f'{n} {name}' for name, n in counts.items())}."]
    with work_folder(out) as work:
        if few and FEW_PATIENTS not in accept:
            result = LocalizeResult(
                TOO_FEW,
                [f"Too few patients: {FEWEST_PATIENTS} of each diagnosis are needed. Nothing was tested and no map is drawn.", *notes],
            )  # fmt: skip
            clear(out)
            return write_page(result, out, {}, reporter)
        inputs = write_inputs(read, work, reporter)
        folds = patient_folds(inputs[COMPOSITION], seed=seed) if folds is None else folds
        clear(out)
        return _tested(
            _Asked(
                read, inputs, folds, out, work, few, notes, outlines, of_slides, permutations, seed, reporter,
            )
        )  # fmt: skip


def _tested(asked: _Asked) -> LocalizeResult:
    read, inputs, seed, reporter = asked.read, asked.inputs, asked.seed, asked.reporter
    bags = inputs[COMPOSITION]
    folds, near = asked.folds, bags.neighbours()
    true = patient_labels(bags, bags.labels)
    with reporter.task("reducing values inside folds", len(inputs)) as advance:
        reduced: dict[str, Reduced] = {}
        for name, of in inputs.items():
            reduced[name] = reduce_folds(of, folds)
            advance(1)
    passes = {n: nested_pass(r, bags.labels[None], near, seed=seed) for n, r in reduced.items()}
    of_input = {n: scores(patient_margins(bags, p.margin[0]), true) for n, p in passes.items()}
    with reporter.task("permuting labels", asked.permutations) as advance:
        null = run_null(
            reduced, passes, near, permutations=asked.permutations, seed=seed, advance=advance
        )
    best = null.best
    said, same = compare.site_sentence(bags, seed=seed)
    evidence = _evidence(asked.few, null.p_value, same)
    rows = _rows(of_input, reduced[best], bags, read)
    own, why_not = compare.site_folds(bags)
    if own is not None:
        by_site = nested_pass(reduce_folds(inputs[best], own), bags.labels[None], near, seed=seed)
        rows.append(
            _row(f"{_ATTENTION}, {best}, each site left out", scores(patient_margins(bags, by_site.margin[0]), true))
        )  # fmt: skip
    result = LocalizeResult(evidence, [], null.p_value, len(null.permuted), rows)
    mapped = (
        None if evidence == NO_SIGNAL else _mapped(reduced[best], passes[best], near, null, asked)
    )
    result.n_shown = 0 if mapped is None else int(mapped.shown.sum())
    by = best if len(inputs) == 1 else f"{best}, the best of {len(inputs)} inputs"
    result.sentences = [
        *_sentences(result, of_input[best], by, mapped),
        *filter(None, (said, why_not)),
        *asked.notes,
    ]
    found = _Found(reduced[best], near, passes[best], null, mapped)
    return write_page(result, asked.out, _write_outputs(result, asked, found), reporter)


def _evidence(few: bool, p_value: float, site_is_diagnosis: bool) -> str:
    if few:
        return NO_EVIDENCE
    if p_value > LEVEL:
        return NO_SIGNAL
    return CONFOUNDED if site_is_diagnosis else FINDING


def _mapped(
    reduced: Reduced, passed: Passed, near: sparse.csr_matrix, null: Null, asked: _Asked
) -> SpotMap:
    labels = reduced.bags.labels[None]
    more = [nested_pass(reduced, labels, near, seed=asked.seed + k) for k in range(1, _SEEDS)]
    return spot_map([passed, *more], null, asked.read.usable)


def _write_outputs(result: LocalizeResult, asked: _Asked, found: _Found) -> dict[str, Path]:
    """Tables, the model, and where spots are drawn what is different there and pictures; the pictures by caption."""
    read, out, mapped = asked.read, asked.out, found.mapped
    bags, mark = asked.inputs[COMPOSITION], result.evidence
    table = outputs.slides_table(read, found.passed.margin[0], bags.classes, mark)
    if mapped is None:
        result.paths = outputs.write_tables(out, table, None)
        return {}
    model = _write_model(result, asked, found)
    result.sentences += outlined.against_outlines(read, mapped, found.passed, asked.outlines)
    if not result.n_shown:
        result.paths = {**outputs.write_tables(out, table, None), "model": model}
        return {}
    spots = outputs.spots_table(read, outputs.Drawn.of(found.passed, mapped), mark)
    result.paths = {**outputs.write_tables(out, table, spots), "model": model}
    result.genes = differing(bags, read.genes, mapped, read.log_depth).assign(evidence=mark)
    result.paths["genes"] = outputs.write_csv(out / "genes.csv", result.genes)
    if read.sets:
        of_sets = differing(
            write_sets(read, asked.work), read.sets, mapped, read.log_depth, of="gene_set"
        )
        result.sets = of_sets.assign(evidence=mark)
        result.paths["gene sets"] = outputs.write_csv(out / "gene_sets.csv", result.sets)
    words = f"Evidence: {mark}. {RESEARCH_SENTENCE}"
    followed = curves(bags, found.near, found.passed, mapped.z, seed=asked.seed)
    result.paths["curves"] = outputs.write_csv(out / "curves.csv", followed.assign(evidence=mark))
    save_figure(plot_curves(followed, words, alarm=mark != FINDING), out / "curves.png")
    result.sentences += tenth_sentences(followed)
    pictures = {"Deletion and insertion": out / "curves.png"}
    maps = outputs.write_maps(out, read, spots, words, mark != FINDING)
    result.paths["maps"] = out / "figures"
    result.paths["GeoJSON"] = out / "geojson"
    result.paths["sections"] = out / "sections"
    if asked.slides and (patches := outputs.gallery_patches(read, spots, asked.slides)):
        result.paths["gallery"] = pictures["Gallery"] = out / "gallery.png"
        outputs.write_contact_sheet(result.paths["gallery"], patches, words)
    return {**pictures, **maps}


def _write_model(result: LocalizeResult, asked: _Asked, found: _Found) -> Path:
    """The fits on all patients, for `--apply`."""
    read, best, mapped = asked.read, found.null.best, found.mapped
    drawn = mapped is not None and result.n_shown > 0
    about = About(
        classes=found.reduced.bags.classes,
        kind=best,
        variant=VARIANTS[int(np.bincount(found.passed.variant[0]).argmax())],
        genes=() if best == FEATURES else tuple(read.genes),
        predicted_by=read.model_id,
        encoder="" if best == COMPOSITION else read.encoder,
        threshold=mapped.threshold if mapped is not None and drawn else None,
        evidence=result.evidence,
        n_true=_SEEDS,
    )
    labels = permuted_labels(found.reduced.bags, asked.folds, result.permutations, seed=asked.seed)
    path = asked.out / MODEL_FILE
    fit_model(asked.inputs[best], labels, about, seed=asked.seed).write(path)
    return path


def _check(accept: Sequence[str], permutations: int) -> None:
    if unknown := [code for code in accept if code != FEW_PATIENTS]:
        raise ConfigError(expected=f"--accept {FEW_PATIENTS}", found=f"{unknown[0]!r}")
    if permutations < 19:
        raise ConfigError(
            expected="19 permutations or more, since fewer cannot reach 5 %", found=permutations
        )
    check_torchmil()


def check_torchmil() -> None:
    """Refuse where the extra is not installed.

    Raises:
        ConfigError: so it is.
    """
    if find_spec("torchmil") is None:
        raise ConfigError(
            expected="torchmil, which `localize` fits attention with", found="it is not installed",
            remedy="pip install 'hespotex[mil]'",
        )  # fmt: skip


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
        f"{best.auroc_interval[1]:.2f}) by {name}: of 100 pairs of patients with two diagnoses, about {100 * best.auroc:.0f} stand "
        f"in the right order. By chance it would be 50; p = {result.p_value:.3g} over {result.permutations} permutations of the "
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
