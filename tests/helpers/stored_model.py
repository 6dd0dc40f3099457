"""Makes the stored model of tests/stored: `PYTHONPATH=src:tests python -m helpers.stored_model`."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt

from helpers.made_claims import validation_of
from helpers.toy_cohort import encoded_section, toy_cohort
from hespotex.config import Machine, RunConfig
from hespotex.evaluation.trust import bundle_trust
from hespotex.models.bundle import Bundle, read_model, write_model
from hespotex.models.predict import predict_expression
from hespotex.validation.cross_validation import fit_for_use

STORED = Path(__file__).parents[1] / "stored"
MODEL, PREDICTION = STORED / "tiny.hespotex", STORED / "tiny.npz"
GRADES = {f"G{j:02d}": grade for j, grade in enumerate("ABCDAB")}


def predict_stored(
    bundle: Bundle, features: npt.NDArray[np.float32], xy_um: npt.NDArray[np.float64]
) -> dict[str, npt.NDArray[np.float32]]:
    """Everything in numbers that a prediction carries, by name."""
    found = predict_expression(bundle.model, features, xy_um)
    extras = bundle_trust(bundle).extras(found, features)
    arrays = {
        "log1p": found.log1p,
        "composition": found.composition,
        "depth": found.depth,
        "spread": found.spread,
        "lower": extras.lower,
        "upper": extras.upper,
        "ood_score": extras.ood_score,
    }
    return {name: np.asarray(array, dtype=np.float32) for name, array in arrays.items()}


def make() -> None:
    """Fit a model of 6 genes on the toy cohort, and predict another section with it."""
    config = RunConfig.from_values(
        {
            "panel": {"kind": "list", "genes": tuple(GRADES)},
            "model": {
                "n_components": 4,
                "hidden": 4,
                "latent_size": 2,
                "landmarks": 8,
                "direct_rank": 2,
                "ensemble": 1,
                "epochs": 2,
            },
            "trust": {"nearest_spots": 16},
        }
    )
    machine = Machine(device="cpu", threads=1)
    cohort = toy_cohort(n_side=6)
    bundle = fit_for_use(cohort, config, validation=validation_of(GRADES), machine=machine)
    write_model(MODEL, bundle)
    item = encoded_section("C1", "C", 9, n_side=6)
    inputs = {"features": item.features, "xy_um": item.section.xy_um}
    found = predict_stored(read_model(MODEL), **inputs)
    np.savez_compressed(PREDICTION, **inputs, **found)


if __name__ == "__main__":
    make()
