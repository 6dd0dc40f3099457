"""The record of every slide in a folder of predictions, whichever process predicted it.

Each slide has a small file of its own below `slides/`, written whole by the process that predicts it.
`slides.csv` and run.json sum these files up. No lock is needed: who has written the sums reads the files
again, and writes once more if another process has added to them meanwhile. So the sums that are written
last hold every slide, in whatever order processes end, also at the same moment.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

import pandas as pd

from hespotex.errors import RunError, SlideError
from hespotex.predicting.options import SlideTask
from hespotex.results.outcome import SlideOutcome
from hespotex.slide import slide_key
from hespotex.storage.atomic import atomic_path, write_json
from hespotex.storage.content_keys import content_key
from hespotex.storage.disk_errors import disk_fields
from hespotex.storage.run_folder import RunDir

TABLE: Final = "slides.csv"
_FOLDER: Final = "slides"
_ENDED: Final = frozenset({"done", "skipped"})


@dataclass(frozen=True)
class _Entry:
    """What the file of one slide holds.

    Attributes:
        slide: key of its path.
        source: key of the input that named it.
        content: key of its content, where there is a prediction and the slide was still there.
    """

    outcome: SlideOutcome
    slide: str
    source: str
    content: str | None = None

    @property
    def ended(self) -> bool:
        """Whether there is a prediction."""
        return self.outcome.status in _ENDED


class Ledger:
    """What is known of the slides of one folder of predictions.

    Args:
        source: the input of this call: manifest, slide or folder of slides.
    """

    def __init__(self, run: RunDir, source: Path) -> None:
        self._run = run
        self._source = _place(source)
        self._is_there = source.exists()  # a mistyped path is no slide that failed
        self._mine: dict[str, SlideTask] = {}

    def open(self, tasks: Sequence[SlideTask], *, whole: bool) -> None:
        """Note the slides of this call as unfinished, unless more is known of them.

        Args:
            whole: they are all that the input holds: what failed before and is in it no more is forgotten.

        Raises:
            SlideError: the prediction of another slide has this name.
        """
        known = self._read()
        self._mine = {task.section_id: task for task in tasks}
        for name, task in self._mine.items():
            if name in known and _is_another(known[name], task):
                raise SlideError(
                    expected=f"a name for {task.slide} that no other slide in {self._run.path} has",
                    found=f"the prediction of another slide as {name}",
                    remedy=(
                        "choose another --out, or give a manifest "
                        "(section_id,patient_id,slide,expression,format) with ids of your own"
                    ),
                )
        for name in self._mine.keys() - known.keys():
            self.note(SlideOutcome(name, "unfinished", why="being predicted, or killed"))
        for name, entry in known.items():
            gone = whole and entry.source == self._source and name not in self._mine
            if gone and not entry.ended:
                self._file(name).unlink(missing_ok=True)

    def note(self, outcome: SlideOutcome) -> None:
        """Write down what came of a slide."""
        if not self._is_there:
            return
        slide = self._mine[outcome.section_id].slide
        entry = _Entry(outcome, _place(slide), self._source)
        if entry.ended:
            with suppress(SlideError):  # gone since it was predicted
                entry = replace(entry, content=slide_key(slide))
        self._write(entry)

    def publish(self, identity: Mapping[str, Any], details: Mapping[str, Any]) -> None:
        """Write `slides.csv` and run.json of all slides; finished if each of them has its prediction."""
        entries = self._read()
        while entries:
            rows = [entries[name].outcome.row() for name in sorted(entries)]
            with atomic_path(self._run.path / TABLE) as temporary:
                pd.DataFrame(rows).to_csv(temporary, index=False, errors="backslashreplace")
            whole = all(entry.ended for entry in entries.values())
            self._run.record(identity, {"slides": rows, **details}, finished=whole)
            before, entries = entries, self._read()
            if entries == before:
                return

    def _write(self, entry: _Entry) -> None:
        values = {**vars(entry), "outcome": entry.outcome.row()}
        write_json(self._file(entry.outcome.section_id), values)

    def _file(self, name: str) -> Path:
        # A name may be too long for a file, or no text: both are said of the slide later.
        return self._run.path / _FOLDER / f"{content_key(name)}.json"

    def _prediction(self, name: str) -> Path:
        return self._run.predictions / f"{name}.h5ad"

    def _read(self) -> dict[str, _Entry]:
        """All entries by the id of their slide; none of a prediction that somebody deleted."""
        entries = {}
        for path in (self._run.path / _FOLDER).glob("[0-9a-f]*.json"):
            try:
                values = json.loads(path.read_text(encoding="utf-8"))
                outcome = SlideOutcome(**values.pop("outcome"))
                entry = _Entry(outcome, **values)
            except FileNotFoundError:  # forgotten by another process just now
                continue
            except (OSError, ValueError, TypeError, KeyError, AttributeError) as error:
                raise RunError(
                    expected=f"the record of a slide in {path}",
                    **disk_fields(error, otherwise="delete that file"),
                ) from error
            if not entry.ended or self._prediction(outcome.section_id).is_file():
                entries[outcome.section_id] = entry
        return entries


def _is_another(known: _Entry, task: SlideTask) -> bool:
    """Whether a prediction is of another slide than a task: neither of the same file nor of the same content."""
    if not known.ended or known.slide == _place(task.slide):
        return False
    try:
        return known.content != slide_key(task.slide)
    except SlideError:
        return True  # it cannot be read: what is there is not of it


def _place(path: Path) -> str:
    # A key: folders of predictions are passed on, and name no folder of this machine.
    return content_key(str(path.resolve()))
