"""A small scored run, its page, and what the page holds."""

from __future__ import annotations

import json
import re
import subprocess
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import pandas as pd

from helpers.toy_prediction import (
    GENES,
    toy_stored,
)
from hespotex.report.report import write_report
from hespotex.storage.atomic import write_json
from hespotex.storage.run_folder import RunDir


def scores(share: float, log1p: float | None = 0.3) -> dict[str, Any]:
    return {
        "pcc_composition_mean": share,
        "pcc_composition_abundant200": share,
        "pcc_log1p_mean": log1p,
        "pcc_log1p_median": log1p,
        "pcc_log1p_top50": log1p,
        "rmse_log1p": None if log1p is None else 2.5,
        "n_constant_genes": 1,
    }


def metrics(**more: Any) -> dict[str, Any]:
    table = {
        "model": scores(0.2346),
        "ridge": scores(0.1234),
        "train_mean": scores(0.0, None),
        "depth_only": scores(0.9),
    }
    fold = {"fold": 0, "held_out": ["S1"], "train": ["T1", "T2"], "n_spots": 30, "n_genes": 6}
    return {
        "folds_by": "patient",
        "note": "",
        "folds": [fold | {"scores": table}],
        "mean": table,
        **more,
    }


def genes_csv() -> pd.DataFrame:
    share = np.linspace(0.6, -0.1, len(GENES))
    share[3] = np.nan
    return pd.DataFrame(
        {
            "fold": 0,
            "section_id": "S1",
            "gene": GENES,
            "pcc_log1p": share + 0.1,
            "pcc_composition": share,
            "ridge_pcc_log1p": share,
            "ridge_pcc_composition": share - 0.05,
            "mean_count": 3.0,
            "constant": [False] * 5 + [True],
            "measured": [True, True, True, False, True, True],
        }
    )


def write_scored_run(path: Path) -> RunDir:
    """A finished run that was scored; its files are made once and copied."""
    for name, content in _files_of_a_run().items():
        (path / name).parent.mkdir(parents=True, exist_ok=True)
        (path / name).write_bytes(content)
    return RunDir(path)


@cache
def _files_of_a_run() -> dict[str, bytes]:
    with TemporaryDirectory(prefix="secret-folder") as temporary:
        made = _write_scored_run(Path(temporary) / "run").path
        return {str(p.relative_to(made)): p.read_bytes() for p in made.rglob("*") if p.is_file()}


def _write_scored_run(path: Path) -> RunDir:
    folder = RunDir(path)
    toy_stored(
        folder.predictions,
        measured=True,
        provenance={"model_id": "abc123", "encoder": "efficientnet-lite0", "sides_um": [77.2]},
    )
    write_json(folder.path / "metrics.json", metrics())
    genes_csv().to_csv(folder.path / "genes.csv", index=False)
    folder.finish({"verb": "cross-validate"}, {"config": {"seed": 3}, "seconds": {"fit": 12.0}})
    return folder


def in_browser(path: Path, tmp_path: Path) -> str:
    """The page after its script ran, without a word on the console."""
    done = subprocess.run(
        ["chromium", "--headless", "--no-sandbox", "--disable-gpu", "--disable-background-networking",
         f"--user-data-dir={tmp_path / 'profile'}", "--enable-logging=stderr", "--dump-dom",
         "--virtual-time-budget=3000", path.as_uri()],
        capture_output=True, text=True, timeout=60, check=True,
    )  # fmt: skip
    assert "CONSOLE" not in done.stderr
    return done.stdout


def page_of(run: RunDir, **options: Any) -> str:
    return write_report(run, **options).read_text(encoding="utf-8")


def data_of(page: str) -> dict[str, Any]:
    found = re.search(r'<script type="application/json" id="data">(.*?)</script>', page, re.S)
    assert found is not None
    return dict(json.loads(found[1]))
