"""Owns what makes two runs the same, what follows from the sections for a run, and refusals of unfit inputs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import numpy.typing as npt

from hespotex.config import NucleiConfig, PatchConfig, RunConfig
from hespotex.config_values import differing_keys
from hespotex.copies import copied_spots, sketch, spot_marks
from hespotex.disk_errors import cause_of, remedy_of
from hespotex.encoders.base import Encoder
from hespotex.encoders.given import FEATURES_FILE
from hespotex.errors import ConfigError, ModelFileError, NucleiError, SpotTableError
from hespotex.evaluation.by_scope import set_claims
from hespotex.evaluation.claims import UNKNOWN_PATIENTS, Claims, Patient
from hespotex.evaluation.grades import UNGRADED
from hespotex.evaluation.trust import NO_INTERVALS, Extras, bundle_trust
from hespotex.export.claim_words import flagged_text
from hespotex.gene_sets import GeneSet, PanelSets, left_out_sentence, sets_key
from hespotex.inspection.given_features import mixed_features
from hespotex.progress import Reporter
from hespotex.runs import file_key, versions
from hespotex.section import Section
from hespotex.slide import slide_key
from hespotex.splits import patients_note
from hespotex.training.bundle import Bundle, TrainedOn
from hespotex.training.types import EncoderRecord

_ABUNDANT = 100


def run_identity(
    verb: str, config: RunConfig, sections: Sequence[Section], **more: Any
) -> dict[str, Any]:
    """What a result depends on; a folder that holds another identity is refused."""
    return {
        "verb": verb,
        "hespotex": versions()["hespotex"],
        "config": config.model_dump(mode="json"),
        "inputs": {s.section_id: _input(s) for s in sections},
        **more,
    }


def _input(section: Section) -> dict[str, Any]:
    accepted = {"accepted": list(section.accepted)} if section.accepted else {}
    return {**section_inputs(section), "carried": section.carried_key(), **accepted}


def section_inputs(section: Section) -> dict[str, Any]:
    """What a fit sees of a section, by name: files as keys of their content, the mask of nuclei if it is used."""
    images = {"slide": section.slide, "features": section.features_file}
    return {
        "patient_id": section.patient_id,
        "spots": section.expression_key(),
        **{name: slide_key(path) for name, path in images.items() if path is not None},
        **({"bits": section.bits} if section.bits is not None else {}),
        **({"tile_px": section.tile_px} if section.tile_px is not None else {}),
        "mpp": section.geometry.mpp,
        "spot_pitch_um": section.geometry.spot_pitch_um,
        "spot_diameter_um": section.geometry.spot_diameter_um,
        "missing_genes": section.missing_genes,
        **({"nuclei": _mask_key(section.nuclei_file)} if section.nuclei_file else {}),
    }


def _mask_key(path: Path) -> str:
    try:
        return file_key(path)
    except OSError as error:
        raise NucleiError(
            f"expected a readable nuclei mask, found: {cause_of(error)} ({path}); {remedy_of(error) or 'check the path'}"
        ) from error


def with_inputs(bundle: Bundle, sections: Sequence[Section]) -> Bundle:
    """The bundle with what it was fitted on written down: a corrected input is no longer the same, a copy is known."""
    by_id, abundant = {s.section_id: s for s in sections}, _abundant(bundle)

    def noted(trained: TrainedOn) -> TrainedOn:
        section = by_id[trained.section_id]
        return replace(
            trained,
            inputs=section_inputs(section),
            marks=sketch(spot_marks(section)),
            abundant_marks=sketch(spot_marks(section, abundant)),
        )

    return replace(bundle, sections=tuple(noted(trained) for trained in bundle.sections))


def _abundant(bundle: Bundle) -> list[str]:
    """The model's genes with the largest counts in training."""
    order = np.argsort(-np.asarray(bundle.training_totals), kind="stable")[:_ABUNDANT]
    return [bundle.genes[j] for j in order]


def encode_config(bundle: Bundle, nuclei: NucleiConfig) -> RunConfig:
    """The model's configuration with its patch sides written out, and with these nuclei."""
    patches = bundle.config.patches.model_copy(update={"sides_um": bundle.sides_um})
    return bundle.config.model_copy(update={"patches": patches, "nuclei": nuclei})


def encoder_name(config: RunConfig, sections: Sequence[Section]) -> str:
    """The configured encoder, or `features-file` where every section brings its features.

    Raises:
        ConfigError: some sections bring features and others do not.
    """
    mixed = mixed_features(sections)
    if mixed:
        raise ConfigError(mixed)
    given = any(s.features_file is not None for s in sections)
    return FEATURES_FILE if given else config.encoder.name


