"""Localising on real tissue: pieces of two olfactory bulbs with and without granule cells, animals kept apart; bulb and breast."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

from benchmarks.data import machine
from benchmarks.harness import Context, Row, Table
from benchmarks.measure import timed
from hespotex.analysis.domain_sources import common_genes
from hespotex.analysis.localize.bags import Bag, Bags, patient_folds, write_bags
from hespotex.analysis.localize.compare import map_auroc
from hespotex.analysis.localize.evidence import (
    auroc,
    patient_labels,
    patient_margins,
    run_null,
    spot_map,
)
from hespotex.analysis.localize.nested import nested_pass
from hespotex.analysis.localize.reduce import reduce_folds
from hespotex.analysis.prediction_file import PredictionFile
from hespotex.config import Machine, RunConfig
from hespotex.models.types import EncodedSection
from hespotex.pipeline import cross_validate
from hespotex.progress import Silent
from hespotex.spots.text import read_table
from hespotex.stages import encode, read_sections
from hespotex.storage.run_folder import RunDir

NAME = "localize-tissue"
GRANULE, NOTHING = "Granular Cell Layer", "undefined"
CENTRED = "centred composition"
_SEEDS = 3
# Pieces of a section (of 30 about 8 spots each, of 12 about 20), how many cuts are laid over one another, and values of a spot.
_SHAPES = ((30, 1, "features"), (30, 1, "composition"), (20, 1, "composition"), (12, 1, "composition"), (30, 5, "features"), (30, 5, "composition"), (30, 5, CENTRED))  # fmt: skip
_GENES = 500  # whose predicted composition varies most


def parts(context: Context) -> Mapping[str, Mapping[str, Any]]:
    if not context.has("mob"):
        return {}
    found: dict[str, Mapping[str, Any]] = {
        f"layers-{n}x{cuts}-{kind}-{cut}": {
            "pieces": n, "cuts": cuts, "kind": kind, "cut": cut, "permutations": 199 if context.full else 19,
        }
        for n, cuts, kind in _SHAPES
        for cut in range(10 if context.full else 3)
    }  # fmt: skip
    return found | ({"organs": {}} if context.has("her2st") else {})


def run(parameters: Mapping[str, Any], context: Context) -> dict[str, Any]:
    where = machine(context)
    with TemporaryDirectory() as folder, timed() as spent:
        if "cut" in parameters:
            found = _layers(parameters, context, where, Path(folder))
        else:
            found = {"auroc": organs(context.data, where, Path(folder))}
    return found | spent.as_dict()


def organs(data: Path, where: Machine, folder: Path) -> float:
    """AUROC of sections left out for being of bulb or of breast, two patients each."""
    slides, values = [], []
    for name in ("mob", "her2st"):
        for item in encoded(data / name / "sections.csv", where):
            own = item.section
            slides.append(
                Bag(own.section_id, f"{name}-{own.patient_id}", name, own.xy_px0 * own.geometry.mpp)
            )
            values.append(item.features.reshape(own.n_spots, -1))
    bags = write_bags(folder, slides, values)
    reduced = reduce_folds(bags, patient_folds(bags))
    seen = nested_pass(reduced, bags.labels[None], bags.neighbours())
    return auroc(patient_margins(bags, seen.margin[0]), patient_labels(bags, bags.labels))


def encoded(manifest: Path, where: Machine) -> tuple[EncodedSection, ...]:
    """The sections with features of the default encoder, from the cache where they are in it."""
    return encode(read_sections(manifest, None, Silent()), RunConfig(), where, Silent()).items


def _values(context: Context, where: Machine, kind: str) -> list[np.ndarray]:
    """Of each bulb (n, D): features, or composition predicted by a model of the other animal."""
    items = encoded(context.data / "mob" / "sections.csv", where)
    if kind == "features":
        return [item.features.reshape(item.section.n_spots, -1) for item in items]
    run = RunDir(context.work / "mob-held-out")
    cross_validate(context.data / "mob" / "sections.csv", run.path, machine=where)  # once
    files = [PredictionFile(run.predictions / f"{i.section.section_id}.h5ad") for i in items]
    genes = common_genes(files)
    values = [f.columns(genes, "composition") for f in files]
    kept = np.sort(np.argsort(-sum(v.var(axis=0) for v in values))[:_GENES])
    values = [v[:, kept] for v in values]
    if kind == CENTRED:  # without labels: two models predicted, each against its own training
        return [(v - v.mean(axis=0)) / v.std(axis=0) for v in values]
    return values


def pieces(
    context: Context, where: Machine, folder: Path, parameters: Mapping[str, Any]
) -> tuple[Bags, np.ndarray, np.ndarray]:
    """Bags of both bulbs cut into pieces, (B,) whose animal each is, and (N,) granule cell spots.

    Args:
        parameters: `pieces` of a cut, `cuts` that are laid over one another, `kind` of values, `cut` as seed.
    """
    from sklearn.cluster import KMeans

    n, cuts = int(parameters["pieces"]), int(parameters["cuts"])
    items = encoded(context.data / "mob" / "sections.csv", where)
    slides, values, animal, granule = [], [], [], []
    of_animal = _values(context, where, str(parameters["kind"]))
    for number, (item, of) in enumerate(zip(items, of_animal, strict=True)):
        own = item.section
        path = context.data / "mob" / "labels" / f"{own.section_id}.tsv"
        layers = dict(read_table(path, ("spot", "region"))[["spot", "region"]].to_numpy().tolist())
        layer = np.array([layers.get(str(name), NOTHING) for name in own.barcodes], dtype=object)
        xy = own.xy_px0 * own.geometry.mpp
        for seed in range(int(parameters["cut"]) * cuts, (int(parameters["cut"]) + 1) * cuts):
            piece = KMeans(n, n_init=1, random_state=seed).fit_predict(xy)
            for k in range(n):
                rows = np.flatnonzero((piece == k) & (layer != NOTHING))
                inside = layer[rows] == GRANULE
                name = f"{own.section_id}-{seed}-{k}"
                slides.append(Bag(name, name, "with" if inside.any() else "without", xy[rows]))
                values.append(of[rows].astype(np.float32))
                animal.append(number)
                granule.append(inside)
    return write_bags(folder, slides, values), np.array(animal), np.concatenate(granule)


def _layers(
    parameters: Mapping[str, Any], context: Context, where: Machine, folder: Path
) -> dict[str, Any]:
    bags, animal, granule = pieces(context, where, folder, parameters)
    reduced, near = reduce_folds(bags, animal), bags.neighbours()
    passes = [nested_pass(reduced, bags.labels[None], near, seed=k) for k in range(_SEEDS)]
    n = int(parameters["permutations"])
    null = run_null({"x": reduced}, {"x": passes[0]}, near, permutations=n, enough=n + 1)
    drawn = spot_map(passes, null, np.ones(len(granule), bool))
    lengths = np.diff(bags.starts)
    # Attention sums to 1 in a piece: as many times what it would be if all spots were alike.
    attention = np.mean([p.attention[0] for p in passes], axis=0) * np.repeat(lengths, lengths)
    spots = {
        name: [map_auroc(of[own], granule[own]) for own in _of_animals(bags, animal)]
        for name, of in (("z", drawn.z), ("necessity", passes[0].loss[0]), ("attention", attention))
    }
    own = np.repeat(bags.labels == 0, lengths)
    margin = passes[0].margin[0]
    return {
        "told": [auroc(margin[animal == k], bags.labels[animal == k]) for k in (0, 1)],
        "with": int((bags.labels == 0).sum()),
        "pieces": len(bags.slides),
        "shown": int(drawn.shown[own].sum()),
        "shown_on_granule": int((drawn.shown & granule)[own].sum()),
        "map": spots,
    }


def _of_animals(bags: Bags, animal: np.ndarray) -> list[np.ndarray]:
    """Rows of the spots of each animal's pieces with granule cells."""
    with_them = bags.labels == bags.classes.index("with")
    lengths = np.diff(bags.starts)
    return [np.repeat(with_them & (animal == k), lengths) for k in np.unique(animal)]


