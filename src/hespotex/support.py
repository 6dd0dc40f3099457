"""What helps somebody else to see why something failed: versions, the machine, a run's settings, the last error.

Nothing of a user's data goes in: no values, no paths, no names of files, none of the sections of the run.
"""

from __future__ import annotations

import json
import re
import traceback
import zipfile
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from hespotex.encoders.cache import cache_folder
from hespotex.errors import ConfigError, HESpotExError, RunError
from hespotex.storage.atomic import atomic_path, write_json
from hespotex.storage.run_folder import RunDir
from hespotex.storage.run_record import RunRecord

if TYPE_CHECKING:
    from hespotex.doctor import Check

_LAST: Final = "last_error.json"
_READ_ME: Final = (
    "Versions, the machine, settings of a run and the last error of hespotex. There are no values, paths and names of "
    "files in it, and no sections of the run. The words of the last error may name a section of another run or a gene: "
    "read the files before you send them.\n"
)
_ISSUES: Final = "Issues"
# A path up to its ending, spaces included; then whatever has a slash; then names of files.
_PATHS: Final = (
    re.compile(r"(?:~|[A-Za-z]:\\|(?<![\w.>])/)[^,;'\"\n]*?(?P<end>\.[A-Za-z0-9]{2,8})\b"),
    re.compile(r"[^\s'\"(),;:=]*[/\\][^\s'\"(),;:=]*?(?P<end>\.[A-Za-z0-9]{2,8})?(?=[\s'\"(),;:=]|$)"),
    re.compile(r"[\w.-]+(?P<end>\.(?:h5ad|h5|csv|tsv|txt|json|geojson|hespotex|svs|ndpi|mrxs|tiff?|jpe?g|png|zarr|parquet|zip|gz))\b"),
)  # fmt: skip
_OF_RUN: Final = ("status", "config", "reading", "seconds", "peak_memory_mib", "versions")


def issues_address() -> str:
    """Where faults and questions go, of the project's own metadata; empty where these name none."""
    try:
        named = metadata.metadata("hespotex").get_all("Project-URL") or []
    except metadata.PackageNotFoundError:  # run from its sources, without an installation
        return ""
    found = (url.partition(", ") for url in named)
    return next((address for label, _, address in found if label == _ISSUES), "")


def where_to_tell() -> str:
    """What to do about an error that is no mistake of the user."""
    address = issues_address()
    where = f" at {address}" if address else ""
    return f"Please tell us{where}; `hespotex doctor --bundle help.zip` packs what helps, without data and names"


def keep_error(error: BaseException, arguments: Sequence[str]) -> None:
    """Keep the last error of the command in the cache folder, for `write_bundle`; never raises.

    Args:
        arguments: of the command; its verb and the names of its options are kept, no value.
    """
    frames = traceback.extract_tb(error.__traceback__)
    kept = {
        "when": datetime.now(UTC).isoformat(timespec="seconds"),
        "verb": next((a for a in arguments if re.fullmatch(r"[a-z][a-z-]+", a)), ""),
        "options": sorted({a.partition("=")[0] for a in arguments if a.startswith("--")}),
        "kind": type(error).__name__,
        "message": without_names(str(error)),
        "frames": [f"{_module(f.filename)}:{f.lineno} {f.name}" for f in frames],
    }
    with suppress(OSError, HESpotExError):
        write_json(cache_folder() / _LAST, kept)


def write_bundle(path: Path, checks: Iterable[Check], run: Path | None = None) -> Path:
    """Write a ZIP of what `doctor` found, the versions of all packages, a run's settings and the last error.

    Args:
        path: of the ZIP; replaced where it is there.
        checks: of `doctor.examine`.
        run: folder of a run whose settings go in; its sections are counted, not named.

    Raises:
        ConfigError: the path does not end in .zip.
        RunError: the folder holds no run, or the file cannot be written.
    """
    if path.suffix.lower() != ".zip":
        raise ConfigError(expected="a file that ends in .zip", found=path.name)
    files = {
        "README.txt": f"{_READ_ME}\n{where_to_tell()}.\n",
        "doctor.json": _as_json([asdict(check) for check in checks]),
        "packages.txt": "\n".join(sorted({f"{d.name}=={d.version}" for d in metadata.distributions()})) + "\n",
    }  # fmt: skip
    if run is not None:
        files["run.json"] = _as_json(_settings(RunDir(run)))
    with suppress(OSError, ValueError, HESpotExError):
        last = (cache_folder() / _LAST).read_text(encoding="utf-8")
        files[_LAST] = _as_json(json.loads(_without(last, run)))
    with atomic_path(path) as temporary, zipfile.ZipFile(temporary, "w", zipfile.ZIP_DEFLATED) as out:  # fmt: skip
        for name, text in files.items():
            out.writestr(name, text)
    return path


def without_names(text: str) -> str:
    """A text without paths and names of files; their endings are kept."""
    for pattern in _PATHS:
        text = pattern.sub(lambda found: f"<path>{found['end'] or ''}", text)
    return text


def _without(text: str, run: Path | None) -> str:
    """A text without the names of a run's sections and slides."""
    record = None if run is None else RunRecord.read_if_there(RunDir(run).run_json)
    if record is None:
        return text
    names = {*record.identity.inputs, *(row.section_id for row in record.slides)}
    for name in sorted(filter(None, names), key=len, reverse=True):
        text = re.sub(rf"(?<!\w){re.escape(name)}(?!\w)", "<section>", text)
    return text


def _settings(run: RunDir) -> dict[str, Any]:
    record = RunRecord.read_if_there(run.run_json)
    if record is None:
        raise RunError(expected=f"a run in {run.path}", found="no run.json")
    kept = {name: value for name, value in record.model_dump(mode="json").items() if name in _OF_RUN}  # fmt: skip
    ended = [row.status for row in record.slides]
    counted = {word: ended.count(word) for word in sorted(set(ended))}
    return {"verb": record.identity.verb, "sections": len(record.identity.inputs), "slides": counted, **kept}  # fmt: skip


def _as_json(value: Any) -> str:
    return json.dumps(_clean(value), indent=2) + "\n"


def _clean(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {str(k): _clean(v) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [_clean(v) for v in value]
    return without_names(value) if isinstance(value, str) else value


def _module(filename: str) -> str:
    """A file of a package as a dotted name, without the place where it is installed."""
    parts = Path(filename).with_suffix("").parts
    for top in ("site-packages", "src"):
        if top in parts:
            return ".".join(parts[len(parts) - parts[::-1].index(top) :])
    return parts[-1] if parts else ""
