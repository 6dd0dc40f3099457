"""A slide with the spots that a diagnosis hangs on; draws."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import numpy.typing as npt

from hespotex.export.h5ad import StoredPrediction
from hespotex.plots import style

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_SIDE: Final = 6.2
_FADE: Final = 0.45
_COLOURS: Final = "YlOrRd"
_TOP_Z: Final = 8.0


def plot_evidence_map(
    section: StoredPrediction,
    z: npt.NDArray[np.floating[Any]],
    shown: npt.NDArray[np.bool_],
    *,
    title: str,
    words: str,
    alarm: bool = False,
) -> Figure:
    """The tissue beside the tissue with the spots that pass; nothing is drawn of the others.

    Args:
        section: the prediction, without genes.
        z: (n,) of every spot.
        shown: (n,) which pass.
        words: the sentence to be read with it; in red where `alarm`.
    """
    figure = style.new_figure(2 * _SIDE + 1.9, _SIDE + 1.75)
    style.heading(figure, title)
    style.statement(figure, words, alarm=alarm)
    for column, fade in enumerate((0.0, _FADE)):
        axes = style.place(figure, 0.4 + column * (_SIDE + 0.2), 1.4, _SIDE, _SIDE)
        style.draw_tissue(axes, section, fade=fade)
        if section.thumbnail is None:  # where the slide lies would not be seen
            nothing = np.full(len(z), np.nan)
            style.draw_spots(axes, section, nothing, limits=(0.0, 1.0), colours=_COLOURS)
        if column:
            some = _only(section, shown)
            drawn = style.draw_spots(axes, some, z[shown], limits=(0.0, _TOP_Z), colours=_COLOURS)
            label = "z against permuted labels"
            style.colour_bar(figure, drawn, 2 * _SIDE + 0.75, 3.0, 2.6, label)
        style.draw_scale_bar(axes, section)
    return figure


def _only(section: StoredPrediction, shown: npt.NDArray[np.bool_]) -> StoredPrediction:
    return replace(
        section,
        barcodes=section.barcodes[shown],
        xy_px0=section.xy_px0[shown],
        composition=section.composition[shown],
        depth=section.depth[shown],
    )
