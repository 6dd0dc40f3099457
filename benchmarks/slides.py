"""What the benchmark of slides works on: pyramids with tissue, models of any number of genes.

    python -m benchmarks.slides slide FILE.tif SIDE_PX       a disc of tissue on glass
    python -m benchmarks.slides sheet FILE.tif SIDE_PX       tissue from border to border
    python -m benchmarks.slides model FILE.hespotex GENES
    python -m benchmarks.slides area-model FILE.hespotex GENES

Made in processes of their own, so that the peak memory of a measured process is its own.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import numpy as np
import numpy.typing as npt

MPP = 0.5
_TILE = 512
_PERIOD = 2048
_DOWNSAMPLES = (1, 4, 16)


def write_sheet(path: Path, side_px: int) -> None:
    """The same with tissue from border to border."""
    write_slide(path, side_px, whole=True)


def write_slide(path: Path, side_px: int, *, whole: bool = False) -> None:
    """A tiled pyramidal TIFF: a disc of tissue, 90 % of the side wide, written tile by tile."""
    import tifffile

    pattern = _pattern()
    n_tiles = -(-side_px // _TILE)
    j, i = np.mgrid[:n_tiles, :n_tiles] + 0.5
    tissue = whole | (np.hypot(i - n_tiles / 2, j - n_tiles / 2) < 0.45 * n_tiles)
    density = 1e4 / MPP
    temporary = path.with_suffix(".part")
    with tifffile.TiffWriter(temporary, bigtiff=True) as tiff:
        for level, down in enumerate(_DOWNSAMPLES):
            size = -(-side_px // down)
            tiff.write(
                _tiles(pattern[down], tissue, size, down),
                shape=(size, size, 3),
                dtype=np.uint8,
                tile=(_TILE, _TILE),
                photometric="rgb",
                compression="jpeg",
                subfiletype=1 if level else 0,
                resolution=(density / down, density / down),
                resolutionunit="CENTIMETER",
            )
    temporary.replace(path)


def _pattern() -> dict[int, npt.NDArray[np.uint8]]:
    """One period of stroma with nuclei, at every downsample."""
    import cv2

    rng = np.random.default_rng(5)
    base = cv2.resize(
        rng.normal(size=(64, 64, 3)), (_PERIOD, _PERIOD), interpolation=cv2.INTER_CUBIC
    )
    image = np.array([212.0, 150.0, 190.0]) + 14 * base + rng.normal(0, 6, (_PERIOD, _PERIOD, 3))
    for x, y in rng.integers(0, _PERIOD, size=(9000, 2)).tolist():
        cv2.circle(image, (x, y), int(rng.integers(4, 9)), (96, 62, 140), -1)
    full = np.clip(image, 0, 255).astype(np.uint8)
    return {
        d: cv2.resize(full, (_PERIOD // d, _PERIOD // d), interpolation=cv2.INTER_AREA)
        for d in _DOWNSAMPLES
    }


def _tiles(
    pattern: npt.NDArray[np.uint8], tissue: npt.NDArray[np.bool_], size: int, down: int
) -> Iterator[npt.NDArray[np.uint8]]:
    n = -(-size // _TILE)
    period, last = len(pattern), len(tissue) - 1
    for j in range(n):
        rows = np.arange(j * _TILE, (j + 1) * _TILE)
        for i in range(n):
            columns = np.arange(i * _TILE, (i + 1) * _TILE)
            tile = pattern[np.ix_(rows % period, columns % period)].copy()
            places = [np.minimum(v * down // _TILE, last) for v in (rows, columns)]
            tile[~tissue[np.ix_(*places)]] = 243
            yield tile


def train_by_area(path: Path, n_genes: int) -> None:
    """The same, reading by area."""
    train_model(path, n_genes, reading="area")


def train_model(path: Path, n_genes: int, *, reading: str = "patches") -> None:
    """A model over so many genes, fitted on a painted cohort, with intervals and the check for strange slides."""
    from hespotex import pipeline
    from hespotex.config import Machine, RunConfig
    from hespotex.datasets import make_cohort

    manifest = make_cohort(
        path.with_suffix(".cohort"), n_patients=2, n_genes=n_genes, side_um=1300.0
    )
    panel = {"kind": "all", "min_spot_fraction": 0.0}
    config = RunConfig.from_values({"panel": panel, "encoder": {"reading": reading}})
    machine = Machine(device="cpu", cache=path.with_suffix(".cache"))
    pipeline.train(manifest, path, config=config, validate=False, machine=machine)


_KINDS: Mapping[str, Callable[[Path, int], None]] = {
    "slide": write_slide,
    "sheet": write_sheet,
    "model": train_model,
    "area-model": train_by_area,
}


def made(path: Path, kind: str, number: int) -> Path:
    """The slide or model at `path`, made now where it is not there."""
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        command = [sys.executable, "-m", "benchmarks.slides", kind, str(path), str(number)]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL, env=dict(os.environ))
    return path


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("kind", choices=tuple(_KINDS))
    parser.add_argument("path", type=Path)
    parser.add_argument("number", type=int)
    given = parser.parse_args()
    _KINDS[given.kind](given.path, given.number)


if __name__ == "__main__":
    main()
