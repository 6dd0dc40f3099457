"""Simulated truth: FDR and power of "better than a smooth random map beyond depth" over 100 seeds, test alone and whole run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from benchmarks.harness import Context, Row, Table
from benchmarks.measure import timed
from benchmarks.synthetic import (
    PITCH_UM,
    SIDES_UM,
    gaussian_maps,
    gaussian_squares,
    hexagonal_lattice,
    paired_counts,
    section_of,
    square_lattice,
)

NAME = "simulated_truth"
FDR = 0.05
SEEDS = 100
SEEDS_OF_QUICK_RUNS = 20
GENES = 120
# Spots a section, sections, whether they are of one patient, length of the maps in spots, counts a spot and gene, strength.
TESTS: Mapping[str, Mapping[str, Any]] = {
    "3 patients": {"sections": 3, "one_patient": False},
    "1 section": {"sections": 1, "one_patient": False},
    "3 sections of one patient": {"sections": 3, "one_patient": True},
    "3 patients, smoother maps": {"sections": 3, "one_patient": False, "reach": 4.0},
    "3 patients, shallow": {"sections": 3, "one_patient": False, "mean": 0.3},
    "3 patients, no true gene": {"sections": 3, "one_patient": False, "true": 0},
}
# Squares of a fine lattice: so many on a side, maps of 300 um where no other length is named, counts of a gene in a square
# (shallow: 0.035 in a bin of 16 um).
SQUARES: Mapping[str, Mapping[str, Any]] = {
    "3 patients, 10,000 squares of 64 um": {"side": 100, "reach": 4.7, "mean": 0.5},
    "3 patients, 10,000 squares of 32 um": {"side": 100, "reach": 9.4, "mean": 0.125},
    "3 patients, 10,000 squares of 32 um, deep": {"side": 100, "reach": 9.4, "mean": 4.0},
    "3 patients, 10,000 squares of 32 um, maps of 100 um": {"side": 100, "reach": 3.1, "mean": 0.5},
    "3 patients, 40,000 squares of 32 um": {"side": 200, "reach": 9.4, "mean": 0.125},
    "3 patients, 10,000 bins of 16 um": {"side": 100, "reach": 19.0, "mean": 0.035},
    "3 patients, 10,000 bins of 16 um, deep": {"side": 100, "reach": 19.0, "mean": 1.0},
    "3 patients, 10,000 bins of 16 um, maps of 100 um": {"side": 100, "reach": 6.2, "mean": 0.035},
    "3 patients, 10,000 bins of 16 um, maps of 100 um, deep": {
        "side": 100,
        "reach": 6.2,
        "mean": 1.0,
    },
}
SEEDS_ON_SQUARES = 40
RUNS: Mapping[str, Mapping[str, Any]] = {
    "whole run": {"true": 20, "mean": 2.0},
    "whole run, shallow": {"true": 20, "mean": 0.4},
    "whole run, no true gene": {"true": 0, "mean": 2.0},
}
_SPOTS = 180
_SIGNALS = 6


def parts(context: Context) -> Mapping[str, Mapping[str, Any]]:
    tests = {name: {"kind": "test", "seeds": SEEDS, **how} for name, how in TESTS.items()}
    seeds = SEEDS if context.full else SEEDS_OF_QUICK_RUNS
    runs = {name: {"kind": "run", "seeds": seeds, **how} for name, how in RUNS.items()}
    shared = {"kind": "test", "seeds": SEEDS_ON_SQUARES, "sections": 3, "one_patient": False}
    return tests | {name: {**shared, **how} for name, how in SQUARES.items()} | runs


def run(parameters: Mapping[str, Any], _context: Context) -> dict[str, Any]:
    how = dict(parameters)
    once = {"test": _test_once, "run": _run_once}[how.pop("kind")]
    seeds, n_true = how.pop("seeds"), how.pop("true", 20)
    shares, naive, power, found = [], [], [], []
    with timed() as spent:
        for seed in range(seeds):
            significant, independent = once(seed, n_true, **how)
            found.append(int(significant.sum()))
            shares.append(_false_share(significant, n_true))
            naive.append(_false_share(independent, n_true))
            power.append(float(significant[:n_true].mean()) if n_true else float("nan"))
    return {
        "fdr": float(np.mean(shares)),
        "fdr_error": float(np.std(shares, ddof=1) / np.sqrt(seeds)),
        "fdr_as_independent": float(np.mean(naive)),
        "seeds": seeds,
        "power": float(np.mean(power)),
        "found": float(np.mean(found)),
        "true": n_true,
        "genes": GENES,
        **spent.as_dict(),
    }


def _false_share(significant: np.ndarray, n_true: int) -> float:
    return float(significant[n_true:].sum() / max(significant.sum(), 1))


def _test_once(
    seed: int,
    n_true: int,
    *,
    sections: int,
    one_patient: bool,
    reach: float = 2.0,
    mean: float = 6.0,
    side: int | None = None,
) -> tuple[np.ndarray, np.ndarray]:
    """(G,) significant, and with all sections taken as independent, where predictions are smooth maps that the first genes follow in part."""
    from hespotex.evaluation.noise_ceiling import noise_ceiling
    from hespotex.evaluation.spatial_null import build_modes, combine_sections, score_against_null

    rng = np.random.default_rng(seed)
    xy_um = hexagonal_lattice(_SPOTS) if side is None else square_lattice(side)
    modes = build_modes(xy_um)

    def maps(reach: float, count: int) -> np.ndarray:
        if side is None:
            return gaussian_maps(xy_um, reach * PITCH_UM, count, rng)
        return gaussian_squares(side, reach, count, rng)

    z, ceilings, drawn = [], [], None
    for number in range(sections):
        if drawn is None or not one_patient:
            # Neighbouring sections of one patient share maps and chance alignments alike; counts are their own.
            drawn = [maps(reach, GENES) for _ in range(2)]
            drawn[0][:, 1::2] = -drawn[0][
                :, 0::2
            ]  # as `paired_counts` turns the second of two over
            depth = np.exp(0.7 * maps(3.0, 1))
        predicted, own = drawn
        truth = own.copy()
        truth[:, :n_true] = 0.5 * predicted[:, :n_true] + np.sqrt(0.75) * own[:, :n_true]
        counts = paired_counts(truth, depth, mean, rng)
        z.append(score_against_null(predicted, counts, modes).z)
        ceilings.append(noise_ceiling(counts, seed=number).composition)
    patients = ["P"] * sections if one_patient else [f"P{i}" for i in range(sections)]
    honest, naive = combine_sections(z, patients, ceilings), combine_sections(z)
    return honest.q_value <= FDR, naive.q_value <= FDR


def _run_once(seed: int, n_true: int, *, mean: float) -> tuple[np.ndarray, np.ndarray]:
    """(G,) significant, and with all sections taken as independent, after leaving out each of three patients: fit, prediction, scores and verdict of the product."""
    import pandas as pd

    from hespotex.config import RunConfig
    from hespotex.evaluation.evidence import judge_genes
    from hespotex.results.run_outputs import gene_rows
    from hespotex.sections.splits import make_folds
    from hespotex.validation.cross_validation import run_fold

    cohort = _truth_cohort(seed, n_true, mean)
    names = [f"G{i:05d}" for i in range(GENES)]
    config = RunConfig.from_values(
        {"seed": seed, "model": {"ensemble": 1, "epochs": 10}, "trust": {"calibrate": False}}
    ).with_genes(names)
    ids = [item.section.section_id for item in cohort.items]
    owners = {item.section.section_id: item.section.patient_id for item in cohort.items}
    rows, trained_on = [], {}
    for number, fold in enumerate(make_folds(ids, list(owners.values()), "patient")):
        outcome = run_fold(cohort, fold, config)
        rows += [gene_rows(number, outcome.bundle.genes, held) for held in outcome.held_out]
        trained_on |= dict.fromkeys(fold.held_out, fold.train)
    table, q_values = pd.concat(rows), []
    for trained in (trained_on, None):
        judged = judge_genes(table, owners, owners, nominal=0.9, trained_on=trained)
        q_values.append(judged.set_index("gene").loc[names, "q_value"].to_numpy())
    return q_values[0] <= FDR, q_values[1] <= FDR


def _truth_cohort(seed: int, n_true: int, mean: float) -> Any:
    """Three patients: features show a few maps and the depth; the first genes follow these maps, the others their own."""
    from hespotex.models.types import Cohort, EncoderRecord

    world = np.random.default_rng([seed, 1])
    loading = world.normal(size=(_SIGNALS, n_true))
    loading /= np.linalg.norm(loading, axis=0)
    dim = 12
    mixing = world.normal(size=(_SIGNALS + 1, len(SIDES_UM) * dim))
    items = []
    for number in range(3):
        rng = np.random.default_rng([seed, 2, number])
        xy_um = hexagonal_lattice(_SPOTS)
        signals = gaussian_maps(xy_um, 2.5 * PITCH_UM, _SIGNALS + 1, rng)
        truth = gaussian_maps(xy_um, 2.5 * PITCH_UM, GENES, rng)
        truth[:, :n_true] = signals[:, :-1] @ loading
        counts = paired_counts(truth, np.exp(0.7 * signals[:, -1:]), mean, rng)
        features = signals @ mixing + 1.5 * rng.normal(size=(len(xy_um), mixing.shape[1]))
        items.append(
            section_of(
                f"S{number}", f"P{number}", xy_um, counts, features.reshape(-1, len(SIDES_UM), dim)
            )
        )
    record = EncoderRecord("synthetic", "synthetic", dim, 224, (0.5,) * 3, (0.5,) * 3)
    return Cohort(tuple(items), record, SIDES_UM)


def tables(found: Mapping[str, dict[str, Any]], _context: Context) -> Sequence[Table]:
    rows = tuple(
        Row(
            f"{name}: {r['true']} of {r['genes']} genes predictable, {r['seeds']} seeds",
            f"FDR {r['fdr']:.3f} +- {r['fdr_error']:.3f}",
            (
                "no gene to find"
                if not r["true"]
                else f"power {r['power']:.2f}, {r['found']:.1f} genes found"
            )
            + f"; sections taken as independent: FDR {r['fdr_as_independent']:.3f}",
            f"<= {FDR:g} + 2 errors",
            r["fdr"] <= FDR + 2 * r["fdr_error"],
        )
        for name, r in found.items()
    )
    notes = (
        f"{_SPOTS} spots a section where no squares are named; +- is the standard error over seeds. First rows: the test alone, on "
        "predictions that the predictable genes follow in part (correlation 0.5 before counting). `whole run`: each of "
        "three patients left out in turn by `run_fold`; features show six maps and the depth, predictable genes follow "
        "the maps, all others are smooth maps of their own.",
    )
    return [Table("Simulated truth", ("what", "false discoveries", "power", "bar"), rows, notes)]
