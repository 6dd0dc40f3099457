"""Public data by name, as a ready manifest."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Final

from hespotex.errors import ConfigError
from hespotex.progress import Progress, heard
from hespotex.public.data_set import DataSet, known_rows, write_manifest
from hespotex.registry import Registry
from hespotex.storage.atomic import check_writable

# Other packages add a line by an entry point: docs/extending.md.
DATA_SETS: Final = Registry(
    "data set",
    DataSet,
    {
        "her2st": "hespotex.public.her2st:DATA_SET",
        "bulb": "hespotex.public.olfactory_bulb:DATA_SET",
        "hest": "hespotex.public.hest:DATA_SET",
        "10x": "hespotex.public.ten_x:DATA_SET",
    },
    group="hespotex.data_sets",
)


def fetch(
    name: str,
    out: str | Path,
    *,
    ids: Sequence[str] | None = None,
    progress: Progress = None,
) -> Path:
    """Fetch a public data set, or some of its sections; what is here already is not asked for again.

    Example:
        >>> fetch("her2st", "her2st", ids=["B4", "C2"])  # doctest: +SKIP

    Args:
        name: as `hespotex fetch` lists them.
        out: folder of the files and of the manifest, sections.csv.
        ids: which sections; None: all.

    Returns:
        The manifest.

    Raises:
        ConfigError: no such data set or id, or a set that is too large without ids.
        DownloadError: its publisher does not give it.
        RunError: the disk has no room, or cannot be written.
    """
    reporter, out = heard(progress), Path(out)
    found = DATA_SETS.find(name)
    if found is None:
        raise ConfigError(
            expected=f"a data set of {', '.join(DATA_SETS)}",
            found=f"{name!r}",
            remedy="`hespotex fetch` lists them",
        )
    if found.needs_ids and not ids:
        raise ConfigError(
            expected=f"--ids of {name}: {', '.join(found.names) or found.ids}", found="none"
        )
    check_writable(out)
    known_rows(out)
    reporter.say(f"{found.title}; licence {found.licence}; from {found.address}")
    return write_manifest(out, found.bring(ids, out, reporter))
