"""What each part of the default model brings, on her2st and the olfactory bulb, with bootstrap intervals.

    python benchmarks/ablation/run.py [--shared FOLDER] [--cache FOLDER] [--variants NAME ...] [--threads 1]
                                      [--markdown] [--anew]

Pairs: C2, C3, C4 left out in turn; C2+C3+C4 -> B4; B4 -> C2, C3, C4; MOB4 -> MOB9 and back. Panels are
the fixed ones of golden/. Scores: mean over genes of PCC per gene, of log1p(CPM) and of composition
against Pearson residuals, the 200 most abundant genes, NaN as 0. The interval is of the difference to
the default, over 1,000 resamplings of genes. Seed 0; seconds are CPU seconds. Every (variant, pair) is kept in
benchmarks/results/ablation.json as soon as it is done, so an interrupted run goes on,
and a case whose configuration has changed since is done again (after a change of the code: --anew).
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table

from hespotex.config import EncoderConfig, Machine, ModelConfig, Reading, RunConfig
from hespotex.evaluation.baselines import fit_ridge
from hespotex.genes.panel import GenePanel, log1p_cpm, pearson_residuals
from hespotex.models.default.calibration import calibrate
from hespotex.models.default.loop import fit_model
from hespotex.models.fit import training_section, use_threads
from hespotex.models.predict import predict_expression
from hespotex.models.preprocessing import InputProjection
from hespotex.models.types import FittedModel, TrainingSection
from hespotex.progress import Silent
from hespotex.stages import encode, read_sections

HERE = Path(__file__).resolve().parent
RESULTS = HERE.parent / "results" / "ablation.json"
C = ("C2", "C3", "C4")
PAIRS: Mapping[str, tuple[tuple[tuple[str, ...], tuple[str, ...]], ...]] = {
    "C left out": tuple((tuple(s for s in C if s != held), (held,)) for held in C),
    "C -> B4": ((C, ("B4",)),),
    "B4 -> C": ((("B4",), C),),
    "MOB4 -> MOB9": ((("MOB4",), ("MOB9",)),),
    "MOB9 -> MOB4": ((("MOB9",), ("MOB4",)),),
}
VARIANTS: Mapping[str, Mapping[str, Any]] = {
    "default": {},
    "kernel alone": {"kernel_share": 1.0},
    "no kernel": {"kernel_share": 0.0},
    "one network": {"ensemble": 1},
    "direct share 0": {"direct_share": 0.0},
    "direct share 0.5": {"direct_share": 0.5},
    "direct share 1": {"direct_share": 1.0},
    "GATE latents": {"latent_target": "gate"},
    "no kernel, GATE latents": {"kernel_share": 0.0, "latent_target": "gate"},
    "no latent loss": {"latent_weight": 0.0},
    "no kernel, no latent loss": {"kernel_share": 0.0, "latent_weight": 0.0},
    "no neighbours": {"hops": 0},
    "2 graph layers": {"graph_layers": 2},
    "no kernel, 2 graph layers": {"kernel_share": 0.0, "graph_layers": 2},
    "3 patches": {"scales": 3},
    "2 patches": {"scales": 2},
    "1 patch": {"scales": 1},
    "Poisson": {"dispersion": 1e4},
    "neighbours over 2 hops": {"hops": 2},
}
# Read when predicting: one fit serves every value (of `ensemble` up to the default's).
AFTER_THE_FIT = ("kernel_share", "direct_share", "ensemble")
Fits = dict[str, tuple[FittedModel, float]]
Scores = dict[str, np.ndarray]


def pcc(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Per gene over spots; a constant gene counts as 0, as in the reference's scores."""
    a, b = a - a.mean(axis=0), b - b.mean(axis=0)
    norm = np.sqrt((a**2).sum(axis=0) * (b**2).sum(axis=0))
    return np.where(norm > 0, (a * b).sum(axis=0) / np.where(norm > 0, norm, 1), 0)


