"""Slides: any image file, read in level-0 pixels at any scale."""

from hespotex.slide.slide import Slide, open_slide, slide_key

__all__ = ["Slide", "open_slide", "slide_key"]
