"""The options of a prediction, and one slide to predict; pure."""

from __future__ import annotations

from dataclasses import dataclass, field
from numbers import Real
from pathlib import Path
from typing import Final, Literal

from hespotex.config import Grid, InputChoices, Reading
from hespotex.config.values import listed_names
from hespotex.errors import ConfigError, SlideError
from hespotex.export.exporters import chosen_exporters
from hespotex.export.shown import SHOWN, Show
from hespotex.nuclei import NucleiOrigin
from hespotex.sections.fine import FINE_UM
from hespotex.sections.manifest import MAX_ID_BYTES
from hespotex.sections.section import ManifestRow
from hespotex.slide.bit_depth import LEAST_BITS, MOST_BITS
from hespotex.slide.pixel_size import MAX_MPP

ALL_GENES: Final = ("all",)
Layers = Literal["auto", "composition", "all"]
LAYERS: Final[tuple[Layers, ...]] = ("auto", "composition", "all")
MOST_GENES: Final = 500


@dataclass(frozen=True)
class SlideOptions:
    """How an input is predicted, and what is written of it.

    Scale, tissue, positions and grid are of slides without spots; sections bring their own.

    Attributes:
        mpp: microns per level-0 pixel, used exactly as given; None takes the slide's own tags.
        bits: of a sample of 16, that hold the picture, where no tag of the slide tells it.
        tissue: GeoJSON with the outline of the tissue; None: it is found.
        spots: file with the positions; None lays a grid over the tissue.
        pitch_um: distance of neighbouring spots; None: as in the model's training.
        diameter_um: of a spot; None: as in the model's training, up to a pitch of `FINE_UM` the pitch if that is smaller.
        grid: lattice that is laid over the tissue; None: square up to a pitch of `FINE_UM`, above it hexagonal.
        max_bad_tiles: share of spots whose pixels may be unreadable.
        patient: whose the slide is; None: as in the manifest, or not known.
        same_patient: a patient id that the training has, too, means the same patient.
        untested: also write genes without evidence for this patient.
        all_genes: write every gene of any grade.
        formats: names of `EXPORTERS` in which chosen genes are written beside the h5ad.
        bounds_offset: QuPath's coordinates start at the bounds of the slide (MRXS): taken off in GeoJSON that
            is written, added to the outline in `tissue` and to outlines of nuclei.
        genes: the chosen genes of pictures and of `formats`; None: the best graded, or where nothing
            is graded the most abundant in training; `("all",)`: every gene that is written.
        show: what pictures and `formats` show of a gene: composition, or log1p(CPM).
        choices: what the preflight would refuse of sections among the slides, and the user accepts.
        layers: of the h5ad: composition alone in half precision, or all (log1p and intervals, too); auto: composition on
            a lattice that is laid with a pitch up to `FINE_UM`.
        most_genes: that are written of composition alone, the best graded first.
        reading: `patches` or `area` (`features.area`); None: as in the model's training.
        nuclei: where those of a model with nuclei come from; None: as in its training.
        keep_features: keep the encoder's features beside the h5ad, for `localize` (`features.kept`).
        nuclei_origin: `nuclei`, parsed.
    """

    mpp: float | None = None
    bits: int | None = None
    tissue: Path | None = None
    spots: Path | None = None
    pitch_um: float | None = None
    diameter_um: float | None = None
    grid: Grid | None = None
    max_bad_tiles: float = 0.01
    patient: str | None = None
    same_patient: bool = False
    untested: bool = False
    all_genes: bool = False
    formats: tuple[str, ...] = ()
    genes: tuple[str, ...] | None = None
    show: Show = "composition"
    choices: InputChoices = field(default_factory=InputChoices)
    bounds_offset: bool = False
    layers: Layers = "auto"
    most_genes: int = MOST_GENES
    reading: Reading | None = None
    nuclei: str | None = None
    keep_features: bool = False
    nuclei_origin: NucleiOrigin | None = field(init=False)

    def __post_init__(self) -> None:
        for name in ("tissue", "spots"):
            if (given := getattr(self, name)) is not None:
                object.__setattr__(self, name, Path(given))
        object.__setattr__(self, "nuclei_origin", NucleiOrigin.asked(self.nuclei))
        object.__setattr__(self, "formats", listed_names("formats", self.formats))
        if self.genes is not None:
            object.__setattr__(self, "genes", listed_names("genes", self.genes))
        for name in ("mpp", "pitch_um", "diameter_um", "max_bad_tiles"):
            given = getattr(self, name)
            if given is not None and not isinstance(given, Real):
                raise ConfigError(expected=f"a number for {name}", found=f"{given!r}")
        if self.mpp is not None and not 0 < self.mpp <= MAX_MPP:
            raise ConfigError(
                expected=f"--mpp above 0 and at most {MAX_MPP:g} um per pixel",
                found=f"{self.mpp:g}",
                remedy="typical are 0.25 (40x) and 0.5 (20x)",
            )
        _check_bits(self.bits)
        for name, value in (
            ("--spot-pitch-um", self.pitch_um),
            ("--spot-diameter-um", self.diameter_um),
        ):
            if value is not None and not value > 0:
                raise ConfigError(expected=f"{name} above 0 um", found=f"{value:g}")
        if not 0 <= self.max_bad_tiles <= 1:
            raise ConfigError(
                expected="--max-bad-tiles as a share from 0 to 1", found=f"{self.max_bad_tiles:g}"
            )
        _check_choices(self)
        chosen_exporters(self.formats)


