"""Folds by patient, by section, k-fold over patients, inner folds, spatial blocks."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt

from hespotex.errors import ConfigError

_MANY_PATIENTS = 10
FoldsBy = Literal["patient", "section", "kfold", "blocks", "external"]


@dataclass(frozen=True)
class Fold:
    """Section ids that are scored, and those that everything is fitted on, both in the given order."""

    held_out: tuple[str, ...]
    train: tuple[str, ...]


@dataclass(frozen=True)
class Folds:
    """Folds in a fixed order, and what they stand on.

    Attributes:
        by: what was left out in turn; may differ from what was asked for (see `note`).
        folds: every section is held out exactly once; empty with `by == "blocks"`.
        note: a sentence that every number resting on these folds must carry; empty if there is none.
    """

    by: FoldsBy
    folds: tuple[Fold, ...]
    note: str = ""

    def __iter__(self) -> Iterator[Fold]:
        return iter(self.folds)

    def __len__(self) -> int:
        return len(self.folds)

    def __getitem__(self, index: int) -> Fold:
        return self.folds[index]


@dataclass(frozen=True)
class SpotFold:
    """Places of the spots that are scored, and of those that are fitted on; the gap belongs to neither."""

    held_out: npt.NDArray[np.intp]
    train: npt.NDArray[np.intp]


def make_folds(section_ids: Sequence[str], patient_ids: Sequence[str], by: str) -> Folds:
    """Folds over sections: `patient`, `section`, `kfold:N` (whole patients in N groups), or `auto` (`folds_for`).

    `patient` with one patient, or without any patient id, leaves out sections and says so in `note`.

    Raises:
        ConfigError: one section in all, doubled section ids, some but not all patient ids empty, fewer
            patients than N, or an unknown `by`.
    """
    sections, patients = tuple(section_ids), tuple(p.strip() for p in patient_ids)
    by = folds_for(by, patients)
    _check_ids(sections, patients)
    if len(sections) < 2:
        raise ConfigError(
            expected="at least two sections to leave one out",
            found=f"one ({sections[0]})",
            remedy="add sections to the manifest, or use `hespotex train`, which needs no held-out section",
        )
    if by == "section":
        return Folds("section", _leave_out(sections, sections), _section_note(sections, patients))
    if by == "patient":
        if len(set(patients)) < 2:
            return Folds("section", _leave_out(sections, sections), _fallback_note(patients[0]))
        _check_all_known(sections, patients, by)
        return Folds("patient", _leave_out(sections, patients))
    kind, _, text = by.partition(":")
    if kind != "kfold" or not text.isdigit():
        raise ConfigError(expected="folds by auto, patient, section or kfold:N", found=f"{by!r}")
    _check_all_known(sections, patients, by)
    return Folds("kfold", _grouped_kfold(sections, patients, int(text)))


def folds_for(by: str, patient_ids: Sequence[str]) -> str:
    """What `auto` stands for with these patients: each by itself up to ten, ten groups of whole patients above; else `by`.

    Each fold costs a fit and its calibration: with ten groups nine in ten patients train, as many as are worth their time.
    """
    if by != "auto":
        return by
    n = len({p.strip() for p in patient_ids})
    return f"kfold:{_MANY_PATIENTS}" if n > _MANY_PATIENTS else "patient"


def inner_folds(
    section_ids: Sequence[str], patient_ids: Sequence[str], *, max_folds: int = 5
) -> Folds:
    """Folds inside a training part: by patient if there are two, else by section, else spatial blocks.

    More than `max_folds` patients are grouped. With a single section `by` is `blocks`, `folds` is empty, and
    the caller takes `spatial_blocks` of its spots.

    Raises:
        ConfigError: no section, doubled section ids, or fewer than two `max_folds`.
    """
    sections, patients = tuple(section_ids), tuple(p.strip() for p in patient_ids)
    _check_ids(sections, patients)
    if max_folds < 2:
        raise ConfigError(expected="at least two inner folds", found=max_folds)
    if len(sections) == 1:
        return Folds("blocks", (), _BLOCKS_NOTE)
    if len(set(patients)) >= 2 and all(patients):
        if len(set(patients)) <= max_folds:
            return Folds("patient", _leave_out(sections, patients))
        return Folds("kfold", _grouped_kfold(sections, patients, max_folds))
    note = _section_note(sections, patients)
    if len(sections) <= max_folds:
        return Folds("section", _leave_out(sections, sections), note)
    return Folds("section", _grouped_kfold(sections, sections, max_folds), note)


def spatial_blocks(
    xy_um: npt.NDArray[np.float64], n_blocks: int, gap_um: float
) -> tuple[SpotFold, ...]:
    """Split the spots of one section into compact blocks of about equal size, with a gap around each.

    The plane is halved again and again across its longer side. Of a block's fold, `train` holds the spots
    farther than `gap_um` from every held-out spot.

    Args:
        xy_um: (n, 2) spot centres in microns.
        gap_um: distance in microns that keeps neighbours out of the training part.

    Raises:
        ConfigError: fewer spots than blocks, or nothing is left to train on.
    """
    from scipy.spatial import cKDTree

    n = len(xy_um)
    if not 2 <= n_blocks <= n:
        raise ConfigError(
            expected=f"2 to {n} blocks for {n} spots", found=n_blocks, remedy="use fewer blocks"
        )
    folds = []
    for held_out in halve(xy_um, np.arange(n), n_blocks):
        distance, _ = cKDTree(xy_um[held_out]).query(xy_um)
        train = np.flatnonzero(distance > max(gap_um, 0.0))
        if not len(train):
            raise ConfigError(
                expected=f"spots farther than {gap_um:g} um from a block of {len(held_out)}",
                found=f"none among {n}",
                remedy="use more blocks or a smaller gap",
            )
        folds.append(SpotFold(held_out, train))
    return tuple(folds)


def patients_note(patient_ids: Sequence[str]) -> str:
    """What a model's number of training patients means for its use; empty where there are many.

    Args:
        patient_ids: of the training sections; empty names count as one patient.
    """
    n = len({patient.strip().casefold() for patient in patient_ids})
    if n >= _MANY_PATIENTS:
        return ""
    return (
        f"{n} patient{'s are' if n > 1 else ' is'} in training: what carries over to another patient depends on their "
        "number above all, so sections of further patients help more than further sections of these"
    )


def external_note(
    section_ids: Sequence[str], patient_ids: Sequence[str], trained_patients: Sequence[str]
) -> str:
    """What must be said where a model is scored on sections of patients that it was or may have been trained on.

    Empty if nothing. A model without training patients is an imported one.
    """
    if not trained_patients:
        return (
            "the model file does not say what it was trained on: if these sections or others of their patients were "
            "in its training, these scores say nothing about a new section"
        )
    known = {p.casefold() for p in trained_patients}
    shared = [
        s
        for s, p in zip(section_ids, patient_ids, strict=True)
        if not p.strip() or p.casefold() in known
    ]
    if not shared:
        return ""
    return (
        f"for {', '.join(shared)} other sections of the same or an unknown patient were in the model's training, "
        "so these scores say nothing about another patient"
    )


def inner_kind(section_ids: Sequence[str], patient_ids: Sequence[str]) -> str:
    """What inner folds of these training sections leave out: `patient`, `kfold`, `section`, `blocks`; empty for none."""
    return inner_folds(section_ids, patient_ids).by if section_ids else ""


def inner_note(section_ids: Sequence[str], patient_ids: Sequence[str]) -> str:
    """What the numbers that rest on inner folds of these training sections must carry; empty if nothing.

    Those numbers are the intervals, the out-of-distribution threshold and what a search chose.
    """
    if not section_ids:
        return ""
    folds = inner_folds(section_ids, patient_ids)
    if folds.by == "blocks":
        return (
            f"{section_ids[0]} is the only training section: intervals, out-of-distribution thresholds and anything "
            "searched rest on spatial blocks of it with a gap, and say nothing about another section"
        )
    if folds.by == "section":
        whose = (
            f"are all of patient {patient_ids[0]}"
            if patient_ids[0].strip()
            else "name no two patients"
        )
        return (
            f"the training sections {', '.join(section_ids)} {whose}: intervals, out-of-distribution thresholds "
            "and anything searched rest on left-out sections of the same patient, and say nothing about another one"
        )
    return ""


_BLOCKS_NOTE = (
    "one training section: inner folds are spatial blocks of it with a gap, so these numbers say nothing "
    "about another section"
)


def _check_ids(sections: tuple[str, ...], patients: tuple[str, ...]) -> None:
    if not sections or len(sections) != len(patients):
        raise ConfigError(
            expected="a patient id for every section",
            found=f"{len(sections)} sections and {len(patients)} patient ids",
        )
    if len(set(sections)) != len(sections):
        doubled = sorted({s for s in sections if sections.count(s) > 1})
        raise ConfigError(expected="every section once", found=f"doubled: {', '.join(doubled)}")


def _check_all_known(sections: tuple[str, ...], patients: tuple[str, ...], by: str) -> None:
    unknown = [s for s, p in zip(sections, patients, strict=True) if not p]
    if unknown:
        raise ConfigError(
            expected=f"a patient_id for every section with folds by {by}",
            found=f"none for {', '.join(unknown)}",
            remedy="fill them in, or use --folds section",
        )


def _fallback_note(patient: str) -> str:
    whose = f"all sections are of patient {patient}" if patient else "no patient ids are given"
    return (
        f"{whose}: sections are left out instead of patients, so sections of the same patient were in "
        "training, and these scores, grades and intervals say nothing about another patient"
    )


def _section_note(sections: tuple[str, ...], patients: tuple[str, ...]) -> str:
    shared = [s for s, p in zip(sections, patients, strict=True) if not p or patients.count(p) > 1]
    if not shared:
        return ""
    return (
        f"sections are left out, not patients: for {', '.join(shared)} other sections of the same or an unknown "
        "patient were in training, so these scores, grades and intervals say nothing about another patient"
    )


def _leave_out(sections: tuple[str, ...], groups: tuple[str, ...]) -> tuple[Fold, ...]:
    return tuple(_fold(sections, groups, {group}) for group in dict.fromkeys(groups))


def _grouped_kfold(
    sections: tuple[str, ...], groups: tuple[str, ...], n_folds: int
) -> tuple[Fold, ...]:
    n_groups = len(set(groups))
    if not 2 <= n_folds <= n_groups:
        raise ConfigError(
            expected="kfold:N with N from 2 to the number of patients",
            found=f"N = {n_folds} and {n_groups} patient{('s' if n_groups != 1 else '')}",
            remedy="lower N, or use --folds section",
        )
    from sklearn.model_selection import GroupKFold

    parts = GroupKFold(n_folds).split(np.zeros(len(sections)), groups=np.asarray(groups))
    held_groups = [{groups[i] for i in held_out} for _, held_out in parts]
    # The folds stand in the order in which their first section does.
    held_groups.sort(key=lambda held: min(groups.index(g) for g in held))
    return tuple(_fold(sections, groups, held) for held in held_groups)


def _fold(sections: tuple[str, ...], groups: tuple[str, ...], held: set[str]) -> Fold:
    pairs = list(zip(sections, groups, strict=True))
    return Fold(
        tuple(s for s, g in pairs if g in held), tuple(s for s, g in pairs if g not in held)
    )


def block_numbers(xy: npt.NDArray[np.float64], n_blocks: int) -> npt.NDArray[np.intp]:
    """(n,) which of `n_blocks` compact blocks of about equal size a spot is in; see `halve`."""
    numbers = np.empty(len(xy), dtype=np.intp)
    for number, spots in enumerate(halve(xy, np.arange(len(xy)), n_blocks)):
        numbers[spots] = number
    return numbers


def halve(
    xy: npt.NDArray[np.float64], spots: npt.NDArray[np.intp], n_blocks: int
) -> list[npt.NDArray[np.intp]]:
    """Places of `spots` in compact blocks of about equal size: halved again and again across the longer side."""
    if n_blocks == 1:
        return [np.sort(spots)]
    axis = int(np.ptp(xy[spots, 1]) > np.ptp(xy[spots, 0]))
    # Ties along the axis are broken by the other coordinate, so that the order of spots plays no part.
    order = spots[np.lexsort((xy[spots, 1 - axis], xy[spots, axis]))]
    left = n_blocks // 2
    cut = round(len(order) * left / n_blocks)
    return halve(xy, order[:cut], left) + halve(xy, order[cut:], n_blocks - left)
