"""The whole system, stage by stage: read this file first.

Measured sections make models, and numbers that say what a model is worth:

    manifest -> sections -> features, nuclei (once) -> folds -> panel -> image stream -> prediction
                                                       (GATE on request)    -> scores, files, pictures

A model predicts measured sections at their spots, whole in memory, and slides of any size chunk by chunk:

    sections -> features, nuclei (once) -> prediction -> claims -> files, pictures
    slide -> layout (grid on tissue) -> features, nuclei -> prediction by tiles -> claims -> files, pictures -> table

Every stage is `(inputs, configuration) -> values`; each verb below strings them together and nothing else.
What a stage does stands where it is imported from: the first two in `stages`, those of one slide in `predicting.one_slide`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from hespotex.adapting import adapted_model, compared, graded, own_sections, refused
from hespotex.config import InputChoices, Machine, RunConfig
from hespotex.config.values import expect_kind
from hespotex.evaluation.held_out import evaluate_bundle
from hespotex.evaluation.patients import patients_of
from hespotex.evaluation.set_scores import with_gene_sets
from hespotex.genes.gene_sets import GeneSet, sets_key
from hespotex.models.bundle import beside_model, read_model, write_model
from hespotex.models.encoder_match import check_same_encoder, encode_config
from hespotex.models.reading import reading_of
from hespotex.models.same_model import check_same_model
from hespotex.models.trained_on import check_not_trained_on, with_inputs
from hespotex.nearest import chosen_model
from hespotex.nuclei import NucleiOrigin
from hespotex.nuclei.stage import for_prediction, say_of_nuclei, with_masks
from hespotex.predicting import Cluster, SlideOptions, plan_input
from hespotex.predicting.executor import ToLoad
from hespotex.predicting.many_slides import predict_slides, ready_predictor
from hespotex.predicting.plan import say_passed_over
from hespotex.progress import Progress, Reporter, heard
from hespotex.public.kept_models import local_model
from hespotex.report.model_card import write_model_card
from hespotex.report.scored_run import complete_scored_run, finish_scored_run, scored_result
from hespotex.results.announce import say_of_model, say_what_lacks
from hespotex.results.identity import finished_before, run_identity
from hespotex.results.level_outputs import levels_of_folds, levels_of_model
from hespotex.results.outcome import RunResult
from hespotex.results.run_outputs import finished_fold, write_fold
from hespotex.sections.section import Section
from hespotex.sections.splits import Fold, Folds, external_note, inner_note, make_folds
from hespotex.stages import encode, predict_sections, read_sections, read_to_fit
from hespotex.storage.atomic import check_writable
from hespotex.storage.clock import StageClock
from hespotex.storage.metrics import Evidence
from hespotex.storage.run_folder import RunDir
from hespotex.validation.cross_validation import FoldOutcome, fit_for_use, run_fold


def cross_validate(
    manifest: str | Path,
    out: str | Path,
    *,
    config: RunConfig | None = None,
    sections: Sequence[str] | None = None,
    gene_sets: Sequence[GeneSet] = (),
    nuclei: str | None = None,
    score_nan_as_zero: bool = False,
    choices: InputChoices | None = None,
    machine: Machine | None = None,
    progress: Progress = None,
) -> RunResult:
    """Leave out each patient (or section) in turn, fit on the rest, score what is predicted for it.

    Example:
        >>> result = cross_validate("sections.csv", "results")  # doctest: +SKIP
        >>> result.metrics["mean"]["model"]["pcc_composition_mean"]  # doctest: +SKIP

    Args:
        manifest: table of sections with expression.
        out: folder for metrics.json, genes.csv, predictions/, figures/, run.json.
        config: what the result depends on; None is the default profile.
        sections: only these section ids.
        gene_sets: to score beside the genes (`hespotex.read_gmt`).
        nuclei: `classical`, `instanseg`, `cellpose`, `mask` or `mask:PATH`: trains with nuclei from there.
        score_nan_as_zero: a PCC that does not exist counts as 0 in means.
        choices: what the preflight would refuse and the user accepts.
        machine: device, threads, cache folder.
        progress: True draws bars, False says nothing, a `hespotex.Reporter` hears it; None draws bars where somebody looks.

    Raises:
        HESpotExError: an input is wrong; nothing was written under a final name.
    """
    manifest, out = Path(manifest), Path(out)
    machine, reporter = machine or Machine(), heard(progress)
    clock = StageClock()
    read, config, why = read_to_fit(
        manifest, sections, config, nuclei, choices, machine, reporter, clock
    )
    return _cross_validate(
        read, RunDir(out), config, why, gene_sets, score_nan_as_zero, machine, reporter, clock
    )


def _cross_validate(
    read: Sequence[Section],
    run: RunDir,
    config: RunConfig,
    reading: str,
    gene_sets: Sequence[GeneSet],
    score_nan_as_zero: bool,
    machine: Machine,
    reporter: Reporter,
    clock: StageClock,
) -> RunResult:
    """Stages 3 to 6 over folds: panel, fit, prediction, scores; each fold is kept when it is done."""
    folds = make_folds([s.section_id for s in read], [s.patient_id for s in read], config.folds.by)
    if folds.note:
        reporter.warn(folds.note)
    identity = run_identity(
        "cross-validate",
        config,
        read,
        gene_sets=sets_key(gene_sets),
        score_nan_as_zero=score_nan_as_zero,
    )
    if finished_before(run, identity, reporter):
        complete_scored_run(run)
        return scored_result(run)
    with run.withdrawn_on_error(), clock.stage("encode"):
        cohort = encode(read, config, machine, reporter)
    with run.withdrawn_on_error(), reporter.task("folds", len(folds)) as advance:
        for number, fold in enumerate(folds):
            if finished_fold(run, number) is None:
                outcome = run_fold(
                    cohort,
                    fold,
                    config,
                    gene_sets=gene_sets,
                    machine=machine,
                    clock=clock,
                    nan_as_zero=score_nan_as_zero,
                )
                with clock.stage("write"):
                    write_fold(run, number, outcome)
            advance(1)
    finish_scored_run(
        run,
        folds,
        identity,
        config,
        levels_of_folds(run, cohort, len(folds), config.seed),
        reading=reading,
        score_nan_as_zero=score_nan_as_zero,
        reporter=reporter,
        clock=clock,
    )
    return scored_result(run)


def train(
    manifest: str | Path,
    out: str | Path,
    *,
    config: RunConfig | None = None,
    sections: Sequence[str] | None = None,
    gene_sets: Sequence[GeneSet] = (),
    nuclei: str | None = None,
    validate: bool = True,
    choices: InputChoices | None = None,
    machine: Machine | None = None,
    progress: Progress = None,
) -> Path:
    """Fit a model on all given sections and write it to one file, its model card beside it.

    Cross-validation on the same sections comes first (`lab.validation/` beside `lab.hespotex`); its
    scores and the grade of every gene travel in the model file.

    Example:
        >>> train("sections.csv", "lab.hespotex")  # doctest: +SKIP

    Args:
        manifest: table of sections with expression.
        out: the model file.
        config: what the result depends on; None is the default profile.
        sections: only these section ids.
        gene_sets: that the model scores in every prediction, graded as the genes are.
        nuclei: as of `cross_validate`; the model then needs nuclei when it predicts.
        validate: cross-validate for scores and grades; without, every gene is `ungraded`.
        choices, machine, progress: as of `cross_validate`.

    Raises:
        HESpotExError: an input is wrong, or `out` is a model of other sections or settings.
    """
    manifest, out = Path(manifest), Path(out)
    machine, reporter = machine or Machine(), heard(progress)
    clock = StageClock()
    read, config, why = read_to_fit(
        manifest, sections, config, nuclei, choices, machine, reporter, clock
    )
    if out.exists():
        check_same_model(out, read_model(out), config, read, gene_sets)
        reporter.say(f"{out} is this very model, finished: nothing to do")
        return out
    check_writable(out.parent)
    validation: dict[str, Any] = {}
    if validate and len(read) > 1:
        run = RunDir(beside_model(out, ".validation"))
        scored = _cross_validate(read, run, config, why, gene_sets, False, machine, reporter, clock)
        validation = {**scored.metrics, **Evidence.read(run.evidence_json).plain()}
    elif validate:
        reporter.warn("one section cannot be validated: every gene stays `ungraded`")
    note = inner_note([s.section_id for s in read], [s.patient_id for s in read])
    if note and config.trust.calibrate and not validation:  # else it was said of the folds
        reporter.warn(note)
    cohort = encode(read, config, machine, reporter)
    with reporter.task("fitting and calibrating", 2) as advance:
        bundle = fit_for_use(
            cohort, config, validation=validation, gene_sets=gene_sets, machine=machine, advance=advance
        )  # fmt: skip
        bundle = with_inputs(replace(bundle, reading=why), read)
    say_what_lacks(bundle, reporter)
    say_of_model(bundle, reporter)
    write_model_card(beside_model(out, ".model-card.md"), bundle)
    write_model(out, bundle)
    return out


def adapt(
    model: str | Path,
    manifest: str | Path,
    out: str | Path,
    *,
    sections: Sequence[str] | None = None,
    nuclei: str | None = None,
    accept_no_gain: bool = False,
    choices: InputChoices | None = None,
    machine: Machine | None = None,
    progress: Progress = None,
) -> Path:
    """Adapt a model to a few own sections, where left-out ones of these show that it pays; docs/models.md says how.

    `lab.adaptation.json` beside `lab.hespotex` sets the model as it came, the adapted one and own sections alone side by side.

    Example:
        >>> adapt("hf://org/repo", "own.csv", "lab.hespotex")  # doctest: +SKIP

    Args: as of `evaluate`; `out` is the model file, `accept_no_gain` writes an adapted model that is no better, too.

    Raises:
        ModelFileError: adapting does not pay, or the model cannot be adapted.
        HESpotExError: an input is wrong; nothing was written under a final name.
    """
    machine, reporter, clock = machine or Machine(), heard(progress), StageClock()
    model, out = local_model(model, reporter), Path(out)
    check_writable(out.parent)
    own = own_sections(model, Path(manifest), out, sections, nuclei, choices, machine, reporter)
    if own is None:
        reporter.say(f"{out} is this very model, finished: nothing to do")
        return out
    chosen, record = compared(own, machine, reporter)
    if not (record.pays or accept_no_gain):
        raise refused(own, model, record)
    validation = graded(own, machine, reporter, clock)
    bundle = adapted_model(own, chosen, record, validation, machine)
    say_what_lacks(bundle, reporter)
    say_of_model(bundle, reporter)
    record.write(beside_model(out, ".adaptation.json"))
    write_model_card(beside_model(out, ".model-card.md"), bundle)
    write_model(out, bundle)
    return out


def evaluate(
    model: str | Path,
    manifest: str | Path,
    out: str | Path,
    *,
    sections: Sequence[str] | None = None,
    gene_sets: Sequence[GeneSet] | None = None,
    nuclei: str | None = None,
    score_nan_as_zero: bool = False,
    same_patient: bool = False,
    choices: InputChoices | None = None,
    machine: Machine | None = None,
    progress: Progress = None,
) -> RunResult:
    """Score an existing model on newly measured sections: the same files as a cross-validation.

    Example:
        >>> evaluate("lab.hespotex", "new.csv", "external")  # doctest: +SKIP

    Args: as of `cross_validate`; `manifest` names no section that the model was trained on, `gene_sets` None
    takes the model's own, `nuclei` says where those of a model with nuclei come from (None: as in its training),
    `same_patient` that equal patient ids mean the same patient (see docs/trust.md).

    Raises:
        HESpotExError: an input is wrong, or a section was in the model's training.
    """
    machine, reporter = machine or Machine(), heard(progress)
    model, manifest, out = local_model(model, reporter), Path(manifest), Path(out)
    origin, clock, run = NucleiOrigin.asked(nuclei), StageClock(), RunDir(out)
    bundle = with_gene_sets(read_model(model), gene_sets)
    with clock.stage("read"):
        read = read_sections(manifest, sections, reporter, choices, bundle, machine=machine)
    check_not_trained_on(model, bundle, read)
    asked = for_prediction(bundle, origin)
    say_of_nuclei(bundle, origin, reporter)
    read, config = with_masks(read, asked, origin), encode_config(bundle, asked)
    identity = run_identity("evaluate", config, read, model_id=bundle.model_id,
                            gene_sets=sets_key(bundle.gene_sets), same_patient=same_patient,
                            score_nan_as_zero=score_nan_as_zero)  # fmt: skip
    if finished_before(run, identity, reporter):
        complete_scored_run(run)
        return scored_result(run)
    whose = patients_of(bundle, read, same_patient, reporter)
    with run.withdrawn_on_error(), clock.stage("encode"):
        cohort = encode(read, config, machine, reporter)
        check_same_encoder(model, bundle, cohort.encoder)
    fold = Fold(tuple(s.section_id for s in read), tuple(s.section_id for s in bundle.sections))
    held_out = evaluate_bundle(
        bundle,
        None,
        cohort,
        nan_as_zero=score_nan_as_zero,
        patients=whose,
        machine=machine,
        clock=clock,
    )
    with clock.stage("write"):
        write_fold(run, 0, FoldOutcome(fold, bundle, held_out))
    note = external_note(
        fold.held_out, [s.patient_id for s in read], [s.patient_id for s in bundle.sections]
    )
    if note:
        reporter.warn(note)
    folds = Folds("external", (fold,), note)
    finish_scored_run(
        run,
        folds,
        identity,
        config,
        levels_of_model(run, bundle, held_out),
        reading=reading_of(bundle, None),
        score_nan_as_zero=score_nan_as_zero,
        reporter=reporter,
        clock=clock,
    )
    return scored_result(run)


def predict(
    model: str | Path,
    source: str | Path,
    out: str | Path,
    *,
    options: SlideOptions | None = None,
    sections: Sequence[str] | None = None,
    gene_sets: Sequence[GeneSet] | None = None,
    cluster: Cluster | None = None,
    machine: Machine | None = None,
    progress: Progress = None,
) -> RunResult:
    """Predict whatever a user brings: a manifest, a slide, a folder of slides.

    A manifest whose every row has spots is predicted at these spots. Otherwise every slide is predicted
    at a grid over its tissue (or `options.spots`), rows with spots at their own; a slide that fails does
    not stop the others. A single slide that fails raises.

    Example:
        >>> predict("lab.hespotex", "slide.svs", "predicted")  # doctest: +SKIP

    Args:
        model: a model file, a kept model's name, `hf://org/repo[@revision][/file]`, `https://...`, or `auto`: of the kept
            models the one whose training slides these are most like.
        source: manifest (.csv, .tsv), slide, or folder of slides.
        out: folder for predictions/, figures/, slides.csv and run.json.
        options: how slides without spots are predicted, which genes are written, what is written beside.
        sections: only these ids of a manifest.
        gene_sets: to score; None: the model's own. Sets that the model was not graded with are `ungraded`.
        cluster: Dask workers that share several slides without spots; None: one after another here.
        machine, progress: as of `cross_validate`; on a cluster of each worker.

    Raises:
        HESpotExError: the input, the model or the output folder is wrong.
    """
    options, reporter = options or SlideOptions(), heard(progress)
    expect_kind("options", options, SlideOptions)
    machine, run = machine or Machine(), RunDir(Path(out))
    plan = plan_input(Path(source), options, sections, cluster)
    say_passed_over(plan, reporter)
    to_load = ToLoad(chosen_model(model, plan, machine, reporter), gene_sets, machine)
    if not plan.tasks:
        return predict_sections(to_load, plan, run, options, reporter)
    predictor = ready_predictor(to_load, plan, options, reporter)
    return predict_slides(predictor, to_load, plan, run, options, cluster, reporter)
