"""HEST-1k on the hub: any sample by id, organ or oncotree code. A gated set: its terms are accepted on its page."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

from hespotex.errors import ConfigError, DownloadError, shorten
from hespotex.progress import Reporter
from hespotex.public.data_set import DataSet, Row
from hespotex.public.download import Remote, file_checksum
from hespotex.public.hub import (
    at_the_hub,
    check_access,
    hub_download,
    paths_info,
    stated_checksum,
)

REPOSITORY: Final = "MahmoodLab/hest"
_PAGE: Final = f"https://huggingface.co/datasets/{REPOSITORY}"
_TERMS: Final = f"accept its terms on {_PAGE}, then `hf auth login`"
_TABLE: Final = "HEST_v"
_EXAMPLE: Final = "TENX95"
_BY: Final = ("id", "organ", "oncotree_code")


def bring(ids: Sequence[str] | None, folder: Path, reporter: Reporter) -> list[Row]:
    """Fetch spots, metadata and slide of the chosen samples.

    Raises:
        ConfigError: no sample has such an id, organ or oncotree code.
        DownloadError: the hub does not give them; where the terms are not accepted yet it says so.
        RunError: the disk has no room.
    """
    with at_the_hub(f"the data set {REPOSITORY}", DownloadError, page=_PAGE, remedy=_TERMS):
        names, commit = _told()
        check_access(REPOSITORY, "dataset")
        table = paths_info(REPOSITORY, [_newest_table(names)], "dataset", commit)
        samples = _samples(_read_table(table, folder, commit, reporter), ids or ())
        files = [f for sample in samples for f in _files(str(sample["id"]))]
        absent = [f for f in files if f not in set(names)]
        if absent:
            raise DownloadError(expected=f"{shorten(absent)} in {REPOSITORY}", found="none")
        missing = [f for f in files if not (folder / f).is_file()]
        infos = paths_info(REPOSITORY, missing, "dataset", commit)
    reporter.say(f"{len(samples):,} samples, {len(missing):,} files to fetch")
    hub_download(REPOSITORY, infos, folder, reporter, kind="dataset", commit=commit)
    return [_row(sample) for sample in samples]


def _told() -> tuple[list[str], str]:
    """What the set holds, and its commit; the hub tells everybody."""
    from huggingface_hub import HfApi, constants

    told = HfApi(endpoint=constants.ENDPOINT).dataset_info(REPOSITORY)
    return [s.rfilename for s in told.siblings or ()], str(told.sha)


def remotes() -> list[Remote]:
    """None, since files are given to those who accepted the terms; the set has to hold a table and samples, though.

    Raises:
        DownloadError: the hub does not answer, or the set has another layout.
    """
    with at_the_hub(f"the data set {REPOSITORY}", DownloadError, page=_PAGE):
        names, _ = _told()
    _newest_table(names)
    absent = [f for f in _files(_EXAMPLE) if f not in set(names)]
    if absent:
        raise DownloadError(expected=f"{shorten(absent)} in {REPOSITORY}", found="none")
    return []


def _read_table(infos: Sequence[Any], folder: Path, commit: str, reporter: Reporter) -> Any:
    """The table of samples; one that the hub has changed is fetched anew."""
    import pandas as pd

    for info in infos:
        path, stated = folder / info.rfilename, stated_checksum(info) or ""
        if path.is_file() and file_checksum(path, stated.partition(":")[0]) != stated:
            path.unlink()
    (path,) = hub_download(REPOSITORY, infos, folder, reporter, kind="dataset", commit=commit)
    return pd.read_csv(path)


def _newest_table(names: Sequence[str]) -> str:
    def version(name: str) -> tuple[int, ...]:
        digits = name.removeprefix(_TABLE).removesuffix(".csv").split("_")
        return tuple(int(d) for d in digits if d.isdigit())

    tables = [n for n in names if n.startswith(_TABLE) and n.endswith(".csv")]
    if not tables:
        raise DownloadError(expected=f"a table {_TABLE}*.csv in {REPOSITORY}", found="none")
    return max(tables, key=version)


def _samples(table: Any, asked: Sequence[str]) -> list[dict[str, Any]]:
    """The rows whose id, organ or oncotree code was asked for; upper and lower case are one."""
    columns = [c for c in _BY if c in table.columns]
    words = {a.strip().casefold() for a in asked}
    text = table[columns].astype(str).apply(lambda column: column.str.strip().str.casefold())
    unknown = sorted(words - set(text.to_numpy().ravel()))
    if unknown:
        organs = shorten(sorted(set(table["organ"].dropna().astype(str))), 30)
        raise ConfigError(
            expected=f"ids, organs or oncotree codes of HEST-1k (organs: {organs})",
            found=shorten([repr(u) for u in unknown]),
        )
    return list(table[text.isin(words).any(axis=1)].to_dict("records"))


def _files(sample: str) -> tuple[str, str, str]:
    return f"st/{sample}.h5ad", f"metadata/{sample}.json", f"wsis/{sample}.tif"


def _row(sample: dict[str, Any]) -> Row:
    st, _, slide = _files(str(sample["id"]))
    return {
        "section_id": sample["id"],
        "patient_id": _patient(sample),
        "slide": slide,
        "expression": st,
        "format": "hest",
        "x_organ": sample.get("organ", ""),
        "x_oncotree_code": _text(sample.get("oncotree_code")),
        "x_species": _text(sample.get("species")),
        "x_technology": _text(sample.get("st_technology")),
    }


def _patient(sample: dict[str, Any]) -> str:
    """Patients are numbered anew in every source: the source is a part of the id.

    Samples of a source that names no patient may all be of one: they are kept together, so that no fold splits them.
    """
    source = _text(sample.get("dataset_title")) or "unknown source"
    return f"{source[:80]} | {_text(sample.get('patient')) or 'patient not told'}"


def _text(value: object) -> str:
    return "" if value is None or (isinstance(value, float) and math.isnan(value)) else str(value)


DATA_SET = DataSet(
    name="hest",
    title="HEST-1k (Jaume et al. 2024), gated: accept its terms on its page, then `hf auth login`",
    tissue="26 organs, human and mouse",
    patients="1,276 samples; patients as their sources name them",
    size="up to 1.85 TB in all; what your ids need is said before work",
    licence="CC BY-NC-SA 4.0",
    address=_PAGE,
    ids=f"{_EXAMPLE}, organs (Breast), oncotree codes (IDC)",
    bring=bring,
    needs_ids=True,
    remotes=remotes,
)
