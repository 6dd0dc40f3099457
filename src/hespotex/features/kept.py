"""Features that a prediction keeps beside its h5ad: an h5 in the layout of TRIDENT, with what made them."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from hespotex.errors import RunError
from hespotex.storage.atomic import atomic_path
from hespotex.storage.hdf5 import open_h5

Floats = npt.NDArray[np.float32]

SUFFIX: Final = ".features.h5"
_VALUES, _CORNERS, _SIDE = "features", "coords", "patch_size_level0"
_KEY_SIGNS: Final = 12
# Parts of a level-0 pixel that a corner may lose as a number.
_OFF_PX: Final = 1e-3
_ROWS: Final = 512
_REMEDY: Final = "predict again with --keep-features"


@dataclass(frozen=True)
class MadeBy:
    """What made the features of a slide.

    Attributes:
        encoder: its name.
        key: of its weights and preprocessing.
        sides_um: of the patches, whose features lie side by side.
        reading: patches or area.
        projection: columns that the features of a patch were projected to; None: not at all.
    """

    encoder: str
    key: str
    sides_um: tuple[float, ...]
    reading: str
    projection: int | None

    def words(self) -> str:
        """One line that is equal where the features can be compared, and nowhere else."""
        sides = " + ".join(f"{side:g}" for side in self.sides_um)
        projected = f", projected to {self.projection}" if self.projection else ""
        return f"{self.encoder} (key {self.key[:_KEY_SIGNS]}, patches of {sides} um, read by {self.reading}{projected})"


def kept_beside(prediction: Path) -> Path:
    """Where the features of `predictions/ID.h5ad` are kept."""
    return prediction.with_suffix(SUFFIX)


def kept_bytes(n_spots: int, width: int) -> int:
    """What they take on the disk."""
    return n_spots * (4 * width + 16)


def write_kept(
    path: Path,
    made_by: MadeBy,
    xy_px0: npt.NDArray[np.float64],
    side_px0: float,
    blocks: Iterable[Floats],
    prediction_key: str = "",
) -> None:
    """Write features, block by block, whole or not at all.

    Args:
        xy_px0: (n, 2) spot centres in level-0 pixels.
        side_px0: of the smallest patch.
        blocks: (b, S, D) features of spots in their order.
        prediction_key: of the h5ad beside them; empty where it has none.

    Raises:
        RunError: the folder cannot be written, or the disk is full.
    """
    import h5py

    with atomic_path(path) as temporary, h5py.File(temporary, "w") as file:
        table, start = None, 0
        for block in blocks:
            flat = block.reshape(len(block), -1)
            if table is None:
                shape, rows = (len(xy_px0), flat.shape[1]), min(_ROWS, len(xy_px0))
                table = file.create_dataset(_VALUES, shape, "f4", chunks=(rows, shape[1]))
            table[start : start + len(flat)] = flat
            start += len(flat)
        if table is None:
            table = file.create_dataset(_VALUES, (0, 0), "f4")
        attributes: dict[str, Any] = {
            "encoder": made_by.encoder, "encoder_key": made_by.key, "sides_um": made_by.sides_um,
            "reading": made_by.reading, "projection": made_by.projection or 0, "prediction_key": prediction_key,
        }  # fmt: skip
        table.attrs.update(attributes)
        corners = file.create_dataset(_CORNERS, data=np.asarray(xy_px0, np.float64) - side_px0 / 2)
        corners.attrs[_SIDE] = side_px0


@dataclass(frozen=True)
class Kept:
    """Features beside a prediction; n spots.

    Attributes:
        path: the h5.
        made_by: see `MadeBy`.
        prediction_key: of the h5ad that they were kept beside; empty where it had none.
        xy_px0: (n, 2) spot centres in level-0 pixels.
        width: values of a spot.
    """

    path: Path
    made_by: MadeBy
    prediction_key: str
    xy_px0: npt.NDArray[np.float64]
    width: int

    @classmethod
    def open(cls, path: Path) -> Kept:
        """What a file says of itself, without the features.

        Raises:
            RunError: it is damaged, or none of ours.
        """
        with open_h5(path, "features of a prediction at", RunError, _REMEDY) as file:
            said, corners = file[_VALUES].attrs, file[_CORNERS]
            made_by = MadeBy(
                str(said["encoder"]), str(said["encoder_key"]), tuple(float(s) for s in said["sides_um"]),
                str(said["reading"]), int(said["projection"]) or None,
            )  # fmt: skip
            xy_px0 = corners[()] + float(corners.attrs[_SIDE]) / 2
            key, (n, width) = str(said["prediction_key"]), file[_VALUES].shape
        if len(xy_px0) != n:
            raise RunError(
                expected=f"a place for each of {n:,} spots in {path}", found=f"{len(xy_px0):,}", remedy=_REMEDY,
            )  # fmt: skip
        return cls(path, made_by, key, xy_px0, width)

    def lies_at(self, xy_px0: npt.NDArray[np.float64]) -> bool:
        """Whether these are the spots, in this order."""
        return self.xy_px0.shape == xy_px0.shape and bool(
            np.allclose(self.xy_px0, xy_px0, rtol=0, atol=_OFF_PX)
        )

    def read(self) -> Floats:
        """(n, width) features."""
        with open_h5(self.path, "features of a prediction at", RunError, _REMEDY) as file:
            return np.asarray(file[_VALUES][()], np.float32)


def said_key(path: Path) -> str | None:
    """Key of the prediction that features are of; None where there is no such file, or a damaged one."""
    try:
        with open_h5(path, "features of a prediction at", RunError, _REMEDY) as file:
            return str(file[_VALUES].attrs["prediction_key"])
    except RunError:
        return None
