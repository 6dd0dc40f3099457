"""HER2-positive breast cancer, legacy ST: 36 sections of 8 patients (Andersson et al. 2021)."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Final

from hespotex.errors import DownloadError
from hespotex.progress import Reporter
from hespotex.public.archives import by_file_name, unzip
from hespotex.public.data_set import DataSet, Row, chosen
from hespotex.public.download import Remote, download
from hespotex.public.zenodo import record_files

RECORD: Final = 3957257
SECTIONS: Final = tuple(
    f"{patient}{n}" for patient in "ABCDEFGH" for n in range(1, 7 if patient in "ABCD" else 4)
)
_ARCHIVES: Final = ("count-matrices.zip", "images.zip", "spot-selections.zip")
# The authors encrypted the files and published these passwords with the paper's code.
_COUNTS_AND_IMAGES: Final = b"zNLXkYk3Q9znUseS"
_SPOTS: Final = b"yUx44SzG6NdB32gY"


def bring(ids: Sequence[str] | None, folder: Path, reporter: Reporter) -> list[Row]:
    """Fetch the record, unpack the chosen sections.

    Raises:
        ConfigError: no section has such an id.
        DownloadError: a file is not there, or another one than the record states.
    """
    sections = chosen(SECTIONS, ids, "her2st")
    files = {remote.name: remote for remote in archives()}
    parts = (
        ("count-matrices.zip", _COUNTS_AND_IMAGES, {f"{s}.tsv.gz": _counts(s) for s in sections}),
        ("images.zip", _COUNTS_AND_IMAGES, {f"{s}.jpg": f"images/{s}.jpg" for s in sections}),
        (
            "spot-selections.zip",
            _SPOTS,
            {
                f"{s}_selection.tsv{packed}": f"spots/{s}_selection.tsv{packed}"
                for s in sections
                for packed in ("", ".gz")
            },
        ),
    )
    there = download([files[name] for name, _, _ in parts], folder / "archives", reporter)
    unpacked: set[str] = set()
    for (_, password, wanted), archive in zip(parts, there, strict=True):
        choose = _no_annotation({member: folder / target for member, target in wanted.items()})
        unpacked |= {p.relative_to(folder).as_posix() for p in unzip(archive, choose, password)}
    return [_row(section, unpacked) for section in sections]


def archives() -> list[Remote]:
    """The archives that are needed, as the record states them.

    Raises:
        DownloadError: Zenodo does not answer, or one is not there.
    """
    files = record_files(RECORD)
    for name in _ARCHIVES:
        if name not in files:
            found = ", ".join(sorted(files))
            raise DownloadError(expected=f"{name} in record {RECORD} of Zenodo", found=found)
    return [files[name] for name in _ARCHIVES]


def _no_annotation(targets: Mapping[str, Path]) -> Callable[[str], Path | None]:
    """Beside the slides lie pictures of the pathologist's outlines under the same names."""
    choose = by_file_name(targets)
    return lambda member: None if "annotation" in member else choose(member)


def _counts(section: str) -> str:
    return f"counts/{section}.tsv.gz"


def _row(section: str, unpacked: set[str]) -> Row:
    spots = [
        p
        for p in (f"spots/{section}_selection.tsv", f"spots/{section}_selection.tsv.gz")
        if p in unpacked
    ]
    for path in (
        f"images/{section}.jpg",
        _counts(section),
        *(spots or [f"spots/{section}_selection.tsv"]),
    ):
        if path not in unpacked:
            raise DownloadError(
                expected=f"{path.rpartition('/')[2]} in the archives of record {RECORD}",
                found="none",
            )
    return {
        "section_id": section,
        "patient_id": section[0],
        "slide": f"images/{section}.jpg",
        "expression": _counts(section),
        "spots": spots[0],
        "format": "legacy_st",
        "spot_pitch_um": 200,
        "spot_diameter_um": 100,
    }


DATA_SET = DataSet(
    name="her2st",
    title="HER2-positive breast cancer, legacy ST (Andersson et al. 2021)",
    tissue="human breast",
    patients="8 patients, 36 sections",
    size="as the record says before work; sections cannot be fetched one by one",
    licence="CC BY 4.0",
    address=f"https://zenodo.org/records/{RECORD}",
    ids="A1 ... H3",
    bring=bring,
    remotes=archives,
)
