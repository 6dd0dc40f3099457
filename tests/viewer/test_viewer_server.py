"""What the viewer answers, and to whom: over a real port."""

from __future__ import annotations

import io
import json
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from helpers.commands import refusal, run
from helpers.toy_prediction import GENES, MARKED, toy_prediction, toy_section
from helpers.viewed import ask, values_of, viewing, write_viewed
from hespotex.analysis.prediction_file import PredictionFile
from hespotex.analysis.regions import against_rest, read_regions
from hespotex.errors import RunError
from hespotex.export.h5ad import read_prediction
from hespotex.export.shown import measured_beside
from hespotex.results.places import note_place
from hespotex.slide.decoded import DecodedImage
from hespotex.slide.slide import slide_key
from hespotex.storage.run_folder import RunDir
from hespotex.viewer.gate import MOST_BYTES
from hespotex.viewer.serve import Viewer


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = write_viewed(tmp_path_factory.mktemp("viewed"))
    (made / "secret.txt").write_text("not for the viewer")
    return made


@pytest.fixture(scope="module")
def address(folder: Path) -> Iterator[str]:
    with viewing(folder, folder / "slides") as found:
        yield found


# Thirty tries to reach a file; the last ones name files that are there.
REACHING = (
    "..", "../", "../../etc/passwd", "../../../../../../etc/passwd", "%2e%2e/%2e%2e/etc/passwd", "..%2f..%2fetc%2fpasswd",
    "static/../app.py", "static/..%2fapp.py", "static/%2e%2e%2fapp.py", "static/%2e%2e/app.py", "static/../../keys.py",
    "static//etc/passwd", "static/%2fetc%2fpasswd", "static/page.html", "static/view.css%00.txt", "static/..\\app.py",
    "static/....//app.py", "static/file:///etc/passwd", "slide/../secret.txt", "slide/0/../../secret.txt", "slide/0/thumbnail/..",
    "slide/0/tile/../../../secret.txt", "slide/0/tile/0/0/..%2f..%2fsecret.txt", "slide/-1", "slide/secret.txt",
    "predictions/S1.h5ad", "slides/S1.png", "secret.txt", "run.json", "%5c..%5csecret.txt",
)  # fmt: skip


@pytest.mark.parametrize("path", REACHING)
def test_no_path_of_a_request_reaches_a_file(address: str, path: str) -> None:
    answer = ask(address, path)
    assert answer.status == 404
    assert b"not for the viewer" not in answer.body
    assert b"root:" not in answer.body
    assert b"import" not in answer.body


def test_there_are_thirty_tries() -> None:
    assert len(set(REACHING)) == 30


def test_nobody_gets_in_without_the_token(address: str) -> None:
    for path in ("/", "/run", "/x/run", f"{'a' * 24}/run"):
        answer = ask(address, path, token=False)
        assert answer.status == 404
        assert b"S1" not in answer.body
    assert ask(address, "run").status == 200


@pytest.mark.parametrize("host", ["evil.example", "evil.example:80", "127.0.0.1.evil.example", ""])
def test_another_host_name_is_refused(address: str, host: str) -> None:
    assert ask(address, "run", headers={"Host": host}).status == 400


def test_localhost_by_its_names_is_let_in(address: str) -> None:
    for host in ("127.0.0.1", "localhost:8000", "[::1]:9"):
        assert ask(address, "run", headers={"Host": host}).status == 200


@pytest.mark.parametrize("method", ["PUT", "DELETE", "PATCH", "OPTIONS"])
def test_the_viewer_only_reads(address: str, method: str) -> None:
    assert ask(address, "run", method=method).status == 405


def test_a_large_request_is_refused(address: str) -> None:
    assert ask(address, "geojson", method="POST", body=b"x" * (MOST_BYTES + 1)).status == 413

    def parts() -> Iterator[bytes]:
        for _ in range(6):
            yield b"x" * 2**20

    assert ask(address, "geojson", method="POST", body=parts()).status == 413  # type: ignore[arg-type]


def test_it_listens_on_this_machine_alone_and_allows_no_other_host(address: str) -> None:
    assert address.startswith("http://127.0.0.1:")
    policy = ask(address, "").headers["content-security-policy"]
    assert "default-src 'self'" in policy
    assert "http" not in policy


def test_the_page_names_no_other_host(address: str) -> None:
    for path in ("", "static/view.js", "static/draw.js", "static/pane.js", "static/regions.js", "static/view.css"):  # fmt: skip
        answer = ask(address, path)
        assert answer.status == 200
        assert b"http://" not in answer.body
        assert b"https://" not in answer.body


def test_a_slide_comes_with_its_verdict_grades_and_layers(address: str) -> None:
    first, second = ask(address, "run").json["slides"]
    assert (first["name"], first["suspended"]) == ("S1", False)
    assert (second["name"], second["suspended"]) == ("S2", True)
    about = ask(address, "slide/0").json
    assert about["genes"] == list(GENES)
    assert about["claims"]["grade"] == ["A", "B", "C", "D", "D", "A"]
    assert about["claims"]["scope"][0] == "between_patients"
    assert list(about["shows"]) == ["composition", "measured", "difference", "log1p", "measured_log1p", "interval"]  # fmt: skip
    assert {"predicted_depth", "ood_score", "region"} <= set(about["spot_shows"])
    assert about["image"] == "file"
    assert ask(address, "slide/1").json["image"] == "picture"
    assert "no image of S2" in ask(address, "slide/1").json["image_note"]


