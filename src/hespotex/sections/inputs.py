"""Keys of what a fit sees of a section."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from hespotex.errors import NucleiError
from hespotex.sections.section import Section
from hespotex.slide import slide_key
from hespotex.storage.content_keys import file_key
from hespotex.storage.disk_errors import damaged


def section_inputs(section: Section) -> dict[str, Any]:
    """What a fit sees of a section, by name: files as keys of their content, the mask of nuclei if it is used."""
    images = {"slide": section.slide, "features": section.features_file}
    return {
        "patient_id": section.patient_id,
        "spots": section.expression_key(),
        **{name: slide_key(path) for name, path in images.items() if path is not None},
        **({"bits": section.bits} if section.bits is not None else {}),
        **({"tile_px": section.tile_px} if section.tile_px is not None else {}),
        "mpp": section.geometry.mpp,
        "spot_pitch_um": section.geometry.spot_pitch_um,
        "spot_diameter_um": section.geometry.spot_diameter_um,
        "missing_genes": section.missing_genes,
        **({"nuclei": _mask_key(section.nuclei_file)} if section.nuclei_file else {}),
    }


def _mask_key(path: Path) -> str:
    try:
        return file_key(path)
    except OSError as error:
        expected, otherwise = "a readable nuclei mask", "check the path"
        raise damaged(NucleiError, expected, error, f"({path})", otherwise) from error
