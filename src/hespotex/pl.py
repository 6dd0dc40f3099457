"""Pictures in a notebook: a run to look around in, and static maps in squidpy's manner."""

from __future__ import annotations

import io
import math
import tempfile
import warnings
import weakref
from collections.abc import Sequence
from contextlib import ExitStack
from difflib import get_close_matches
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from matplotlib.figure import Figure
from matplotlib.text import Text

from hespotex import keys
from hespotex.errors import ConfigError, RunError, counted, shorten
from hespotex.export.claim_words import first_sentence
from hespotex.plots import style
from hespotex.storage.atomic import atomic_path
from hespotex.storage.safe_names import safe_names
from hespotex.viewer.figure import FORMATS, PaneView, View, draw_pane
from hespotex.viewer.library import DIVERGING, SEQUENTIAL, Library
from hespotex.viewer.opened import OpenedSlide
from hespotex.viewer.serve import Viewer
from hespotex.viewer.sources import find_predictions

if TYPE_CHECKING:
    from anndata import AnnData

# Inches: above and below a map, of the colour bar beside it, of the words at the end.
_TOP: Final = 0.62
_BELOW: Final = 0.2
_BAR: Final = 0.95
_WORDS: Final = 0.75


class Picture(Figure):
    """A figure of matplotlib that a notebook shows where it stands last in a cell, whatever the backend."""

    def _repr_png_(self) -> bytes:
        out = io.BytesIO()
        self.savefig(out, format="png", dpi=100)
        return out.getvalue()


def view(data: str | Path | AnnData, *, slides: str | Path | None = None, height: int = 640) -> Viewer:  # fmt: skip
    """Look around in a run or one prediction, as `hespotex view` shows it, below the cell of a notebook.

    The server listens at 127.0.0.1 of the machine where Python runs, until `.stop()` or the end of the process. A
    notebook on another machine does not reach it; `hespotex view --export` writes a page for that.

    Example:
        >>> hespotex.pl.view("results")  # doctest: +SKIP

    Args:
        data: a run folder, a folder of predictions, one h5ad of them, or such a table as anndata read it.
        slides: where the images lie: a manifest, a folder or a slide; None: where this machine last saw them.
        height: of the frame, in pixels of the screen.

    Returns:
        The viewer: its `address`, and a frame of it in a notebook.

    Raises:
        RunError: there is no prediction, or starlette and uvicorn are not installed.
    """
    with ExitStack() as kept:
        viewer = Viewer(_path_of(data, kept), slides=slides, height=height).start()
        weakref.finalize(viewer, kept.pop_all().close)
        return viewer


