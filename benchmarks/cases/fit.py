"""Training one fold, features cached: the default profile's fit (all seeds) beside the published profile's, one process."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from benchmarks.data import published_sections, three_sections
from benchmarks.harness import Context, Row, Table
from benchmarks.measure import ratio, time_of
from benchmarks.published_cost import published_fit

NAME = "fit"
BAR = 20.0


def parts(_context: Context) -> Mapping[str, Mapping[str, Any]]:
    return {"one-fold": {"held_out": 0}}


def run(parameters: Mapping[str, Any], context: Context) -> dict[str, Any]:
    from hespotex.models.fit import fit_bundle

    cohort, config, what = three_sections(context)
    held_out = parameters["held_out"]
    train = replace(cohort, items=tuple(x for i, x in enumerate(cohort.items) if i != held_out))
    short = config.model_copy(update={"model": config.model.model_copy(update={"epochs": 1})})
    fit_bundle(train, short)  # the first call pays for imports
    bundle, ours = time_of(lambda: fit_bundle(train, config), 3)
    published, how = published_fit(published_sections(train, config), full=context.full)
    return {
        "data": what,
        "sections": len(train.items),
        "spots": sum(x.section.n_spots for x in train.items),
        "genes": len(bundle.genes),
        "networks": config.model.ensemble,
        "default": ours,
        "published": published,
        "published_how": how,
        "ratio": ratio(published, ours),
    }


def tables(found: Mapping[str, dict[str, Any]], context: Context) -> Sequence[Table]:
    r = found["one-fold"]
    times = r["ratio"]
    row = Row(
        f"train one fold, {r['data']}: {r['sections']} sections, {r['spots']} spots, {r['genes']:,} genes, "
        f"{context.threads} cores",
        f"{r['default']['wall_s']:.2f} s wall, {r['default']['core_s']:.2f} core-s: {times['counts']:.0f}x",
        f"published {r['published']['wall_s']:.0f} s wall, {r['published']['core_s']:.0f} core-s",
        f">= {BAR:g}x",
        times["counts"] >= BAR,
        f"fit alone, {r['networks']} networks; published: {r['published_how']}; ratio {times['wall']:.0f}x by wall, "
        f"{times['core']:.0f}x by core time, the smaller counts",
    )
    return [Table("Training", ("what", "ours", "reference", "bar"), (row,))]
