"""agree.html: how well the sections of a run agree, pair by pair, with a picture of each pair in one frame."""

from __future__ import annotations

import base64
import math
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import pandas as pd

from hespotex.analysis.agree import OTHER_PATIENT, PairResult, read_sections, ridge_note, summary
from hespotex.analysis.agree_files import picture_paths
from hespotex.analysis.agree_pairs import Pair
from hespotex.analysis.agreement import CONSISTENT, MEASURED
from hespotex.analysis.common_maps import COMPOSITION
from hespotex.plots.drift import DriftPoint, plot_drift
from hespotex.plots.pair_picture import plot_pair
from hespotex.plots.style import save_figure
from hespotex.report import report_tables as tables
from hespotex.report.page import render_page
from hespotex.storage.atomic import atomic_path

READING: Final = (
    "Consistency is how alike the predicted maps of two sections are. A smooth blob that is the same for every gene is "
    "consistent, too: read consistency beside accuracy (predicted against measured) and specificity.",
    "Specificity is the share of other genes whose map in B correlates less with the gene's map in A than its own does, with "
    "its sign; ties count half: 0.5 is chance, 1 is specific. Maps that are the opposite do not count as alike. Beyond the null: genes at q below 0.05 against smooth random maps, measured depth taken out.",
    "Rows of predicted depth are one map for all genes: what they reach takes no knowledge of a gene.",
)
_DRIFTING: Final = {
    MEASURED: (MEASURED,),
    "consistency": (CONSISTENT,),
    "accuracy": ("predicted A / measured B", "measured A / predicted B"),
}


def write_pages(run: Path, out: Path, results: Sequence[PairResult]) -> dict[str, Path]:
    """Write a picture of every registered pair, and the page.

    Returns:
        The paths by label.

    Raises:
        RunError: a file cannot be written.
    """
    files = read_sections(run)
    pictures = picture_paths(out, [(r.first, r.second) for r in results])
    drawn: dict[Pair, Path] = {}
    for r in results:
        a, b = files[r.first].spots, files[r.second].spots
        if r.registration is None or a.thumbnail is None or b.thumbnail is None:
            continue
        known = "; ".join(text for text in (r.trained, r.unlike) if text)
        alarm = f"Not compared: {r.refused}." if r.refused else known
        figure = plot_pair(
            (r.first, r.second),
            (a.thumbnail, b.thumbnail),
            (a.mpp, b.mpp),
            r.registration.to_fixed,
            (fit_sentence(r, brief=True), alarm),
        )
        drawn[r.first, r.second] = pictures[r.first, r.second]
        save_figure(figure, drawn[r.first, r.second])
    drifts = drifts_of(summary(results))
    for (name, lines), path in zip(drifts.items(), _drift_paths(out, drifts), strict=True):
        title = "Drift with distance" + (f", {name}" if len(drifts) > 1 else "")
        save_figure(
            plot_drift(title, "mean composition PCC over genes, a point a pair", lines), path
        )
    path = out / "agree.html"
    with atomic_path(path) as temporary:
        temporary.write_text(render(results, drawn, out), encoding="utf-8")
    return {"report": path, "genes": out / "agree.csv", "pairs": out / "pairs.csv",
            "frames": out / "frames.json", "sections": out / "sections"}  # fmt: skip


def fit_sentence(result: PairResult, *, brief: bool = False) -> str:
    """The numbers of a registration; brief: as a picture has room for."""
    r = result.registration
    if r is None:
        return "No registration."
    q = r.quality
    bend = "" if r.bending is None else f"; {r.bending.brief if brief else r.bending.said}"
    lead = "" if math.isnan(q.lead) else f", lead {q.lead:.2f}"
    residual = "" if math.isnan(r.residual_um) else f", landmarks {r.residual_um:.0f} um off"
    names = ("Dice of tissue", "correlation of grey", "of its detail", "normalised mutual information")  # fmt: skip
    if brief:
        names = ("Dice", "correlation", "of detail", "mutual information")
    return (
        f"{r.kind} map: {names[0]} {q.dice:.2f}, {names[1]} {q.correlation:.2f}, {names[2]} {q.detail:.2f}, "
        f"{names[3]} {q.mutual_information:.3f}{lead}{residual}{bend}"
    )


def render(results: Sequence[PairResult], drawn: Mapping[Pair, Path], out: Path) -> str:
    """The page as text, with the pictures that were drawn."""
    table = summary(results)
    return render_page(
        "agree.html.j2",
        reading=READING,
        warnings=[f"{r.first} and {r.second}: {r.refused}." for r in results if r.refused]
        + [
            f"{r.first} and {r.second} are of different patients: {OTHER_PATIENT}."
            for r in results
            if not r.same_patient
        ]
        + [text[0].upper() + text[1:] + "." for text in [ridge_note(results)] if text],
        matrices=matrices(table) if len(results) > 1 else [],
        drifts=_drifts(out, table),
        pairs=[_pair(drawn.get((r.first, r.second)), r, table) for r in results],
    )


