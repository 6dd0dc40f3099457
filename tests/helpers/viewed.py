"""A viewer of two toy predictions over a real port, and what it answers."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from http.client import HTTPConnection
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import numpy as np
from PIL import Image

from helpers.toy_prediction import (
    GENES,
    toy_counts,
    toy_extras,
    toy_prediction,
    toy_section,
    toy_thumbnail,
)
from hespotex.export.h5ad import write_prediction
from hespotex.viewer.serve import Viewer


@dataclass(frozen=True)
class Answer:
    """A status, headers and a body."""

    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        """The body as JSON."""
        return json.loads(self.body)


def write_viewed(folder: Path) -> Path:
    """predictions/ of S1, which is like the training, and S2, which is not; the slide of S1 beside."""
    section = toy_section()
    for name in ("S1", "S2"):
        extras = toy_extras(section)
        assert extras.claims is not None
        verdict = "like the training slides" if name == "S1" else "unlike the training slides"
        extras = replace(extras, claims=replace(extras.claims, verdict=verdict))
        write_prediction(
            folder / "predictions" / f"{name}.h5ad",
            section=replace(section, section_id=name),
            genes=GENES,
            prediction=toy_prediction(section),
            counts=toy_counts(section),
            thumbnail=toy_thumbnail(section),
            extras=extras,
        )
    (folder / "slides").mkdir()
    picture = toy_thumbnail(section).image
    Image.fromarray(np.repeat(np.repeat(picture, 4, 0), 4, 1)).save(folder / "slides" / "S1.png")
    return folder


def ask(
    address: str,
    path: str,
    *,
    method: str = "GET",
    body: bytes | str | None = None,
    headers: dict[str, str] | None = None,
    token: bool = True,
) -> Answer:
    """Ask a viewer, without any help of a client: the path goes out as it is."""
    parts = urlsplit(address)
    connection = HTTPConnection(parts.hostname or "", parts.port, timeout=20)
    try:
        target = parts.path + path if token else path
        connection.request(method, target, body, headers or {})
        got = connection.getresponse()
        return Answer(got.status, {k.lower(): v for k, v in got.getheaders()}, got.read())
    finally:
        connection.close()


def values_of(answer: Answer) -> tuple[dict[str, Any], np.ndarray[Any, np.dtype[np.float32]]]:
    """The header and the values of an answer of `/values`."""
    size = int(np.frombuffer(answer.body, np.uint32, 1)[0])
    return json.loads(answer.body[4 : 4 + size]), np.frombuffer(answer.body[4 + size :], np.float32)


@contextmanager
def viewing(path: Path, slides: Path | None = None) -> Iterator[str]:
    """The address of a viewer that answers meanwhile."""
    viewer = Viewer(path, slides=slides).start()
    try:
        yield viewer.address
    finally:
        viewer.stop()
