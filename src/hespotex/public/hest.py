"""HEST-1k on the hub: any sample by id, organ or oncotree code. A gated set: its terms are accepted on its page."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

from hespotex.encoders.hub import asking_the_hub
from hespotex.errors import ConfigError, DownloadError, HESpotExError, shorten
from hespotex.progress import Reporter
from hespotex.public.data_set import DataSet, Row
from hespotex.public.download import FEWER
from hespotex.storage.disk_room import check_room, in_words

REPOSITORY: Final = "MahmoodLab/hest"
_TABLE: Final = "HEST_v"
_BY: Final = ("id", "organ", "oncotree_code")


def bring(ids: Sequence[str] | None, folder: Path, reporter: Reporter) -> list[Row]:
    """Fetch spots, metadata and slide of the chosen samples, by the hub's own client.

    Raises:
        ConfigError: no sample has such an id, organ or oncotree code.
        DownloadError: the hub does not give them; where the terms are not accepted yet it says so.
        RunError: the disk has no room.
    """
    import pandas as pd
    from huggingface_hub import HfApi, constants, hf_hub_download

    with asking_the_hub(REPOSITORY, refuse=_refuse):
        api = HfApi(endpoint=constants.ENDPOINT)
        told = api.dataset_info(REPOSITORY)
        names = [s.rfilename for s in told.siblings or ()]
        table = _newest_table(names)
        path = hf_hub_download(REPOSITORY, table, repo_type="dataset", revision=told.sha, local_dir=folder,
                               endpoint=constants.ENDPOINT)  # fmt: skip
        samples = _samples(pd.read_csv(path), ids or ())
        files = [f for sample in samples for f in _files(str(sample["id"]))]
        absent = [f for f in files if f not in set(names)]
        if absent:
            raise DownloadError(expected=f"{shorten(absent)} in {REPOSITORY}", found="none")
        infos = api.get_paths_info(REPOSITORY, files, repo_type="dataset", revision=told.sha)
        sizes = {info.path: getattr(info, "size", 0) or 0 for info in infos}
        missing = [f for f in files if not (folder / f).is_file()]
        wanted = sum(sizes.get(f, 0) for f in missing)
        check_room(folder, wanted, remedy=FEWER)
        reporter.say(f"{len(samples):,} samples, {in_words(wanted)} to fetch")
        with reporter.task("fetching HEST-1k, files", len(missing)) as advance:
            for file in missing:
                hf_hub_download(REPOSITORY, file, repo_type="dataset", revision=told.sha, local_dir=folder,
                                endpoint=constants.ENDPOINT)  # fmt: skip
                advance(1)
    return [_row(sample) for sample in samples]


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


def _refuse(name: str, reason: str) -> HESpotExError:
    return DownloadError(
        expected=f"the data set {name}",
        cause=reason.replace("its weights are", "it is"),
        remedy=f"accept its terms on https://huggingface.co/datasets/{REPOSITORY}, then `hf auth login`",
    )


DATA_SET = DataSet(
    name="hest",
    title="HEST-1k (Jaume et al. 2024), gated: accept its terms on its page, then `hf auth login`",
    tissue="26 organs, human and mouse",
    patients="1,276 samples",
    size="up to 1.85 TB in all; what your ids need is said before work",
    licence="CC BY-NC-SA 4.0",
    address=f"https://huggingface.co/datasets/{REPOSITORY}",
    ids="TENX95, organs (Breast), oncotree codes (IDC)",
    bring=bring,
    needs_ids=True,
)
