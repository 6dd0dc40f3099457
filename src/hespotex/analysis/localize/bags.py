"""Slides as bags of spots, their values in one matrix on the disk, and folds of patients; no model."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
import numpy.typing as npt
from scipy import sparse

from hespotex.errors import ConfigError, counted, shorten
from hespotex.evaluation.spatial_structure import lattice_weights

Floats = npt.NDArray[np.float32]
Ints = npt.NDArray[np.intp]

FEWEST_PATIENTS: Final = 8  # of a class: below that nothing is claimed
_FOLDS: Final = 5
# Neighbours lie nearer than this many times the usual distance: 6 on hexagons, 8 on squares.
_REACH: Final = 1.6


@dataclass(frozen=True)
class Bag:
    """One slide.

    Attributes:
        section_id, patient_id: whose.
        label: the diagnosis.
        xy_um: (n, 2) spot centres in microns.
        site: laboratory or scanner; empty where none is given.
        split: fold that the user put it in; empty where none is given.
    """

    section_id: str
    patient_id: str
    label: str
    xy_um: npt.NDArray[np.float64]
    site: str = ""
    split: str = ""

    @property
    def n_spots(self) -> int:
        """Number of spots."""
        return len(self.xy_um)


@dataclass(frozen=True)
class Bags:
    """Slides with one matrix of values, which stays on the disk.

    Attributes:
        slides: in the order of the matrix.
        values: a `.npy` file of (N, D) float32, all spots of all slides.
        folder: for what is derived from it.
        blocks: (K,) number of columns of each kind of values; they are reduced apart. Empty: all are of one kind.
    """

    slides: tuple[Bag, ...]
    values: Path
    folder: Path
    blocks: tuple[int, ...] = ()

    @property
    def starts(self) -> Ints:
        """(B + 1,) first row of each slide, and the end."""
        return np.concatenate([[0], np.cumsum([s.n_spots for s in self.slides])]).astype(np.intp)

    @property
    def classes(self) -> tuple[str, ...]:
        """Names of the diagnoses, sorted."""
        return tuple(sorted({s.label for s in self.slides}))

    @property
    def labels(self) -> Ints:
        """(B,) index into `classes`."""
        place = {name: k for k, name in enumerate(self.classes)}
        return np.array([place[s.label] for s in self.slides], dtype=np.intp)

    @property
    def patients(self) -> Ints:
        """(B,) index of the patient, in the order in which patients first appear."""
        place: dict[str, int] = {}
        return np.array(
            [place.setdefault(s.patient_id, len(place)) for s in self.slides], dtype=np.intp
        )

    @property
    def patient_names(self) -> tuple[str, ...]:
        """Names of the patients, in the order of `patients`."""
        return tuple(dict.fromkeys(s.patient_id for s in self.slides))

    def read(self, slide: int) -> Floats:
        """(n, D) values of one slide."""
        start, stop = self.starts[slide], self.starts[slide + 1]
        return np.array(np.load(self.values, mmap_mode="r")[start:stop])

    def neighbours(self) -> sparse.csr_matrix:
        """(N, N) 1 for a spot itself and each that touches it; never across slides."""
        return sparse.block_diag([touching(s.xy_um) for s in self.slides], format="csr")


def write_bags(
    folder: Path, slides: Sequence[Bag], values: Iterable[Floats], blocks: tuple[int, ...] = ()
) -> Bags:
    """Put the values of slides into one file; they may come one after another.

    Raises:
        ConfigError: a slide has another number of rows than spots, or slides differ in their columns.
    """
    n, width = sum(s.n_spots for s in slides), None
    folder.mkdir(parents=True, exist_ok=True)
    path, start, table = folder / "values.npy", 0, None
    for slide, of in zip(slides, values, strict=True):
        if width is None:
            width = of.shape[1]
            table = np.lib.format.open_memmap(path, mode="w+", dtype=np.float32, shape=(n, width))
        if of.shape != (slide.n_spots, width):
            raise ConfigError(
                expected=f"{slide.n_spots:,} spots x {width:,} values of {slide.section_id}",
                found=f"{of.shape[0]:,} x {of.shape[1]:,}",
                remedy="give features of one encoder, made on the spots of the predictions",
            )
        table[start : start + len(of)] = of  # type: ignore[index]
        start += len(of)
    return Bags(tuple(slides), path, folder, blocks)


def check_labels(slides: Sequence[Bag]) -> None:
    """One diagnosis a patient, and two or more in all.

    Raises:
        ConfigError: otherwise, or two diagnoses differ in spelling alone.
    """
    of: dict[str, set[str]] = {}
    for slide in slides:
        of.setdefault(slide.patient_id, set()).add(slide.label)
    both = sorted(name for name, labels in of.items() if len(labels) > 1)
    if both:
        raise ConfigError(
            expected="one diagnosis a patient",
            found=f"{counted(len(both), 'patient')} with several: {shorten(both, 3)}",
            remedy="correct the table, or give such samples patient ids of their own",
        )
    classes = sorted({s.label for s in slides})
    plain: dict[str, list[str]] = {}
    for name in classes:
        plain.setdefault(" ".join(name.casefold().split()), []).append(name)
    if alike := next((names for names in plain.values() if len(names) > 1), None):
        raise ConfigError(
            expected="diagnoses that differ in more than capitals and blanks",
            found=" and ".join(repr(name) for name in alike), remedy="write each in one way",
        )  # fmt: skip
    if len(classes) < 2:
        raise ConfigError(
            expected="two diagnoses or more", found=f"one: {shorten(classes)}",
            remedy="give slides of another diagnosis, or another --label",
        )  # fmt: skip


def patients_by_class(slides: Sequence[Bag]) -> dict[str, int]:
    """Number of patients of each diagnosis, by name."""
    of = {s.patient_id: s.label for s in slides}
    labels = list(of.values())
    return {name: labels.count(name) for name in sorted(set(labels))}


def patient_folds(bags: Bags, *, seed: int = 0) -> Ints:
    """(B,) fold of each slide: all slides of a patient in one, diagnoses dealt evenly; at most 5 folds."""
    of_patient = np.empty(len(bags.patient_names), dtype=np.intp)
    of_patient[bags.patients] = bags.labels
    n_folds = min(_FOLDS, int(np.bincount(of_patient).min()))
    if n_folds < 2:
        raise ConfigError(
            expected="two patients of each diagnosis or more",
            found=", ".join(f"{n} {c}" for c, n in patients_by_class(bags.slides).items()),
        )
    fold, dealt = np.empty(len(of_patient), dtype=np.intp), 0
    rng = np.random.default_rng([seed, 1])
    for label in range(len(bags.classes)):
        members = rng.permutation(np.flatnonzero(of_patient == label))
        fold[members] = (dealt + np.arange(len(members))) % n_folds
        dealt += len(members)
    return np.asarray(fold[bags.patients])


def given_folds(slides: Sequence[Bag]) -> Ints:
    """(B,) fold of each slide by the user's own split.

    Raises:
        ConfigError: a slide has no fold, a patient has several, or a fold lacks a second diagnosis or the others one.
    """
    names = sorted({s.split for s in slides})
    if "" in names or len(names) < 2:
        lacking = [s.section_id for s in slides if not s.split]
        raise ConfigError(
            expected="each slide in a fold of the split, two folds or more",
            found=f"none for {shorten(lacking, 3)}" if lacking else f"one: {shorten(names)}",
        )  # fmt: skip
    of: dict[str, set[str]] = {}
    for slide in slides:
        of.setdefault(slide.patient_id, set()).add(slide.split)
    if both := sorted(name for name, folds in of.items() if len(folds) > 1):
        raise ConfigError(
            expected="each patient in one fold of the split", found=f"{shorten(both, 3)} in several",
            remedy="put all slides of a patient into one fold",
        )  # fmt: skip
    labels = {s.label for s in slides}
    for name in names:
        inside = {s.label for s in slides if s.split == name}
        if len(inside) < 2 or {s.label for s in slides if s.split != name} != labels:
            raise ConfigError(
                expected="two diagnoses or more in each fold of the split, and all of them in the other folds",
                found=f"fold {name} with {shorten(sorted(inside))}",
            )  # fmt: skip
    return np.array([names.index(s.split) for s in slides], dtype=np.intp)


def permuted_labels(bags: Bags, folds: Ints, n: int, *, seed: int = 0) -> Ints:
    """(n, B) diagnoses dealt anew among the patients of each fold: every fold keeps its numbers of patients by class.

    Folds were dealt by class, so these are the labels that the same folds could have had.
    """
    n_patients = len(bags.patient_names)
    label, fold = np.empty(n_patients, np.intp), np.empty(n_patients, np.intp)
    label[bags.patients], fold[bags.patients] = bags.labels, folds
    rng = np.random.default_rng([seed, 2])
    out = np.empty((n, n_patients), np.intp)
    for row in out:
        for k in np.unique(fold):
            members = np.flatnonzero(fold == k)
            row[members] = label[rng.permutation(members)]
    return np.asarray(out[:, bags.patients])


def touching(xy_um: npt.NDArray[np.float64]) -> sparse.csr_matrix:
    """(n, n) 1 for a spot itself and each that touches it."""
    return (lattice_weights(xy_um, _REACH) + sparse.eye(len(xy_um))).tocsr()
