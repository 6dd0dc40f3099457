"""model-card.md: what a model was trained on, on whom it was tested, where it fails."""

from __future__ import annotations

import re
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from hespotex import keys
from hespotex.errors import shorten
from hespotex.evaluation.by_scope import bundle_tables
from hespotex.evaluation.claims import BETWEEN, EVIDENCE, UNTESTED
from hespotex.evaluation.grades import UNGRADED, count_grades
from hespotex.evaluation.level_evidence import bundle_level_grades
from hespotex.evaluation.predictors import label_of
from hespotex.evaluation.set_scores import bundle_sets
from hespotex.evaluation.trust import bundle_trust, inner_folds_note
from hespotex.export.shown import COMPOSITION_IS
from hespotex.models.default.level import level_words
from hespotex.report.report_intervals import (
    NO_INTERVALS,
    median_half_widths,
    region_levels,
    region_rows,
)
from hespotex.report.report_tables import coverage_rows, interval_text, search_text, span_text, text
from hespotex.sections.splits import patients_note
from hespotex.storage.atomic import atomic_path
from hespotex.storage.clock import versions
from hespotex.storage.metrics import Metrics, Validation

if TYPE_CHECKING:
    from hespotex.models.bundle import Bundle

_SETS_NAMED = 20


def write_model_card(path: Path, bundle: Bundle) -> None:
    """Write the card beside a model file; it holds no path and no name but those of the manifest.

    Raises:
        RunError: the file cannot be written.
    """
    with atomic_path(path) as temporary:
        temporary.write_text(render_model_card(bundle), encoding="utf-8")


def render_model_card(bundle: Bundle) -> str:
    """The card as Markdown.

    `bundle.validation` may hold the content of metrics.json and of evidence.json.
    """
    from jinja2 import Environment, StrictUndefined

    template = resources.files("hespotex.report") / "templates" / "model-card.md.j2"
    # The result is Markdown: escaping for HTML would spoil names such as HLA-A<1>.
    environment = Environment(
        undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True, keep_trailing_newline=True
    )
    patients = list(dict.fromkeys(s.patient_id for s in bundle.sections))
    found = Validation.model_validate(bundle.validation)
    card = environment.from_string(template.read_text(encoding="utf-8")).render(
        model_id=bundle.model_id,
        profile=bundle.model.profile,
        composition_is=COMPOSITION_IS,
        n_genes=f"{len(bundle.genes):,}",
        encoder=bundle.encoder.name,
        reading=bundle.reading,
        sides=", ".join(f"{side:g}" for side in bundle.sides_um),
        pitch=f"{bundle.spot_pitch_um:g}",
        diameter=f"{bundle.spot_diameter_um:g}",
        nuclei=_nuclei(bundle),
        seed=bundle.config.seed,
        sections=[_section_row(s) for s in bundle.sections],
        n_sections=len(bundle.sections),
        n_patients=len(patients),
        n_spots=f"{sum(s.n_spots for s in bundle.sections):,}",
        scores=_score_rows(found),
        folds_by=found.folds_by,
        grades=_grades(bundle),
        gene_sets=_gene_sets(bundle),
        grade_rule=found.grade_rule or [],
        headline=found.headline,
        notes=found.notes,
        interval_text=interval_text(found),
        coverage=coverage_rows(found),
        half_widths=_half_widths(bundle),
        region_levels=region_levels(found),
        region_rows=region_rows(found),
        search=search_text(found.search),
        limits=_limits(bundle, found, len(patients)),
        versions=versions(),
    )
    return re.sub(r"\n{3,}", "\n\n", card)


def _half_widths(bundle: Bundle) -> str:
    """The median gene's interval of composition by size of region, or that there is none."""
    widths = bundle_trust(bundle).half_width()
    if widths is None:
        return NO_INTERVALS
    return (
        "The 90 % interval of composition reaches to either side, in the median gene and in natural log, "
        f"{', '.join(median_half_widths([widths]))}; one number a gene and size of region."
    )


def _gene_sets(bundle: Bundle) -> str:
    """The best graded sets by name."""
    found = bundle_sets(bundle)
    if found is None:
        return ""
    scores = found[1]
    best = scores.best(len(scores.names)).tolist()
    return shorten([f"{scores.names[k]} ({scores.grades[k]})" for k in best], _SETS_NAMED) + "."


def _nuclei(bundle: Bundle) -> str:
    nuclei = bundle.config.nuclei
    return nuclei.mode if nuclei.mode == "off" else f"{nuclei.mode}, from {nuclei.source}"


def _section_row(section: Any) -> dict[str, str]:
    return {
        "id": _cell(section.section_id),
        "patient": _cell(section.patient_id),
        "spots": f"{section.n_spots:,}",
        "mpp": f"{section.mpp:.3g}",
        "key": section.key[:12],
    }


