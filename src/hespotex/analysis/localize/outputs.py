"""Files of `localize`: tables of slides and spots, columns for scanpy, GeoJSON for QuPath, pictures."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import pandas as pd

from hespotex import keys
from hespotex.analysis.localize.cohort import Slides
from hespotex.analysis.localize.evidence import SpotMap
from hespotex.analysis.localize.nested import Passed
from hespotex.analysis.localize.sections import write_section
from hespotex.errors import ConfigError, shorten
from hespotex.plots.evidence_map import plot_evidence_map
from hespotex.plots.gallery import Patch, write_gallery
from hespotex.plots.style import save_figure
from hespotex.slide.folder import slide_names, slides_in
from hespotex.storage.atomic import atomic_path
from hespotex.storage.safe_names import safe_names

Floats = npt.NDArray[np.float32]

_CORNERS: Final = 16
_OF_CLASS: Final = 12
_OF_SLIDE: Final = 3


@dataclass(frozen=True)
class Drawn:
    """A map as it is written; all are (N,).

    Attributes:
        necessity, sufficiency: of the spot's group.
        z, stability: as of `SpotMap`.
        shown: what is drawn.
    """

    necessity: Floats
    sufficiency: Floats
    z: Floats
    stability: Floats
    shown: npt.NDArray[np.bool_]

    @classmethod
    def of(cls, passed: Passed, found: SpotMap) -> Drawn:
        """The map of a run."""
        return cls(passed.loss[0], passed.alone[0], found.z, found.stability, found.shown)


def slides_table(
    slides: Slides, margin: Floats, classes: tuple[str, ...], mark: str
) -> pd.DataFrame:
    """One row a slide: probability of each diagnosis from (B, C) margins, and the verdict on the slide's prediction."""
    # A margin is a logit less the mean of the others: probabilities follow from it up to a constant.
    logit = margin.astype(np.float64) * (len(classes) - 1) / len(classes)
    share = np.exp(logit - logit.max(axis=1, keepdims=True))
    share /= share.sum(axis=1, keepdims=True)
    table = pd.DataFrame(
        {
            keys.SECTION_ID: [b.section_id for b in slides.bags],
            keys.PATIENT_ID: [b.patient_id for b in slides.bags],
            "label": [b.label for b in slides.bags],
            "site": [b.site for b in slides.bags],
            "n_spots": [b.n_spots for b in slides.bags],
            "verdict": [f.claims.verdict or "" for f in slides.files],
        }
    )
    for k, name in enumerate(classes):
        table[f"probability of {name}"] = share[:, k]
    return table.assign(evidence=mark)


def spots_table(slides: Slides, found: Drawn, mark: str) -> pd.DataFrame:
    """One row a spot, all slides below one another."""
    lengths = [b.n_spots for b in slides.bags]
    xy = np.concatenate([f.spots.xy_px0 for f in slides.files])

    def repeat(values: list[str]) -> npt.NDArray[Any]:
        return np.repeat(np.array(values, dtype=object), lengths)

    return pd.DataFrame(
        {
            keys.SECTION_ID: repeat([b.section_id for b in slides.bags]),
            keys.PATIENT_ID: repeat([b.patient_id for b in slides.bags]),
            "label": repeat([b.label for b in slides.bags]),
            "barcode": np.concatenate([f.spots.barcodes for f in slides.files]).astype(object),
            "x_px0": xy[:, 0],
            "y_px0": xy[:, 1],
            "necessity": found.necessity,
            "sufficiency": found.sufficiency,
            "z": found.z,
            "stability": found.stability,
            "flagged": ~slides.usable,
            "shown": found.shown,
            "evidence": repeat([mark] * len(slides.bags)),
        }
    )


def write_csv(path: Path, table: pd.DataFrame) -> Path:
    """Write a table, whole or not at all."""
    with atomic_path(path) as temporary:
        table.to_csv(temporary, index=False, errors="backslashreplace")
    return path


def write_tables(out: Path, table: pd.DataFrame, spots: pd.DataFrame | None) -> dict[str, Path]:
    """slides.csv, and where there is a map spots.parquet and spots.h5ad; paths by label."""
    paths = {"slides": write_csv(out / "slides.csv", table)}
    if spots is None:
        return paths
    paths["spots"] = out / "spots.parquet"
    with atomic_path(paths["spots"]) as temporary:
        spots.to_parquet(temporary, index=False)
    from anndata import AnnData

    paths["h5ad"] = out / "spots.h5ad"
    obs = spots.drop(columns=["x_px0", "y_px0"])
    obs.index = pd.Index(
        [f"{s}:{b}" for s, b in zip(spots[keys.SECTION_ID], spots["barcode"], strict=True)],
        dtype=object,
    )
    whole = AnnData(obs=obs, obsm={keys.SPATIAL: spots[["x_px0", "y_px0"]].to_numpy(np.float64)})
    with atomic_path(paths["h5ad"]) as temporary:
        whole.write_h5ad(temporary)
    return paths


