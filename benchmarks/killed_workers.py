"""Slides predicted on a Dask cluster of this machine whose workers are killed at random."""

from __future__ import annotations

import os
import shutil
import signal
import threading
import time
from collections import Counter
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from benchmarks.measure import timed


def kill_workers(
    model: Path, slides: Path, parameters: Mapping[str, Any], out: Path
) -> dict[str, Any]:
    """Predict until every slide is done, while workers are killed; then count files and rows."""
    from distributed import LocalCluster

    from hespotex.config import Machine
    from hespotex.pipeline import predict
    from hespotex.predicting import Cluster, SlideOptions

    shutil.rmtree(out, ignore_errors=True)
    killed, ended, calls = [0], threading.Event(), 0
    rng = np.random.default_rng(7)
    cluster = LocalCluster(
        n_workers=parameters["workers"], threads_per_worker=1, dashboard_address="localhost:0"
    )
    with timed() as spent:

        def kill() -> None:
            while killed[0] < parameters["kills"] and not ended.is_set():
                time.sleep(float(rng.uniform(0.5, 4.0)))
                pids = [w.pid for w in list(cluster.workers.values()) if getattr(w, "pid", None)]
                if pids:
                    with suppress(ProcessLookupError):
                        os.kill(int(rng.choice(pids)), signal.SIGKILL)
                        killed[0] += 1

        # A worker that is killed while it starts takes its nanny along: another one takes their place.
        cluster.adapt(minimum=parameters["workers"], maximum=parameters["workers"], interval="1s")
        killer = threading.Thread(target=kill, daemon=True)
        killer.start()
        while True:
            calls += 1
            result = predict(
                model, slides, out, options=SlideOptions(all_genes=True), cluster=Cluster(cluster.scheduler_address),
                machine=Machine(threads=1),
            )  # fmt: skip
            if not result.n_failed and killed[0] >= parameters["kills"]:
                break
            if (
                not result.n_failed
            ):  # all are done before the last kill: begin anew, so that kills meet work
                shutil.rmtree(out)
        ended.set()
        killer.join()
    with suppress(TimeoutError):  # it waits for workers that are dead
        cluster.close()
    wanted = pd.read_csv(slides, dtype=str)["section_id"].tolist()
    rows = Counter(pd.read_csv(out / "slides.csv", dtype=str)["section_id"])
    files = Counter(p.stem for p in (out / "predictions").glob("*.h5ad"))
    return {
        "slides": len(wanted), "killed": killed[0], "calls": calls, "done": sum(files[s] == 1 for s in wanted),
        "lost": sum(not files[s] or not rows[s] for s in wanted),
        "twice": sum(rows[s] > 1 for s in wanted) + len(set(files) - set(wanted)), **spent.as_dict(),
    }  # fmt: skip
