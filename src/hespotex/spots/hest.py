"""Reader of the HEST-1k layout: st/<id>.h5ad with metadata/<id>.json beside it."""

from __future__ import annotations

from pathlib import Path

from hespotex.errors import SpotTableError
from hespotex.spots.base import MissingGenes, Reader, Recognised, ScaleHints, SpotSource, SpotTable
from hespotex.spots.h5ad import build_table, read_parts
from hespotex.spots.text import positive_number, read_json

# In these a gene that is not in the table was not looked for.
_TARGETED = ("xenium",)


def read(source: SpotSource) -> SpotTable:
    """Read `st/<id>.h5ad`; scale from `pixel_size_um_estimated` of `metadata/<id>.json`.

    The mpp inside HEST's slides is off by ten in some, so it is not taken as evidence.

    Raises:
        SpotTableError: a file is missing or malformed, or the metadata has no pixel size.
    """
    path = source.expression
    if path is None:
        raise SpotTableError(
            expected="st/<id>.h5ad in the manifest's column expression", found="none"
        )
    metadata_path = _metadata_path(path)
    if not metadata_path.is_file():
        raise SpotTableError(
            expected=f"HEST's metadata at {metadata_path}",
            found="nothing",
            remedy="keep the folders st, wsis and metadata beside each other",
        )
    # NaN is how pandas writes what is missing
    metadata = {k: v for k, v in read_json(metadata_path).items() if v == v}  # noqa: PLR0124
    mpp = positive_number(metadata, "pixel_size_um_estimated", metadata_path)
    if mpp is None:
        raise SpotTableError(
            expected=f"pixel_size_um_estimated in {metadata_path}",
            found=", ".join(sorted(metadata))[:150] or "nothing",
            remedy="download the metadata again",
        )
    technology = str(metadata.get("st_technology", ""))
    missing: MissingGenes = "unmeasured" if technology.lower() in _TARGETED else "zero"
    hints = ScaleHints(
        mpp={"pixel_size_um_estimated of HEST": mpp},
        spot_pitch_um=positive_number(metadata, "inter_spot_dist", metadata_path),
        spot_diameter_um=positive_number(metadata, "spot_diameter", metadata_path),
        trust_slide_mpp=False,
    )
    table = build_table(read_parts(path, library=source.library), path, hints=hints)
    return SpotTable(**{**vars(table), "missing_genes": missing})


def recognise(path: Path) -> Recognised | None:
    """An h5ad in a folder st beside its metadata, with the slide in wsis."""
    if path.suffix != ".h5ad" or path.parent.name != "st" or not _metadata_path(path).is_file():
        return None
    slide = path.parent.parent / "wsis" / f"{path.stem}.tif"
    return Recognised(slide=slide if slide.is_file() else None)


def _metadata_path(path: Path) -> Path:
    return path.parent.parent / "metadata" / f"{path.stem}.json"


READER = Reader(read, columns=("expression", "library"), recognise=recognise)
