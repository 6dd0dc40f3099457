"""hespotex: spot-level gene expression from H&E slides. Public names are imported when first used."""

from __future__ import annotations

from importlib import import_module
from typing import Any

__version__ = "0.1.0"

# None of these is also the name of a submodule: the first import of that would take the name's place.
_PUBLIC = {
    "cross_validate": "hespotex.pipeline",
    "train": "hespotex.pipeline",
    "predict": "hespotex.pipeline",
    "adapt": "hespotex.pipeline",
    "evaluate": "hespotex.pipeline",
    "cohort": "hespotex.analysis.cohort",
    "associate": "hespotex.report.association",
    "demo": "hespotex.datasets.demo",
    "RunConfig": "hespotex.config",
    "Machine": "hespotex.config",
    "SlideOptions": "hespotex.predicting",
    "Cluster": "hespotex.predicting",
    "InputChoices": "hespotex.config",
    "GeneSet": "hespotex.genes.gene_sets",
    "read_gmt": "hespotex.genes.gene_sets",
    "read_prediction": "hespotex.export.h5ad",
    "PredictionFile": "hespotex.analysis.prediction_file",
    "HESpotExError": "hespotex.errors",
    "Reporter": "hespotex.progress",
    "Silent": "hespotex.progress",
}
_MODULES = ("pl", "tl")

__all__ = ["__version__", *_MODULES, *sorted(_PUBLIC)]  # noqa: PLE0604


def __getattr__(name: str) -> Any:
    if name in _PUBLIC:
        return getattr(import_module(_PUBLIC[name]), name)
    if name in _MODULES:
        return import_module(f"{__name__}.{name}")
    raise AttributeError(f"module 'hespotex' has no attribute {name!r}")


def __dir__() -> list[str]:
    return __all__
