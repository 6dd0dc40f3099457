"""LazySlide-shaped calls: a model on an open WSIData; writes into the WSIData alone."""

from __future__ import annotations

import tempfile
import warnings
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from hespotex.config import Machine
from hespotex.errors import ModelFileError, SlideError
from hespotex.evaluation.by_scope import bundle_claims
from hespotex.export.h5ad import read_prediction
from hespotex.export.shown import Show
from hespotex.export.spatialdata import SPOTS, TABLE, build_spatialdata
from hespotex.features.encode import encode_spots, projected
from hespotex.models.bundle import Bundle, read_model
from hespotex.models.predict import predict_expression as predict_spots
from hespotex.predicting import SlideOptions, SlideTask, open_predictor, predict_slide
from hespotex.progress import Progress, heard
from hespotex.public.kept_models import local_model
from hespotex.results.announce import genes_to_write
from hespotex.slide import Slide, open_slide


def predict_expression(
    wsi: Any,
    model: str | Path,
    *,
    tissue_key: str = "tissues",
    key_added: str = SPOTS,
    options: SlideOptions | None = None,
    machine: Machine | None = None,
    progress: Progress = None,
) -> None:
    """Predict expression on a slide that is open in wsidata or LazySlide, and add it to the object.

    Spots lie on a grid over the shapes `tissue_key` where `lazyslide.pp.find_tissues` made them, else
    over the tissue that we find. Added are shapes `key_added` (the square around each spot, level-0
    pixels) and the table `{key_added}_hespotex` on them: X is composition, with the layer `log1p` (the other way
    round with `options.show`), obs `predicted_depth` and `ood_score`, var `grade`, `evidence`, `scope` and numbers.

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
        progress: True draws bars, False says nothing, a `hespotex.Reporter` hears it; None draws bars where somebody looks.

    Raises:
        HESpotExError: the slide's scale is unknown, or the model does not fit.
    """
    path = Path(str(wsi.reader.file))
    if not path.exists():
        raise SlideError(
            expected="the slide file behind the WSIData",
            found=f"nothing at {path}",
            remedy="open it where it lies",
        )
    options = options or SlideOptions()
    with open_slide(path, bits=options.bits) as slide:
        _check_same_picture(wsi, slide)
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
        reporter = heard(progress)
        predictor = open_predictor(local_model(model, reporter), machine)
        result = predict_slide(predictor, task, Path(folder), reporter=reporter)
        store = build_spatialdata(read_prediction(result.paths["prediction"]), show=options.show)
        wsi.shapes[key_added] = store.shapes[SPOTS]
        table = store.tables[TABLE]
        table.obs["library_id"] = table.obs["library_id"].cat.rename_categories([key_added])
        table.uns["spatialdata_attrs"]["region"] = key_added
        wsi.tables[f"{key_added}_hespotex"] = table
        wsi.attrs.setdefault("tile_spec", {})[key_added] = store.attrs["tile_spec"][SPOTS]


def _check_same_picture(wsi: Any, slide: Slide) -> None:
    """Refuse a WSIData of another picture in the file: a label, or the slide before it was turned.

    Raises:
        SlideError: sizes differ.
    """
    height, width = (int(n) for n in wsi.properties.shape[:2])
    if (width, height) != (slide.width_px0, slide.height_px0):
        raise SlideError(
            expected=(
                f"the WSIData to show the slide of {slide.width_px0} x {slide.height_px0} px, the largest "
                f"picture of {slide.path} as its tags turn it"
            ),
            found=f"one of {width} x {height} px",
            remedy="write that picture to a file of its own, or predict the file by hespotex predict",
        )


def extract_features(
    wsi: Any,
    model: str | Path,
    *,
    tile_key: str = "tiles",
    mpp: float | None = None,
    bits: int | None = None,
    machine: Machine | None = None,
    progress: Progress = None,
) -> None:
    """Encode the surroundings of tiles as a model needs them, for `lazyslide.tl.feature_prediction`.

    A model reads several patch sides around each spot, LazySlide's own feature extraction gives one: so
    the table that is added has the features of all sides beside one another, smallest side first.

    Args:
        wsi: WSIData with tiles (`lazyslide.pp.tile_tissues`), best at the pitch of the model's training.
        model: model file.
        tile_key: shapes of the tiles; a spot lies at the centre of each.
        mpp: microns per level-0 pixel; default the slide's.
        bits: of a sample of 16, that hold the picture, where no tag of the slide tells it.
        machine: device and threads.
        progress: True draws bars, False says nothing, a `hespotex.Reporter` hears it; None draws bars where somebody looks.

    Raises:
        HESpotExError: the slide's scale is unknown, there are no such tiles, or the encoder is not the model's.
    """
    from wsidata.io import add_features

    path = Path(str(wsi.reader.file))
    if tile_key not in wsi.shapes:
        raise SlideError(
            expected=f"tiles under the key {tile_key!r} in the WSIData of {path}",
            found="none",
            remedy="make them with lazyslide.pp.tile_tissues",
        )
    predictor = open_predictor(local_model(model), machine)
    centres = wsi.shapes[tile_key].centroid
    xy_px0 = np.stack([centres.x, centres.y], axis=1)
    with (
        open_slide(path, mpp=mpp, bits=bits) as slide,
        heard(progress).task(f"{path.stem}: encoding", len(xy_px0)) as advance,
    ):
        _check_same_picture(wsi, slide)
        if slide.mpp is None:
            raise SlideError(
                expected=f"microns per pixel in the tags of {path}", found="none", remedy="give mpp"
            )
        values, _ = encode_spots(
            slide, xy_px0, predictor.encoder, predictor.plan, slide.mpp, advance
        )
    values = projected(values, predictor.bundle.config.encoder.projection)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        add_features(
            wsi,
            key=f"{_registry_key(predictor.bundle)}-features_{tile_key}",
            tile_key=tile_key,
            features=values.reshape(len(values), -1),
        )


