"""The values that go into and come out of a fit."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
from scipy import sparse

from hespotex.features.appearance import Appearance
from hespotex.sections.section import Section


@dataclass(frozen=True)
class TrainingSection:
    """One training section as arrays; n spots, S patch scales, D encoder features, G panel genes.

    Attributes:
        section_id, patient_id: as in the manifest.
        features: (n, S, D) float32, the encoder's raw features, smallest patch first.
        xy_um: (n, 2) spot centres in microns.
        counts: (n, G) raw counts over the panel, CSR.
        measured: (G,) False where the section did not measure the gene: masked in the loss.
        nuclei: (n,) nuclei factor, or None where the model has none.
    """

    section_id: str
    patient_id: str
    features: npt.NDArray[np.float32]
    xy_um: npt.NDArray[np.float64]
    counts: sparse.csr_matrix
    measured: npt.NDArray[np.bool_]
    nuclei: npt.NDArray[np.float64] | None = None


@dataclass(frozen=True)
class FittedModel:
    """The result of a fit: plain arrays and JSON-like values, so that it goes into one file.

    Attributes:
        profile: which predict function reads it.
        tensors: every array needed to predict, by flat name.
        hyper: JSON-like values needed to predict or chosen while fitting (sizes, shrinkage, epochs).
        history: losses by name, one number a step or epoch.
    """

    profile: Literal["default", "published"]
    tensors: Mapping[str, npt.NDArray[Any]]
    hyper: Mapping[str, Any] = field(default_factory=dict)
    history: Mapping[str, list[float]] = field(default_factory=dict)


@dataclass(frozen=True)
class Prediction:
    """The prediction of a model for n spots and G genes.

    Attributes:
        log1p: (n, G) expected log1p(CPM over the panel) at the predicted depth.
        composition: (n, G) log(p) - log(pooled p of the training sections).
        depth: (n,) expected total count over the panel; NaN where the model does not predict it.
        spread: (n, G) standard deviation of log1p between the members of the ensemble, or None.
    """

    log1p: npt.NDArray[np.float32]
    composition: npt.NDArray[np.float32]
    depth: npt.NDArray[np.float32]
    spread: npt.NDArray[np.float32] | None = None


@dataclass(frozen=True)
class EncodedSection:
    """A section with its patches encoded.

    Attributes:
        section: spots, and counts where they were measured.
        features: (n, S, D) float32 raw encoder features, smallest patch first.
        nuclei: (n,) nuclei factor, or None where the model has none.
        appearance: of the patches; None where features were given.
    """

    section: Section
    features: npt.NDArray[np.float32]
    nuclei: npt.NDArray[np.float64] | None = None
    appearance: Appearance | None = None

    def without_expression(self) -> EncodedSection:
        """The same section as a model may see it when it predicts."""
        return replace(self, section=replace(self.section, counts=None, genes=None, bins=None))

    def spots(self, index: npt.NDArray[np.intp]) -> EncodedSection:
        """Only these spots, in the given order."""
        return replace(
            self,
            section=self.section.spots(index),
            features=self.features[index],
            nuclei=None if self.nuclei is None else self.nuclei[index],
            appearance=None if self.appearance is None else self.appearance.spots(index),
        )


@dataclass(frozen=True)
class EncoderRecord:
    """Facts about its encoder that a model keeps.

    Attributes:
        key: content key of weights and preprocessing.
        dim: features per patch.
        size_px: side of the encoder's input.
        mean, std: per channel, on a scale of 0 to 1.
    """

    name: str
    key: str
    dim: int
    size_px: int
    mean: tuple[float, ...]
    std: tuple[float, ...]


@dataclass(frozen=True)
class SpotsOf:
    """The spots of a training section in another form than that which was fitted; fields as of `TrainedOn`."""

    key: str
    marks: tuple[int, ...] = ()
    abundant_marks: tuple[int, ...] = ()


@dataclass(frozen=True)
class TrainedOn:
    """One section that a model was fitted on.

    Attributes:
        key: of its positions and counts.
        inputs: all that the fit saw of it, by name; empty in files of before it was written down.
        marks: `duplicates.sketch` of its spots' counts; empty likewise.
        abundant_marks: the same over the model's most abundant genes alone.
        bins: of the bins that its spots are squares of; None where it was fitted as it was read, and in older files.
    """

    section_id: str
    patient_id: str
    key: str
    n_spots: int
    mpp: float
    accepted: tuple[str, ...] = ()
    inputs: Mapping[str, Any] = field(default_factory=dict)
    marks: tuple[int, ...] = ()
    abundant_marks: tuple[int, ...] = ()
    bins: SpotsOf | None = None


@dataclass(frozen=True)
class Cohort:
    """Sections whose patches were encoded by one encoder, in the order of the manifest.

    Attributes:
        encoder: the encoder of all of them.
        sides_um: sides of the patches in microns, smallest first.
    """

    items: tuple[EncodedSection, ...]
    encoder: EncoderRecord
    sides_um: tuple[float, ...]

    def subset(self, section_ids: Sequence[str]) -> Cohort:
        """Only these sections, in the given order."""
        by_id = {item.section.section_id: item for item in self.items}
        return replace(self, items=tuple(by_id[i] for i in section_ids))
