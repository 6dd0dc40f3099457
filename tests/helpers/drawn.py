"""What a drawn figure shows."""

from __future__ import annotations

from matplotlib.figure import Figure


def beyond_the_page(figure: Figure) -> float:
    """Inches by which anything drawn reaches over an edge of the page; 0 where all of it stays on."""
    figure.canvas.draw()
    box, (width, height) = figure.get_tightbbox(), figure.get_size_inches()
    return float(max(-box.x0, -box.y0, box.x1 - width, box.y1 - height, 0.0))


def words(figure: Figure) -> str:
    """All that is written on a figure, lines that were broken joined again."""
    from matplotlib.text import Text

    found = (text.get_text() for text in figure.findobj(Text))
    return " ".join(part for text in found for part in text.split())
