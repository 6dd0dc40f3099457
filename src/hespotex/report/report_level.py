"""Texts of the report on the level of slides; pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

from hespotex import keys
from hespotex.models.default.level import CANNOT_TELL
from hespotex.report.report_tables import text
from hespotex.storage.metrics import LevelSummary

TOLD: Final = "That a model tells slides apart is a finding on all genes together: no single gene need have a grade."
NONE_TOLD: Final = "No model of this run tells slides apart: it predicts no deviation, has no correlation, and its RMSE is the train mean's."


def level_section(level: LevelSummary | None) -> dict[str, Any]:
    """What a scored run says of the level; empty where there is none."""
    if level is None:
        return {}
    rows = []
    if level.n_patients > 1:
        rows = [_row("this model", level.pcc, level.spearman, level.rmse, level.pcc_across_genes)]
        across = level.train_mean_pcc_across_genes
        rows.append(_row("train mean", rmse=level.train_mean_rmse, across=across))
        rows += [_row(name, pcc) for name, pcc in level.baselines.items()]
    grades = ", ".join(f"{n:,} {grade}" for grade, n in level.grades.items() if n)
    return {
        "sentence": level.sentence,
        "note": TOLD if level.n_folds_told else NONE_TOLD,
        "n_patients": level.n_patients,
        "rows": rows,
        "grades": grades,
        "rule": level.grade_rule,
    }


def level_notes(records: Sequence[Mapping[str, Any]]) -> list[str]:
    """That predictions come from a model that cannot tell slides apart, once."""
    told = dict.fromkeys(str(record.get(keys.LEVEL_SENTENCE, "")) for record in records)
    if not told or not all(words.startswith(CANNOT_TELL) for words in told):
        return []
    words = (
        next(iter(told))
        if len(told) == 1
        else f"{CANNOT_TELL}: every slide's level is the training mean"
    )
    return [f"{words[0].upper()}{words[1:]}."]


def _row(
    name: str,
    pcc: float = float("nan"),
    spearman: float = float("nan"),
    rmse: float = float("nan"),
    across: float = float("nan"),
) -> dict[str, str]:
    values = {"pcc": pcc, "spearman": spearman, "rmse": rmse, "across": across}
    return {"name": name, **{key: text(value, 3) for key, value in values.items()}}
