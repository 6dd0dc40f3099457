"""Refusal to write over a model of other sections or settings."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from hespotex.config import RunConfig
from hespotex.errors import ModelFileError
from hespotex.genes.gene_sets import GeneSet, sets_key
from hespotex.models.bundle import Bundle
from hespotex.sections.inputs import section_inputs
from hespotex.sections.section import Section
from hespotex.storage.differences import differing_keys


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
    # Older files lack `inputs` and hold the key of their spots alone.
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
            f"{path} holds another model: {shown}", remedy="choose another --out, or delete it"
        )
