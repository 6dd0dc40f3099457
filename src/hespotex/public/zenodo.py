"""Records of Zenodo: their files with size and checksum, as the record itself tells."""

from __future__ import annotations

import os
from typing import Final

from hespotex.errors import DownloadError
from hespotex.public.download import Remote, ask_json

ENVIRONMENT: Final = "HESPOTEX_ZENODO"
_ADDRESS: Final = "https://zenodo.org"


def record_files(record: int) -> dict[str, Remote]:
    """The files of a record, by name. HESPOTEX_ZENODO names a mirror.

    Raises:
        DownloadError: Zenodo does not answer, or its answer has another shape.
    """
    url = f"{os.environ.get(ENVIRONMENT, _ADDRESS).rstrip('/')}/api/records/{record}"
    answer = ask_json(url)
    try:
        return {
            str(file["key"]): Remote(
                str(file["links"]["self"]),
                str(file["key"]),
                size=int(file["size"]),
                checksum=str(file["checksum"]),
            )
            for file in answer["files"]
        }
    except (KeyError, TypeError, ValueError) as error:
        raise DownloadError(
            expected=f"files with key, links, size and checksum from {url}", cause=repr(error)
        ) from error
