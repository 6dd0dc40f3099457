"""Prediction of sections at their own spots: in memory, with what was measured beside it."""

from __future__ import annotations

from dataclasses import replace

from hespotex.config import Machine
from hespotex.evaluation.by_scope import bundle_claims
from hespotex.evaluation.level_evidence import bundle_level_grades
from hespotex.evaluation.level_ridge import level_by_ridge, mean_feature
from hespotex.evaluation.patients import patients_of
from hespotex.evaluation.ridge_maps import ridge_maps
from hespotex.evaluation.trust import bundle_trust
from hespotex.models.bundle import Bundle
from hespotex.models.predict import predict_section
from hespotex.models.trained_on import training_note
from hespotex.models.types import Cohort
from hespotex.predicting.options import SlideOptions
from hespotex.progress import Reporter
from hespotex.results.announce import genes_to_write, say_verdict
from hespotex.results.run_outputs import write_section_prediction
from hespotex.storage.run_folder import RunDir


def predict_at_spots(
    run: RunDir,
    bundle: Bundle,
    cohort: Cohort,
    options: SlideOptions,
    machine: Machine,
    reporter: Reporter,
) -> None:
    """Predict every section and write its h5ad; counts go into the file, never into the prediction.

    Sections are not streamed as slides are (`predict_slide`). Their spots were measured, so they are few enough for the
    memory, and their features lie in the cache that training and scoring share. One pass over the whole graph gives the
    very bits that a cross-validation scores; tile by tile, sums would be rounded in another way.

    Raises:
        RunError: a file cannot be written.
    """
    sections = [item.section for item in cohort.items]
    whose = patients_of(bundle, sections, options.same_patient, reporter)
    trust = bundle_trust(bundle)
    with reporter.task("predicting", len(sections)) as advance:
        for item in cohort.items:
            section = item.section
            prediction = predict_section(bundle, item.without_expression(), machine=machine)
            extras = trust.extras_of(prediction, item)
            note = training_note(bundle, section, reporter)
            patient = "same" if note else whose[section.section_id]
            claims = bundle_claims(bundle, patient, verdict=extras.verdict, flagged=extras.ood)
            extras = extras.with_claims(claims, bundle_level_grades(bundle))
            extras = replace(
                extras,
                ridge=ridge_maps(bundle.trust, item.features),
                ridge_level=level_by_ridge(bundle.trust, mean_feature(item.features)),
            )
            say_verdict(section, extras, reporter)
            genes = genes_to_write(claims, untested=options.untested, all_genes=options.all_genes)
            reporter.say(f"section {section.section_id}: {genes.sentence}")
            write_section_prediction(
                run, section, bundle, prediction, extras, columns=genes.columns, training_note=note
            )
            advance(1)
