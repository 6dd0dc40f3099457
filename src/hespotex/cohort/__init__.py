"""Many slides: what a user's input means, and its slides one after another."""

from hespotex.cohort.executor import CohortResult, SlideOutcome, predict
from hespotex.cohort.plan import plan_slides

__all__ = ["CohortResult", "SlideOutcome", "plan_slides", "predict"]
