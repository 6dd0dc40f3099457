"""Groups of patients: a linear model per feature, and a classifier of whole profiles with its null; pure."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import pandas as pd

from hespotex import keys
from hespotex.analysis.association import pictures
from hespotex.analysis.association.correlations import q_values
from hespotex.analysis.association.patients import GENE, Floats, Patients, covariates, independent
from hespotex.analysis.association.profiles import components, products, splits
from hespotex.analysis.association.result import Association, Picture, best_first, discoveries
from hespotex.errors import ConfigError, counted, shorten
from hespotex.progress import Reporter

_FEWEST: Final = 3
_MOST_GROUPS: Final = 12
_SHUFFLES: Final = 199
_FEW: Final = 20


def between_groups(
    table: Patients, column: str, reporter: Reporter, *, adjust: Sequence[str] = (), seed: int = 0
) -> Association:
    """Compare two or more groups of patients.

    Args:
        table: of the cohort.
        column: of obs that names the group; the first by name is the reference.
        adjust: covariates of the linear model; the classifier sees none.
        seed: of folds and permutations.

    Raises:
        ConfigError: no such column, one group, or measurements instead of groups.
    """
    table, labels = _grouped(table, column)
    table, design, names = covariates(table, adjust)
    labels = table.obs[column].map(_text).to_numpy(dtype=str)
    table, design, labels = _large(table, design, labels, column)
    design, names = independent(design, names)
    table = table.complete()
    order = sorted(set(labels.tolist()))
    sizes = {g: int((labels == g).sum()) for g in order}
    found = _linear(table, labels, order, design, reporter)
    found = best_first(found, ["p_value"], [True])
    sentence, classifier, null = _profile(table, labels, order, seed)
    said = ", ".join(f"{g} ({n})" for g, n in sizes.items())
    adjusted = f", adjusted for {', '.join(names)}" if names else ""
    effect = "effect" if len(order) == 2 else "partial_r2"
    findings = (
        f"Linear model of each feature over {counted(len(labels), 'patient')} in {said}{adjusted}: {discoveries(found, 'differ')}",
        sentence,
    )
    first = [table.level_sentence(), *table.notes]
    if min(sizes.values()) < _FEW // 2:
        first.append(
            f"Groups of {shorten(list(map(str, sizes.values())))} patients: small effects cannot be found."
        )
    label = (
        f"difference of log1p(CPM): {order[1]} − {order[0]}" if len(order) == 2 else "partial R²"
    )
    title = f"{column}: {' against '.join(order[::-1]) if len(order) == 2 else ', '.join(order)}"
    shown = [
        pictures.volcano(
            found,
            effect,
            label,
            title,
            f"Linear model over {len(labels)} patients{adjusted}; one dot a feature.",
        ),
        *_best(found, table, labels, order),
        *null,
    ]
    return Association(
        kind="group",
        title=f"Groups of patients by {column}",
        first=tuple(s for s in first if s),
        findings=findings,
        table=found,
        numbers={
            "groups": sizes, "reference": order[0], "adjust": list(names), "column": column,
            "classifier": classifier,
        },
        pictures=tuple(shown),
        dropped=table.dropped,
        n_patients=len(labels),
    )  # fmt: skip


def _profile(
    table: Patients, labels: npt.NDArray[np.str_], order: Sequence[str], seed: int
) -> tuple[str, dict[str, float | int | None], list[Picture]]:
    """What a classifier of whole profiles says: a sentence, numbers, its null."""
    if not table.is_gene.any():
        nothing = dict.fromkeys(("auroc", "lower", "upper", "null_mean", "p_value"))
        said = "No gene has a value in every patient: there is no whole profile to classify by."
        return said, {**nothing, "shufflings": 0}, []
    (auroc, scores), null = _classified(table, labels, order, seed)
    lower, upper = _interval(scores, labels, order, seed)
    p = float((np.sum(null >= auroc - 1e-12) + 1) / (len(null) + 1))
    said = (
        f"A classifier of the whole profile, cross-validated by patient, reaches AUROC {auroc:.2f} [{lower:.2f}, {upper:.2f}]; with "
        f"patients shuffled {null.mean():.2f} (p = {p:.2g}, {len(null):,} shufflings). It sees no covariate."
    )
    numbers: dict[str, float | int | None] = {
        "auroc": auroc, "lower": lower, "upper": upper, "null_mean": float(null.mean()), "p_value": p, "shufflings": len(null),
    }  # fmt: skip
    return said, numbers, [pictures.null_histogram(auroc, null, "AUROC", "classifier", 0.5)]


def _text(value: Any) -> str:
    """1.0 and 1 are one group, two long numbers are not."""
    return f"{value:.15g}" if isinstance(value, float) else str(value).strip()


def _grouped(table: Patients, column: str) -> tuple[Patients, npt.NDArray[np.str_]]:
    values = table.column(column, "--group")
    present = values.notna().to_numpy(bool)
    if not present.any():
        raise ConfigError(
            expected=f"a group of every patient in column {column}", found="no value",
            remedy="a column that differs between slides of a patient is empty for the patient; give one value a patient",
        )  # fmt: skip
    table = table.keep(present, f"no value of {column}")
    labels = table.obs[column].map(_text).to_numpy(dtype=str)
    n = len(set(labels.tolist()))
    if n < 2:
        raise ConfigError(
            expected=f"two groups or more in column {column}", found=f"one: {labels[0]}, {counted(len(labels), 'patient')}",
            remedy="choose another column",
        )  # fmt: skip
    if n > _MOST_GROUPS:
        raise ConfigError(
            expected=f"at most {_MOST_GROUPS} groups in column {column}",
            found=f"{n} different values: {shorten(sorted(set(labels.tolist())), 4)}",
            remedy="a measurement is no group: cut it into a few classes in the clinical table",
        )
    return table, labels


def _large(
    table: Patients, design: Floats, labels: npt.NDArray[np.str_], column: str
) -> tuple[Patients, Floats, npt.NDArray[np.str_]]:
    """Groups of three patients at least."""
    counts = pd.Series(labels).value_counts()
    large = np.array([counts[g] >= _FEWEST for g in labels])
    left = {g for g, k in zip(labels.tolist(), large, strict=True) if k}
    if len(left) < 2:
        raise ConfigError(
            expected=f"two groups of {_FEWEST} patients or more in column {column}",
            found=", ".join(f"{g} ({n})" for g, n in counts.items()),
            remedy="join groups in the clinical table, or give more patients",
        )
    table = table.keep(large, [f"group {g} has fewer than {_FEWEST} patients" for g in labels])
    return table, design[large], labels[large]


def _linear(
    table: Patients,
    labels: npt.NDArray[np.str_],
    order: Sequence[str],
    design: Floats,
    reporter: Reporter,
) -> pd.DataFrame:
    """Ordinary least squares of every feature on group and covariates; F test of the group."""
    import statsmodels.api as sm

    groups = np.column_stack([(labels == g).astype(float) for g in order[1:]])
    full = np.column_stack([np.ones(len(labels)), groups, design])
    if np.linalg.matrix_rank(full) < full.shape[1]:
        raise ConfigError(
            expected="covariates that are not the groups themselves", found="a design in which they cannot be told apart",
            remedy="adjust for less",
        )  # fmt: skip
    k = groups.shape[1]
    restriction = np.eye(full.shape[1])[1 : 1 + k]
    rows = []
    with reporter.task("linear models", len(table.features)) as advance:
        for j in range(len(table.features)):
            fit = sm.OLS(table.values[:, j].astype(np.float64), full).fit()
            test = fit.f_test(restriction)
            f, p = float(np.squeeze(test.fvalue)), float(np.squeeze(test.pvalue))
            row: dict[str, Any] = {"p_value": p, "partial_r2": f * k / (f * k + fit.df_resid)}
            ends = fit.conf_int()
            for g, name in enumerate(order[1:], start=1):
                suffix = "" if k == 1 else f"_{name}"
                row[f"effect{suffix}"] = float(fit.params[g])
                row[f"lower{suffix}"], row[f"upper{suffix}"] = map(float, ends[g])
            if k == 1:
                row["standardised"] = float(fit.params[1] / max(np.sqrt(fit.mse_resid), 1e-12))
            rows.append(row)
            advance(1)
    found = pd.DataFrame(rows)
    found.insert(0, "feature", table.features)
    found.insert(1, "kind", table.kind)
    found["q_value"] = q_values(found["p_value"].to_numpy(np.float64), table.kind)
    found["n_patients"] = len(labels)
    found[keys.GRADE], found[keys.LEVEL_GRADE] = table.grade, table.level_grade
    return found


def _scores(
    kernel: Floats, order: npt.NDArray[np.intp], places: npt.NDArray[np.int_], seed: int
) -> Floats:
    """(P, groups) probability of each group for every patient, by a model that had not seen it."""
    from sklearn.linear_model import LogisticRegression

    out = np.zeros((len(places), int(places.max()) + 1))
    for (train, held), fitted, other in components(kernel, order, splits(places, seed)):
        model = LogisticRegression(C=0.1, class_weight="balanced").fit(fitted, places[train])
        out[held] = model.predict_proba(other)
    return out


def _auroc(scores: Floats, places: npt.NDArray[np.int_]) -> float:
    from sklearn.metrics import roc_auc_score

    if scores.shape[1] == 2:
        return float(roc_auc_score(places, scores[:, 1]))
    return float(roc_auc_score(places, scores, multi_class="ovr", average="macro"))


def _classified(
    table: Patients, labels: npt.NDArray[np.str_], order: Sequence[str], seed: int
) -> tuple[tuple[float, Floats], Floats]:
    """AUROC with the scores, and the AUROC with the profiles of patients shuffled, folds and labels kept."""
    places = np.searchsorted(order, labels).astype(np.int_)
    kernel = products(table.take(table.kind == GENE, "").values)
    scores = _scores(kernel, np.arange(len(places)), places, seed)
    rng = np.random.default_rng([seed, 9])
    null = [
        _auroc(_scores(kernel, rng.permutation(len(places)), places, seed), places)
        for _ in range(_SHUFFLES)
    ]
    return (_auroc(scores, places), scores), np.array(null)


def _interval(
    scores: Floats, labels: npt.NDArray[np.str_], order: Sequence[str], seed: int
) -> tuple[float, float]:
    """95 % by bootstrap over patients, inside groups."""
    places = np.searchsorted(order, labels).astype(np.int_)
    rng, found = np.random.default_rng([seed, 10]), []
    members = [np.flatnonzero(places == k) for k in range(len(order))]
    for _ in range(500):
        drawn = np.concatenate([rng.choice(own, len(own)) for own in members])
        found.append(_auroc(scores[drawn], places[drawn]))
    lower, upper = np.quantile(found, [0.025, 0.975])
    return float(lower), float(upper)


def _best(
    found: pd.DataFrame, table: Patients, labels: npt.NDArray[np.str_], order: list[str]
) -> list[Picture]:
    known = found[np.isfinite(found["p_value"]) & (found["kind"] == GENE)]
    if known.empty:
        return []
    row = next(known.head(1).itertuples())
    values = table.of_feature(row.feature)
    note = f"q {row.q_value:.2g}; {pictures.level_words(row)}. The first of {len(known):,} genes."
    return [
        pictures.strips(values, labels, order, f"{row.feature}, the gene that differs most", note)
    ]
