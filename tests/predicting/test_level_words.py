"""That a model cannot tell slides apart stands in words wherever a prediction has numbers, and so does what they are for."""

from __future__ import annotations

from pathlib import Path

import anndata
import pandas as pd
import pytest

from helpers.heard import Heard
from helpers.toy_slide import MPP, write_slide
from hespotex import pipeline
from hespotex.models.bundle import Bundle
from hespotex.models.default.level import CANNOT_TELL
from hespotex.predicting import SlideOptions
from hespotex.report.model_card import write_model_card
from hespotex.report.report import write_report
from hespotex.storage.run_folder import RunDir
from hespotex.storage.run_record import RunRecord

pytestmark = pytest.mark.usefixtures("toy_model", "blank_pictures")


def test_a_model_of_few_patients_says_it_in_every_output_of_a_prediction(
    bundle: Bundle, tmp_path: Path
) -> None:
    slide, out, heard = write_slide(tmp_path / "a.png"), tmp_path / "out", Heard()
    pipeline.predict("toy.hespotex", slide, out, options=SlideOptions(mpp=MPP), progress=heard)
    table = pd.read_csv(out / "slides.csv")
    stored = anndata.read_h5ad(out / "predictions" / "a.h5ad").uns["hespotex"]
    write_report(RunDir(out))
    write_model_card(tmp_path / "card.md", bundle)
    pages = [path.read_text().casefold() for path in (out / "report.html", tmp_path / "card.md")]
    said = [*table.level, stored["level"], RunRecord.read(out / "run.json").level, *pages]
    assert all(CANNOT_TELL in text for text in said)
    assert sum(CANNOT_TELL in line for line in heard.said) == 1
    assert set(table.use) == {stored["use"]} == {"research use only"}
