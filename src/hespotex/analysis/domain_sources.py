"""What domains are drawn from, spots in blocks: predicted composition, measured counts, features of the slide."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Protocol

import numpy as np
import numpy.typing as npt
from scipy import sparse

from hespotex import keys
from hespotex.analysis.prediction_file import PredictionFile
from hespotex.config import EncoderConfig, Machine
from hespotex.errors import (
    ConfigError,
    GenePanelError,
    GeometryError,
    HESpotExError,
    shorten,
)
from hespotex.export.raster import pitch_um
from hespotex.features.encode import encode_section
from hespotex.features.patches import PatchPlan
from hespotex.geometry import Geometry
from hespotex.sections.manifest import ManifestRow, read_manifest
from hespotex.sections.section import Section
from hespotex.storage.run_record import RunRecord

Float32 = npt.NDArray[np.float32]
Block = tuple[slice, Float32]

COMPOSITION: Final = keys.COMPOSITION
FEATURES: Final = "features"
MEASURED: Final = keys.MEASURED
SOURCES: Final = (COMPOSITION, FEATURES, MEASURED)
# Fewer genes that all files hold tell no tissues apart.
LEAST_GENES: Final = 10
# Values of a block: 32 MiB of float32.
_BLOCK_VALUES: Final = 2**23
# Part by which two statements of one scale may differ.
SCALE_OFF: Final = 0.02
# Spots of a fine slide that are encoded, and kept in the cache, at once.
ENCODED: Final = 20_000


class Source(Protocol):
    """Values of one section, spots in blocks; every spot once, in order."""

    def blocks(self) -> Iterator[Block]:
        """Rows and their (r, d) values; NaN in a row without a value."""


@dataclass(frozen=True)
class Composition:
    """Predicted composition of some genes.

    Attributes:
        file: the prediction.
        columns: (g,) places of the genes in it.
    """

    file: PredictionFile
    columns: npt.NDArray[np.intp]

    def blocks(self) -> Iterator[Block]:
        """See `Source`."""
        whole = np.array_equal(self.columns, np.arange(len(self.file.genes)))
        for rows, values in self.file.rows():
            yield rows, values if whole else values[:, self.columns]


@dataclass(frozen=True)
class Measured:
    """Pearson residuals of measured counts of some genes; totals are over all genes of the file.

    Attributes:
        file: a prediction with counts beside it.
        columns: (g,) places of the genes in it.
    """

    file: PredictionFile
    columns: npt.NDArray[np.intp]

    def blocks(self) -> Iterator[Block]:
        """See `Source`; a spot without a count has no value."""
        from hespotex.genes.panel import Margins, pearson_residuals

        totals = np.zeros(1)
        for _, counts in count_blocks(self.file):
            totals = totals + Margins.of(counts).gene
        columns: Any = self.columns
        for rows, counts in count_blocks(self.file):
            margins = Margins(Margins.of(counts).spot, totals)
            part = pearson_residuals(
                counts, columns=columns, margins=margins, n_spots=self.file.n_spots
            )
            part[margins.spot <= 0] = np.nan
            yield rows, part


@dataclass(frozen=True)
class Encoded:
    """Features of the patches at a prediction's spots, all sides side by side, from the cache where they are there.

    Attributes:
        section: with the slide, or a file of features, and the prediction's spots.
        encoder: that made the prediction.
        plan: patches of the prediction.
        projection: of the features, as in the run.
        machine: cache folder, device, threads.
    """

    section: Section
    encoder: Any
    plan: PatchPlan
    projection: int | None
    machine: Machine

    def blocks(self) -> Iterator[Block]:
        """See `Source`."""
        n = self.section.n_spots
        for start in range(0, n, ENCODED):
            rows = slice(start, min(start + ENCODED, n))
            whole = rows == slice(0, n)
            part = self.section if whole else self.section.spots(np.arange(rows.start, rows.stop))
            found = encode_section(part, self.encoder, self.plan, projection=self.projection,
                                   cache_dir=self.machine.cache).values  # fmt: skip
            values = found.reshape(len(found), -1)
            step = max(1, _BLOCK_VALUES // max(values.shape[1], 1))
            for at in range(0, len(values), step):
                piece = values[at : at + step]
                yield slice(start + at, start + at + len(piece)), piece


def count_blocks(file: PredictionFile) -> Iterator[tuple[slice, sparse.csr_matrix]]:
    """Rows and the (r, G) raw counts there beside a prediction, CSR; every spot once, in order."""
    from anndata.io import read_elem, sparse_dataset

    step = max(1, _BLOCK_VALUES // max(len(file.genes), 1))
    with file.opened() as table:
        stored = table[f"layers/{keys.MEASURED_COUNTS}"]
        by_rows = stored.attrs.get("encoding-type") == "csr_matrix"
        counts: Any = sparse_dataset(stored) if by_rows else sparse.csr_matrix(read_elem(stored))
        for start in range(0, file.n_spots, step):
            rows = slice(start, min(start + step, file.n_spots))
            yield rows, sparse.csr_matrix(counts[rows])


def common_genes(files: Sequence[PredictionFile]) -> list[str]:
    """Genes that all predictions hold, in the order of the first.

    Raises:
        GenePanelError: they are too few.
    """
    sets = [set(file.genes.tolist()) for file in files]
    genes = [g for g in files[0].genes.tolist() if all(g in s for s in sets)]
    if len(genes) < LEAST_GENES:
        most = max(len(s) for s in sets)
        raise GenePanelError(
            expected=f"at least {LEAST_GENES} genes that all {len(files)} predictions hold",
            found=f"{len(genes)}, of up to {most:,} in one",
            remedy="predict with --all-genes, or draw domains of slides of one model",
        )
    return genes


def places_of(file: PredictionFile, genes: Sequence[str]) -> npt.NDArray[np.intp]:
    """(g,) columns of genes in a file that holds them all."""
    place = {gene: j for j, gene in enumerate(file.genes.tolist())}
    return np.array([place[gene] for gene in genes], dtype=np.intp)


def composition_sources(files: Sequence[PredictionFile]) -> dict[str, Source]:
    """By section; over the genes that all of them hold."""
    genes = common_genes(files)
    return {f.spots.section_id: Composition(f, places_of(f, genes)) for f in files}


def measured_sources(files: Sequence[PredictionFile]) -> dict[str, Source]:
    """By measured section; over the genes that were looked for in all of these.

    Raises:
        GenePanelError: they are too few.
    """
    masks = [(f, mask) for f in files if (mask := f.looked_for) is not None]
    if not masks:
        return {}
    genes = common_genes([f for f, _ in masks])
    for file, mask in masks:
        known = set(file.genes[mask].tolist())
        genes = [g for g in genes if g in known]
    if len(genes) < LEAST_GENES:
        raise GenePanelError(
            expected=f"at least {LEAST_GENES} genes that were measured in all measured sections",
            found=len(genes),
            remedy="leave measured out of --from",
        )
    return {f.spots.section_id: Measured(f, places_of(f, genes)) for f, _ in masks}


def feature_sources(
    files: Sequence[PredictionFile], manifest: Path, machine: Machine
) -> dict[str, Encoded]:
    """By section; from the slides, or files of features, of a manifest, with the encoder that predicted them.

    Raises:
        HESpotExError: a section is not in the manifest, or predictions are of more than one encoder.
    """
    from hespotex.encoders.given import FEATURES_FILE
    from hespotex.models.encoder_match import load_encoder

    rows = {row.section_id: row for row in read_manifest(manifest).rows}
    lacking = [f.spots.section_id for f in files if f.spots.section_id not in rows]
    if lacking:
        raise ConfigError(
            expected=f"rows for all sections in {manifest}",
            found=f"none for {shorten(lacking)}",
            remedy="give the manifest of the run",
        )
    for file in files:
        _check_scale(file, rows[file.spots.section_id], manifest)
    made = {_made_by(f) for f in files}
    if len(made) > 1:
        names = sorted(f"{name} ({key[:8]})" for name, key, *_ in made)
        raise ConfigError(
            expected="features of one encoder and patch size",
            found=f"predictions of {shorten(names)}",
            remedy="leave features out of --from, or predict all with one model",
        )
    name, key, sides, reading, projection = next(iter(made))
    given = [row.features is not None for row in (rows[f.spots.section_id] for f in files)]
    if any(given) != all(given):
        raise ConfigError(
            expected="features files for all sections or for none", found="both",
            remedy="features of two makers do not mix",
        )  # fmt: skip
    encoder = load_encoder(FEATURES_FILE if all(given) else name, machine)
    if not all(given) and encoder.key() != key:
        raise ConfigError(
            expected=f"the encoder of the predictions ({name}, key {key})",
            found=f"other weights or preprocessing (key {encoder.key()})",
            remedy="install the same encoder version",
        )
    plan = PatchPlan(sides, encoder.size_px, reading)
    return {
        f.spots.section_id: Encoded(
            _section(f, rows[f.spots.section_id]), encoder, plan, projection, machine
        )
        for f in files
    }


def _check_scale(file: PredictionFile, row: ManifestRow, manifest: Path) -> None:
    """Refuse a manifest whose scale is not the prediction's: patches would show another field."""
    if row.mpp is not None and abs(row.mpp / file.spots.mpp - 1) > SCALE_OFF:
        raise GeometryError(
            expected=f"mpp {file.spots.mpp:g} of the prediction for {row.section_id} in {manifest}",
            found=f"{row.mpp:g}",
            remedy="give the manifest of the run, or predict again",
        )