def test_a_slide_tells_where_the_coordinates_of_qupath_start(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(DecodedImage, "bounds_px0", (30.0, 40.0))
    with viewing(folder, folder / "slides") as address:
        assert ask(address, "slide/0").json["bounds_px0"] == [30, 40]
        assert ask(address, "slide/1").json["bounds_px0"] == [0, 0]  # its file is not here


def test_values_are_those_of_the_file(address: str, folder: Path) -> None:
    stored = read_prediction(folder / "predictions" / "S1.h5ad")
    known = toy_prediction(toy_section())
    for show, expected in {
        "composition": known.composition[:, 1],
        "log1p": known.log1p[:, 1],
        "interval": np.full(30, 3.0),
        "measured": measured_beside(stored, np.array([1]))[:, 0],
        "difference": known.composition[:, 1] - measured_beside(stored, np.array([1]))[:, 0],
    }.items():
        head, values = values_of(ask(address, f"slide/0/values?show={show}&gene={GENES[1]}"))
        np.testing.assert_allclose(values, expected, rtol=1e-5, atol=1e-5, err_msg=show)
        assert "grade B" in head["told"]
    head, values = values_of(ask(address, "slide/0/values?show=predicted_depth"))
    np.testing.assert_array_equal(values, known.depth)
    head, values = values_of(ask(address, "slide/0/values?show=region"))
    assert head["categories"] == ["tumour"]
    assert np.isnan(values[1])


def test_a_gene_that_was_not_measured_has_no_measured_values(address: str) -> None:
    _, values = values_of(ask(address, f"slide/0/values?show=measured&gene={GENES[3]}"))
    assert np.isnan(values).all()


def test_spots_lie_where_they_are_and_flags_are_theirs(address: str) -> None:
    section, body = toy_section(), ask(address, "slide/0/spots").body
    xy = np.frombuffer(body[: 8 * 30], np.float32).reshape(2, 30).T
    np.testing.assert_array_equal(xy, section.xy_px0.astype(np.float32))
    flagged = np.frombuffer(body[8 * 30 :], np.uint8)
    np.testing.assert_array_equal(flagged, np.linspace(0, 1, 30) > 0.9)


@pytest.mark.parametrize("slide", [0, 1], ids=["from the file", "from the picture"])
def test_a_tile_shows_the_place_that_it_names(address: str, slide: int) -> None:
    x, y = toy_section().xy_px0[MARKED]
    zoom = 2  # 256 px tiles of level 0, of a slide of 800 x 720
    answer = ask(address, f"slide/{slide}/tile/{zoom}/{int(x // 256)}/{int(y // 256)}")
    assert answer.headers["content-type"] == "image/jpeg"
    tile = np.asarray(Image.open(io.BytesIO(answer.body)).convert("RGB")).astype(int)
    assert tile.shape == (256, 256, 3)
    assert np.abs(tile[int(y % 256), int(x % 256)] - (60, 20, 90)).max() < 40
    whole = Image.open(io.BytesIO(ask(address, f"slide/{slide}/tile/0/0/0").body)).convert("RGB")
    assert np.abs(np.asarray(whole)[int(y / 4), int(x / 4)].astype(int) - (60, 20, 90)).max() < 60
    for beside in ("9/0/0", "2/4/0", "2/0/3"):
        assert ask(address, f"slide/{slide}/tile/{beside}").status == 404


def test_a_region_is_compared_as_analysis_does(address: str, folder: Path) -> None:
    ring = [[50, 100], [450, 100], [450, 300], [50, 300]]
    answer = ask(address, "slide/0/region", method="POST", body=json.dumps({"polygons": [ring]}))
    got = answer.json
    file = PredictionFile(folder / "predictions" / "S1.h5ad")
    x, y = file.spots.xy_px0.T
    table = against_rest(file, (x <= 450) & (y <= 300))
    assert got["n_inside"] == table["n_inside"][0] == 8
    assert got["columns"]["gene"] == table["gene"].tolist()
    np.testing.assert_allclose(got["columns"]["difference"], table["difference"], atol=1e-5)
    assert "q_value" not in got["columns"]


@pytest.mark.parametrize(
    "body", ['{"polygons": [[[0, 0], [1, 1]]]}', '{"polygons": "x"}', '{"polygons": [[[0,0],[9,0],[9,9]]]}', "[]", "{"]
)  # fmt: skip
def test_a_region_that_is_none_is_a_message(address: str, body: str) -> None:
    answer = ask(address, "slide/0/region", method="POST", body=body)
    assert answer.status in (400, 409)
    assert answer.json["error"]


def test_geojson_of_qupath_becomes_rings(address: str, tmp_path: Path) -> None:
    ring = [[10.0, 10.0], [50.0, 10.0], [50.0, 60.0], [10.0, 10.0]]
    feature = {"type": "Feature", "geometry": {"type": "Polygon", "coordinates": [ring]}, "properties": {"name": "tumour"}}  # fmt: skip
    text = json.dumps({"type": "FeatureCollection", "features": [feature]})
    (tmp_path / "a.geojson").write_text(text)
    (known,) = read_regions(tmp_path / "a.geojson")
    (got,) = ask(address, "geojson", method="POST", body=text).json["regions"]
    assert got["name"] == known.name == "tumour"
    assert sorted(got["rings"][0]) == sorted(ring[:-1])


@pytest.mark.parametrize("kind", ["png", "svg", "pdf"])
def test_a_view_is_drawn_for_print(address: str, kind: str) -> None:
    panes = [{"slide": s, "show": "composition", "gene": GENES[0]} for s in (0, 1)]
    view = {"panes": panes, "centre_um": [800, 700], "size_um": [1600, 1400], "format": kind}
    answer = ask(address, "figure", method="POST", body=json.dumps(view))
    assert answer.status == 200
    assert answer.body[:4] in (b"\x89PNG", b"<?xm", b"%PDF")
    if kind == "png":
        assert Image.open(io.BytesIO(answer.body)).info["dpi"][0] == pytest.approx(300, abs=1)
    if kind == "svg":
        assert b"Date" not in answer.body


def test_a_file_that_vanishes_or_changes_is_a_message(tmp_path: Path) -> None:
    folder = write_viewed(tmp_path)
    with viewing(folder) as address:
        asked = f"slide/0/values?show=composition&gene={GENES[0]}"
        assert ask(address, asked).status == 200
        file = folder / "predictions" / "S1.h5ad"
        file.rename(tmp_path / "away")
        answer = ask(address, asked)
        assert answer.status == 409
        assert "moved or deleted" in answer.json["error"]
        (tmp_path / "away").rename(file)
        assert ask(address, asked).status == 200


def test_sections_of_agree_domains_and_localize_are_shown_with_the_images_of_a_run(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HESPOTEX_CACHE", str(tmp_path / "cache"))
    made = tmp_path / "domains"
    (made / "sections").mkdir(parents=True)
    shutil.copy(folder / "predictions" / "S1.h5ad", made / "sections" / "S1.h5ad")
    with viewing(made) as shown:
        assert [s["name"] for s in ask(shown, "run").json["slides"]] == ["S1"]
        assert ask(shown, "slide/0").json["image"] == "picture"
    slide = folder / "slides" / "S1.png"
    note_place(slide_key(slide), slide)
    run = RunDir(tmp_path / "run")
    run.finish({"verb": "predict", "inputs": {"S1": {"slide": slide_key(slide)}}}, {})
    with viewing(made, run.path) as shown:
        assert ask(shown, "slide/0").json["image"] == "file"


def test_two_viewers_run_side_by_side(folder: Path, address: str) -> None:
    with viewing(folder / "predictions" / "S2.h5ad") as other:
        assert other != address
        assert [s["name"] for s in ask(other, "run").json["slides"]] == ["S2"]
        assert ask(address, "run").status == 200


def test_a_taken_port_is_one_line(folder: Path, address: str) -> None:
    port = address.split(":")[2].split("/", maxsplit=1)[0]
    line = refusal(run("view", folder, "--port", port, "--no-browser", quick=False))
    assert f"port {port}" in line
    assert "choose another --port" in line


def test_a_path_without_predictions_is_one_line(tmp_path: Path) -> None:
    assert "found none; name the folder of cross-validate" in refusal(run("view", tmp_path, "--no-browser", quick=False))  # fmt: skip
    with pytest.raises(RunError, match=r"nothing at .*absent"):
        Viewer(tmp_path / "absent")


_AT_ONCE = """
import sys, threading, time
from pathlib import Path
from hespotex.viewer.library import Library
from hespotex.viewer.sources import find_predictions
library, opened = Library(find_predictions(Path(sys.argv[1])), print), []
first = threading.Thread(target=lambda: opened.append(library.slide(0)))
first.start()
while "anndata" not in sys.modules and first.is_alive():
    time.sleep(0.001)
rows = library.run()["slides"]
first.join()
print(len(opened), [row["error"] for row in rows])
"""


@pytest.mark.slow
def test_a_list_is_read_while_the_first_slide_is_opened(folder: Path) -> None:
    """In a fresh process: two threads that import anndata at once would find it half made."""
    made = subprocess.run(
        [sys.executable, "-c", _AT_ONCE, str(folder)], capture_output=True, text=True, check=False
    )
    assert made.stderr == ""
    assert made.stdout.strip() == "1 ['', '']"


@pytest.mark.slow
def test_ctrl_c_ends_the_command(folder: Path) -> None:
    command = [sys.executable, "-m", "hespotex", "view", str(folder), "--no-browser"]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as made:
        assert made.stdout is not None
        assert ask(made.stdout.readline().strip(), "run").status == 200
        made.send_signal(signal.SIGINT)
        _, said = made.communicate(timeout=30)
    assert "Traceback" not in said
    assert made.returncode == 0
