"""The folder of one run: whose it is, and whether it is finished."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from hespotex.errors import RunError
from hespotex.storage.clock import versions
from hespotex.storage.differences import differing_keys
from hespotex.storage.hdf5 import check_locks
from hespotex.storage.run_record import Identity, RunRecord


class RunDir:
    """The output folder of one run.

    `run.json` says which configuration and inputs it belongs to and whether it is finished.

    Args:
        path: the folder; made when first written.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._claimed_here = False

    @property
    def run_json(self) -> Path:
        """Configuration, inputs, versions, times; `status` is `running` or `finished`."""
        return self.path / "run.json"

    @property
    def metrics_json(self) -> Path:
        """What a scored run found."""
        return self.path / "metrics.json"

    @property
    def evidence_json(self) -> Path:
        """Every gene's evidence, as a model file takes it over."""
        return self.path / "evidence.json"

    @property
    def genes_csv(self) -> Path:
        """Scores of every gene in every held-out section."""
        return self.path / "genes.csv"

    @property
    def gene_sets_csv(self) -> Path:
        """The same of gene sets, where some were given."""
        return self.path / "gene_sets.csv"

    @property
    def absent_genes_csv(self) -> Path:
        """Measured genes that no prediction holds, and why."""
        return self.path / "absent_genes.csv"

    @property
    def slides_csv(self) -> Path:
        """What came of every slide."""
        return self.path / "slides.csv"

    @property
    def predictions(self) -> Path:
        """Folder of one h5ad per section."""
        return self.path / "predictions"

    def predicted(self) -> list[Path]:
        """Files of predictions, sorted; what a killed process left half-written has a hidden name and is none."""
        return sorted(p for p in self.predictions.glob("*.h5ad") if not p.name.startswith("."))

    @property
    def figures(self) -> Path:
        """Folder of pictures."""
        return self.path / "figures"

    @property
    def report(self) -> Path:
        """The page that sums up a scored run."""
        return self.path / "report.html"

    @property
    def work(self) -> Path:
        """Folder of intermediate results that let an interrupted run go on."""
        return self.path / "work"

    def begin(self, identity: Identity | Mapping[str, Any]) -> bool:
        """Claim the folder for a run; True if the very same run is finished here already.

        Args:
            identity: nested values that the result depends on (verb, configuration, input keys).

        Raises:
            RunError: the folder holds another run (the message names what differs), or HDF5 can lock no file there.
        """
        mine = RunRecord(status="running", identity=identity)
        if self.path.exists() and not self.path.is_dir():
            raise RunError(expected="a folder for the output", found=f"a file: {self.path}")
        known = RunRecord.read_if_there(self.run_json)
        if known is None or known.status != "finished":
            check_locks(self.path if self.path.exists() else self._nearest())
        if known is None:
            mine.write(self.run_json)
            self._claimed_here = True
            return False
        rows = differing_keys(known.identity.plain(), mine.identity.plain())
        if rows:
            shown = "; ".join(f"{key}: {old!r} there, {new!r} now" for key, old, new in rows[:6])
            more = f" (+{len(rows) - 6} more)" if len(rows) > 6 else ""
            raise RunError(
                f"{self.path} holds a run with another configuration: {shown}{more}",
                remedy="choose another --out, or delete that folder",
            )
        return known.status == "finished"

    @contextmanager
    def withdrawn_on_error(self) -> Iterator[None]:
        """Take back a claim that `begin` made here if the block fails before any result is kept.

        A setting that cannot work, such as an encoder without weights, must not bar its correction.
        """
        try:
            yield
        except BaseException:
            with suppress(OSError):
                if self._claimed_here and list(self.path.iterdir()) == [self.run_json]:
                    self.run_json.unlink()
                    self.path.rmdir()
            raise

    def finish(self, identity: Identity | Mapping[str, Any], details: Mapping[str, Any]) -> None:
        """Mark the run as finished; everything else must be written before."""
        self.record(identity, details, finished=True)

    def record(
        self, identity: Identity | Mapping[str, Any], details: Mapping[str, Any], *, finished: bool
    ) -> None:
        """Write what is known of the run so far; `details` are other fields of `RunRecord`."""
        RunRecord(
            status="finished" if finished else "running",
            identity=identity,
            **details,
            versions=versions(),
        ).write(self.run_json)

    def _nearest(self) -> Path:
        """The nearest folder above this one that exists: a refusal leaves nothing behind."""
        return next((folder for folder in self.path.absolute().parents if folder.is_dir()), Path())
