"""Whether publishers still give what `fetch` asks for: their answers, and the beginning of every file."""

from __future__ import annotations

from collections.abc import Iterator

from hespotex.errors import DownloadError, HESpotExError
from hespotex.public.download import Remote, stated_size
from hespotex.public.fetch import DATA_SETS


def check_addresses() -> Iterator[tuple[str, str, HESpotExError | None]]:
    """Name of a data set, what was asked for, and what is wrong with it; nothing is fetched.

    A set that offers nothing to be asked is left out.
    """
    for name, data_set in DATA_SETS.all().items():
        if data_set.remotes is None:
            continue
        try:
            remotes = data_set.remotes()
        except HESpotExError as error:
            yield name, data_set.address, error
            continue
        yield name, data_set.address, None
        for remote in remotes:
            yield name, remote.url, _wrong(remote)


def _wrong(remote: Remote) -> HESpotExError | None:
    try:
        size = stated_size(remote)
    except HESpotExError as error:
        return error
    if remote.size is not None and size is not None and size != remote.size:
        return DownloadError(
            expected=f"{remote.size:,} bytes of {remote.url}, as its record states",
            found=f"{size:,}",
        )
    return None
