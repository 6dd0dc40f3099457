"""Predictions, features and a table of diagnoses become bags; reads files."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
import numpy.typing as npt
import pandas as pd

from hespotex import keys
from hespotex.analysis.clinical import attach_clinical
from hespotex.analysis.cohort import prediction_files
from hespotex.analysis.localize.bags import Bag, Bags, check_labels, write_bags
from hespotex.analysis.patient_ids import owner
from hespotex.analysis.prediction_file import PredictionFile
from hespotex.errors import ConfigError, GenePanelError, shorten
from hespotex.features.foreign_h5 import read_features_file
from hespotex.progress import Reporter

Floats = npt.NDArray[np.float32]

COMPOSITION: Final = "composition"
FEATURES: Final = "features"
BOTH: Final = "both"
_GRADES: Final = ("A", "B", "C")


@dataclass(frozen=True)
class Slides:
    """The slides of a cohort that have a diagnosis.

    Attributes:
        files: one prediction a slide.
        bags: the same slides, without values.
        genes: graded A to C on every slide.
        grades: (G,) of the genes, on the first slide.
        features: file of encoder features by slide; empty where none were given.
        notes: what was left out, in words.
    """

    files: tuple[PredictionFile, ...]
    bags: tuple[Bag, ...]
    genes: tuple[str, ...]
    grades: tuple[str, ...]
    features: tuple[Path, ...]
    notes: tuple[str, ...]

    @property
    def usable(self) -> npt.NDArray[np.bool_]:
        """(N,) spots that are not flagged as unlike the training's."""
        return np.concatenate([f.usable for f in self.files])

    @property
    def log_depth(self) -> npt.NDArray[np.float64]:
        """(N,) log of the predicted depth; NaN where the model predicts none."""
        depth = np.concatenate([f.spots.depth for f in self.files]).astype(np.float64)
        return np.log(np.maximum(depth, 1e-9))


def read_slides(
    predicted: list[Path], clinical: Path, label: str, *, site: str | None, features: Path | None
) -> Slides:
    """Predictions with a diagnosis each.

    Raises:
        HESpotExError: a prediction, the table, a column or a features file is wrong, or the diagnoses are no two.
    """
    files = [PredictionFile(path) for path in prediction_files(predicted)]
    ids = [f.spots.section_id for f in files]
    if len(set(ids)) < len(ids):
        twice = sorted({name for name in ids if ids.count(name) > 1})
        raise ConfigError(expected="each slide once", found=f"{shorten(twice, 3)} in several files")
    models = sorted({str(f.spots.record.get("model_id", "")) for f in files})
    if len(models) > 1:
        raise ConfigError(
            expected="predictions of one model", found=f"{len(models)}: {shorten(models, 3)}",
            remedy="predict all slides with the same model",
        )  # fmt: skip
    obs = pd.DataFrame(
        {keys.SECTION_ID: ids, keys.PATIENT_ID: [owner(f.spots.section_id, f.spots.patient_id)[0] for f in files]},
        index=pd.Index(ids, dtype=object),
    )  # fmt: skip
    table, notes = attach_clinical(obs, clinical)
    for column in (label, *([site] if site else [])):
        if column not in table or column in obs:
            known = [str(c) for c in table.columns if c not in obs]
            raise ConfigError(
                expected=f"a column {column} in {clinical}", found=shorten(known, 6) or "none",
            )  # fmt: skip
    diagnosed = table[label].notna().to_numpy()
    if not diagnosed.all():
        lost = [name for name, has in zip(ids, diagnosed, strict=True) if not has]
        notes.append(f"{len(lost):,} slides without a diagnosis left out: {shorten(lost, 3)}")
    kept = [k for k, has in enumerate(diagnosed) if has]
    bags = tuple(
        Bag(
            ids[k],
            str(table[keys.PATIENT_ID].iloc[k]),
            _word(table[label].iloc[k]),
            files[k].xy_um,
            _word(table[site].iloc[k]) if site else "",
        )
        for k in kept
    )
    check_labels(bags)
    files = [files[k] for k in kept]
    genes, grades = _graded(files)
    found = () if features is None else tuple(_features_of(features, b.section_id) for b in bags)
    return Slides(tuple(files), bags, genes, grades, found, tuple(notes))


def write_inputs(slides: Slides, folder: Path, reporter: Reporter) -> dict[str, Bags]:
    """The values of each input on the disk: composition, and where features were given those and both."""
    out = {
        COMPOSITION: write_bags(folder / COMPOSITION, slides.bags, _composition(slides, reporter))
    }
    if not slides.features:
        return out
    out[FEATURES] = write_bags(folder / FEATURES, slides.bags, _features(slides))
    one, other = out[FEATURES], out[COMPOSITION]
    pairs = (np.hstack([one.read(b), other.read(b)]) for b in range(len(slides.bags)))
    widths = (one.read(0).shape[1], other.read(0).shape[1])
    out[BOTH] = write_bags(folder / BOTH, slides.bags, pairs, widths)
    return out


def _composition(slides: Slides, reporter: Reporter) -> Iterator[Floats]:
    with reporter.task("reading predictions", len(slides.files)) as advance:
        for file in slides.files:
            yield file.read(slides.genes).composition
            advance(1)


def _features(slides: Slides) -> Iterator[Floats]:
    for bag, file, path in zip(slides.bags, slides.files, slides.features, strict=True):
        yield read_features_file(path, file.spots.xy_px0, section=bag.section_id)[0]


def _features_of(folder: Path, section_id: str) -> Path:
    for ending in (".h5", ".zarr"):
        if (path := folder / f"{section_id}{ending}").exists():
            return path
    raise ConfigError(
        expected=f"features of {section_id} at {folder / section_id}.h5", found="nothing",
        remedy="name each file of TRIDENT or CLAM as its prediction",
    )  # fmt: skip


def _graded(files: list[PredictionFile]) -> tuple[tuple[str, ...], tuple[str, ...]]:
    first = files[0]
    good = [set(f.genes[np.isin(f.claims.grade, _GRADES)].tolist()) for f in files]
    shared = set.intersection(*good)
    chosen = [
        (str(gene), str(grade))
        for gene, grade in zip(first.genes, first.claims.grade, strict=True)
        if gene in shared
    ]
    if len(chosen) < 2:
        raise GenePanelError(
            expected="two genes or more that are graded A to C on every slide",
            found=f"{len(chosen)} of {len(first.genes):,}",
            remedy="use a model with a validation, and leave out slides that are unlike its training's",
        )
    return tuple(g for g, _ in chosen), tuple(g for _, g in chosen)


def _word(value: object) -> str:
    """A cell as a name: 1.0 of a column of numbers is 1."""
    if isinstance(value, float) and np.isnan(value):
        return ""
    return f"{value:g}" if isinstance(value, float) else str(value)
