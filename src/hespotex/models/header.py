"""What stands in a model file beside its arrays: the metadata of the safetensors file, and the header therein."""

# ruff: noqa: RUF012 - pydantic gives every instance its own copy of a default

from __future__ import annotations

import json
from typing import Any, Final, Literal, Self

from hespotex.genes.absent_genes import OtherGenes
from hespotex.models.types import EncoderRecord, TrainedOn
from hespotex.storage.schema import Schema

FORMAT: Final = "hespotex-model"
FORMAT_VERSION: Final = 2  # 1, of hespotex 0.1.0, had grades that did not say what they rest on
# What the values of a prediction are, for whoever opens the file without this program.
UNITS: Final = {
    "log1p": "log1p(CPM over the gene panel)",
    "depth": "total count over the gene panel",
}


class ModelHeader(Schema):
    """JSON in the metadata's `header`; `Bundle` says more of what is named alike."""

    config: dict[str, Any]
    """The whole configuration of the fit."""
    genes: tuple[str, ...]
    """The panel."""
    training_totals: tuple[float, ...]
    """Raw count of every gene over the training spots."""
    encoder: EncoderRecord
    """The frozen encoder."""
    sides_um: tuple[float, ...]
    """Of the patches, in microns."""
    spot_pitch_um: float
    """Median of the training sections, in microns."""
    spot_diameter_um: float
    """Likewise."""
    sections: tuple[TrainedOn, ...]
    """What it was fitted on."""
    profile: Literal["default", "published"]
    """Which predict function reads the arrays."""
    hyper: dict[str, Any]
    """Values needed to predict, or chosen while fitting."""
    history: dict[str, list[Any]]
    """Losses by name."""
    validation: dict[str, Any]
    """metrics.json and evidence.json of its own cross-validation, and what was searched; or empty."""
    gene_sets: tuple[tuple[str, ...], ...] = ()
    """A set's name, then its genes."""
    other_genes: OtherGenes = OtherGenes()
    """Genes of the training tables that the panel leaves out; shares with five digits."""
    reading: str = ""
    """How its slides were read (`config.encoder.reading`) and why, in words."""
    units: dict[str, str] = {}
    """Of predictions."""
    versions: dict[str, str] = {}
    """Of libraries that numbers depend on."""

    @classmethod
    def parse(cls, text: str) -> Self:
        """From the text in the file.

        Raises:
            ValueError: it is no JSON, or lacks something.
        """
        return cls.model_validate(json.loads(text))

    def text(self) -> str:
        """As it stands in the file: equal models give equal texts."""
        return json.dumps(self.model_dump(exclude_unset=True), sort_keys=True)


class FileMetadata(Schema):
    """Metadata of the safetensors file, all of it text."""

    format: str = ""
    """`FORMAT`, or it is a file of another program."""
    format_version: str = ""
    """A file of a newer version is refused."""
    header: str = ""
    """Text of the `ModelHeader`."""
    content_key: str | None = None
    """Key of header and arrays; None in files of before it was written."""
