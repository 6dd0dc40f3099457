"""What a scored run says of the level of slides: the looks of every fold, kept until all are done, and the summary."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd

from hespotex import keys
from hespotex.errors import RunError
from hespotex.evaluation import run_tables
from hespotex.evaluation.grades import count_grades
from hespotex.evaluation.held_out import HeldOut
from hespotex.evaluation.level_scores import BASELINES, FEWEST_PATIENTS, LEVEL_RULE, LevelScores
from hespotex.models.bundle import Bundle
from hespotex.models.default.level import CANNOT_TELL, level_words
from hespotex.models.types import Cohort
from hespotex.storage.atomic import atomic_path
from hespotex.storage.metrics import FoldRecord, LevelSummary
from hespotex.storage.run_folder import RunDir
from hespotex.validation.run_levels import FoldLooks, cross_validated_levels, external_levels


def write_fold_looks(run: RunDir, number: int, looks: FoldLooks) -> None:
    """Keep where slides lie for the model of a fold, and what that means for its genes."""
    arrays = {
        "ids": np.array(list(looks.looks), dtype=np.str_),
        "looks": np.array(list(looks.looks.values())),
        "held_out": np.array(list(looks.depth), dtype=np.str_),
        "depth": np.array(list(looks.depth.values())),
        "tells": np.array(looks.tells),
        "new": np.array(sorted(looks.new), dtype=np.str_),
        "genes": np.array(list(looks.slopes), dtype=np.str_),
        "slopes": np.array(list(looks.slopes.values())),
    }
    with (
        atomic_path(run.work / f"fold-{number}-looks.npz") as temporary,
        temporary.open("wb") as out,
    ):
        np.savez(out, allow_pickle=False, **arrays)


def read_fold_looks(run: RunDir, number: int) -> FoldLooks:
    """What `write_fold_looks` kept.

    Raises:
        RunError: it is gone or damaged.
    """
    path = run.work / f"fold-{number}-looks.npz"
    try:
        with np.load(path) as kept:
            return FoldLooks(
                dict(zip(kept["ids"].tolist(), kept["looks"], strict=True)),
                dict(zip(kept["held_out"].tolist(), kept["depth"].tolist(), strict=True)),
                bool(kept["tells"]),
                frozenset(kept["new"].tolist()),
                dict(zip(kept["genes"].tolist(), kept["slopes"], strict=True)),
            )
    except (OSError, ValueError, KeyError) as error:
        raise RunError(
            expected=f"the looks of fold {number} in {path}",
            found="none that can be read",
            remedy="choose another --out",
        ) from error


def levels_of_folds(run: RunDir, cohort: Cohort, n_folds: int, seed: int) -> LevelScores | None:
    """Scores of the level over all folds of a run; None for a profile without a level."""
    tables = [run_tables.GENES.read(run.work / f"fold-{n}-genes.csv") for n in range(n_folds)]
    genes = list(dict.fromkeys(gene for table in tables for gene in table[run_tables.GENE]))
    looks = [read_fold_looks(run, n) for n in range(n_folds)]
    return cross_validated_levels(cohort, looks, genes, seed=seed)


def levels_of_model(run: RunDir, bundle: Bundle, held_out: Sequence[HeldOut]) -> LevelScores | None:
    """Scores of the level of a model on new sections; None for a profile without a level."""
    return external_levels(bundle, held_out, sorted(read_fold_looks(run, 0).new))


def with_levels(genes: pd.DataFrame, scores: LevelScores | None) -> pd.DataFrame:
    """Rows of genes.csv with the scores of their gene's level, the same in every section."""
    if scores is None:
        return genes
    return genes.merge(scores.table, on=run_tables.GENE, how="left")


def level_grades_of(scores: LevelScores | None) -> dict[str, str]:
    """Level grade by gene, as evidence.json and a model file keep it."""
    if scores is None:
        return {}
    return dict(zip(scores.table[run_tables.GENE], scores.table[keys.LEVEL_GRADE], strict=True))


def summarise_levels(scores: LevelScores, records: Sequence[FoldRecord]) -> LevelSummary:
    """What metrics.json says of the level."""
    table, told = scores.table, sum(_tells(record.hyper) for record in records)
    grades = count_grades(table[keys.LEVEL_GRADE].to_numpy(dtype=str))
    names = {
        label: run_tables.of_predictor(run_tables.LEVEL_PCC, n) for n, label in BASELINES.items()
    }
    return LevelSummary(
        sentence=_sentence(scores, grades, records),
        n_patients=scores.n_patients,
        n_folds_told=told,
        grades=grades,
        grade_rule=list(LEVEL_RULE),
        pcc=_mean(table[run_tables.LEVEL_PCC]),
        spearman=_mean(table[run_tables.LEVEL_SPEARMAN]),
        baselines={label: _mean(table[n]) for label, n in names.items() if n in table},
        rmse=_root_mean(table[run_tables.LEVEL_RMSE], scores.n_patients),
        train_mean_rmse=_root_mean(table[run_tables.TRAIN_MEAN_LEVEL_RMSE], scores.n_patients),
        pcc_across_genes=scores.across_genes[0],
        train_mean_pcc_across_genes=scores.across_genes[1],
    )


def _tells(hyper: Mapping[str, object]) -> bool:
    level = hyper.get("level")
    return isinstance(level, Mapping) and bool(level.get("tells_slides_apart"))


def _sentence(scores: LevelScores, grades: Mapping[str, int], records: Sequence[FoldRecord]) -> str:
    told, n = sum(_tells(r.hyper) for r in records), len(records)
    if n == 1:
        words = level_words(records[0].hyper)
    elif told:
        words = f"{told} of {n} models of the folds tell slides apart"
    else:
        words = f"{CANNOT_TELL}: the level of every held-out slide is the training mean, in all of {n} folds"
    if scores.n_patients < FEWEST_PATIENTS:
        who = f"{scores.n_patients} held-out patient{'' if scores.n_patients == 1 else 's'}"
        return f"Level of a slide: {words}. Ungraded: {who}, at least {FEWEST_PATIENTS} are needed."
    found = sum(grades[g] for g in "ABC")
    return (
        f"Level of a slide: {words}. The level of {found:,} of {len(scores.table):,} genes is shown to be predicted across "
        f"{scores.n_patients} held-out patients."
    )


def _mean(values: pd.Series) -> float:
    known = values.to_numpy(np.float64)
    known = known[np.isfinite(known)]
    return float(known.mean()) if len(known) else float("nan")


def _root_mean(values: pd.Series, n_patients: int) -> float:
    return (
        float(np.sqrt(np.mean(np.square(values.to_numpy(np.float64)))))
        if n_patients
        else float("nan")
    )
