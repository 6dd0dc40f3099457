"""What speaks with the hub in bad weather: `fetch hest`, `models fetch hf://...`, `models push`.

One line each; nothing half-written under a final name, here or on the hub; in good weather the same command then brings all of it.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from helpers.commands import command, refusal
from helpers.hub_server import (
    answer,
    as_hub,
    hub_data_set,
    hub_repository,
    hub_to_push_to,
    refusing,
)
from helpers.stored_model import MODEL
from helpers.web_server import Web, serving
from hespotex.public import download
from hespotex.public.kept_models import model_folder

# The hub's client streams bytes in a way that its own library of HTTP calls old.
pytestmark = pytest.mark.filterwarnings("ignore:.*:DeprecationWarning")
CONTENT = MODEL.read_bytes()
_TABLE = b"id,organ,oncotree_code,species,st_technology,dataset_title,patient\nT1,Breast,IDC,Homo sapiens,Visium,One,1\n"
_HEST = {"HEST_v1_3_0.csv": _TABLE, "st/T1.h5ad": b"counts", "metadata/T1.json": b"{}", "wsis/T1.tif": os.urandom(200_000)}  # fmt: skip
_PUSH = ("models", "push", str(MODEL), "hf://lab/mine", "--licence", "mit", "--data-licence", "cc0-1.0",
         "--encoder-licence", "mit")  # fmt: skip


@dataclass(frozen=True)
class Verb:
    """A command that gets something from the hub.

    Attributes:
        arguments: of `hespotex`.
        path: of the file that the weather is about, on the server.
        question: what is asked of the hub before the file.
        part: name of the file while it grows.
        final: everything that stands under a final name.
        whole: the same after good weather.
    """

    arguments: tuple[str, ...]
    path: str
    question: str
    part: str
    final: Callable[[], list[str]]
    whole: list[str]


def _named(folder: Path) -> list[str]:
    every = sorted(p.relative_to(folder) for p in folder.rglob("*") if p.is_file())
    return [p.as_posix() for p in every if not any(part.startswith(".") for part in p.parts)]


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Web]:
    with serving() as web:
        monkeypatch.setenv("HESPOTEX_CACHE", str(tmp_path / "cache"))
        (tmp_path / "tmp").mkdir()
        monkeypatch.setenv("TMPDIR", str(tmp_path / "tmp"))
        monkeypatch.setattr("tempfile.tempdir", None)
        hub_repository(web, "lab/bulb", {"tiny.hespotex": CONTENT, "README.md": b"# card\n"})
        hub_data_set(web, "MahmoodLab/hest", _HEST)
        yield as_hub(web, monkeypatch, tmp_path / "hub")


@pytest.fixture
def _impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(download.time, "sleep", lambda _s: None)


@pytest.fixture(params=["fetch hest", "models fetch hf"])
def verb(request: pytest.FixtureRequest, tmp_path: Path) -> Verb:
    out = tmp_path / "out"
    if request.param == "fetch hest":
        return Verb(
            ("fetch", "hest", "--ids", "T1", "--out", str(out)),
            f"/datasets/MahmoodLab/hest/resolve/{'c' * 40}/wsis/T1.tif",
            "/api/datasets/MahmoodLab/hest",
            ".T1.tif.part",
            lambda: [p for p in _named(out) if p.startswith(("wsis", "sections"))],
            ["sections.csv", "wsis/T1.tif"],
        )
    return Verb(
        ("models", "fetch", "hf://lab/bulb"),
        f"/lab/bulb/resolve/{'a' * 40}/tiny.hespotex",
        "/api/models/lab/bulb",
        ".tiny.hespotex.part",
        lambda: _named(model_folder()) if model_folder().is_dir() else [],
        ["bulb.hespotex", "bulb.json"],
    )


@pytest.mark.usefixtures("_impatient")
@pytest.mark.parametrize(
    ("weather", "said"),
    [
        (403, "access is refused (403); get access on its page"),
        (404, "there is no such file (404); check the address"),
        (429, "too many requests (429); run again later"),
        ("half", "run again"),
        ("other bytes", "as its publisher states"),
        ("no network", "the hub cannot be reached"),
        ("offline", "HF_HUB_OFFLINE, which forbids it; unset it"),
        ("refused question", "access is refused, no right to it (403)"),
        ("busy question", "the server has too many requests (429); run again later"),
        ("gated", "it is gated; accept its terms on https://huggingface.co/"),
    ],
)
def test_what_cannot_be_had_is_one_line_and_nothing_has_a_final_name(
    hub: Web, verb: Verb, weather: int | str, said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    from huggingface_hub import constants

    if isinstance(weather, int):
        hub.statuses[verb.path] = [weather] * 50
    elif weather == "half":
        hub.halves[verb.path], hub.ranges = 1000, False
    elif weather == "other bytes":
        hub.files[verb.path] = bytes(reversed(hub.files[verb.path]))
    elif weather == "no network":
        monkeypatch.setattr(constants, "ENDPOINT", "http://127.0.0.1:9")
    elif weather == "offline":
        monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    elif weather == "gated":
        hub.routes["GET", f"{verb.question}/auth-check"] = refusing(401, "GatedRepo", "restricted")
    else:
        status, words = (403, "no right to it") if weather == "refused question" else (429, "")
        hub.routes["GET", verb.question] = refusing(status, "", words)
    assert said in refusal(command(*verb.arguments))
    assert verb.final() == []


def _process(arguments: tuple[str, ...], before: str = "") -> subprocess.Popen[str]:
    code = f"import sys; {before}\nfrom hespotex.cli.main import main\n"
    code += f"sys.argv = ['hespotex', *{list(arguments)!r}]; main()"
    return subprocess.Popen(
        [sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )


@pytest.mark.slow
def test_what_was_killed_goes_on_where_it_stood(hub: Web, verb: Verb, tmp_path: Path) -> None:
    hub.stalled[verb.path] = len(hub.files[verb.path]) // 2
    process = _process(
        verb.arguments, "from hespotex.public import download; download._PIECE = 1024"
    )
    deadline, begun = time.monotonic() + 120, 0
    while time.monotonic() < deadline and not begun:
        assert process.poll() is None, process.communicate()
        time.sleep(0.05)
        begun = sum(p.stat().st_size for p in tmp_path.rglob(verb.part))
    process.send_signal(signal.SIGKILL)
    process.communicate()
    (part,) = tmp_path.rglob(verb.part)
    begun = part.stat().st_size
    assert 0 < begun <= hub.stalled.pop(verb.path)
    assert verb.final() == []
    hub.asked.clear()
    again = command(*verb.arguments)
    assert again.exit_code == 0, again.output
    assert (verb.path, f"bytes={begun}-") in hub.asked
    assert verb.final() == verb.whole
    assert list(tmp_path.rglob("*.part")) == []


_FULL = "import resource, signal; signal.signal(signal.SIGXFSZ, signal.SIG_IGN); "
_FULL += "resource.setrlimit(resource.RLIMIT_FSIZE, (16384, 16384))"


def _full_disk(arguments: tuple[str, ...]) -> str:
    """What a command says where the kernel refuses to write files of more than 16 kB."""
    process = _process(arguments, _FULL)
    out, err = process.communicate(timeout=240)
    assert process.returncode == 2, out + err
    assert "Traceback" not in err
    (line,) = [x for x in err.splitlines() if x.startswith("hespotex: ")]
    return line


@pytest.mark.slow
def test_a_disk_that_takes_no_more_is_one_line(hub: Web, verb: Verb) -> None:
    line = _full_disk(verb.arguments)
    assert "expected to write" in line
    assert "this disk takes no file of that size" in line
    assert verb.final() == []


def test_the_login_goes_to_the_hub_and_not_to_where_it_sends_us(
    hub: Web, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The hub's files lie with others, whose addresses carry a signature of their own."""
    path = f"/lab/bulb/resolve/{'a' * 40}/tiny.hespotex"
    monkeypatch.setenv("HF_TOKEN", "hf_secret")
    with serving() as elsewhere:
        elsewhere.files["/signed"] = hub.files.pop(path)
        address = elsewhere.url("/signed").replace("127.0.0.1", "localhost")
        hub.routes["GET", path] = lambda _: (302, {"Location": address}, b"")
        assert command("models", "fetch", "hf://lab/bulb").exit_code == 0
        assert "Bearer hf_secret" in hub.logins
        assert elsewhere.logins == [""]


