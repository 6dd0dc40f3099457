"""Slides one after another or on a cluster: a broken one does not stop the others; a table at the end."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, Final

from hespotex import keys
from hespotex.errors import HESpotExError, RunError
from hespotex.evaluation.patients import say_same_id
from hespotex.evaluation.set_scores import with_gene_sets
from hespotex.genes.gene_sets import sets_key
from hespotex.models.default.level import level_words
from hespotex.nuclei.stage import for_prediction, refuse_one_mask, say_of_nuclei
from hespotex.predicting.executor import Cluster, ToLoad, predict_on_cluster, predict_serially
from hespotex.predicting.gene_choice import refuse_unwritten, say_absent
from hespotex.predicting.ledger import Ledger
from hespotex.predicting.one_slide import Predictor, open_predictor
from hespotex.predicting.options import SlideOptions
from hespotex.predicting.plan import Plan
from hespotex.progress import Reporter
from hespotex.results.absent_table import write_absent_of_model
from hespotex.results.announce import say_what_lacks
from hespotex.results.outcome import RunResult, SlideOutcome
from hespotex.storage.clock import StageClock, versions
from hespotex.storage.run_folder import RunDir
from hespotex.storage.run_record import Identity, RunRecord

_VERB: Final = "predict slides"


def ready_predictor(
    to_load: ToLoad, plan: Plan, options: SlideOptions, reporter: Reporter
) -> Predictor:
    """The model, loaded; options that it cannot fulfil are reported before the first slide.

    Raises:
        HESpotExError: the model cannot be read, or the options do not suit it.
    """
    predictor = open_predictor(to_load.model, to_load.machine)
    bundle = with_gene_sets(predictor.bundle, to_load.gene_sets)
    say_what_lacks(bundle, reporter)
    for_prediction(bundle, options.nuclei_origin)
    say_of_nuclei(bundle, options.nuclei_origin, reporter)
    if options.nuclei_origin is not None:
        refuse_one_mask(options.nuclei_origin, len(plan.tasks))
    refuse_unwritten(bundle, options)
    say_absent(bundle, options, reporter)
    say_same_id(bundle, [t.patient_id for t in plan.tasks], options.same_patient, reporter)
    return replace(predictor, bundle=bundle)


def predict_slides(
    predictor: Predictor,
    to_load: ToLoad,
    plan: Plan,
    run: RunDir,
    options: SlideOptions,
    cluster: Cluster | None,
    reporter: Reporter,
) -> RunResult:
    """Predict every slide of a plan: layout, features, decoding, files; then the table of outcomes.

    Args:
        predictor: for slides that are predicted here.
        to_load: what workers of a cluster load for themselves.
        run: the folder; it may hold other slides that were predicted with the same options.
        cluster: workers; None, or for a single slide: here.

    Raises:
        HESpotExError: the only slide cannot be predicted, or the folder holds other predictions.
    """
    tasks = plan.tasks
    with _record(predictor, plan, run, options) as ledger:
        if cluster is None or len(tasks) == 1:
            found = predict_serially(predictor, tasks, run.path, reporter, ledger.note)
        else:
            found = predict_on_cluster(cluster, to_load, tasks, run.path, reporter, ledger.note)
    with suppress(OSError):  # another process works on another slide there, or one failed
        run.work.rmdir()
    return RunResult(_paths(run, found), slides=tuple(found), doubt=plan.doubt)


@contextmanager
def _record(
    predictor: Predictor, plan: Plan, run: RunDir, options: SlideOptions
) -> Iterator[Ledger]:
    """Claim the folder; however the block ends, its tables list what is there."""
    bundle, clock = predictor.bundle, StageClock()
    said = {keys.LEVEL_SENTENCE: level_words(bundle.model.hyper)}
    identity = Identity(
        verb=_VERB,
        hespotex=versions()["hespotex"],
        model_id=bundle.model_id,
        options=_shaping(options),
        gene_sets=sets_key(bundle.gene_sets),
    )
    _forget_fruitless(run)
    run.begin(identity)
    ledger = Ledger(run, plan.source)
    ledger.open(plan.tasks, whole=plan.whole)
    ledger.publish(identity, said)
    write_absent_of_model(run, bundle)
    try:
        with clock.stage("predict"):
            yield ledger
    except BaseException:  # an interruption, too: the table says what is there
        with suppress(HESpotExError):  # a full disk: what was raised first is to be said
            ledger.publish(identity, {**said, **clock.summary()})
        raise
    ledger.publish(identity, {**said, **clock.summary()})


def _shaping(options: SlideOptions) -> dict[str, Any]:
    """What the predictions depend on; the genes shown and the exports may be changed later."""
    values = asdict(options)
    for name in ("max_bad_tiles", "formats", "genes", "show", "keep_features", "nuclei_origin"):
        del values[name]
    if options.tissue is None and options.nuclei is None:
        del values["bounds_offset"]  # nothing is read that would be moved
    return values


def _forget_fruitless(run: RunDir) -> None:
    """A folder where no slide was finished yet (no --mpp, say) may be used with other options."""
    if run.predicted():
        return
    with suppress(RunError):  # said when the folder is claimed
        known = RunRecord.read_if_there(run.run_json)
        if known is not None and known.identity.verb == _VERB:
            run.run_json.unlink(missing_ok=True)


def _paths(run: RunDir, outcomes: Sequence[SlideOutcome]) -> dict[str, Path]:
    paths: dict[str, Path] = {}
    if any(o.status != "failed" for o in outcomes):
        paths = {"predictions": run.predictions, "pictures": run.figures}
    return paths | {"slides": run.slides_csv}
