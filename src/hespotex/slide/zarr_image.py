"""Slides in Zarr: OME-Zarr images (folder or zip, any version), and images inside SpatialData stores."""

from __future__ import annotations

import json
import math
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from hespotex.errors import SlideError
from hespotex.slide.bit_depth import bits_in_use, no_pixels, to_8_bit
from hespotex.slide.pixel_size import UM_PER_UNIT
from hespotex.slide.tiff_tags import which_picture
from hespotex.storage.content_keys import FULL_HASH_BYTES, content_key, file_key

_MARKS = ("zarr.json", ".zgroup", ".zattrs", ".zarray")
_ZIPS = (".zarr.zip", ".ozx")
_IMAGES = "images"
_INNER = ("0",)  # where bioformats2raw writes an image; several are numbered on
_ALPHA = {"a", "alpha"}
_CHUNK_PX = 512
_OLD_AXES = ("t", "c", "z", "y", "x")  # of OME-Zarr before it named its axes
_KEYED_CHUNKS = 64
# OME-Zarr spells units out.
_UNITS: Mapping[str, float] = {
    **UM_PER_UNIT,
    **{"nanometer": 1e-3, "micrometer": 1.0, "millimeter": 1e3, "centimeter": 1e4, "meter": 1e6},
}


def is_zarr(path: Path) -> bool:
    """Whether a path is a Zarr store, or a group inside of one; nothing is opened."""
    if path.is_file():
        return path.name.lower().endswith(_ZIPS) and zipfile.is_zipfile(path)
    try:
        return path.is_dir() and any((path / mark).is_file() for mark in _MARKS)
    except PermissionError:
        return False


def holds_image(path: Path) -> bool:
    """Whether a path is a Zarr store with pixels: an OME-Zarr image, or a SpatialData store with images.

    A store whose own description is damaged counts, so that whoever opens it says what is wrong.
    """
    if not is_zarr(path):
        return False
    try:
        return bool(image_names(path)) or any(
            _multiscales(_stated(path, inner)) for inner in ("", *_INNER)
        )
    except (OSError, ValueError, zipfile.BadZipFile):
        return True


def _stated(path: Path, inner: str) -> Mapping[str, Any]:
    """Attributes of a group of a store, of either version of Zarr; none where there is no such group."""
    for name, below in (("zarr.json", "attributes"), (".zattrs", None)):
        if path.is_file():
            with zipfile.ZipFile(path) as packed:
                entry = f"{inner}/{name}".lstrip("/")
                text = packed.read(entry) if entry in packed.namelist() else None
        else:
            file = path / inner / name
            text = file.read_bytes() if file.is_file() else None
        values = None if text is None else json.loads(text)
        if isinstance(values, Mapping):
            found = values if below is None else values.get(below)
            return found if isinstance(found, Mapping) else {}
    return {}


def _multiscales(attributes: Mapping[str, Any]) -> Sequence[Any]:
    images = attributes.get("ome", attributes).get("multiscales")
    return images or ()


def image_names(path: Path) -> tuple[str, ...]:
    """Names of the images in a SpatialData store; none for an OME-Zarr image itself."""
    folder = path / _IMAGES
    if not folder.is_dir():
        return ()
    return tuple(sorted(p.name for p in folder.iterdir() if is_zarr(p)))


def image_path(path: Path, element: str | None = None) -> Path:
    """Where the pixels of a Zarr slide lie: the store itself, or one image inside of it.

    Raises:
        SlideError: no image of that name, or several and none was chosen.
    """
    names = image_names(path)
    if element is not None and element not in names:
        raise SlideError(
            expected=f"the image {element} in {path}", found=", ".join(names) or "no images"
        )
    if element is None and len(names) > 1:
        raise SlideError(
            expected=f"one image in {path}",
            found=", ".join(names),
            remedy=f"choose with the manifest's column image_element, or give {path.name}/{_IMAGES}/NAME",
        )
    name = element or (names[0] if names else None)
    return path if name is None else path / _IMAGES / name


def zarr_key(path: Path) -> str:
    """Key of the content of a Zarr slide: every name and size, and the bytes of all or of 64 files."""
    if path.is_file():
        return file_key(path)
    files = sorted(p for p in path.rglob("*") if p.is_file())
    sizes = [p.stat().st_size for p in files]
    listed = [(p.relative_to(path).as_posix(), size) for p, size in zip(files, sizes, strict=True)]
    if sum(sizes) > FULL_HASH_BYTES:
        chosen = np.unique(np.linspace(0, len(files) - 1, _KEYED_CHUNKS).astype(int)).tolist()
        files = [p for i, p in enumerate(files) if i in chosen or p.name in _MARKS]
    return content_key(listed, [file_key(p) for p in files])


