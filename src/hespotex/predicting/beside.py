"""Files beside an h5ad that is there already: chosen genes for other tools, the overview."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from hespotex import keys
from hespotex.errors import RunError
from hespotex.evaluation.by_scope import bundle_claims
from hespotex.export.h5ad import read_prediction
from hespotex.export.h5ad_chunks import read_some_genes, stored_genes
from hespotex.export.tables import MAX_GENES, N_WRITTEN, chosen_columns
from hespotex.models.bundle import Bundle
from hespotex.plots.overview import plot_overview
from hespotex.plots.style import figure_made_of, save_figure
from hespotex.predicting.gene_choice import chosen_genes, kept_note, unwritten_note
from hespotex.predicting.layout import lay_out
from hespotex.predicting.options import ALL_GENES, SlideOptions, SlideTask
from hespotex.predicting.outputs import (
    OVERVIEW_GENES,
    format_paths,
    shown_key,
    write_formats,
    write_shown,
)
from hespotex.progress import Reporter
from hespotex.results.outcome import SlideOutcome
from hespotex.sections.manifest import ManifestRow
from hespotex.slide import open_slide
from hespotex.storage.hdf5 import open_h5
from hespotex.storage.run_folder import RunDir


def write_beside(
    run: RunDir,
    rows: Sequence[ManifestRow],
    panel: Collection[str],
    options: SlideOptions,
    reporter: Reporter,
) -> Path:
    """Write the formats that were asked for and the overview of every predicted section.

    Args:
        run: holds the h5ad of each section.
        panel: names of the model's genes.
        reporter: hears of formats that hold fewer genes than the h5ad.

    Returns:
        The folder of pictures.

    Raises:
        RunError: a file cannot be written.
    """
    said = {""}
    for row in rows:
        stored = read_prediction(run.predictions / f"{row.section_id}.h5ad")
        n_written = len(stored.genes)
        held = set(stored.genes.tolist())
        wanted, most = options.genes, MAX_GENES
        if wanted == ALL_GENES:
            wanted, most = None, n_written
        elif wanted is not None:
            wanted = tuple(gene for gene in wanted if gene in held)
        genes = [str(g) for g in stored.genes[chosen_columns(stored, wanted, most)]]
        if note := unwritten_note(options, panel, held):
            reporter.say(f"section {row.section_id}: {note}")
        if (note := kept_note(options, n_written)) not in said:
            reporter.say(note)
            said.add(note)
        bounds_px0 = (0.0, 0.0)
        if options.bounds_offset and row.slide is not None:
            with open_slide(row.slide, bits=row.bits) as slide:
                bounds_px0 = slide.bounds_px0
        write_formats(run, stored, genes, options, bounds_px0)
        if stored.thumbnail is not None:
            figure = plot_overview(stored, genes[:OVERVIEW_GENES], show=options.show)
            save_figure(figure, run.figures / f"{row.section_id}_overview.png")
    return run.figures


def complete_slide(run: RunDir, path: Path, bundle: Bundle, task: SlideTask) -> dict[str, Path]:
    """Write what is now asked for beside a finished slide's h5ad, unless it is there; nothing is encoded.

    Args:
        bundle: the model that it was predicted with.

    Returns:
        The paths by label.

    Raises:
        HESpotExError: the slide or the h5ad cannot be read, or a file cannot be written.
    """
    options = task.options
    paths = format_paths(run, task.section_id, options)
    overview = run.figures / f"{task.section_id}_overview.png"
    complete = all(p.exists() for p in paths.values())
    if not complete or figure_made_of(overview) != shown_key(options):
        held = set(stored_genes(path))
        written = np.flatnonzero([gene in held for gene in bundle.genes])
        claims = read_some_genes(path, [bundle.genes[j] for j in written[:1]]).extras.claims
        patient = "unknown" if claims is None else claims.patient
        verdict = None if claims is None else claims.verdict
        whole = bundle_claims(bundle, patient, verdict=verdict)
        shown = chosen_genes(bundle, whole, written, options.genes, MAX_GENES)
        with open_slide(task.slide, mpp=options.mpp, bits=options.bits) as slide:
            layout = lay_out(slide, task, bundle)
        stored = read_some_genes(path, [bundle.genes[j] for j in shown])
        stored = replace(stored, record={**stored.record, N_WRITTEN: len(written)})
        write_shown(run, stored, layout, options)
    return {**paths, "overview": overview, "prediction": path}


def finished_before(path: Path, section_id: str, key: str) -> SlideOutcome | None:
    """The result of a prediction that is there already; None where there is none, or that of another slide or model."""
    from anndata.io import read_elem

    try:
        with open_h5(path, "a prediction of hespotex in", RunError) as file:
            record = file[f"uns/{keys.UNS}"]
            if record[keys.PREDICTION_KEY][()].decode() != key:
                return None
            obs = read_elem(file["obs"])
            verdict = read_elem(record["ood_verdict"]) if "ood_verdict" in record else ""
            notes = read_elem(record["notes"]) if "notes" in record else ()
    except RunError:
        return None
    return SlideOutcome(
        section_id,
        "skipped",
        len(obs),
        int(obs[keys.BAD_TILE].sum()) if keys.BAD_TILE in obs else 0,
        str(verdict),
        "; ".join(["predicted before", *(str(note) for note in notes)]),
    )
