"""Survival of patients: Cox models per feature, tertiles, a penalised model of whole profiles with its null; pure."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import pandas as pd

from hespotex import keys
from hespotex.analysis.association import pictures
from hespotex.analysis.association.correlations import q_values
from hespotex.analysis.association.patients import GENE, Floats, Patients, covariates
from hespotex.analysis.association.profiles import components, products, splits
from hespotex.analysis.association.result import (
    FDR,
    Association,
    Picture,
    best_first,
    discoveries,
)
from hespotex.errors import ConfigError, counted, shorten
from hespotex.progress import Reporter

_FEWEST_EVENTS: Final = 5
_EVENTS_A_COLUMN: Final = 10
_SHUFFLES: Final = 99
_PENALTY: Final = 0.1
_TRUE: Final = frozenset({"1", "true", "1.0"})
_FALSE: Final = frozenset({"0", "false", "0.0"})


def check_lifelines() -> None:
    """Say how to get the package before any work.

    Raises:
        ConfigError: it is not installed.
    """
    from importlib.util import find_spec

    if find_spec("lifelines") is None:
        raise ConfigError(
            expected="the package lifelines for --time and --event", found="none installed",
            remedy="install it: pip install 'hespotex[cohort]'",
        )  # fmt: skip


def with_survival(
    table: Patients,
    time: str,
    event: str,
    reporter: Reporter,
    *,
    adjust: Sequence[str] = (),
    seed: int = 0,
) -> Association:
    """Test every feature against the time to an event.

    Args:
        table: of the cohort.
        time: column of times, 0 or longer, in any unit.
        event: column with 1 where the event happened, 0 where the patient was lost before.
        adjust: covariates of the Cox models; the penalised model of profiles sees none.
        seed: of folds and permutations.

    Raises:
        ConfigError: lifelines is missing, a column does not fit, or there are too few events.
    """
    check_lifelines()
    _check_columns(time, event, adjust)
    table, design, names = covariates(_timed(table, time, event), adjust)
    table = table.complete()
    times, events = table.obs[time].to_numpy(np.float64), _events(table.obs[event], event)
    n_events = int(events.sum())
    if n_events < _FEWEST_EVENTS:
        raise ConfigError(
            expected=f"at least {_FEWEST_EVENTS} events in column {event}",
            found=f"{n_events} in {counted(len(events), 'patient')}",
            remedy="follow longer, or give more patients",
        )
    found = best_first(_cox(table, times, events, design, names, reporter), ["p_value"], [True])
    profile = _profiles(table, times, events, seed)
    adjusted = f", adjusted for {', '.join(names)}" if names else ""
    first = [table.level_sentence(), *table.notes]
    if n_events < _EVENTS_A_COLUMN * (1 + len(names)):
        first.append(
            f"{counted(n_events, 'event')} for {counted(1 + len(names), 'column')}: fewer than {_EVENTS_A_COLUMN} a column, so hazard ratios are shaky."
        )
    note = f"Cox model over {len(events)} patients, {n_events} events{adjusted}; one dot a feature."
    return Association(
        kind="survival",
        title=f"Time to {event} ({time})",
        first=tuple(s for s in first if s),
        findings=(*_findings(found, len(events), n_events, adjusted), profile.sentence()),
        table=found,
        numbers={
            "time": time, "event": event, "n_events": n_events, "adjust": list(names), "profile_model": profile.numbers(),
        },
        pictures=(
            pictures.volcano(found, "log_hazard_ratio", "log hazard ratio a standard deviation", f"{event}: all features", note),
            *_curves(found, table, times, events, time),
            *profile.pictures(),
        ),
        dropped=table.dropped,
        n_patients=len(events),
    )  # fmt: skip


@dataclass(frozen=True)
class _Profile:
    """Concordance of the model of whole profiles, NaN where no fold can be compared, and those of shuffled patients."""

    seen: float
    null: Floats

    @property
    def known(self) -> bool:
        return bool(np.isfinite(self.seen)) and len(self.null) > 0

    @property
    def p_value(self) -> float:
        return float((np.sum(self.null >= self.seen - 1e-12) + 1) / (len(self.null) + 1))

    def sentence(self) -> str:
        if not self.known:
            return "A penalised Cox model of the whole profile could not be cross-validated: no gene has a value in every patient, or no held-out patients can be compared."
        return (
            f"A penalised Cox model of the whole profile, cross-validated by patient, reaches concordance {self.seen:.2f}; with patients "
            f"shuffled {self.null.mean():.2f} (p = {self.p_value:.2g}, {len(self.null):,} shufflings). It sees no covariate."
        )

    def numbers(self) -> dict[str, float | int | None]:
        if not self.known:
            return {"concordance": None, "null_mean": None, "p_value": None, "shufflings": 0}
        return {
            "concordance": self.seen, "null_mean": float(self.null.mean()), "p_value": self.p_value, "shufflings": len(self.null),
        }  # fmt: skip

    def pictures(self) -> list[Picture]:
        if not self.known:
            return []
        return [pictures.null_histogram(self.seen, self.null, "concordance", "profile_model", 0.5)]


def _findings(found: pd.DataFrame, n: int, n_events: int, adjusted: str) -> tuple[str, str]:
    failed = int(found["p_value"].isna().sum())
    broken = int((found["proportional_hazards_q"] <= FDR).sum())
    return (
        f"Cox model of each feature over {counted(n, 'patient')} with {counted(n_events, 'event')}{adjusted}: "
        f"{discoveries(found, 'are associated')}"
        + (f" {failed:,} models did not converge." if failed else ""),
        f"The hazard ratio changes with time in {counted(broken, 'feature')} (Schoenfeld residuals, q at most {FDR:.0%}): read those from the curves.",
    )


def _timed(table: Patients, time: str, event: str) -> Patients:
    """Patients with a time and an event; a text or a negative time is an error."""
    values = table.column(time, "--time")
    if not pd.api.types.is_numeric_dtype(values):
        text = values.dropna().astype(str)
        wrong = text[pd.to_numeric(text, errors="coerce").isna()]
        raise ConfigError(
            expected=f"times as numbers in column {time}", found=shorten([repr(v) for v in wrong.unique()], 3) or "no value",
            remedy="write an unknown time as an empty cell",
        )  # fmt: skip
    negative = values[values < 0]
    if len(negative):
        raise ConfigError(
            expected=f"times of 0 or longer in column {time}",
            found=f"{counted(len(negative), 'negative time')}: {shorten([f'{n} {v:g}' for n, v in negative.items()], 3)}",
            remedy="count from the start of the observation",
        )
    table = table.keep(np.isfinite(values.to_numpy(np.float64)), f"no finite value of {time}")
    table = table.keep(
        table.column(event, "--event").notna().to_numpy(bool), f"no value of {event}"
    )
    if not len(table.obs):
        raise ConfigError(expected=f"patients with {time} and {event}", found="none")
    _events(table.obs[event], event)
    if table.obs[time].nunique() < 2:
        raise ConfigError(
            expected=f"times that differ in column {time}", found=f"{table.obs[time].iloc[0]:g} for {counted(len(table.obs), 'patient')}",
            remedy="give the column of times since the start of the observation",
        )  # fmt: skip
    return table


def _check_columns(time: str, event: str, adjust: Sequence[str]) -> None:
    """Time and event are two columns, and neither is a covariate."""
    if time == event:
        raise ConfigError(
            expected="two columns for --time and --event", found=f"{time} for both",
            remedy="name the column of times, and that of 1 and 0",
        )  # fmt: skip
    if both := [name for name in adjust if name in {time, event}]:
        raise ConfigError(
            expected="covariates beside time and event for --adjust", found=shorten(both),
            remedy="leave it out of --adjust",
        )  # fmt: skip


def _events(values: pd.Series, name: str) -> npt.NDArray[np.int_]:
    said = values.map(lambda v: f"{v:g}" if isinstance(v, float) else str(v).strip().lower())
    wrong = sorted(set(said) - _TRUE - _FALSE)
    if wrong:
        raise ConfigError(
            expected=f"1 (event) or 0 (lost before it) in column {name}", found=shorten([repr(w) for w in wrong], 4),
            remedy="write 1 where the event happened and 0 where not: words may mean either",
        )  # fmt: skip
    return np.asarray(said.isin(_TRUE), dtype=np.int_)


def _cox(
    table: Patients,
    times: Floats,
    events: npt.NDArray[np.int_],
    design: Floats,
    names: Sequence[str],
    reporter: Reporter,
) -> pd.DataFrame:
    """Hazard ratio of a standard deviation of every feature, with Schoenfeld's check."""
    frame = pd.DataFrame(design, columns=[f"covariate {k}" for k in range(len(names))])
    frame["time"], frame["event"] = times, events
    rows = []
    with reporter.task("Cox models", len(table.features)) as advance:
        for j in range(len(table.features)):
            values = table.values[:, j].astype(np.float64)
            frame["feature"] = (values - values.mean()) / values.std()
            rows.append(_one(frame))
            advance(1)
    found = pd.DataFrame(rows)
    found.insert(0, "feature", table.features)
    found.insert(1, "kind", table.kind)
    found["q_value"] = q_values(found["p_value"].to_numpy(np.float64), table.kind)
    hazards = found["proportional_hazards_p"].to_numpy(np.float64)
    found["proportional_hazards_q"] = q_values(hazards, table.kind)
    found["n_patients"], found["n_events"] = len(times), int(events.sum())
    found[keys.GRADE], found[keys.LEVEL_GRADE] = table.grade, table.level_grade
    return found


