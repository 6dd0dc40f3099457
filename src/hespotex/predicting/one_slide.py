"""Prediction of one slide, resumable: layout, features, decoding, files."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from hespotex import keys
from hespotex.config import Machine, NucleiConfig
from hespotex.encoders import offline
from hespotex.encoders.base import Encoder, no_area
from hespotex.errors import HESpotExError
from hespotex.evaluation.by_scope import bundle_claims
from hespotex.evaluation.claims import Patient
from hespotex.evaluation.level_ridge import level_by_ridge
from hespotex.evaluation.patients import patient_of
from hespotex.evaluation.trust import Trust, bundle_trust
from hespotex.export.h5ad import Thumbnail
from hespotex.features.kept import kept_bytes
from hespotex.features.patches import PatchPlan
from hespotex.features.prices import core_time, price
from hespotex.genes.gene_sets import sets_key
from hespotex.models.bundle import Bundle, read_model
from hespotex.models.encoder_match import check_same_encoder, encoder_record, load_encoder
from hespotex.models.fit import device_name
from hespotex.models.reading import cheaper_reading, switched
from hespotex.nuclei.stage import for_prediction, refuse_unseen
from hespotex.predicting.beside import complete_slide, finished_before
from hespotex.predicting.compact import (
    Compact,
    check_slide_room,
    compact_of,
    scale_record,
    sizes_of,
)
from hespotex.predicting.decode import (
    FLAG,
    WholeSlide,
    composition_shift,
    decode_slide,
    open_predictions,
)
from hespotex.predicting.encode import encode_slide
from hespotex.predicting.gene_choice import choose_genes, refuse_unwritten
from hespotex.predicting.kept import keep_slide, kept_of, kept_sentence
from hespotex.predicting.layout import Layout, lay_out
from hespotex.predicting.nuclei import find_slide_nuclei, mask_of, nuclei_key
from hespotex.predicting.options import SlideTask, check_name
from hespotex.predicting.outputs import Finished, write_outputs
from hespotex.predicting.slide_keys import prediction_key, slide_features_key
from hespotex.predicting.store import CHUNK_SPOTS, FeatureStore, PredictionStore, open_work
from hespotex.progress import Advance, Reporter, Silent
from hespotex.results.outcome import SlideOutcome
from hespotex.results.run_outputs import THUMBNAIL_SIDE_PX, provenance
from hespotex.sections.section import Section
from hespotex.slide import Slide, open_slide
from hespotex.storage.atomic import sweep_leftovers
from hespotex.storage.clock import StageClock, versions
from hespotex.storage.content_keys import content_key
from hespotex.storage.run_folder import RunDir


@dataclass(frozen=True)
class Predictor:
    """A model with its encoder loaded, ready for any number of slides; made by `open_predictor`.

    Attributes:
        trust: what it knows of its own worth.
    """

    bundle: Bundle
    trust: Trust
    encoder: Encoder
    plan: PatchPlan
    machine: Machine

    def plan_of(self, task: SlideTask) -> PatchPlan:
        """The plan of a slide, read as its options ask.

        Raises:
            EncoderError: by area, and the encoder reads patches alone.
        """
        asked = task.options.reading or self.plan.reading
        if asked == "area" and self.encoder.not_by_area():
            raise no_area(self.encoder)
        return replace(self.plan, reading=asked)


def open_predictor(model: Path, machine: Machine | None = None) -> Predictor:
    """Load a model and the encoder that it was trained with.

    Raises:
        ModelFileError: the model cannot be read, or the encoder is another one.
        EncoderError: the encoder's weights are not here.
    """
    machine = machine or Machine()
    bundle = read_model(model)
    config = bundle.config.encoder
    encoder = load_encoder(config.name, machine)
    record = encoder_record(encoder, config.projection or encoder.dim)
    check_same_encoder(model, bundle, record)
    plan = PatchPlan(bundle.sides_um, encoder.size_px, config.read_as)
    return Predictor(bundle, bundle_trust(bundle), encoder, plan, machine)


def predict_slide(
    predictor: Predictor, task: SlideTask, out: Path, *, reporter: Reporter | None = None
) -> SlideOutcome:
    """Predict one slide; memory does not grow with the slide beyond a few numbers a spot.

    Killed at any moment and called again, it goes on with the chunks that are finished; the result is
    the same bit for bit. Nothing stands under a final name before it is whole.

    Args:
        out: folder for predictions/, figures/ and, while it runs, work/.

    Raises:
        HESpotExError: the slide, its scale, the positions or the disk; what is done is kept.
    """
    try:
        return _predict_slide(predictor, task, RunDir(out), reporter or Silent())
    except HESpotExError as error:
        error.of_section(task.section_id)
        raise


@dataclass(frozen=True)
class _Job:
    """One slide at work: what was asked for, what was decided before it is opened, and who is told of progress."""

    predictor: Predictor
    task: SlideTask
    run: RunDir
    reporter: Reporter
    clock: StageClock
    patient: Patient
    nuclei: NucleiConfig
    mask: Path | None
    key: str
    plan: PatchPlan

    @property
    def work(self) -> Path:
        """Folder of what is kept between a kill and the next call."""
        return self.run.work / self.task.section_id

    @contextmanager
    def stage(self, name: str, what: str, n_spots: int) -> Iterator[Advance]:
        """Time a stage over all spots and show how far it is."""
        title = f"{self.task.section_id}: {what}"
        with self.clock.stage(name), self.reporter.task(title, n_spots) as advance:
            yield advance


def _predict_slide(
    predictor: Predictor, task: SlideTask, run: RunDir, reporter: Reporter
) -> SlideOutcome:
    job = _prepare(predictor, task, run, reporter)
    path = run.predictions / f"{task.section_id}.h5ad"
    there = finished_before(path, task.section_id, job.key)
    if there is not None and kept_of(run, task, job.key):
        paths = complete_slide(run, path, predictor.bundle, task)
        return replace(there, paths=paths)
    for folder in (run.predictions, run.figures):
        sweep_leftovers(folder, task.section_id)
    with open_slide(task.slide, mpp=task.options.mpp, bits=task.options.bits) as slide:
        with job.clock.stage("layout"):
            layout = lay_out(slide, task, predictor.bundle)
            if note := switched(predictor.bundle, task.options.reading):
                layout = replace(layout, notes=(*layout.notes, note))
            thumbnail = Thumbnail(*slide.thumbnail_around_holes(THUMBNAIL_SIDE_PX)[:2])
        for note in layout.notes:
            reporter.say(f"{task.section_id}: {note}")
        refuse_unseen(layout.section, job.nuclei)  # before the hours of encoding
        compact = _compact(job, layout.section)
        # Finished work is kept when options change that it does not depend on.
        encoded = slide_features_key(predictor, task, layout.section)
        features = _encode(job, slide, layout.section, encoded)
        section, factor = _count_nuclei(job, slide, layout.section, encoded)
    layout = replace(layout, section=section)
    whole = WholeSlide(features, predictor.trust)
    store = _decode(job, section, whole, encoded, factor, compact)
    finished = _finish(job, layout, store, whole, thumbnail, compact)
    with job.clock.stage("write"):
        paths = write_outputs(run, predictor.bundle, finished, task.options)
        # Last: a call that ends before finds its work again, and one that finds both leaves no work behind.
        paths |= keep_slide(
            run, predictor.bundle, section, job.plan, features, task.options, job.key
        )
    shutil.rmtree(job.work, ignore_errors=True)
    return SlideOutcome(
        task.section_id,
        "done",
        section.n_spots,
        int(finished.bad.sum()),
        finished.verdict or "",
        "; ".join(layout.notes),
        paths=paths,
        seconds=dict(job.clock.seconds),
    )


def _prepare(predictor: Predictor, task: SlideTask, run: RunDir, reporter: Reporter) -> _Job:
    """Decide what to write and under which key; the caller reports the choices, once."""
    bundle, options = predictor.bundle, task.options
    check_name(task.section_id)
    patient = patient_of(bundle, task.patient_id, same_patient=options.same_patient)
    refuse_unwritten(bundle, options)
    nuclei = for_prediction(bundle, options.nuclei_origin, bounds_offset=options.bounds_offset)
    mask = mask_of(task, nuclei)
    key = prediction_key(predictor, task, patient, nuclei_key(mask, nuclei))
    plan = predictor.plan_of(task)
    return _Job(predictor, task, run, reporter, StageClock(), patient, nuclei, mask, key, plan)


def _compact(job: _Job, section: Section) -> Compact | None:
    """What is kept of the slide; says what that takes on the disk, and refuses where there is no room."""
    predictor, options = job.predictor, job.task.options
    bundle, own = predictor.bundle, job.task.row is not None
    compact = compact_of(bundle, section, options, job.patient, own_spots=own)
    dim = bundle.config.encoder.projection or predictor.encoder.dim
    n_layers = 2 if predictor.trust.intervals is None else 4
    n_features, n_genes = len(predictor.plan.sides_um) * dim, len(bundle.genes)
    sizes = sizes_of(section.n_spots, n_features, n_genes, n_layers, compact)
    if options.keep_features:
        kept = kept_bytes(section.n_spots, n_features)
        job.reporter.say(f"{job.task.section_id}: {kept_sentence(section.n_spots, n_features)}")
        sizes = replace(sizes, file=sizes.file + kept)
    if compact is not None:
        said = f"{section.n_spots:,} spots, composition of {len(compact.columns):,} genes in half precision"
        job.reporter.say(f"{job.task.section_id}: {said}: {sizes.words()}")
    _say_price(job, section, fine=compact is not None)
    check_slide_room(job.work, sizes)
    return compact


def _say_price(job: _Job, section: Section, *, fine: bool) -> None:
    """Say that the other reading costs much less, and of a fine map by patches what it takes."""
    encoder, plan = job.predictor.encoder, job.plan
    spots = [(section.xy_px0, section.geometry.mpp)]
    refused = encoder.not_by_area()
    found = price(spots, plan, offline.TILES if refused else encoder.area_tiles())
    line = "" if refused else cheaper_reading(found, plan.reading, job.task.options.reading)
    if fine and plan.reading == "patches" and not line:
        line = f"every spot's patches are read: about {core_time(found.patches)} with the offline encoder"
    if line:
        job.reporter.say(f"{job.task.section_id}: {line}")


def _encode(job: _Job, slide: Slide, section: Section, encoded: str) -> FeatureStore:
    """Features of all spots, on the disk; chunks that are there are kept."""
    open_work(job.work / "features", encoded)
    features = FeatureStore(job.work / "features", section.n_spots)
    with job.stage("encode", "encoding", section.n_spots) as advance:
        encode_slide(
            slide,
            section.xy_px0,
            section.geometry.mpp,
            job.predictor.encoder,
            job.plan,
            features,
            projection=job.predictor.bundle.config.encoder.projection,
            max_bad=job.task.options.max_bad_tiles,
            advance=advance,
        )
    return features


def _count_nuclei(
    job: _Job, slide: Slide, section: Section, encoded: str
) -> tuple[Section, npt.NDArray[np.float64] | None]:
    """The section with its nuclei, and the factor they make; as it was where the model uses none."""
    with job.stage("nuclei", "nuclei", section.n_spots) as advance:
        return find_slide_nuclei(
            slide,
            section,
            job.mask,
            job.nuclei,
            job.work / "nuclei.safetensors",
            encoded,
            device=device_name(job.predictor.machine),
            advance=advance,
        )


def _decode(
    job: _Job,
    section: Section,
    whole: WholeSlide,
    encoded: str,
    factor: npt.NDArray[np.float64] | None,
    compact: Compact | None,
) -> PredictionStore:
    """Expression of all genes, on the disk, tile by tile; chunks that are there are kept."""
    bundle, folder = job.predictor.bundle, job.work / "predictions"
    kept = [] if compact is None else [compact.key(), sets_key(bundle.gene_sets)]
    made_of = encoded, factor, versions()["hespotex"], bundle.model_id, CHUNK_SPOTS, *kept
    open_work(folder, content_key(*made_of))
    n, trust = section.n_spots, job.predictor.trust
    store = open_predictions(folder, n, len(bundle.genes), trust, compact)
    with job.stage("predict", "predicting", section.n_spots) as advance:
        decode_slide(
            bundle.model,
            job.predictor.trust,
            section.xy_um,
            whole.features,
            store,
            nuclei=factor,
            compact=compact,
            whole=whole,
            device=device_name(job.predictor.machine),
            advance=advance,
        )
    return store


def _finish(
    job: _Job,
    layout: Layout,
    store: PredictionStore,
    whole: WholeSlide,
    thumbnail: Thumbnail,
    compact: Compact | None,
) -> Finished:
    """The parts of the files that are in no chunk: unreadable spots, the verdict on the slide, its provenance."""
    predictor = job.predictor
    bad = whole.features.bad()
    verdict = flagged = None
    if FLAG in store.columns and len(store.slices):
        flags = store.column(FLAG)
        coarser = predictor.trust.coarseness(layout.section.geometry.mpp)
        verdict, flagged = _verdict(whole, flags, bad, coarser), flags > 0
    claims = bundle_claims(predictor.bundle, job.patient, verdict=verdict, flagged=flagged)
    kept = None if compact is None else compact.columns
    genes = choose_genes(predictor.bundle, claims, job.task.options, kept)
    for sentence in genes.sentences:
        job.reporter.say(f"{job.task.section_id}: {sentence}")
    return Finished(
        layout=layout,
        store=store,
        shift=composition_shift(predictor.bundle.model, store),
        kept=kept,
        bad=bad,
        verdict=verdict,
        claims=claims,
        ridge_level=None if bad.all() else level_by_ridge(predictor.bundle.trust, whole.stats.mean),
        thumbnail=thumbnail,
        provenance=_provenance(predictor, layout, job.key, verdict),
        genes=genes,
    )


def _verdict(
    whole: WholeSlide,
    flags: npt.NDArray[np.float32],
    bad: npt.NDArray[np.bool_],
    coarser: float,
) -> str | None:
    """On the slide as a whole, from all its readable spots."""
    ood = whole.trust.ood
    if ood is None or whole.place is None:
        return None
    return str(ood.verdict(flags[~bad] > 0, whole.place, coarser=coarser))


def _provenance(
    predictor: Predictor, layout: Layout, key: str, verdict: str | None
) -> dict[str, Any]:
    geometry = layout.section.geometry
    tissue = layout.tissue
    return {
        **provenance(predictor.bundle),
        **scale_record(predictor.bundle, geometry.spot_pitch_um),
        "ood_verdict": verdict,
        "mpp_source": next(iter(geometry.mpp_sources), None),
        "tissue": "given positions" if tissue is None else tissue.source,
        "tissue_mm2": None if tissue is None else tissue.area_mm2(geometry.mpp),
        "notes": list(layout.notes) or None,
        keys.PREDICTION_KEY: key,
    }
