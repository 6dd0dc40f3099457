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
from hespotex.analysis.localize.features import Features, find_features
from hespotex.analysis.patient_ids import owner
from hespotex.analysis.prediction_file import PredictionFile
from hespotex.errors import ConfigError, GenePanelError, counted, shorten
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
        genes: the worst grade on any slide by name; each is A to C on every slide.
        sets: the same of gene sets, whose scores the predictions hold.
        features: of an encoder; None where there are none.
        notes: what was left out, in words.
    """

    files: tuple[PredictionFile, ...]
    bags: tuple[Bag, ...]
    genes: dict[str, str]
    sets: dict[str, str]
    features: Features | None
    notes: tuple[str, ...]

    @property
    def model_id(self) -> str:
        """Of the model that predicted the slides."""
        return model_of(self.files[0])

    @property
    def encoder(self) -> str:
        """Of the features, where all of them name the same; else empty."""
        return "" if self.features is None else self.features.encoder

    @property
    def usable(self) -> npt.NDArray[np.bool_]:
        """(N,) spots that could be read and are not flagged as unlike the training's."""
        return np.concatenate([f.usable & f.readable for f in self.files])

    @property
    def log_depth(self) -> npt.NDArray[np.float64]:
        """(N,) log of the predicted depth, of the slide's mean in a spot that could not be read; NaN where the model predicts none."""
        depth = [_filled(f, f.spots.depth[:, None])[:, 0] for f in self.files]
        return np.log(np.maximum(np.concatenate(depth).astype(np.float64), 1e-9))


def read_slides(
    predicted: list[Path],
    clinical: Path,
    label: str,
    *,
    site: str | None = None,
    split: str | None = None,
    features: Path | None = None,
) -> Slides:
    """Predictions with a diagnosis each.

    Raises:
        HESpotExError: a prediction, the table, a column or a features file is wrong, or the diagnoses are no two.
    """
    files, left_out = _files(predicted)
    ids = [f.spots.section_id for f in files]
    models = sorted({model_of(f) for f in files})
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
    notes += left_out
    _check_columns(table, obs, clinical, label, site, split)
    diagnosed = table[label].notna().to_numpy()
    if not diagnosed.all():
        lost = [name for name, has in zip(ids, diagnosed, strict=True) if not has]
        notes.append(
            f"{counted(len(lost), 'slide')} without a diagnosis left out: {shorten(lost, 3)}."
        )
    kept = [k for k, has in enumerate(diagnosed) if has]
    bags = tuple(
        Bag(
            ids[k],
            str(table[keys.PATIENT_ID].iloc[k]),
            _word(table[label].iloc[k]),
            files[k].xy_um,
            *(_word(table[name].iloc[k]) if name else "" for name in (site, split)),
        )
        for k in kept
    )
    check_labels(bags)
    if unplaced := [b.section_id for b in bags if site and not b.site]:
        raise ConfigError(
            expected=f"a site of every slide in column {site} of {clinical}",
            found=f"none for {shorten(unplaced, 3)}", remedy="fill the cells, or leave --site out",
        )  # fmt: skip
    files = [files[k] for k in kept]
    found, said = find_features(features, files)
    notes += [f"Features are {found.words}."] if found else said
    return Slides(tuple(files), bags, _genes(files), _sets(files), found, tuple(notes))


def _check_columns(
    table: pd.DataFrame,
    obs: pd.DataFrame,
    path: Path,
    label: str,
    site: str | None,
    split: str | None,
) -> None:
    """Refuse columns that the table lacks, and one that stands for two things."""
    for column in filter(None, (label, site, split)):
        if column not in table or column in obs:
            known = [str(c) for c in table.columns if c not in obs]
            raise ConfigError(
                expected=f"a column {column} in {path}", found=shorten(known, 6) or "none"
            )
    for option, named in (("--site", site), ("--split", split)):
        if named == label:
            raise ConfigError(
                expected=f"another column than --label {label} with {option}",
                found=f"{option} {label}",
            )


def read_undiagnosed(
    predicted: list[Path], genes: tuple[str, ...], features: Path | None, *, with_features: bool
) -> Slides:
    """Predictions for a model that is fitted already, over its genes; diagnoses and grades are empty.

    Args:
        features: as of `read_slides`.
        with_features: whether the model reads features.

    Raises:
        HESpotExError: a prediction or a features file is wrong, or a gene is not there.
    """
    files, left_out = _files(predicted)
    for file in files:
        if lacking := sorted(set(genes) - set(file.genes.tolist())):
            raise GenePanelError(
                expected=f"the genes that the model reads in {file.path}", found=f"none of {shorten(lacking, 3)}",
                remedy="write all of the model's genes: predict --all-genes",
            )  # fmt: skip
    bags = tuple(
        Bag(f.spots.section_id, owner(f.spots.section_id, f.spots.patient_id)[0], "", f.xy_um)
        for f in files
    )
    found, notes = find_features(features, files) if with_features else (None, [])
    return Slides(tuple(files), bags, dict.fromkeys(genes, ""), {}, found, (*left_out, *notes))


