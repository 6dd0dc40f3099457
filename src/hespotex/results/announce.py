"""Messages about a model, the genes that are written, and a slide's verdict."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from hespotex.evaluation.by_scope import bundle_claims
from hespotex.evaluation.claims import Claims
from hespotex.evaluation.grades import UNGRADED
from hespotex.evaluation.trust import NO_INTERVALS, Extras, bundle_trust
from hespotex.export.claim_words import flagged_text
from hespotex.genes.gene_sets import PanelSets, left_out_sentence
from hespotex.models.bundle import Bundle
from hespotex.models.default.level import level_words
from hespotex.progress import Reporter
from hespotex.sections.section import Section
from hespotex.sections.splits import patients_note
from hespotex.storage.metrics import Validation


@dataclass(frozen=True)
class WrittenGenes:
    """The genes that the prediction of one slide writes.

    Attributes:
        columns: their places in the panel.
        sentence: what may be claimed, how many are written, and how to get the others.
    """

    columns: npt.NDArray[np.intp]
    sentence: str


def genes_to_write(
    claims: Claims,
    *,
    untested: bool = False,
    all_genes: bool = False,
    kept: npt.NDArray[np.intp] | None = None,
) -> WrittenGenes:
    """Which genes a prediction writes (`Claims.written`), and the sentence that says so; pure.

    Args:
        claims: of the whole panel on this slide.
        untested: also genes without evidence for this slide.
        all_genes: every gene of any grade.
        kept: columns that a fine map holds at all; None: all.
    """
    may = np.flatnonzero(claims.written(untested=untested, all_genes=all_genes))
    columns = may if kept is None else may[np.isin(may, kept)]
    n, counts = len(claims), claims.counts()
    if len(columns) < len(may):
        tail = f"of {len(may):,} genes the {len(columns):,} best graded are written; --most-genes writes more"
    elif len(columns) == n:
        tail = f"all {n:,} genes are written, each marked"
    elif len(columns):
        ways = "--all-genes writes every gene"
        if counts["untested"] and not untested:
            ways = f"--untested writes the {counts['untested']:,} untested ones, {ways}"
        tail = f"{len(columns):,} genes are written; {ways}"
    else:
        ways = (
            "--untested writes the untested genes"
            if counts["untested"]
            else "--all-genes writes every gene"
        )
        tail = f"depth, unlike scores and tissue alone are written, no gene; {ways}, marked"
    return WrittenGenes(columns, f"{claims.sentence()} {tail[0].upper()}{tail[1:]}.")


def say_what_lacks(bundle: Bundle, reporter: Reporter) -> None:
    """Say whether a model tells slides apart, that it has no intervals, which gene sets have too few genes, which no grade."""
    if level := level_words(bundle.model.hyper):
        reporter.say(level)
    if bundle_trust(bundle).regions is None:
        reporter.say(NO_INTERVALS)
    sets = PanelSets.of(bundle.gene_sets, bundle.genes)
    if sets.left_out:
        reporter.warn(left_out_sentence(sets.left_out))
    claims = bundle_claims(bundle, "same", sets=sets.names)
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
    search = Validation.model_validate(bundle.validation).search
    if search.chosen:
        reporter.say(
            f"search chose {search.words} for the model, of {len(search.candidates)} candidates"
        )


def say_verdict(section: Section, extras: Extras, reporter: Reporter) -> None:
    """Say whether a section is like those of the training, where the model can tell."""
    if extras.verdict is not None and extras.ood is not None:
        reporter.say(
            f"section {section.section_id}: {extras.verdict}; {flagged_text(extras.ood).lower()}"
        )
