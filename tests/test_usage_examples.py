"""Every example of docs/usage.md on other tools runs, in the order of the page, on files of our own."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
import pytest
import tifffile
from matplotlib import pyplot as plt

from helpers.toy_prediction import GENES, toy_prediction, toy_section, toy_stored, toy_thumbnail
from helpers.toy_slide import MPP, graded, paint_tissue, toy_bundle, toy_predictor, toy_trust
from hespotex import tl
from hespotex.export.h5ad import write_prediction
from hespotex.genes.gene_sets import GeneSet
from hespotex.models.bundle import write_model
from hespotex.predicting import SlideOptions, SlideTask, predict_slide

PAGE = Path(__file__).parents[1] / "docs" / "usage.md"


def _examples(title: str = "Into other tools") -> list[str]:
    section = PAGE.read_text("utf-8").split(f"## {title}\n")[1].split("\n## ")[0]
    return re.findall(r"```python\n(.*?)```", section, flags=re.DOTALL)


def test_the_example_of_regions_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    toy_stored(tmp_path / "predicted/predictions")
    (tmp_path / "predicted/predictions/S1.h5ad").rename("predicted/predictions/C2.h5ad")
    ring = [[0, 0], [250, 0], [250, 250], [0, 250], [0, 0]]
    (tmp_path / "drawn_in_qupath.geojson").write_text(
        json.dumps({"type": "Polygon", "coordinates": [ring]})
    )
    names: dict[str, Any] = {}
    (example,) = _examples("What predictions hold")
    exec(example, names)
    assert names["values"].shape == (2, len(GENES))
    assert list(names["table"]["n_inside"]) == [4] * len(GENES)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("n_genes", [3, 0])
def test_scanpy_and_squidpy_draw_a_prediction_without_gene_sets_also_one_without_genes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, n_genes: int
) -> None:
    monkeypatch.chdir(tmp_path)
    mpl.use("Agg")
    section = toy_section()
    write_prediction(
        Path("predicted/predictions/slide.h5ad"),
        section=section,
        genes=GENES,
        prediction=toy_prediction(section),
        thumbnail=toy_thumbnail(section),
        columns=np.arange(n_genes),
    )
    names: dict[str, object] = {}
    for example in _examples()[:2]:
        exec(example, names)
    assert plt.get_fignums()
    plt.close("all")


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # the libraries announce changes of their own dependencies
def test_examples_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    examples = _examples()
    assert len(examples) == 7
    monkeypatch.chdir(tmp_path)
    mpl.use("Agg")
    tifffile.imwrite(
        "slide.tif",
        paint_tissue(),
        tile=(256, 256),
        photometric="rgb",
        compression="zlib",
        resolution=(1e4 / MPP, 1e4 / MPP),
        resolutionunit="CENTIMETER",
    )
    bundle = toy_bundle()
    bundle = graded(bundle, dict.fromkeys(bundle.genes, "B"))
    bundle = replace(bundle, gene_sets=(GeneSet("SET", bundle.genes[:4]),))
    write_model(tmp_path / "lab.hespotex", bundle)
    predictor = toy_predictor(bundle, toy_trust())
    monkeypatch.setattr(tl, "open_predictor", lambda *_args: predictor)
    options = SlideOptions(
        formats=("geojson", "parquet", "spatialdata", "ome-tiff"), all_genes=True
    )
    predict_slide(predictor, SlideTask("slide", Path("slide.tif"), options), Path("predicted"))
    names: dict[str, object] = {}
    for example in examples:
        exec(example, names)
    plt.close("all")
    wsi = names["wsi"]
    assert any(key.startswith("hespotex-") and "features" not in key for key in wsi.tables)  # type: ignore[attr-defined]
    assert names["maps"].ndim == 3  # type: ignore[attr-defined]
    assert len(names["spots"]) == len(names["frame"])  # type: ignore[arg-type]
