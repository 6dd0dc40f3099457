"""Whose a slide or a sample is, as far as its name tells: barcodes of TCGA are cut to the patient; pure."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Final, Literal

from hespotex.evaluation.claims import UNKNOWN_PATIENTS

Preparation = Literal["FFPE", "frozen", ""]

# Project, site, patient; then sample type (01 tumour ... 11 normal), vial, portion, slide.
_TCGA: Final = re.compile(
    r"(TCGA[-.][A-Z0-9]{2}[-.][A-Z0-9]{4})(?:[-.](\d{2})([A-Z])?)?(.*)", re.IGNORECASE
)
_SLIDE: Final = re.compile(r"[-.](DX|TS|BS|MS)[A-Z0-9]*", re.IGNORECASE)


def patient_of(name: str) -> str:
    """A barcode of TCGA cut to the patient, with hyphens; any other name as it is."""
    found = _TCGA.fullmatch(name.strip())
    return found[1].upper().replace(".", "-") if found else name.strip()


def is_tcga(name: str) -> bool:
    """Whether a name is a barcode of TCGA."""
    return _TCGA.fullmatch(name.strip()) is not None


def is_normal(name: str) -> bool:
    """Whether a barcode names a sample of normal tissue or blood (types 10 to 19)."""
    found = _TCGA.fullmatch(name.strip())
    return bool(found and found[2] and 10 <= int(found[2]) <= 19)


def preparation_of(name: str) -> Preparation:
    """What a barcode says of a slide: diagnostic ones (DX) are FFPE, TS, BS and MS frozen; empty where it says nothing."""
    found = _TCGA.fullmatch(name.strip())
    slide = _SLIDE.search(found[4]) if found else None
    if slide is None:
        return ""
    return "FFPE" if slide[1].upper() == "DX" else "frozen"


def owner(section_id: str, patient_id: str) -> tuple[str, bool]:
    """The patient of a slide, and whether anything names one: else the slide counts as a patient of its own."""
    if patient_id.strip().lower() not in UNKNOWN_PATIENTS:
        return patient_of(patient_id), True
    return patient_of(section_id), is_tcga(section_id)


def doubled(names: Sequence[str]) -> list[str]:
    """Names that come more than once, sorted."""
    seen: set[str] = set()
    twice: set[str] = set()
    for name in names:
        (twice if name in seen else seen).add(name)
    return sorted(twice)
