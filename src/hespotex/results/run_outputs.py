"""Files of a run folder: per-fold records, metrics.json, genes.csv, predictions, figures.

Every fold leaves one record when all of it is written, so that an interrupted run goes on after it;
the final tables are made from the records alone, whoever wrote them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from hespotex import keys
from hespotex.errors import RunError
from hespotex.evaluation import run_tables
from hespotex.evaluation.by_scope import (
    SCHEMA_VERSION,
    bundle_tables,
    headline,
    held_grades,
    judge_by_scope,
    main_scope,
    record_tables,
    summarise_scope,
    with_evidence,
)
from hespotex.evaluation.claims import UNKNOWN_PATIENTS, Patient
from hespotex.evaluation.evidence import FDR
from hespotex.evaluation.grades import UNGRADED, GradeRule
from hespotex.evaluation.held_out import HeldOut
from hespotex.evaluation.intervals import LEVELS
from hespotex.evaluation.level_scores import LevelScores
from hespotex.evaluation.predictors import MODEL
from hespotex.evaluation.set_scores import predicted_sets
from hespotex.evaluation.trust import LEVEL, Extras, inner_folds_note
from hespotex.export.h5ad import Thumbnail, write_prediction
from hespotex.genes.panel import GenePanel, empty_spots
from hespotex.models.bundle import Bundle
from hespotex.models.default.level import level_words
from hespotex.models.types import Prediction
from hespotex.results.absent_table import write_absent_of_fold
from hespotex.results.interval_records import (
    calibration,
    composition_coverage,
    log1p_coverage,
    region_calibration,
    spread_record,
)
from hespotex.results.level_outputs import (
    level_grades_of,
    summarise_levels,
    with_levels,
    write_fold_looks,
)
from hespotex.results.mean_scores import (
    gene_sizes,
    mean_intervals,
    mean_scores,
    mean_sizes,
    section_owners,
)
from hespotex.results.run_notes import run_notes
from hespotex.results.set_outputs import write_fold_sets, write_set_metrics
from hespotex.sections.section import Section
from hespotex.sections.splits import Folds, inner_kind
from hespotex.slide import open_slide
from hespotex.storage.atomic import sweep_leftovers
from hespotex.storage.clock import versions
from hespotex.storage.metrics import Evidence, FoldRecord, FoldScores, Metrics, SectionRecord
from hespotex.storage.run_folder import RunDir
from hespotex.validation.cross_validation import FoldOutcome
from hespotex.validation.run_levels import fold_looks

THUMBNAIL_SIDE_PX = 1200


def write_section_prediction(
    run: RunDir,
    section: Section,
    bundle: Bundle,
    prediction: Prediction,
    extras: Extras,
    *,
    columns: npt.NDArray[np.intp] | None = None,
    training_note: str | None = None,
) -> Path:
    """Write predictions/<section_id>.h5ad, with the measured values where the section has them.

    Args:
        run: the folder.
        section: where the spots lie.
        bundle: the model that predicted.
        prediction: over the whole panel.
        extras: interval, out-of-distribution check, grades.
        columns: which genes to write; None: all.
        training_note: said of a section that the model was fitted on.
    """
    counts = GenePanel(bundle.genes).counts(section) if section.counts is not None else None
    patient: Patient = "unknown" if extras.claims is None else extras.claims.patient
    of_sets = predicted_sets(
        bundle, prediction.composition, counts, patient=patient, verdict=extras.verdict
    )
    path = run.predictions / f"{section.section_id}.h5ad"
    sweep_leftovers(run.predictions, section.section_id)
    write_prediction(
        path,
        section=section,
        genes=bundle.genes,
        prediction=prediction,
        counts=counts,
        thumbnail=section_thumbnail(section),
        provenance={
            **provenance(bundle),
            "ood_verdict": extras.verdict,
            "training_note": training_note,
        },
        extras=replace(extras, gene_sets=of_sets),
        columns=columns,
    )
    return path


def section_thumbnail(section: Section) -> Thumbnail | None:
    """A small picture of the section's slide; None where features were given in its place."""
    if section.slide is None:
        return None
    with open_slide(section.slide, bits=section.bits) as slide:
        image, px0_per_px = slide.thumbnail(THUMBNAIL_SIDE_PX)
    return Thumbnail(image, px0_per_px)


def provenance(bundle: Bundle) -> dict[str, Any]:
    """What made a prediction; holds no path and no name but those of the manifest."""
    return {
        "model_id": bundle.model_id,
        "n_panel_genes": len(bundle.genes),
        "profile": bundle.model.profile,
        "encoder": bundle.encoder.name,
        "encoder_key": bundle.encoder.key,
        "sides_um": list(bundle.sides_um),
        "training_sections": [s.section_id for s in bundle.sections],
        "seed": bundle.config.seed,
        "inner_note": inner_folds_note(bundle),
        keys.LEVEL_SENTENCE: level_words(bundle.model.hyper) or None,
        keys.USE: keys.RESEARCH_USE,
        "versions": versions(),
    }


