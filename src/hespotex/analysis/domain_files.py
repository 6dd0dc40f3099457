"""Files of domains: one table of all spots, scores, markers, stability, and the predictions with domains in obs."""

from __future__ import annotations

import shutil
from collections.abc import Collection
from pathlib import Path
from typing import Any, Final

import numpy as np
import pandas as pd

from hespotex import keys
from hespotex.analysis.domain_fit import NONE, chosen
from hespotex.analysis.domain_markers import DESCRIPTIVE
from hespotex.analysis.domain_scores import read_obs
from hespotex.analysis.domains import Domains, domain_name, section_key
from hespotex.progress import Reporter, Silent
from hespotex.storage.atomic import atomic_path
from hespotex.storage.hdf5 import holds
from hespotex.storage.safe_names import safe_paths

RECORD: Final = "domains"


def write_domains(found: Domains, out: Path, reporter: Reporter | None = None) -> dict[str, Path]:
    """Write domains.csv, scores.csv, markers.csv, stability.csv and sections/<id>.h5ad.

    Of an earlier call, stability.csv and sections that this one does not write are taken away.

    Returns:
        The paths by label.

    Raises:
        RunError: a file cannot be written.
    """
    paths = {"domains": out / "domains.csv", "scores": out / "scores.csv", "markers": out / "markers.csv"}  # fmt: skip
    with atomic_path(paths["domains"]) as temporary, temporary.open("w", encoding="utf-8") as text:
        for number, name in enumerate(found.files):
            spot_table(found, name).to_csv(
                text, index=False, header=number == 0, float_format="%.6g"
            )
    sections = safe_paths(out / "sections", found.files, ".h5ad")
    _take_away(found, out, sections.values())
    tables = {"scores": found.scores, "markers": found.markers}
    if any(found.stability.values()):
        paths["stability"] = out / "stability.csv"
        tables["stability"] = stability_table(found)
    for name, table in tables.items():
        with atomic_path(paths[name]) as temporary:
            table.to_csv(temporary, index=False, float_format="%.6g")
    with (reporter or Silent()).task("writing sections", len(found.files)) as advance:
        for name in found.files:
            _write_section(sections[name], found, name)
            advance(1)
    return {**paths, "sections": out / "sections"}


def _take_away(found: Domains, out: Path, written: Collection[Path]) -> None:
    """What an earlier call wrote must not stand beside the numbers of this one; files of others stay, and inputs."""
    old = out / "stability.csv"
    if old.is_file() and old.read_bytes().startswith(b"source,n,ari_mean"):
        old.unlink()
    inputs = {file.path.resolve() for file in found.files.values()}
    for path in (out / "sections").glob("*.h5ad"):
        kept = path in written or path.resolve() in inputs
        if not kept and holds(path, f"uns/{keys.UNS}/{RECORD}"):
            path.unlink()


def spot_table(found: Domains, section: str) -> pd.DataFrame:
    """One row a spot of a section: place, domain of every source, labels, and whether it is flagged."""
    file = found.files[section]
    xy = file.xy_um
    columns: dict[str, Any] = {
        keys.SECTION_ID: section,
        keys.PATIENT_ID: file.spots.patient_id,
        "spot": file.spots.barcodes,
        "x_um": xy[:, 0],
        "y_um": xy[:, 1],
    }
    for source in found.labels:
        columns[section_key(source)] = domain_words(found, source, section)
    for column, words in found.known.items():
        columns[f"label_{column}"] = words.get(section, np.full(file.n_spots, None, object))
    columns["flagged"] = ~file.usable
    columns["verdict"] = file.claims.verdict or ""
    return pd.DataFrame(columns)


def domain_words(found: Domains, source: str, section: str) -> np.ndarray:
    """(n,) names of a section's domains; empty where a spot has none, or the source lacks the section."""
    last = max(found.numbers(source), default=NONE)
    names = np.array([domain_name(k) for k in range(NONE, last + 1)], object)
    numbers = found.labels[source].get(section)
    if numbers is None:
        numbers = np.full(found.files[section].n_spots, NONE)
    return np.asarray(names[numbers + 1])


def stability_table(found: Domains) -> pd.DataFrame:
    """One row a source and number: mean and range of the ARI of two fits on parts of the spots."""
    return pd.DataFrame(
        [
            {
                "source": source,
                "n": s.k,
                "ari_mean": s.mean,
                "ari_least": min(s.ari),
                "ari_most": max(s.ari),
                "chosen": s.k == chosen(tried),
            }
            for source, tried in found.stability.items()
            for s in tried
        ]
    )


def _write_section(path: Path, found: Domains, section: str) -> None:
    """The prediction's file with domains as columns of obs, and how they were drawn in uns."""
    import h5py
    from anndata.io import write_elem

    from hespotex.plots.domain_colours import colour_of

    file = found.files[section]
    obs = read_obs(file)
    for source in found.labels:
        names = [domain_name(k) for k in found.numbers(source)]
        words = domain_words(found, source, section)
        obs[section_key(source)] = pd.Categorical(
            [w or None for w in words.tolist()], categories=names
        )
    options = found.options
    record = {
        "n": {source: found.n_domains(source) for source in found.labels},
        "smooth_um": options.length_um,
        "seed": options.seed,
        "standardised": "over all sections" if options.keep_levels else "inside each section",
        "note": DESCRIPTIVE,
    }
    with atomic_path(path) as temporary:
        shutil.copyfile(file.path, temporary)
        with h5py.File(temporary, "r+") as table:
            write_elem(table, "obs", obs)
            write_elem(table[f"uns/{keys.UNS}"], RECORD, record)
            for source in found.labels:
                colours = np.array([colour_of(k) for k in found.numbers(source)], object)
                write_elem(table["uns"], f"{section_key(source)}_colors", colours)
