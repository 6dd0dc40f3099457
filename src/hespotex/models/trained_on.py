"""Records of the sections that a model was fitted on, and refusals to score it on these."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import numpy as np

from hespotex.config import PoolingConfig
from hespotex.errors import SpotTableError
from hespotex.models.bundle import Bundle
from hespotex.models.types import SpotsOf, TrainedOn
from hespotex.progress import Reporter
from hespotex.sections.duplicates import copied_spots, sketch, spot_marks
from hespotex.sections.fine import fitted_squares
from hespotex.sections.inputs import section_inputs
from hespotex.sections.section import Section

_ABUNDANT = 100


def with_inputs(bundle: Bundle, sections: Sequence[Section]) -> Bundle:
    """The bundle with a record of these inputs of its training, by which corrected inputs and copies of sections are told."""
    by_id, abundant = {s.section_id: s for s in sections}, _abundant(bundle)

    def noted(trained: TrainedOn) -> TrainedOn:
        section = by_id.get(trained.section_id)
        if section is None:  # of a model that was adapted: noted when it was first trained
            return trained
        own, bins = _spots_of(section, abundant), None
        if section.bins is not None and section.bins.n_spots > section.n_spots:
            bins = _spots_of(section.bins, abundant)
        return replace(
            trained,
            inputs=section_inputs(section),
            marks=own.marks,
            abundant_marks=own.abundant_marks,
            bins=bins,
        )

    return replace(bundle, sections=tuple(noted(trained) for trained in bundle.sections))


def _spots_of(section: Section, abundant: Sequence[str]) -> SpotsOf:
    of_all, of_abundant = spot_marks(section), spot_marks(section, abundant)
    return SpotsOf(section.expression_key(), sketch(of_all), sketch(of_abundant))


def _abundant(bundle: Bundle) -> list[str]:
    """The model's genes with the largest counts in training."""
    order = np.argsort(-np.asarray(bundle.training_totals), kind="stable")[:_ABUNDANT]
    return [bundle.genes[j] for j in order]


def check_not_trained_on(model: Path, bundle: Bundle, sections: Sequence[Section]) -> None:
    """Refuse to score a model on what it was fitted on, under whatever name it comes.

    A copy is recognised by its key, and by the counts of its spots over all genes or over the model's most abundant ones,
    which a filter of genes leaves (`duplicates` says which copies are missed). Older files without sketches, and spots with
    hardly a gene, are recognised by the key alone. A section of fine bins is recognised as bins and as the squares that a
    fit makes of them. An imported model knows nothing of its training.

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
    """Which training section this is or was copied from, in words.

    Either may come as bins or as the squares that these were summed into, so every form is compared with every form.
    """
    abundant = _abundant(bundle)
    forms = [
        (form.expression_key(), spot_marks(form), spot_marks(form, abundant))
        for form in _forms(section, bundle.config.pooling)
    ]
    for trained in bundle.sections:
        for known in (trained, *(() if trained.bins is None else (trained.bins,))):
            for key, marks, of_abundant in forms:
                if known.key == key:
                    return f"its training section {trained.section_id}"
                copied = copied_spots(marks, known.marks) or copied_spots(
                    of_abundant, known.abundant_marks
                )
                if copied:
                    return (
                        f"the counts of {copied[0]:,} of {copied[1]:,} compared spots in its training section "
                        f"{trained.section_id}"
                    )
    return None


def _forms(section: Section, pooling: PoolingConfig) -> Iterator[Section]:
    """The section as it comes, its bins, and the squares that a fit makes of them."""
    yield section
    if section.bins is not None:
        yield section.bins
        return
    with suppress(SpotTableError):  # bins that do not fill squares of the stated side
        squares = fitted_squares(section, pooling.side_um)
        if squares.n_spots < section.n_spots:
            yield squares
