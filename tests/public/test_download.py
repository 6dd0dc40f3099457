"""Files of the web: resumed, checked, whole or not there."""

from __future__ import annotations

import hashlib
import shutil
from collections import namedtuple
from collections.abc import Iterator
from pathlib import Path

import pytest

from helpers.heard import Heard
from helpers.web_server import Web, serving
from hespotex.errors import DownloadError, RunError
from hespotex.progress import Silent
from hespotex.public import download as module
from hespotex.public.download import FEWER, Remote, download
from hespotex.storage.disk_room import check_room, in_words

CONTENT = bytes(range(256)) * 9000  # 2.3 MB: more than two pieces
MD5 = f"md5:{hashlib.md5(CONTENT).hexdigest()}"


@pytest.fixture
def web() -> Iterator[Web]:
    with serving() as web:
        web.files["/a.bin"] = CONTENT
        yield web


@pytest.fixture(autouse=True)
def waited(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Seconds that a download would have waited; it waits none."""
    seconds: list[float] = []
    monkeypatch.setattr(module.time, "sleep", seconds.append)
    return seconds


def _files(folder: Path) -> list[str]:
    return sorted(p.name for p in folder.iterdir()) if folder.is_dir() else []


def test_a_file_arrives_whole_in_its_folder_and_is_not_asked_for_twice(
    web: Web, tmp_path: Path
) -> None:
    remote = Remote(web.url("/a.bin"), "sub/a.bin", checksum=MD5)
    for _ in range(2):
        (path,) = download([remote], tmp_path / "data", Silent())
    assert path == tmp_path / "data" / "sub" / "a.bin"
    assert path.read_bytes() == CONTENT
    assert _files(path.parent) == ["a.bin"]
    assert web.asked == [("/a.bin", "")]


def test_how_much_is_fetched_is_said_before_the_first_byte_of_several_files(
    web: Web, tmp_path: Path
) -> None:
    web.files["/b.bin"], heard = CONTENT, Heard()
    remotes = [Remote(web.url(f"/{n}.bin"), f"{n}.bin") for n in "ab"]
    download(remotes[:1], tmp_path, Silent())
    assert heard.said == []
    (tmp_path / "a.bin").unlink()
    download(remotes, tmp_path, heard)
    assert heard.said == ["4.61 MB to fetch"]
    download(remotes, tmp_path, heard)  # all of it is here
    assert len(heard.said) == 1


def test_a_proxy_of_the_environment_is_asked_in_the_place_of_the_server(
    web: Web, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """lab.invalid can be reached by nobody: what comes, the proxy gave."""
    monkeypatch.setenv("http_proxy", web.address)
    web.files["http://lab.invalid/a.bin"] = CONTENT
    remote = Remote("http://lab.invalid/a.bin", "a.bin", size=len(CONTENT), checksum=MD5)
    (path,) = download([remote], tmp_path, Silent())
    assert path.read_bytes() == CONTENT
    assert web.asked == [("http://lab.invalid/a.bin", "")]


def test_a_connection_that_breaks_is_taken_up_where_it_broke(web: Web, tmp_path: Path) -> None:
    web.broken["/a.bin"] = 1_500_000
    (path,) = download([Remote(web.url("/a.bin"), "a.bin", checksum=MD5)], tmp_path, Silent())
    assert path.read_bytes() == CONTENT
    begun = int(web.asked[1][1].removeprefix("bytes=").rstrip("-"))
    assert 0 < begun <= 1_500_000


def test_a_server_that_cannot_go_on_in_the_middle_is_read_from_the_start(
    web: Web, tmp_path: Path
) -> None:
    web.ranges, web.broken["/a.bin"] = False, 1_500_000
    (path,) = download([Remote(web.url("/a.bin"), "a.bin", checksum=MD5)], tmp_path, Silent())
    assert path.read_bytes() == CONTENT


def test_a_part_of_another_version_of_the_file_is_not_gone_on_with(
    web: Web, tmp_path: Path
) -> None:
    part = tmp_path / ".a.bin.part"
    part.write_bytes(CONTENT[::-1][:1_000_000])
    part.with_suffix(".tag").write_text('"of before"')
    (path,) = download([Remote(web.url("/a.bin"), "a.bin")], tmp_path, Silent())
    assert path.read_bytes() == CONTENT


def test_another_checksum_than_the_publishers_leaves_nothing(web: Web, tmp_path: Path) -> None:
    remote = Remote(web.url("/a.bin"), "a.bin", checksum="md5:" + "0" * 32)
    with pytest.raises(
        DownloadError, match=r"expected md5:0+ of http.*a\.bin, as its publisher states, found md5:"
    ):
        download([remote], tmp_path, Silent())
    assert not (tmp_path / "a.bin").exists()
    assert not (tmp_path / ".a.bin.part").exists()


@pytest.mark.parametrize(
    ("status", "said"),
    [
        (401, r"it wants a login \(401\)"),
        (403, r"access is refused \(403\)"),
        (404, r"there is no such file \(404\)"),
        (418, r"the server answers 418"),
    ],
)
def test_what_a_server_refuses_is_said_with_its_reason(
    web: Web, tmp_path: Path, status: int, said: str
) -> None:
    web.statuses["/a.bin"] = [status]
    with pytest.raises(DownloadError, match=said):
        download([Remote(web.url("/a.bin"), "a.bin")], tmp_path, Silent())
    assert not (tmp_path / "a.bin").exists()


def test_a_busy_server_is_asked_again_when_it_says_so(
    web: Web, tmp_path: Path, waited: list[float]
) -> None:
    web.retry_after, web.statuses["/a.bin"] = "7", [429, 503]
    (path,) = download([Remote(web.url("/a.bin"), "a.bin")], tmp_path, Silent())
    assert path.read_bytes() == CONTENT
    assert waited == [7.0, 7.0]


def test_a_server_that_stays_busy_is_one_line(web: Web, tmp_path: Path) -> None:
    web.statuses["/a.bin"] = [429] * 50
    with pytest.raises(DownloadError, match=r"too many requests \(429\); run again later"):
        download([Remote(web.url("/a.bin"), "a.bin")], tmp_path, Silent())


def test_no_network_is_one_line_and_what_is_here_is_kept(tmp_path: Path) -> None:
    part = tmp_path / ".a.bin.part"
    part.write_bytes(b"begun")
    with pytest.raises(
        DownloadError, match=r"expected to fetch http://127.0.0.1:9/a.bin, found: .*refused"
    ):
        download([Remote("http://127.0.0.1:9/a.bin", "a.bin", size=10)], tmp_path, Silent())
    assert part.read_bytes() == b"begun"


def test_a_file_longer_than_the_record_says_is_refused(web: Web, tmp_path: Path) -> None:
    with pytest.raises(DownloadError, match=r"expected 100 bytes of .*, found 2,304,000"):
        download([Remote(web.url("/a.bin"), "a.bin", size=100)], tmp_path, Silent())
    assert _files(tmp_path) in ([], [".a.bin.tag"])


def test_a_disk_without_room_is_said_before_anything_is_asked_for(
    web: Web, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage(10, 0, 1_000_000))
    with pytest.raises(
        RunError, match=r"expected 2\.3 MB free on the disk of .*, found 1 MB.*fewer ids"
    ):
        download([Remote(web.url("/a.bin"), "a.bin")], tmp_path / "new", Silent())
    assert web.asked == []
    check_room(tmp_path, 1_000_000, remedy=FEWER)


@pytest.mark.parametrize("name", ["../a.bin", "/etc/a.bin", "", "sub/../../a.bin"])
def test_a_name_never_leads_out_of_the_folder(web: Web, tmp_path: Path, name: str) -> None:
    with pytest.raises(DownloadError, match="names of files inside the folder"):
        download([Remote(web.url("/a.bin"), name)], tmp_path / "data", Silent())
    assert web.asked == []


def test_sizes_are_said_in_units_that_people_read() -> None:
    assert [in_words(n) for n in (0, 1500, 2_304_000, 1.5e9, 2e12)] == [
        "0 kB",
        "1.5 kB",
        "2.3 MB",
        "1.5 GB",
        "2 TB",
    ]
