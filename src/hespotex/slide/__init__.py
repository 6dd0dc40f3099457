"""Slides: any image file, read in level-0 pixels at any scale."""

from hespotex.slide.folder import check_folder, slides_in
from hespotex.slide.slide import Slide, open_slide, slide_key
from hespotex.slide.zarr_image import image_names, image_path, is_zarr

__all__ = [
    "Slide",
    "check_folder",
    "image_names",
    "image_path",
    "is_zarr",
    "open_slide",
    "slide_key",
    "slides_in",
]
