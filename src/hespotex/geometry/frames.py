"""Frames of sections in microns, and the maps between them; pure but for one JSON file.

The frame of a section has its origin in the upper left corner of level 0, x to the right and y down. Sections of one
piece of tissue share a common frame: each has a map from its own microns into it, affine, and where tissue was warped
with a bend after it.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, Self

import numpy as np
import numpy.typing as npt

from hespotex import keys
from hespotex.errors import GeometryError
from hespotex.geometry.affine import Affine
from hespotex.geometry.bends import Bend, Map, Smooth
from hespotex.storage.atomic import atomic_path
from hespotex.storage.text_files import read_text

FORMAT: Final = "hespotex section frames 1"
# Of a file with bends: who knows none must not read it as if there were none.
BENT: Final = "hespotex section frames 2"
# Of several blocks, bent or not: who knows none must not lay one on the other.
BLOCKS: Final = "hespotex section frames 3"
UNIT: Final = "um"


@dataclass(frozen=True)
class SectionFrame:
    """A section's own frame and where it lies in the common one.

    Attributes:
        mpp: microns per level-0 pixel.
        to_common: from the section's microns to those of the common frame; its affine part where there is a bend.
        bend: what follows, inside the common frame.
        block: number of the common frame; no map leads from one block to another.
    """

    mpp: float
    to_common: Affine = field(default_factory=Affine)
    bend: Bend | None = None
    block: int = 0

    def __post_init__(self) -> None:
        if not (math.isfinite(self.mpp) and self.mpp > 0):
            raise GeometryError(expected="microns per pixel above 0", found=self.mpp)

    @classmethod
    def of(cls, mpp: float, to_common: Map, lower: npt.ArrayLike, upper: npt.ArrayLike) -> Self:
        """Any map as an affine one and a bend, whose grid covers a box of the section.

        Args:
            lower, upper: (2,) corners of the box in the section's microns.

        Raises:
            GeometryError: the map bends more steeply than one bend may.
        """
        if isinstance(to_common, Affine):
            return cls(mpp, to_common)
        affine = to_common.affine
        (x0, y0), (x1, y1) = np.asarray(lower).tolist(), np.asarray(upper).tolist()
        corners = affine([[x0, y0], [x0, y1], [x1, y0], [x1, y1]])
        after = to_common @ affine.inverse()
        # Half of the finest step: cubic pieces of another grid follow the bends to less than a micron.
        bend = Bend.of(after, corners.min(axis=0), corners.max(axis=0), to_common.step_um / 2)
        return cls(mpp, affine, bend)

    @property
    def um_of_px0(self) -> Affine:
        """From level-0 pixels to the section's microns; its inverse goes back."""
        return Affine.scale(self.mpp)

    @property
    def common_of_um(self) -> Map:
        """From the section's microns to those of the common frame, with the bend."""
        return self.to_common if self.bend is None else Smooth((self.to_common, self.bend))

    @property
    def common_of_px0(self) -> Map:
        """From level-0 pixels to microns of the common frame."""
        return self.common_of_um @ self.um_of_px0


@dataclass(frozen=True)
class CommonFrame:
    """Sections in one frame.

    Attributes:
        sections: their frames by section id.
    """

    sections: Mapping[str, SectionFrame]

    def __getitem__(self, section_id: str) -> SectionFrame:
        """The frame of a section.

        Raises:
            GeometryError: the section is not among them.
        """
        try:
            return self.sections[section_id]
        except KeyError:
            expected = f"one of the sections {', '.join(self.sections)}"
            raise GeometryError(expected=expected, found=section_id) from None

    def between(self, source: str, target: str) -> Map:
        """From microns of one section to microns of another; an `Affine` where neither is bent.

        Raises:
            GeometryError: a section is not among them, or they lie in different blocks.
        """
        self._of_one_block(source, target)
        return self[target].common_of_um.inverse() @ self[source].common_of_um

    def between_px0(self, source: str, target: str) -> Map:
        """From level-0 pixels of one section to level-0 pixels of another; raises as `between`."""
        self._of_one_block(source, target)
        return self[target].common_of_px0.inverse() @ self[source].common_of_px0

    def together(self, *names: str) -> bool:
        """Whether all these sections are here, in one block."""
        found = [self.sections[name].block for name in names if name in self.sections]
        return len(found) == len(names) and len(set(found)) <= 1

    def _of_one_block(self, source: str, target: str) -> None:
        if self[source].block != self[target].block:
            raise GeometryError(
                expected="two sections of one block of the frames",
                found=f"{source} of block {self[source].block} and {target} of block {self[target].block}",
            )

    def place(self, table: Any, section_id: str) -> None:
        """Write `obsm["spatial_common_um"]` of an AnnData from its `obsm["spatial"]` in level-0 pixels."""
        to_common = self[section_id].common_of_px0
        table.obsm[keys.SPATIAL_COMMON_UM] = to_common(table.obsm[keys.SPATIAL])