def _made_by(file: PredictionFile) -> tuple[str, str, tuple[float, ...], Any, int | None]:
    """Encoder, its key, patch sides; how a run read and projected, where its folder still tells."""
    record = file.spots.record
    config = EncoderConfig()
    try:
        run = RunRecord.read_if_there(file.path.parent.parent / "run.json")
        known: Mapping[str, Any] = {} if run is None else run.config.get("encoder", {})
        config = EncoderConfig(**{k: v for k, v in known.items() if k in {"reading", "projection"}})
    except (HESpotExError, ValueError):
        pass
    sides = tuple(float(s) for s in record.get("sides_um", ()))
    return (
        str(record.get("encoder", "")), str(record.get("encoder_key", "")), sides, config.read_as, config.projection,
    )  # fmt: skip


def _section(file: PredictionFile, row: ManifestRow) -> Section:
    """The prediction's spots on the manifest's slide; counts take no part."""
    spots = file.spots
    return Section(
        section_id=spots.section_id,
        patient_id=spots.patient_id,
        slide=row.slide,
        geometry=Geometry(spots.mpp, pitch_um(spots), spots.spot_diameter_um),
        barcodes=spots.barcodes,
        xy_px0=spots.xy_px0,
        counts=None,
        genes=None,
        features_file=row.features,
        tile_px=row.tile_px,
        bits=row.bits,
    )