def patch_config(config: RunConfig, sections: Sequence[Section]) -> PatchConfig:
    """The configured patches; the published profile takes the spot diameter where nothing is asked for."""
    if config.profile == "published" and config.patches.sides_um is None:
        return PatchConfig(sides_um=(median(s.geometry.spot_diameter_um for s in sections),))
    return config.patches


def encoder_record(encoder: Encoder, dim: int) -> EncoderRecord:
    """What a model file says of the encoder; `dim` is that of the features, after any projection."""
    return EncoderRecord(
        name=encoder.name,
        key=encoder.key(),
        dim=dim,
        size_px=encoder.size_px,
        mean=encoder.mean,
        std=encoder.std,
    )


def check_same_model(
    path: Path,
    there: Bundle,
    config: RunConfig,
    sections: Sequence[Section],
    gene_sets: Sequence[GeneSet] = (),
) -> None:
    """Refuse to write over a model of other sections or settings; the message names what differs.

    Raises:
        ModelFileError: another model.
    """
    found = there.config.model_dump(mode="json")
    if there.config.search == config.search:  # what it chose is no other setting
        for key in config.search.grid:
            stage, _, name = key.partition(".")
            found[stage][name] = getattr(getattr(config, stage), name)
    # A file of before `inputs` were written down says nothing but the key of its spots.
    known = {s.section_id for s in there.sections if s.inputs}
    both = known & {s.section_id for s in sections}
    old = {
        "config": found,
        "sections": {
            s.section_id: s.inputs if s.section_id in both else s.key for s in there.sections
        },
        "gene_sets": sets_key(there.gene_sets),
    }
    new = {
        "config": config.model_dump(mode="json"),
        "sections": {
            s.section_id: section_inputs(s) if s.section_id in both else s.expression_key()
            for s in sections
        },
        "gene_sets": sets_key(gene_sets),
    }
    rows = differing_keys(old, new)
    if rows:
        shown = "; ".join(f"{key}: {a!r} there, {b!r} now" for key, a, b in rows[:6])
        raise ModelFileError(
            f"{path} holds another model: {shown}; choose another --out, or delete it"
        )


def check_same_encoder(model: Path, bundle: Bundle, encoder: EncoderRecord) -> None:
    """Refuse features of other weights or preprocessing than the model was fitted on.

    Raises:
        ModelFileError: names both keys.
    """
    if encoder.name == FEATURES_FILE and encoder.dim == bundle.encoder.dim:
        return  # made elsewhere: their number is all that can be checked
    if encoder != bundle.encoder:
        raise ModelFileError(
            f"expected the encoder that {model} was trained with ({bundle.encoder.name}, key {bundle.encoder.key}), "
            f"found other weights or preprocessing (key {encoder.key}); install the same encoder version"
        )


def check_not_trained_on(model: Path, bundle: Bundle, sections: Sequence[Section]) -> None:
    """Refuse to score a model on what it was fitted on, under whatever name it comes.

    A copy is known by its key, and by the counts of its spots over all genes or over the model's most abundant,
    which a filter of genes leaves (`copies` says what is not known); by its key alone in files of before sketches
    were kept, and where spots have hardly a gene. An imported model says nothing of its training.

    Raises:
        SpotTableError: names the section and its name in training.
    """
    for section in sections:
        if section.counts is None:
            raise SpotTableError(
                "expected measured expression to score against, found none; give `expression` in the manifest",
                section=section.section_id,
            )
        found = _training_section(bundle, section)
        if found is not None:
            raise SpotTableError(
                f"expected sections that {model} was not trained on, found {found}; leave it out with --sections, "
                "or use cross-validate",
                section=section.section_id,
            )


def training_note(bundle: Bundle, section: Section, reporter: Reporter) -> str | None:
    """What must be said of a prediction for a section that the model was fitted on; None for another one."""
    found = None if section.counts is None else _training_section(bundle, section)
    if found is None:
        return None
    note = f"the model was fitted on this section ({found}): that predicted and measured agree here says nothing of others"
    reporter.warn(f"section {section.section_id}: {note}")
    return note


def _training_section(bundle: Bundle, section: Section) -> str | None:
    """Which training section this is or was copied from, in words."""
    key = section.expression_key()
    marks, of_abundant = spot_marks(section), spot_marks(section, _abundant(bundle))
    for trained in bundle.sections:
        if trained.key == key:
            return f"its training section {trained.section_id}"
        copied = copied_spots(marks, trained.marks) or copied_spots(
            of_abundant, trained.abundant_marks
        )
        if copied:
            return (
                f"the counts of {copied[0]:,} of {copied[1]:,} compared spots in its training section "
                f"{trained.section_id}"
            )
    return None