def model_of(file: PredictionFile) -> str:
    """Id of the model that made a prediction."""
    return str(file.spots.record.get("model_id", ""))


def write_sets(slides: Slides, folder: Path) -> Bags:
    """The scores of the gene sets on the disk."""

    def scores(file: PredictionFile) -> Floats:
        held, values = _sets_in(file)
        return _filled(file, values[:, [list(held).index(name) for name in slides.sets]])

    return write_bags(folder / "sets", slides.bags, (scores(f) for f in slides.files))


def write_inputs(slides: Slides, folder: Path, reporter: Reporter) -> dict[str, Bags]:
    """The values of each input on the disk: composition where genes are read, features where there are any, and both."""
    out = {}
    if slides.genes:
        of_genes = _composition(slides, reporter)
        out[COMPOSITION] = write_bags(folder / COMPOSITION, slides.bags, of_genes)
    if slides.features is not None:
        readers = zip(slides.files, slides.features.readers, strict=True)
        of_spots = (_filled(file, read()) for file, read in readers)
        out[FEATURES] = write_bags(folder / FEATURES, slides.bags, of_spots)
    if len(out) < 2:
        return out
    one, other = out[FEATURES], out[COMPOSITION]
    pairs = (np.hstack([one.read(b), other.read(b)]) for b in range(len(slides.bags)))
    widths = (one.read(0).shape[1], other.read(0).shape[1])
    out[BOTH] = write_bags(folder / BOTH, slides.bags, pairs, widths)
    return out


def _composition(slides: Slides, reporter: Reporter) -> Iterator[Floats]:
    with reporter.task("reading predictions", len(slides.files)) as advance:
        for file in slides.files:
            yield _filled(file, file.read(tuple(slides.genes)).composition)
            advance(1)


def _filled(file: PredictionFile, values: Floats) -> Floats:
    """(n, D) values, in spots that could not be read the mean of the others: they then speak for nothing."""
    if file.readable.all() or len(values) != file.n_spots:  # said where the rows are put together
        return values
    filled = values.copy()
    filled[~file.readable] = values[file.readable].mean(axis=0)
    return filled


def _files(predicted: list[Path]) -> tuple[list[PredictionFile], list[str]]:
    """Predictions with spots, and a line on those without one that could be read."""
    files = [PredictionFile(path) for path in prediction_files(predicted)]
    ids = [f.spots.section_id for f in files]
    if twice := sorted({name for name in ids if ids.count(name) > 1}):
        raise ConfigError(expected="each slide once", found=f"{shorten(twice, 3)} in several files")
    empty = [f.spots.section_id for f in files if not f.readable.any()]
    if len(empty) == len(files):
        raise ConfigError(
            expected="slides with spots that could be read", found=f"none in {shorten(empty, 3)}"
        )
    notes = [f"{counted(len(empty), 'slide')} without a spot that could be read left out: {shorten(empty, 3)}."]  # fmt: skip
    return [f for f in files if f.readable.any()], notes if empty else []


def _genes(files: list[PredictionFile]) -> dict[str, str]:
    chosen = _graded(
        [dict(zip(f.genes.tolist(), f.claims.grade.tolist(), strict=True)) for f in files]
    )
    if len(chosen) < 2:
        raise GenePanelError(
            expected="two genes or more that are graded A to C on every slide",
            found=f"{len(chosen)} of {len(files[0].genes):,}",
            remedy="use a model with a validation, and leave out slides that are unlike its training's",
        )
    return chosen


def _sets(files: list[PredictionFile]) -> dict[str, str]:
    return _graded([_sets_in(f)[0] for f in files])


def _sets_in(file: PredictionFile) -> tuple[dict[str, str], Floats]:
    """Grade of each gene set whose scores a prediction holds, and the scores (n, K)."""
    held = file.spots.extras.gene_sets
    if held is None or held.values is None:
        return {}, np.zeros((file.n_spots, 0), np.float32)
    grades = dict(zip(held.names, held.grades, strict=True))
    return grades, np.asarray(held.values, np.float32)


def _graded(grades: list[dict[str, str]]) -> dict[str, str]:
    """The worst grade of each name that is graded A to C on every slide, in the order of the first."""
    worst = {name: max(of.get(name, "ungraded") for of in grades) for name in grades[0]}
    return {name: grade for name, grade in worst.items() if grade in _GRADES}


def _word(value: object) -> str:
    """A cell as a name: 1.0 of a column of numbers is 1."""
    if value is None or (isinstance(value, float) and np.isnan(value)):
        return ""
    return f"{value:g}" if isinstance(value, float) else str(value)