def score(section: TrainingSection, log1p: np.ndarray, composition: np.ndarray) -> Scores:
    measured = log1p_cpm(section.counts)
    return {
        "log1p": pcc(log1p, measured),
        "composition": pcc(composition, pearson_residuals(section.counts)),
        "rmse": np.sqrt(np.square(log1p - measured).mean(axis=0)),
    }


def load(
    shared: Path, machine: Machine, reading: Reading = "patches"
) -> tuple[dict[str, TrainingSection], dict[str, list[int]]]:
    """Every section over its fixed panel, and the places of the 200 abundant genes."""
    reference = json.loads((shared / "golden" / "reference_her2st.json").read_text())
    mouse = (shared / "golden" / "mob_genes.txt").read_text().split()
    cases = {
        "her2st": (reference["genes"], reference["abundant_genes"]),
        "mob": (mouse, mouse[:200]),
    }
    sections, abundant = {}, {}
    for folder, (genes, most) in cases.items():
        config = RunConfig(encoder=EncoderConfig(reading=reading)).with_genes(genes)
        read = read_sections(shared / "data" / folder / "sections.csv", None, Silent())
        cohort = encode(read, config, machine, Silent())
        panel = GenePanel(tuple(genes))
        for item in cohort.items:
            name = item.section.section_id
            sections[name] = training_section(item, panel)
            abundant[name] = [genes.index(g) for g in most]
    return sections, abundant


def fitted(
    train: list[TrainingSection], options: Mapping[str, Any], key: str, fits: Fits
) -> tuple[FittedModel, float]:
    """The variant's model and the CPU seconds of its fit, NaN where another variant's fit serves."""
    before = {k: v for k, v in options.items() if k not in AFTER_THE_FIT}
    after = {k: v for k, v in options.items() if k in AFTER_THE_FIT}
    key, seconds = f"{key} {json.dumps(before, sort_keys=True)}", float("nan")
    if key not in fits:
        start = time.process_time()
        model = fit_model(train, ModelConfig(**before), seed=0)
        fits[key] = model, time.process_time() - start
    model, spent = fits[key]
    if not after:
        return model, spent
    projection = InputProjection.from_tensors(model.tensors)
    model = replace(model, hyper={**model.hyper, **after})
    return calibrate(model, train, [projection.apply(s.features) for s in train]), seconds


def run_variant(
    sections: Mapping[str, TrainingSection], pair: str, changes: Mapping[str, Any], fits: Fits
) -> tuple[Scores, float]:
    """Per-gene scores, averaged over the pair's sections, and CPU seconds a fit."""
    options = dict(changes)
    scales = options.pop("scales", None)
    cut = {n: replace(s, features=s.features[:, :scales]) for n, s in sections.items()}
    found, seconds = [], []
    for train, held_out in PAIRS[pair]:
        key = f"{train} {scales}"
        model, spent = fitted([cut[n] for n in train], options, key, fits)
        seconds.append(spent)
        for name in held_out:
            s = cut[name]
            p = predict_expression(model, s.features, s.xy_um, spread=False)
            found.append(score(s, p.log1p, p.composition))
    return _mean(found), float(np.mean(seconds))


def run_ridge(sections: Mapping[str, TrainingSection], pair: str) -> tuple[Scores, float]:
    """Ridge on the model's features, as docs/design/method.md defines it."""
    found = []
    for train, held_out in PAIRS[pair]:
        part = [sections[n] for n in train]
        inputs = [_inputs(s) for s in part]
        ridge = fit_ridge(inputs, [s.counts for s in part])
        for name in held_out:
            s = sections[name]
            found.append(score(s, *ridge.predict(_inputs(s))))
    return _mean(found), float("nan")


def _inputs(section: TrainingSection) -> np.ndarray:
    """(n, S x D) raw features of all scales."""
    return section.features.reshape(len(section.features), -1)


def configuration(variant: str) -> dict[str, Any]:
    """All that a variant is fitted with, as JSON keeps it; a case of another one is done again."""
    changes = dict(VARIANTS.get(variant, {}))
    scales = changes.pop("scales", None)
    return ModelConfig(**changes).model_dump(mode="json") | {"scales": scales}


