"""Domains: against the layers of two olfactory bulbs, animals left out, 20 seeds; and of 200,000 made spots x 2,000 genes.

A fine slide's features lie in the cache, as an earlier call leaves them: encoding them is another case's.
"""

from __future__ import annotations

import multiprocessing
import os
import shutil
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.data import machine
from benchmarks.harness import Context, Row, Table
from benchmarks.measure import peak_memory_gb, timed
from hespotex import keys
from hespotex.analysis.domain_files import write_domains
from hespotex.analysis.domain_scores import against_labels, label_columns, read_obs
from hespotex.analysis.domain_sources import COMPOSITION, ENCODED, FEATURES, MEASURED, SOURCES
from hespotex.analysis.domains import DomainOptions, draw_domains, find_domains, read_files
from hespotex.encoders import get_encoder
from hespotex.evaluation.trust import Extras
from hespotex.export.h5ad_chunks import Chunk, write_prediction_by_chunks
from hespotex.features.appearance import N_COLOURS, Appearance, n_textures
from hespotex.features.encode import features_key, write_cached
from hespotex.features.patches import PatchPlan
from hespotex.geometry import Geometry
from hespotex.progress import Silent
from hespotex.report.domains_page import write_pages
from hespotex.sections.section import Section
from hespotex.slide import slide_key

NAME = "domains"
LAYERS = 5  # annotated in both bulbs; `undefined` is none
_SEEDS = 20
_KINDS = 5
_ROWS = 4096
# How the number of domains comes about where it is not given, and the resolution of communities.
_STABLE, _LEIDEN, _RESOLUTION = "stability", "communities", 0.05
_MOST_SECONDS, _MOST_MIB = 300, 4096
_MIB = 1e9 / 2**20
_MPP, _ENCODER, _SIDES_UM = 0.5, "efficientnet-lite0", (77.2, 154.5, 309.0, 617.9)
_SAID = {COMPOSITION: "predicted composition", FEATURES: "encoder features alone", MEASURED: "measured counts"}  # fmt: skip

_NUMBERED = {"": "", _STABLE: "number by stability", _LEIDEN: f"communities at {_RESOLUTION:g}"}


def parts(context: Context) -> Mapping[str, Mapping[str, Any]]:
    bulb = {"bulb": {"seeds": _SEEDS if context.full else 3}} if context.has("mob") else {}
    side = 448 if context.full else 120
    fine = {"side": side, "genes": 2000 if context.full else 200}
    ways = {f"fine-{source}": {"source": source} for source in SOURCES}
    for how in (_STABLE, _LEIDEN):
        ways[f"fine-{how}"] = {"source": COMPOSITION, "number": how}
    return {**bulb, **{name: {**fine, **way} for name, way in ways.items()}}


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

    source, number = str(parameters["source"]), str(parameters.get("number", ""))
    folder = context.work / "domains" / f"fine-{source}{number}"
    shutil.rmtree(folder, ignore_errors=True)
    # Another process, so that the peak is that of `domains`.
    maker = multiprocessing.get_context("spawn").Process(target=_make, args=(folder, parameters))
    maker.start()
    maker.join()
    if maker.exitcode:
        raise RuntimeError(f"no input was made in {folder}")
    where = replace(machine(context), cache=folder / "cache")
    manifest = folder / "sections.csv" if source == FEATURES else None
    options = DomainOptions(
        n=None if number else _KINDS,
        resolution=_RESOLUTION if number == _LEIDEN else None,
        sources=(source,),
        manifest=manifest,
    )
    before = _MIB * peak_memory_gb()
    with timed() as drawing:
        found = find_domains([folder / "in"], folder / "out", options, machine=where)
        write_domains(found, folder / "out")
    drawn = _MIB * peak_memory_gb()
    with timed() as pages:
        write_pages(found, folder / "out")
    labels = found.labels[source]
    truth = {name: np.load(folder / f"{name}.npy") for name in ("fine", "coarse")}
    pooled = [np.concatenate([v[name] for name in truth]) for v in (labels, truth)]
    result = {
        "source": source,
        "number": number,
        "domains": found.n_domains(source),
        "spots": len(truth["fine"]),
        "genes": int(parameters["genes"]),
        "ari_fine": float(adjusted_rand_score(truth["fine"], labels["fine"])),
        "ari_together": float(adjusted_rand_score(*pooled)),
        "peak_before_mib": before,
        "peak_drawn_mib": drawn,
        "peak_mib": _MIB * peak_memory_gb(),
        "load": os.getloadavg()[0],
        "drawing": drawing.as_dict(),
        "pages": pages.as_dict(),
    }
    shutil.rmtree(folder, ignore_errors=True)  # features of 200,000 spots are 4 GB
    return result


