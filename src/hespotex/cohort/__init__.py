"""Many slides: what a user's input means, and its slides one after another or on a cluster."""

from hespotex.cohort.executor import Cluster, SlideOutcome
from hespotex.cohort.plan import plan_slides
from hespotex.cohort.run import CohortResult, predict

__all__ = ["Cluster", "CohortResult", "SlideOutcome", "plan_slides", "predict"]
