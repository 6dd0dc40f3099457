"""Domains: against the layers of two olfactory bulbs, animals left out, 20 seeds; and of 200,000 made spots x 2,000 genes."""

from __future__ import annotations

import os
import resource
import shutil
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.data import machine
from benchmarks.harness import Context, Row, Table
from benchmarks.measure import timed
from hespotex.analysis.domain_files import write_domains
from hespotex.analysis.domain_scores import against_labels, label_columns, read_obs
from hespotex.analysis.domains import DomainOptions, draw_domains, find_domains, read_files
from hespotex.evaluation.trust import Extras
from hespotex.export.h5ad_chunks import Chunk, write_prediction_by_chunks
from hespotex.geometry import Geometry
from hespotex.progress import Silent
from hespotex.sections.section import Section

NAME = "domains"
LAYERS = 5  # annotated in both bulbs; `undefined` is none
_SEEDS = 20
_KINDS = 5
_ROWS = 4096
_MOST_SECONDS, _MOST_MIB = 300, 4096


def parts(context: Context) -> Mapping[str, Mapping[str, Any]]:
    bulb = {"bulb": {"seeds": _SEEDS if context.full else 3}} if context.has("mob") else {}
    side = 448 if context.full else 120
    return {**bulb, "fine": {"side": side, "genes": 2000 if context.full else 200}}


def run(parameters: Mapping[str, Any], context: Context) -> dict[str, Any]:
    where = machine(context)
    return _fine(parameters, context) if "side" in parameters else _bulb(parameters, context, where)


def _bulb(parameters: Mapping[str, Any], context: Context, where: Any) -> dict[str, Any]:
    from hespotex.config import RunConfig
    from hespotex.pipeline import cross_validate

    folder, manifest = context.work / "domains" / "bulb", context.data / "mob" / "sections.csv"
    cross_validate(manifest, folder, config=RunConfig(seed=0), machine=where)
    files = read_files([folder])
    known = label_columns({name: read_obs(file) for name, file in files.items()})
    scores: dict[str, dict[str, list[float]]] = {}
    with timed() as spent:
        for seed in range(int(parameters["seeds"])):
            options = DomainOptions(n=LAYERS, manifest=manifest, seed=seed)
            labels, _ = draw_domains(files, options, where, [], Silent())
            for row in against_labels(labels, known):
                of = scores.setdefault(str(row["source"]), {})
                of.setdefault(str(row["section"]), []).append(float(row["ari"]))
    return {"scores": scores, **spent.as_dict()}


def _fine(parameters: Mapping[str, Any], context: Context) -> dict[str, Any]:
    from sklearn.metrics import adjusted_rand_score

    folder = context.work / "domains" / "fine"
    shutil.rmtree(folder, ignore_errors=True)
    side, genes = int(parameters["side"]), int(parameters["genes"])
    truth = {
        "fine": write_made(folder / "in" / "fine.h5ad", "fine", side, 16.0, genes),
        "coarse": write_made(
            folder / "in" / "coarse.h5ad", "coarse", side * 16 // 100, 100.0, genes
        ),
    }
    before = _peak_mib()
    with timed() as spent:
        found = find_domains([folder / "in"], folder / "out", DomainOptions(n=_KINDS))
        write_domains(found, folder / "out")
    labels = found.labels["composition"]
    pooled = [np.concatenate([v[name] for name in truth]) for v in (labels, truth)]
    return {
        "spots": len(truth["fine"]),
        "genes": genes,
        "ari_fine": float(adjusted_rand_score(truth["fine"], labels["fine"])),
        "ari_together": float(adjusted_rand_score(*pooled)),
        "peak_mib": _peak_mib(),
        "peak_before_mib": before,
        "load": os.getloadavg()[0],
        **spent.as_dict(),
    }


def _peak_mib() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def write_made(path: Path, name: str, side: int, pitch_um: float, n_genes: int) -> np.ndarray:
    """Write a square lattice over five made tissues, in half precision as fine maps are; the tissue of every spot."""
    row, column = np.divmod(np.arange(side * side), side)
    xy_um = np.stack([column + 0.5, row + 0.5], axis=1) * pitch_um
    rng = np.random.default_rng(29)
    seeds, extent = rng.uniform(0, 7168, (15, 2)), 7168.0
    nearest = ((xy_um[:, None] * (extent / (side * pitch_um)) - seeds[None]) ** 2).sum(axis=2)
    kind = nearest.argmin(axis=1) % _KINDS
    profile = rng.normal(0, 0.3, (_KINDS, n_genes)).astype(np.float32)
    section = Section(
        section_id=name, patient_id=name, slide=None, geometry=Geometry(0.5, pitch_um, pitch_um),
        barcodes=np.array([f"{r}x{c}" for r, c in zip(row, column, strict=True)]),
        xy_px0=xy_um / 0.5, counts=None, genes=None,
    )  # fmt: skip

    def chunks() -> Iterator[Chunk]:
        noise = np.random.default_rng([31, side])
        for start in range(0, len(kind), _ROWS):
            rows = slice(start, min(start + _ROWS, len(kind)))
            values = profile[kind[rows]]
            values = values + noise.normal(0, 1, values.shape).astype(np.float32)
            yield rows, {"composition": values.astype(np.float16)}

    write_prediction_by_chunks(
        path, section=section, genes=[f"G{j:04d}" for j in range(n_genes)],
        depth=np.full(len(kind), 500, np.float32), extras=Extras(), chunks=chunks(), thumbnail=None,
        provenance={"model_id": "made"},
    )  # fmt: skip
    return kind


def tables(found: Mapping[str, dict[str, Any]], _context: Context) -> Sequence[Table]:
    made = []
    if "bulb" in found:
        made.append(_bulb_table(found["bulb"]["scores"]))
    if "fine" in found:
        made.append(_fine_table(found["fine"]))
    return made


def _bulb_table(scores: Mapping[str, Mapping[str, Sequence[float]]]) -> Table:
    said = {"composition": "predicted composition", "features": "encoder features alone", "measured": "measured counts"}  # fmt: skip
    rows = tuple(
        Row(f"{said[source]}, {section if section != 'all' else 'both together'}",
            f"{np.mean(v):.3f} ({min(v):.3f} to {max(v):.3f})")
        for source, of in scores.items()
        for section, v in of.items()
    )  # fmt: skip
    n = len(next(iter(next(iter(scores.values())).values())))
    notes = (
        f"ARI against the annotated layers, 5 domains, mean and range of {n} seeds. Each bulb is predicted by a model of the "
        "other animal's. Length, components and k-means were chosen on MOB4.",
    )
    return Table("Domains of the olfactory bulb", ("domains from", "ARI", "beside", "bar"), rows, notes)  # fmt: skip


def _fine_table(r: Mapping[str, Any]) -> Table:
    rows = (
        Row("draw, score and write, s", f"{r['wall_s']:.0f} ({r['core_s']:.0f} of a core)",
            f"load of the machine {r['load']:.1f}", f"<= {_MOST_SECONDS}", r["wall_s"] <= _MOST_SECONDS),
        Row("peak memory, MiB", f"{r['peak_mib']:.0f}", f"{r['peak_before_mib']:.0f} before", f"<= {_MOST_MIB}",
            r["peak_mib"] <= _MOST_MIB),
        Row("ARI against the made tissues", f"{r['ari_fine']:.3f}", f"with a coarse section {r['ari_together']:.3f}"),
    )  # fmt: skip
    title = f"Domains of {r['spots']:,} spots x {r['genes']:,} genes, beside a section of 100 um"
    return Table(title, ("what", "found", "beside", "bar"), rows)
