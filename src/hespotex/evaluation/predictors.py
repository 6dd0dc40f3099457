"""The model, the baselines beside it and the ceiling: one table of labels, colours, order and where the code is."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from hespotex.registry import Registry

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt
    from scipy import sparse

    from hespotex.genes.panel import GenePanel
    from hespotex.models.types import Cohort, EncodedSection, Prediction, TrainingSection


@dataclass(frozen=True)
class Predictor:
    """Names, colours and notes of a line of scores, and where its code is.

    Attributes:
        label: its name in every text, table and picture.
        colour: of its drawings on white.
        on_dark: the same on a dark page.
        note: what it is, in a few words; empty where the label says all.
        oracle: it reads the held-out counts, so its scores are no scores of a prediction.
        code: `module:attribute` of its `Baseline`; empty where it is none.
    """

    label: str
    colour: str
    on_dark: str
    note: str = ""
    oracle: bool = False
    code: str = ""

    @property
    def marked(self) -> str:
        """The label, with a word where it is a baseline that is an oracle."""
        return f"{self.label} (oracle)" if self.oracle and self.code else self.label


_GREY: Final = ("#80848f", "#9aa0ac")
MODEL: Final = "model"
# By column of metrics.json and genes.csv, in the order of tables and pictures.
PREDICTORS: Final[Mapping[str, Predictor]] = {
    MODEL: Predictor("HESpotEx", "#0b6e8f", "#4fb3d4"),
    "ridge": Predictor(
        "ridge regression",
        "#c07a1d",
        "#e0a24d",
        note="on the same features",
        code="hespotex.evaluation.baselines:RIDGE",
    ),
    "nearest_patches": Predictor(
        "nearest patches",
        "#8a5aa8",
        "#b992d6",
        note="mean of the training spots that look most alike",
        code="hespotex.evaluation.neighbours:NEAREST_PATCHES",
    ),
    "train_mean": Predictor("train mean", *_GREY, code="hespotex.evaluation.baselines:TRAIN_MEAN"),
    "depth_only": Predictor(
        "measured depth alone",
        *_GREY,
        note="oracle: reads the held-out counts",
        oracle=True,
        code="hespotex.evaluation.baselines:DEPTH_ONLY",
    ),
    "predicted_depth_only": Predictor(
        "predicted depth alone",
        "#b9bcc4",
        "#6f7683",
        note="one map for all genes",
        code="hespotex.evaluation.baselines:PREDICTED_DEPTH_ONLY",
    ),
    "neighbours": Predictor(
        "measured neighbours",
        *_GREY,
        note="upper mark: reads the held-out counts",
        oracle=True,
        code="hespotex.evaluation.neighbours:NEIGHBOURS",
    ),
    "ceiling": Predictor(
        "ceiling set by counting noise", *_GREY, note="of a perfect prediction", oracle=True
    ),
}


def label_of(name: str) -> str:
    """The label of a line of scores; the column's own name where another version of hespotex wrote it."""
    return PREDICTORS[name].label if name in PREDICTORS else name


@dataclass(frozen=True)
class Known:
    """What a baseline may use of one held-out section; n spots, G panel genes.

    Attributes:
        arrays: what its `fit` returned, from the model file.
        item: the section, without its expression.
        prediction: what the model says of it.
        panel: the model's genes.
        train: the training sections, where they are at hand.
        counts: (n, G) the measured counts, for an oracle; else None.
    """

    arrays: Mapping[str, npt.NDArray[Any]]
    item: EncodedSection
    prediction: Prediction
    panel: GenePanel
    train: Cohort | None = None
    counts: sparse.csr_matrix | None = None


@dataclass(frozen=True)
class Rival:
    """A prediction to stand beside the model's.

    Attributes:
        log1p: (n, G) log1p(CPM over the panel), or (n, 1) for all genes alike.
        composition: the same on the scale of composition; None where it has none.
        in_units: log1p is in its unit, so that its error means something.
    """

    log1p: npt.NDArray[np.floating[Any]]
    composition: npt.NDArray[np.floating[Any]] | None = None
    in_units: bool = True


def _nothing(_sections: Sequence[TrainingSection], _n_spots: int) -> Mapping[str, npt.NDArray[Any]]:
    return {}


@dataclass(frozen=True)
class Baseline:
    """How a baseline is fitted and predicts.

    Attributes:
        predict: of one held-out section; None where it cannot be had here.
        fit: arrays for the model file, of the training sections and of how many of their spots may be kept.
        stored_as: what the arrays' names begin with; empty: the baseline's column.
    """

    predict: Callable[[Known], Rival | None]
    fit: Callable[[Sequence[TrainingSection], int], Mapping[str, npt.NDArray[Any]]] = _nothing
    stored_as: str = ""


BASELINES: Final = Registry(
    "baseline", Baseline, {name: found.code for name, found in PREDICTORS.items() if found.code}
)


def fitted(sections: Sequence[TrainingSection], n_spots: int) -> dict[str, npt.NDArray[Any]]:
    """The arrays that baselines keep in a model file, by flat name.

    Args:
        n_spots: so many training spots may be kept with their counts.
    """
    return {
        f"{baseline.stored_as or name}.{key}": array
        for name, baseline in BASELINES.all().items()
        for key, array in baseline.fit(sections, n_spots).items()
    }


def rivals(
    arrays: Mapping[str, npt.NDArray[Any]],
    panel: GenePanel,
    train: Cohort | None,
    blind: EncodedSection,
    prediction: Prediction,
) -> dict[str, Rival]:
    """Predictions of a section by the baselines that read no held-out counts, by column.

    Args:
        arrays: of the model file.
        train: the training sections, where they are at hand.
        blind: the section without its expression.
    """
    found = {}
    for name, baseline in BASELINES.all().items():
        if not PREDICTORS[name].oracle:
            own = _own(arrays, baseline.stored_as or name)
            found[name] = baseline.predict(Known(own, blind, prediction, panel, train))
    return {name: rival for name, rival in found.items() if rival is not None}


def oracles(
    panel: GenePanel, blind: EncodedSection, prediction: Prediction, counts: sparse.csr_matrix
) -> dict[str, Rival]:
    """Predictions of the baselines that read the held-out counts, by column."""
    found = {}
    for name, baseline in BASELINES.all().items():
        if PREDICTORS[name].oracle:
            found[name] = baseline.predict(Known({}, blind, prediction, panel, counts=counts))
    return {name: rival for name, rival in found.items() if rival is not None}


def _own(arrays: Mapping[str, npt.NDArray[Any]], prefix: str) -> dict[str, npt.NDArray[Any]]:
    start = f"{prefix}."
    return {k.removeprefix(start): v for k, v in arrays.items() if k.startswith(start)}