def _score_rows(found: Metrics) -> list[dict[str, str]]:
    names = ("pcc_composition_mean", "pcc_composition_abundant200", "pcc_log1p_mean", "rmse_log1p")
    rows = []
    for predictor in found.mean:
        values = {name: text(found.mean_of(predictor, name), 3) for name in names}
        span = span_text(found, predictor, names[0])
        if span:
            values[names[0]] += f" {span}"
        rows.append({"predictor": label_of(predictor), **values})
    return rows


def _grades(bundle: Bundle) -> list[str]:
    """For whom how many of the model's own genes have which grade and evidence; other genes of folds are not predicted."""
    lines = []
    for scope, table in bundle_tables(bundle).items():
        own = table.reindex(list(bundle.genes))
        counts = count_grades(own[keys.GRADE].fillna(UNGRADED).to_numpy(dtype=str))
        words = own[keys.EVIDENCE].fillna(UNTESTED).value_counts()
        grades = ", ".join(f"{count:,} {name}" for name, count in counts.items() if count)
        evidence = ", ".join(f"{words.get(word, 0):,} {word}" for word in EVIDENCE)
        n = int(own[keys.N_PATIENTS].max()) if scope == BETWEEN else 0
        whom = (
            f"for a patient outside the training (tested on {n} patient{'' if n == 1 else 's'})"
            if scope == BETWEEN
            else "for other sections of the training's patients, and nobody else"
        )
        lines.append(f"Genes {whom}: {grades}; in words: {evidence}.")
    if lines and BETWEEN not in bundle_tables(bundle):
        lines.append("For any other patient every gene is untested.")
    return lines


def _limits(bundle: Bundle, found: Metrics, n_patients: int) -> list[str]:
    """What follows from the data and the scores; nothing that was not seen is claimed."""
    limits = []
    composition, rival, depth = (
        found.mean_of(name, "pcc_composition_mean") for name in ("model", "ridge", "depth_only")
    )
    if np.isnan(composition):
        limits.append(
            "It was not validated: nothing is known of how good any gene is. Cross-validate before use."
        )
    else:
        alone = "" if np.isnan(depth) else f" ({label_of('depth_only')}: {depth:.3f})"
        limits.append(
            f"Predicted and measured composition of a gene correlated at {composition:.3f} on held-out sections, on "
            f"average over genes{alone}; single genes lie far above and below: look at a gene's own "
            "score or grade before using it."
        )
    limits += _adapted(bundle)
    if composition <= rival:
        limits.append(f"Ridge regression on the same features did as well or better ({rival:.3f}).")
    if level := level_words(bundle.model.hyper):
        limits.append(f"{level[0].upper()}{level[1:]}.{_level_grades(bundle)}")
    if n_patients == 1:
        limits.append(
            "All training sections are of one patient: what it does on another patient was never seen."
        )
    elif found.folds_by == "section":
        limits.append(
            "Its scores come from held-out sections whose patients were partly in training; "
            "other patients are harder."
        )
    else:
        limits.append(
            f"It knows {n_patients} patients; other organs, stainings, scanners and species were never seen."
        )
    if note := patients_note([s.patient_id for s in bundle.sections]):
        limits.append(f"{note[0].upper()}{note[1:]}.")
    limits += [
        f"Section {s.section_id} was used although the preflight refused it, accepted by the user: {said}."
        for s in bundle.sections
        for said in s.accepted
    ]
    note = inner_folds_note(bundle)
    if note:
        limits.append(f"{note[0].upper()}{note[1:]}.")
    kept = len(bundle.trust.get("nearest.projected", ()))
    if kept:
        limits.append(
            f"The file holds the measured counts of {kept:,} training spots, for the baseline of the nearest patches in "
            "`evaluate`: whoever gets the file gets them. `trust.nearest_spots = 0` leaves them out."
        )
    limits.append(
        "Other pixel sizes are resampled to the patch sides above; a wrong mpp gives wrong values, silently "
        "in the numbers: look at the out-of-distribution score."
    )
    return limits


def _adapted(bundle: Bundle) -> list[str]:
    """Of an adapted model: from which, to what, and whether that paid."""
    adapted, record = bundle.model.hyper.get("adapted"), bundle.validation.get("adaptation")
    if not adapted or not record:
        return []
    sections = shorten(adapted["sections"])
    said = (
        f"Adapted from the model {adapted['from']} to {sections}: {record['sentence']}. Scores, grades, intervals and the "
        "check of slides rest on these sections alone."
    )
    return [said, f"{record['note'][0].upper()}{record['note'][1:]}."] if record["note"] else [said]


def _level_grades(bundle: Bundle) -> str:
    counts = count_grades(np.array(bundle_level_grades(bundle)))
    return " Level grades: " + ", ".join(f"{n:,} {g}" for g, n in counts.items() if n) + "."


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", " ")
