"""What nuclei bring to accuracy on her2st: default and published profile, without, with their density, with the published factor.

    python -m benchmarks.nuclei_accuracy [--shared FOLDER] [--profiles default published] [--threads 1] [--anew]

Nuclei come from the classical segmenter. Pairs: C2, C3, C4 left out in turn; C2+C3+C4 -> B4; B4 -> C2, C3, C4;
the panel of golden/. Scores: mean over genes of PCC per gene, NaN as 0; composition over the 200 most
abundant genes. The interval is of the difference to no nuclei, over 1,000 resamplings of genes. Every
(profile, nuclei, pair) is kept in benchmarks/results/work/nuclei_accuracy.json, and an interrupted run goes on.
The olfactory bulb (2.76 um per pixel) is too coarse to see nuclei, and is refused.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table

from benchmarks.ablation.run import PAIRS, interval, score
from hespotex.config import Machine, ModelConfig, NucleiConfig, PublishedConfig, RunConfig
from hespotex.errors import NucleiError
from hespotex.genes.panel import GenePanel
from hespotex.models.default.loop import fit_model
from hespotex.models.fit import training_section, use_threads
from hespotex.models.predict import predict_expression
from hespotex.models.published.published import fit_published
from hespotex.models.types import TrainingSection
from hespotex.nuclei import count_section
from hespotex.nuclei.factor import nuclei_factor
from hespotex.progress import Silent
from hespotex.stages import encode, read_sections

HERE = Path(__file__).resolve().parent
RESULTS = HERE / "results" / "work" / "nuclei_accuracy.json"
MODES = ("off", "density", "published")
HER2ST = {name: pair for name, pair in PAIRS.items() if "MOB" not in name}
# The reference benchmark (benchmarks/published_her2st.py): 224 px at native resolution, pooled features, 512 columns.
PUBLISHED = {
    "profile": "published",
    "encoder": {"projection": 512},
    "patches": {"sides_um": [224 * 200 / 290]},
}


def load(
    shared: Path, profile: str, machine: Machine
) -> tuple[dict[str, dict[str, TrainingSection]], list[int]]:
    """Every section over the fixed panel, by nuclei mode; and the places of the abundant genes."""
    reference = json.loads((shared / "golden" / "reference_her2st.json").read_text())
    genes = reference["genes"]
    values: Mapping[str, Any] = PUBLISHED if profile == "published" else {}
    config = RunConfig.from_values(values).with_genes(genes)
    read = read_sections(shared / "data" / "her2st" / "sections.csv", None, Silent())
    panel, found = GenePanel(tuple(genes)), {mode: {} for mode in MODES}
    for item in encode(read, config, machine, Silent()).items:
        section = training_section(item, panel)
        counts = count_section(item.section, NucleiConfig(mode="density"), cache_dir=machine.cache)
        density = counts.per_mm2
        print(
            f"{item.section.section_id}: {int(counts.nuclei.sum()):,} nuclei under {len(density)} spots, "
            f"per mm2 {np.median(density):,.0f} (median), {np.quantile(density, 0.9):,.0f} (90 %); PCC of density and "
            f"measured depth, both logarithms: {_log_pcc(density, np.asarray(section.counts.sum(axis=1)).ravel()):.2f}; "
            f"label values {np.median(counts.label_values):.0f} (median)"
        )
        for mode in MODES:
            factor = nuclei_factor(counts, mode)
            found[mode][item.section.section_id] = replace(section, nuclei=factor)
    return found, [genes.index(g) for g in reference["abundant_genes"]]


def _log_pcc(a: np.ndarray, b: np.ndarray) -> float:
    return float(np.corrcoef(np.log1p(a), np.log1p(b))[0, 1])


def run_pair(
    sections: Mapping[str, TrainingSection], profile: str, pair: str
) -> dict[str, np.ndarray]:
    """Per-gene scores, averaged over the pair's sections."""
    found = []
    for train, held_out in HER2ST[pair]:
        chosen = [sections[name] for name in train]
        if profile == "published":
            model = fit_published(chosen, PublishedConfig(), seed=0)
        else:
            model = fit_model(chosen, ModelConfig(), seed=0)
        for name in held_out:
            s = sections[name]
            p = predict_expression(model, s.features, s.xy_um, s.nuclei, spread=False)
            found.append(score(s, p.log1p, p.composition))
    return {k: np.mean([f[k] for f in found], axis=0) for k in found[0]}


def show(done: Mapping[str, Any], abundant: list[int]) -> None:
    table = Table(title="log1p PCC / composition PCC (200 most abundant) [difference, 95 %]")
    for column in ("profile", "nuclei", *HER2ST):
        table.add_column(column)
    for profile in ("default", "published"):
        for mode in MODES:
            row = []
            for pair in HER2ST:
                case, base = (done.get(f"{profile}|{m}|{pair}") for m in (mode, "off"))
                row.append("" if case is None or base is None else _cell(case, base, abundant))
            table.add_row(profile, mode, *row)
    Console(width=190).print(table)


def _cell(case: Mapping[str, Any], base: Mapping[str, Any], abundant: list[int]) -> str:
    lines = []
    for what, genes in (("log1p", slice(None)), ("composition", abundant)):
        a, b = np.array(case[what])[genes], np.array(base[what])[genes]
        low, high = interval(a - b)
        lines.append(f"{a.mean():.3f}" + (f" [{low:+.3f} {high:+.3f}]" if case is not base else ""))
    return "\n".join(lines)


def refuse_bulb(shared: Path) -> None:
    """Print why the olfactory bulb is left out."""
    section = read_sections(shared / "data" / "mob" / "sections.csv", ["MOB4"], Silent())[0]
    try:
        count_section(section, NucleiConfig(mode="density"))
    except NucleiError as error:
        print(f"MOB4: {error}")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--shared", type=Path, default=HERE.parents[1] / "shared")
    parser.add_argument("--profiles", nargs="+", default=["default", "published"])
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--anew", action="store_true")
    options = parser.parse_args()
    machine = Machine(device="cpu", threads=options.threads)
    use_threads(machine)
    done = {} if options.anew or not RESULTS.exists() else json.loads(RESULTS.read_text())
    abundant: list[int] = []
    for profile in options.profiles:
        sections, abundant = load(options.shared, profile, machine)
        for pair in sorted(HER2ST, key=lambda name: len(HER2ST[name])):
            for mode in MODES:
                key = f"{profile}|{mode}|{pair}"
                if key in done:
                    continue
                scores = run_pair(sections[mode], profile, pair)
                done[key] = {k: v.round(5).tolist() for k, v in scores.items()}
                RESULTS.parent.mkdir(parents=True, exist_ok=True)
                RESULTS.write_text(json.dumps(done))
                print(f"{key} is done", flush=True)
    show(done, abundant)
    refuse_bulb(options.shared)


if __name__ == "__main__":
    main()