def _mean(found: list[Scores]) -> Scores:
    return {k: np.mean([f[k] for f in found], axis=0) for k in found[0]}


def interval(difference: np.ndarray) -> tuple[float, float]:
    """95 % bootstrap interval of the mean over genes."""
    rng = np.random.default_rng(0)
    draws = rng.integers(0, len(difference), size=(1000, len(difference)))
    low, high = np.quantile(difference[draws].mean(axis=1), [0.025, 0.975])
    return float(low), float(high)


def cell(done: Mapping[str, Any], variant: str, pair: str, what: str, keep: Any) -> str:
    """Mean over genes of the default; of a variant its difference to the default, with the interval."""
    case, base = done.get(f"{variant}|{pair}"), done.get(f"default|{pair}")
    if case is None or base is None:
        return ""
    a, b = np.array(case[what])[keep], np.array(base[what])[keep]
    if variant == "default":
        return f"{a.mean():.3f}"
    low, high = interval(a - b)
    mark = "" if low <= 0 <= high else "*"
    return f"{1000 * (a - b).mean():+.0f}{mark} [{1000 * low:+.0f} {1000 * high:+.0f}]"


def rows(done: Mapping[str, Any], abundant: Mapping[str, list[int]]) -> list[list[str]]:
    """A row a variant: its name, log1p and composition of every pair, CPU seconds a fit."""
    found = []
    for variant in dict.fromkeys(key.split("|")[0] for key in done):
        row = [variant]
        for what in ("log1p", "composition"):
            for pair, folds in PAIRS.items():
                keep = abundant[folds[0][1][0]] if what == "composition" else slice(None)
                row.append(cell(done, variant, pair, what, keep))
        spent = [
            done[f"{variant}|{p}"]["seconds_per_fit"] for p in PAIRS if f"{variant}|{p}" in done
        ]
        known = [s for s in spent if s is not None]
        row.append(f"{np.mean(known):.1f}" if known else "")
        found.append(row)
    return found


def show(done: Mapping[str, Any], abundant: Mapping[str, list[int]], markdown: bool) -> None:
    header = [
        "variant",
        *(f"log1p {pair}" for pair in PAIRS),
        *(f"composition {pair}" for pair in PAIRS),
        "CPU s a fit",
    ]
    lines = rows(done, abundant)
    if markdown:
        print("| " + " | ".join(header) + " |")
        print("|" + "---|" * len(header))
        for row in lines:
            print("| " + " | ".join(row) + " |")
        return
    title = "default: mean over genes; others: difference to it in thousandths [95 %], * where 0 is outside"
    table = Table(title=title)
    for name in header:
        table.add_column(name, justify="left" if name == "variant" else "right")
    for row in lines:
        table.add_row(*row)
    Console(width=260).print(table)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--shared", type=Path, default=HERE.parents[2] / "shared")
    parser.add_argument("--variants", nargs="*", default=["ridge", *VARIANTS])
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--cache", type=Path, help="encoded features; the user's cache folder")
    parser.add_argument("--markdown", action="store_true", help="print the table as in the docs")
    parser.add_argument("--anew", action="store_true")
    options = parser.parse_args()
    machine = Machine(device="cpu", threads=options.threads, cache=options.cache)
    use_threads(machine)
    sections, abundant = load(options.shared, machine)
    fits: Fits = {}
    done = {} if options.anew or not RESULTS.exists() else json.loads(RESULTS.read_text())
    RESULTS.parent.mkdir(exist_ok=True)
    for variant in options.variants:
        for pair in PAIRS:
            key, config = f"{variant}|{pair}", configuration(variant)
            if key in done and done[key]["config"] == config:
                continue
            scores, seconds = (
                run_ridge(sections, pair)
                if variant == "ridge"
                else run_variant(sections, pair, VARIANTS[variant], fits)
            )
            done[key] = {k: v.round(5).tolist() for k, v in scores.items()} | {
                "config": config,
                "seconds_per_fit": None if np.isnan(seconds) else round(seconds, 2),
            }
            RESULTS.write_text(json.dumps(done))
    show(done, abundant, options.markdown)


if __name__ == "__main__":
    main()
