"""The list of vision encoders that lazyslide-models registers, without importing it.

Importing lazyslide-models loads torch, timm and transformers, which takes longer than the whole
listing may. Its registrations are decorators with literal arguments: they are read from its source
files. What an argument does not say literally stays unknown here; `get_encoder` asks the real one.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib import util
from pathlib import Path
from typing import Any

from hespotex.encoders.base import EncoderInfo

PREFIX = "lazyslide:"
_PACKAGE = "lazyslide_models"
_TASKS = {"vision", "multimodal"}
_BASE_FILE = "base.py"


@dataclass(frozen=True)
class _Class:
    name: str
    bases: tuple[str, ...]
    methods: frozenset[str]
    in_base_file: bool
    registration: Mapping[str, Any] | None


def list_lazyslide(cached: Sequence[str]) -> list[EncoderInfo]:
    """One line for every encoder of single patches, in the order of the names.

    Args:
        cached: `owner/name` of the repositories in the local cache of the hub.
    """
    spec = util.find_spec(_PACKAGE)
    if spec is None or not spec.submodule_search_locations:
        return [
            EncoderInfo(
                f"{PREFIX}<name>",
                None,
                None,
                None,
                "see its page",
                False,
                "PyPI lazyslide-models",
                "pip install 'hespotex[lazyslide]' first",
            )
        ]
    classes = {c.name: c for c in _classes(Path(spec.submodule_search_locations[0]))}
    here = {repository.lower() for repository in cached}
    rows = []
    for found in classes.values():
        values = found.registration
        if values and _TASKS & set(values["task"]) and _encodes_patches(found, classes):
            rows += [_row(key, values, here) for key in values["key"]]
    return sorted(rows, key=lambda row: row.name)


def _row(key: str, values: Mapping[str, Any], here: set[str]) -> EncoderInfo:
    url = values.get("hf_url") or values.get("github_url") or ""
    repository = str(url).removeprefix("https://huggingface.co/").strip("/").lower()
    licence = values.get("license") or "see its page"
    notes = ["gated: needs a login"] if values.get("is_gated") is True else []
    if values.get("commercial") is False:
        notes.append("no commercial use")
    return EncoderInfo(
        name=PREFIX + key,
        dim=values.get("encode_dim") if isinstance(values.get("encode_dim"), int) else None,
        size_px=None,
        mpp=None,
        licence=licence if isinstance(licence, str) else ", ".join(map(str, licence)),
        weights_here=repository in here,
        source=str(url),
        note="; ".join(notes),
    )


def _encodes_patches(found: _Class, classes: Mapping[str, _Class]) -> bool:
    """A class between it and the package's abstract bases defines `encode_image`."""
    chain = [found, *_ancestors(found, classes)]
    is_timm = any(c.name == "TimmModel" for c in chain)
    return is_timm or any("encode_image" in c.methods for c in chain if not c.in_base_file)


def _ancestors(found: _Class, classes: Mapping[str, _Class]) -> Iterator[_Class]:
    for base in found.bases:
        if base in classes:
            yield classes[base]
            yield from _ancestors(classes[base], classes)


def _classes(folder: Path) -> Iterator[_Class]:
    files = [folder / _BASE_FILE, *sorted((folder / "vision").glob("*.py"))]
    for file in [*files, *sorted((folder / "multimodal").glob("*.py"))]:
        try:
            tree = ast.parse(file.read_text(encoding="utf-8"))
        except (OSError, SyntaxError, UnicodeDecodeError):
            continue
        names: dict[str, Any] = {}
        for node in tree.body:
            if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name):
                names[node.targets[0].id] = _value(node.value, names)
            elif isinstance(node, ast.ClassDef):
                yield _Class(
                    node.name,
                    tuple(b.id for b in node.bases if isinstance(b, ast.Name)),
                    frozenset(n.name for n in node.body if isinstance(n, ast.FunctionDef)),
                    file.name == _BASE_FILE,
                    _registration(node, names),
                )


def _registration(node: ast.ClassDef, names: Mapping[str, Any]) -> dict[str, Any] | None:
    for call in node.decorator_list:
        if not (isinstance(call, ast.Call) and getattr(call.func, "id", "") == "register"):
            continue
        values: dict[str, Any] = {}
        if call.args:
            values["key"] = _value(call.args[0], names)
        for keyword in call.keywords:
            value = _value(keyword.value, names)
            if keyword.arg is not None:
                values[keyword.arg] = value
            elif isinstance(value, dict):
                values.update(value)
        values["key"] = _as_list(values.get("key"))
        values["task"] = _as_list(values.get("task"))
        return values
    return None


def _value(node: ast.expr, names: Mapping[str, Any]) -> Any:
    """The value of a literal, of a name bound to one, or of `ModelTask.x` (its name); else None."""
    if isinstance(node, ast.Name):
        return names.get(node.id)
    if isinstance(node, ast.Attribute):
        return node.attr
    if isinstance(node, (ast.List, ast.Tuple)):
        return [_value(item, names) for item in node.elts]
    if isinstance(node, ast.Dict):
        merged: dict[Any, Any] = {}
        for key, item in zip(node.keys, node.values, strict=True):
            value = _value(item, names)
            if key is not None:
                merged[_value(key, names)] = value
            elif isinstance(value, dict):
                merged.update(value)
        return merged
    try:
        return ast.literal_eval(node)
    except ValueError:
        return None


def _as_list(value: Any) -> list[Any]:
    return [] if value is None else value if isinstance(value, list) else [value]
