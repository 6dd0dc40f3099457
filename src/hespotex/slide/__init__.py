"""Slides: any image file, read in level-0 pixels at any scale."""

from hespotex.slide.slide import Slide, open_slide, slide_key
from hespotex.slide.zarr_image import image_names, image_path, is_zarr

__all__ = ["Slide", "image_names", "image_path", "is_zarr", "open_slide", "slide_key"]
