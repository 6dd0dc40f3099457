"""Tables of a run as CSV files: what a file holds stands in one value, which reads and writes it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from hespotex.errors import RunError
from hespotex.storage.atomic import atomic_path
from hespotex.storage.disk_errors import disk_fields

if TYPE_CHECKING:
    import pandas as pd

_REMEDY = "make the run again"


@dataclass(frozen=True)
class Table:
    """Schema of a CSV file.

    Attributes:
        columns: names in their order, and what they hold: str, int, float or bool. A file may lack some and have others.
        needed: columns without which it is none of these files.
        float_format: of numbers; None: every digit.
    """

    columns: Mapping[str, type]
    needed: tuple[str, ...]
    float_format: str | None = None

    def is_text(self, name: str) -> bool:
        """Whether a column holds words or names."""
        return self.columns.get(name) is str

    def read(self, path: Path) -> pd.DataFrame:
        """The rows of a file; a name such as NA stays a name, a number that does not exist is NaN.

        Raises:
            RunError: it is missing, damaged, or another table.
        """
        import pandas as pd

        expected = f"a table of a run in {path}"
        try:
            header = pd.read_csv(path, nrows=0).columns
            text = [name for name in header if self.is_text(name)]
            rows = pd.read_csv(
                path,
                dtype=dict.fromkeys(text, str),
                keep_default_na=False,
                na_values={name: [""] for name in header if name not in text},
                float_precision="round_trip",
            )
        except (OSError, ValueError) as error:
            raise RunError(expected=expected, **disk_fields(error, otherwise=_REMEDY)) from error
        if lacking := [name for name in self.needed if name not in rows]:
            raise RunError(
                expected=f"column {lacking[0]} in {path}",
                found=", ".join(map(str, header[:6])),
                remedy=_REMEDY,
            )
        return rows

    def write(self, path: Path, rows: pd.DataFrame) -> None:
        """Write a file, whole or not at all; columns of no name in the schema come last.

        Raises:
            RunError: the folder cannot be written.
        """
        known = [name for name in self.columns if name in rows]
        ordered = rows[[*known, *(name for name in rows if name not in self.columns)]]
        with atomic_path(path) as temporary:
            ordered.to_csv(temporary, index=False, float_format=self.float_format)
