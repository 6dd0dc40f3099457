"""The tables in docs/performance.md: written from benchmarks/results/latest.json between two marks."""

from __future__ import annotations

import json
from typing import Any

from benchmarks.harness import RESULTS, ROOT

PAGE = ROOT / "docs" / "performance.md"
_START, _END = (
    "<!-- numbers: written by `python -m benchmarks.run --markdown` -->",
    "<!-- end of numbers -->",
)
_HEADINGS = {"quick": "`make bench` and `make bench-trust`", "full": "`make bench-full`"}


def write_page() -> str:
    """Put the tables of latest.json into the page; returns them."""
    whole = json.loads((RESULTS / "latest.json").read_text(encoding="utf-8"))
    text = "\n\n".join(_of_mode(mode, whole[mode]) for mode in ("quick", "full") if mode in whole)
    page = PAGE.read_text(encoding="utf-8")
    head, _, rest = page.partition(_START)
    _, _, tail = rest.partition(_END)
    PAGE.write_text(f"{head}{_START}\n\n{text}\n\n{_END}{tail}", encoding="utf-8")
    return text


def _of_mode(mode: str, entry: dict[str, Any]) -> str:
    machine = entry["machine"]
    versions = machine["versions"]
    named = ", ".join(
        f"{n} {versions[n]}" for n in ("python", "torch", "openvino", "numpy") if n in versions
    )
    loads = [
        p[k]
        for c in entry["cases"].values()
        for p in c["parts"].values()
        for k in ("load_before", "load_after")
    ]
    lines = [
        f"### {_HEADINGS[mode]}",
        "",
        f"{machine['processor']}, {machine['threads_used']} of {machine['cores']} cores, {machine['memory_gib']} GiB; {named}; "
        f"{entry['finished'][:10]}, of the last call; cases that it did not run keep their earlier figures. Load of the machine: up to {max(loads, default=0):.1f}.",
    ]
    for case in entry["cases"].values():
        for table in case["tables"]:
            lines += [
                "",
                f"**{table['title']}**",
                "",
                _line([*table["columns"], "met"]),
                _line(["---"] * 5),
            ]
            for row in table["rows"]:
                met = {None: "", True: "yes", False: "**no**"}[row["met"]]
                what = row["what"].strip() + (f" ({row['note']})" if row["note"] else "")
                lines.append(_line([what, row["found"], row["beside"], row["bar"], met]))
            lines += [text for note in table["notes"] for text in ("", note)]
    return "\n".join(lines)


def _line(cells: list[str]) -> str:
    return "| " + " | ".join(c.replace("|", "/") for c in cells) + " |"
