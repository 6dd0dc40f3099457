"""A killed process leaves nothing under a final name, and the next one goes on after it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from helpers.toy_slide import MPP
from hespotex.predicting import Predictor, SlideOptions, SlideTask, predict_slide

pytestmark = pytest.mark.slow

# Each stage waits a little, so that a kill finds it in the middle.
CODE = """
import sys, time
from pathlib import Path
from hespotex.predicting import SlideOptions, SlideTask, decode, predict_slide, store
from helpers.toy_slide import MPP, ToyEncoder, toy_bundle, toy_predictor, toy_trust
store.CHUNK_SPOTS = 16
def slowly(call):
    def later(*args, **kwargs):
        time.sleep(0.05)
        return call(*args, **kwargs)
    return later
ToyEncoder.encode = slowly(ToyEncoder.encode)
for name in ("predict_expression", "predict_composition"):
    setattr(decode, name, slowly(getattr(decode, name)))
options = SlideOptions(mpp=MPP, formats=("geojson",), pitch_um=float(sys.argv[3]), untested=True)
task = SlideTask("s", Path(sys.argv[1]), options)
predict_slide(toy_predictor(toy_bundle(), toy_trust()), task, Path(sys.argv[2]))
"""


def _start(slide: Path, out: Path, pitch_um: float) -> subprocess.Popen[bytes]:
    env = {**os.environ, "PYTHONPATH": os.pathsep.join(p for p in sys.path if p)}
    return subprocess.Popen(
        [sys.executable, "-c", CODE, str(slide), str(out), str(pitch_um)], env=env
    )


@pytest.mark.usefixtures("small_chunks")
@pytest.mark.parametrize(
    "stage", ["features/chunk-000003.safetensors", "predictions/finished/3.json"]
)
@pytest.mark.parametrize("pitch_um", [100.0, 40.0], ids=["coarse", "fine"])
def test_killed_process_goes_on_and_equals_the_uninterrupted_one(
    predictor: Predictor, slide: Path, tmp_path: Path, stage: str, pitch_um: float
) -> None:
    cut = tmp_path / "cut"
    process = _start(slide, cut, pitch_um)
    while not (cut / "work" / "s" / stage).exists():
        assert process.poll() is None
        time.sleep(0.005)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert (cut / "work" / "s" / stage).exists()
    assert not list(cut.glob("predictions/*"))
    options = SlideOptions(mpp=MPP, formats=("geojson",), pitch_um=pitch_um, untested=True)
    task = SlideTask("s", slide, options)
    for out in (cut, tmp_path / "whole"):
        predict_slide(predictor, task, out)
    for part in ("predictions/s.h5ad", "predictions/s.geojson", "figures/s_overview.png"):
        assert (cut / part).read_bytes() == (tmp_path / "whole" / part).read_bytes()
