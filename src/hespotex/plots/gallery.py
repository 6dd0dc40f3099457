"""A gallery: patches of any number of slides on one page, each with a title and a caption; reads slides and draws."""

from __future__ import annotations

import math
import warnings
from bisect import bisect_right
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

import numpy as np
import numpy.typing as npt

from hespotex.errors import GenePanelError, GeometryError, SlideError
from hespotex.export.claim_words import claims_of, short
from hespotex.export.h5ad import StoredPrediction
from hespotex.export.shown import Show, label, shown_values
from hespotex.plots import style
from hespotex.slide import open_slide

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

MOST_PATCHES: Final = 200
SIDE_UM: Final = 224.0
# Pixels a patch is read at: a printed side at the resolution of pictures.
_SIZE_PX: Final = 300
# Inches: side of a patch, gap between two, room for the words below one, of a group's name, of the heading, at the end.
_SIDE: Final = 2.0
_GAP: Final = 0.16
_WORDS: Final = 0.66
_GROUP: Final = 0.4
_TOP: Final = 1.0
_BOTTOM: Final = 0.1
# Part of the page's width that is left free on either side, as `style.heading` does.
_MARGIN: Final = 0.03
_NARROWEST: Final = 6.0
_UNREAD: Final = "#e8e8e8"


@dataclass(frozen=True)
class Patch:
    """A place on a slide that is to be looked at.

    Attributes:
        slide: the file.
        xy_px0: x, y of its middle in level-0 pixels.
        title: what it is, such as the section's id and the spot's name.
        caption: in smaller letters below: gene, value, grade.
        group: patches of one group stand together under its name; empty: no name.
        mpp: microns per level-0 pixel; None: as the slide's tags say.
        bits: of a sample, where they have to be stated.
        spot_diameter_um: a ring of this size is drawn; None: none.
    """

    slide: Path
    xy_px0: tuple[float, float]
    title: str
    caption: str = ""
    group: str = ""
    mpp: float | None = None
    bits: int | None = None
    spot_diameter_um: float | None = None


def gene_patches(
    section: StoredPrediction,
    slide: str | Path,
    gene: str,
    spots: Iterable[int],
    *,
    show: Show = "composition",
    group: str = "",
) -> tuple[Patch, ...]:
    """Patches of some spots of a prediction, with the gene's value there and what is claimed of it.

    Args:
        section: the prediction.
        slide: the image that was predicted.
        gene: whose value is written.
        spots: rows, in the order in which they are to be shown; a flagged one says so.
        show: which value.
        group: of all of them.

    Raises:
        GenePanelError: the gene is not in the prediction.
    """
    found = np.flatnonzero(section.genes == gene)
    if not len(found):
        raise GenePanelError(
            expected=f"a gene of the prediction of {section.section_id}", found=gene
        )
    column = int(found[0])
    values, claim = shown_values(section, show)[:, column], short(claims_of(section), column)
    flagged = section.extras.ood
    patches = []
    for spot in spots:
        value = f"{values[spot]:+.2f}" if show == "composition" else f"{values[spot]:.2f}"
        text = f"{gene} {value.replace('-', '−')}, {claim}"
        if flagged is not None and flagged[spot]:
            text += "; spot flagged"
        x, y = section.xy_px0[spot].tolist()
        patches.append(
            Patch(
                slide=Path(slide),
                xy_px0=(x, y),
                title=f"{section.section_id} {section.barcodes[spot]}",
                caption=text,
                group=group,
                mpp=section.mpp,
                spot_diameter_um=section.spot_diameter_um,
            )
        )
    return tuple(patches)


def value_note(show: Show = "composition") -> str:
    """What the values of `gene_patches` are, for the line below a gallery's title."""
    return f"Values are predicted {label(show)}."


def plot_gallery(
    patches: Sequence[Patch],
    *,
    title: str,
    subtitle: str = "",
    side_um: float = SIDE_UM,
    columns: int = 6,
) -> Figure:
    """Patches in a grid, row by row, all of one physical size, each with a scale bar.

    One slide is open at a time, and only the patches' own pixels are kept. A patch whose pixels cannot be read, or whose
    slide cannot be opened, is grey and says so: one bad file does not cost the page.

    Args:
        patches: at least 1, at most 200; groups in the order in which they first come.
        title: of the page.
        subtitle: how to read it.
        side_um: of every patch.
        columns: patches side by side.

    Raises:
        ValueError: no patch, too many, or a size that is not above 0.
        GeometryError: nothing says how large a pixel of a slide is.
    """
    if not 1 <= len(patches) <= MOST_PATCHES:
        raise ValueError(f"expected 1 to {MOST_PATCHES} patches, found {len(patches)}")
    if side_um <= 0 or columns < 1:
        raise ValueError(
            f"expected a side and a number of columns above 0, found {side_um}, {columns}"
        )
    seen = _read(patches, side_um)
    groups: dict[str, list[int]] = {patch.group: [] for patch in patches}
    for place, patch in enumerate(patches):
        groups[patch.group].append(place)
    columns = min(columns, max(len(members) for members in groups.values()))
    rows = sum(math.ceil(len(members) / columns) for members in groups.values())
    height = _TOP + rows * (_SIDE + _WORDS) + _GROUP * sum(map(bool, groups)) + _BOTTOM
    width = max((columns * (_SIDE + _GAP) - _GAP) / (1 - 2 * _MARGIN), _NARROWEST)
    left = _MARGIN * width
    figure = style.new_figure(width, height)
    inner = width - 2 * left
    size = float(np.clip(110 * inner / max(len(title), 1), 10, 17))
    style.heading(figure, _lines(title, inner, size, weight="bold")[0], subtitle, size=size)
    y = _TOP
    for group, members in groups.items():
        if group:
            style.caption(figure, left, y + 0.24, _lines(group, inner, 12)[0], size=12)
            y += _GROUP
        for at, place in enumerate(members):
            row, column = divmod(at, columns)
            corner = (left + column * (_SIDE + _GAP), y + row * (_SIDE + _WORDS))
            _draw(figure, corner, patches[place], seen[place], side_um)
        y += math.ceil(len(members) / columns) * (_SIDE + _WORDS)
    return figure