def tables(found: Mapping[str, dict[str, Any]], _context: Context) -> Sequence[Table]:
    rows = []
    for n, cuts, kind in _SHAPES:
        name = f"layers-{n}x{cuts}-{kind}-"
        if of := [at for part, at in found.items() if part.startswith(name)]:
            pieces = f"{n} pieces" if cuts == 1 else f"{cuts} cuts of {n} pieces"
            drawn, right = (sum(at[k] for at in of) for k in ("shown", "shown_on_granule"))
            told = f"pieces told apart {_by_animal([at['told'] for at in of])}"
            rows.append(
                Row(f"granule cell spots by {kind}, {pieces}, AUROC of the map", _by_animal([at["map"]["z"] for at in of]),
                    f"mean attention {_by_animal([at['map']['attention'] for at in of])}, necessity {_by_animal([at['map']['necessity'] for at in of])}; {told}; {right} of {drawn} drawn spots are granule cells", "printed")
            )  # fmt: skip
    if at := found.get("organs"):
        rows.append(Row("bulb and breast told apart, AUROC (smoke test)", f"{at['auroc']:.2f}", "", "1", at["auroc"] == 1))  # fmt: skip
    return (
        [Table("Localising on real tissue", ("what", "found", "beside", "bar"), tuple(rows))]
        if rows
        else []
    )


def _by_animal(values: Sequence[Sequence[float]]) -> str:
    """Mean and range over cuts, for the animal on which a setting may be chosen and for the other."""
    words = []
    for of in np.array(values, float).T:
        known = of[np.isfinite(of)]
        words.append(
            f"{known.mean():.2f} ({known.min():.2f} to {known.max():.2f})" if len(known) else "none"
        )
    return ", other animal ".join(words)
