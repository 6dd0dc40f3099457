"""Out of distribution: spots and slides that models of her2st and of the bulb flag, on their own kind, other tissue, faults."""

from __future__ import annotations

import io
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.data import machine, warm_encoder
from benchmarks.harness import Context, Row, Table
from benchmarks.measure import timed
from hespotex.features.appearance import Appearance

NAME = "out_of_distribution"
BAR = 0.10
PATIENTS = {"B4": "B", "C2": "C", "C3": "C", "C4": "C", "MOB4": "A", "MOB9": "D"}
MODELS: Mapping[str, tuple[str, ...]] = {
    "C2, C3, C4": ("C2", "C3", "C4"),
    "C3, C4": ("C3", "C4"),
    "C2": ("C2",),
    "B4": ("B4",),
    "B4, C3, C4": ("B4", "C3", "C4"),
    "MOB4": ("MOB4",),
    "MOB9": ("MOB9",),
    "MOB4, MOB9": ("MOB4", "MOB9"),
}
FAULTY = ("B4", "C2", "MOB4", "MOB9")
BLUR_UM, JPEG_QUALITY = 5.0, 10
# What is done to the picture before it is encoded, and what the scale is said to be, times the true one.
FAULTS: Mapping[str, tuple[str, float]] = {
    "inverted colours": ("inverted", 1.0),
    f"blur of {BLUR_UM:g} um": ("blur", 1.0),
    f"JPEG of quality {JPEG_QUALITY}": ("jpeg", 1.0),
    "mpp twice too large": ("mpp2", 2.0),
    "mpp half as large": ("mpp05", 0.5),
}
_SKIN = "CMU-1-Small-Region.svs"
_SKIN_PITCH_UM = 100.0
_KINDS = {"her2st": ("B4", "C2", "C3", "C4"), "mob": ("MOB4", "MOB9")}


def parts(context: Context) -> Mapping[str, Mapping[str, Any]]:
    there = all(context.has(data) for data in _KINDS) and (context.data / "wsi" / _SKIN).is_file()
    return {"slides": {"models": {k: list(v) for k, v in MODELS.items()}}} if there else {}


def run(parameters: Mapping[str, Any], context: Context) -> dict[str, Any]:
    from hespotex.evaluation.out_of_distribution import fit_ood

    with timed() as spent:
        slides = _encode_all(context)
        found = []
        for model, trained in parameters["models"].items():
            own = [slides[f"{t}.plain"] for t in trained]
            ood = fit_ood(
                [s["features"] for s in own],
                [s["xy_um"] for s in own],
                [_appearance(s) for s in own],
                [PATIENTS[t] for t in trained],
            )
            for name, slide in slides.items():
                section, _, fault = name.partition(".")
                if fault == "plain" and section in trained:
                    continue
                report = ood.report(slide["features"], _appearance(slide))
                kind = "skin" if section == "skin" else _kind(section)
                found.append(
                    {
                        "model": model,
                        "own": kind == _kind(trained[0]),
                        "kind": kind,
                        "slide": section,
                        "fault": fault,
                        "share": report.share,
                        "verdict": report.verdict,
                    }
                )
    return {"reports": found, **spent.as_dict()}


def _appearance(slide: Mapping[str, np.ndarray]) -> Appearance:
    return Appearance(slide["colours"], slide["textures"])


def _kind(section: str) -> str:
    return next(kind for kind, members in _KINDS.items() if section in members)


def _encode_all(context: Context) -> dict[str, dict[str, np.ndarray]]:
    """Features, appearance and positions of every slide and fault, kept in the benchmarks' folder."""
    from hespotex.progress import Silent
    from hespotex.slide import open_slide
    from hespotex.slide.tissue import find_tissue
    from hespotex.spots.grid import spot_grid
    from hespotex.stages import read_sections

    machine(context)
    folder = context.work.parent / "cache" / NAME
    folder.mkdir(parents=True, exist_ok=True)
    slides: dict[str, tuple[Path, float, np.ndarray]] = {}
    for data in _KINDS:
        for s in read_sections(context.data / data / "sections.csv", None, Silent()):
            assert s.slide is not None
            slides[s.section_id] = (s.slide, s.geometry.mpp, s.xy_px0)
    path = context.data / "wsi" / _SKIN
    with open_slide(path) as slide:
        mpp = slide.mpp or 0.5
        xy_px0, _ = spot_grid(slide.width_px0, slide.height_px0, mpp, _SKIN_PITCH_UM, "square")
        slides["skin"] = (path, mpp, xy_px0[find_tissue(slide, mpp).contains(xy_px0)])
    wanted = [(name, "plain", 1.0) for name in slides]
    wanted += [(name, fault, factor) for name in FAULTY for fault, factor in FAULTS.values()]
    done = {}
    for name, fault, factor in wanted:
        kept = folder / f"{name}.{fault}.npz"
        if not kept.exists():
            _encode_one(context, kept, slides[name], fault, factor)
        with np.load(kept) as arrays:
            done[f"{name}.{fault}"] = {
                k: arrays[k] for k in ("features", "colours", "textures", "xy_um")
            }
    return done


