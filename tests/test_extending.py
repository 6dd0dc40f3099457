"""docs/extending.md: the package on the page is installed as it stands, and works through the command."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import anndata
import numpy as np
import pandas as pd
import pytest

from helpers.installed import install
from hespotex.datasets import make_cohort
from hespotex.export.exporters import EXPORTERS
from hespotex.sections.manifest import read_manifest
from hespotex.sections.section import read_section

PAGE = Path(__file__).parents[1] / "docs" / "extending.md"

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of the path with the package of the page."""
    folder, page = tmp_path_factory.mktemp("site"), PAGE.read_text("utf-8")
    (toml,) = re.findall(r"```toml\n(.*?)```", page, flags=re.DOTALL)
    project = tomllib.loads(toml)["project"]
    sources = {"lab_hespotex/__init__.py": ""}
    for part in page.split("\n## ")[1:]:
        (file,) = set(re.findall(r"`(lab_hespotex/\w+\.py)`", part))
        (sources[file],) = re.findall(r"```python\n(.*?)```", part, flags=re.DOTALL)
    (folder / "lab_hespotex").mkdir()
    install(folder, project["name"], sources, project["entry-points"])
    return folder


@pytest.fixture(scope="module")
def cohort(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A manifest of two painted sections in the package's format, and a slide of a third patient."""
    folder = tmp_path_factory.mktemp("cohort")
    painted = make_cohort(folder, n_patients=3, sections_per_patient=1, n_genes=40, side_um=1900.0)
    rows = []
    for row in read_manifest(painted).rows:
        section = read_section(row)
        assert section.counts is not None
        table = pd.DataFrame(section.counts.toarray(), columns=section.genes)
        table.insert(0, "spot", section.barcodes)
        table.insert(1, "x", section.xy_px0[:, 0])
        table.insert(2, "y", section.xy_px0[:, 1])
        table.to_csv(folder / f"{row.section_id}.csv", index=False)
        rows.append((row.section_id, row.patient_id, row.slide, f"{row.section_id}.csv",
                     "lab-csv", section.geometry.mpp))  # fmt: skip
    names = ("section_id", "patient_id", "slide", "expression", "format", "mpp")
    pd.DataFrame(rows[:2], columns=names).to_csv(folder / "lab.csv", index=False)
    pd.DataFrame(rows[2:], columns=names).drop(columns=["expression", "format"]).to_csv(
        folder / "bare.csv", index=False
    )
    return folder


def run(site: Path, cohort: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    paths = [str(site), os.environ.get("PYTHONPATH", "")]
    return subprocess.run(
        [sys.executable, "-m", "hespotex", *arguments], capture_output=True, text=True, check=False, cwd=cohort,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(paths), "HESPOTEX_CACHE": str(cohort / "cache"),
             "COLUMNS": "200"},
    )  # fmt: skip


@pytest.fixture(scope="module")
def model(site: Path, cohort: Path) -> str:
    """Trained on the package's format with its encoder."""
    settings = ("patches.sides_um=[77.2]", "panel.kind='all'", "model.epochs=2", "model.ensemble=2")
    trained = run(site, cohort, "train", "lab.csv", "--out", "lab.hespotex", "--encoder", "mosaic",
                  "--no-validate", *(part for text in settings for part in ("--set", text)))  # fmt: skip
    assert trained.returncode == 0, trained.stderr
    return "lab.hespotex"


def test_the_package_of_the_page_reads_encodes_and_exports(
    site: Path, cohort: Path, model: str
) -> None:
    listed = run(site, cohort, "encoders")
    assert listed.returncode == 0, listed.stderr
    (line,) = [text for text in listed.stdout.splitlines() if "mosaic" in text]
    assert all(word in line for word in ("48", "32 px", "MIT", "yes", "mean colours"))

    predicted = run(site, cohort, "predict", model, "bare.csv", "--out", "predicted", "--export", "tsv",
                    "--all-genes", "--show-genes", "all", "--show", "log1p")  # fmt: skip
    assert predicted.returncode == 0, predicted.stderr
    (path,) = (cohort / "predicted" / "predictions").glob("*.tsv")
    table = pd.read_csv(path, sep="\t", index_col="spot")
    stored = anndata.read_h5ad(path.with_suffix(".h5ad"))
    assert list(table.index) == list(stored.obs_names)
    assert set(table.columns) == set(stored.var_names)
    values = stored[:, list(table.columns)].X
    np.testing.assert_allclose(table.to_numpy(), np.asarray(values), rtol=1e-5)


def test_the_package_of_the_page_is_checked_as_our_own_parts_are(site: Path, cohort: Path) -> None:
    (cohort / "wrong.csv").write_text(
        "section_id,patient_id,slide,expression,format,mpp,bin_um\n"
        "A,P,lab.csv,lab.csv,lab-csv,0.5,8\nB,P,lab.csv,lab.csv,lab-tsv,0.5,\n"
    )
    done = run(site, cohort, "train", "wrong.csv", "--out", "m.hespotex")
    assert done.returncode == 2
    assert "column bin_um: applies to visium_hd only, found '8' for lab-csv" in done.stderr
    assert "positions, lab-csv, found 'lab-tsv'" in done.stderr
    done = run(site, cohort, "predict", "m", "s.tif", "--out", "o", "--export", "csv")
    assert f"expected formats of {', '.join(EXPORTERS.own)}, tsv, found 'csv'" in done.stderr
    done = run(site, cohort, "train", "lab.csv", "--out", "m.hespotex", "--encoder", "mosaics")
    assert "timm:<name>, lazyslide:<name> or mosaic as encoder, found 'mosaics'" in done.stderr


def test_a_file_of_the_package_of_the_page_is_recognised(site: Path, cohort: Path) -> None:
    """Without the package its header is one of positions alone."""
    section, slide = pd.read_csv(cohort / "lab.csv")[["section_id", "slide"]].iloc[0]
    for where, n_genes in ((site, 40), (cohort, None)):
        done = run(where, cohort, "inspect", f"{section}.csv", "--slide", slide, "--json")
        found = json.loads(done.stdout)
        assert found["kind"] == "spots"
        assert found["sections"][0].get("n_genes") == n_genes


def test_without_the_package_a_model_says_which_encoder_it_lacks(
    cohort: Path, model: str, tmp_path: Path
) -> None:
    done = run(tmp_path, cohort, "predict", model, "bare.csv", "--out", "without")
    assert done.returncode == 2
    assert "as encoder, found 'mosaic'" in done.stderr
