"""Maps on a fine lattice: composition alone, in half precision, of a few hundred genes; and what they need on the disk."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from hespotex import keys
from hespotex.errors import ConfigError
from hespotex.evaluation.by_scope import bundle_claims
from hespotex.evaluation.claims import Patient
from hespotex.evaluation.predictors import MODEL
from hespotex.export.claim_words import best_first
from hespotex.genes.gene_sets import PanelSets
from hespotex.models.bundle import Bundle
from hespotex.predicting.options import SlideOptions
from hespotex.sections.fine import FINE_UM
from hespotex.sections.section import Section
from hespotex.storage.content_keys import content_key
from hespotex.storage.disk_room import check_room
from hespotex.storage.gene_sizes import GeneSizes
from hespotex.storage.metrics import Validation

COMPOSITION: Final = keys.COMPOSITION
# float16 holds a log ratio up to 4 within 0.002, which is a factor of 1.002.
DTYPE: Final = np.float16
_OBS_BYTES: Final = 160  # of a spot in the h5ad beside its genes: names, place, depth, scores
_GB: Final = 1e9


@dataclass(frozen=True)
class Compact:
    """What is kept of a fine map.

    Attributes:
        columns: (k,) places in the panel, ascending.
        sets: gene sets that are scored; they need the whole panel, so they are scored before genes are dropped.
        pooled: (G,) parts of the genes in the training sections.
    """

    columns: npt.NDArray[np.intp]
    sets: PanelSets | None
    pooled: npt.NDArray[np.float64]

    def widths(self) -> dict[str, int]:
        """Columns of each stored array."""
        sets = {} if self.sets is None else {keys.GENE_SETS: len(self.sets)}
        return {COMPOSITION: len(self.columns), **sets}

    def arrays(self, composition: npt.NDArray[np.float32]) -> dict[str, npt.NDArray[Any]]:
        """What is stored of (b, G) composition of the whole panel."""
        kept: dict[str, npt.NDArray[Any]] = {COMPOSITION: composition[:, self.columns]}
        if self.sets is not None:
            kept[keys.GENE_SETS] = self.sets.scores(composition, self.pooled)
        return kept

    def key(self) -> str:
        """Key of what is stored."""
        sets = None if self.sets is None else list(self.sets.names)
        return content_key(self.columns, sets, str(np.dtype(DTYPE)))


def compact_of(
    bundle: Bundle, section: Section, options: SlideOptions, patient: Patient, *, own_spots: bool
) -> Compact | None:
    """What is kept of a slide: of a fine lattice the best genes that may be written, else everything (None).

    Whether the slide is like the training is known at the end alone: genes are chosen as if it were, and `choose_genes`
    leaves out what then may not be written.

    Args:
        own_spots: the spots are those of a measured section.

    Raises:
        ConfigError: composition alone is asked for, but the model or `--show` needs more.
    """
    published = bundle.model.profile == "published"  # its composition is centred over the slide
    fine = section.geometry.spot_pitch_um <= FINE_UM and not (own_spots or published)
    if options.layers == "all" or (options.layers == "auto" and not fine):
        return None
    if published:
        raise ConfigError(
            expected="--layers all with a model of the published profile",
            found="--layers composition",
        )
    if options.show == "log1p":
        raise ConfigError(
            expected="--show composition where composition alone is kept",
            found=f"--show log1p on a lattice of {section.geometry.spot_pitch_um:g} um",
            remedy="add --layers all, which writes log1p and intervals, too",
        )
    claims = bundle_claims(bundle, patient)
    may = claims.written(untested=options.untested, all_genes=options.all_genes)
    totals = np.asarray(bundle.training_totals) if bundle.training_totals else None
    order = best_first(claims, totals)
    kept = np.sort(order[may[order]][: options.most_genes]).astype(np.intp)
    sets = PanelSets.of(bundle.gene_sets, bundle.genes)
    return Compact(kept, sets if len(sets) else None, np.asarray(bundle.pooled))


def scale_record(bundle: Bundle, pitch_um: float) -> dict[str, Any]:
    """Entries of a fine map's record: the spots that its model was fitted on, and what its own folds found by size of square, over
    genes and of every gene.

    Args:
        pitch_um: of the map; a coarse one has no such entries.
    """
    if pitch_um > FINE_UM:
        return {}
    known = Validation.model_validate(bundle.validation)
    found = [
        [s.size_um, s.scores[MODEL].pcc_composition_mean, s.ceiling.pcc_composition_mean]
        for s in known.sizes
        if MODEL in s.scores
    ]
    return {
        keys.FITTED_UM: bundle.spot_diameter_um,
        **({keys.PCC_BY_SIZE: np.array(found)} if found else {}),
        **({keys.GENE_PCC_BY_SIZE: _of_genes(known.gene_sizes)} if known.gene_sizes.genes else {}),
    }


def _of_genes(found: GeneSizes) -> dict[str, Any]:
    return {
        "gene": list(found.genes),
        "size_um": np.array(found.sizes_um),
        "pcc": np.array(found.pcc, np.float32),
        "ceiling": np.array(found.ceiling, np.float32),
    }


@dataclass(frozen=True)
class Sizes:
    """Bytes that a prediction takes on the disk.

    Attributes:
        work: features and predictions, until the slide is done.
        file: the h5ad.
    """

    work: int
    file: int

    def words(self) -> str:
        """For a message."""
        return f"the h5ad takes {_gb(self.file)}, work files {_gb(self.work)} until it is done"


def sizes_of(
    n_spots: int, n_features: int, n_genes: int, n_layers: int, compact: Compact | None
) -> Sizes:
    """What a slide takes on the disk.

    Args:
        n_features: numbers of a spot over all scales.
        n_genes, n_layers: that are kept of a prediction without `compact`.
    """
    row = 4 * n_genes * n_layers
    if compact is not None:
        row = sum(compact.widths().values()) * np.dtype(DTYPE).itemsize
    return Sizes(n_spots * (4 * n_features + row), n_spots * (row + _OBS_BYTES))


def check_slide_room(folder: Path, sizes: Sizes) -> None:
    """Refuse a slide for which the disk has no room; what an earlier run left there counts as written.

    Raises:
        RunError: it has not.
    """
    there = (
        sum(p.stat().st_size for p in folder.rglob("*") if p.is_file()) if folder.exists() else 0
    )
    check_room(
        folder,
        max(sizes.work - there, 0) + sizes.file,
        of=sizes.words(),
        remedy="choose another --out, a larger --spot-pitch-um or, of many genes, a smaller --most-genes",
    )


def _gb(n_bytes: int) -> str:
    return f"{n_bytes / _GB:.2f} GB" if n_bytes >= _GB / 100 else f"{n_bytes / 1e6:.1f} MB"
