"""Patients of a painted cohort: what is stated of each, and how groups and scanners are dealt to them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from hespotex.datasets.expression import GeneTruth
from hespotex.datasets.tissue import TISSUES


@dataclass(frozen=True)
class PaintedPatient:
    """One patient, as a plan states it; everything else is drawn from the plan's seed.

    Attributes:
        name: prefix of its section ids.
        label: a diagnosis or group; may be empty. It does nothing by itself.
        scanner: name of one of the plan's; empty: pictures as they are stained.
        tissue: by tissue, how much more of it is painted: added to the field whose highest tissue takes a place (its
            standard deviation is about 1). Slides show it.
        genes: by gene or programme, natural log factor on the expected share before shares are made to sum to one.
            Slides do not show it. A `rare` gene has no level.
        depth: natural log factor on the expected totals.
        foci: share of the area inside a section's outline that foci take.
        foci_sections: index of the sections that have them; None: all.

    Raises:
        ValueError: a name or number that cannot be.
    """

    name: str
    label: str = ""
    scanner: str = ""
    tissue: Mapping[str, float] = field(default_factory=dict)
    genes: Mapping[str, float] = field(default_factory=dict)
    depth: float = 0.0
    foci: float = 0.0
    foci_sections: tuple[int, ...] | None = None

    def __post_init__(self) -> None:
        if unknown := sorted(set(self.tissue) - set(TISSUES)):
            raise ValueError(f"expected tissues of {', '.join(TISSUES)}, found {unknown[0]}")
        if not 0 <= self.foci < 1:
            raise ValueError(f"expected a share of foci from 0 to below 1, found {self.foci}")

    def foci_in(self, section: int) -> float:
        """Share of foci in one section."""
        has = self.foci_sections is None or section in self.foci_sections
        return self.foci if has else 0.0

    def log_factor(self, genes: GeneTruth) -> npt.NDArray[np.float64]:
        """(G,) what is stated of each gene.

        Raises:
            ValueError: a name is neither a gene nor a programme, or a gene that has no level.
        """
        found = np.zeros(len(genes.genes))
        for name, factor in self.genes.items():
            meant = (genes.genes == name) | (genes.programme == name)
            if not meant.any():
                raise ValueError(f"expected a gene or a programme of the plan, found {name}")
            if (genes.programme[meant] == "rare").any():
                raise ValueError(f"expected a gene that has a level, found {name}")
            found[meant] += factor
        return found


def draw_patients(
    n: int,
    *,
    seed: int = 0,
    labels: Sequence[str] = ("",),
    foci: Mapping[str, float] | None = None,
    scanners: Sequence[str] = (),
    confounded: bool = False,
    depth_sd: float = 0.0,
) -> tuple[PaintedPatient, ...]:
    """Patients P1, P2, ...: labels are dealt, and scanners inside each label, so that they say nothing of it.

    Labels are dealt to even and odd patients apart, since a plan's `patient` genes are silent in every second one.

    Args:
        n: patients.
        seed: of the dealing and of what is drawn.
        labels: groups, of equal size where `n` allows it.
        foci: share of foci by label; none where it is not named.
        scanners: names; inside a label each has as many patients as the others, or one more.
        confounded: every label has a scanner of its own instead.
        depth_sd: of the stated log factor on totals.

    Raises:
        ValueError: `confounded` with fewer scanners than labels.
    """
    if confounded and len(scanners) < len(labels):
        raise ValueError(f"expected {len(labels)} scanners, one a label, found {len(scanners)}")
    rng = np.random.default_rng([seed, n])
    of_label = np.empty(n, dtype=np.int64)
    dealt = 0
    for parity in range(2):
        members = rng.permutation(np.arange(parity, n, 2))
        of_label[members] = (dealt + np.arange(len(members))) % len(labels)
        dealt += len(members)
    of_scanner = of_label.copy()
    if scanners and not confounded:
        for k in range(len(labels)):
            members = rng.permutation(np.flatnonzero(of_label == k))
            first = rng.integers(len(scanners))
            of_scanner[members] = (first + np.arange(len(members))) % len(scanners)
    depth = rng.normal(scale=depth_sd, size=n)
    return tuple(
        PaintedPatient(
            name=f"P{i + 1}",
            label=labels[of_label[i]],
            scanner=scanners[of_scanner[i]] if scanners else "",
            depth=float(depth[i]),
            foci=(foci or {}).get(labels[of_label[i]], 0.0),
        )
        for i in range(n)
    )
