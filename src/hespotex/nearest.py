"""`predict auto`: of the models that are kept, the one whose training slides a slide is most like."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

import numpy as np

from hespotex.config import Machine
from hespotex.errors import EncoderError, HESpotExError, ModelFileError
from hespotex.features.encode import encode_spots, projected
from hespotex.predicting import Plan
from hespotex.predicting.layout import lay_out
from hespotex.predicting.one_slide import Predictor, open_predictor
from hespotex.predicting.options import SlideTask
from hespotex.progress import Reporter
from hespotex.public.kept_models import kept_models, local_model
from hespotex.slide import open_slide

AUTO: Final = "auto"
# So many spots of a slide place it: its centre is then known to a sixteenth of what spots of one section differ by.
_SPOTS: Final = 256


@dataclass(frozen=True)
class Likeness:
    """How a slide lies beside the training slides of a model.

    Attributes:
        verdict: as of the check of every prediction; on some spots of the slide.
        shift: the largest of its shifts, in units of the limit.
    """

    verdict: str
    shift: float

    @property
    def like(self) -> bool:
        """Whether the check calls it like."""
        return self.verdict.startswith("like")

    def text(self) -> str:
        """In words."""
        return f"{self.verdict}, {self.shift:.2f} of the limit"


def chosen_model(model: str | Path, plan: Plan, machine: Machine, reporter: Reporter) -> Path:
    """The file of a model; `auto` compares the slides of the plan with every kept model's training slides.

    Raises:
        ModelFileError: `auto`, and no kept model has training slides like these.
        HESpotExError: as of `local_model`; a slide cannot be read.
    """
    if str(model) != AUTO:
        return local_model(model, reporter)
    if not plan.tasks:
        raise ModelFileError(
            expected="slides with the model auto",
            found="a manifest whose every row has spots",
            remedy="name the model",
        )
    found: dict[str, Likeness] = {}
    kept = kept_models()
    with reporter.task("comparing with kept models", len(kept)) as advance:
        for one in kept:
            why, alike = _compared(one.name, plan, machine)
            if alike is None:
                reporter.warn(f"{one.name} is passed over: {why}")
            else:
                found[one.name] = alike
                reporter.say(f"{one.name}: {alike.text()}")
            advance(1)
    like = {name: f for name, f in found.items() if f.like}
    if not like:
        what = plan.source.name
        seen = ", ".join(f"{name} ({f.text()})" for name, f in found.items())
        raise ModelFileError(
            expected=f"a kept model whose training slides {what} is like",
            found=f"none: {seen}" if found else "none that could be compared",
            remedy="`hespotex models fetch` gets more; a model that is named predicts, with the verdict",
        )
    nearest = min(like, key=lambda name: like[name].shift)
    reporter.say(f"predicting with {nearest}")
    return local_model(nearest)


def _compared(name: str, plan: Plan, machine: Machine) -> tuple[str, Likeness | None]:
    """How the slides lie beside a model's training slides; else why they were not compared."""
    try:
        predictor = open_predictor(local_model(name), machine)
    except (EncoderError, ModelFileError) as error:  # the others may do
        return str(error), None
    if predictor.trust.ood is None:
        return "it has no check of slides", None
    return "", _farthest([likeness(predictor, task) for task in plan.tasks])


def likeness(predictor: Predictor, task: SlideTask) -> Likeness:
    """Compare some spots of a slide, spread evenly, with the training slides of a model.

    Raises:
        HESpotExError: the slide or its scale cannot be read.
    """
    ood, bundle = predictor.trust.ood, predictor.bundle
    if ood is None:
        raise HESpotExError(expected="a model with a check of slides", found="one without")
    with open_slide(task.slide, mpp=task.options.mpp, bits=task.options.bits) as slide:
        section = lay_out(slide, task, bundle).section
        step = -(-section.n_spots // _SPOTS)
        section = section.spots(np.arange(step // 2, section.n_spots, step))
        # Cells that patches share pay where all spots are read, not where some are.
        plan = replace(predictor.plan, reading="patches")
        values, seen = encode_spots(
            slide, section.xy_px0, predictor.encoder, plan, section.geometry.mpp, lambda _n: None
        )
    values = projected(values, bundle.config.encoder.projection)
    place = ood.place([(values, seen)])
    coarser = predictor.trust.coarseness(section.geometry.mpp)
    report = ood.report(values, seen, place, coarser=coarser)
    return Likeness(str(report.verdict), place.shift)


def _farthest(found: list[Likeness]) -> Likeness:
    """Of several slides the one that is least like: the model has to suit all of them."""
    return max(found, key=lambda f: (not f.like, f.shift))
