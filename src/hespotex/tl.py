"""Owns LazySlide-shaped calls: a model on an open WSIData; writes into the WSIData alone."""

from __future__ import annotations

import tempfile
import warnings
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from hespotex.config import Machine
from hespotex.errors import SlideError
from hespotex.export.h5ad import read_prediction
from hespotex.export.spatialdata import SPOTS, TABLE, build_spatialdata
from hespotex.progress import Reporter
from hespotex.slide_prediction import SlideOptions, SlideTask, open_predictor, predict_slide


def predict_expression(
    wsi: Any,
    model: str | Path,
    *,
    tissue_key: str = "tissues",
    key_added: str = SPOTS,
    options: SlideOptions | None = None,
    machine: Machine | None = None,
    reporter: Reporter | None = None,
) -> None:
    """Predict expression on a slide that is open in wsidata or LazySlide, and add it to the object.

    Spots lie on a grid over the shapes `tissue_key` where `lazyslide.pp.find_tissues` made them, else
    over the tissue that we find. Added are shapes `key_added` (the square around each spot, level-0
    pixels) and the table `{key_added}_hespotex` on them: X is log1p(CPM over the panel), with the layer
    `composition`, obs `predicted_depth` and `ood_score`, var `grade`.

    Example:
        >>> from wsidata import open_wsi  # doctest: +SKIP
        >>> wsi = open_wsi("slide.svs")  # doctest: +SKIP
        >>> hespotex.tl.predict_expression(wsi, "lab.hespotex")  # doctest: +SKIP

    Args:
        wsi: WSIData.
        model: model file.
        tissue_key: shapes with the outline of the tissue.
        key_added: name of the shapes.
        options: as for a slide file; its tissue, where given, goes before `tissue_key`.
        machine: device and threads.
        reporter: hears of progress.

    Raises:
        HESpotExError: the slide's scale is unknown, or the model does not fit.
    """
    path = Path(str(wsi.reader.file))
    if not path.exists():
        raise SlideError(
            f"expected the slide file behind the WSIData, found nothing at {path}; open it where it lies"
        )
    options = options or SlideOptions()
    mpp = wsi.properties.mpp
    if options.mpp is None and mpp is not None and np.isfinite(mpp):
        options = replace(options, mpp=float(mpp))
    with tempfile.TemporaryDirectory(prefix="hespotex-") as folder, warnings.catch_warnings():
        # SpatialData and its dependencies announce changes on every write.
        warnings.simplefilter("ignore")
        if options.tissue is None and options.spots is None and tissue_key in wsi.shapes:
            outline = Path(folder) / "tissue.geojson"
            wsi.shapes[tissue_key][["geometry"]].to_file(outline, driver="GeoJSON")
            options = replace(options, tissue=outline)
        task = SlideTask(path.stem, path, options)
        predictor = open_predictor(Path(model), machine)
        result = predict_slide(predictor, task, Path(folder), reporter=reporter)
        store = build_spatialdata(read_prediction(result.paths["prediction"]))
        wsi.shapes[key_added] = store.shapes[SPOTS]
        table = store.tables[TABLE]
        table.obs["library_id"] = table.obs["library_id"].cat.rename_categories([key_added])
        table.uns["spatialdata_attrs"]["region"] = key_added
        wsi.tables[f"{key_added}_hespotex"] = table
        wsi.attrs.setdefault("tile_spec", {})[key_added] = store.attrs["tile_spec"][SPOTS]
