"""The command `hespotex`: its verbs, and how an error leaves the program."""

from __future__ import annotations

import os
import sys
import warnings
from pathlib import Path
from typing import Any, NoReturn

import typer

from hespotex import __version__
from hespotex.cli.adapt import adapt
from hespotex.cli.agree import agree
from hespotex.cli.cohorts import associate, cohort
from hespotex.cli.convert import convert
from hespotex.cli.doctor import doctor
from hespotex.cli.domains import domains
from hespotex.cli.encoders import encoders
from hespotex.cli.fetch import fetch
from hespotex.cli.inspect import inspect
from hespotex.cli.localize import localize
from hespotex.cli.models import import_checkpoint
from hespotex.cli.named_models import models
from hespotex.cli.runs import cross_validate, demo, predict, train
from hespotex.cli.terminal import print_error, print_warning
from hespotex.cli.view import view
from hespotex.cli.worth import compare, evaluate, report
from hespotex.errors import HESpotExError
from hespotex.registry import PluginWarning
from hespotex.storage.disk_errors import OF_DISKS, disk_words, number_of

app = typer.Typer(
    name="hespotex",
    help="Spot-level gene expression from H&E slides: train on your sections, know how good each gene is, predict.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
app.command("demo")(demo)
app.command("cross-validate")(cross_validate)
app.command("train")(train)
app.command("predict")(predict)
app.command("adapt")(adapt)
app.command("evaluate")(evaluate)
app.command("report")(report)
app.command("compare")(compare)
app.command("cohort")(cohort)
app.command("associate")(associate)
app.command("localize")(localize)
app.command("agree")(agree)
app.command("view")(view)
app.command("domains")(domains)
app.command("import-checkpoint")(import_checkpoint)
app.command("fetch")(fetch)
app.add_typer(models, name="models")
app.command("encoders")(encoders)
app.command("inspect")(inspect)
app.command("convert")(convert)
app.command("doctor")(doctor)


def _version(value: bool) -> None:
    if value:
        typer.echo(f"hespotex {__version__}")
        raise typer.Exit


@app.callback()
def _root(
    version: bool = typer.Option(
        False, "--version", callback=_version, is_eager=True, help="Print the version."
    ),
) -> None:
    """Spot-level gene expression from H&E slides."""


def main() -> None:
    """Run a verb; an error that the user can cure becomes one line and exit code 2.

    Any other ends in its traceback, a line that says where to tell of it, and exit code 1.
    """
    _write_any_name()
    _give_home()
    _warn_in_one_line()
    try:
        _run_and_keep_errors()
    except HESpotExError as error:
        print_error(str(error))
        sys.exit(2)
    except OSError as error:
        if isinstance(error.filename, (str, bytes)) and error.strerror is not None:
            print_error(
                f"expected to use {os.fsdecode(error.filename)}, found: {disk_words(error)}"
            )
        elif number_of(error) in OF_DISKS:  # while a file that is open already was used
            print_error(f"expected a disk that works, found: {disk_words(error, writing=True)}")
        else:
            _end_in_fault(error)
        sys.exit(2)
    except Exception as error:  # noqa: BLE001 - the last place before the user's eyes
        _end_in_fault(error)


def _end_in_fault(error: Exception) -> NoReturn:
    import traceback

    from hespotex.support import where_to_tell

    traceback.print_exception(error)
    print_error(f"this should not have happened. {where_to_tell()}")
    sys.exit(1)


def _run_and_keep_errors() -> None:
    """What fails is kept for `doctor --bundle`, and raised again."""
    try:
        app()
    except Exception as error:
        from hespotex.support import keep_error

        keep_error(error, sys.argv[1:])
        raise


def _write_any_name() -> None:
    """Names that the terminal's encoding lacks are escaped; the result of hours does not end in an error."""
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")


def _warn_in_one_line() -> None:
    """What another package adds and cannot be used is one line, without the place in our source."""
    usual = warnings.showwarning

    def show(message: Warning | str, category: type[Warning], *where: Any, **more: Any) -> None:
        if issubclass(category, PluginWarning):
            print_warning(str(message))
        else:
            usual(message, category, *where, **more)

    warnings.showwarning = show


def _give_home() -> None:
    """A user without a home (a bare number in a container): libraries keep their caches beside ours."""
    try:
        Path.home()
    except RuntimeError:
        if cache := os.environ.get("HESPOTEX_CACHE"):
            os.environ["HOME"] = cache
