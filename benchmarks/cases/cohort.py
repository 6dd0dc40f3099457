"""From slides to patients: memory of 2,000 files, stated effects found, none in shuffled labels, workers killed, slides an hour."""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from benchmarks.harness import Context, Row, Table
from benchmarks.made_predictions import pooled_of, write_made_prediction
from benchmarks.measure import peak_memory_gb, timed
from benchmarks.painted_slides import measure_painted, painted_model
from benchmarks.wide_cohort import measure_tests, measure_wide

NAME = "cohort"
FILES = 2_000
PATIENTS = 200
GENES = 100
SHUFFLES = 3
EFFECT = 0.5  # of group b, natural log, in the first genes
HAZARD = 2.0  # of one unit of the natural log of one gene
TRUE = 10  # genes with an effect, of bulk and of groups each
MOST_GB = 1.0


def parts(_context: Context) -> Mapping[str, Mapping[str, Any]]:
    painted = {
        "slides": PATIENTS,
        "train": 24,
        "side_um": 600.0,
        "pitch_um": 100.0,
        "mpp": 4.0,
        "genes": 100,
    }
    return {
        "files": {"files": FILES, "genes": 1_000, "side": 20, "distinct": 8},
        "effects": {"patients": PATIENTS, "genes": GENES, "side": 5, "shuffles": SHUFFLES},
        "wide": {"rows": 1_000, "wide": 18_000},
        "wide-tests": {
            "sizes": [1_000, 2_000, 4_000],
            "tested": 8,
            "patients": 10_000,
            "genes": 18_000,
        },
        "painted": painted,
        "killed": {**painted, "slides": 12, "train": 4, "kills": 20, "workers": 2},
    }


def run(parameters: Mapping[str, Any], context: Context) -> dict[str, Any]:
    work = context.work / "cohort"
    work.mkdir(parents=True, exist_ok=True)
    if "distinct" in parameters:
        return _files(parameters, work / "files")
    if "sizes" in parameters:
        return measure_tests(parameters)
    if "wide" in parameters:
        return measure_wide(parameters, work / "wide")
    if "patients" in parameters:
        return _effects(parameters, work / "effects")
    if "kills" in parameters:
        from benchmarks.killed_workers import kill_workers

        return kill_workers(*painted_model(parameters, work), parameters, work / "killed")
    return measure_painted(parameters, work)


def _files(parameters: Mapping[str, Any], folder: Path) -> dict[str, Any]:
    """Files differ in name and id; their content repeats, which neither time nor memory knows."""
    import h5py

    from hespotex.analysis.cohort import cohort

    shutil.rmtree(folder, ignore_errors=True)
    genes = [f"G{j}" for j in range(parameters["genes"])]
    rng = np.random.default_rng(0)
    made = [
        write_made_prediction(
            folder / "made" / f"{k}.h5ad", level=rng.normal(scale=0.3, size=len(genes)), section_id="x", patient_id="",
            genes=genes, side=parameters["side"], seed=k,
        )
        for k in range(parameters["distinct"])
    ]  # fmt: skip
    (folder / "predictions").mkdir()
    for k in range(parameters["files"]):
        path = Path(shutil.copy(made[k % len(made)], folder / "predictions" / f"S{k}.h5ad"))
        with h5py.File(path, "a") as file:
            file["uns/hespotex/section_id"][()] = f"S{k}"
    before = peak_memory_gb()
    with timed() as spent:
        found = cohort(folder / "predictions", folder / "cohort")
    first = peak_memory_gb()
    with timed() as again:
        cohort(folder / "predictions", folder / "cohort")
    shutil.rmtree(folder)
    return {
        "rows": found.n_rows, "failed": found.n_failed, "peak_gb": first, "before_gb": before, **spent.as_dict(),
        "again_s": again.wall,
    }  # fmt: skip