def drift_lines(table: pd.DataFrame) -> dict[str, list[DriftPoint]]:
    """Agreement of every pair by its distance in the series; empty where no two pairs are of different distance.

    Accuracy is the mean of predicted A / measured B and measured A / predicted B.
    """
    if "what" not in table:
        return {}
    of = table[(table["scale"] == COMPOSITION) & table["apart"].notna() & table["pcc"].notna()]
    if of["apart"].nunique() < 2:
        return {}
    found = {}
    for name, kinds in _DRIFTING.items():
        here = of[of["what"].isin(kinds)]
        points = [
            DriftPoint(
                float(pair["apart"].iloc[0]),
                float(pair["pcc"].mean()),
                bool(pair["trained"].iloc[0]),
            )
            for _, pair in here.groupby(["apart", "section_a", "section_b"])
        ]
        if points:
            found[name] = points
    return found


def drift_rows(lines: Mapping[str, Sequence[DriftPoint]]) -> list[list[str]]:
    """Means by distance; pairs of which one trained the other stand in rows of their own."""
    keys = sorted({(p.apart, p.trained) for points in lines.values() for p in points})
    rows = []
    for apart, trained in keys:
        of = [
            [p.value for p in v if (p.apart, p.trained) == (apart, trained)] for v in lines.values()
        ]
        means = [tables.text(sum(v) / len(v), 3) if v else "" for v in of]
        mark = "trained on it" if trained else ""
        rows.append([f"{apart:g}", mark, str(max(len(v) for v in of)), *means])
    return rows


def drifts_of(table: pd.DataFrame) -> dict[str, dict[str, list[DriftPoint]]]:
    """The drift of each series that has one: distances in one block say nothing of another."""
    found = {name: drift_lines(part) for name, part in table.groupby("series") if name}
    return {str(name): lines for name, lines in found.items() if lines}


def _drift_paths(out: Path, names: Iterable[str]) -> list[Path]:
    """Where the pictures of drift lie: `drift.png` of the first, then `drift_2.png`."""
    ends = ("" if k == 0 else f"_{k + 1}" for k, _ in enumerate(names))
    return [out / "figures" / f"drift{end}.png" for end in ends]


def _drifts(out: Path, table: pd.DataFrame) -> list[dict[str, Any]]:
    drifts = drifts_of(table)
    return [
        {
            "series": name if len(drifts) > 1 else "",
            "names": list(lines),
            "rows": drift_rows(lines),
            "picture": base64.b64encode(path.read_bytes()).decode(),
        }
        for (name, lines), path in zip(drifts.items(), _drift_paths(out, drifts), strict=True)
    ]


def matrices(table: pd.DataFrame) -> list[dict[str, Any]]:
    """Mean composition PCC of every pair, predicted and measured, sections in their order."""
    if "what" not in table:
        return []
    names = list(dict.fromkeys([*table["section_a"], *table["section_b"]]))
    found = []
    for what in (MEASURED, CONSISTENT):
        of = table[(table["what"] == what) & (table["scale"] == COMPOSITION)]
        cell = {
            (a, b): f"{pcc:.3f}{' *' if trained else ''}"
            for a, b, pcc, trained in zip(
                of["section_a"], of["section_b"], of["pcc"], of["trained"], strict=True
            )
        }
        if cell:
            rows = [[a, *(cell.get((a, b), cell.get((b, a), "")) for b in names)] for a in names]
            star = "; * trained on it" if any("*" in text for text in cell.values()) else ""
            title = f"{what}: mean composition PCC{star}"
            found.append({"title": title, "names": names, "rows": rows})
    return found


def _pair(picture: Path | None, result: PairResult, table: pd.DataFrame) -> dict[str, Any]:
    of = table[(table["section_a"] == result.first) & (table["section_b"] == result.second)]
    of = of[of["what"].notna()] if "what" in of else of.iloc[:0]
    rows = [
        {
            "scale": str(row["scale"]),
            "what": str(row["what"]),
            "mark": "trained on it" if result.trained else "",
            "n_genes": int(row["n_genes"]),
            "pcc": tables.text(row["pcc"], 3),
            "beyond_null": int(row["beyond_null"]),
            "others": tables.text(row["others"], 3),
            "specificity": tables.text(row["specificity"], 3),
        }
        for row in of.to_dict("records")
    ]
    apart = "" if math.isnan(result.apart) else f", {result.apart:g} apart in the series"
    encoded = base64.b64encode(picture.read_bytes()).decode() if picture else ""
    return {
        "title": f"{result.first} and {result.second}{apart}",
        "trained": result.trained,
        "unlike": result.unlike,
        "genes": result.genes,
        "n_places": int(of["n_places"].iloc[0]) if rows else 0,
        "refused": result.refused,
        "fit": fit_sentence(result),
        "picture": encoded,
        "rows": rows,
    }
