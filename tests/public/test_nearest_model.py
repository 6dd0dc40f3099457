"""`predict auto`: of the kept models the one whose training slides a slide is like, and none where it is like none."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from helpers.heard import Heard
from helpers.stored_model import MODEL
from hespotex import nearest, pipeline
from hespotex.config import Machine, RunConfig
from hespotex.datasets import make_cohort
from hespotex.errors import ModelFileError
from hespotex.nearest import Likeness, chosen_model
from hespotex.predicting import Plan, SlideOptions
from hespotex.predicting.options import SlideTask
from hespotex.public.kept_models import add_model, model_folder


def _chosen(
    found: dict[str, list[Likeness]], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> tuple[str, Heard]:
    """The model that is chosen where kept models find so of the slides in turn."""

    class Kept:
        def __init__(self, name: str) -> None:
            self.name, self.trust = name, self
            self.ood = object()
            self.left = list(found[name])

    heard = Heard()
    monkeypatch.setattr(nearest, "kept_models", lambda: [Kept(n) for n in found])
    monkeypatch.setattr(nearest, "local_model", lambda name, *_: Path(name))
    monkeypatch.setattr(nearest, "open_predictor", lambda path, _machine: Kept(path.name))
    monkeypatch.setattr(nearest, "likeness", lambda kept, _task: kept.left.pop(0))
    n = len(next(iter(found.values()), []))
    tasks = tuple(SlideTask(f"S{k}", Path(f"S{k}.svs"), SlideOptions()) for k in range(n))
    plan = Plan(tmp_path / "slides", tasks=tasks)
    return chosen_model("auto", plan, Machine(), heard).name, heard


LIKE, UNLIKE = "like the training slides", "unlike: tissue"


def test_the_nearest_of_those_that_are_like_is_taken_and_each_is_named(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    found = {
        "far": [Likeness(LIKE, 0.9)],
        "near": [Likeness(LIKE, 0.2)],
        "stained": [Likeness("unlike: staining", 0.1)],
    }
    name, heard = _chosen(found, monkeypatch, tmp_path)
    assert name == "near"
    assert heard.said == [
        "far: like the training slides, 0.90 of the limit",
        "near: like the training slides, 0.20 of the limit",
        "stained: unlike: staining, 0.10 of the limit",
        "predicting with near",
    ]


def test_of_several_slides_every_one_has_to_be_like(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    found = {
        "one": [Likeness(LIKE, 0.1), Likeness(UNLIKE, 1.5)],
        "all": [Likeness(LIKE, 0.8), Likeness(LIKE, 0.6)],
    }
    assert _chosen(found, monkeypatch, tmp_path)[0] == "all"


def test_a_kept_model_that_was_changed_is_passed_over_and_named(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("HESPOTEX_CACHE", str(tmp_path / "cache"))
    add_model(MODEL, name="changed")
    with (model_folder() / "changed.hespotex").open("ab") as file:
        file.write(b"x")
    plan, heard = (
        Plan(tmp_path / "a.svs", tasks=(SlideTask("a", tmp_path / "a.svs", SlideOptions()),)),
        Heard(),
    )
    with pytest.raises(ModelFileError, match="found none that could be compared"):
        chosen_model("auto", plan, Machine(), heard)
    (warned,) = heard.warned
    assert "changed is passed over: expected the kept model changed as it came" in warned


@pytest.mark.parametrize(
    ("found", "said"),
    [
        ({"bulb": [Likeness(UNLIKE, 3.25)]}, r"found none: bulb \(unlike: tissue, 3.25 of the"),
        ({}, "found none that could be compared; `hespotex models fetch` gets more"),
    ],
)
def test_a_slide_that_no_model_knows_is_refused(
    found: dict[str, list[Likeness]],
    said: str,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    if not found:
        monkeypatch.setattr(nearest, "kept_models", list)
        plan = Plan(tmp_path / "a.svs", tasks=(SlideTask("a", tmp_path / "a.svs", SlideOptions()),))
        with pytest.raises(ModelFileError, match=said):
            chosen_model("auto", plan, Machine(), Heard())
        return
    with pytest.raises(ModelFileError, match=said):
        _chosen(found, monkeypatch, tmp_path)


def test_sections_with_spots_of_their_own_name_their_model(tmp_path: Path) -> None:
    with pytest.raises(ModelFileError, match="slides with the model auto, found a manifest whose"):
        chosen_model("auto", Plan(tmp_path / "sections.csv"), Machine(), Heard())


def test_no_kept_model_can_be_called_auto(tmp_path: Path) -> None:
    with pytest.raises(ModelFileError, match=r"and not auto, found 'auto'; give another --name"):
        add_model(MODEL, name="auto")


@pytest.mark.slow
def test_a_slide_of_the_training_is_like_its_model_and_one_stained_blue_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HESPOTEX_CACHE", str(tmp_path / "kept"))
    manifest = make_cohort(tmp_path / "cohort", n_patients=2, n_genes=40, side_um=800.0)
    config = RunConfig.from_values(
        {"model": {"epochs": 1, "ensemble": 1}, "encoder": {"projection": 64}}
    )
    machine = Machine(device="cpu", threads=1)
    made = pipeline.train(
        manifest, tmp_path / "m.hespotex", config=config, validate=False, machine=machine
    )
    add_model(made, name="painted")
    own = next(p for p in sorted(manifest.parent.rglob("*S1.*")) if p.suffix in {".png", ".jpg"})
    blue = tmp_path / "blue.png"
    Image.fromarray(np.asarray(Image.open(own))[..., [2, 1, 0]]).save(blue)

    def chosen(slide: Path) -> Path:
        plan = Plan(slide, tasks=(SlideTask("S", slide, SlideOptions(mpp=1.5)),))
        return chosen_model("auto", plan, machine, Heard())

    assert chosen(own).name == "painted.hespotex"
    with pytest.raises(ModelFileError, match=r"found none: painted \(unlike"):
        chosen(blue)
