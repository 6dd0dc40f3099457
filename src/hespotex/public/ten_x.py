"""Public samples of 10x Genomics by name: Visium, Visium HD, Xenium."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal

from hespotex.progress import Reporter
from hespotex.public.archives import untar, unzip
from hespotex.public.data_set import DataSet, Row, chosen
from hespotex.public.download import Remote, download

ENVIRONMENT: Final = "HESPOTEX_TEN_X"
_ADDRESS: Final = "https://cf.10xgenomics.com"
_FOLDERS: Final = {"visium": "spatial-exp", "visium_hd": "spatial-exp", "xenium": "xenium"}


@dataclass(frozen=True)
class _Sample:
    """One sample: `version` of the software in its address; files with md5 where 10x tells it."""

    name: str
    kind: Literal["visium", "visium_hd", "xenium"]
    version: str
    patient: str
    tissue: str
    files: tuple[tuple[str, str | None], ...]


_VISIUM: Final = (
    ("_filtered_feature_bc_matrix.h5", None),
    ("_spatial.tar.gz", None),
    ("_image.tif", None),
)
SAMPLES: Final = (
    _Sample("V1_Breast_Cancer_Block_A_Section_1", "visium", "1.1.0", "breast block A", "human breast cancer", _VISIUM),
    _Sample("V1_Breast_Cancer_Block_A_Section_2", "visium", "1.1.0", "breast block A", "human breast cancer", _VISIUM),
    _Sample("V1_Human_Lymph_Node", "visium", "1.1.0", "lymph node donor", "human lymph node", _VISIUM),
    _Sample("V1_Adult_Mouse_Brain", "visium", "1.1.0", "mouse brain 1", "mouse brain", _VISIUM),
    _Sample(
        "Visium_HD_Human_Colon_Cancer", "visium_hd", "3.0.0", "colon cancer HD", "human colon cancer",
        (("_binned_outputs.tar.gz", "md5:2a8a0df135d3d77ed77a465882f0bb2f"),
         ("_tissue_image.btf", "md5:83bea5bc5761ccac5e54f7dc9b36d1d2")),
    ),
    _Sample(
        "Xenium_FFPE_Human_Breast_Cancer_Rep1", "xenium", "1.0.1", "breast Xenium 1", "human breast cancer",
        (("_outs.zip", None), ("_he_image.ome.tif", None), ("_he_imagealignment.csv", None)),
    ),
)  # fmt: skip


def bring(ids: Sequence[str] | None, folder: Path, reporter: Reporter) -> list[Row]:
    """Fetch and unpack the chosen samples.

    Raises:
        ConfigError: no sample has such a name.
        DownloadError: a file is not there, or damaged.
    """
    names = chosen([s.name for s in SAMPLES], ids, "10x")
    samples = [s for s in SAMPLES if s.name in names]
    there = iter(download([r for s in samples for r in _remotes(s)], folder, reporter))
    return [_row(s, folder, {ending: next(there) for ending, _ in s.files}) for s in samples]


def _remotes(sample: _Sample) -> list[Remote]:
    return [
        Remote(
            f"{_address(sample)}{ending}", f"{sample.name}/{sample.name}{ending}", checksum=checksum
        )
        for ending, checksum in sample.files
    ]


def _address(sample: _Sample) -> str:
    base = os.environ.get(ENVIRONMENT, _ADDRESS).rstrip("/")
    return f"{base}/samples/{_FOLDERS[sample.kind]}/{sample.version}/{sample.name}/{sample.name}"


def _row(sample: _Sample, folder: Path, paths: dict[str, Path]) -> Row:
    home = folder / sample.name
    row = {"section_id": sample.name, "patient_id": sample.patient, "x_tissue": sample.tissue}
    if sample.kind == "visium":
        untar(paths["_spatial.tar.gz"], home / "unpacked")
        outs = home / "unpacked"
        matrix = outs / "filtered_feature_bc_matrix.h5"
        if not matrix.exists():
            os.link(paths["_filtered_feature_bc_matrix.h5"], matrix)
        more = {"slide": paths["_image.tif"], "expression": outs, "format": "space_ranger"}
    elif sample.kind == "visium_hd":
        outs = untar(paths["_binned_outputs.tar.gz"], home / "unpacked")
        more = {"slide": paths["_tissue_image.btf"], "expression": outs / "binned_outputs", "format": "visium_hd",
                "bin_um": 16}  # fmt: skip
    else:
        outs = home / "unpacked"
        unzip(paths["_outs.zip"], lambda member: _below(outs, member))
        more = {"slide": paths["_he_image.ome.tif"], "expression": outs, "format": "xenium",
                "alignment": paths["_he_imagealignment.csv"]}  # fmt: skip
    return row | {
        k: v.relative_to(folder).as_posix() if isinstance(v, Path) else v for k, v in more.items()
    }


def _below(outs: Path, member: str) -> Path | None:
    """Files of `outs/`, without what no reader opens."""
    name = member.removeprefix("outs/")
    path = outs / name
    inside = path.resolve().is_relative_to(outs.resolve())
    return path if inside and not name.startswith(("morphology", "analysis")) else None


DATA_SET = DataSet(
    name="10x",
    title="public samples of 10x Genomics: Visium, Visium HD, Xenium",
    tissue="human breast, lymph node, colon; mouse brain",
    patients="4 people, 1 mouse",
    size="0.1 to 12 GB a sample, said before work",
    licence="CC BY 4.0",
    address="https://www.10xgenomics.com/datasets",
    ids="names, as `hespotex fetch 10x` says them",
    bring=bring,
    needs_ids=True,
    names=tuple(s.name for s in SAMPLES),
    remotes=lambda: [remote for sample in SAMPLES for remote in _remotes(sample)],
)
