"""The plan of a painted cohort: who its patients are, how sections are cut, stained and measured.

A plan is a value; `PaintedPlan.section` paints one section of it. The same plan gives the same section bit for bit,
whatever else is painted, so that a cohort of any size is made section by section.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace

import numpy as np
import numpy.typing as npt

from hespotex.datasets.draws import Draws, SliceDraws, stream
from hespotex.datasets.expression import (
    GeneTruth,
    counts_about,
    draw_capture,
    draw_capture_noise,
    draw_genes,
    draw_smooth,
    expected_counts,
    log_content,
    rna_of,
    tissue_under_spots,
)
from hespotex.datasets.paint import Scanner, Stain, draw_stain, paint_scene
from hespotex.datasets.painted import (
    LATTICES,
    Lattice,
    LatticeKind,
    PaintedSection,
    SectionArrays,
    lattice_points,
)
from hespotex.datasets.patients import PaintedPatient
from hespotex.datasets.slices import Serial, moved
from hespotex.datasets.tissue import (
    PATIENT_SIDE_UM,
    PREVALENCE_SD,
    TISSUES,
    FociDraw,
    PatientPlan,
    Scene,
    build_scene,
    plan_patient,
)
from hespotex.datasets.truth import SectionTruth
from hespotex.geometry import CommonFrame, SectionFrame

Values = npt.NDArray[np.float64]

# What a random stream is for: the first number of its seed after the cohort's.
_GENES, _PATIENT, _STAIN, _SHIFT, _SCENE, _PAINT, _EXPRESSION, _FOCI, _MOVE, _BLOCK, FEATURES = (
    range(11)
)
# Streams of a block: coarse fields, what is laid out, smooth genes, foci.
_FIELDS, _LAYOUT, _SMOOTH, _BLOCK_FOCI = range(4)
_FIELDS_REACH_UM = 400.0


@dataclass(frozen=True)
class PaintedPlan:
    """A painted cohort.

    Attributes:
        seed: of everything.
        patients: one by one; their place decides what is drawn for them.
        sections_per_patient: each.
        n_genes: at least 50.
        focus_genes: so many of the flat genes are high in foci instead.
        lattice: of the spots; None: square for even sections, hexagonal for odd ones.
        spot_pitch_um, spot_diameter_um, side_um, mpp, mean_depth: in place of the lattice's own; the side of the image at
            most 3,200; mean_depth is the geometric mean of the spots' expected totals.
        tissue_sd: how far patients differ in the tissues that their slides show.
        gene_sd: standard deviation of a log factor per patient and gene, which no slide shows.
        apart: genes that slides show, and all others, have a fixed part of every spot's total each; else what slides show
            moves all shares a little.
        one_stain: all patients were stained in one laboratory, else each in its own.
        scanners: by name, as `PaintedPatient.scanner` has them.
        serial: sections of a patient are slices of one block; None: each is laid out by itself, and four fifths of
            where its tissues lie are the patient's.

    Raises:
        ValueError: names that do not fit each other, or a number out of its range.
    """

    seed: int = 0
    patients: tuple[PaintedPatient, ...] = tuple(PaintedPatient(f"P{i}") for i in (1, 2, 3))
    sections_per_patient: int = 2
    n_genes: int = 300
    focus_genes: int = 0
    lattice: Lattice | None = None
    spot_pitch_um: float | None = None
    spot_diameter_um: float | None = None
    side_um: float | None = None
    mpp: float | None = None
    mean_depth: float | None = None
    tissue_sd: float = PREVALENCE_SD
    gene_sd: float = 0.25
    apart: bool = False
    one_stain: bool = False
    scanners: Mapping[str, Scanner] = field(default_factory=dict)
    serial: Serial | None = None

    def __post_init__(self) -> None:
        names = [patient.name for patient in self.patients]
        if len(set(names)) < len(names):
            raise ValueError(f"expected a name of its own for every patient, found {names}")
        for patient in self.patients:
            if patient.scanner and patient.scanner not in self.scanners:
                known = ", ".join(self.scanners) or "none"
                raise ValueError(f"expected a scanner of {known}, found {patient.scanner}")
        if not 0 < (self.side_um or PATIENT_SIDE_UM) <= PATIENT_SIDE_UM:
            raise ValueError(
                f"expected a side above 0 and at most {PATIENT_SIDE_UM:g} um, found {self.side_um}"
            )
        if self.serial is not None and len(self.serial.z_um) != self.sections_per_patient:
            raise ValueError(
                f"expected {self.sections_per_patient} depths, one a section, found {self.serial.z_um}"
            )
        for patient in self.patients:
            patient.log_factor(self.genes)

    @property
    def genes(self) -> GeneTruth:
        """The genes of the cohort, drawn from the seed alone."""
        drawn = draw_genes(
            stream(self.seed, _GENES),
            self.n_genes,
            foci=self.has_foci,
            focus_genes=self.focus_genes,
        )
        return replace(drawn, apart=self.apart)

    @property
    def has_foci(self) -> bool:
        """Whether foci have a column of their own in areas, nuclei and profiles."""
        return self.focus_genes > 0 or any(patient.foci for patient in self.patients)

    def gene_levels(self, patient: int) -> Values:
        """(G,) log factor of a patient on every gene's share: what is drawn and what is stated of it."""
        drawn = stream(self.seed, _SHIFT, patient).normal(scale=self.gene_sd, size=self.n_genes)
        return np.asarray(drawn + self.patients[patient].log_factor(self.genes))

    def frames(self, patient: int) -> CommonFrame:
        """Frames of a patient's sections: the true maps into the block, without painting anything."""
        names = (self.section_id(patient, k) for k in range(self.sections_per_patient))
        return CommonFrame({name: self._frame(patient, k) for k, name in enumerate(names)})

    def section_id(self, patient: int, section: int) -> str:
        """Such as `P1S2`."""
        return f"{self.patients[patient].name}S{section + 1}"

    def sections(self) -> Iterator[PaintedSection]:
        """All sections, painted one after another."""
        for patient in range(len(self.patients)):
            for section in range(self.sections_per_patient):
                yield self.section(patient, section)

    def section(self, patient: int, section: int, *, picture: bool = True) -> PaintedSection:
        """Paint one section, by index of the patient and within it; without its picture it is there sooner.

        All else is the same with and without the picture, whose array is then empty.
        """
        of = self.patients[patient]
        kind, spec = self._lattice(section)
        frame, scene = self._frame(patient, section), self._scene(patient, section)
        image = np.zeros((0, 0, 3), dtype=np.uint8)
        if picture:
            rng = stream(self.seed, _PAINT, patient, section)
            image = self._scanner(patient).expose(
                paint_scene(scene, self.stain(patient, section), rng)
            )
        array_xy, xy_um = lattice_points(kind, spec.spot_pitch_um, len(scene.tissue) * frame.mpp)
        kinds = len(TISSUES) + self.has_foci
        area, nuclei = tissue_under_spots(scene, xy_um, spec.spot_diameter_um, kinds=kinds)
        kept = area.sum(axis=1) >= 0.4
        array_xy, xy_um, area, nuclei = array_xy[kept], xy_um[kept], area[kept], nuclei[kept]

        rng = stream(self.seed, _EXPRESSION, patient, section)
        truth = self._truth(patient, section, scene, rng)
        rna = rna_of(area, nuclei)
        share = truth.shares(rna, xy_um)
        log_depth = log_content(rna, truth.capture(xy_um)) + draw_capture_noise(rng, len(rna))
        mean_depth = spec.mean_depth * np.exp(of.depth)
        depth = mean_depth * np.exp(log_depth - log_depth.mean())
        arrays = SectionArrays(
            image=image,
            mpp=frame.mpp,
            lattice=kind,
            array_xy=array_xy,
            xy_px0=xy_um / frame.mpp,
            spot_pitch_um=spec.spot_pitch_um,
            spot_diameter_um=spec.spot_diameter_um,
            counts=counts_about(rng, expected_counts(truth.genes, share, depth)),
            truth=truth.genes,
            area=area,
            nuclei=nuclei,
            share=share,
            depth=depth,
        )
        return PaintedSection(
            section_id=self.section_id(patient, section),
            patient_id=of.name,
            label=of.label,
            scanner=of.scanner,
            arrays=arrays,
            frame=frame,
            truth=replace(truth, log_depth=float(np.log(mean_depth) - log_depth.mean())),
        )

    def _lattice(self, section: int) -> tuple[Lattice, LatticeKind]:
        kind: Lattice = self.lattice or ("square" if section % 2 == 0 else "hexagonal")
        own = LATTICES[kind]
        return kind, LatticeKind(
            self.spot_pitch_um or own.spot_pitch_um,
            self.spot_diameter_um or own.spot_diameter_um,
            self.side_um or own.side_um,
            self.mpp or own.mpp,
            self.mean_depth or own.mean_depth,
        )

    def _frame(self, patient: int, section: int) -> SectionFrame:
        spec = self._lattice(section)[1]
        mpp = self._scanner(patient).mpp or spec.mpp
        if self.serial is None:
            return SectionFrame(mpp)
        rng = stream(self.seed, _MOVE, patient, section)
        return SectionFrame(mpp, self.serial.draw_move(rng, spec.side_um).inverse())

    def stain(self, patient: int, section: int) -> Stain:
        """How a section is stained, as its scanner sees it."""
        words = [_STAIN, 0 if self.one_stain else patient]
        if self.serial is not None and self.serial.restained:
            words.append(section + 1)
        stain = draw_stain(stream(self.seed, *words))
        return self._scanner(patient).show(stain) if self.patients[patient].scanner else stain

    def _scanner(self, patient: int) -> Scanner:
        return self.scanners.get(self.patients[patient].scanner, Scanner())

    def _scene(self, patient: int, section: int) -> Scene:
        of, side_um = self.patients[patient], self._lattice(section)[1].side_um
        mpp = self._frame(patient, section).mpp
        planned, rng = self._coarse(patient, section)
        shift = np.array([of.tissue.get(name, 0.0) for name in TISSUES])
        planned = replace(planned, prevalence=planned.prevalence + shift)
        foci = None
        if share := of.foci_in(section):
            foci = FociDraw(self._foci_draws(patient, section), share)
        scene = build_scene(planned, rng, side_um=side_um, mpp=mpp, foci=foci)
        if self.serial is None:
            return scene
        to_slice = self._frame(patient, section).to_common.inverse()
        return moved(scene, to_slice, self.serial.canvas_um(side_um))

    def _coarse(self, patient: int, section: int) -> tuple[PatientPlan, Draws]:
        """What a patient's sections share, and the draws of this one's own part."""
        own = plan_patient(stream(self.seed, _PATIENT, patient), self.tissue_sd)
        if self.serial is None:
            return own, stream(self.seed, _SCENE, patient, section)
        z_um, words = self.serial.z_um[section], (self.seed, _BLOCK, patient)
        block = plan_patient(SliceDraws((*words, _FIELDS), z_um, _FIELDS_REACH_UM))
        return replace(own, fields=block.fields), SliceDraws((*words, _LAYOUT), z_um)

    def _foci_draws(self, patient: int, section: int) -> Draws:
        if self.serial is None:
            return stream(self.seed, _FOCI, patient, section)
        words = (self.seed, _BLOCK, patient, _BLOCK_FOCI)
        return SliceDraws(words, self.serial.z_um[section])

    def _truth(
        self, patient: int, section: int, scene: Scene, rng: np.random.Generator
    ) -> SectionTruth:
        """What is expected of a section, its totals not yet scaled."""
        genes = self.genes
        if self.serial is None:
            smooth = draw_smooth(rng, genes)
        else:
            smooth = draw_smooth(stream(self.seed, _BLOCK, patient, _SMOOTH), genes, axes=3)
        return SectionTruth(
            scene=scene,
            genes=genes,
            smooth=smooth,
            capture=draw_capture(rng),
            to_block=self._frame(patient, section).to_common,
            z_um=None if self.serial is None else self.serial.z_um[section],
            log_factor=self.gene_levels(patient),
            silent=patient % 2 == 1,
            log_depth=0.0,
            spot_diameter_um=self._lattice(section)[1].spot_diameter_um,
        )
