"""The model file: one safetensors file with weights and a JSON header; no pickle.

A `Bundle` is everything that a prediction needs besides the slide: the fitted model, its gene panel,
the encoder and patch sides it was fitted with, and what is known of its worth.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from pydantic import ValidationError
from safetensors import SafetensorError, safe_open

from hespotex.config import RunConfig
from hespotex.errors import ConfigError, ModelFileError
from hespotex.genes.absent_genes import OtherGenes
from hespotex.genes.gene_sets import GeneSet, pooled_shares
from hespotex.models.header import FORMAT, FORMAT_VERSION, UNITS, FileMetadata, ModelHeader
from hespotex.models.types import EncoderRecord, FittedModel, TrainedOn
from hespotex.storage.clock import versions
from hespotex.storage.content_keys import content_key
from hespotex.storage.disk_errors import DAMAGED, cause_of, remedy_of
from hespotex.storage.file_kinds import missing_bytes, mistaken_kind
from hespotex.storage.metrics import Validation
from hespotex.storage.schema import first_fault
from hespotex.storage.tensors import save_tensors

_TRUST = "trust."


@dataclass(frozen=True)
class Bundle:
    """A model with all it needs to predict.

    Attributes:
        config: the whole configuration of the fit.
        genes: the gene panel, in the order of the columns of every prediction.
        training_totals: total raw count of every gene over the training spots.
        encoder: the frozen encoder.
        sides_um: sides of the patches in microns, smallest first.
        spot_pitch_um: median of the training sections.
        spot_diameter_um: median of the training sections.
        sections: what it was fitted on.
        model: arrays and values of the fit.
        validation: scores and grades of its own cross-validation, or empty.
        trust: arrays of `evaluation.trust.Trust`, by flat name; empty where nothing was calibrated.
        gene_sets: that its predictions score.
        reading: how its slides were read and why, in words; empty in files of before it was written.
        others: genes of the training tables that are not in the panel; empty in files of before it was kept.
    """

    config: RunConfig
    genes: tuple[str, ...]
    training_totals: tuple[float, ...]
    encoder: EncoderRecord
    sides_um: tuple[float, ...]
    spot_pitch_um: float
    spot_diameter_um: float
    sections: tuple[TrainedOn, ...]
    model: FittedModel
    validation: Mapping[str, Any] = field(default_factory=dict)
    trust: Mapping[str, npt.NDArray[Any]] = field(default_factory=dict)
    gene_sets: tuple[GeneSet, ...] = ()
    others: OtherGenes = field(default_factory=OtherGenes)
    reading: str = ""

    @property
    def model_id(self) -> str:
        """Short key of the weights and the panel."""
        arrays = [
            part for name in sorted(self.model.tensors) for part in (name, self.model.tensors[name])
        ]
        return content_key(list(self.genes), *arrays)[:12]

    @property
    def pooled(self) -> npt.NDArray[np.float64]:
        """(G,) pooled shares of the training sections that the model's composition is against; they sum to 1."""
        own = self.model.tensors.get("readout.log_pooled")
        if own is None:
            return pooled_shares(self.training_totals)
        shares = np.exp(np.asarray(own, dtype=np.float64))
        return np.asarray(shares / shares.sum())


def beside_model(path: Path, ending: str) -> Path:
    """What belongs to a model file: `lab.model-card.md` to `lab.hespotex`.

    Only the ending `.hespotex` is cut off, so `lab.1` and `lab.2` share no file.
    """
    name = path.name.removesuffix(".hespotex") or path.name
    return path.with_name(name + ending)


def write_model(path: Path, bundle: Bundle) -> None:
    """Write one file, whole or not at all.

    Raises:
        RunError: the folder cannot be written.
    """
    header = ModelHeader(
        config=bundle.config.model_dump(mode="json"),
        genes=bundle.genes,
        training_totals=bundle.training_totals,
        encoder=bundle.encoder,
        sides_um=bundle.sides_um,
        spot_pitch_um=bundle.spot_pitch_um,
        spot_diameter_um=bundle.spot_diameter_um,
        sections=bundle.sections,
        profile=bundle.model.profile,
        hyper=dict(bundle.model.hyper),
        history=dict(bundle.model.history),
        validation=dict(bundle.validation),
        gene_sets=tuple((s.name, *s.genes) for s in bundle.gene_sets),
        other_genes=OtherGenes(
            bundle.others.names, tuple(round(share, 5) for share in bundle.others.shares)
        ),
        reading=bundle.reading,
        units=UNITS,
        versions=versions(),
    )
    named = {**bundle.model.tensors, **{_TRUST + k: v for k, v in bundle.trust.items()}}
    tensors = {name: np.array(value, order="C") for name, value in named.items()}
    text = header.text()
    metadata = FileMetadata(
        format=FORMAT,
        format_version=str(FORMAT_VERSION),
        header=text,
        content_key=_key_of(text, tensors),
    )
    save_tensors(path, tensors, metadata.plain())


