"""Coverage of the intervals of composition by size of region, on counts, and whether the ensemble's spread follows the error."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from benchmarks.cases.accuracy import SPLITS
from benchmarks.data import machine, panel
from benchmarks.harness import Context, Row, Table
from benchmarks.measure import timed
from benchmarks.synthetic import make_cohort

NAME = "region_coverage"
LEVELS = (0.5, 0.8, 0.9, 0.95)
SIZES = (1, 4, 9, 25)
BAR_POINTS = 3.0
SEEDS = 50
ABUNDANT = 200
_WHERE = {
    "exchangeable": "exchangeable: made sections of one kind, five in training",
    "C-left-out": "same patient: C2, C3, C4 left out in turn",
    "C-to-B4": "another patient: C to B4",
    "B4-to-C": "another patient: B4 to C",
    "MOB4-to-MOB9": "another animal: MOB4 to MOB9",
    "MOB9-to-MOB4": "another animal: MOB9 to MOB4",
}


def parts(context: Context) -> Mapping[str, Mapping[str, Any]]:
    real = {
        name: {"data": data, "train": list(train), "held_out": list(held_out)}
        for name, (data, train, held_out) in SPLITS.items()
        if context.has(data) and panel(context, data)
    }
    made = {"seeds": SEEDS, "train": 5, "held_out": 3, "spots": 200, "genes": 100}
    return {"exchangeable": made, **real}


def run(parameters: Mapping[str, Any], context: Context) -> dict[str, Any]:
    with timed() as spent:
        of_data = "data" in parameters
        folds = _of_data(parameters, context) if of_data else _made(parameters)
        found = [_of_fold(*fold) for fold in folds]
    # Sections of one fold share their calibration: a fold is one unit.
    table = np.stack([f["coverage"] for f in found])
    n = np.sqrt(max(len(table), 2))
    abundant = np.mean([f["abundant"] for f in found], axis=0)
    error = table.std(axis=0, ddof=1) / n if len(table) > 1 else np.zeros(table.shape[1:])
    rho = np.concatenate([f["rho"] for f in found])
    rho = rho[np.isfinite(rho)]
    return {
        "seen": table.mean(axis=0).tolist(),
        "error": error.tolist(),
        "abundant": abundant.tolist(),
        "width": np.mean([f["width"] for f in found], axis=0).tolist(),
        "regions": np.sum([f["regions"] for f in found], axis=0).tolist(),
        "spread_median": float(np.median(rho)),
        "spread_quarters": np.quantile(rho, [0.25, 0.75]).tolist(),
        "spread_above": float((rho > 0).mean()),
        **spent.as_dict(),
    }


def _of_data(parameters: Mapping[str, Any], context: Context) -> Iterator[tuple[Any, Any, Any]]:
    """(training sections, held-out sections, configuration) of every fold, with their features."""
    from hespotex.config import RunConfig
    from hespotex.progress import Silent
    from hespotex.stages import encode, read_sections

    data, train, held_out = (parameters[k] for k in ("data", "train", "held_out"))
    config = RunConfig(seed=0).with_genes(panel(context, data) or [])
    sections = read_sections(context.data / data / "sections.csv", [*train, *held_out], Silent())
    cohort = encode(sections, config, machine(context), Silent())
    if train:
        yield cohort.subset(train), cohort.subset(held_out), config
        return
    for left_out in held_out:
        rest = [name for name in held_out if name != left_out]
        yield cohort.subset(rest), cohort.subset([left_out]), config


def _made(parameters: Mapping[str, Any]) -> Iterator[tuple[Any, Any, Any]]:
    from hespotex.config import RunConfig

    n_train, n_all = parameters["train"], parameters["train"] + parameters["held_out"]
    for seed in range(parameters["seeds"]):
        cohort = make_cohort([parameters["spots"]] * n_all, parameters["genes"], dim=16, seed=seed)
        names = cohort.items[0].section.genes
        config = RunConfig.from_values({"seed": seed, "model": {"ensemble": 2}})
        config = config.with_genes([] if names is None else names.tolist())
        ids = [item.section.section_id for item in cohort.items]
        yield cohort.subset(ids[:n_train]), cohort.subset(ids[n_train:]), config


def _of_fold(train: Any, held_out: Any, config: Any) -> dict[str, Any]:
    """Coverage (S, L), of all genes and of the most abundant, regions (S,), median half width (S,) of one model."""
    from hespotex.evaluation.region_intervals import region_coverage, spread_follows_error
    from hespotex.evaluation.regions import held_out_regions
    from hespotex.evaluation.trust import bundle_trust
    from hespotex.genes.panel import GenePanel
    from hespotex.models.fit import fit_bundle
    from hespotex.models.predict import predict_section
    from hespotex.validation.cross_validation import calibrated

    bundle = calibrated(fit_bundle(train, config), train)
    intervals = bundle_trust(bundle).regions
    assert intervals is not None
    shares, of_abundant, rho, regions = [], [], [], np.zeros(len(SIZES), int)
    abundant = np.zeros(len(bundle.genes), bool)
    abundant[GenePanel(bundle.genes, bundle.training_totals).abundant(ABUNDANT)] = True
    for item in held_out.items:
        prediction = predict_section(bundle, item.without_expression())
        counts = GenePanel(bundle.genes).counts(item.section)
        section = held_out_regions(prediction, bundle.pooled, counts, item.section.xy_um)
        shares.append(region_coverage(intervals, section))
        of_abundant.append(region_coverage(intervals, _of_genes(section, abundant)))
        regions += [len(section.by_size[s].counts) if s in section.by_size else 0 for s in SIZES]
        assert prediction.spread is not None
        rho.append(spread_follows_error(intervals, section, prediction.spread))
    return {
        "coverage": np.mean(shares, axis=0),
        "abundant": np.mean(of_abundant, axis=0),
        "rho": np.concatenate(rho),
        "width": np.nanmedian(intervals.half_width(0.9), axis=1),
        "regions": regions,
    }


def _of_genes(section: Any, genes: np.ndarray) -> Any:
    """The same regions with these genes alone."""
    by_size = {n: replace(r, genes=r.genes & genes) for n, r in section.by_size.items()}
    return replace(section, by_size=by_size)


def tables(found: Mapping[str, dict[str, Any]], _context: Context) -> Sequence[Table]:
    rows = []
    for name, r in found.items():
        seen, error = np.array(r["seen"]), np.array(r["error"])
        made = name == "exchangeable"
        for k, size in enumerate(SIZES):
            text = " / ".join(f"{share:.1%}" for share in seen[k])
            if made:
                text += " +- " + " / ".join(f"{e:.1%}" for e in error[k])
            most = " / ".join(f"{share:.1%}" for share in r["abundant"][k])
            of_most = "" if made else f"; the {ABUNDANT} most abundant genes: {most}"
            beyond = 100 * np.abs(seen[k] - LEVELS).max()
            rows.append(
                Row(
                    f"{_WHERE[name]}: {size} spot{'' if size == 1 else 's'}",
                    text,
                    f"half width of the median gene at 90 %: {r['width'][k]:.2f}; {r['regions'][k]:,} regions{of_most}",
                    f"within {BAR_POINTS:g} points" if made else "",
                    bool(beyond <= BAR_POINTS) if made else None,
                )
            )
    spread = tuple(
        Row(
            _WHERE[name],
            f"median {r['spread_median']:.3f}, middle half {r['spread_quarters'][0]:.3f} to {r['spread_quarters'][1]:.3f}",
            f"above 0 in {r['spread_above']:.0%} of the genes",
        )
        for name, r in found.items()
    )
    return [
        Table(
            "Coverage of composition, by size of region",
            ("sections and region", "nominal 50 / 80 / 90 / 95 %", "width and number", "bar"),
            tuple(rows),
            (
                "Share of the regions' measured counts inside the interval convolved with counting noise, mean over genes, "
                "then sections; regions share no spot. Calibrated on left-out training sections (blocks where there is one). "
                "+- is the standard error over seeds. Coverage is promised for exchangeable sections alone.",
            ),
        ),
        Table(
            "Does the ensemble's spread follow the error of composition?",
            ("sections", "Spearman over the spots, by gene", "", "bar"),
            spread,
            ("The error is what one width for the gene and counting noise leave unexplained.",),
        ),
    ]
