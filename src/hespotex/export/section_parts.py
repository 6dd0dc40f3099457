"""What a written section carries whatever else is in its table: columns of its spots, its record, its picture."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from hespotex import keys
from hespotex.geometry import Geometry
from hespotex.sections.carried import writable_columns
from hespotex.sections.section import Section


def spot_columns(
    section: Section, own: Mapping[str, Any], reserved: Iterable[str] = ()
) -> pd.DataFrame:
    """obs of a section: the columns that the user carries along, then ours.

    Args:
        own: (n,) values by name. A carried column of one of these names is left out where its
            values are equal, else renamed.
        reserved: further names that no carried column may have.
    """
    carried = [] if section.obs is None else list(section.obs.items())
    columns = writable_columns(carried, reserved=(*own, *reserved), known=own)[0]
    obs = pd.DataFrame(index=pd.Index(section.barcodes.astype(object)))
    for name, values in {**columns, **own}.items():
        obs[name] = values.array if isinstance(values, pd.Series) else values
    return obs


def id_columns(section: Section) -> dict[str, Any]:
    """Section and patient of every spot, by name."""
    ids = {keys.SECTION_ID: section.section_id, keys.PATIENT_ID: section.patient_id}
    return {name: pd.Categorical([value] * section.n_spots) for name, value in ids.items()}


def array_columns(section: Section) -> dict[str, npt.NDArray[Any]]:
    """Place of every spot in the array under the names of scverse; empty where it is not known."""
    if section.array_xy is None:
        return {}
    places = np.asarray(section.array_xy, dtype=np.float64)
    whole = bool(np.isfinite(places).all() and (places == np.rint(places)).all())
    column, row = (places.astype(np.int64) if whole else places).T
    return {keys.ARRAY_ROW: row, keys.ARRAY_COL: column}


def section_record(section: Section) -> dict[str, Any]:
    """Entries of uns["hespotex"] that every section has: who, how large, what was left out."""
    geometry = section.geometry
    record: dict[str, Any] = {
        keys.SECTION_ID: section.section_id,
        keys.PATIENT_ID: section.patient_id,
        "mpp": float(geometry.mpp),
        "spot_diameter_um": float(geometry.spot_diameter_um),
        "spot_pitch_um": float(geometry.spot_pitch_um),
    }
    if section.accepted:
        record["accepted"] = list(section.accepted)
    if section.dropped:
        # A slash would be a group in HDF5.
        record["dropped"] = {k.replace("/", " per "): int(v) for k, v in section.dropped.items()}
    return record


def picture_entry(
    image: npt.NDArray[np.uint8], px0_per_px: float, geometry: Geometry
) -> dict[str, Any]:
    """The entry of uns["spatial"] that scanpy and squidpy draw spots on.

    Args:
        image: (h, w, 3) RGB, the whole slide.
        px0_per_px: level-0 pixels per pixel of it.
        geometry: of the section.
    """
    return {
        "images": {"hires": np.ascontiguousarray(image)},
        "scalefactors": {
            "tissue_hires_scalef": 1.0 / px0_per_px,
            "spot_diameter_fullres": geometry.spot_diameter_um / geometry.mpp,
        },
    }
