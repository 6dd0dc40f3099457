"""absent_genes.csv of a run: which measured genes no prediction holds, and why; what the report's search answers."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

import numpy as np
import pandas as pd

from hespotex.config import PanelConfig
from hespotex.evaluation.run_tables import GENE
from hespotex.genes.absent_genes import why_left_out
from hespotex.models.bundle import Bundle
from hespotex.storage.run_folder import RunDir
from hespotex.storage.table import Table

_SEEN, _WHY = "seen", "why"
# A gene, the mean share of training spots that have a count of it, and the reason in words.
ABSENT_GENES: Final = Table({GENE: str, _SEEN: float, _WHY: str}, (GENE, _SEEN), "%.5f")
_OF_FOLD: Final = replace(ABSENT_GENES, float_format=None)


def write_absent_of_fold(run: RunDir, number: int, bundle: Bundle) -> None:
    """Keep which genes of its training tables a fold leaves out, until all folds are done."""
    _OF_FOLD.write(_fold_path(run, number), _left_out(bundle))


def write_absent_of_folds(
    run: RunDir, n_folds: int, predicted: Collection[str], rule: PanelConfig
) -> None:
    """Write absent_genes.csv: the genes that no fold predicts, each with its mean share over the folds.

    Args:
        run: the folder; folds of an earlier version left nothing to read, and count as having left out none.
        n_folds: how many there are.
        predicted: genes of any fold's panel.
        rule: by which the panels were chosen.
    """
    paths = [_fold_path(run, number) for number in range(n_folds)]
    tables = [_OF_FOLD.read(path) for path in paths if path.exists()]
    every = pd.concat([*tables, _table((), ())], ignore_index=True)
    every = every[~every[GENE].isin(set(predicted))]
    _write(run, every.groupby(GENE, sort=True)[_SEEN].mean().reset_index(), rule)


def write_absent_of_model(run: RunDir, bundle: Bundle) -> None:
    """Write absent_genes.csv beside predictions of a model, where it knows which genes its panel leaves out."""
    if bundle.others.names:
        _write(run, _left_out(bundle), bundle.config.panel)


def _left_out(bundle: Bundle) -> pd.DataFrame:
    return _table(bundle.others.names, bundle.others.shares)


def _table(names: Sequence[str], shares: Sequence[float]) -> pd.DataFrame:
    return pd.DataFrame(
        {GENE: np.array(names, dtype=object), _SEEN: np.array(shares, dtype=np.float64)}
    )


def _fold_path(run: RunDir, number: int) -> Path:
    return run.work / f"fold-{number}-absent.csv"


def _write(run: RunDir, table: pd.DataFrame, rule: PanelConfig) -> None:
    why = [why_left_out(share, rule) for share in table[_SEEN]]
    ABSENT_GENES.write(run.absent_genes_csv, table.assign(**{_WHY: why}))


def absent_for_search(run: RunDir) -> dict[str, Any]:
    """Names, and for each the number of its sentence, to be read after the name; no names where the run does not say."""
    path = run.absent_genes_csv
    table = ABSENT_GENES.read(path) if path.exists() else _table((), ()).assign(**{_WHY: ""})
    sentences = [f"{why}. A model trained with --add-genes predicts it." for why in table[_WHY]]
    codes, distinct = pd.factorize(np.array(sentences, dtype=object))
    return {"names": table[GENE].tolist(), "why": codes.tolist(), "sentences": distinct.tolist()}
