"""Prediction of slides without expression, of any size: streamed, resumable."""

from hespotex.slide_prediction.beside import refuse_unwritten, say_absent, write_beside
from hespotex.slide_prediction.options import FORMATS, SlideOptions, SlideResult, SlideTask
from hespotex.slide_prediction.outputs import kept_note
from hespotex.slide_prediction.run import Predictor, open_predictor, predict_slide

__all__ = [
    "FORMATS",
    "Predictor",
    "SlideOptions",
    "SlideResult",
    "SlideTask",
    "kept_note",
    "open_predictor",
    "predict_slide",
    "refuse_unwritten",
    "say_absent",
    "write_beside",
]
