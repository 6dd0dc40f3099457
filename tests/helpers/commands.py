"""The real command in this process: what it printed on both streams and its exit code."""

from __future__ import annotations

import io
import json
import sys
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from hespotex.cli.main import main

_QUICK = ["--threads", "1", "--device", "cpu", "--set", "panel.n_top=20", "--set", "model.epochs=1"]
_QUICK += ["--set", "model.ensemble=1", "--set", "model.hidden=8", "--set", "model.n_components=8"]


@dataclass(frozen=True)
class Said:
    """What a command left behind."""

    exit_code: int
    stdout: str
    stderr: str

    @property
    def output(self) -> str:
        """Both streams."""
        return self.stdout + self.stderr


def command(*arguments: object) -> Said:
    """Run `hespotex ARGUMENTS` as the shell would, without a process of its own."""
    with pytest.MonkeyPatch.context() as patch, redirect_stdout(io.StringIO()) as out, \
            redirect_stderr(io.StringIO()) as err:  # fmt: skip
        patch.setattr(sys, "argv", ["hespotex", *(str(a) for a in arguments)])
        with pytest.raises(SystemExit) as left:
            main()
    return Said(int(left.value.code or 0), out.getvalue(), err.getvalue())


def run(*arguments: object, quick: bool = True) -> Said:
    """The real command, with a small model that is fitted in a moment."""
    return command(*arguments, *(_QUICK if quick else []))


def metrics_of(folder: Path) -> dict[str, Any]:
    """metrics.json, which holds no number that JSON does not know."""
    text = (folder / "metrics.json").read_text()
    assert "NaN" not in text
    return dict(json.loads(text))


def refusal(result: Said) -> str:
    """The one line with which a command ended; it says what was expected and what was found."""
    assert result.exit_code == 2, result.output
    (line,) = [x for x in result.stderr.splitlines() if x.startswith("hespotex: ")]
    assert "expected" in line
    assert "found" in line
    assert "Traceback" not in result.output
    return line
