"""Mouse olfactory bulb, legacy ST: twelve replicates (Stahl et al. 2016, doi 10.1126/science.aaf2403)."""

from __future__ import annotations

import csv
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import numpy as np

from hespotex.errors import DownloadError
from hespotex.progress import Reporter
from hespotex.public.data_set import DataSet, Row, chosen
from hespotex.public.download import Remote, download
from hespotex.spots.legacy_st import array_positions, read_counts_tsv
from hespotex.storage.atomic import atomic_path
from hespotex.storage.text_files import read_text

ENVIRONMENT: Final = "HESPOTEX_SPATIAL_RESEARCH"
_ADDRESS: Final = "https://www.spatialresearch.org"
_FOLDER: Final = "wp-content/uploads/2016/07"
REPLICATES: Final = tuple(f"Rep{n}" for n in range(1, 13))
# As they are spelt there.
_TRANSFORMATON: Final = ("Rep2", "Rep9", "Rep12")
_PLAIN_IMAGE: Final = ("Rep1", "Rep2", "Rep3", "Rep4")


def bring(ids: Sequence[str] | None, folder: Path, reporter: Reporter) -> list[Row]:
    """Fetch the chosen replicates, and write where their spots lie.

    Raises:
        ConfigError: no replicate has such an id.
        DownloadError: a file is not there, or is no such file.
        SpotTableError: the counts cannot be read.
    """
    replicates = chosen(REPLICATES, ids, "bulb")
    there = iter(download([r for name in replicates for r in _remotes(name)], folder, reporter))
    return [_row(name, folder, [next(there) for _ in range(3)]) for name in replicates]


def _remotes(name: str) -> tuple[Remote, Remote, Remote]:
    """Counts, image and transformation; their publisher states no checksums."""
    base = f"{os.environ.get(ENVIRONMENT, _ADDRESS).rstrip('/')}/{_FOLDER}"
    image = f"HE_{name}.jpg" if name in _PLAIN_IMAGE else f"HE_{name}_MOB.jpg"
    spelt = "transformaton" if name in _TRANSFORMATON else "transformation"
    return (
        Remote(f"{base}/{name}_MOB_count_matrix-1.tsv", f"counts/{name}.tsv"),
        Remote(f"{base}/{image}", f"images/{name}.jpg"),
        Remote(f"{base}/{name}_MOB_{spelt}.txt", f"transformations/{name}.txt"),
    )


def _row(name: str, folder: Path, paths: Sequence[Path]) -> Row:
    counts, image, transformation = paths
    spots = folder / "spots" / f"{name}.tsv"
    _write_spots(counts, transformation, spots)
    return {
        "section_id": name,
        # Which animal a replicate is of is not told beside the files: no fold may split one.
        "patient_id": "bulb animals",
        "slide": image.relative_to(folder).as_posix(),
        "expression": counts.relative_to(folder).as_posix(),
        "spots": spots.relative_to(folder).as_posix(),
        "format": "legacy_st",
        "spot_pitch_um": 200,
        "spot_diameter_um": 100,
    }


def _write_spots(counts: Path, transformation: Path, path: Path) -> None:
    """Array positions stand in the names of the spots; nine numbers, column by column, lead to pixels of the image."""
    words = read_text(transformation, "a transformation", DownloadError).split()
    try:
        matrix = np.array([float(word) for word in words]).reshape(3, 3)
    except ValueError:
        raise DownloadError(
            expected=f"nine numbers in {transformation}",
            found=f"{' '.join(words)[:60]!r}",
            remedy="delete it and run again",
        ) from None
    names, _, _ = read_counts_tsv(counts)
    array_xy = array_positions(names, counts)
    pixels = (np.column_stack([array_xy, np.ones(len(array_xy))]) @ matrix)[:, :2]
    with (
        atomic_path(path) as temporary,
        temporary.open("w", encoding="utf-8", newline="") as handle,
    ):
        writer = csv.writer(handle, delimiter="\t")
        writer.writerow(("x", "y", "pixel_x", "pixel_y"))
        writer.writerows(np.column_stack([array_xy, pixels.round(2)]).tolist())


DATA_SET = DataSet(
    name="bulb",
    title="mouse olfactory bulb, legacy ST (Stahl et al. 2016)",
    tissue="mouse olfactory bulb",
    patients="several mice, not told apart; 12 sections",
    size="about 12 MB a section, said before work",
    licence="none stated: ask its authors before you publish what you make of it",
    address=_ADDRESS,
    ids="Rep1 ... Rep12",
    bring=bring,
    remotes=lambda: [remote for name in REPLICATES for remote in _remotes(name)],
)
