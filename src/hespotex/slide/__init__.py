"""Slides: any image file, read in level-0 pixels at any scale."""

from hespotex.slide.folder import (
    DOUBT_REMEDY,
    SLIDE_SUFFIXES,
    SlideFolder,
    check_folder,
    slide_names,
    slides_in,
)
from hespotex.slide.slide import Slide, open_slide, slide_key
from hespotex.slide.zarr_image import image_names, image_path, is_zarr

__all__ = [
    "DOUBT_REMEDY",
    "SLIDE_SUFFIXES",
    "Slide",
    "SlideFolder",
    "check_folder",
    "image_names",
    "image_path",
    "is_zarr",
    "open_slide",
    "slide_key",
    "slide_names",
    "slides_in",
]
