"""Files of a predicted slide: the h5ad by chunks, chosen genes for other tools, the overview."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from hespotex import keys
from hespotex.errors import RunError
from hespotex.evaluation.claims import Claims
from hespotex.evaluation.level_evidence import bundle_level_grades
from hespotex.evaluation.set_scores import bundle_sets
from hespotex.evaluation.trust import Extras, bundle_trust
from hespotex.export.exporters import EXPORTERS, Wanted, chosen_exporters
from hespotex.export.h5ad import StoredPrediction, Thumbnail
from hespotex.export.h5ad_chunks import Chunk, write_prediction_by_chunks
from hespotex.export.shown import shown_values
from hespotex.export.tables import MAX_SETS, N_WRITTEN
from hespotex.genes.gene_sets import PanelSets, SetScores
from hespotex.models.bundle import Bundle
from hespotex.plots.overview import plot_overview
from hespotex.plots.style import save_figure
from hespotex.predicting.decode import DEPTH, FLAG, LOG1P, SCORE
from hespotex.predicting.gene_choice import ChosenGenes, most_shown
from hespotex.predicting.layout import Layout
from hespotex.predicting.options import SlideOptions
from hespotex.predicting.store import PredictionStore
from hespotex.sections.section import Section
from hespotex.storage.content_keys import content_key
from hespotex.storage.disk_errors import disk_fields
from hespotex.storage.run_folder import RunDir

OVERVIEW_GENES = 3


@dataclass(frozen=True)
class Finished:
    """A slide whose chunks are all there.

    Attributes:
        layout: where was predicted.
        shift: (G,) to take off the stored composition, or None.
        kept: (k,) places in the panel of the genes in the store, ascending; None: all.
        bad: (n,) spots whose pixels could not be read.
        verdict: of the out-of-distribution check, or None.
        claims: what the model may claim of its genes on this slide.
        ridge_level: (G,) level of the slide by the model's ridge, or None.
        provenance: what made the prediction.
        genes: that are written and shown.
    """

    layout: Layout
    store: PredictionStore
    shift: npt.NDArray[np.float32] | None
    kept: npt.NDArray[np.intp] | None
    bad: npt.NDArray[np.bool_]
    verdict: str | None
    claims: Claims
    ridge_level: npt.NDArray[np.float32] | None
    thumbnail: Thumbnail
    provenance: Mapping[str, Any]
    genes: ChosenGenes

    def places(self, columns: npt.NDArray[np.intp]) -> npt.NDArray[np.intp]:
        """Where genes of the panel lie in the store."""
        return columns if self.kept is None else np.searchsorted(self.kept, columns)


def shown_key(options: SlideOptions) -> str:
    """Key of what may be chosen anew of a finished slide."""
    return content_key(list(options.formats), options.genes, options.bounds_offset, options.show)


def write_outputs(
    run: RunDir, bundle: Bundle, finished: Finished, options: SlideOptions
) -> dict[str, Path]:
    """Write everything of one slide; the h5ad last, since it says that the slide is done.

    Raises:
        RunError: a file cannot be written.
    """
    name = finished.layout.section.section_id
    claims = finished.claims
    sets = bundle_sets(bundle, claims.patient, verdict=claims.verdict)
    stored = _chosen(bundle, finished, sets)
    paths = write_shown(run, stored, finished.layout, options)
    paths["prediction"] = run.predictions / f"{name}.h5ad"
    write_prediction_by_chunks(
        paths["prediction"],
        section=_marked(finished),
        genes=bundle.genes,
        depth=finished.store.column(DEPTH),
        extras=replace(_spot_extras(finished, bundle), gene_sets=None if sets is None else sets[1]),
        chunks=_chunks(finished, bundle, None if sets is None else sets[0]),
        thumbnail=finished.thumbnail,
        provenance=finished.provenance,
        columns=finished.genes.written,
        places=finished.places(finished.genes.written),
    )
    return paths


def write_shown(
    run: RunDir, stored: StoredPrediction, layout: Layout, options: SlideOptions
) -> dict[str, Path]:
    """Write the formats that were asked for and the overview; the paths by label.

    The overview comes last: it says for which options the others are there.
    """
    overview = run.figures / f"{stored.section_id}_overview.png"
    shown_values(stored, options.show)  # raises where it is not held, before anything is replaced
    try:
        overview.unlink(missing_ok=True)
    except OSError as error:
        raise RunError(
            expected=f"to replace {overview}", **disk_fields(error, writing=True)
        ) from error
    genes = [str(g) for g in stored.genes]
    paths = write_formats(run, stored, genes, options, layout.bounds_px0)
    figure = plot_overview(
        stored,
        genes[:OVERVIEW_GENES],
        tissue=None if layout.tissue is None else layout.tissue.polygons,
        notes=layout.notes,
        n_bad=int(np.isnan(stored.composition).any(axis=1).sum()),
        show=options.show,
    )
    save_figure(figure, overview, made_of=shown_key(options))
    return {**paths, "overview": overview}


def write_formats(
    run: RunDir,
    stored: StoredPrediction,
    genes: Sequence[str],
    options: SlideOptions,
    bounds_px0: tuple[float, float],
) -> dict[str, Path]:
    """Write these genes of a prediction in every format that was asked for; the paths by format."""
    paths = format_paths(run, stored.section_id, options)
    for name, exporter in chosen_exporters(options.formats).items():
        kept = genes[: most_shown(exporter, options)]
        with EXPORTERS.blaming(name, RunError):
            exporter.write(paths[name], stored, Wanted(kept, options.show, bounds_px0))
    return paths


def format_paths(run: RunDir, section_id: str, options: SlideOptions) -> dict[str, Path]:
    """Where each format that was asked for is written."""
    chosen = chosen_exporters(options.formats)
    return {name: run.predictions / f"{section_id}{e.suffix}" for name, e in chosen.items()}


def _marked(finished: Finished) -> Section:
    """The section, with a column that tells unreadable spots where there are any."""
    import pandas as pd

    section = finished.layout.section
    if not finished.bad.any():
        return section
    index = pd.Index(section.barcodes.astype(object))
    obs = pd.DataFrame(index=index) if section.obs is None else section.obs.copy()
    obs[keys.BAD_TILE] = finished.bad
    dropped = {**section.dropped, "spots with unreadable pixels (NaN)": int(finished.bad.sum())}
    return replace(section, obs=obs, dropped=dropped)


def _spot_extras(finished: Finished, bundle: Bundle) -> Extras:
    store = finished.store
    has_score = SCORE in store.columns
    extras = Extras(
        ood_score=store.column(SCORE) if has_score else None,
        ood=store.column(FLAG) > 0 if has_score else None,
        grades=finished.claims.grade.tolist(),
        verdict=finished.verdict,
        claims=finished.claims,
        level_grades=bundle_level_grades(bundle),
        ridge_level=finished.ridge_level,
    )
    return bundle_trust(bundle).of_genes(extras)


def _chunks(finished: Finished, bundle: Bundle, sets: PanelSets | None) -> Iterator[Chunk]:
    pooled = bundle.pooled
    for number, rows in enumerate(finished.store.slices):
        arrays = {name: finished.store.layer(name, number) for name in finished.store.layers}
        if finished.shift is not None:
            arrays[keys.COMPOSITION] = arrays[keys.COMPOSITION] - finished.shift
        if sets is not None and finished.kept is None:
            arrays[keys.GENE_SETS] = sets.scores(arrays[keys.COMPOSITION], pooled)
        yield rows, arrays


def _chosen(
    bundle: Bundle, finished: Finished, sets: tuple[PanelSets, SetScores] | None
) -> StoredPrediction:
    """The slide with the shown genes and a few gene sets, in memory."""
    section, store, columns = finished.layout.section, finished.store, finished.genes.shown
    shape, places = (section.n_spots, len(columns)), finished.places(columns)
    names = [name for name in (LOG1P, keys.COMPOSITION) if name in store.layers]
    tables = {name: np.empty(shape, store.dtype) for name in names}
    best = np.zeros(0, np.intp) if sets is None else sets[1].best(MAX_SETS)
    of_sets = np.empty((section.n_spots, len(best)), np.float32)
    for rows, arrays in _chunks(finished, bundle, None if sets is None else sets[0]):
        for name, table in tables.items():
            table[rows] = arrays[name][:, places]
        if sets is not None:
            of_sets[rows] = arrays[keys.GENE_SETS][:, best]
    extras = _spot_extras(finished, bundle)
    if sets is not None:
        extras = replace(extras, gene_sets=replace(sets[1].subset(best), values=of_sets))
    return StoredPrediction(
        section_id=section.section_id,
        patient_id=section.patient_id,
        genes=np.asarray(bundle.genes, dtype=str)[columns],
        barcodes=section.barcodes,
        xy_px0=section.xy_px0,
        mpp=section.geometry.mpp,
        spot_diameter_um=section.geometry.spot_diameter_um,
        log1p=tables.get(LOG1P),
        composition=tables[keys.COMPOSITION],
        depth=store.column(DEPTH),
        measured=None,
        measured_counts=None,
        measured_depth=None,
        thumbnail=finished.thumbnail,
        extras=replace(
            extras,
            half_width=None if extras.half_width is None else extras.half_width[:, columns],
            pooled_share=None if extras.pooled_share is None else extras.pooled_share[columns],
            upper_quartile=None
            if extras.upper_quartile is None
            else extras.upper_quartile[columns],
            ridge_level=None if extras.ridge_level is None else extras.ridge_level[columns],
            grades=finished.claims.grade[columns].tolist(),
            claims=finished.claims.subset(columns),
        ),
        record={
            **finished.provenance,
            "spot_pitch_um": section.geometry.spot_pitch_um,
            N_WRITTEN: len(finished.genes.written),
        },
    )