def patient_of(
    bundle: Bundle, patient_id: str, *, same_patient: bool = False, trained_on: bool = False
) -> Patient:
    """Whether a slide is of a patient of the training.

    Every lab has a patient P1, so an equal id alone does not make two patients one.

    Args:
        bundle: the model.
        patient_id: as the user gave it; empty or `unknown` where nobody said whose the slide is.
        same_patient: equal ids mean the same patient.
        trained_on: the model was fitted on this very section, or a copy of it.
    """
    if trained_on:
        return "same"
    if patient_id.strip().casefold() in UNKNOWN_PATIENTS:
        return "unknown"
    return "same" if same_patient and is_trained_patient(bundle, patient_id) else "new"


def is_trained_patient(bundle: Bundle, patient_id: str) -> bool:
    """Whether a patient of the training has this id, whatever its case."""
    trained = {s.patient_id.strip().casefold() for s in bundle.sections} - UNKNOWN_PATIENTS
    return patient_id.strip().casefold() in trained


def patients_of(
    bundle: Bundle, sections: Sequence[Section], same_patient: bool, reporter: Reporter
) -> dict[str, Patient]:
    """`patient_of` every section, by its id; says of ids that the training has, too."""
    say_same_id(bundle, [s.patient_id for s in sections], same_patient, reporter)
    return {
        s.section_id: patient_of(bundle, s.patient_id, same_patient=same_patient) for s in sections
    }


def say_same_id(
    bundle: Bundle, patient_ids: Sequence[str], same_patient: bool, reporter: Reporter
) -> None:
    """Say of ids that the training has, too, that nobody is taken for the same patient by an id alone."""
    shared = [p for p in dict.fromkeys(patient_ids) if is_trained_patient(bundle, p)]
    if shared and not same_patient:
        reporter.say(
            f"patient {', '.join(shared)}: the training has a patient of this name; it is taken for another one, "
            "--same-patient says that it is the same"
        )


def genes_to_write(
    claims: Claims,
    reporter: Reporter,
    *,
    untested: bool = False,
    all_genes: bool = False,
    name: str = "",
) -> npt.NDArray[np.intp]:
    """Places of the genes that a prediction writes (`Claims.written`); says so in one line.

    Args:
        claims: of the whole panel on this slide.
        reporter: hears of it.
        untested: also genes without evidence for this slide.
        all_genes: every gene of any grade.
        name: of the slide, for the line.
    """
    kept = np.flatnonzero(claims.written(untested=untested, all_genes=all_genes))
    n, counts = len(claims), claims.counts()
    if len(kept) == n:
        tail = f"all {n:,} genes are written, each marked"
    elif len(kept):
        ways = "--all-genes writes every gene"
        if counts["untested"] and not untested:
            ways = f"--untested writes the {counts['untested']:,} untested ones, {ways}"
        tail = f"{len(kept):,} genes are written; {ways}"
    else:
        ways = (
            "--untested writes the untested genes"
            if counts["untested"]
            else "--all-genes writes every gene"
        )
        tail = f"depth, unlike scores and tissue alone are written, no gene; {ways}, marked"
    reporter.say(f"{name}{': ' if name else ''}{claims.sentence()} {tail[0].upper()}{tail[1:]}.")
    return kept


def say_what_lacks(bundle: Bundle, reporter: Reporter) -> None:
    """Say that a model has no intervals of composition, which of its gene sets have too few genes, and which no grade."""
    if bundle_trust(bundle).regions is None:
        reporter.say(NO_INTERVALS)
    sets = PanelSets.of(bundle.gene_sets, bundle.genes)
    if sets.left_out:
        reporter.warn(left_out_sentence(sets.left_out))
    claims = set_claims(bundle, sets.names, "same")
    ungraded = [n for n, grade in zip(sets.names, claims.grade, strict=True) if grade == UNGRADED]
    if ungraded:
        reporter.warn(
            f"{len(ungraded):,} of {len(sets):,} gene sets are ungraded: nothing is known of how good they are; "
            "cross-validate or train with the same --gene-sets to grade them"
        )


def say_of_model(bundle: Bundle, reporter: Reporter) -> None:
    """Say what inner folds chose for a model, where values were searched, and what few patients mean for it."""
    if note := patients_note([s.patient_id for s in bundle.sections]):
        reporter.say(note)
    search = bundle.validation.get("search")
    if search:
        chosen = ", ".join(f"{key} = {value}" for key, value in search["chosen"].items())
        reporter.say(
            f"search chose {chosen} for the model, of {len(search['candidates'])} candidates"
        )


def say_verdict(section: Section, extras: Extras, reporter: Reporter) -> None:
    """Say whether a section is like those of the training, where the model can tell."""
    if extras.verdict is not None and extras.ood is not None:
        reporter.say(
            f"section {section.section_id}: {extras.verdict}; {flagged_text(extras.ood).lower()}"
        )
