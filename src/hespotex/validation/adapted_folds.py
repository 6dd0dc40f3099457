"""One fold over own sections with a model adapted to the rest, in the form of any other fold."""

from __future__ import annotations

from hespotex.config import Machine
from hespotex.evaluation.held_out import evaluate_bundle
from hespotex.models.adapting import Adaptation
from hespotex.models.bundle import Bundle
from hespotex.models.default.adapt import Strength
from hespotex.models.types import Cohort
from hespotex.sections.splits import Fold
from hespotex.storage.clock import StageClock
from hespotex.validation.cross_validation import FoldOutcome, calibrated, with_baselines


def adapted_fold(
    base: Bundle,
    cohort: Cohort,
    fold: Fold,
    strength: Strength,
    *,
    machine: Machine | None = None,
    clock: StageClock | None = None,
) -> FoldOutcome:
    """Adapt to the fold's training sections at the strength that these chose, then predict and score the others."""
    train = cohort.subset(fold.train)
    bundle = base
    if not strength.none:
        bundle = fitted_with_trust(base, train, strength, machine=machine)
    held_out = evaluate_bundle(
        bundle,
        None if strength.none else train,
        cohort.subset(fold.held_out),
        machine=machine,
        clock=clock,
    )
    return FoldOutcome(fold, bundle, held_out)


def fitted_with_trust(
    base: Bundle,
    train: Cohort,
    strength: Strength,
    *,
    nearest_spots: int = 0,
    machine: Machine | None = None,
) -> Bundle:
    """A model adapted to these sections; its baselines, intervals and check of slides rest on them alone."""
    bundle = Adaptation.of(base, train).bundle(strength)

    def refit(rest: Cohort) -> Bundle:
        return Adaptation.of(base, rest, bundle.genes).bundle(strength)

    with_rivals = with_baselines(bundle, train, nearest_spots=nearest_spots)
    return calibrated(with_rivals, train, machine=machine, refit=refit)