def register_model(
    model: str | Path,
    *,
    untested: bool = False,
    all_genes: bool = False,
    show: Show = "composition",
) -> str:
    """Register a model file with LazySlide's models, so that `lazyslide.tl.feature_prediction` runs it.

    Its predictions are composition, or log1p(CPM over the model's panel), one column a gene; intervals, grades and the
    out-of-distribution check are left behind: `predict_expression` brings them.

    Example:
        >>> key = hespotex.tl.register_model("lab.hespotex")  # doctest: +SKIP
        >>> hespotex.tl.extract_features(wsi, "lab.hespotex")  # doctest: +SKIP
        >>> zs.tl.feature_prediction(wsi, key)  # doctest: +SKIP

    Args:
        model: model file.
        untested: also genes without evidence for a patient outside the training, which every slide counts as here.
        all_genes: genes of every grade.
        show: composition, or log1p(CPM).

    Returns:
        The key under which LazySlide knows it: `hespotex-` and the model's id.

    Raises:
        ModelFileError: the file is no model, or it has no gene to offer for a patient outside the training.
    """
    from lazyslide_models import MODEL_REGISTRY
    from lazyslide_models._model_registry import register
    from lazyslide_models.base import FeaturePredictionModel, ModelTask

    bundle = read_model(local_model(model))
    claims = bundle_claims(bundle, "unknown")
    columns = genes_to_write(claims, untested=untested, all_genes=all_genes).columns
    if not len(columns):
        raise ModelFileError(
            expected="a model with genes graded A to C for other patients",
            found=(
                f"none in {model}: {claims.sentence()} untested=True or all_genes=True registers them all "
                "the same"
            ),
        )
    key = _registry_key(bundle)

    class HESpotEx(FeaturePredictionModel):  # type: ignore[misc]
        """Spot-level gene expression from features of several patch sides."""

        name = key
        features_model_name = f"{key}-features"
        needs_coords = True
        whole_slide = True
        model = bundle.model
        _device = "cpu"

        def to(self, device: Any) -> Any:
            self._device = str(device)
            return self

        def try_compile(self, **_options: Any) -> None:
            """Nothing to compile: most of the work is in numpy."""

        def predict(self, features: Any, coords: Any = None) -> dict[str, Any]:
            """(n, S x D) features and (n, 2) tile origins of a whole slide -> what is shown, by gene."""
            table = _by_side(np.asarray(features, np.float32), bundle)
            # Only the order of distances between spots counts, so level-0 pixels do as well as microns.
            xy = np.asarray(coords, np.float64)
            prediction = predict_spots(bundle.model, table, xy, spread=False, device=self._device)
            shown = prediction.composition if show == "composition" else prediction.log1p
            return {bundle.genes[j]: shown[:, j] for j in columns}

    if key in MODEL_REGISTRY:
        del MODEL_REGISTRY[key]
    register(
        key=key,
        task=ModelTask.feature_prediction,
        description=f"{len(columns):,} genes, {len(bundle.sections)} training sections.",
        vision_encoder=bundle.encoder.name,
    )(HESpotEx)
    return key


def _registry_key(bundle: Bundle) -> str:
    return f"hespotex-{bundle.model_id}"


def _by_side(features: npt.NDArray[np.float32], bundle: Bundle) -> npt.NDArray[np.float32]:
    """(n, S x D) -> (n, S, D)."""
    n_sides, dim = len(bundle.sides_um), bundle.encoder.dim
    if features.ndim != 2 or features.shape[1] != n_sides * dim:
        raise ModelFileError(
            expected=(
                f"{n_sides} x {dim} features a tile ({bundle.encoder.name} on patches of "
                f"{', '.join(f'{side:g}' for side in bundle.sides_um)} um)"
            ),
            found=features.shape[1:],
            remedy="make them with hespotex.tl.extract_features",
        )
    return features.reshape(len(features), n_sides, dim)