def spatial(
    data: str | Path | AnnData,
    color: str | Sequence[str],
    *,
    section_id: str | None = None,
    show: str = "composition",
    slides: str | Path | None = None,
    crop_coord: tuple[float, float, float, float] | None = None,
    ncols: int = 3,
    size: float = 4.0,
    alpha: float = 0.85,
    cmap: str | None = None,
    vmin: float | None = None,
    vmax: float | None = None,
    anyway: bool = False,
    save: str | Path | None = None,
) -> Picture:
    """Maps of genes, gene sets or columns of spots over the slide, side by side.

    Each title has the gene's grade and what it rests on. A flagged spot is crossed out in red, and the maps of a slide
    that is unlike the training are hatched.

    Example:
        >>> hespotex.pl.spatial("results/predictions/C2.h5ad", ["ERBB2", "ood_score"])  # doctest: +SKIP

    Args:
        data: a run folder, one h5ad of predictions, or such a table as anndata read it.
        color: genes, gene sets, or columns of the spots such as `predicted_depth` and `ood_score`.
        section_id: which, of a run with several.
        show: of genes: composition, measured, difference, log1p, measured_log1p or interval.
        slides: where the image lies, as of `view`.
        crop_coord: left, right, top, bottom in level-0 pixels; None: all spots.
        ncols: maps in a row.
        size: side of a map in inches.
        alpha: opacity of the spots, 0 to 1.
        cmap: one of the palettes safe for colour-blind readers: RdBu_r, PuOr_r, BrBG_r, viridis, cividis, magma.
        vmin, vmax: ends of the colour scale; None: by percentiles.
        anyway: leave the hatching of an unlike slide away; its title still says so.
        save: a file to write, too: png, svg or pdf.

    Returns:
        The figure.

    Raises:
        RunError: there is no such section or layer.
        ConfigError: a value is none of those above.
    """
    names = [color] if isinstance(color, str) else list(color)
    if not names or ncols < 1 or not size > 0:
        raise ConfigError(
            expected="one name of a map or more, ncols of 1 or more and a positive size",
            found=f"{len(names)} names, ncols={ncols}, size={size:g}",
        )
    if cmap not in (None, *DIVERGING, *SEQUENTIAL):
        raise ConfigError(
            expected=f"cmap as one of {', '.join((*DIVERGING, *SEQUENTIAL))}", found=cmap
        )
    with ExitStack() as kept:
        slide = _slide_of(_path_of(data, kept), section_id, slides)
        (centre_um, size_um), panes = _box(slide, crop_coord), [_pane(slide, name, show) for name in names]  # fmt: skip
        view = View.of({"panes": panes[:1], "centre_um": centre_um, "size_um": size_um, "opacity": alpha, "anyway": anyway})  # fmt: skip
        asked = [PaneView(0, pane["show"], pane["gene"], cmap or "", None) for pane in panes]
        figure = _drawn(slide, asked, view, ncols, size, (vmin, vmax))
    if save is not None:
        _save(figure, Path(save))
    return figure


