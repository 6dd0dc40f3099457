"""Slides of which a part cannot be read."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from hespotex.errors import SlideError
from hespotex.slide import Slide


def break_pixels(monkeypatch: pytest.MonkeyPatch, broken: Callable[[float], bool]) -> None:
    """Regions whose upper edge (level-0 pixels) is broken raise; the thumbnail stays whole."""
    original = Slide.read_region

    def read(self: Slide, x: float, y: float, *size: float) -> object:
        if broken(y) and size[0] < 300:
            raise SlideError(expected=f"pixels at x {x:g}, y {y:g}", found="damage")
        return original(self, x, y, *size)  # type: ignore[arg-type]

    monkeypatch.setattr(Slide, "read_region", read)
