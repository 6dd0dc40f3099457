"""`fetch`, `models fetch` and `adapt` in bad weather (the hub and `push`: test_hub_weather.py): one line each, nothing half-written under a final name.

Every command runs against a server on this machine, and is then run again in good weather where that must bring all of it.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import signal
import subprocess
import sys
import tarfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import pyzipper

from helpers.commands import command, refusal
from helpers.stored_model import MODEL
from helpers.web_server import Web, serving
from hespotex.public import download, her2st
from hespotex.public.kept_models import model_folder

CONTENT = MODEL.read_bytes()
MEMBERS = {
    "count-matrices.zip": ("count-matrices/B4.tsv.gz", b"zNLXkYk3Q9znUseS"),
    "images.zip": ("images/HE/B4.jpg", b"zNLXkYk3Q9znUseS"),
    "spot-selections.zip": ("spot-selections/B4_selection.tsv.gz", b"yUx44SzG6NdB32gY"),
}


TEN_X = "/samples/spatial-exp/1.1.0/V1_Human_Lymph_Node/V1_Human_Lymph_Node"


@dataclass(frozen=True)
class Verb:
    """A command that fetches, the file that the weather is about, and what it leaves under final names.

    Attributes:
        arguments: of `hespotex`.
        path: on the server.
        final: everything that stands under a final name.
    """

    arguments: tuple[str, ...]
    path: str
    final: Callable[[], list[str]]


@pytest.fixture
def web(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Web]:
    """A model behind an address, and the record of her2st with archives of tiny made files."""
    with serving() as web:
        monkeypatch.setenv("HESPOTEX_CACHE", str(tmp_path / "cache"))
        monkeypatch.setenv("HESPOTEX_ZENODO", web.address)
        monkeypatch.setattr(her2st, "SECTIONS", ("B4",))
        web.files["/lab.hespotex"] = CONTENT
        web.files["/lab.hespotex.sha256"] = hashlib.sha256(CONTENT).hexdigest().encode()
        listed = []
        for name, (member, password) in MEMBERS.items():
            buffer = io.BytesIO()
            with pyzipper.AESZipFile(buffer, "w", encryption=pyzipper.WZ_AES) as archive:
                archive.setpassword(password)
                archive.writestr(member, os.urandom(200_000))
            web.files[f"/files/{name}"] = content = buffer.getvalue()
            listed.append(
                {"key": name, "size": len(content), "links": {"self": web.url(f"/files/{name}")},
                 "checksum": f"md5:{hashlib.md5(content).hexdigest()}"}
            )  # fmt: skip
        record = {
            "id": her2st.RECORD,
            "files": listed,
            "metadata": {"license": {"id": "cc-by-4.0"}},
        }
        web.files[f"/api/records/{her2st.RECORD}"] = json.dumps(record).encode()
        monkeypatch.setenv("HESPOTEX_TEN_X", web.address)
        packed = io.BytesIO()
        with tarfile.open(fileobj=packed, mode="w:gz") as spatial:
            spatial.addfile(tarfile.TarInfo("spatial/tissue_positions_list.csv"))
        for ending, content in (
            ("_spatial.tar.gz", packed.getvalue()),
            ("_filtered_feature_bc_matrix.h5", b"counts"),
            ("_image.tif", os.urandom(200_000)),
        ):
            web.files[f"{TEN_X}{ending}"] = content
        yield web


@pytest.fixture
def _impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(download.time, "sleep", lambda _s: None)


@pytest.fixture(params=["fetch", "fetch 10x", "models fetch", "adapt"])
def verb(request: pytest.FixtureRequest, web: Web, tmp_path: Path) -> Verb:
    out = tmp_path / "out"

    def files(folder: Path) -> list[str]:
        every = sorted(p for p in folder.rglob("*") if p.is_file())
        return [p.name for p in every if not any(q.startswith(".") for q in p.parts)]

    def kept() -> list[str]:
        return [*files(model_folder()), *files(out)]

    if request.param == "fetch":
        arguments = ("fetch", "her2st", "--out", str(out))
        return Verb(arguments, "/files/images.zip", lambda: files(out))
    if request.param == "fetch 10x":
        arguments = ("fetch", "10x", "--ids", TEN_X.rpartition("/")[2], "--out", str(out))
        return Verb(arguments, f"{TEN_X}_image.tif", lambda: files(out))
    address = web.url("/lab.hespotex")
    if request.param == "models fetch":
        return Verb(("models", "fetch", address, "--name", "lab"), "/lab.hespotex", kept)
    manifest = tmp_path / "own.csv"
    manifest.write_text("section_id,slide\nS,s.png\n")
    arguments = ("adapt", address, str(manifest), "--out", str(out / "new.hespotex"))
    return Verb(arguments, "/lab.hespotex", kept)


def _other_archives(names: list[str]) -> bool:
    """Only files that came whole before the broken one."""
    small = {
        TEN_X.rpartition("/")[2] + e for e in ("_spatial.tar.gz", "_filtered_feature_bc_matrix.h5")
    }
    return set(names) <= {"count-matrices.zip", "spot-selections.zip", *small}


@pytest.mark.usefixtures("_impatient")
@pytest.mark.parametrize(
    ("weather", "said"),
    [
        (403, "access is refused (403); get access on its page"),
        (404, "there is no such file (404); check the address"),
        (429, "too many requests (429); run again later"),
        ("half", "run again"),
        ("other bytes", "as its publisher states"),
        ("no network", "check the network"),
    ],
)
def test_one_line_says_what_happened_and_nothing_has_a_final_name(
    web: Web, verb: Verb, weather: int | str, said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    arguments = verb.arguments
    if weather == "other bytes" and verb.path.endswith(".tif"):
        pytest.skip("10x states no checksum of this file")
    if isinstance(weather, int):
        web.statuses[verb.path] = [weather] * 50
    elif weather == "half":
        web.halves[verb.path] = 1000
        web.ranges = False
    elif weather == "other bytes":
        web.files[verb.path] = bytes(reversed(web.files[verb.path]))
    else:
        for service in ("ZENODO", "TEN_X"):
            monkeypatch.setenv(f"HESPOTEX_{service}", "http://127.0.0.1:9")
        arguments = tuple(a.replace(web.address, "http://127.0.0.1:9") for a in arguments)
    line = refusal(command(*arguments))
    assert said in line
    assert _other_archives(verb.final())


def _process(arguments: tuple[str, ...], before: str = "") -> subprocess.Popen[str]:
    """The command in a process of its own: what a test changed of her2st has to be changed there, too."""
    code = (
        f"import sys; {before}\nfrom hespotex.public import her2st; her2st.SECTIONS = ('B4',)\n"
        f"from hespotex.cli.main import main; sys.argv = ['hespotex', *{list(arguments)!r}]; main()"
    )
    return subprocess.Popen(
        [sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )


@pytest.mark.slow
def test_what_was_killed_goes_on_where_it_stood(web: Web, verb: Verb, tmp_path: Path) -> None:
    web.stalled[verb.path] = len(web.files[verb.path]) // 2
    process = _process(
        verb.arguments, "from hespotex.public import download; download._PIECE = 1024"
    )
    name = verb.path.rpartition("/")[2] if verb.arguments[0] == "fetch" else "fetched.hespotex"
    deadline, begun = time.monotonic() + 120, 0
    while time.monotonic() < deadline and not begun:
        assert process.poll() is None, process.communicate()
        time.sleep(0.05)
        begun = sum(p.stat().st_size for p in tmp_path.rglob(f".{name}.part"))
    process.send_signal(signal.SIGKILL)
    process.communicate()
    (part,) = tmp_path.rglob(f".{name}.part")
    begun = part.stat().st_size
    assert 0 < begun <= web.stalled[verb.path]
    assert _other_archives(verb.final())
    web.stalled.clear()
    web.asked.clear()
    again = command(*verb.arguments)
    assert (verb.path, f"bytes={begun}-") in web.asked
    if verb.arguments[0] == "adapt":  # the model is here; own sections without counts are refused
        assert "manifest" in refusal(again)
        assert verb.final() == ["lab.hespotex", "lab.json"]
        return
    assert again.exit_code == 0, again.output
    assert not _other_archives(verb.final())


@pytest.mark.slow
def test_a_disk_that_takes_no_more_is_one_line(web: Web, verb: Verb) -> None:
    """The kernel refuses to write files of more than 16 kB."""
    limit = "import resource, signal; signal.signal(signal.SIGXFSZ, signal.SIG_IGN); "
    limit += "resource.setrlimit(resource.RLIMIT_FSIZE, (16384, 16384))"
    process = _process(verb.arguments, limit)
    out, err = process.communicate(timeout=240)
    assert process.returncode == 2, out + err
    (line,) = [x for x in err.splitlines() if x.startswith("hespotex: ")]
    assert "expected to write" in line
    assert "this disk takes no file of that size" in line
    assert "Traceback" not in err
    assert _other_archives(verb.final())
