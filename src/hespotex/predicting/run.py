"""Prediction of many slides: a broken one does not stop the others; a table at the end."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Final

from hespotex import pipeline
from hespotex.config import Machine
from hespotex.config.values import expect_kind
from hespotex.errors import HESpotExError
from hespotex.evaluation.patients import say_same_id
from hespotex.evaluation.set_scores import with_gene_sets
from hespotex.genes.gene_sets import GeneSet, sets_key
from hespotex.models.bundle import read_model
from hespotex.nuclei.stage import for_prediction, refuse_one_mask, say_of_nuclei
from hespotex.predicting.beside import refuse_unwritten, say_absent, write_beside
from hespotex.predicting.executor import (
    Cluster,
    SlideOutcome,
    ToLoad,
    machine_of_worker,
    predict_on_cluster,
    predict_serially,
)
from hespotex.predicting.ledger import TABLE, Ledger
from hespotex.predicting.one_slide import Predictor, open_predictor
from hespotex.predicting.options import SlideOptions
from hespotex.predicting.plan import folder_of_slides, plan_slides, refuse_options_of_slides
from hespotex.progress import Reporter, Silent
from hespotex.results.absent_table import write_absent_of_model
from hespotex.results.announce import say_what_lacks
from hespotex.sections.manifest import read_manifest
from hespotex.slide import DOUBT_REMEDY
from hespotex.storage.clock import StageClock, versions
from hespotex.storage.run_folder import RunDir

_VERB: Final = "predict slides"


@dataclass(frozen=True)
class CohortResult:
    """What came of an input.

    Attributes:
        paths: where results were written, by label.
        slides: one entry a slide without spots; empty for a manifest of sections.
        doubt: what was passed over in a folder, though it may hold slides; None where there is nothing.
    """

    paths: Mapping[str, Path]
    slides: tuple[SlideOutcome, ...] = ()
    doubt: str | None = None

    @property
    def n_failed(self) -> int:
        """Slides that could not be predicted."""
        return sum(slide.status == "failed" for slide in self.slides)


def predict(
    model: str | Path,
    source: str | Path,
    out: str | Path,
    *,
    options: SlideOptions | None = None,
    sections: Sequence[str] | None = None,
    gene_sets: Sequence[GeneSet] | None = None,
    cluster: Cluster | None = None,
    machine: Machine | None = None,
    reporter: Reporter | None = None,
) -> CohortResult:
    """Predict whatever a user brings: a manifest, a slide, a folder of slides.

    A manifest whose every row has spots is predicted at these spots. Otherwise every slide is predicted
    at a grid over its tissue (or `options.spots`), rows with spots at their own; a slide that fails does
    not stop the others. A single slide that fails raises.

    Example:
        >>> predict("lab.hespotex", "slide.svs", "predicted")  # doctest: +SKIP

    Args:
        model: a model file.
        source: manifest (.csv, .tsv), slide, or folder of slides.
        out: folder for predictions/, figures/, slides.csv and run.json.
        options: how slides without spots are predicted.
        sections: only these ids of a manifest.
        gene_sets: to score; None: the model's own.
        cluster: Dask workers that share several slides without spots; None: one after another here.
        machine: device, threads, cache folder; on a cluster of each worker.
        reporter: hears of progress.

    Raises:
        HESpotExError: the input, the model or the output folder is wrong.
    """
    model, source, out = Path(model), Path(source), Path(out)
    options, reporter = options or SlideOptions(), reporter or Silent()
    expect_kind("options", options, SlideOptions)
    tasks = plan_slides(source, options, sections)
    if tasks is None:
        return _predict_sections(
            model, source, out, options, sections, gene_sets, cluster, machine, reporter
        )
    doubt = _say_passed_over(source, reporter)
    clock, run = StageClock(), RunDir(out)
    predictor = _ready_predictor(model, options, gene_sets, len(tasks), machine, reporter)
    say_same_id(predictor.bundle, [t.patient_id for t in tasks], options.same_patient, reporter)
    identity = {
        "verb": _VERB,
        "hespotex": versions()["hespotex"],
        "model_id": predictor.bundle.model_id,
        "options": _shaping(options),
        "gene_sets": sets_key(predictor.bundle.gene_sets),
    }
    _forget_fruitless(run)
    run.begin(identity)
    ledger = Ledger(run, source)
    ledger.open(tasks, whole=sections is None)
    ledger.publish(identity, {})
    write_absent_of_model(run, predictor.bundle)
    try:
        with clock.stage("predict"):
            if cluster is None or len(tasks) == 1:
                found = predict_serially(predictor, tasks, out, reporter, ledger.note)
            else:
                of_worker = machine_of_worker(cluster, machine or Machine(), len(tasks))
                to_load = ToLoad(model.resolve(), gene_sets, of_worker)
                found = predict_on_cluster(cluster, to_load, tasks, out, reporter, ledger.note)
    except BaseException:  # an interruption, too: the table says what is there
        with suppress(HESpotExError):  # a full disk: what was raised first is to be said
            ledger.publish(identity, clock.summary())
        raise
    ledger.publish(identity, clock.summary())
    with suppress(OSError):  # another process works on another slide there, or one failed
        run.work.rmdir()
    return CohortResult(_paths(run, found), tuple(found), doubt)


def _say_passed_over(source: Path, reporter: Reporter) -> str | None:
    """What lies in a folder beside its slides; the part that may hold slides, too."""
    folder = folder_of_slides(source)
    if folder is None:
        return None
    if folder.remark:
        reporter.say(f"{source.name}: {folder.remark}")
    if folder.doubt:
        reporter.warn(f"{source.name}: {folder.doubt}; {DOUBT_REMEDY}")
    return folder.doubt


def _predict_sections(
    model: Path,
    source: Path,
    out: Path,
    options: SlideOptions,
    sections: Sequence[str] | None,
    gene_sets: Sequence[GeneSet] | None,
    cluster: Cluster | None,
    machine: Machine | None,
    reporter: Reporter,
) -> CohortResult:
    """A manifest whose every row has spots: predicted at these, pictures and other formats beside."""
    refuse_options_of_slides(options, cluster)
    bundle = read_model(model)
    refuse_unwritten(bundle, options)
    say_absent(bundle, options, reporter)
    done = pipeline.predict(
        model,
        source,
        out,
        sections=sections,
        nuclei=options.nuclei,
        bounds_offset=options.bounds_offset,
        gene_sets=gene_sets,
        same_patient=options.same_patient,
        untested=options.untested,
        all_genes=options.all_genes,
        choices=options.choices,
        machine=machine,
        reporter=reporter,
    )
    rows = read_manifest(source, sections).rows
    return CohortResult(
        {**done.paths, "pictures": write_beside(RunDir(out), rows, bundle.genes, options, reporter)}
    )


def _ready_predictor(
    model: Path,
    options: SlideOptions,
    gene_sets: Sequence[GeneSet] | None,
    n_slides: int,
    machine: Machine | None,
    reporter: Reporter,
) -> Predictor:
    """The model, loaded; what the options ask of it in vain is said before the first slide."""
    predictor = open_predictor(model, machine)
    predictor = replace(predictor, bundle=with_gene_sets(predictor.bundle, gene_sets))
    say_what_lacks(predictor.bundle, reporter)
    for_prediction(predictor.bundle, options.nuclei_origin)
    say_of_nuclei(predictor.bundle, options.nuclei_origin, reporter)
    if options.nuclei_origin is not None:
        refuse_one_mask(options.nuclei_origin, n_slides)
    refuse_unwritten(predictor.bundle, options)
    say_absent(predictor.bundle, options, reporter)
    return predictor


def _shaping(options: SlideOptions) -> dict[str, Any]:
    """What the predictions depend on: what is shown and exported of them may be changed later."""
    values = asdict(options)
    for name in ("max_bad_tiles", "formats", "genes", "show", "nuclei_origin"):
        del values[name]
    if options.tissue is None and options.nuclei is None:
        del values["bounds_offset"]  # nothing is read that would be moved
    return values


def _forget_fruitless(run: RunDir) -> None:
    """A folder where no slide was finished yet (no --mpp, say) may be used with other options."""
    if any(run.predictions.glob("*.h5ad")):
        return
    try:
        known = json.loads(run.run_json.read_text(encoding="utf-8"))
        if known["identity"]["verb"] == _VERB:
            run.run_json.unlink()
    except (OSError, ValueError, KeyError, TypeError):
        return


def _paths(run: RunDir, outcomes: Sequence[SlideOutcome]) -> dict[str, Path]:
    paths: dict[str, Path] = {}
    if any(o.status != "failed" for o in outcomes):
        paths = {"predictions": run.predictions, "pictures": run.figures}
    return paths | {"slides": run.path / TABLE}
