"""A model file adapted to sections of one's own: genes, arrays, what it was fitted on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from hespotex.errors import ConfigError, GenePanelError, ModelFileError
from hespotex.genes.panel import GenePanel
from hespotex.models.bundle import Bundle
from hespotex.models.default.adapt import Prepared, Strength, prepare, widened
from hespotex.models.default.calibration import train_mean_log1p
from hespotex.models.fit import trained_on, training_section
from hespotex.models.types import Cohort
from hespotex.sections.section import Section


@dataclass(frozen=True)
class Adaptation:
    """A model, own sections over its genes and the new ones, and all that the strengths share.

    Attributes:
        base: the model as it came.
        panel: its genes, then the new ones; totals of both trainings.
        train: the own sections.
        prepared: arrays.
    """

    base: Bundle
    panel: GenePanel
    train: Cohort
    prepared: Prepared

    @classmethod
    def of(cls, base: Bundle, train: Cohort, genes: Sequence[str] | None = None) -> Adaptation:
        """Prepare a model for these own sections.

        Args:
            genes: the panel, of a larger training part; None: the model's genes and those that these sections add.

        Raises:
            ModelFileError: the model cannot be adapted.
            GenePanelError: the sections have no gene of the model.
        """
        check_adaptable(base)
        new = new_genes(base, [i.section for i in train.items]) if genes is None else ()
        names = (*base.genes, *new) if genes is None else tuple(genes)
        own = GenePanel.given(names, [item.section for item in train.items])
        before = np.zeros(len(names))
        if base.training_totals:
            before[: len(base.genes)] = base.training_totals
        panel = GenePanel(names, tuple((before + own.training_totals).tolist()))
        sections = [training_section(item, panel) for item in train.items]
        totals, n = np.asarray(own.training_totals), len(base.genes)
        share = np.maximum(totals[n:], 0.5) / max(totals.sum(), 1.0)
        model = widened(base.model, share, train_mean_log1p(sections)[n:])
        return cls(base, panel, train, prepare(model, sections, seed=base.config.seed))

    def bundle(self, strength: Strength) -> Bundle:
        """The adapted model, without baselines, intervals and grades; the very model as it came for no strength."""
        if strength.none:
            return self.base
        base, model = self.base, self.prepared.adapted(strength)
        record = {
            "from": base.model_id,
            "strength": strength.text(),
            "sections": [item.section.section_id for item in self.train.items],
        }
        model = replace(model, hyper={**model.hyper, "adapted": record})
        return replace(
            base,
            genes=self.panel.genes,
            training_totals=self.panel.training_totals,
            sections=(*base.sections, *trained_on(self.train)),
            model=model,
            validation={},
            trust={},
        )


def new_genes(base: Bundle, sections: Sequence[Section]) -> tuple[str, ...]:
    """Genes that pass the model's own rules in these sections and that it lacks; none where its genes were a list."""
    if base.config.panel.kind == "list":
        return ()
    try:
        found = GenePanel.fit(sections, base.config.panel).genes
    except GenePanelError:
        return ()
    known = set(base.genes)
    return tuple(gene for gene in found if gene not in known)


def check_adaptable(base: Bundle) -> None:
    """Refuse models of the published profile.

    Raises:
        ModelFileError: of another profile than the default.
    """
    if base.model.profile != "default":
        raise ModelFileError(
            expected="a model of the default profile to adapt",
            found=f"one of the {base.model.profile} profile",
            remedy="train one with your sections",
        )


def check_new_ids(base: Bundle, sections: Sequence[Section]) -> None:
    """Refuse ids that name sections of the model's training: a record would stand for two sections.

    Raises:
        ConfigError: names them.
    """
    known = {s.section_id for s in base.sections}
    doubled = [s.section_id for s in sections if s.section_id in known]
    if doubled:
        raise ConfigError(
            expected="section ids that the model's training has not",
            found=f"{', '.join(doubled)} in both",
            remedy="rename them in the manifest",
        )