def _encode_one(
    context: Context, kept: Path, slide: tuple[Path, float, np.ndarray], fault: str, factor: float
) -> None:
    from PIL import Image

    from hespotex.config import PatchConfig
    from hespotex.features.encode import encode_spots, patch_plan
    from hespotex.slide import open_slide

    path, mpp, xy_px0 = slide
    encoder = warm_encoder(context)
    change = _CHANGES.get(fault)
    if change is not None:
        with open_slide(path) as source:
            wide, high = int(source.width_px0), int(source.height_px0)
            picture = source.read_region(0, 0, wide, high, wide, high)
        path = kept.with_suffix(".png")
        Image.fromarray(change(picture, mpp)).save(path, compress_level=1)
    with open_slide(path, mpp=mpp * factor) as source:
        features, seen = encode_spots(
            source,
            xy_px0,
            encoder,
            patch_plan(encoder, PatchConfig()),
            mpp * factor,
            lambda _n: None,
        )
    arrays = {"features": features, "colours": seen.colours, "textures": seen.textures}
    np.savez(kept, **arrays, xy_um=xy_px0 * mpp)
    if change is not None:
        path.unlink()


def _blurred(picture: np.ndarray, mpp: float) -> np.ndarray:
    from scipy.ndimage import gaussian_filter

    return gaussian_filter(picture, (BLUR_UM / mpp, BLUR_UM / mpp, 0))


def _compressed(picture: np.ndarray, _mpp: float) -> np.ndarray:
    from PIL import Image

    buffer = io.BytesIO()
    Image.fromarray(picture).save(buffer, "JPEG", quality=JPEG_QUALITY)
    return np.asarray(Image.open(buffer).convert("RGB"))


_CHANGES: Mapping[str, Callable[[np.ndarray, float], np.ndarray]] = {
    "inverted": lambda picture, _mpp: 255 - picture,
    "blur": _blurred,
    "jpeg": _compressed,
}


def tables(found: Mapping[str, dict[str, Any]], _context: Context) -> Sequence[Table]:
    reports = found["slides"]["reports"]
    rows = []
    for model in MODELS:
        mine = [r for r in reports if r["model"] == model]
        plain = [r for r in mine if r["fault"] == "plain"]
        own = [r for r in plain if r["own"]]
        if own:
            worst = max(r["share"] for r in own)
            rows.append(
                _row(model, "its own kind, left out", own, f"< {BAR:.0%} of spots", worst < BAR)
            )
        for kind, name in (("her2st", "breast"), ("mob", "mouse brain"), ("skin", "skin")):
            others = [r for r in plain if r["kind"] == kind and not r["own"]]
            if others:
                rows.append(_row(model, name, others))
        for name, (fault, _) in FAULTS.items():
            rows.append(
                _row(
                    model,
                    f"its own kind, {name}",
                    [r for r in mine if r["own"] and r["fault"] == fault],
                )
            )
    notes = (
        f"Faults are made in the picture before it is encoded, on {', '.join(FAULTY)}, training sections among them. Skin: {_SKIN}, "
        f"a grid of {_SKIN_PITCH_UM:g} um. `flagged` is the share of spots, slide by slide; a slide that is unlike is flagged whole.",
    )
    return [
        Table(
            "Out of distribution",
            ("what", "slides called unlike", "flagged, verdicts", "bar"),
            tuple(rows),
            notes,
        )
    ]


def _row(
    model: str,
    what: str,
    reports: Sequence[Mapping[str, Any]],
    bar: str = "",
    met: bool | None = None,
) -> Row:
    unlike = [r for r in reports if r["verdict"].startswith("unlike")]
    listed = ", ".join(
        f"{r['slide']} {r['share']:.0%}"
        + (f" {r['verdict'].removeprefix('unlike: ')}" if r in unlike else "")
        for r in reports
    )
    return Row(f"model of {model}: {what}", f"{len(unlike)} of {len(reports)}", listed, bar, met)
