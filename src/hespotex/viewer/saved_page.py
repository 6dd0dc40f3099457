"""The viewer as one file that asks nobody: the page, some genes of every slide, and a moderate picture of each."""

from __future__ import annotations

import base64
import gzip
import json
import math
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Final
from urllib.parse import quote

from hespotex.errors import ConfigError, GenePanelError
from hespotex.progress import Reporter, Silent
from hespotex.storage.atomic import atomic_path
from hespotex.viewer.images import TILE_PX
from hespotex.viewer.library import Library
from hespotex.viewer.opened import OF_GENES
from hespotex.viewer.page import packed_raster, packed_spots, packed_values, static_text
from hespotex.viewer.sources import Source

# Longest side of the picture that a page carries of each slide, for so many slides.
_SIDES_PX: Final = ((4, 2048), (20, 1024), (math.inf, 512))
# Columns of a spot that the page tells, as in pane.js.
_MOST_TOLD: Final = 9
_POLICY: Final = (
    "default-src 'none'; img-src data: blob:; style-src 'unsafe-inline'; script-src 'unsafe-inline'; "
    "base-uri 'none'; form-action 'none'"
)
_SCRIPTS: Final = ("draw.js", "pane.js", "regions.js", "view.js")


def save_page(
    source: Source, path: str | Path, genes: Sequence[str], reporter: Reporter | None = None
) -> Path:
    """Write a viewer of some genes that opens anywhere, without a server and without a network.

    Args:
        source: the predictions, as of `find_predictions`.
        path: of the page, `.html`; replaced where it is there.
        genes: genes or gene sets; each must be in one of the slides.
        reporter: hears of progress and of what is left out.

    Raises:
        ConfigError: the path is no `.html`, or there is no gene.
        GenePanelError: no slide holds a gene.
    """
    path, reporter = Path(path), reporter or Silent()
    wanted = list(dict.fromkeys(genes))
    if path.suffix.lower() not in (".html", ".htm"):
        raise ConfigError(expected="a page that ends in .html", found=path.name)
    if not wanted:
        raise ConfigError(
            expected="genes of a page, such as --genes ERBB2,CD3E",
            found="none",
            remedy="name them; hespotex view without --export has all",
        )
    page = _Page(Library(source, reporter.say), wanted)
    before, after = _around(page.library.source.title)
    with atomic_path(path) as temporary, temporary.open("w", encoding="utf-8") as out:
        out.write(before)
        for n, (key, packed) in enumerate(page.answers(reporter)):
            out.write(f"{',' if n else ''}\n{_safe(key)}:{json.dumps(packed)}")
        page.check()
        out.write(after)
    return path


def _around(title: str) -> tuple[str, str]:
    """The page before and after what it holds."""
    from html import escape

    from hespotex import __version__

    html = static_text("page.html")
    head = f'<meta http-equiv="Content-Security-Policy" content="{_POLICY}">\n<meta name="generator" content="hespotex {__version__}">'
    html = _put(html, '<meta charset="utf-8">', f'<meta charset="utf-8">\n{head}')
    html = _put(html, "<title>hespotex view</title>", f"<title>{escape(title)}</title>")
    html = _put(html, '<link rel="stylesheet" href="static/view.css">', f"<style>\n{static_text('view.css')}</style>")  # fmt: skip
    html = _put(html, "<body>", "<body data-saved>")
    for name in _SCRIPTS:
        text = static_text(name) + (static_text("saved.js") if name == "draw.js" else "")
        html = _put(html, f'<script src="static/{name}"></script>', f"<script>\n{text}</script>")
    before, script, after = html.partition("<script>")
    return f'{before}<script id="saved" type="application/json">{{', f"}}</script>\n{script}{after}"


def _put(html: str, old: str, new: str) -> str:
    if html.count(old) != 1:
        raise AssertionError(f"page.html has {html.count(old)} of {old}")
    return html.replace(old, new)


def _safe(key: str) -> str:
    """A key of JSON inside a script of HTML."""
    return json.dumps(key).replace("<", "\\u003c")


def _text(answer: Any) -> str:
    return _packed(json.dumps(answer).encode())


def _packed(answer: bytes) -> str:
    return base64.b64encode(gzip.compress(answer, 6, mtime=0)).decode()


def _asked(value: str) -> str:
    """As encodeURIComponent writes it."""
    return quote(value, safe="!*'()")


