"""The stages of `adapt`: what own sections are worth to a model, fold by fold, and the model of all of them."""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from hespotex.config import InputChoices, Machine
from hespotex.errors import ModelFileError
from hespotex.genes.absent_genes import OtherGenes
from hespotex.models.adapting import check_adaptable, check_new_ids, new_genes
from hespotex.models.bundle import Bundle, beside_model, read_model
from hespotex.models.default.adapt import Strength
from hespotex.models.encoder_match import check_same_encoder, encode_config
from hespotex.models.reading import reading_of
from hespotex.models.trained_on import check_not_trained_on, with_inputs
from hespotex.models.types import Cohort
from hespotex.nuclei import NucleiOrigin
from hespotex.nuclei.stage import for_prediction, with_masks
from hespotex.progress import Reporter
from hespotex.report.scored_run import finish_scored_run
from hespotex.results.identity import run_identity
from hespotex.results.level_outputs import levels_of_folds
from hespotex.results.run_outputs import finished_fold, write_fold
from hespotex.sections.section import Section
from hespotex.sections.splits import Folds, inner_folds
from hespotex.stages import encode, read_sections
from hespotex.storage.adaptation_record import AdaptationRecord, AdaptedFold
from hespotex.storage.clock import StageClock
from hespotex.storage.metrics import Evidence, Metrics
from hespotex.storage.run_folder import RunDir
from hespotex.validation.adaptation import (
    MOST_FOLDS,
    PENALTIES,
    choose_strength,
    held_out_round,
    parts_of,
    summary,
)
from hespotex.validation.adapted_folds import adapted_fold, fitted_with_trust

NO_GAIN = "no-gain"


@dataclass(frozen=True)
class Own:
    """A model, own sections, and where what is known of them so far is kept.

    Attributes:
        base: the model as it came.
        sections: as they were read.
        cohort: encoded as the model encodes.
        folds: what is left out in turn; none with one section, of which blocks are.
        run: folder of the validation.
        identity: of the run.
    """

    base: Bundle
    sections: tuple[Section, ...]
    cohort: Cohort
    folds: Folds
    run: RunDir
    identity: Any


def own_sections(
    model: Path,
    manifest: Path,
    out: Path,
    ids: Sequence[str] | None,
    nuclei: str | None,
    choices: InputChoices | None,
    machine: Machine,
    reporter: Reporter,
) -> Own | None:
    """Read and encode own sections as the model does; None where `out` is this very adaptation, finished.

    Raises:
        ModelFileError: the model cannot be adapted, or `out` is another one.
        SpotTableError: a section was in the model's training.
    """
    base, origin = read_model(model), NucleiOrigin.asked(nuclei)
    check_adaptable(base)
    read = read_sections(manifest, ids, reporter, choices, base)
    check_not_trained_on(model, base, read)
    check_new_ids(base, read)
    if out.exists():
        _check_same(out, base, read)
        return None
    asked = for_prediction(base, origin)
    read, config = with_masks(read, asked, origin), encode_config(base, asked)
    run = RunDir(beside_model(out, ".validation"))
    identity = run_identity("adapt", config, read, model_id=base.model_id)
    run.begin(identity)
    with run.withdrawn_on_error():
        cohort = encode(read, config, machine, reporter)
        check_same_encoder(model, base, cohort.encoder)
    names = [s.section_id for s in read]
    folds = inner_folds(names, [s.patient_id for s in read], max_folds=MOST_FOLDS)
    return Own(base, read, cohort, folds, run, identity)


def _check_same(out: Path, base: Bundle, sections: Sequence[Section]) -> None:
    found = read_model(out)
    adapted: Mapping[str, Any] = found.model.hyper.get("adapted") or {}
    own = {s.section_id: s.expression_key() for s in sections}
    there = {s.section_id: s.key for s in found.sections if s.section_id in own}
    same = adapted.get("from") == base.model_id and sorted(adapted["sections"]) == sorted(own)
    if not (same and there == own):
        raise ModelFileError(
            f"{out} holds another model", remedy="choose another --out, or delete it"
        )