def write_fold(run: RunDir, number: int, outcome: FoldOutcome) -> None:
    """Write predictions, genes and, last, the record of a fold."""
    for held in outcome.held_out:
        write_section_prediction(
            run, held.item.section, outcome.bundle, held.prediction, held.extras
        )
    write_fold_sets(run, number, outcome)
    table = pd.concat([gene_rows(number, outcome.bundle.genes, held) for held in outcome.held_out])
    # The grades of the model's own validation, to be held against what is found here.
    for scope, known in bundle_tables(outcome.bundle).items():
        found = known[keys.GRADE].reindex(table[run_tables.GENE]).fillna(UNGRADED)
        table[run_tables.model_grade(scope)] = found.to_numpy()
    run_tables.GENES.write(_genes_path(run, number), table)
    write_absent_of_fold(run, number, outcome.bundle)
    trained = outcome.bundle.sections
    patients = {s.patient_id.casefold() for s in trained}
    sections = [_section_record(held, patients, outcome.bundle) for held in outcome.held_out]
    new = [s.section_id for s in sections if not s.patient_in_training]
    write_fold_looks(run, number, fold_looks(outcome.bundle, outcome.held_out, new))
    FoldRecord(
        fold=number,
        held_out=list(outcome.fold.held_out),
        train=list(outcome.fold.train),
        n_spots=sum(held.item.section.n_spots for held in outcome.held_out),
        n_genes=len(outcome.bundle.genes),
        model_id=outcome.bundle.model_id,
        hyper=dict(outcome.bundle.model.hyper),
        inner_note=inner_folds_note(outcome.bundle),
        inner_kind=inner_kind([s.section_id for s in trained], [s.patient_id for s in trained]),
        search=outcome.search,
        sections=sections,
    ).write(_record_path(run, number))


def _section_record(held: HeldOut, patients: set[str], bundle: Bundle) -> SectionRecord:
    section = held.item.section
    return SectionRecord(
        section_id=section.section_id,
        patient_id=section.patient_id,
        key=section.expression_key(),
        patient_in_training=_may_be_trained_on(section.patient_id, patients),
        n_spots=section.n_spots,
        n_empty_spots=int(empty_spots(held.counts.counts).sum()),
        n_unmeasured_genes=int((~held.counts.measured).sum()),
        n_absent_genes=_n_absent(bundle, section),
        scores={name: scores.summary for name, scores in held.scores.items()},
        ceiling=held.ceiling,
        **({"sizes": [found.summary for found in held.sizes]} if held.sizes else {}),
        pcc_per_spot=dict(held.pcc_per_spot),
        coverage=log1p_coverage(held, bundle),
        region_coverage=composition_coverage(held, bundle),
        spread_spearman=spread_record(held),
        ood_share=None if held.extras.ood is None else float(held.extras.ood.mean()),
        ood_verdict=held.extras.verdict,
    )


def _may_be_trained_on(patient_id: str, patients: set[str]) -> bool:
    """Whether a section's patient was in training, or may have been, since one of them is not known."""
    patient = patient_id.strip().casefold()
    trained = {name.strip() for name in patients}
    return not trained or patient in trained or bool((trained | {patient}) & UNKNOWN_PATIENTS)


def _n_absent(bundle: Bundle, section: Section) -> int:
    """Genes that the section's table lacks, and that count as 0 there."""
    if section.genes is None or section.missing_genes != "zero":
        return 0
    return len(set(bundle.genes) - set(section.genes.tolist()))


def finished_fold(run: RunDir, number: int) -> FoldRecord | None:
    """The record of a fold, or None if it is not finished (or its record is damaged)."""
    try:
        return FoldRecord.read(_record_path(run, number))
    except RunError:
        return None


