"""Pictures of an analysis: scatters, volcano, Kaplan-Meier; draws."""

from __future__ import annotations

from typing import Any, Final

import numpy as np
import numpy.typing as npt
import pandas as pd

from hespotex import keys
from hespotex.analysis.association.correlations import residuals
from hespotex.analysis.association.result import FDR, RESEARCH_SENTENCE, Picture
from hespotex.plots import style

Floats = npt.NDArray[np.float64]

_NAMED: Final = 8
_BLUE, _RED, _GREY = style.ACCENT, style.ALARM, "#b8bfca"
_THIRDS: Final = ("#0b6e8f", "#98a1ac", "#b3261e")


def of_bulk(
    across: pd.DataFrame, predicted: npt.NDArray[np.floating[Any]], measured: npt.NDArray[np.floating[Any]], genes: npt.NDArray[np.str_], design: Floats,
    patients: pd.DataFrame,
) -> tuple[Picture, ...]:  # fmt: skip
    """The best, a middle and the worst gene; the PCC of all genes; both numbers per patient."""
    known = across[np.isfinite(across["pcc"])].sort_values("pcc", ascending=False, kind="stable")
    if known.empty:
        return ()
    chosen = known.iloc[[0, len(known) // 2, len(known) - 1]]
    place = {g: j for j, g in enumerate(genes.tolist())}
    figure = style.new_figure(11.0, 4.7)
    freed = ", covariates and strata taken out" if design.shape[1] else ""
    style.heading(figure, "Best, middle and worst gene", f"One dot a patient{freed}. The best of many is chosen after the fact.", size=14)  # fmt: skip
    for k, (word, row) in enumerate(
        zip(("best", "middle", "worst"), chosen.itertuples(), strict=True)
    ):
        axes = style.place(figure, 0.75 + 3.5 * k, 1.35, 2.75, 2.55)
        style.plain_axes(axes)
        j = place[str(row.feature)]
        x, y = (
            residuals(v[:, [j]].astype(np.float64), design)[:, 0] + v[:, j].mean()
            for v in (predicted, measured)
        )
        axes.scatter(x, y, s=18, color=_BLUE, alpha=0.7, linewidths=0)
        if x.std() > 0:
            slope, start = np.polyfit(x, y, 1)
            ends = np.array([x.min(), x.max()])
            axes.plot(ends, start + slope * ends, color=style.INK, linewidth=1)
        axes.set_title(f"{word}: {row.feature}", size=10.5, color=style.INK, loc="left", pad=18)
        said = f"PCC {row.pcc:.2f} [{row.pcc_lower:.2f}, {row.pcc_upper:.2f}], q {row.q_value:.2g}"
        axes.text(
            0, 1.03, said.replace("-", "−"), transform=axes.transAxes, size=8.5, color=style.MUTED
        )
        axes.set_xlabel("predicted, log1p(CPM)", size=8.5, color=style.MUTED)
        if not k:
            axes.set_ylabel("bulk, log scale", size=8.5, color=style.MUTED)
    _footer(figure)
    return (
        Picture("genes", figure, "Predicted pseudobulk against bulk RNA in the best, a middle and the worst gene."),
        _histogram(across, patients),
    )  # fmt: skip


def _histogram(across: pd.DataFrame, patients: pd.DataFrame) -> Picture:
    figure = style.new_figure(11.0, 4.5)
    style.heading(figure, "Two numbers under one name", "Left: per gene across patients. Right: per patient across genes, where gene means alone give a high number.", size=14)  # fmt: skip
    left = style.place(figure, 0.75, 1.2, 4.5, 2.55)
    style.plain_axes(left)
    values = across["pcc"].dropna().to_numpy()
    edges = np.linspace(-1, 1, 41).tolist()
    left.hist(values, bins=edges, color=_GREY, label=f"all {len(values):,} genes")
    found = across.loc[across["q_value"] <= FDR, "pcc"].to_numpy()
    left.hist(found, bins=edges, color=_BLUE, label=f"{len(found):,} with q ≤ {FDR:.0%}")
    left.axvline(0, color=style.INK, linewidth=0.8)
    left.set_xlabel("PCC across patients", size=9, color=style.MUTED)
    left.set_ylabel("genes", size=9, color=style.MUTED)
    left.legend(frameon=False, fontsize=8, loc="upper left")
    right = style.place(figure, 6.4, 1.2, 4.2, 2.55)
    style.plain_axes(right)
    rng = np.random.default_rng(0)
    columns = {
        "its slide": "pcc_across_genes", "one profile for all": "pcc_of_same_profile", "other patients’ slides": "pcc_of_other_patients",
    }  # fmt: skip
    for k, name in enumerate(columns.values()):
        y = patients[name].to_numpy(float)
        right.scatter(
            k + rng.uniform(-0.16, 0.16, len(y)), y, s=12, color=_GREY if k else _BLUE, linewidths=0
        )
        right.plot([k - 0.26, k + 0.26], [y.mean()] * 2, color=style.INK, linewidth=1.6)
        right.text(k + 0.3, y.mean(), f"{y.mean():.2f}", size=8.5, va="center", color=style.INK)
    right.set_xticks(range(len(columns)), list(columns), size=8.5)
    right.set_xlim(-0.5, len(columns) - 0.35)
    right.set_ylabel("PCC across genes", size=9, color=style.MUTED)
    _footer(figure)
    return Picture(
        "distributions",
        figure,
        "Correlation per gene across patients, and per patient across genes.",
    )


def volcano(table: pd.DataFrame, effect: str, label: str, title: str, note: str) -> Picture:
    """Effects against their p-values; features with q at most 5 % in colour, the first few named."""
    figure = style.new_figure(8.2, 5.9)
    style.heading(figure, title, note, size=14)
    axes = style.place(figure, 0.8, 1.15, 7.0, 3.85)
    style.plain_axes(axes)
    known = table[np.isfinite(table["p_value"]) & np.isfinite(table[effect])]
    x = known[effect].to_numpy(float)
    y = -np.log10(np.maximum(known["p_value"].to_numpy(float), 1e-300))
    found = (known["q_value"] <= FDR).to_numpy()
    for mask, colour, name in (
        (~found, _GREY, f"{int((~found).sum()):,} with q > {FDR:.0%}"),
        (found & (x > 0), _RED, f"{int((found & (x > 0)).sum()):,} higher"),
        (found & (x <= 0), _BLUE, f"{int((found & (x <= 0)).sum()):,} lower"),
    ):
        axes.scatter(x[mask], y[mask], s=14, color=colour, linewidths=0, alpha=0.8, label=name)
    axes.axvline(0, color=style.FAINT, linewidth=0.8, zorder=0)
    top = max(float(y.max(initial=1)) * 1.08, 1.0)
    axes.set_ylim(0, top)
    taken: list[tuple[float, float]] = []
    wide = max(float(np.ptp(x)) if len(x) else 1.0, 1e-9)
    for k in np.argsort(-y, kind="stable")[: 3 * _NAMED]:
        near = any(abs(x[k] - a) < 0.16 * wide and abs(y[k] - b) < 0.045 * top for a, b in taken)
        if found[k] and not near and len(taken) < _NAMED:
            taken.append((x[k], y[k]))
            side = x[k] > x.mean() + 0.3 * wide
            axes.annotate(
                str(known["feature"].iloc[k]), (x[k], y[k]), xytext=(-4 if side else 4, 2), textcoords="offset points",
                size=8, color=style.INK, ha="right" if side else "left",
            )  # fmt: skip
    axes.set_xlabel(label, size=9.5, color=style.MUTED)
    axes.set_ylabel("−log10 p", size=9.5, color=style.MUTED)
    axes.legend(frameon=False, fontsize=8, loc="upper right", bbox_to_anchor=(1.0, 1.1), ncols=3)
    _footer(figure)
    return Picture("volcano", figure, note)


def strips(
    values: Floats, groups: npt.NDArray[np.str_], order: list[str], title: str, note: str
) -> Picture:
    """One feature by group: a dot a patient, the mean, its standard error."""
    figure = style.new_figure(6.4, 4.6)
    style.heading(figure, title, note, size=14)
    axes = style.place(figure, 0.8, 1.15, 5.2, 2.65)
    style.plain_axes(axes)
    rng = np.random.default_rng(0)
    for k, name in enumerate(order):
        own = values[groups == name]
        axes.scatter(
            k + rng.uniform(-0.15, 0.15, len(own)), own, s=16, color=_BLUE, alpha=0.65, linewidths=0
        )
        axes.plot([k - 0.25, k + 0.25], [own.mean()] * 2, color=style.INK, linewidth=1.8)
    axes.set_xticks(
        range(len(order)), [f"{g}\n{int((groups == g).sum())} patients" for g in order], size=9
    )
    axes.set_xlim(-0.6, len(order) - 0.4)
    axes.set_ylabel("predicted, log1p(CPM)", size=9, color=style.MUTED)
    _footer(figure)
    return Picture("best_feature", figure, note)


def null_histogram(seen: float, null: Floats, what: str, name: str, chance: float) -> Picture:
    """A score beside those of shuffled patients."""
    figure = style.new_figure(6.4, 4.1)
    style.heading(
        figure,
        f"{what}: {seen:.2f}",
        f"Grey: the same with patients shuffled ({len(null):,} times).",
        size=14,
    )
    axes = style.place(figure, 0.8, 1.05, 5.2, 2.3)
    style.plain_axes(axes)
    axes.hist(null, bins=20, color=_GREY)
    axes.axvline(chance, color=style.MUTED, linewidth=0.8, linestyle=":")
    axes.axvline(seen, color=_RED, linewidth=2)
    axes.set_xlabel(what, size=9, color=style.MUTED)
    axes.set_ylabel("shufflings", size=9, color=style.MUTED)
    _footer(figure)
    return Picture(
        name,
        figure,
        f"{what} of whole profiles, cross-validated by patient, beside shuffled patients.",
    )


def kaplan_meier(
    time: Floats, event: Floats, values: Floats, title: str, note: str, unit: str
) -> Picture:
    """Survival by tertile of one feature, with numbers at risk."""
    from lifelines import KaplanMeierFitter

    figure = style.new_figure(7.4, 5.9)
    style.heading(figure, title, note, size=14)
    axes = style.place(figure, 1.0, 1.1, 6.0, 3.2)
    style.plain_axes(axes)
    third = tertiles(values)
    labels = ("lowest third", "middle third", "highest third")
    ticks = _round_ticks(float(time.max()))
    for k, (label, colour) in enumerate(zip(labels, _THIRDS, strict=True)):
        own = third == k
        if not own.any():
            continue
        fitted = KaplanMeierFitter().fit(time[own], event[own])
        curve = fitted.survival_function_
        axes.step(
            curve.index, curve.iloc[:, 0], where="post", color=colour, linewidth=1.8, label=label
        )
        lost = own & (event == 0)
        axes.plot(time[lost], fitted.predict(time[lost]), "|", color=colour, markersize=6)
        style.caption(
            figure, 0.1, 5.06 + 0.19 * k, label.replace(" third", ""), size=8, colour=colour
        )
        for tick in ticks:
            x = 1.0 + 6.0 * tick / ticks[-1]
            figure.text(x / 7.4, 1 - (5.06 + 0.19 * k) / 5.9, f"{int((own & (time >= tick)).sum())}", size=8, ha="center", color=style.MUTED)  # fmt: skip
    style.caption(figure, 0.1, 4.86, "at risk", size=8, colour=style.MUTED)
    axes.set_xlim(0, ticks[-1])
    axes.set_xticks(ticks)
    axes.set_ylim(0, 1.03)
    axes.set_xlabel(unit, size=9, color=style.MUTED)
    axes.set_ylabel("share without the event", size=9, color=style.MUTED)
    axes.legend(frameon=False, fontsize=8.5, loc="upper right", bbox_to_anchor=(1.0, 1.12), ncols=3)
    _footer(figure)
    return Picture("kaplan_meier", figure, note)


def tertiles(values: Floats) -> npt.NDArray[np.int_]:
    """(P,) 0, 1, 2: thirds by rank, ties in one third."""
    low, high = np.quantile(values, [1 / 3, 2 / 3])
    return np.asarray((values > low).astype(np.int_) + (values > high))


def _round_ticks(most: float) -> list[float]:
    from matplotlib.ticker import MaxNLocator

    return [float(t) for t in MaxNLocator(5).tick_values(0, max(most, 1e-9)) if t >= 0]


def _footer(figure: Any) -> None:
    height = figure.get_size_inches()[1]
    style.caption(figure, 0.2, height - 0.1, RESEARCH_SENTENCE, size=7.5, colour=style.MUTED)


def level_words(row: Any) -> str:
    """Both grades of a feature."""
    return f"grade inside slides {getattr(row, keys.GRADE)}, level {getattr(row, keys.LEVEL_GRADE)}"
