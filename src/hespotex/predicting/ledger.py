"""The record of every slide in a folder of predictions, whichever process predicted it.

Each slide has a small file of its own below `slides/`, written whole by the process that predicts it.
`slides.csv` and run.json sum these files up. No lock is needed: after writing the sums, a process reads the files
again, and writes once more if another process has added to them meanwhile. So the last sums hold every slide, in
whatever order processes end, even at the same moment.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, Final

from hespotex import keys
from hespotex.errors import SlideError
from hespotex.predicting.options import SlideTask
from hespotex.results.outcome import SlideOutcome
from hespotex.results.places import note_place
from hespotex.slide import slide_key
from hespotex.storage.content_keys import content_key
from hespotex.storage.run_folder import RunDir
from hespotex.storage.run_record import Identity, SlideRecord, write_slides

_FOLDER: Final = "slides"


class Ledger:
    """The records of all slides of one folder of predictions.

    Args:
        source: the input of this call: manifest, slide or folder of slides.
    """

    def __init__(self, run: RunDir, source: Path) -> None:
        self._run = run
        self._source = _place(source)
        self._is_there = source.exists()  # a mistyped path is no slide that failed
        self._mine: dict[str, SlideTask] = {}

    def open(self, tasks: Sequence[SlideTask], *, whole: bool) -> None:
        """Note the slides of this call as unfinished, except those that have a record already.

        Args:
            whole: they are all that the input holds: records of failed slides that it holds no more are deleted.

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
            if gone and not entry.outcome.ended:
                self._file(name).unlink(missing_ok=True)

    def note(self, outcome: SlideOutcome) -> None:
        """Write down the outcome of a slide."""
        if not self._is_there:
            return
        slide, row, content = self._mine[outcome.section_id].slide, outcome.row(), None
        if row.ended:
            with suppress(SlideError):  # gone since it was predicted
                content = slide_key(slide)
                note_place(content, slide)
        entry = SlideRecord(outcome=row, slide=_place(slide), source=self._source, content=content)
        entry.write(self._file(row.section_id))

    def publish(self, identity: Identity | Mapping[str, Any], details: Mapping[str, Any]) -> None:
        """Write `slides.csv` and run.json of all slides; finished if each of them has its prediction.

        Args:
            details: values of run.json; what it says of the level of slides stands in every row of the table, too.
        """
        entries = self._read()
        while entries:
            rows = [entries[name].outcome for name in sorted(entries)]
            write_slides(self._run.slides_csv, rows, str(details.get(keys.LEVEL_SENTENCE) or ""))
            whole = all(row.ended for row in rows)
            self._run.record(identity, {"slides": rows, **details}, finished=whole)
            before, entries = entries, self._read()
            if entries == before:
                return

    def _file(self, name: str) -> Path:
        # A name may be too long for a file, or no text: both are said of the slide later.
        return self._run.path / _FOLDER / f"{content_key(name)}.json"

    def _prediction(self, name: str) -> Path:
        return self._run.predictions / f"{name}.h5ad"

    def _read(self) -> dict[str, SlideRecord]:
        """All entries by the id of their slide; none of a prediction that somebody deleted."""
        entries = {}
        for path in (self._run.path / _FOLDER).glob("[0-9a-f]*.json"):
            entry = SlideRecord.read_if_there(path)
            if entry is None:  # forgotten by another process just now
                continue
            name = entry.outcome.section_id
            if not entry.outcome.ended or self._prediction(name).is_file():
                entries[name] = entry
        return entries


def _is_another(known: SlideRecord, task: SlideTask) -> bool:
    """Whether a prediction is of another slide than a task: neither of the same file nor of the same content."""
    if not known.outcome.ended or known.slide == _place(task.slide):
        return False
    try:
        return known.content != slide_key(task.slide)
    except SlideError:
        return True  # it cannot be read: what is there is not of it


def _place(path: Path) -> str:
    # A key: folders of predictions are passed on, and name no folder of this machine.
    return content_key(str(path.resolve()))