def write_maps(
    out: Path, slides: Slides, spots: pd.DataFrame, words: str, alarm: bool
) -> dict[str, Path]:
    """A picture, a GeoJSON and a section for `view` of every slide on which a spot passes; by the picture's title."""
    names = safe_names([b.section_id for b in slides.bags])
    drawn, at = {}, 0
    for bag, file, name in zip(slides.bags, slides.files, names, strict=True):
        own = spots.iloc[at : at + bag.n_spots]
        at += bag.n_spots
        shown = own["shown"].to_numpy(bool)
        if not shown.any():
            continue
        title = (
            f"{bag.section_id}: {int(shown.sum()):,} of {bag.n_spots:,} spots speak for {bag.label}"
        )
        figure = plot_evidence_map(
            file.spots, own["z"].to_numpy(), shown, title=title, words=words, alarm=alarm
        )
        drawn[title] = out / "figures" / f"{name}.png"
        save_figure(figure, drawn[title])
        _write_geojson(out / "geojson" / f"{name}.geojson", file.spots, own[shown], words)
        write_section(out / "sections" / f"{name}.h5ad", file, own, words)
    return drawn


def slides_of(slides: Slides, folder: Path) -> dict[str, Path]:
    """The slide's file by id, of those that lie in a folder.

    Raises:
        ConfigError: none does.
    """
    paths = slides_in(folder).slides
    ids = {b.section_id for b in slides.bags}
    of = {n: p for n, p in zip(slide_names(paths), paths, strict=True) if n in ids}
    if not of:
        raise ConfigError(
            expected=f"slides named as their predictions ({shorten(sorted(ids), 3)}) in {folder}",
            found=shorten([p.name for p in paths], 3) or "no slide", remedy="give the folder that was predicted",
        )  # fmt: skip
    return of


def gallery_patches(slides: Slides, spots: pd.DataFrame, of: dict[str, Path]) -> list[Patch]:
    """The most telling spots of each diagnosis, at most three a slide; `of` has the files, as `slides_of`."""
    at = {b.section_id: f.spots for b, f in zip(slides.bags, slides.files, strict=True)}
    found = []
    telling = spots[spots["shown"] & spots[keys.SECTION_ID].isin(list(of))]
    for label, own in telling.sort_values("z", ascending=False).groupby("label"):
        best = own.groupby(keys.SECTION_ID, sort=False).head(_OF_SLIDE).head(_OF_CLASS)
        for row in best.to_dict("records"):
            section = at[str(row[keys.SECTION_ID])]
            x, y = float(row["x_px0"]), float(row["y_px0"])
            found.append(
                Patch(
                    slide=of[str(row[keys.SECTION_ID])],
                    xy_px0=(x, y),
                    title=str(row[keys.SECTION_ID]),
                    caption=f"x {x * section.mpp / 1000:.2f}, y {y * section.mpp / 1000:.2f} mm; z {row['z']:.1f}; {row['evidence']}",
                    group=f"Speak for {label}",
                    mpp=section.mpp,
                    spot_diameter_um=section.spot_diameter_um,
                )
            )
    return found


def write_contact_sheet(path: Path, patches: list[Patch], words: str) -> None:
    """The gallery as one picture."""
    write_gallery(path, patches, title="Patches that a diagnosis hangs on", subtitle=words)


def _write_geojson(path: Path, section: Any, shown: pd.DataFrame, words: str) -> None:
    turn = 2 * np.pi * np.arange(_CORNERS) / _CORNERS
    circle = section.spot_diameter_um / section.mpp / 2 * np.stack([np.cos(turn), np.sin(turn)], 1)
    features = []
    for row in shown.to_dict("records"):
        ring = np.round(np.array([row["x_px0"], row["y_px0"]]) + circle, 2).tolist()
        features.append(
            {
                "type": "Feature",
                "geometry": {"type": "Polygon", "coordinates": [[*ring, ring[0]]]},
                "properties": {
                    "objectType": "detection",
                    "name": str(row["barcode"]),
                    "classification": {"name": f"speaks for {row['label']} ({row['evidence']})"},
                    "measurements": {
                        "z": round(float(row["z"]), 4),
                        "necessity": round(float(row["necessity"]), 5),
                        "sufficiency": round(float(row["sufficiency"]), 5),
                        "stability": round(float(row["stability"]), 3),
                    },
                },
            }
        )
    content = {"type": "FeatureCollection", "hespotex": {"about": words}, "features": features}
    with atomic_path(path) as temporary:
        temporary.write_text(json.dumps(content, allow_nan=False), encoding="utf-8")
