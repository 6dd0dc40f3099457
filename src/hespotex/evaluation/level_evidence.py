"""The level grades that a model's own validation gave to its genes."""

from __future__ import annotations

from hespotex.evaluation.grades import UNGRADED
from hespotex.models.bundle import Bundle
from hespotex.storage.metrics import Evidence


def bundle_level_grades(bundle: Bundle) -> list[str]:
    """The level grade of every gene of the panel; `ungraded` where the validation gave none."""
    known = Evidence.model_validate(bundle.validation).level_grades
    return [known.get(gene, UNGRADED) for gene in bundle.genes]
