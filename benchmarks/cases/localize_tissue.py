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
from hespotex.config import Machine, RunConfig
from hespotex.models.types import EncodedSection
from hespotex.progress import Silent
from hespotex.spots.text import read_table
from hespotex.stages import encode, read_sections

NAME = "localize-tissue"
GRANULE, NOTHING = "Granular Cell Layer", "undefined"
_PIECES = 30  # of a section, about 8 spots each: two thirds of them have granule cells
_SEEDS = 3


def parts(context: Context) -> Mapping[str, Mapping[str, Any]]:
    if not context.has("mob"):
        return {}
    n = 10 if context.full else 3
    found: dict[str, Mapping[str, Any]] = {
        f"layers-{cut}": {"cut": cut, "permutations": 199 if context.full else 39}
        for cut in range(n)
    }
    return found | ({"organs": {}} if context.has("her2st") else {})


def run(parameters: Mapping[str, Any], context: Context) -> dict[str, Any]:
    where = machine(context)
    with TemporaryDirectory() as folder, timed() as spent:
        if "cut" in parameters:
            found = _layers(parameters, context.data, where, Path(folder))
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


def pieces(
    data: Path, where: Machine, folder: Path, *, cut: int
) -> tuple[Bags, np.ndarray, np.ndarray]:
    """Bags of both bulbs cut into pieces, (B,) whose animal each is, and (N,) granule cell spots.

    Args:
        cut: seed of the cuts.
    """
    from sklearn.cluster import KMeans

    slides, values, animal, granule = [], [], [], []
    for number, item in enumerate(encoded(data / "mob" / "sections.csv", where)):
        own = item.section
        path = data / "mob" / "labels" / f"{own.section_id}.tsv"
        layers = dict(read_table(path, ("spot", "region"))[["spot", "region"]].to_numpy().tolist())
        layer = np.array([layers.get(str(name), NOTHING) for name in own.barcodes], dtype=object)
        xy = own.xy_px0 * own.geometry.mpp
        piece = KMeans(_PIECES, n_init=1, random_state=cut).fit_predict(xy)
        for k in range(_PIECES):
            rows = np.flatnonzero((piece == k) & (layer != NOTHING))
            inside = layer[rows] == GRANULE
            name = f"{own.section_id}-{k}"
            slides.append(Bag(name, name, "with" if inside.any() else "without", xy[rows]))
            values.append(item.features[rows].reshape(len(rows), -1))
            animal.append(number)
            granule.append(inside)
    return write_bags(folder, slides, values), np.array(animal), np.concatenate(granule)


def _layers(
    parameters: Mapping[str, Any], data: Path, where: Machine, folder: Path
) -> dict[str, Any]:
    bags, animal, granule = pieces(data, where, folder, cut=int(parameters["cut"]))
    reduced, near = reduce_folds(bags, animal), bags.neighbours()
    passes = [nested_pass(reduced, bags.labels[None], near, seed=k) for k in range(_SEEDS)]
    null = run_null(
        {"x": reduced}, {"x": passes[0]}, near, permutations=int(parameters["permutations"])
    )
    drawn = spot_map(passes, null, np.ones(len(granule), bool))
    lengths = np.diff(bags.starts)
    # Attention sums to 1 in a piece: as many times what it would be if all spots were alike.
    attention = np.mean([p.attention[0] for p in passes], axis=0) * np.repeat(lengths, lengths)
    spots = {
        name: float(
            np.mean([map_auroc(of[own], granule[own]) for own in _of_animals(bags, animal)])
        )
        for name, of in (("z", drawn.z), ("necessity", passes[0].loss[0]), ("attention", attention))
    }
    own = np.repeat(bags.labels == 0, lengths)
    return {
        "auroc": auroc(
            patient_margins(bags, passes[0].margin[0]), patient_labels(bags, bags.labels)
        ),
        "p": null.p_value,
        "with": int((bags.labels == 0).sum()),
        "pieces": len(bags.slides),
        "shown": int(drawn.shown[own].sum()),
        "shown_on_granule": int((drawn.shown & granule)[own].sum()),
        "granule": int(granule.sum()),
        "spots": int(own.sum()),
        "map": spots,
    }


def _of_animals(bags: Bags, animal: np.ndarray) -> list[np.ndarray]:
    """Rows of the spots of each animal's pieces with granule cells."""
    with_them = bags.labels == bags.classes.index("with")
    lengths = np.diff(bags.starts)
    return [np.repeat(with_them & (animal == k), lengths) for k in np.unique(animal)]


def tables(found: Mapping[str, dict[str, Any]], _context: Context) -> Sequence[Table]:
    rows = []
    if cuts := [at for name, at in found.items() if name.startswith("layers-")]:
        of = {name: [at["map"][name] for at in cuts] for name in ("z", "necessity", "attention")}
        words = {name: f"{np.mean(v):.2f} ({min(v):.2f} to {max(v):.2f})" for name, v in of.items()}
        told = [at["auroc"] for at in cuts]
        drawn, right = (sum(at[name] for at in cuts) for name in ("shown", "shown_on_granule"))
        base = sum(at["granule"] for at in cuts) / sum(at["spots"] for at in cuts)
        rows += [
            Row(f"granule cell spots, AUROC of the map, mean of {len(cuts)} cuts", words["z"],
                f"mean attention {words['attention']}, necessity {words['necessity']}", "printed"),
            Row("pieces of the other animal told apart, AUROC", f"{np.mean(told):.2f} ({min(told):.2f} to {max(told):.2f})",
                "no evidence: two animals", "printed"),
            Row("spots drawn that are granule cell layer", f"{right} of {drawn}", f"{base:.0%} of all spots of these pieces", "printed"),
        ]  # fmt: skip
    if at := found.get("organs"):
        rows.append(Row("bulb and breast told apart, AUROC (smoke test)", f"{at['auroc']:.2f}", "", "1", at["auroc"] == 1))  # fmt: skip
    return (
        [Table("Localising on real tissue", ("what", "found", "beside", "bar"), tuple(rows))]
        if rows
        else []
    )
