"""Configuration as nested values: presets, KEY=VALUE overrides, errors in one line."""

from __future__ import annotations

import tomllib
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from pydantic import ValidationError

from hespotex.errors import ConfigError


def expect_kind(name: str, value: object, kind: type) -> None:
    """Refuse an argument of another kind than a function takes.

    Raises:
        ConfigError: names both kinds.
    """
    if not isinstance(value, kind):
        raise ConfigError(
            expected=f"{name} as hespotex.{kind.__name__}(...)",
            found=f"{type(value).__name__} {str(value)[:60]!r}",
        )


def listed_names(name: str, value: Sequence[str]) -> tuple[str, ...]:
    """Names in a list; a text would be taken letter by letter.

    Raises:
        ConfigError: a single text, or no list.
    """
    if not isinstance(value, str | Iterable):
        raise ConfigError(expected=f"a list of names for {name}", found=f"{value!r}")
    if isinstance(value, str):
        raise ConfigError(
            expected=f"a list of names for {name}",
            found=f"the text {value!r}",
            remedy=f"write {value.split(',')!r}",
        )
    return tuple(value)


def deep_copy(values: Mapping[str, Any]) -> dict[str, Any]:
    """Nested mappings as new dictionaries; other values as they are."""
    return {k: deep_copy(v) if isinstance(v, Mapping) else v for k, v in values.items()}


def under(preset: Mapping[str, Any], values: Mapping[str, Any]) -> dict[str, Any]:
    """The values, with the preset's where they say nothing."""
    merged = deep_copy(preset)
    for key, value in values.items():
        below = merged.get(key)
        if isinstance(below, Mapping) and isinstance(value, Mapping):
            merged[key] = under(below, value)
        else:
            merged[key] = value
    return merged


def apply_override(values: dict[str, Any], override: str) -> None:
    """Set what `KEY=VALUE` of --set says, in place.

    Raises:
        ConfigError: no such form, or a part of the key is a value.
    """
    key, separator, text = override.partition("=")
    if not separator or not key.strip():
        raise ConfigError(
            expected="KEY=VALUE after --set", found=f"{override!r}", remedy="e.g. model.epochs=20"
        )
    set_key(values, key.strip(), _parse_value(text.strip()), f"--set {override}")


def set_key(values: dict[str, Any], key: str, value: Any, where: str) -> None:
    """Set a dotted key of nested dictionaries, in place; `where` begins the error's text.

    Raises:
        ConfigError: a part of the key is a value.
    """
    *parents, leaf = key.split(".")
    for parent in parents:
        child = values.setdefault(parent, {})
        if not isinstance(child, dict):
            raise ConfigError(f"{where}: {parent} is a value, not a table of keys")
        values = child
    values[leaf] = value


def parse_grid(texts: Sequence[str]) -> dict[str, tuple[Any, ...]]:
    """`KEY=V1,V2` of --search as a grid; values are TOML, or plain words.

    Raises:
        ConfigError: no such form, or a key twice.
    """
    grid: dict[str, tuple[Any, ...]] = {}
    for text in texts:
        key, separator, values = (part.strip() for part in text.partition("="))
        if not separator or not key or not values or key in grid:
            raise ConfigError(
                expected="KEY=V1,V2 after --search, every key once",
                found=f"{text!r}",
                remedy="e.g. model.hidden=64,128",
            )
        listed = _parse_value(f"[{values}]")
        if isinstance(listed, str):
            listed = [_parse_value(value.strip()) for value in values.split(",")]
        grid[key] = tuple(listed)
    return grid


def _parse_value(text: str) -> Any:
    if text.lower() in {"none", "null"}:
        return None
    try:
        return tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        return text


def one_line(error: ValidationError) -> str:
    """What pydantic found wrong, in one line that names every key."""
    parts = []
    for item in error.errors(include_url=False):
        key = ".".join(str(p) for p in item["loc"])
        if item["type"] == "extra_forbidden":
            parts.append(f"unknown configuration key {key!r}")
        else:
            parts.append(f"configuration key {key!r}: {item['msg']}, found {item['input']!r}")
    return "; ".join(parts)
