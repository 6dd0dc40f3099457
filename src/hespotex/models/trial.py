"""A model of somebody else is tried before it is kept: arrays that do not fit one another are told then, not in a run."""

from __future__ import annotations

from pathlib import Path
from typing import Final

import numpy as np

from hespotex.errors import HESpotExError, ModelFileError
from hespotex.models.bundle import Bundle
from hespotex.models.predict import predict_expression
from hespotex.models.types import Prediction

_SIDE: Final = 4  # spots of a made square along one side


def check_predicts(path: Path, bundle: Bundle) -> None:
    """Predict a few made spots.

    Args:
        path: of its file, for the error.

    Raises:
        ModelFileError: it cannot, or what it says is no number, or is not of its genes.
    """
    expected, remedy = f"a model that predicts in {path}", "ask its publisher for the whole file"
    try:
        found = _predicted(bundle)
    except (
        HESpotExError,
        ArithmeticError,
        LookupError,
        RuntimeError,
        TypeError,
        ValueError,
    ) as error:
        cause = f"{type(error).__name__}: {' '.join(str(error).split())[:200]}"
        raise ModelFileError(expected=expected, cause=cause, remedy=remedy) from error
    shape = (_SIDE**2, len(bundle.genes))
    if found.composition.shape != shape or found.log1p.shape != shape:
        said = f"values of {found.composition.shape[-1]} genes beside {len(bundle.genes)} names"
        raise ModelFileError(expected=expected, found=said, remedy=remedy)
    if not (np.isfinite(found.composition).all() and np.isfinite(found.log1p).all()):
        raise ModelFileError(expected=expected, found="values that are no numbers", remedy=remedy)


def _predicted(bundle: Bundle) -> Prediction:
    rng = np.random.default_rng(0)
    lattice = np.stack(np.meshgrid(np.arange(_SIDE), np.arange(_SIDE)), axis=-1).reshape(-1, 2)
    shape = (len(lattice), len(bundle.sides_um), bundle.encoder.dim)
    features = rng.normal(size=shape).astype(np.float32)
    nuclei = rng.uniform(0.5, 1.5, len(lattice)) if bundle.model.hyper["uses_nuclei"] else None
    xy_um = np.asarray(lattice * float(bundle.spot_pitch_um), np.float64)
    with np.errstate(all="ignore"):
        return predict_expression(bundle.model, features, xy_um, nuclei)
