"""Coarse copies: what the out-of-distribution check says of a slide that is shrunk to larger pixels, the tissue being the same."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.cases.out_of_distribution import PATIENTS
from benchmarks.data import machine, warm_encoder
from benchmarks.harness import Context, Row, Table
from benchmarks.measure import timed
from hespotex.features.appearance import Appearance
from hespotex.sections.section import Section

NAME = "coarse_copies"
# Training sections, the slide that is shrunk, and the microns per pixel that it is shrunk to; None: as it is.
SERIES: Sequence[tuple[str, tuple[str, ...], str, tuple[float | None, ...]]] = (
    ("her2st", ("C2", "C3", "C4"), "B4", (None, 1.4, 2.1, 2.8, 3.2, 4.8)),
    ("her2st", ("B4",), "C2", (None, 1.4, 2.1, 2.8, 3.2, 4.8)),
    ("mob", ("MOB4",), "MOB9", (None, 3.2, 5.5, 8.3)),
)


def parts(context: Context) -> Mapping[str, Mapping[str, Any]]:
    there = all(context.has(data) for data in ("her2st", "mob"))
    return {"copies": {"series": [list(map(str, s)) for s in SERIES]}} if there else {}


def run(_parameters: Mapping[str, Any], context: Context) -> dict[str, Any]:
    from hespotex.evaluation.out_of_distribution import fit_ood
    from hespotex.progress import Silent
    from hespotex.stages import read_sections

    machine(context)
    found = []
    with timed() as spent:
        for data, trained, name, sizes in SERIES:
            sections = {
                s.section_id: s
                for s in read_sections(context.data / data / "sections.csv", None, Silent())
            }
            own = [_encoded(context, sections[t], None) for t in trained]
            ood = fit_ood(
                [features for features, _ in own],
                [sections[t].xy_um for t in trained],
                [seen for _, seen in own],
                [PATIENTS[t] for t in trained],
            )
            coarsest = max(sections[t].geometry.mpp for t in trained)
            for mpp in sizes:
                features, seen = _encoded(context, sections[name], mpp)
                place = ood.place([(features, seen)])
                coarser = (mpp or sections[name].geometry.mpp) / coarsest
                found.append(
                    {
                        "model": ", ".join(trained),
                        "slide": name,
                        "mpp": mpp or sections[name].geometry.mpp,
                        "coarser": coarser,
                        "features": place.features.shift,
                        "texture": place.texture,
                        "verdict": ood.report(features, seen, place, coarser=coarser).verdict,
                    }
                )
    return {"copies": found, **spent.as_dict()}


def _encoded(
    context: Context, section: Section, mpp: float | None
) -> tuple[np.ndarray, Appearance]:
    """Features and appearance of the section's spots, on its slide or a copy of so many microns per pixel; kept."""
    folder = context.work.parent / "cache" / NAME
    folder.mkdir(parents=True, exist_ok=True)
    kept = folder / f"{section.section_id}.{mpp or 'plain'}.npz"
    if not kept.exists():
        _encode(context, section, mpp, kept)
    with np.load(kept) as arrays:
        return arrays["features"], Appearance(arrays["colours"], arrays["textures"])


def _encode(context: Context, section: Section, mpp: float | None, kept: Path) -> None:
    import cv2

    from hespotex.config import PatchConfig
    from hespotex.features.encode import encode_spots, patch_plan
    from hespotex.slide import open_slide

    assert section.slide is not None
    encoder, own = warm_encoder(context), section.geometry.mpp
    with tempfile.TemporaryDirectory() as name:
        path, scale = section.slide, 1.0
        if mpp is not None:
            with open_slide(path) as source:
                wide, high = source.width_px0, source.height_px0
                picture = source.read_region(0, 0, wide, high, wide, high)
            scale, path = own / mpp, Path(name) / "copy.png"
            size = (round(wide * scale), round(high * scale))
            small = cv2.resize(picture, size, interpolation=cv2.INTER_AREA)
            cv2.imwrite(str(path), np.ascontiguousarray(small[..., ::-1]))
        with open_slide(path, mpp=mpp or own) as source:
            features, seen = encode_spots(
                source,
                section.xy_px0 * scale,
                encoder,
                patch_plan(encoder, PatchConfig()),
                mpp or own,
                lambda _n: None,
            )
    np.savez(kept, features=features, colours=seen.colours, textures=seen.textures)


def tables(found: Mapping[str, dict[str, Any]], _context: Context) -> Sequence[Table]:
    rows = [
        Row(
            f"{c['slide']} under a model of {c['model']}, {c['mpp']:.2f} um per pixel",
            f"{c['coarser']:.1f} times",
            f"{c['verdict']} (features {c['features']:.2f}, texture {c['texture']:.2f})",
        )
        for c in found["copies"]["copies"]
    ]
    notes = (
        "The same slide, shrunk by averaging over areas; spots and tissue are the same. Shifts are in units of their limits.",
    )
    return [
        Table("Coarse copies", ("what", "coarser than training", "verdict"), tuple(rows), notes)
    ]
