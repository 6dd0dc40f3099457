"""Slides run one after another here, or on the workers of a Dask cluster."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Any

from hespotex.config import Machine
from hespotex.config.machine import usable_cores
from hespotex.errors import ConfigError, HESpotExError
from hespotex.evaluation.set_scores import with_gene_sets
from hespotex.genes.gene_sets import GeneSet
from hespotex.predicting.one_slide import Predictor, open_predictor, predict_slide
from hespotex.predicting.options import SlideTask
from hespotex.progress import Reporter, Silent
from hespotex.results.outcome import SlideOutcome

Note = Callable[[SlideOutcome], None]

_CONNECT_S = 30
# An encoder's queue belongs to one slide at a time, however many threads a worker has.
_one_slide = threading.Lock()


@dataclass(frozen=True)
class Cluster:
    """Dask workers that share the slides of a cohort; they see the same files as we do.

    Attributes:
        scheduler: address of a running scheduler (`tcp://host:8786`), e.g. one of dask-jobqueue; None
            starts workers on this machine.
        workers: processes to start on this machine; None: one a core.
    """

    scheduler: str | None = None
    workers: int | None = None

    def __post_init__(self) -> None:
        if self.workers is not None and self.workers < 1:
            raise ConfigError(expected="--workers of at least 1", found=self.workers)
        if self.scheduler is not None and self.workers is not None:
            raise ConfigError(
                expected="--scheduler or --workers",
                found="both: a running cluster has its workers",
                remedy="leave --workers out",
            )


@dataclass(frozen=True)
class ToLoad:
    """A model that is still to be loaded: once here, or once by each worker of a cluster.

    Attributes:
        gene_sets: to score; None: the model's own.
    """

    model: Path
    gene_sets: Sequence[GeneSet] | None
    machine: Machine


def machine_of_worker(cluster: Cluster, machine: Machine, n_slides: int) -> Machine:
    """Workers on this machine share its cores, unless threads were asked for; others have their own."""
    if cluster.scheduler is not None or machine.threads is not None:
        return machine
    cores = usable_cores()
    at_once = min(cluster.workers or cores, n_slides)
    return replace(machine, threads=max(1, cores // at_once))


def predict_serially(
    predictor: Predictor, tasks: Sequence[SlideTask], out: Path, reporter: Reporter, note: Note
) -> list[SlideOutcome]:
    """Predict one slide after another; a single slide that fails raises. `note` is called with every slide that ended.

    Raises:
        HESpotExError: the only slide cannot be predicted.
    """
    if len(tasks) == 1:
        try:
            outcome = predict_slide(predictor, tasks[0], out, reporter=reporter)
        except HESpotExError as error:
            note(_failed(tasks[0], error))
            raise
        note(outcome)
        return [outcome]
    outcomes = []
    for task in tasks:
        outcomes.append(_outcome(predictor, task, out, reporter))
        note(outcomes[-1])
        _warn(outcomes[-1], reporter)
    return outcomes


def predict_on_cluster(
    cluster: Cluster,
    to_load: ToLoad,
    tasks: Sequence[SlideTask],
    out: Path,
    reporter: Reporter,
    note: Note,
) -> list[SlideOutcome]:
    """Predict every slide on some worker; a slide whose worker dies fails after three tries.

    Args:
        to_load: the model, which every worker can read; its machine is shared among the workers here.
        tasks: in the order of the answer.
        out: folder of the results, shared by all workers.
        note: takes what came of it.

    Raises:
        ConfigError: there is no scheduler at the address.
    """
    from distributed import as_completed

    outcomes: dict[str, SlideOutcome] = {}
    machine = machine_of_worker(cluster, to_load.machine, max(1, len(tasks)))
    to_load = replace(to_load, model=to_load.model.resolve(), machine=machine)
    with _client(cluster) as client, reporter.task("slides", len(tasks)) as advance:
        futures = {
            client.submit(
                _predict_on_worker, to_load, _absolute(task), out.resolve(), pure=False
            ): task.section_id
            for task in tasks
        }
        for future in as_completed(futures, loop=client.loop):
            name = futures[future]
            error = future.exception()
            if error is None:
                outcomes[name] = future.result()
            else:
                why = " ".join(str(error).split()) or type(error).__name__
                outcomes[name] = SlideOutcome(name, "failed", why=f"the worker failed: {why}")
            note(outcomes[name])
            _warn(outcomes[name], reporter)
            advance(1)
    return [outcomes[task.section_id] for task in tasks]


@contextmanager
def _client(cluster: Cluster) -> Iterator[Any]:
    """A client of the cluster; workers that were started here end with it."""
    from distributed import Client, LocalCluster

    if cluster.scheduler is not None:
        try:
            client = Client(cluster.scheduler, timeout=_CONNECT_S, set_as_default=False)
        except (OSError, TimeoutError, ValueError) as error:
            raise ConfigError(
                expected=f"a Dask scheduler at {cluster.scheduler}",
                cause=" ".join(str(error).split()),
                remedy="start one (dask scheduler), or leave --scheduler out",
            ) from error
        with client:
            yield client
        return
    # Any free port: without an address Dask asks for its usual one, which another process may have.
    with (
        LocalCluster(
            n_workers=cluster.workers, threads_per_worker=1, dashboard_address="localhost:0"
        ) as local,
        Client(local, set_as_default=False) as client,
    ):
        yield client


def _absolute(task: SlideTask) -> SlideTask:
    """Workers have working directories of their own."""
    tissue, spots, nuclei = task.options.tissue, task.options.spots, task.options.nuclei_origin
    options = replace(
        task.options,
        tissue=None if tissue is None else tissue.resolve(),
        spots=None if spots is None else spots.resolve(),
        nuclei=None if nuclei is None else nuclei.resolved(),
    )
    return replace(task, slide=task.slide.resolve(), options=options)


def _predict_on_worker(to_load: ToLoad, task: SlideTask, out: Path) -> SlideOutcome:
    with _one_slide:
        predictor = _open(to_load.model, to_load.model.stat().st_mtime_ns, to_load.machine)
        bundle = with_gene_sets(predictor.bundle, to_load.gene_sets)
        return _outcome(replace(predictor, bundle=bundle), task, out, Silent())


@lru_cache(maxsize=1)
def _open(model: Path, _changed_ns: int, machine: Machine) -> Predictor:
    """A worker loads a model once, and again when its file has changed."""
    return open_predictor(model, machine)


def _outcome(predictor: Predictor, task: SlideTask, out: Path, reporter: Reporter) -> SlideOutcome:
    try:
        return predict_slide(predictor, task, out, reporter=reporter)
    except HESpotExError as error:
        return _failed(task, error)
    except Exception as error:  # noqa: BLE001 - libraries raise anything; one slide must not end a night's run
        why = f"{type(error).__name__}: {' '.join(str(error).split())}"
        return SlideOutcome(task.section_id, "failed", why=why)


def _failed(task: SlideTask, error: HESpotExError) -> SlideOutcome:
    return SlideOutcome(task.section_id, "failed", why=error.message)


def _warn(outcome: SlideOutcome, reporter: Reporter) -> None:
    if outcome.status == "failed":
        reporter.warn(f"section {outcome.section_id}: {outcome.why}; going on with the next slide")