def gene_rows(number: int, genes: Sequence[str], held: HeldOut) -> pd.DataFrame:
    """One row a gene for one held-out section."""
    model = held.scores[MODEL]
    columns: dict[str, Any] = {
        run_tables.FOLD: number,
        keys.SECTION_ID: held.item.section.section_id,
        run_tables.GENE: list(genes),
        run_tables.MEAN_COUNT: model.mean_count,
        **held.evidence.columns(),
        run_tables.COVERAGE: np.nan
        if held.coverage is None
        else held.coverage[LEVELS.index(LEVEL)],
        run_tables.RMSE_LOG1P: model.rmse_log1p,
        run_tables.CONSTANT: model.constant,
        run_tables.MEASURED: model.measured,
    }
    for predictor, scores in held.scores.items():
        if predictor == "train_mean":  # the same in every spot: it has an error and no correlation
            columns[run_tables.TRAIN_MEAN_RMSE] = scores.rmse_log1p
        else:
            columns[run_tables.of_predictor(run_tables.PCC_LOG1P, predictor)] = scores.pcc_log1p
            columns[run_tables.of_predictor(run_tables.PCC_COMPOSITION, predictor)] = (
                scores.pcc_composition
            )
    for found in held.sizes:
        size = found.summary.size_um
        columns[run_tables.of_size(run_tables.PCC_COMPOSITION, size)] = found.pcc
        columns[run_tables.of_size(run_tables.CEILING_COMPOSITION, size)] = found.ceiling
    if held.spread_spearman is not None:
        columns[run_tables.SPREAD_SPEARMAN] = held.spread_spearman
    return pd.DataFrame(columns)


def write_metrics(
    run: RunDir, folds: Folds, levels: LevelScores | None = None, *, score_nan_as_zero: bool
) -> Metrics:
    """Write genes.csv and metrics.json from the records of all folds.

    evidence.json beside them has what a model file takes over. metrics.json holds no time and no path, so that equal
    runs give equal files.
    """
    records = [_required(run, number) for number in range(len(folds))]
    genes = pd.concat([run_tables.GENES.read(_genes_path(run, n)) for n in range(len(folds))])
    sections = [section for record in records for section in record.sections]
    patients, owners = _units(sections), section_owners(sections)
    trained_on = {s: record.train for record in records for s in record.held_out}
    judged = judge_by_scope(genes, patients, owners, nominal=LEVEL, trained_on=trained_on)
    genes = with_levels(with_evidence(genes, judged, patients), levels)
    run_tables.GENES.write(run.genes_csv, genes)
    of_sets = write_set_metrics(run, len(folds), patients, owners, trained_on)
    of_sizes = mean_sizes([record.sections for record in records])
    Evidence(
        evidence_schema=SCHEMA_VERSION,
        gene_evidence=record_tables(judged),
        **({"gene_set_evidence": of_sets[1]} if of_sets is not None else {}),
        **({"level_grades": level_grades_of(levels)} if levels is not None else {}),
        **({"gene_sizes": gene_sizes(genes)} if of_sizes else {}),
    ).write(run.evidence_json)
    of_scope = {scope: summarise_scope(table) for scope, table in judged.items()}
    main, mean = main_scope(judged), mean_scores([record.sections for record in records])
    held = held_grades(genes, judged)
    metrics = Metrics(
        folds_by=folds.by,
        note=folds.note,
        notes=run_notes(folds, records, score_nan_as_zero=score_nan_as_zero),
        headline=headline(judged, patients),
        scope=main,
        **of_scope[main].plain(),
        by_scope=of_scope,
        fdr=FDR,
        grade_rule=list(GradeRule().text()),
        calibration=calibration(sections),
        region_calibration=region_calibration(sections),
        sections=sections,
        nan_counts_as_zero=score_nan_as_zero,
        folds=[_fold_scores(record) for record in records],
        mean=mean,
        **({"sizes": of_sizes} if of_sizes else {}),
        **mean_intervals(mean, sections),
        **({"model_grades": held} if held else {}),
        **({"gene_sets": of_sets[0]} if of_sets is not None else {}),
        **({"level": summarise_levels(levels, records)} if levels is not None else {}),
    )
    metrics.write(run.metrics_json)
    return metrics


def _fold_scores(record: FoldRecord) -> FoldScores:
    said = {
        k: v
        for k, v in record.plain().items()
        if k in FoldScores.model_fields and v not in (None, "", {})
    }
    return FoldScores(**said, scores=mean_scores([record.sections]))


def _units(sections: Sequence[SectionRecord]) -> dict[str, str]:
    """What a held-out section counts as: its patient, or nobody if the patient was trained on."""
    return {
        s.section_id: "" if s.patient_in_training else f"patient {s.patient_id}" for s in sections
    }


def read_genes(run: RunDir) -> pd.DataFrame:
    """The rows of genes.csv; a gene called NA stays a name, an empty score is NaN."""
    return run_tables.GENES.read(run.genes_csv)


def _record_path(run: RunDir, number: int) -> Path:
    return run.work / f"fold-{number}.json"


def _genes_path(run: RunDir, number: int) -> Path:
    return run.work / f"fold-{number}-genes.csv"


def _required(run: RunDir, number: int) -> FoldRecord:
    record = finished_fold(run, number)
    if record is None:
        raise RunError(
            expected=f"the record of fold {number} in {_record_path(run, number)}",
            found="none: another process works in the same folder",
            remedy="wait until it has ended and run again",
        )
    return record