def write_frames(path: str | Path, frames: CommonFrame) -> None:
    """Write frames as JSON, every digit kept.

    Raises:
        RunError: the file cannot be written.
    """
    sections: dict[str, Any] = {}
    for name, frame in frames.sections.items():
        sections[name] = {"mpp_um_per_px0": frame.mpp, "to_common_um": frame.to_common.rows}
        if frame.block:
            sections[name]["block"] = frame.block
        if frame.bend is not None:
            x, y = np.moveaxis(frame.bend.moved_um, -1, 0).tolist()
            sections[name]["bend"] = {
                "origin_um": frame.bend.origin_um, "step_um": frame.bend.step_um, "x_um": x, "y_um": y,
            }  # fmt: skip
    said = (
        "to_common_um: ((a, b, c), (d, e, f)), x' = a x + b y + c, y' = d x + e y + f, both in um"
    )
    bent = any(frame.bend is not None for frame in frames.sections.values())
    if bent:
        said += (
            "; bend: what is then added to x' and y', row by row of nodes origin_um + step_um * (column, row) in the common "
            "frame, cubic between them, beyond them as at the rim"
        )
    blocks = any(frame.block for frame in frames.sections.values())
    if blocks:
        said += "; block: sections with another one (0 where none stands) have another common frame"
    content = {
        "format": BLOCKS if blocks else BENT if bent else FORMAT,
        "unit": UNIT,
        "meaning": said,
        "sections": sections,
    }
    with atomic_path(Path(path)) as temporary:
        temporary.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")


def read_frames(path: str | Path) -> CommonFrame:
    """Read what `write_frames` wrote.

    Raises:
        GeometryError: the file cannot be read, is of another kind or unit, or a number in it is impossible.
    """
    path = Path(path)
    try:
        content = json.loads(read_text(path, "frames of sections", GeometryError))
        stated = (content["format"], content["unit"])
        if stated not in ((FORMAT, UNIT), (BENT, UNIT), (BLOCKS, UNIT)):
            raise GeometryError(
                expected=f"format {FORMAT!r} and unit {UNIT!r} in {path}", found=stated
            )
        return CommonFrame(
            {str(name): _frame_of(value, name, path) for name, value in content["sections"].items()}
        )
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        cause = f"{type(error).__name__}: {error}"
        expected = f"frames of sections as JSON in {path}"
        remedy = "write it with hespotex.geometry.write_frames"
        raise GeometryError(expected=expected, cause=cause, remedy=remedy) from error


def _frame_of(value: Any, name: str, path: Path) -> SectionFrame:
    (a, b, c), (d, e, f) = (map(float, row) for row in value["to_common_um"])
    try:
        affine = Affine(((a, b, c), (d, e, f)))
        bend, block = _bend_of(value.get("bend")), int(value.get("block", 0))
        return SectionFrame(float(value["mpp_um_per_px0"]), affine, bend, block)
    except GeometryError as error:
        error.of_section(str(name))
        error.expected += f" in {path}"
        raise


def _bend_of(value: Any) -> Bend | None:
    if value is None:
        return None
    x, y = map(float, value["origin_um"])
    moved = np.stack([np.array(value[k], dtype=np.float64) for k in ("x_um", "y_um")], axis=-1)
    return Bend((x, y), float(value["step_um"]), moved)