def lattice(options: SlideOptions, pitch_um: float) -> Grid:
    """The lattice that is laid over the tissue with this pitch."""
    return options.grid or ("square" if pitch_um <= FINE_UM else "hexagonal")


def _check_choices(options: SlideOptions) -> None:
    if options.grid not in (None, "hexagonal", "square"):
        raise ConfigError(expected="--grid hexagonal or square", found=f"{options.grid!r}")
    if options.layers not in LAYERS:
        raise ConfigError(expected=f"--layers {' or '.join(LAYERS)}", found=f"{options.layers!r}")
    if not isinstance(options.most_genes, int) or options.most_genes < 1:
        raise ConfigError(expected="--most-genes of at least 1", found=f"{options.most_genes!r}")
    if options.reading not in (None, "patches", "area"):
        raise ConfigError(expected="--reading patches or area", found=f"{options.reading!r}")
    if options.show not in SHOWN:
        raise ConfigError(expected=f"--show {' or '.join(SHOWN)}", found=f"{options.show!r}")


def _check_bits(bits: int | None) -> None:
    if bits is not None and (not isinstance(bits, int) or not LEAST_BITS <= bits <= MOST_BITS):
        raise ConfigError(
            expected=f"--bits as a whole number of {LEAST_BITS} to {MOST_BITS}",
            found=f"{bits!r}",
            remedy="cameras have 10, 12 or 14",
        )


@dataclass(frozen=True)
class SlideTask:
    """One slide to predict.

    Attributes:
        section_id: names the files that are written.
        patient_id: as the user gave it; `unknown` where nobody said whose the slide is.
        row: a manifest's row with spots of its own; predicted there, in place of a grid.
        nuclei_mask: that the manifest names.
    """

    section_id: str
    slide: Path
    options: SlideOptions
    patient_id: str = "unknown"
    row: ManifestRow | None = None
    nuclei_mask: Path | None = None

    def __post_init__(self) -> None:
        if self.options.patient is not None:
            object.__setattr__(self, "patient_id", self.options.patient)


def check_name(section_id: str) -> None:
    """Refuse a slide whose name is too long for the files that are named by it, or no text.

    Raises:
        SlideError: it is.
    """
    remedy = "rename the slide, or give a manifest (section_id,patient_id,slide,expression,format) with another id"
    if any("\ud800" <= sign <= "\udfff" for sign in section_id):
        raise SlideError(expected="a slide's name in UTF-8", found=f"{section_id!a}", remedy=remedy)
    n_bytes = len(section_id.encode())
    if n_bytes > MAX_ID_BYTES:
        raise SlideError(
            expected=f"a slide's name of at most {MAX_ID_BYTES} bytes, since files are named by it",
            found=n_bytes,
            remedy=remedy,
        )
