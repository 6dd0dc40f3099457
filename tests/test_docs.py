"""What the pages name is there: links, options, configuration keys, examples."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import typer
from pydantic import BaseModel

from hespotex.cli.main import app
from hespotex.config import RunConfig

ROOT = Path(__file__).parents[1]
PAGES = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md")])
# Options of pip, ruff, mypy and of the scripts in benchmarks/.
_OF_OTHERS = {"index-url", "strict", "only", "list", "markdown", "again", "data", "full", "help"}
# Of the benchmarks, and of sbatch.
_OF_OTHERS |= {"version", "image"}  # of the command itself, and of Space Ranger
_OF_OTHERS |= {"part", "array", "wait", "job-name", "cpus-per-task", "gpus", "output"}
# In the pages by a name for all of them.
_ALL_TOGETHER = {"model", "published"}


def _anchor(heading: str) -> str:
    return re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-")


@pytest.mark.parametrize("page", PAGES, ids=lambda p: p.name)
def test_every_link_of_a_page_leads_somewhere(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    for link in re.findall(r"\]\(([^)\s]+)\)", text):
        if link.startswith("http"):
            continue
        name, _, anchor = link.partition("#")
        target = (page.parent / name) if name else page
        assert target.exists(), link
        if anchor:
            headings = re.findall(r"^#+ (.*)$", target.read_text(encoding="utf-8"), re.MULTILINE)
            assert anchor in map(_anchor, headings), link


def test_every_file_that_contributing_names_exists() -> None:
    text = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    named = set(re.findall(r"`([a-z_/]+(?:\.py|\.md|/))`", text))
    assert len(named) > 10
    for name in named:
        assert any((place / name).exists() for place in (ROOT, ROOT / "src" / "hespotex")), name


@pytest.mark.parametrize("page", PAGES, ids=lambda p: p.name)
def test_every_option_that_a_page_names_exists(page: Path) -> None:
    verbs = typer.main.get_command(app).commands.values()  # type: ignore[attr-defined]
    known = {
        option
        for verb in verbs
        for command in (verb, *getattr(verb, "commands", {}).values())
        for parameter in command.params
        for option in (*parameter.opts, *parameter.secondary_opts)
    }
    text = re.sub(r"--[^\n]*?-->", "", page.read_text(encoding="utf-8"))  # arrows of drawings
    named = set(re.findall(r"(?<![\w-])--[a-z][a-z-]+", text))
    assert named - known - {f"--{name}" for name in _OF_OTHERS} == set()


def test_every_verb_and_configuration_key_stands_on_the_page_of_usage() -> None:
    text = (ROOT / "docs" / "usage.md").read_text(encoding="utf-8")
    for verb in typer.main.get_command(app).commands:  # type: ignore[attr-defined]
        assert f"| `{verb}` |" in text, verb
    for name, field in RunConfig.model_fields.items():
        kind = field.annotation
        if not (isinstance(kind, type) and issubclass(kind, BaseModel)):
            assert f"| `{name}` |" in text, name
            continue
        rows = [row for row in text.splitlines() if row.startswith(f"| `{name}.")]
        keys = ["*"] if name in _ALL_TOGETHER else list(kind.model_fields)
        for key in keys:
            assert any(re.search(rf"[.]{re.escape(key)}`", row) for row in rows), f"{name}.{key}"


_OLD_NAMES = re.compile(
    r"PCC share|share PCC|depth removed|depth-free|"
    r"\bshares? of (the|a) genes?\b|(measured|predicted) shares? (of|against)|\blog shares? (vs|against)\b|\bShare\b</b>",
    re.IGNORECASE,
)
_TEXTS = sorted(
    path
    for folder, endings in (
        ("src", ("py", "j2", "js", "css")), ("docs", ("md",)), ("benchmarks", ("py",)),
    )
    for ending in endings
    for path in (ROOT / folder).rglob(f"*.{ending}")
)  # fmt: skip


def test_composition_has_one_name() -> None:
    for path in (*_TEXTS, ROOT / "README.md", ROOT / "CHANGELOG.md"):
        found = _OLD_NAMES.search(path.read_text(encoding="utf-8"))
        assert found is None, f"{path.relative_to(ROOT)}: {found and found[0]}"


@pytest.mark.parametrize("page", PAGES, ids=lambda p: p.name)
def test_a_page_that_speaks_of_composition_explains_it_where_it_does_first(page: Path) -> None:
    text = re.sub(r"^```.*?^```", "", page.read_text(encoding="utf-8"), flags=re.S | re.M)
    text = re.sub(r"`[^`\n]*`", "", text)
    parts = [" ".join(part.split()) for part in text.split("\n\n")]
    first = next((k for k, part in enumerate(parts) if "omposition" in part), None)
    if first is None or page.name == "CHANGELOG.md":  # a list of names
        return
    near = " ".join(parts[first : first + 3])
    assert "a gene's part of all counts of a spot" in near, parts[first][:200]
