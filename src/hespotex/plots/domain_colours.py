"""Colours of domains that colour-blind readers can tell apart; pure."""

from __future__ import annotations

from typing import Final

# Okabe and Ito 2008, in an order whose first ones differ most.
OKABE_ITO: Final = (
    "#0072b2", "#e69f00", "#009e73", "#cc79a7", "#56b4e9", "#d55e00", "#f0e442", "#000000",
)  # fmt: skip
# Then, one by one, the colour (of 16 steps a channel, not too light) that lies farthest from all before and from white,
# in CIE Lab, for eyes without and with each kind of colour blindness (Machado 2009, full severity). The nearest two of all
# 24 differ by 15.7, of the first eight by 16.1.
FURTHER: Final = (
    "#8800ff", "#663311", "#112288", "#00ff88", "#554455", "#bb55ff", "#330044", "#dd1144",
    "#bbccbb", "#aaddff", "#8811cc", "#003322", "#bbaa55", "#aa0088", "#994400", "#ff4477",
)  # fmt: skip
PALETTE: Final = (*OKABE_ITO, *FURTHER)


def colours_of(n: int) -> list[str]:
    """Colours of n domains, the same for the first ones however many follow; beyond 24 they start again."""
    return [colour_of(k) for k in range(n)]


def colour_of(number: int) -> str:
    """Colour of one domain by its number from 0."""
    return PALETTE[number % len(PALETTE)]
