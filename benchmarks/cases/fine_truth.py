"""Meaning of a fine map: a model of 100 um spots predicts painted tissue every 16 um, against the truth at 16 to 100 um."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from benchmarks.harness import Context, Row, Table
from benchmarks.measure import timed

NAME = "fine_truth"
PITCH_UM = 16.0
SIZES_UM = (16.0, 25.0, 50.0, 100.0)
SEED = 5
PATIENTS = 4
GENES = 300
# Of each map: what stands in the table.
MAPS: Mapping[str, str] = {
    "model": "map every 16 um",
    "spots": "map every 100 um, nearest spot",
    "apart": "map every 16 um, neighbours 96 um away",
    "ridge": "ridge, every 16 um",
    "depth": "predicted depth alone",
}
_APART = 6  # of every so many rows and columns, one makes a lattice of 96 um
_SIDE_UM = 2000.0
_BLOCK = 2048

Floats = npt.NDArray[np.float64]


def parts(context: Context) -> Mapping[str, Mapping[str, Any]]:
    return {f"patient {p + 1}": {"patient": p} for p in range(PATIENTS if context.full else 1)}


def run(parameters: Mapping[str, Any], context: Context) -> dict[str, Any]:
    from hespotex.config import Machine, RunConfig
    from hespotex.datasets import PaintedPatient, PaintedPlan
    from hespotex.models.fit import fit_bundle
    from hespotex.validation.cross_validation import with_baselines

    plan = PaintedPlan(
        seed=SEED,
        patients=tuple(PaintedPatient(f"P{k + 1}") for k in range(PATIENTS)),
        sections_per_patient=1,
        n_genes=GENES,
        lattice="hexagonal",
        side_um=_SIDE_UM,
    )
    held_out = parameters["patient"]
    config = RunConfig.from_values({"encoder": {"reading": "area"}})
    with timed() as spent:
        cohort, painted = _encoded(plan, held_out, config, context, None)
        train = replace(cohort, items=cohort.items[:held_out] + cohort.items[held_out + 1 :])
        bundle = with_baselines(fit_bundle(train, config, machine=Machine(device="cpu")), train)
        xy_um = np.stack(np.meshgrid(*[np.arange(PITCH_UM / 2, _SIDE_UM, PITCH_UM)] * 2), axis=-1)
        fine, _ = _encoded(plan, held_out, config, context, xy_um.reshape(-1, 2))
        maps = _maps(bundle, fine.items[0], cohort.items[held_out])
        found = _scores(bundle, maps, fine.items[0].section.xy_um, painted.truth)
    return {
        "scores": found,
        "spots": sum(item.section.n_spots for item in train.items),
        "points": len(xy_um.reshape(-1, 2)),
        "genes": len(bundle.genes),
        **spent.as_dict(),
    }


def _encoded(plan: Any, held_out: int, config: Any, context: Context, xy_um: Floats | None) -> Any:
    """All sections at their spots, or the held-out one at these points; and the held-out painting."""
    from PIL import Image

    from hespotex.config import Machine
    from hespotex.datasets.simulated import as_section
    from hespotex.progress import Silent
    from hespotex.stages import encode

    sections, kept = [], None
    for number in [held_out] if xy_um is not None else range(PATIENTS):
        painted = plan.section(number, 0)
        path = Path(context.work) / NAME / f"{painted.section_id}.tif"
        path.parent.mkdir(parents=True, exist_ok=True)
        if not path.is_file():
            Image.fromarray(painted.arrays.image).save(path)
        section = replace(as_section(painted), slide=path)
        if xy_um is not None:
            section = replace(
                section,
                counts=None,
                genes=None,
                array_xy=None,
                barcodes=np.array([f"{i}" for i in range(len(xy_um))]),
                xy_px0=xy_um / section.geometry.mpp,
            )
        sections.append(section)
        kept = painted if number == held_out else kept
    machine = Machine(device="cpu", threads=context.threads, cache=Path(context.work) / NAME)
    return encode(sections, config, machine, Silent()), kept


def _maps(bundle: Any, fine: Any, spots: Any) -> dict[str, npt.NDArray[np.float32]]:
    """(n, G) composition of every map at the fine points; (n, 1) for depth."""
    from scipy.spatial import cKDTree

    from hespotex.evaluation.predictors import rivals
    from hespotex.genes.panel import GenePanel
    from hespotex.models.predict import predict_expression, predict_section
    from hespotex.models.preprocessing import feature_stats

    panel = GenePanel(bundle.genes, bundle.training_totals)
    own, coarse = predict_section(bundle, fine), predict_section(bundle, spots.without_expression())
    xy_um, stats = fine.section.xy_um, feature_stats(fine.features)
    apart = np.empty_like(own.composition)
    row, column = np.divmod(np.arange(len(xy_um)), round(np.sqrt(len(xy_um))))
    lattice = (row % _APART) * _APART + column % _APART
    for number in range(_APART**2):
        at = np.flatnonzero(lattice == number)
        apart[at] = predict_expression(
            bundle.model, fine.features[at], xy_um[at], stats=stats, spread=False
        ).composition
    nearest = cKDTree(spots.section.xy_um).query(xy_um)[1]
    ridge = rivals(bundle.trust, panel, None, fine, own)["ridge"].composition
    assert ridge is not None
    return {
        "model": own.composition,
        "spots": coarse.composition[nearest],
        "apart": apart,
        "ridge": ridge,
        "depth": np.log(np.maximum(own.depth, 1e-3))[:, None],
    }


def _scores(bundle: Any, maps: Mapping[str, Any], xy_um: Floats, truth: Any) -> dict[str, Any]:
    """Mean PCC over genes with the true composition of discs of each size, by map; genes that the image tells, and all."""
    from scipy import sparse
    from scipy.spatial import cKDTree

    from hespotex.evaluation.scores import mean_present, pcc_per_gene

    known = {name: k for k, name in enumerate(truth.genes.genes.tolist())}
    columns = np.array([known[name] for name in bundle.genes])
    told = truth.genes.predictable[columns]
    tree, found = cKDTree(xy_um), {}
    for size in SIZES_UM:
        place = np.arange(size / 2, _SIDE_UM, size)
        centres = np.stack(np.meshgrid(place, place), axis=-1).reshape(-1, 2)
        share = np.concatenate(
            [
                truth.at(centres[k : k + _BLOCK], size).share[:, columns]
                for k in range(0, len(centres), _BLOCK)
            ]
        )
        tissue = np.isfinite(share).all(axis=1)
        inside = tree.query_ball_point(centres[tissue], size / 2 + 1e-6)
        rows = np.repeat(np.arange(len(inside)), [len(i) for i in inside])
        mean = sparse.csr_matrix(
            (1.0 / np.array([len(inside[r]) for r in rows]), (rows, np.concatenate(inside))),
            shape=(len(inside), len(xy_um)),
        )
        expected = np.log(np.maximum(share[tissue], 1e-12))
        found[f"{size:g}"] = {
            name: {
                "told": float(mean_present(pcc_per_gene(mean @ values, expected)[told])),
                "all": float(mean_present(pcc_per_gene(mean @ values, expected))),
            }
            for name, values in maps.items()
        } | {"points": int(tissue.sum())}
    return found


def tables(found: Mapping[str, dict[str, Any]], _context: Context) -> Sequence[Table]:
    rows = []
    for name, label in MAPS.items():
        values = {
            size: {
                kind: float(np.mean([r["scores"][f"{size:g}"][name][kind] for r in found.values()]))
                for kind in ("told", "all")
            }
            for size in SIZES_UM
        }
        told, every = (
            " / ".join(f"{values[size][kind]:.3f}" for size in SIZES_UM) for kind in ("told", "all")
        )
        rows.append(Row(label, told, every))
    first = next(iter(found.values()))
    sizes = " / ".join(f"{size:g}" for size in SIZES_UM)
    return [
        Table(
            f"Maps of a model of 100 um spots against the painted truth in discs of {sizes} um",
            ("map", "genes that the image tells", "all genes of the panel", ""),
            tuple(rows),
            (
                f"Mean PCC of composition over genes, {len(found)} of {PATIENTS} patients left out in turn; "
                f"{first['spots']:,} training spots, {first['points']:,} points of the map, {first['genes']} genes. A "
                "disc gets the mean of the map's points inside it.",
            ),
        )
    ]