def _one(frame: pd.DataFrame) -> dict[str, float]:
    from lifelines import CoxPHFitter
    from lifelines.exceptions import ConvergenceError
    from lifelines.statistics import proportional_hazard_test

    names = (
        "log_hazard_ratio", "hazard_ratio", "lower", "upper", "p_value", "proportional_hazards_p",
    )  # fmt: skip
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            fit = CoxPHFitter().fit(frame, "time", "event")
            row = fit.summary.loc["feature"]
            check = proportional_hazard_test(fit, frame, time_transform="rank").summary
        except (ConvergenceError, np.linalg.LinAlgError, ValueError, ZeroDivisionError):
            return dict.fromkeys(names, np.nan)
    values = [
        row[c] for c in ("coef", "exp(coef)", "exp(coef) lower 95%", "exp(coef) upper 95%", "p")
    ]
    return dict(zip(names, map(float, [*values, check.loc["feature", "p"]]), strict=True))


def _concordance(
    kernel: Floats,
    order: npt.NDArray[np.intp],
    times: Floats,
    events: npt.NDArray[np.int_],
    seed: int,
) -> float:
    """Mean over folds of the concordance of held-out patients."""
    from lifelines import CoxPHFitter
    from lifelines.exceptions import ConvergenceError
    from lifelines.utils import concordance_index

    found = []
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for (train, held), fitted, other in components(kernel, order, splits(events, seed)):
            frame = pd.DataFrame(fitted).assign(time=times[train], event=events[train])
            try:
                model = CoxPHFitter(penalizer=_PENALTY).fit(frame, "time", "event")
                risk = other @ model.params_.to_numpy()
                found.append(concordance_index(times[held], -risk, events[held]))
            except (ConvergenceError, np.linalg.LinAlgError, ValueError, ZeroDivisionError):
                continue  # no pair of held-out patients can be compared
    return float(np.mean(found)) if found else float("nan")