def _effects(parameters: Mapping[str, Any], folder: Path) -> dict[str, Any]:
    """Levels, bulk, groups and survival are stated; then each label is shuffled over the patients."""
    from hespotex.analysis.association.bulk import against_bulk
    from hespotex.analysis.association.groups import between_groups
    from hespotex.analysis.association.patients import read_patients
    from hespotex.analysis.association.survival import with_survival
    from hespotex.analysis.cohort import cohort
    from hespotex.progress import Silent

    shutil.rmtree(folder, ignore_errors=True)
    n, n_genes = parameters["patients"], parameters["genes"]
    rng = np.random.default_rng(3)
    genes, names = [f"G{j}" for j in range(n_genes)], [f"P{i}" for i in range(n)]
    level = rng.normal(scale=0.4, size=(n, n_genes))
    group = rng.permutation(np.arange(n) % 2)
    level[:, :TRUE] += EFFECT * group[:, None]
    hidden = rng.normal(scale=0.4, size=(n, n_genes))
    hidden[:, TRUE : 2 * TRUE] = level[:, TRUE : 2 * TRUE]
    time = rng.exponential(30 * np.exp(-HAZARD * level[:, 3 * TRUE]))
    lost = rng.exponential(60, size=n)
    clinical = pd.DataFrame(
        {"patient_id": names, "arm": np.array(["a", "b"])[group], "months": np.minimum(time, lost), "death": (time <= lost).astype(int)}
    )  # fmt: skip
    for i, name in enumerate(names):
        write_made_prediction(
            folder / "predictions" / f"{name}.h5ad", level=level[i], section_id=name, patient_id=name, genes=genes,
            side=parameters["side"], seed=i, depth=float(rng.uniform(500, 2_000)),
        )  # fmt: skip
    clinical.to_csv(folder / "clinical.csv", index=False)
    share = pooled_of(n_genes) * np.exp(hidden + rng.normal(scale=0.2, size=hidden.shape))
    bulk = pd.DataFrame(1e6 * share / share.sum(axis=1, keepdims=True), index=names, columns=genes)
    bulk.to_csv(folder / "bulk.csv")
    with timed() as spent:
        table = cohort(
            folder / "predictions", folder / "c", clinical=folder / "clinical.csv"
        ).paths.h5ad
    out: dict[str, Any] = {"cohort_s": spent.wall, "wall_s": spent.wall, "core_s": spent.core}
    true = {
        "bulk": set(genes[TRUE : 2 * TRUE]), "group": set(genes[:TRUE]), "survival": {genes[3 * TRUE]},
    }  # fmt: skip

    def test(kind: str, shuffled: int | None) -> Any:
        patients = read_patients(table)
        path = folder / "bulk.csv"
        if shuffled is not None:
            order = np.random.default_rng([8, shuffled]).permutation(n)
            patients.obs[["arm", "months", "death"]] = patients.obs[
                ["arm", "months", "death"]
            ].to_numpy()[order]
            patients.obs[["months", "death"]] = patients.obs[["months", "death"]].astype(float)
            path = folder / "shuffled.csv"
            bulk.iloc[order].set_axis(bulk.index).to_csv(path)
        if kind == "bulk":
            return against_bulk(patients, path)
        if kind == "group":
            return between_groups(patients, "arm", Silent())
        return with_survival(patients, "months", "death", Silent())

    for kind, expected in true.items():
        with timed() as spent:
            found = test(kind, None)
        hits = set(found.table.loc[found.table["q_value"] <= 0.05, "feature"])
        null = [
            int((test(kind, k).table["q_value"] <= 0.05).sum())
            for k in range(parameters["shuffles"])
        ]
        out[kind] = {
            "found": len(hits & expected), "of": len(expected), "others": len(hits - expected),
            "shuffled": null, "wall_s": spent.wall, "sentences": list(found.findings),
        }  # fmt: skip
    out["peak_gb"] = peak_memory_gb()
    shutil.rmtree(folder)
    return out


