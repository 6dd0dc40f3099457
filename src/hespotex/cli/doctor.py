"""Verb `doctor`: what this machine offers, and what each missing thing costs."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from hespotex.cli import options, terminal
from hespotex.errors import ConfigError

if TYPE_CHECKING:
    from hespotex.doctor import Check

_WORDS = {"ok": "ok", "info": "note", "warning": "missing", "error": "broken"}
_STYLES = {"ok": "green", "info": "green", "warning": "yellow", "error": "red"}


@options.idle("device", "threads", "seed", "verbose")
def doctor(
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")] = False,
    bundle: Annotated[
        Path | None,
        typer.Option(
            "--bundle",
            metavar="FILE.zip",
            help="Write versions, this machine, a run's settings and the last error for somebody who helps; no data, no names, no paths.",
        ),
    ] = None,
    run: Annotated[
        Path | None,
        typer.Option("--run", help="Folder of the run whose settings go into --bundle."),
    ] = None,
    quiet: options.Quiet = False,
) -> None:
    """Say what this machine has for hespotex and what each missing thing costs: versions, cores,
    memory, GPU, slide readers, encoders, caches. Exit code 2 where something essential is broken,
    else 0. --quiet shows what is missing or broken alone.

    Example: hespotex doctor
    """
    from dataclasses import asdict

    from hespotex.doctor import examine, is_broken
    from hespotex.support import write_bundle

    if run is not None and bundle is None:
        raise ConfigError(expected="--run beside --bundle FILE.zip", found="no --bundle")
    checks = examine()
    if bundle is not None:
        terminal.print_paths({"bundle": write_bundle(bundle, checks, run)})
        return
    if as_json:
        typer.echo(json.dumps([asdict(check) for check in checks], indent=2))
    else:
        _print([c for c in checks if not (quiet and c.level in {"ok", "info"})])
    raise typer.Exit(2 if is_broken(checks) else 0)


def _print(checks: Sequence[Check]) -> None:
    from rich.table import Table
    from rich.text import Text

    table = Table(title="This machine", title_justify="left", title_style="bold")
    for name in ("", "what", "found", "what it costs"):
        table.add_column(name, overflow="fold")
    for check in checks:
        word = Text(_WORDS[check.level], style=_STYLES[check.level])
        table.add_row(word, *(Text(cell) for cell in (check.name, check.found, check.cost)))
    console = terminal.stdout()
    console.print(table if checks else "nothing is missing or broken")
