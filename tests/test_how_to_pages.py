"""Every command and example of the quickstart and of the pages by task runs, in the order of the page, on painted sections."""

from __future__ import annotations

import json
import re
import shlex
import shutil
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import h5py
import numpy as np
import pytest
import tifffile
from PIL import Image

from helpers.commands import command, run

DOCS = Path(__file__).parents[1] / "docs"
PAGES = [DOCS / "quickstart.md", *sorted((DOCS / "how-to").glob("*.md"))]
# Served until somebody stops them; installing and the demo have tests of their own.
_ELSEWHERE = ("view", "doctor")
_TABLE = re.compile(r"^( *)section_id,.*?(?=\n\s*\n)", re.DOTALL | re.MULTILINE)
_EXAMPLE = re.compile(r"^( *)```python\n(.*?)\n *```", re.DOTALL | re.MULTILINE)
_COMMAND = re.compile(r"^ {4,}hespotex (?P<line>.*)$", re.MULTILINE)

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("blank_pictures")]


@pytest.fixture(scope="module")
def given(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What the pages begin with: three folders of Space Ranger, a bare slide, a model, an outline."""
    folder = tmp_path_factory.mktemp("given")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "path", [str(DOCS / "_ext"), *sys.path])
        import painted
    painted.visium(folder)
    for outs in folder.glob("V*/outs"):
        _named(outs / "filtered_feature_bc_matrix.h5")
    (folder / "images").mkdir()
    for name in ("V1", "V2", "V3"):
        for place in (folder / f"{name}.tif", folder / "images" / f"{name}.tif"):
            shutil.copyfile(folder / name / "image.tif", place)
    pixels = np.asarray(Image.open(folder / "V3/image.tif"))
    scale = json.loads((folder / "V3/outs/spatial/scalefactors_json.json").read_text())
    mpp = 55.0 / scale["spot_diameter_fullres"]
    tifffile.imwrite(folder / "slide.tif", pixels, tile=(256, 256), photometric="rgb", compression="zlib",
                     resolution=(1e4 / mpp, 1e4 / mpp), resolutionunit="CENTIMETER")  # fmt: skip
    high, wide = pixels.shape[:2]
    ring = [[0, 0], [wide, 0], [wide, high // 2], [0, high // 2], [0, 0]]
    (folder / "drawn.geojson").write_text(json.dumps({"type": "Polygon", "coordinates": [ring]}))
    (folder / "train.csv").write_text(
        "section_id,patient_id,slide,expression,format\n"
        + "".join(f"V{i},P{i},V{i}.tif,V{i}/outs,space_ranger\n" for i in (1, 2))
    )
    said = run(
        "train",
        folder / "train.csv",
        "--out",
        folder / "lab.hespotex",
        "--add-genes",
        "ERBB2",
        "--no-validate",
    )
    assert said.exit_code == 0, said.output
    return folder


def _named(matrix: Path) -> None:
    """The first gene is ERBB2, of which the pages speak."""
    with h5py.File(matrix, "r+") as file:
        for key in ("id", "name"):
            names = file[f"matrix/features/{key}"][:].astype("S16")
            names[0] = b"ERBB2"
            del file[f"matrix/features/{key}"]
            file[f"matrix/features/{key}"] = names


def _steps(page: Path) -> Iterator[tuple[int, Callable[[], None]]]:
    """Where on the page, and what to do: a table is written, a command is run, an example is executed."""
    text = page.read_text("utf-8").replace("slide.svs", "slide.tif")
    for found in _TABLE.finditer(text):
        yield found.start(), lambda lines=found[0]: _write_table(text, lines)
    for found in _EXAMPLE.finditer(text):
        code = re.sub(rf"^{found[1]}", "", found[2], flags=re.MULTILINE)
        yield found.start(), lambda code=code: exec(code, {})
    for found in _COMMAND.finditer(text):
        yield found.start(), lambda line=found["line"]: _run(line)


def _write_table(text: str, lines: str) -> None:
    (name,) = set(re.findall(r"`(\w+\.csv)`", text[: text.index(lines)].rsplit("\n\n", 2)[-2]))
    Path(name).write_text("\n".join(line.strip() for line in lines.splitlines()) + "\n")


def _run(line: str) -> None:
    words = shlex.split(line, comments=True)
    if words[0] in _ELSEWHERE:
        return
    said = (
        run(*words)
        if words[0] in ("train", "cross-validate")
        else command(*words, "--threads", "1")
    )
    assert said.exit_code == 0, f"hespotex {line}\n{said.output}"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_what_a_page_tells_to_do_works_from_top_to_bottom(
    page: Path, given: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(given, tmp_path / "here")
    monkeypatch.chdir(tmp_path / "here")
    if "hespotex train " in page.read_text("utf-8"):
        Path("lab.hespotex").unlink()
    steps = sorted(_steps(page), key=lambda step: step[0])
    assert len(steps) >= 3
    for _, step in steps:
        step()