class _Page:
    """Answers of the viewer by the path under which the page asks for them."""

    def __init__(self, library: Library, genes: list[str]) -> None:
        self.library, self._genes = library, genes
        self._levels: dict[str, list[float | None]] = {gene: [] for gene in genes}
        self._seen: set[str] = set()
        self._known: dict[str, None] = {}

    def answers(self, reporter: Reporter) -> Iterator[tuple[str, str]]:
        """Path and packed answer, slide by slide."""
        run = self.library.run()
        yield "run", _text(run)
        n = len(run["slides"])
        side = next(side for most, side in _SIDES_PX if n <= most)
        with reporter.task("saving the page", n) as advance:
            for number, row in enumerate(run["slides"]):
                if row["error"]:
                    reporter.warn(f"{row['name']} is left out: {row['error']}")
                    for levels in self._levels.values():
                        levels.append(None)
                else:
                    yield from self._of_slide(number, side)
                    self.library.forget(number)
                advance(1)
        for gene, levels in self._levels.items():
            yield f"levels?gene={_asked(gene)}", _text({"gene": gene, "levels": levels})

    def check(self) -> None:
        """Refuse a page of a gene that no slide holds."""
        missing = [gene for gene in self._genes if gene not in self._seen]
        if missing:
            from difflib import get_close_matches

            near = get_close_matches(missing[0], self._known, 3, 0.6)
            raise GenePanelError(
                expected="genes or gene sets of the predictions",
                found=", ".join(missing),
                remedy=f"perhaps {', '.join(near)}" if near else "look for its name with hespotex view",
            )  # fmt: skip

    def _of_slide(self, number: int, side_px: int) -> Iterator[tuple[str, str]]:
        at = f"slide/{number}"
        slide, about = self.library.slide(number), self.library.about(number)
        finest = min(about["max_zoom"], max(0, int(math.log2(side_px / TILE_PX))))
        self._known |= dict.fromkeys((*about["genes"], *about["sets"]))
        yield at, _text(self._chosen(about, finest))
        yield f"{at}/spots", _packed(packed_spots(slide))
        if slide.is_image:
            yield f"{at}/raster", _packed(packed_raster(slide))
        for show, gene in self._layers(about):
            key = f"{at}/values?show={_asked(show)}&gene={_asked(gene)}"
            yield key, _packed(packed_values(slide, show, gene, rounded=True))
        for gene, levels in self._levels.items():
            levels.append(slide.level(gene))
        yield f"{at}/told", _text(slide.spots_told(_MOST_TOLD))
        yield f"{at}/thumbnail", base64.b64encode(self.library.thumbnail(number)).decode()
        yield from self._tiles(number, about, finest)
        slide.check()

    def _chosen(self, about: dict[str, Any], finest: int) -> dict[str, Any]:
        """What the page knows of a slide, of the chosen genes alone."""
        genes = [j for j, gene in enumerate(about["genes"]) if gene in self._levels]
        sets = [k for k, name in enumerate(about["sets"]) if name in self._levels]
        self._seen |= {about["genes"][j] for j in genes} | {about["sets"][k] for k in sets}
        chosen = {
            "genes": [about["genes"][j] for j in genes],
            "claims": {name: [values[j] for j in genes] for name, values in about["claims"].items()},
            "sets": [about["sets"][k] for k in sets],
            "set_grades": [about["set_grades"][k] for k in sets if k < len(about["set_grades"])],
            "finest": finest,
        }  # fmt: skip
        if about["image"] == "file" and finest < about["max_zoom"]:
            um = about["mpp"] * 2 ** (about["max_zoom"] - finest)
            chosen |= {
                "image": "saved",
                "image_note": f"Picture of {um:.2g} µm a pixel: the slide itself is not in this page.",
            }
        return about | chosen

    def _layers(self, about: dict[str, Any]) -> Iterator[tuple[str, str]]:
        held, sets = set(about["genes"]), set(about["sets"])
        for gene in self._genes:
            if gene in held:
                yield from ((show, gene) for show in OF_GENES if show in about["shows"])
            elif gene in sets:
                yield "composition", gene
        yield from ((show, "") for show in about["spot_shows"])

    def _tiles(self, number: int, about: dict[str, Any], finest: int) -> Iterator[tuple[str, str]]:
        for zoom in range(finest + 1) if about["image"] != "none" else ():
            side = TILE_PX * 2 ** (about["max_zoom"] - zoom)
            for row in range(math.ceil(about["height_px0"] / side)):
                for column in range(math.ceil(about["width_px0"] / side)):
                    tile = self.library.tile(number, zoom, column, row)
                    if tile is not None:
                        coded = base64.b64encode(tile).decode()
                        yield f"slide/{number}/tile/{zoom}/{column}/{row}", coded
