"""Keys of what a slide's features and its prediction depend on; a change makes them anew."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from hespotex.config import InputChoices
from hespotex.evaluation.by_scope import GENES, LEVELS, SETS
from hespotex.evaluation.claims import Patient
from hespotex.features.encode import features_key
from hespotex.genes.gene_sets import sets_key
from hespotex.predicting.options import SlideTask
from hespotex.predicting.store import CHUNK_SPOTS
from hespotex.sections.section import ManifestRow, Section, read_section
from hespotex.slide import slide_key
from hespotex.storage.clock import versions
from hespotex.storage.content_keys import content_key, file_key

if TYPE_CHECKING:
    from hespotex.predicting.one_slide import Predictor


def prediction_key(predictor: Predictor, task: SlideTask, patient: Patient, nuclei: str) -> str:
    """Key of everything that the h5ad of a slide depends on."""
    options = task.options
    return content_key(
        versions()["hespotex"],
        predictor.bundle.model_id,
        [predictor.encoder.key(), predictor.encoder.engine],
        slide_key(task.slide, options.bits),
        [task.section_id, task.patient_id],
        [options.mpp, options.pitch_um, options.diameter_um, options.grid],
        [None if p is None else _positions_key(p) for p in (options.tissue, options.spots)],
        None if task.row is None else _row_key(predictor, task.row, options.choices),
        options.bounds_offset and options.tissue is not None,
        [sets_key(predictor.bundle.gene_sets)],
        [predictor.bundle.validation.get(kind) for kind in (GENES, SETS, LEVELS)],
        [patient, options.untested, options.all_genes],
        [options.layers, options.most_genes, *_other_reading(predictor, task)],
        nuclei,
        CHUNK_SPOTS,
    )


def _other_reading(predictor: Predictor, task: SlideTask) -> list[str]:
    """The reading where it is not the model's own."""
    reading = predictor.plan_of(task).reading
    return [] if reading == predictor.plan.reading else [reading]


def _row_key(predictor: Predictor, row: ManifestRow, choices: InputChoices) -> str:
    """Key of a section among slides: its positions, the scale that was decided, the columns carried along."""
    section = read_section(row, replace(choices, grid=predictor.bundle.config.pooling.grid))
    geometry = section.geometry
    return content_key(
        section.expression_key(),
        [geometry.mpp, geometry.spot_pitch_um, geometry.spot_diameter_um],
        section.missing_genes,
        section.carried_key(),
        list(section.accepted),
    )


def slide_features_key(predictor: Predictor, task: SlideTask, section: Section) -> str:
    """Key of everything that the features on the disk depend on."""
    return content_key(
        features_key(
            slide_key(task.slide, task.options.bits),
            predictor.encoder,
            predictor.plan_of(task),
            section.geometry.mpp,
            section.xy_px0,
        ),
        predictor.bundle.config.encoder.projection,
        CHUNK_SPOTS,
    )


def _positions_key(path: Path) -> str:
    try:
        if path.is_dir():
            return content_key([file_key(p) for p in sorted(path.rglob("*")) if p.is_file()])
        return file_key(path)
    except OSError:
        return "missing"  # said by whoever reads it
