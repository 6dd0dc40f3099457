"""Pictures of the viewer for the docs, in Chromium at two widths, small WebP files.

    python -m benchmarks.screenshots demo/results docs/images

RESULTS is the folder that `make demo` makes. For the picture of an unlike slide a copy of one of its sections is marked
unlike by hand: the painted demo has none.
"""

from __future__ import annotations

import argparse
import io
import shutil
import sys
import tempfile
from pathlib import Path

import h5py
import numpy as np
from anndata.io import write_elem
from PIL import Image

from benchmarks.harness import TESTS
from hespotex import keys
from hespotex.evaluation.claims import NONE, UNTESTED
from hespotex.storage.run_folder import RunDir
from hespotex.viewer.serve import Viewer

UNLIKE = "unlike: staining"
_QUALITY = 78
_TILES = "app.panes.every(p => [...p.tiles.kept.values()].every(t => t.there))"
_LASSO = """async () => {
  const [pane] = app.panes, { about } = pane, w = about.width_px0, h = about.height_px0;
  const at = (x, y) => [x * w, y * h];
  app.regions.slide = pane.slide;
  app.regions.rings = [[at(.3, .36), at(.52, .36), at(.56, .47), at(.5, .56), at(.3, .52)]];
  await app.regions.ask();
}"""
# What is done on the page for each picture; the pages start with the best gene of the first slide.
STATES = {
    "map": "() => {}",
    "search": "() => { const g = document.getElementById('gene'); g.focus(); g.value = 'immune'; app.writeFound(); }",
    "pair": "() => app.pair()",
    "region": _LASSO,
    "unlike": "n => app.toSlide(n)",
}


def main() -> None:
    """Write the pictures and say their sizes."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)  # fmt: skip
    parser.add_argument("results", type=Path)
    parser.add_argument("out", type=Path)
    asked = parser.parse_args()
    asked.out.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name) / "demo"
        shutil.copytree(asked.results, folder)
        _mark_unlike(RunDir(folder).predicted()[-1])
        viewer = Viewer(folder).start()
        try:
            _take(viewer.address, asked.out)
        finally:
            viewer.stop()


def _take(address: str, out: Path) -> None:
    sys.path.insert(0, TESTS)
    from helpers.in_browser import SIZES, chromium, open_view, settled, until

    with chromium() as browser:
        for name, (width, height) in SIZES.items():
            for state, act in STATES.items():
                page = browser.new_page(viewport={"width": width, "height": height})
                open_view(page, address)
                page.evaluate(act, page.evaluate("app.run.slides.length - 1"))
                settled(page)
                until(page, _TILES)
                page.wait_for_timeout(300)
                path = out / f"view_{state}_{name}.webp"
                _save(page.screenshot(), path)
                print(f"{path}: {path.stat().st_size / 1024:.0f} KiB")
                page.close()


def _save(picture: bytes, path: Path) -> None:
    with Image.open(io.BytesIO(picture)) as image:
        image.convert("RGB").save(path, "WEBP", quality=_QUALITY, method=6)


def _mark_unlike(path: Path) -> None:
    """As predict writes a slide that is unlike the training: every spot flagged, no gene tested."""
    with h5py.File(path, "r+") as file:
        n, n_genes = file["obs/ood"].shape[0], len(file["var/grade/codes"])
        record = {keys.OOD_VERDICT: UNLIKE, keys.REASON: "the slide is unlike the training slides (staining)", keys.N_FLAGGED: n, keys.SUSPENDED: True}  # fmt: skip
        for name, value in record.items():
            write_elem(file[f"uns/{keys.UNS}"], name, value)
        for name, word in ((keys.GRADE, "ungraded"), (keys.EVIDENCE, UNTESTED), (keys.SCOPE, NONE)):
            write_elem(file["var"], name, np.array([word] * n_genes, object))
        file["obs/ood"][...] = np.ones(n, bool)


if __name__ == "__main__":
    main()