def _drawn(
    slide: OpenedSlide, panes: Sequence[PaneView], view: View, ncols: int, size: float,
    ends: tuple[float | None, float | None],
) -> Picture:  # fmt: skip
    wide, tall = (size * n / max(view.size_um) for n in view.size_um)
    columns, rows = min(ncols, len(panes)), math.ceil(len(panes) / ncols)
    step, down = wide + _BAR, _TOP + tall + _BELOW
    full = max(0.2 + columns * step, 4.5)
    figure = Picture(figsize=(full, rows * down + _WORDS), dpi=style.DPI, facecolor="white")
    for k, pane in enumerate(panes):
        x, y = 0.2 + (k % ncols) * step, (k // ncols) * down
        layer = slide.layer(pane.show, pane.gene)
        low, high = (given if given is not None else end for given, end in zip(ends, layer.limits, strict=True))  # fmt: skip
        if not low < high:
            raise ConfigError(expected="vmin below vmax", found=f"{low:g} and {high:g}")
        limits = None if layer.categories else (low, high)
        axes = style.place(figure, x, y + _TOP, wide, tall)
        spots = draw_pane(axes, slide, layer, view, PaneView(0, pane.show, pane.gene, pane.palette, limits))  # fmt: skip
        style.colour_bar(figure, spots, x + wide + 0.08, y + _TOP, min(tall, max(2.2, 0.15 * len(layer.categories))), layer.unit[:40], names=layer.categories)  # fmt: skip
        _write_title(figure, x, y, slide, pane, layer.title)
    said = first_sentence(slide.file.spots)
    style.paragraph(figure, 0.2, rows * down + 0.12, full - 0.4, said, size=7.5)
    for text in figure.findobj(Text):
        text.set_parse_math(False)  # a name of the user's is no formula
    return figure


def _write_title(
    figure: Figure, x: float, y: float, slide: OpenedSlide, pane: PaneView, title: str
) -> None:
    """What it is and how far to believe it; layer and slide below, and a red line where no grade holds."""
    spots, unlike = slide.file.spots, slide.claims.suspended
    graded = slide.graded(pane.gene) if pane.show_gene and not unlike else ""
    name = pane.gene if pane.show_gene else title
    style.caption(figure, x, y + 0.26, f"{name}  ({graded})" if graded else name, size=11)
    flagged = int((~slide.file.usable).sum())
    facts = [title] if pane.show_gene else []
    facts.append(spots.section_id)
    if flagged:
        facts.append(f"{flagged:,} of {counted(slide.file.n_spots, 'spot')} flagged")
    style.caption(figure, x, y + 0.43, " · ".join(facts), size=7.5, colour=style.MUTED)
    if unlike:
        style.caption(figure, x, y + 0.57, "Unlike the training slides: no grade holds here.", size=7.5, colour=style.ALARM)  # fmt: skip


def _pane(slide: OpenedSlide, name: str, show: str) -> dict[str, Any]:
    """The layer that a name means: of a gene or a gene set, else of the spots."""
    if slide.holds(name):
        return {"slide": 0, "gene": name, "show": show}
    if name in slide.spot_shows():
        return {"slide": 0, "gene": "", "show": name}
    near = get_close_matches(name, [*slide.file.genes.tolist(), *slide.spot_shows()], 3, 0.6)
    raise RunError(
        expected=f"a gene, a gene set or a column of the spots of {slide.entry.name}",
        found=name,
        remedy=f"perhaps {', '.join(near)}" if near else "look at its genes and spots",
    )


def _slide_of(path: Path, section_id: str | None, slides: str | Path | None) -> OpenedSlide:
    source = find_predictions(path, None if slides is None else Path(slides))
    names = [entry.name for entry in source.entries]
    if section_id is None and len(names) > 1:
        raise RunError(
            expected=f"section_id, one of {shorten(names)}", found=f"{len(names)} predictions"
        )
    if section_id is not None and section_id not in names:
        raise RunError(expected=f"one of {shorten(names)}", found=section_id)
    library = Library(source, lambda _text: None)
    return library.slide(0 if section_id is None else names.index(section_id))


def _box(
    slide: OpenedSlide, crop: tuple[float, float, float, float] | None
) -> tuple[tuple[float, float], tuple[float, float]]:
    """Centre and size in microns of what is drawn."""
    spots = slide.file.spots
    if crop is None and not slide.file.n_spots:
        raise RunError(expected=f"spots in {slide.entry.name}", found="none")
    left, right, top, bottom = style.view_box(spots) if crop is None else crop
    if not (left < right and top < bottom):
        raise ConfigError(expected="crop_coord as left, right, top, bottom in level-0 pixels", found=crop)  # fmt: skip
    x, y = (left + right) / 2 * spots.mpp, (top + bottom) / 2 * spots.mpp
    return (x, y), ((right - left) * spots.mpp, (bottom - top) * spots.mpp)


def _path_of(data: str | Path | AnnData, kept: ExitStack) -> Path:
    """A path as it is; a table is written to a folder that lasts as long as `kept`."""
    if isinstance(data, (str, Path)):
        return Path(data)
    if keys.UNS not in getattr(data, "uns", {}):
        raise RunError(
            expected="a path, or a prediction of hespotex as anndata read it",
            found=f"{type(data).__name__} without {keys.UNS!r} in uns",
        )
    folder = Path(kept.enter_context(tempfile.TemporaryDirectory(prefix="hespotex-")))
    sections = data.obs[keys.SECTION_ID].astype(str).unique().tolist()
    path = folder / f"{safe_names(sections[:1], fallback='section')[0]}.h5ad"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of anndata, about names and views
        data.copy().write_h5ad(path)
    return path


def _save(figure: Figure, path: Path) -> None:
    kind = path.suffix.lower().removeprefix(".")
    if kind not in FORMATS:
        raise ConfigError(expected="a picture that ends in .png, .svg or .pdf", found=path.name)
    with atomic_path(path) as temporary:
        figure.savefig(temporary, format=kind, dpi=300)
