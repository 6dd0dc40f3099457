"""Records of the sections that a model was fitted on, and refusals to score it on these."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from hespotex.errors import SpotTableError
from hespotex.models.bundle import Bundle
from hespotex.models.types import TrainedOn
from hespotex.progress import Reporter
from hespotex.sections.duplicates import copied_spots, sketch, spot_marks
from hespotex.sections.inputs import section_inputs
from hespotex.sections.section import Section

_ABUNDANT = 100


def with_inputs(bundle: Bundle, sections: Sequence[Section]) -> Bundle:
    """The bundle with a record of its inputs, by which corrected inputs and copies of sections are told."""
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


def check_not_trained_on(model: Path, bundle: Bundle, sections: Sequence[Section]) -> None:
    """Refuse to score a model on what it was fitted on, under whatever name it comes.

    A copy is recognised by its key, and by the counts of its spots over all genes or over the model's most abundant ones,
    which a filter of genes leaves (`duplicates` says which copies are missed). Older files without sketches, and spots with
    hardly a gene, are recognised by the key alone. An imported model knows nothing of its training.

    Raises:
        SpotTableError: names the section and its name in training.
    """
    for section in sections:
        if section.counts is None:
            raise SpotTableError(
                expected="measured expression to score against",
                found="none",
                remedy="give `expression` in the manifest",
                section=section.section_id,
            )
        found = _training_section(bundle, section)
        if found is not None:
            raise SpotTableError(
                expected=f"sections that {model} was not trained on",
                found=found,
                remedy="leave it out with --sections, or use cross-validate",
                section=section.section_id,
            )


def training_note(bundle: Bundle, section: Section, reporter: Reporter) -> str | None:
    """The note on a prediction of a section that the model was fitted on; None for other sections."""
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
