"""The page of the configuration names every key once, with its default."""

from __future__ import annotations

import re
from pathlib import Path

from pydantic import BaseModel

from hespotex.config import RunConfig

PAGE = Path(__file__).parents[2] / "docs" / "config.md"


def _defaults() -> dict[str, object]:
    found: dict[str, object] = {}
    for part, field in RunConfig.model_fields.items():
        kind = field.annotation
        if isinstance(kind, type) and issubclass(kind, BaseModel):
            stage = kind()
            found |= {f"{part}.{name}": getattr(stage, name) for name in kind.model_fields}
        else:
            found[part] = field.default
    return found


def test_every_key_stands_once_on_the_page_of_the_configuration_with_its_default_and_a_reason() -> (
    None
):
    rows = re.findall(
        r"^\| `([\w.]+)` \| (.*?) \| (.+) \|$", PAGE.read_text(encoding="utf-8"), re.M
    )
    stated = {key: default for key, default, _ in rows}
    assert len(rows) == len(stated)
    assert [key for key, _, _ in rows] == list(_defaults())
    for key, value in _defaults().items():
        if value in (None, (), {}):
            assert stated[key].partition(":")[0] == "none", key
        elif isinstance(value, bool | str):
            assert stated[key].strip("`") == str(value).lower(), key
        else:
            assert float(stated[key]) == value, key
