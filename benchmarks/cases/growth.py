"""Growth: time and peak memory of fit, baselines, prediction and scoring with spots on one section, and with genes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from benchmarks.harness import Context, Row, Table
from benchmarks.measure import peak_memory_gb, slope, timed
from benchmarks.synthetic import make_cohort

NAME = "growth"
BAR = 1.1
_SPOTS = {False: (2_000, 6_000, 18_000), True: (5_000, 20_000, 80_000, 200_000)}
_GENES = {False: (800, 2_400, 7_200), True: (500, 2_000, 6_000, 18_000)}
_STAGES = ("fit", "baselines", "predict and score")


def parts(context: Context) -> Mapping[str, Mapping[str, Any]]:
    spots = {
        f"spots-{n:06d}": {"spots": n, "genes": 300, "dim": 256, "depth": 1500.0}
        for n in _SPOTS[context.full]
    }
    genes = {
        f"genes-{g:05d}": {"spots": 1500, "genes": g, "dim": 128, "depth": 4000.0}
        for g in _GENES[context.full]
    }
    return {**spots, **genes}


def run(parameters: Mapping[str, Any], context: Context) -> dict[str, Any]:
    from hespotex.config import Machine, ModelConfig, RunConfig
    from hespotex.evaluation import evidence
    from hespotex.evaluation.held_out import evaluate_bundle
    from hespotex.models.fit import fit_bundle
    from hespotex.validation.cross_validation import with_baselines

    del evidence  # imported, so that its time and memory are not counted below
    where = Machine(device="cpu", threads=context.threads)
    small = make_cohort([60], 40, dim=16, seed=1)
    short = RunConfig(model=ModelConfig(epochs=1)).with_genes(small.items[0].section.genes.tolist())
    evaluate_bundle(with_baselines(fit_bundle(small, short), small), small, small, machine=where)
    idle = peak_memory_gb()
    cohort = make_cohort(
        [parameters["spots"]], parameters["genes"], dim=parameters["dim"], depth=parameters["depth"]
    )
    config = RunConfig().with_genes(cohort.items[0].section.genes.tolist())
    found: dict[str, Any] = {}
    with timed() as spent:
        bundle = fit_bundle(cohort, config, machine=where)
    found["fit"] = spent.as_dict()
    with timed() as spent:
        bundle = with_baselines(bundle, cohort)
    found["baselines"] = spent.as_dict()
    with timed() as spent:
        # Predicting the section itself costs what another of its size does; the scores are not looked at.
        evaluate_bundle(bundle, cohort, cohort, machine=where)
    found["predict and score"] = spent.as_dict()
    table = cohort.items[0].section.counts
    return {
        **parameters,
        "counts_above_zero": int(table.nnz),
        "peak_gb": peak_memory_gb(),
        "idle_gb": idle,
        "stages": found,
    }


def tables(found: Mapping[str, dict[str, Any]], _context: Context) -> Sequence[Table]:
    rows: list[Row] = []
    for axis, fixed in (("spots", "genes"), ("genes", "spots")):
        points = [r for name, r in sorted(found.items()) if name.startswith(axis)]
        if len(points) < 2:
            continue
        sizes = [r[axis] for r in points]
        span = " / ".join(f"{s:,}" for s in sizes)
        rows.append(Row(f"{axis} {span} ({points[0][fixed]:,} {fixed})", "slope, then the values"))
        totals = [sum(r["stages"][s]["core_s"] for s in _STAGES) for r in points]
        rows.append(_row("all stages", sizes, totals, "core-s", decides=True))
        for stage in _STAGES:
            seconds = [r["stages"][stage]["core_s"] for r in points]
            rows.append(_row(f"  {stage}", sizes, seconds, "core-s", decides=False))
        memory = [r["peak_gb"] - r["idle_gb"] for r in points]
        rows.append(_row("peak memory over the libraries' own", sizes, memory, "GB", decides=True))
    notes = (
        "Slope: exponent of the least squares line through the logarithms; 1 is linear. The second figure is the exponent "
        "between the two largest sizes alone, where constants weigh least; both have to hold.",
    )
    return [Table("Growth", ("what", "slope (all, last two)", "values", "bar"), tuple(rows), notes)]


def _row(
    what: str, sizes: Sequence[float], values: Sequence[float], unit: str, *, decides: bool
) -> Row:
    whole, last = slope(sizes, values), slope(sizes[-2:], values[-2:])
    return Row(
        what,
        f"{whole:.2f}, {last:.2f}",
        " / ".join(f"{v:.2f}" for v in values) + f" {unit}",
        f"<= {BAR:g}" if decides else "",
        max(whole, last) <= BAR if decides else None,
    )