def tables(found: Mapping[str, dict[str, Any]], _context: Context) -> Sequence[Table]:
    rows = []
    if r := found.get("files"):
        rows.append(
            Row(
                f"cohort of {r['rows']:,} files of 400 spots x 1,000 genes", f"peak {r['peak_gb']:.2f} GB, {r['wall_s']:.0f} s",
                f"{r['before_gb']:.2f} GB before it began; again with nothing new {r['again_s']:.0f} s",
                f"below {MOST_GB:g} GB", bool(r["peak_gb"] < MOST_GB and not r["failed"]),
            )
        )  # fmt: skip
    if r := found.get("effects"):
        for kind in ("bulk", "group", "survival"):
            k = r[kind]
            rows.append(
                Row(
                    f"{kind}: {PATIENTS} made predictions with stated levels", f"{k['found']} of {k['of']} found, {k['others']} others; {k['wall_s']:.0f} s",
                    f"discoveries in shuffled labels: {', '.join(map(str, k['shuffled']))}",
                    "all found, mean of shuffled at most 1", bool(k["found"] == k["of"] and np.mean(k["shuffled"]) <= 1),
                )
            )  # fmt: skip
    if r := found.get("wide"):
        rows.append(
            Row(
                f"associate --bulk: {r['patients']:,} patients x {r['genes']:,} genes", f"{r['wall_s']:.0f} s, {r['core_s']:.0f} core-s; peak {r['peak_gb']:.2f} GB",
                f"{r['before_gb']:.2f} GB before it began",
            )
        )  # fmt: skip
    if r := found.get("wide-tests"):
        rows.append(_of_wide_tests(r))
    if r := found.get("painted"):
        rows += _of_painted(r)
    if r := found.get("killed"):
        rows.append(
            Row(
                f"{r['slides']} slides, {r['killed']} kills of workers at random", f"{r['done']} done, {r['lost']} lost, {r['twice']} twice",
                f"{r['calls']} calls of predict, {r['wall_s']:.0f} s", "nothing lost, nothing twice", bool(not r["lost"] and not r["twice"]),
            )
        )  # fmt: skip
    return [
        Table(
            "From slides to patients",
            ("what", "found", "beside", "bar"),
            tuple(rows),
            ("Made predictions go through the writer of real ones. Survival's and bulk's effects are stated on made levels: slides of the model's own level are `painted`.",),
        )
    ]  # fmt: skip


def _of_wide_tests(r: Mapping[str, Any]) -> Row:
    per = [
        f"{n:,}: linear model {p['linear_s']:.4f}, Cox {p['cox_s']:.3f}, classifier {p['classifier_s']:.1f}, concordance {p['concordance_s']:.1f}"
        for n, p in zip(r["sizes"], r["rows"], strict=True)
    ]
    hours = r["core_hours"]
    return Row(
        "associate --group and --time: core-s of a gene's model and of one cross-validated profile, by patients", "; ".join(per),
        f"{r['patients']:,} patients x {r['genes']:,} genes, extrapolated: groups {hours['group']:.1f}, survival {hours['survival']:.1f} core-h",
    )  # fmt: skip


def _of_painted(r: Mapping[str, Any]) -> list[Row]:
    per_hour, core_h = 3600 * r["slides"] / r["wall_s"], r["core_s"] / 3600 / r["slides"]
    rows = [
        Row(
            f"{r['slides']} painted slides of {r['spots'] / r['slides']:.0f} spots, one thread",
            f"{per_hour:,.0f} slides an hour, {core_h:.2e} core-h a slide; peak {r['peak_gb']:.2f} GB",
            f"10,000 such slides, extrapolated: {10_000 * core_h:,.1f} core-h",
            note="small slides: hours follow spots, not slides",
        )
    ]
    said = {
        "group": "arm b has more tumour",
        "survival": "tumour shortens life",
        "bulk": "bulk as painted",
    }
    for kind, what in said.items():
        seen, null = (r["analyses"][label][kind] for label in ("as painted", "shuffled"))
        rows.append(
            Row(
                f"{kind}, from pictures: {what}", f"{seen['found']} of {seen['of']} genes; {seen['wall_s']:.0f} s",
                f"{seen['of_tissues']} of the {r['tissue_genes']} genes of the tissues that differ; patients shuffled: {null['found']}", "some found; at most 1 in shuffled patients", bool(seen["found"] > 0 and null["found"] <= 1),
            )
        )  # fmt: skip
    return rows