class ZarrImage:
    """An image with its pyramid levels; chunks are decoded when they are asked for.

    Args:
        path: an OME-Zarr image (folder or zip), or a SpatialData store that holds one image.
        bits: of a sample of 16, that hold the picture, where the user states them.

    Raises:
        SlideError: no image, damaged, or no colours of 8 or 16 bit.
    """

    whole_in_memory = False
    bounds_px0 = (0.0, 0.0)

    def __init__(self, path: Path, bits: int | None = None) -> None:
        import zarr

        self.path = image_path(path)
        self._store: Any = None
        try:
            if self.path.is_file():
                self._store = zarr.storage.ZipStore(self.path, mode="r")
            group = zarr.open_group(self.path if self._store is None else self._store, mode="r")
            group, image, self.picture = _multiscale(group, self.path)
            self._axes = _axis_names(image)
            self._has_alpha = str(_channels(group)[-1].get("label", "")).lower() in _ALPHA
            levels = [group[entry["path"]] for entry in image["datasets"]]
            self._levels = [v for v in levels if math.prod(v.shape)] or levels[:1]
            self._samples = self._check()
            self.bits = bits_in_use(
                self.path,
                8 * self._levels[0].dtype.itemsize,
                self._maxima(),
                stated=bits,
                tags=_stated_maximum(group),
            )
            self.mpp_tags = _pixel_size(image, self._axes)
        except SlideError:
            self.close()
            raise
        except Exception as error:  # zarr and its codecs raise their own kinds
            self.close()
            raise SlideError(
                expected=f"an OME-Zarr image or a SpatialData store at {path}",
                found=(
                    f"one that cannot be read ({type(error).__name__}: "
                    f"{(str(error).splitlines()[0] if str(error) else 'no reason given')})"
                ),
                remedy="copy or export it again",
            ) from error
        y, x = self._axes.index("y"), self._axes.index("x")
        self.level_sizes = tuple((int(v.shape[x]), int(v.shape[y])) for v in self._levels)
        first = self.level_sizes[0]
        self.level_downsamples = tuple(
            (first[0] / w + first[1] / h) / 2 for w, h in self.level_sizes
        )
        self.chunk_shapes = tuple(
            (_whole(v.chunks[y], v.shape[y]), _whole(v.chunks[x], v.shape[x])) for v in self._levels
        )

    def _check(self) -> int:
        """Number of channels; refuses what is no flat colour image."""
        first = self._levels[0]
        sizes = dict(zip(self._axes, first.shape, strict=True))
        others = [n for name, n in sizes.items() if name not in {"y", "x", "c"}]
        if not {"y", "x"} <= set(sizes) or any(n != 1 for n in others):
            raise SlideError(
                expected="one flat colour image",
                found=f"axes {self._axes} of {first.shape} in {self.path}",
                remedy="export a single plane as RGB",
            )
        if not math.prod(first.shape):
            raise SlideError(
                expected="an image with pixels",
                found=f"one of {sizes['x']} x {sizes['y']} px in {self.path}",
                remedy="export it again",
            )
        samples = int(sizes.get("c", 1))
        if samples not in {1, 3, 4}:
            raise SlideError(
                expected="1, 3 or 4 channels (grey, RGB, RGBA)",
                found=f"{samples} in {self.path}",
                remedy="a fluorescence image is no H&E slide",
            )
        if first.dtype not in (np.uint8, np.uint16):
            raise SlideError(
                expected="colours of 8 or 16 bit",
                found=f"{first.dtype} in {self.path}",
                remedy="export the image as 8-bit RGB",
            )
        return samples

    def read(self, level: int, x: int, y: int, width: int, height: int) -> npt.NDArray[np.uint8]:
        """(height, width, 3) RGB; x, y in pixels of the level, all of it inside the image."""
        where = {"y": slice(y, y + height), "x": slice(x, x + width), "c": slice(None)}
        index = tuple(where.get(name, 0) for name in self._axes)
        try:
            values = np.asarray(self._levels[level][index])
        except Exception as error:  # codecs raise their own kinds
            raise no_pixels((x, y), level, self.path, error, "store") from error
        kept = [name for name in self._axes if name in where]
        order = [kept.index(name) for name in ("y", "x", "c") if name in kept]
        colours = to_8_bit(values.transpose(order).reshape(height, width, self._samples), self.bits)
        if self._samples == 1:
            return np.repeat(colours, 3, axis=2)
        if self._samples == 3 or not self._has_alpha:
            return np.ascontiguousarray(colours[..., :3])
        alpha = colours[..., 3:].astype(np.uint16)
        mixed = colours[..., :3] * alpha + 255 * (255 - alpha)
        return ((mixed + 127) // 255).astype(np.uint8)

    def _maxima(self) -> Iterator[int]:
        """Largest values of parts of the coarsest level."""
        level = self._levels[-1]
        y = self._axes.index("y")
        rows = max(1, int(level.chunks[y]))
        for top in range(0, int(level.shape[y]), rows):
            index = tuple(
                slice(top, top + rows) if i == y else slice(None) for i in range(level.ndim)
            )
            yield int(np.asarray(level[index]).max())

    def close(self) -> None:
        """Close the file of a zipped store."""
        if self._store is not None:
            self._store.close()


def _multiscale(group: Any, path: Path) -> tuple[Any, Mapping[str, Any], str]:
    """The group that holds an image, what it says of it, and which of several it is, where not the first."""
    own = _multiscales(dict(group.attrs))
    if own:
        return group, own[0], ""
    numbered = sorted((name for name in group.group_keys() if name.isdecimal()), key=int)
    found = [
        (group[name], images[0])
        for name in numbered
        if (images := _multiscales(dict(group[name].attrs)))
    ]
    if found:
        sides = [_sides(*pair) for pair in found]
        place = max(range(len(found)), key=lambda i: (math.prod(sides[i]), -i))
        n_twins = sides.count(sides[place]) - 1
        return *found[place], which_picture(place + 1, len(found), "store", n_twins=n_twins)
    raise SlideError(
        expected=f"an OME-Zarr image (multiscales) or images of a SpatialData store in {path}",
        found=", ".join(sorted(group))[:120] or "nothing",
        remedy="give the image",
    )


def _sides(group: Any, image: Mapping[str, Any]) -> tuple[int, ...]:
    """Height and width in pixels."""
    axes, shape = _axis_names(image), group[image["datasets"][0]["path"]].shape
    return tuple(int(shape[axes.index(name)]) for name in ("y", "x") if name in axes)


def _channels(group: Any) -> Sequence[Mapping[str, Any]]:
    """OMERO's metadata of each channel; where there are none, one empty entry."""
    attributes: Mapping[str, Any] = dict(group.attrs)
    omero: Mapping[str, Any] = attributes.get("ome", attributes).get("omero") or {}
    return omero.get("channels") or ({},)


def _stated_maximum(group: Any) -> dict[str, int]:
    """The largest value that a channel may have, where the metadata state one."""
    windows = [channel.get("window") or {} for channel in _channels(group)]
    values = [window.get("max") for window in windows]
    stated = [int(v) for v in values if isinstance(v, int | float) and v >= 1]
    return {"omero window": max(stated)} if stated else {}


def _axis_names(image: Mapping[str, Any]) -> tuple[str, ...]:
    axes: Sequence[Any] = image.get("axes") or _OLD_AXES
    return tuple(str(a["name"] if isinstance(a, Mapping) else a).lower() for a in axes)


def _pixel_size(image: Mapping[str, Any], axes: tuple[str, ...]) -> dict[str, tuple[float, float]]:
    """Microns per pixel of level 0, where the axes have a unit of length."""
    units = {
        str(axis["name"]).lower(): _UNITS.get(str(axis.get("unit", "")), math.nan)
        for axis in image.get("axes") or ()
        if isinstance(axis, Mapping)
    }
    scale = np.ones(len(axes))
    steps = [
        *image["datasets"][0].get("coordinateTransformations", ()),
        *image.get("coordinateTransformations", ()),
    ]
    for step in steps:
        values = step.get("scale") if step.get("type") == "scale" else None
        if values is not None and len(values) == len(axes):
            scale = scale * np.asarray(values, dtype=np.float64)
    found = [float(scale[axes.index(a)]) * units.get(a, math.nan) for a in ("x", "y")]
    return {} if all(map(math.isnan, found)) else {"OME-Zarr scale": (found[0], found[1])}


def _whole(chunk: int, size: int) -> int:
    """Whole chunks of about 512 pixels."""
    return min(size, chunk * max(1, round(_CHUNK_PX / chunk)))
