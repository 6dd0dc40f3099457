"""Prediction of slides of any size, streamed and resumable, and of sections at their own spots."""

from hespotex.predicting.executor import Cluster
from hespotex.predicting.one_slide import Predictor, open_predictor, predict_slide
from hespotex.predicting.options import SlideOptions, SlideTask
from hespotex.predicting.plan import Plan, plan_input
from hespotex.results.outcome import SlideOutcome

__all__ = [
    "Cluster",
    "Plan",
    "Predictor",
    "SlideOptions",
    "SlideOutcome",
    "SlideTask",
    "open_predictor",
    "plan_input",
    "predict_slide",
]