def compared(own: Own, machine: Machine, reporter: Reporter) -> tuple[Strength, AdaptationRecord]:
    """The three rows over all folds, each kept when it is done, and the strength that all own sections choose."""
    parts = parts_of(own.cohort)
    rounds = [[part] for part in parts] if len(own.folds) else [parts]
    found = []
    with own.run.withdrawn_on_error(), reporter.task("comparing", len(rounds) + 1) as advance:
        for number, round_ in enumerate(rounds):
            path = own.run.work / f"rows-{number}.json"
            record = AdaptedFold.read_if_there(path)
            if record is None:
                if not round_:
                    raise ModelFileError(
                        expected="own sections, or one of at least 40 spots, to compare on",
                        found="too few spots",
                        remedy="add sections",
                    )
                record = held_out_round(own.base, round_, machine)
                record.write(path)
            found.append(record)
            advance(1)
        chosen = choose_strength(own.base, own.cohort, machine=machine)
        advance(1)
    new = len(new_genes(own.base, own.sections))
    return chosen, summary(
        own.base, found, chosen, held_out=own.folds.by, note=own.folds.note, new=new
    )


def refused(own: Own, model: Path, record: AdaptationRecord) -> ModelFileError:
    """The error where adapting does not pay; what was kept of the comparison is thrown away."""
    shutil.rmtree(own.run.path, ignore_errors=True)
    return ModelFileError(
        expected=f"own sections that improve {model}",
        found=record.sentence,
        remedy=f"use the model as it came; --accept {NO_GAIN} writes an adapted one all the same",
    )


def graded(own: Own, machine: Machine, reporter: Reporter, clock: StageClock) -> dict[str, Any]:
    """Scores and grades of the adapted models of the folds, as `train` has them; none with one section."""
    if not len(own.folds):
        reporter.warn("one section cannot be validated: every gene stays `ungraded`")
        shutil.rmtree(own.run.path, ignore_errors=True)
        return {}
    base, run = own.base, own.run
    with run.withdrawn_on_error(), reporter.task("grading", len(own.folds)) as advance:
        for number, fold in enumerate(own.folds):
            if finished_fold(run, number) is None:
                rows = AdaptedFold.read(run.work / f"rows-{number}.json")
                strength = Strength(*rows.strengths[0])
                outcome = adapted_fold(
                    base, own.cohort, fold, strength, machine=machine, clock=clock
                )
                write_fold(run, number, outcome)
            advance(1)
    levels = levels_of_folds(run, own.cohort, len(own.folds), base.config.seed)
    finish_scored_run(
        run, own.folds, own.identity, base.config, levels,
        reading=reading_of(base, None), score_nan_as_zero=False, reporter=reporter, clock=clock,
    )  # fmt: skip
    metrics = Metrics.read(run.metrics_json).plain()
    return {**metrics, **Evidence.read(run.evidence_json).plain()}


def adapted_model(
    own: Own,
    chosen: Strength,
    record: AdaptationRecord,
    validation: Mapping[str, Any],
    machine: Machine,
) -> Bundle:
    """The model of all own sections, with all that it carries."""
    strength = Strength(PENALTIES[-1], levels=True) if chosen.none else chosen
    bundle = fitted_with_trust(
        own.base, own.cohort, strength, machine=machine,
        nearest_spots=own.base.config.trust.nearest_spots,
    )  # fmt: skip
    known = dict(zip(bundle.others.names, bundle.others.shares, strict=True))
    for gene in bundle.genes:
        known.pop(gene, None)
    return with_inputs(
        replace(
            bundle,
            validation={**validation, "adaptation": record.plain()},
            others=OtherGenes(tuple(known), tuple(known.values())),
        ),
        own.sections,
    )