def _profiles(table: Patients, times: Floats, events: npt.NDArray[np.int_], seed: int) -> _Profile:
    if not table.is_gene.any():
        return _Profile(float("nan"), np.zeros(0))
    kernel = products(table.take(table.kind == GENE, "").values)
    rng = np.random.default_rng([seed, 11])
    n = len(times)
    seen = _concordance(kernel, np.arange(n), times, events, seed)
    null = np.array(
        [_concordance(kernel, rng.permutation(n), times, events, seed) for _ in range(_SHUFFLES)]
    )
    return _Profile(seen, null[np.isfinite(null)])


def _curves(
    found: pd.DataFrame, table: Patients, times: Floats, events: npt.NDArray[np.int_], unit: str
) -> list[Any]:
    from lifelines.statistics import multivariate_logrank_test

    known = found[np.isfinite(found["p_value"])]
    if known.empty:
        return []
    row = next(known.head(1).itertuples())
    values = table.of_feature(row.feature)
    p = float(multivariate_logrank_test(times, pictures.tertiles(values), events).p_value)
    note = f"Log-rank p {p:.2g} of thirds; first of {len(known):,} by Cox, q {row.q_value:.2g}; level {row.level_grade}."
    title = f"{row.feature}: survival by third of predicted expression"
    return [pictures.kaplan_meier(times, events.astype(float), values, title, note, unit)]
