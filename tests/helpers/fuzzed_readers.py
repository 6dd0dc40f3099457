"""Every reader with small real files, and what it reads of them as one value: for files with damage."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import tifffile
from PIL import Image

from helpers.made_sections import (
    KNOWN,
    h5ad,
    hest,
    legacy_st,
    space_ranger,
    spatialdata,
    visium_hd,
    write_mtx,
    xenium,
)
from helpers.old_anndata import write_06

STORED = Path(__file__).parents[1] / "stored"


def key_of(*parts: Any) -> str:
    """One value for arrays, lists and texts."""
    digest = hashlib.blake2b(digest_size=8)
    for part in parts:
        digest.update(part.tobytes() if isinstance(part, np.ndarray) else repr(part).encode())
    return digest.hexdigest()


@dataclass(frozen=True)
class Fuzzed:
    """A reader and its files.

    Attributes:
        build: writes the files into an empty folder.
        read: reads them; the value is of what was read.
        whole: every cut has to be noticed: the format says how long a file is.
        pattern: files that are damaged.
    """

    build: Callable[[Path], object]
    read: Callable[[Path], str]
    whole: bool = False
    pattern: str = "**/*"


def _spots(name: str, build: Callable[..., Any], **more: Any) -> Fuzzed:
    def read(folder: Path) -> str:
        from dataclasses import replace

        from hespotex.spots.base import SpotSource
        from hespotex.spots.registry import read_spots

        values = json.loads((folder.parent / "source.json").read_text())
        paths = {k: folder / v for k, v in values["paths"].items()}
        table = read_spots(name, replace(SpotSource(**values["other"]), **paths))
        counts = table.counts.toarray() if table.counts is not None else None
        return key_of(counts, table.genes, table.barcodes, table.xy_px0)

    def make(folder: Path) -> None:
        source = build(folder / "made", KNOWN)
        kept = {k: v for k, v in vars(source).items() if v is not None}
        paths = {k: str(v.relative_to(folder)) for k, v in kept.items() if isinstance(v, Path)}
        other = {k: v for k, v in kept.items() if not isinstance(v, Path)}
        (folder.parent / "source.json").write_text(json.dumps({"paths": paths, "other": other}))

    return Fuzzed(make, read, **more)


def _three_files(folder: Path, known: Any) -> Any:
    source = space_ranger(folder, known)
    (folder / "filtered_feature_bc_matrix.h5").unlink()
    write_mtx(folder / "filtered_feature_bc_matrix", known)
    return source


def _plain_mtx(folder: Path, known: Any) -> Any:
    source = space_ranger(folder, known)
    (folder / "filtered_feature_bc_matrix.h5").unlink()
    write_mtx(folder / "filtered_feature_bc_matrix", known, packed=False)
    return source


def _old(folder: Path, known: Any) -> Any:
    source = h5ad(folder, known)
    write_06(folder / "section.h5ad", known)
    return source


def _slide(write: Callable[[Path], object], **more: Any) -> Fuzzed:
    def read(folder: Path) -> str:
        from hespotex.slide import open_slide

        (path,) = folder.iterdir()
        with open_slide(path) as slide:
            pixels, _ = slide.thumbnail(60)
            part = slide.read_region(10, 10, 100, 100, 50, 50)
        return key_of(pixels, part)

    return Fuzzed(write, read, **more)


_PICTURE = np.random.default_rng(0).integers(0, 255, (260, 300, 3), dtype=np.uint8)


def _zarr_slide(folder: Path) -> None:
    import zarr

    group = zarr.open_group(folder / "s.zarr", mode="w", zarr_format=2)
    group.create_array("0", data=_PICTURE.transpose(2, 0, 1), chunks=(3, 64, 64))
    axes = [{"name": "c", "type": "channel"}, *({"name": n, "type": "space"} for n in "yx")]
    scale = [{"type": "scale", "scale": [1.0, 0.5, 0.5]}]
    levels = [{"path": "0", "coordinateTransformations": scale}]
    group.attrs["multiscales"] = [{"version": "0.4", "axes": axes, "datasets": levels}]


def _pyramid(folder: Path) -> None:
    with tifffile.TiffWriter(folder / "p.tif") as file:
        for step in (1, 2):
            picture = np.ascontiguousarray(_PICTURE[::step, ::step])
            file.write(picture, tile=(64, 64), photometric="rgb", compression="jpeg",
                       subfiletype=int(step > 1), resolution=(20000, 20000), resolutionunit="CENTIMETER")  # fmt: skip


def _jpeg(folder: Path) -> None:
    Image.fromarray(_PICTURE).save(folder / "s.jpg", dpi=(50800, 50800))


_LABELS = np.zeros((130, 150), np.int32)
_LABELS[10:30, 10:40], _LABELS[60:80, 60:90] = 1, 2
_RING = [[10, 10], [60, 10], [60, 60], [10, 60], [10, 10]]


def _geojson(folder: Path) -> None:
    features = [
        {
            "type": "Feature",
            "id": f"PathDetectionObject{i}",
            "geometry": {"type": "Polygon", "coordinates": [[[x + i * 70, y] for x, y in _RING]]},
            "properties": {"objectType": kind, "cell_id": i},
        }
        for i, kind in enumerate(("annotation", "annotation", "detection"))
    ]
    content = {"type": "FeatureCollection", "features": features}
    (folder / "a.geojson").write_text(json.dumps(content))


def _mask(write: Callable[[Path], object]) -> Fuzzed:
    def read(folder: Path) -> str:
        from hespotex.nuclei.masks import open_mask

        (path,) = folder.iterdir()
        return key_of(open_mask(path, (300, 260), 0.5).read(0, 0, 150, 130))

    return Fuzzed(write, read)


def _read_tissue(folder: Path) -> str:
    from hespotex.slide.tissue_outline import read_tissue

    return key_of(read_tissue(folder / "a.geojson").polygons.wkt)


def _read_outlines(folder: Path) -> str:
    from hespotex.spots.outlines import read_outlines

    return key_of(read_outlines(folder / "a.geojson"))


def _manifest(folder: Path) -> None:
    legacy_st(folder / "data", KNOWN)
    (folder / "data" / "s.png").write_bytes(b"x")
    row = "data/s.png,data/counts.tsv.gz,legacy_st,data/spots.tsv,0.5,100,note"
    head = "section_id,patient_id,slide,expression,format,spots,mpp,spot_pitch_um,x_note"
    (folder / "sections.csv").write_text(f"{head}\nA,P1,{row}\nB,P2,{row}\n")


def _read_manifest(folder: Path) -> str:
    from hespotex.sections.manifest import read_manifest

    return key_of(len(read_manifest(folder / "sections.csv").rows))


def _features(folder: Path) -> None:
    import h5py

    with h5py.File(folder / "f.h5", "w") as file:
        file["features"] = np.random.default_rng(0).random((30, 8), np.float32)
        file["coords"] = KNOWN.xy_px0 - 50
        file["coords"].attrs["patch_size_level0"] = 100


def _read_features(folder: Path) -> str:
    from hespotex.features.foreign_h5 import read_features_file

    return key_of(*read_features_file(folder / "f.h5", KNOWN.xy_px0)[:2])


def _text(name: str, text: str, read: Callable[[Path], object]) -> Fuzzed:
    return Fuzzed(
        lambda folder: (folder / name).write_text(text), lambda folder: key_of(read(folder / name))
    )


def _read_gmt(path: Path) -> object:
    from hespotex.genes.gene_sets import read_gmt

    return read_gmt(path)


def _read_genes(path: Path) -> object:
    from hespotex.cli.options import read_genes

    return read_genes(path)


def _read_config(path: Path) -> object:
    from hespotex.config import RunConfig

    return RunConfig.from_toml(path)


def _read_alignment(path: Path) -> object:
    from hespotex.spots.xenium import read_alignment

    return read_alignment(path).tolist()


def _read_positions(path: Path) -> object:
    from hespotex.spots.given import read_positions

    return read_positions(path).xy_px0.tolist()


def _model(folder: Path) -> None:
    from hespotex.models.bundle import read_model, write_model

    write_model(folder / "m.hespotex", read_model(STORED / "tiny.hespotex"))


def _read_model(folder: Path) -> str:
    from hespotex.models.bundle import read_model

    bundle = read_model(folder / "m.hespotex")
    return key_of(bundle.model_id, bundle.genes)


def _read_prediction(folder: Path) -> str:
    from hespotex.export.h5ad import read_prediction

    stored = read_prediction(folder / "p.h5ad")
    return key_of(stored.genes, stored.barcodes)


READERS: dict[str, Fuzzed] = {
    "legacy_st": _spots("legacy_st", legacy_st),
    "h5ad": _spots("h5ad", h5ad, whole=True),
    "h5ad of anndata 0.6": _spots("h5ad", _old, whole=True),
    "hest": _spots("hest", hest),
    "space_ranger": _spots("space_ranger", space_ranger),
    "space_ranger, three packed files": _spots("space_ranger", _three_files),
    "space_ranger, three files": _spots("space_ranger", _plain_mtx),
    "visium_hd": _spots("visium_hd", visium_hd),
    "xenium": _spots("xenium", xenium),
    "spatialdata": _spots("spatialdata", spatialdata),
    "slide, PNG": _slide(lambda f: Image.fromarray(_PICTURE).save(f / "s.png"), whole=True),
    "slide, JPEG": _slide(_jpeg),
    "slide, pyramid": _slide(_pyramid),
    "slide, strips": _slide(lambda f: tifffile.imwrite(f / "s.tif", _PICTURE, photometric="rgb", rowsperstrip=16)),
    "slide, OME-TIFF": _slide(lambda f: tifffile.imwrite(f / "s.ome.tif", _PICTURE, photometric="rgb", compression="zlib", metadata={"axes": "YXS", "PhysicalSizeX": 0.5, "PhysicalSizeY": 0.5})),
    "slide, Zarr": Fuzzed(_zarr_slide, _slide(_zarr_slide).read),
    "manifest": Fuzzed(_manifest, _read_manifest, pattern="sections.csv"),
    "features": Fuzzed(_features, _read_features, whole=True),
    "gene sets": _text("s.gmt", "ONE\tna\tTP53\tERBB2\nTWO\thttp://x\tACTB\tGAPDH\n", _read_gmt),
    "genes": _text("g.txt", "TP53\nERBB2\nACTB\n", _read_genes),
    "config": _text("c.toml", 'seed = 3\n[panel]\nkind = "hvg"\n', _read_config),
    "alignment": _text("a.csv", "1.0,0.0,4.0\n0.0,1.0,2.0\n0.0,0.0,1.0\n", _read_alignment),
    "positions of a slide": _text("p.csv", "spot,x,y\na,1.5,2\nb,3,4\nc,5,6\n", _read_positions),
    "tissue": Fuzzed(_geojson, _read_tissue),
    "outlines of cells": Fuzzed(_geojson, _read_outlines),
    "nuclei, GeoJSON": _mask(_geojson),
    "nuclei, npy": _mask(lambda f: np.save(f / "m.npy", _LABELS)),
    "nuclei, TIFF": _mask(lambda f: tifffile.imwrite(f / "m.tif", _LABELS, compression="zlib")),
    "nuclei, PNG": _mask(lambda f: Image.fromarray(_LABELS.astype(np.uint16)).save(f / "m.png")),
    "model": Fuzzed(_model, _read_model, whole=True),
    "prediction": Fuzzed(lambda f: shutil.copy(STORED / "tiny-0.1.0.h5ad", f / "p.h5ad"), _read_prediction, whole=True),
}  # fmt: skip
