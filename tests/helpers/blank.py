"""Pictures left blank: drawing takes most of the time of a small run."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from zlib import crc32

import pytest


@contextmanager
def blank_pictures() -> Iterator[None]:
    """Pictures are written under their names with a few pixels of one colour, made of the words that they would show."""
    from hespotex.plots import gene_pictures, maps
    from hespotex.plots.style import new_figure
    from hespotex.predicting import beside, outputs

    def blank(*of: object, **more: object) -> object:
        figure = new_figure(0.1, 0.1)
        said = [v for v in (*of, *more.values()) if isinstance(v, (str, int, list, tuple))]
        figure.set_facecolor(f"#{crc32(repr(said).encode()) & 0xFFFFFF:06x}")
        return figure

    with pytest.MonkeyPatch.context() as patch:
        for name in ("plot_genes", "plot_depth", "plot_pcc_distribution"):
            patch.setattr(maps, name, blank)
        for module in (beside, outputs):
            patch.setattr(module, "plot_overview", blank)
        patch.setattr(gene_pictures, "plot_gene", blank)
        yield
