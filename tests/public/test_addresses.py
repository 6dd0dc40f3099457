"""Whether publishers still give what `fetch` asks for: said per address, on a server that gives, and on one that does not."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from benchmarks.addresses import main

from helpers.hub_server import as_hub, hub_data_set
from helpers.web_server import Web, serving
from hespotex.public import download, her2st, ten_x
from hespotex.public.fetch import DATA_SETS


@pytest.fixture
def web(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Web]:
    """All services, with a few bytes for every file."""
    monkeypatch.setattr(download.time, "sleep", lambda _s: None)
    with serving() as web:
        for service in ("ZENODO", "TEN_X", "SPATIAL_RESEARCH"):
            monkeypatch.setenv(f"HESPOTEX_{service}", web.address)
        listed = []
        for name in ("count-matrices.zip", "images.zip", "spot-selections.zip"):
            web.files[f"/files/{name}"] = content = name.encode()
            listed.append(
                {"key": name, "size": len(content), "checksum": f"md5:{hashlib.md5(content).hexdigest()}",
                 "links": {"self": web.url(f"/files/{name}")}}
            )  # fmt: skip
        web.files[f"/api/records/{her2st.RECORD}"] = json.dumps({"files": listed}).encode()
        sets = DATA_SETS.all()
        for name in ("10x", "bulb"):
            remotes = sets[name].remotes
            assert remotes is not None
            for remote in remotes():
                web.files[remote.url.removeprefix(web.address)] = b"x"
        names = ("HEST_v1_3_0.csv", "st/TENX95.h5ad", "metadata/TENX95.json", "wsis/TENX95.tif")
        hub_data_set(web, "MahmoodLab/hest", dict.fromkeys(names, b"x"))
        yield as_hub(web, monkeypatch, tmp_path / "hub")


def test_addresses_that_answer_are_as_expected(
    web: Web, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main() == 0
    said = capsys.readouterr().out.splitlines()
    files = sum(len(s.files) for s in ten_x.SAMPLES)
    assert (
        len(said) == 4 + 3 + 12 * 3 + files + 1
    )  # sets, archives of her2st, the bulb's, 10x's, and the sum
    assert all(line.endswith(": as expected") for line in said[:-1])
    assert said[-1].startswith("0 of the addresses")


@pytest.mark.parametrize(
    ("broken", "said"),
    [
        ("gone", "_image.tif, found: there is no such file (404)"),
        ("other size", "expected 10 bytes of "),
        ("other record", "expected images.zip in record 3957257 of Zenodo, found count-matrices.zip"),
        ("other layout", "expected wsis/TENX95.tif in MahmoodLab/hest, found none"),
        ("busy", "the server has too many requests (429)"),
    ],
)  # fmt: skip
def test_what_a_publisher_changed_is_one_line_and_the_others_are_asked_all_the_same(
    web: Web, broken: str, said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    record = f"/api/records/{her2st.RECORD}"
    if broken == "gone":
        del web.files[next(p for p in web.files if p.endswith("_image.tif"))]
    elif broken == "other size":
        web.files["/files/images.zip"] += b"more"
    elif broken == "other record":
        told = json.loads(web.files[record])
        told["files"] = told["files"][:1]
        web.files[record] = json.dumps(told).encode()
    elif broken == "other layout":
        hub_data_set(web, "MahmoodLab/hest", {"HEST_v1_3_0.csv": b"", "st/TENX95.h5ad": b"", "metadata/TENX95.json": b""})  # fmt: skip
    else:
        web.statuses["/files/images.zip"] = [429] * 50
    assert main() == 1
    lines = capsys.readouterr().out.splitlines()
    wrong = [line for line in lines[:-1] if not line.endswith(": as expected")]
    assert len(wrong) == 1
    assert said in wrong[0]
    assert {line.partition(":")[0] for line in lines[:-1]} == {"her2st", "bulb", "hest", "10x"}
