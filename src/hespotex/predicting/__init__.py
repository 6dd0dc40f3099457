"""Prediction of whatever a user brings: sections, slides of any size, folders of slides; streamed and resumable."""

from hespotex.predicting.beside import refuse_unwritten, say_absent, write_beside
from hespotex.predicting.executor import Cluster, SlideOutcome
from hespotex.predicting.one_slide import Predictor, open_predictor, predict_slide
from hespotex.predicting.options import SlideOptions, SlideResult, SlideTask
from hespotex.predicting.outputs import kept_note
from hespotex.predicting.plan import plan_slides
from hespotex.predicting.run import CohortResult, predict

__all__ = [
    "Cluster",
    "CohortResult",
    "Predictor",
    "SlideOptions",
    "SlideOutcome",
    "SlideResult",
    "SlideTask",
    "kept_note",
    "open_predictor",
    "plan_slides",
    "predict",
    "predict_slide",
    "refuse_unwritten",
    "say_absent",
    "write_beside",
]