def read_model(path: Path) -> Bundle:
    """Read a model file.

    Raises:
        ModelFileError: missing, truncated, of another program, or written by a newer version.
    """
    if not path.is_file():
        raise ModelFileError(
            expected=f"a model file at {path}",
            found="a folder" if path.is_dir() else "nothing",
        )
    try:
        mistaken = mistaken_kind(path)
        if mistaken is not None:
            raise ModelFileError(expected=f"a whole model file at {path}", **mistaken.fields(path))
        with safe_open(path, framework="numpy") as handle:
            metadata = FileMetadata.model_validate(handle.metadata() or {})
            _check_format(path, metadata)
            tensors = {name: handle.get_tensor(name) for name in handle.keys()}  # noqa: SIM118
    except (SafetensorError, OSError, struct.error) as error:
        raise ModelFileError(
            expected="a whole model file",
            found=f"one that cannot be read: {path} ({cause_of(error)})",
            remedy=_remedy(path, error),
        ) from error
    try:
        known = metadata.content_key
        if known is not None and known != _key_of(metadata.header, tensors):
            raise ModelFileError(
                expected="a whole model file",
                found=f"one whose bytes were changed: {path}",
                remedy=f"{DAMAGED}, or train anew",
            )
        header = ModelHeader.parse(metadata.header)
        Validation.model_validate(header.validation)  # said here rather than where it is used
        return _bundle(header, tensors)
    except (ValueError, ConfigError) as error:
        said = f"{type(error).__name__}: {error}"
        cause = first_fault(error) if isinstance(error, ValidationError) else said
        raise ModelFileError(expected=f"a complete header in {path}", cause=cause) from error


def _key_of(header: str, tensors: Mapping[str, npt.NDArray[Any]]) -> str:
    """Key of all that a file holds. Only this reveals a weight that a disk or a transfer changed."""
    return content_key(
        header, *(part for name in sorted(tensors) for part in (name, tensors[name]))
    )


def _remedy(path: Path, error: Exception) -> str:
    """What to do: a file shorter than its own header says is cut short, any other is damaged or foreign."""
    cut = "Incomplete" in str(error) or "TooSmall" in str(error) or missing_bytes(path) is not None
    return remedy_of(error) or (
        "it is cut short: copy it again or train anew" if cut else f"{DAMAGED}, or train anew"
    )


def _check_format(path: Path, metadata: FileMetadata) -> None:
    if metadata.format != FORMAT:
        raise ModelFileError(
            expected="a hespotex model",
            found=f"a safetensors file of another program: {path}",
            remedy="`hespotex import-checkpoint` reads weights of the reference implementation",
        )
    found = metadata.format_version
    if not found.isdigit() or int(found) > FORMAT_VERSION:
        raise ModelFileError(
            expected=f"model format {FORMAT_VERSION} or older",
            found=f"{found or 'none'} in {path}",
            remedy="update hespotex",
        )


def _bundle(header: ModelHeader, tensors: Mapping[str, Any]) -> Bundle:
    return Bundle(
        config=RunConfig.from_values(_as_read_then(header.config), source="the model file"),
        genes=header.genes,
        training_totals=header.training_totals,
        encoder=header.encoder,
        sides_um=header.sides_um,
        spot_pitch_um=header.spot_pitch_um,
        spot_diameter_um=header.spot_diameter_um,
        sections=header.sections,
        model=FittedModel(
            header.profile,
            {k: v for k, v in tensors.items() if not k.startswith(_TRUST)},
            header.hyper,
            header.history,
        ),
        validation=header.validation,
        trust={k.removeprefix(_TRUST): v for k, v in tensors.items() if k.startswith(_TRUST)},
        gene_sets=tuple(GeneSet(s[0], s[1:]) for s in header.gene_sets),
        others=header.other_genes,
        reading=header.reading,
    )


def _as_read_then(config: Mapping[str, Any]) -> dict[str, Any]:
    """A stored configuration; one of before there was a choice says nothing of the reading, and means patches."""
    encoder = {"reading": "patches", **config.get("encoder", {})}
    return {**config, "encoder": encoder}