def _make(folder: Path, parameters: Mapping[str, Any]) -> None:
    """Write the fine and the coarse section, with what the source needs beside them."""
    side, genes, source = int(parameters["side"]), int(parameters["genes"]), parameters["source"]
    for name, n, pitch in (("fine", side, 16.0), ("coarse", side * 16 // 100, 100.0)):
        path = folder / "in" / f"{name}.h5ad"
        kind, xy_px0 = write_made(path, name, n, pitch, genes)
        np.save(folder / f"{name}.npy", kind)
        if source == MEASURED:
            write_counts(path, kind, genes)
        if source == FEATURES:
            write_features(folder, name, kind, xy_px0)
    if source == FEATURES:
        lines = (f"{n},{n},{n}.tif,in/{n}.h5ad,h5ad" for n in ("fine", "coarse"))
        text = "\n".join(("section_id,patient_id,slide,expression,format", *lines, ""))
        (folder / "sections.csv").write_text(text, encoding="utf-8")


def write_counts(path: Path, kind: np.ndarray, n_genes: int) -> None:
    """Add raw counts to a made prediction: 70 a spot in the mean, shares by tissue."""
    import h5py
    from anndata.io import read_elem, write_elem
    from scipy import sparse

    rng = np.random.default_rng(37)
    share = rng.dirichlet(np.full(n_genes, 1.0), _KINDS)
    depth = rng.poisson(70, len(kind))
    gene = np.empty(depth.sum(), np.int32)
    spot = np.repeat(np.arange(len(kind)), depth)
    for k in range(_KINDS):
        of = kind[spot] == k
        gene[of] = rng.choice(n_genes, int(of.sum()), p=share[k])
    shape = (len(kind), n_genes)
    counts = sparse.csr_matrix((np.ones(len(gene), np.float32), (spot, gene)), shape=shape)
    with h5py.File(path, "r+") as file:
        write_elem(file["layers"], keys.MEASURED_COUNTS, counts)
        table = read_elem(file["var"])
        table[keys.MEASURED] = True
        write_elem(file, "var", table)


def write_features(folder: Path, name: str, kind: np.ndarray, xy_px0: np.ndarray) -> None:
    """Leave made features in the cache, in the parts and under the keys that `domains` looks for; and a slide."""
    import tifffile

    encoder = get_encoder(_ENCODER)
    plan = PatchPlan(_SIDES_UM, encoder.size_px, "patches")
    slide = folder / f"{name}.tif"
    tifffile.imwrite(slide, np.full((64, 64, 3), ord(name[0]), np.uint8), photometric="rgb")
    rng = np.random.default_rng(41)
    width = len(_SIDES_UM) * encoder.dim
    profile = rng.normal(0, 1, (_KINDS, width)).astype(np.float32)
    for start in range(0, len(kind), ENCODED):
        rows = slice(start, min(start + ENCODED, len(kind)))
        values = profile[kind[rows]]
        values += rng.standard_normal(values.shape, dtype=np.float32)
        key = features_key(slide_key(slide, None), encoder, plan, _MPP, xy_px0[rows])
        n = len(values)
        seen = Appearance(
            np.zeros((n, N_COLOURS), np.float32),
            np.zeros((n, n_textures(len(_SIDES_UM), encoder.size_px)), np.float32),
        )
        path = folder / "cache" / "features" / f"{key}.safetensors"
        write_cached(path, values.reshape(n, len(_SIDES_UM), encoder.dim), seen)


def write_made(
    path: Path, name: str, side: int, pitch_um: float, n_genes: int
) -> tuple[np.ndarray, np.ndarray]:
    """Write a square lattice over five made tissues, in half precision as fine maps are; tissues and places of spots."""
    row, column = np.divmod(np.arange(side * side), side)
    xy_um = np.stack([column + 0.5, row + 0.5], axis=1) * pitch_um
    rng = np.random.default_rng(29)
    seeds, extent = rng.uniform(0, 7168, (15, 2)), 7168.0
    nearest = ((xy_um[:, None] * (extent / (side * pitch_um)) - seeds[None]) ** 2).sum(axis=2)
    kind = nearest.argmin(axis=1) % _KINDS
    profile = rng.normal(0, 0.3, (_KINDS, n_genes)).astype(np.float32)
    section = Section(
        section_id=name, patient_id=name, slide=None, geometry=Geometry(_MPP, pitch_um, pitch_um),
        barcodes=np.array([f"{r}x{c}" for r, c in zip(row, column, strict=True)]),
        xy_px0=xy_um / _MPP, counts=None, genes=None,
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
        provenance={
            "model_id": "made", "encoder": _ENCODER, "encoder_key": get_encoder(_ENCODER).key(),
            "sides_um": np.array(_SIDES_UM),
        },
    )  # fmt: skip
    return kind, section.xy_px0


def tables(found: Mapping[str, dict[str, Any]], _context: Context) -> Sequence[Table]:
    made = []
    if "bulb" in found:
        made.append(_bulb_table(found["bulb"]["scores"]))
    fine = [found[f"fine-{way}"] for way in (*SOURCES, _STABLE, _LEIDEN) if f"fine-{way}" in found]
    return [*made, _fine_table(fine)] if fine else made


def _bulb_table(scores: Mapping[str, Mapping[str, Sequence[float]]]) -> Table:
    rows = tuple(
        Row(f"{_SAID[source]}, {section if section != 'all' else 'both together'}",
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


def _fine_table(results: Sequence[Mapping[str, Any]]) -> Table:
    rows = []
    for r in results:
        said = ", ".join(text for text in (_SAID[r["source"]], _NUMBERED[r["number"]]) if text)
        wall = r["drawing"]["wall_s"] + r["pages"]["wall_s"]
        rows += [
            Row(f"{said}: all, s", f"{wall:.0f}",
                f"pictures, page and outlines {r['pages']['wall_s']:.0f}; {r['drawing']['core_s'] + r['pages']['core_s']:.0f} of a core; "
                f"load of the machine {r['load']:.1f}", f"<= {_MOST_SECONDS}", wall <= _MOST_SECONDS),
            Row(f"{said}: peak memory, MiB", f"{r['peak_mib']:.0f}",
                f"{r['peak_drawn_mib']:.0f} before pictures, {r['peak_before_mib']:.0f} before all", f"<= {_MOST_MIB}",
                r["peak_mib"] <= _MOST_MIB),
            Row(f"{said}: ARI against the made tissues", f"{r['ari_fine']:.3f}",
                f"with a coarse section {r['ari_together']:.3f}; {r['domains']} domains"),
        ]  # fmt: skip
    title = f"Domains of {results[0]['spots']:,} spots x {results[0]['genes']:,} genes, beside a section of 100 um"
    notes = (
        "All: read, draw, score, markers, tables, h5ad, picture, page and outlines. Features lie in the cache.",
    )
    return Table(title, ("what", "found", "beside", "bar"), tuple(rows), notes)