@pytest.mark.usefixtures("_impatient")
@pytest.mark.parametrize(
    ("weather", "said"),
    [
        ("forbidden", "found: access is refused, you may not (403); `hf auth login` with a token that may"),
        ("no login", "found: it wants a login, log in (401); `hf auth login` with a token that may"),
        ("no owner", "found: no such repository, or a private one; check the name"),
        ("busy", "found: the server has too many requests (429); run again later"),
        ("broken", "found: the server answers 500 (500); run again later"),
        ("cut", "found: the hub cannot be reached ("),
        ("other bytes", "found: the server answers 422, the uploaded file is another one (422)"),
        ("no network", "found: the hub cannot be reached ("),
        ("offline", "found HF_HUB_OFFLINE, which forbids it; unset it"),
    ],
)  # fmt: skip
def test_what_cannot_be_pushed_is_one_line_and_the_repository_stays_as_it_was(
    hub: Web, tmp_path: Path, weather: str, said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    from huggingface_hub import constants

    files = hub_to_push_to(hub, "lab/mine")
    create, put = ("POST", "/api/repos/create"), ("PUT", "/upload")
    good = dict(hub.routes)
    if weather in {"forbidden", "no login", "no owner"}:
        told = {"forbidden": (403, "", "you may not"), "no login": (401, "", "log in"),
                "no owner": (404, "RepoNotFound", "")}[weather]  # fmt: skip
        hub.routes[create] = refusing(*told)
    elif weather == "busy":
        hub.routes["POST", "/api/models/lab/mine/commit/main"] = refusing(429)
    elif weather == "broken":
        hub.routes[put] = refusing(500)
    elif weather == "cut":
        hub.cut.add("/upload")
    elif weather == "other bytes":
        stored = hub.routes[put]
        hub.routes[put] = lambda body: stored(bytes(reversed(body)))
    elif weather == "no network":
        monkeypatch.setattr(constants, "ENDPOINT", "http://127.0.0.1:9")
    else:
        monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    line = refusal(command(*_PUSH))
    assert "expected to push to hf://lab/mine" in line
    assert said in line
    assert files == {}
    assert list((tmp_path / "tmp").iterdir()) == []
    hub.routes = good
    hub.cut.clear()
    monkeypatch.setattr(constants, "ENDPOINT", hub.address)
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    again = command(*_PUSH)
    assert again.exit_code == 0, again.output
    assert sorted(files) == ["README.md", "tiny.hespotex"]


@pytest.mark.slow
def test_a_push_that_was_killed_changes_nothing_and_a_second_brings_all(hub: Web) -> None:
    files = hub_to_push_to(hub, "lab/mine")
    reached, go_on, put = threading.Event(), threading.Event(), hub.routes["PUT", "/upload"]

    def waiting(body: bytes) -> tuple[int, dict[str, str], bytes]:
        reached.set()
        go_on.wait(60)
        return put(body)

    hub.routes["PUT", "/upload"] = waiting
    process = _process(_PUSH)
    assert reached.wait(120)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    go_on.set()
    assert files == {}
    hub.routes["PUT", "/upload"] = put
    assert command(*_PUSH).exit_code == 0
    assert sorted(files) == ["README.md", "tiny.hespotex"]


@pytest.mark.slow
@pytest.mark.parametrize("target", ["hf://lab/mine", "folder"])
def test_a_disk_without_room_for_what_is_pushed_is_one_line(
    hub: Web, tmp_path: Path, target: str
) -> None:
    files = hub_to_push_to(hub, "lab/mine")
    where = target.replace("folder", str(tmp_path / "folder"))
    line = _full_disk((*_PUSH[:3], where, *_PUSH[4:]))
    assert "this disk takes no file of that size" in line
    assert files == {}
    assert not (tmp_path / "folder").exists()


def test_a_repository_that_is_there_already_is_pushed_to(hub: Web) -> None:
    files = hub_to_push_to(hub, "lab/mine")
    hub.routes["POST", "/api/repos/create"] = lambda _: answer(
        {"error": "You already created this model repo", "url": hub.url("/lab/mine")}, 409
    )
    assert command(*_PUSH).exit_code == 0
    assert b"hespotex predict hf://lab/mine slide.svs" in files["README.md"]


@pytest.mark.parametrize("target", ["https://huggingface.co/lab/mine", "hf://mine", "hf:lab/mine"])
def test_what_is_no_repository_is_refused_before_anything_is_sent(hub: Web, target: str) -> None:
    assert "hf://org/repo" in refusal(command(*_PUSH[:3], target, *_PUSH[4:]))
    assert hub.asked == []


def test_a_folder_that_holds_something_is_never_replaced(tmp_path: Path) -> None:
    folder = tmp_path / "mine"
    folder.mkdir()
    (folder / "thesis.txt").write_text("of years")
    line = refusal(command(*_PUSH[:3], folder, *_PUSH[4:]))
    assert "a new folder at" in line
    assert (folder / "thesis.txt").read_text() == "of years"
    (folder / "thesis.txt").unlink()
    assert command(*_PUSH[:3], folder, *_PUSH[4:]).exit_code == 0
    assert sorted(p.name for p in folder.iterdir()) == ["README.md", "tiny.hespotex"]