def write_gallery(
    path: str | Path,
    patches: Sequence[Patch],
    *,
    title: str,
    subtitle: str = "",
    side_um: float = SIDE_UM,
    columns: int = 6,
) -> None:
    """Write `plot_gallery` as a PNG, whole or not at all.

    Raises:
        RunError: the file cannot be written.
        GeometryError, ValueError: as `plot_gallery`.
    """
    figure = plot_gallery(patches, title=title, subtitle=subtitle, side_um=side_um, columns=columns)
    style.save_figure(figure, Path(path))


def _read(
    patches: Sequence[Patch], side_um: float
) -> dict[int, npt.NDArray[np.uint8] | SlideError]:
    """The pixels of every patch, or why there are none; slide by slide."""
    seen: dict[int, npt.NDArray[np.uint8] | SlideError] = {}
    of_slide: dict[tuple[Path, int | None, float | None], list[int]] = {}
    for place, patch in enumerate(patches):
        of_slide.setdefault((patch.slide, patch.bits, patch.mpp), []).append(place)
    for (path, bits, mpp), places in of_slide.items():
        try:
            with open_slide(path, mpp=mpp, bits=bits) as slide:
                if slide.mpp is None:
                    raise GeometryError(
                        expected="microns per pixel of the slide",
                        found=f"no tag that tells them in {path}",
                        remedy="state mpp",
                        section=path.stem,
                    )
                side = side_um / slide.mpp
                for place in places:
                    x, y = patches[place].xy_px0
                    try:
                        seen[place] = slide.read_region(
                            x - side / 2, y - side / 2, side, side, _SIZE_PX, _SIZE_PX
                        )
                    except SlideError as error:
                        seen[place] = error
        except SlideError as error:
            seen |= dict.fromkeys(places, error)
    return seen


def _draw(
    figure: Figure,
    corner: tuple[float, float],
    patch: Patch,
    seen: npt.NDArray[np.uint8] | SlideError,
    side_um: float,
) -> None:
    x, y = corner
    axes = style.place(figure, x, y, _SIDE, _SIDE)
    style.bare_axes(axes)
    half = side_um / 2
    axes.set_xlim(-half, half)
    axes.set_ylim(half, -half)
    if isinstance(seen, SlideError):
        axes.set_facecolor(_UNREAD)
        axes.text(0, 0, "cannot be read", size=9, color=style.MUTED, ha="center", va="center")
    else:
        axes.imshow(seen, extent=(-half, half, half, -half), interpolation="antialiased")
        if patch.spot_diameter_um is not None:
            _ring(axes, patch.spot_diameter_um)
        style.scale_bar(axes, 1.0, size=7)
    style.caption(figure, x, y + _SIDE + 0.16, _lines(patch.title, _SIDE, 8.5)[0], size=8.5)
    for k, line in enumerate(_lines(patch.caption, _SIDE, 7.5, most=2)):
        style.caption(figure, x, y + _SIDE + 0.31 + 0.14 * k, line, size=7.5, colour=style.MUTED)


def _ring(axes: Axes, diameter_um: float) -> None:
    for colour, width in (("white", 1.6), (style.INK, 0.7)):
        style.draw_circles(
            axes,
            np.zeros((1, 2)),
            diameter_um,
            facecolors="none",
            edgecolors=colour,
            linewidths=width,
        )


def _lines(
    text: str, width: float, size: float, *, most: int = 1, weight: str = "normal"
) -> list[str]:
    """Lines of at most so many inches, broken between words; what does not fit ends in dots."""
    from matplotlib.font_manager import FontProperties
    from matplotlib.textpath import text_to_path

    font = FontProperties(size=size, weight=weight)
    lines: list[str] = []

    def longest(text: str, tail: str = "") -> int:
        def inches(n: int) -> float:
            line = text[:n] + tail
            with warnings.catch_warnings():  # a sign that the font lacks is drawn as a box
                warnings.filterwarnings("ignore", message="Glyph .* missing from font")
                points = text_to_path.get_text_width_height_descent(line, font, False)[0]
            return float(points) / 72

        return max(bisect_right(range(len(text) + 1), width, key=inches) - 1, 1)

    text = " ".join(text.split())
    while longest(text) < len(text) and len(lines) < most - 1:
        end = text.rfind(" ", 0, longest(text) + 1)
        end = end if end > 0 else longest(text)
        lines.append(text[:end])
        text = text[end:].lstrip()
    fits = longest(text) >= len(text)
    return [*lines, text if fits else text[: longest(text, "…")].rstrip() + "…"]
