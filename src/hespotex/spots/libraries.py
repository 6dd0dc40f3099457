"""Several sections in one table told from one, by what cannot stand twice in a section.

Each image has pixels of its own: spots of two sections in one table would be laid on one of them.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import pandas as pd

from hespotex import keys
from hespotex.errors import SpotTableError, shorten
from hespotex.storage.safe_names import shown_name

# Columns that say of which library (section) a spot is, the plainest first.
COLUMNS: Final = (
    "library_id", "library", "sample", "sample_id", "sampleid", "sample_name", "section_id", "section", "slide",
    "slide_id", "slice", "capture_area", "orig.ident", "batch",
)  # fmt: skip
# And what they are called otherwise, as in `patient-section`.
_ABOUT: Final = re.compile(
    r"(?i)librar|sample|specimen|section|slide|slice|capture.?area|orig.?ident|batch|'region'"
)
ENDINGS: Final = "the endings of barcodes"
_MOST: Final = 64  # libraries of one table; a column of more values says something else
# Of all spots: rounding or joining may bring a few together, two sections share far more.
_REPEATED: Final = 0.01
_COINCIDENT: Final = 0.05
_X: Final = "x of a position"
_STEMS: Final = (r"(?<![A-Za-z])[ACGTN]{8,}(?![A-Za-z])", r"s_[0-9]{3}um_[0-9]+_[0-9]+")
_PLACES: Final = (("array_row", "array_col"), (keys.ARRAY_Y, keys.ARRAY_X))
_SHOWN: Final = 6

Text = npt.NDArray[np.str_]


@dataclass(frozen=True)
class Libraries:
    """Several sections in one table.

    Attributes:
        why: how they are known, in words.
        where: what tells them apart; empty where nothing does.
        of_spot: (n,) library of every spot; None where nothing tells.
    """

    why: str
    where: str = ""
    of_spot: Text | None = None

    @property
    def names(self) -> list[str]:
        """The libraries, in order."""
        return [] if self.of_spot is None else sorted(set(self.of_spot.tolist()))

    def error(self, source: str) -> SpotTableError:
        """What to say of a table where none was chosen."""
        if self.of_spot is None:
            return SpotTableError(
                expected=f"one section in {source}",
                found=f"several: {self.why}",
                remedy="write one table a section",
            )
        return SpotTableError(
            expected=f"one section in {source}",
            found=f"{len(self.names)} libraries in {self.where} ({_listed(self.names)}): {self.why}",
            remedy="choose one with the manifest's column library (inspect and convert: --library)",
        )

    def unnamed(self, source: str) -> SpotTableError:
        """What to say where a column tells them whose name is not about libraries: none can be chosen by it."""
        return SpotTableError(
            expected=f"one section in {source}",
            found=f"{len(self.names)} that {self.where} tells apart ({_listed(self.names)}): {self.why}",
            remedy=(
                "name this column library_id, and choose one with the manifest's column library (inspect "
                "and convert: --library)"
            ),
        )


def one_library(
    names: Sequence[str] | Text,
    obs: pd.DataFrame | None,
    xy: npt.NDArray[np.float64] | None,
    *,
    source: str,
    wanted: str | None = None,
    known: Iterable[str] = (),
) -> npt.NDArray[np.bool_]:
    """(n,) which spots are of the one section that is meant: all of a table of one section.

    Args:
        names: of the n spots, as stored; they may stand there twice.
        obs: (n, ...) further columns.
        xy: (n, 2) positions.
        wanted: the library that the user names.
        known: libraries that the file itself lists.

    Raises:
        SpotTableError: the table holds several and none is named, or not the one that is.
    """
    found = find_libraries(names, obs, xy, known)
    if wanted is None:
        if found is not None:
            raise found.error(source)
        return np.ones(len(names), dtype=bool)
    options = _choices(found, names, obs, xy, known)
    for _, of_spot in options:
        kept = of_spot == wanted
        if kept.any():
            part = None if obs is None else obs[kept]
            again = find_libraries(np.asarray(names)[kept], part, None if xy is None else xy[kept])
            if again is not None:
                raise again.error(f"library {wanted} of {source}")
            return np.asarray(kept)
    own = {*known, *_only_names(names, obs)} if found is None else set()
    if wanted in own:
        return np.ones(len(names), dtype=bool)
    there = found.names if found is not None else sorted(own.union(*(o for _, o in options)))
    raise SpotTableError(
        expected=f"the library {wanted} in {source}",
        found=_listed(there) or "one section without a name",
        remedy="correct the manifest's column library",
    )


def _choices(
    found: Libraries | None,
    names: Sequence[str] | Text,
    obs: pd.DataFrame | None,
    xy: npt.NDArray[np.float64] | None,
    known: Iterable[str],
) -> list[tuple[str, Text]]:
    """What a library can be chosen by: columns about libraries, and those of any name that tell sections apart.

    Values alone are no sign: a cluster may be named 1, too.
    """
    listed = set(known)
    first = [] if found is None or found.of_spot is None else [(found.where, found.of_spot)]
    repeated = [mark for _, mark in _marks(names, obs, xy) if _n_repeated(mark)]
    return first + [
        (where, of_spot)
        for where, of_spot in labellings(names, obs)
        if is_about(where) or _is_list(of_spot, listed) or (repeated and _tells(of_spot, repeated))
    ]


def _only_names(names: Sequence[str] | Text, obs: pd.DataFrame | None) -> set[str]:
    """What a table of one section calls its library: columns about libraries, or endings, of one value."""
    columns = [] if obs is None else [c for c in obs.columns if is_about(f"obs[{str(c)!r}]")]
    endings = barcode_endings(names)
    texts = [_texts(obs[c]) for c in columns]  # type: ignore[index]
    texts += [] if endings is None else [endings]
    return {str(t[0]) for t in texts if len(set(t.tolist())) == 1}


def is_about(where: str) -> bool:
    """Whether what tells spots apart is about libraries by its name: a column, as `labellings` words it, or endings."""
    return where == ENDINGS or _ABOUT.search(where) is not None


def _is_list(of_spot: Text, listed: set[str]) -> bool:
    """Whether a column has the names of the file's own libraries; bare numbers are names of clusters, too."""
    values = set(of_spot.tolist())
    return values <= listed and not all(value.isdigit() for value in values)


def _tells(of_spot: Text, repeated: Iterable[pd.DataFrame]) -> bool:
    """Whether nothing stands twice in a library."""
    return not any(_n_repeated(mark.assign(library=of_spot)) for mark in repeated)


def find_libraries(
    names: Sequence[str] | Text,
    obs: pd.DataFrame | None,
    xy: npt.NDArray[np.float64] | None = None,
    known: Iterable[str] = (),
) -> Libraries | None:
    """The libraries of a table that holds several; None for one section.

    Barcodes, places of the array and positions stand once in a section. A column alone tells nothing: two pieces
    of tissue on one slide may be two samples; it counts where the file's own list of libraries has its values.
    """
    options, listed = labellings(names, obs), set(known)
    for where, of_spot in options:
        if _is_list(of_spot, listed) or (is_about(where) and set(of_spot.tolist()) <= listed):
            return Libraries("the file itself lists them", where, of_spot)
    marks = _marks(names, obs, xy)
    repeated = [(words, mark) for words, mark in marks if _n_repeated(mark)]
    if not repeated:
        return None
    words, mark = repeated[0]
    why = f"{_n_repeated(mark):,} {words}"
    for where, of_spot in options:
        if _tells(of_spot, [mark for _, mark in repeated]):
            return Libraries(why, where, of_spot)
    return Libraries(why)


def labellings(names: Sequence[str] | Text, obs: pd.DataFrame | None) -> list[tuple[str, Text]]:
    """What may tell libraries apart: known columns, other columns of few values, the endings of barcodes."""
    columns = [] if obs is None else [c for c in obs.columns if _is_label(obs[c])]
    order = {name: place for place, name in enumerate(COLUMNS)}
    columns.sort(key=lambda c: order.get(str(c).lower(), len(order)))
    found = [(f"obs[{str(c)!r}]", _texts(obs[c])) for c in columns]  # type: ignore[index]
    endings = barcode_endings(names)
    if endings is not None and 1 < len(set(endings.tolist())) <= _MOST:
        n_known = sum(str(c).lower() in order for c in columns)
        found.insert(n_known, (ENDINGS, endings))
    return found


def barcode_endings(names: Sequence[str] | Text) -> Text | None:
    """(n,) what stands beside the sequence in a barcode, as the 2 of ACGT-2; None where names are no barcodes."""
    parts = _parts(names)
    if parts is None:
        return None
    ends = (parts["before"] + parts["after"]).str.strip("-_.#:")
    return ends.to_numpy(dtype=str)


def _is_label(column: pd.Series) -> bool:
    if pd.api.types.is_float_dtype(column.dtype):
        return False
    try:
        return 1 < column.nunique(dropna=False) <= _MOST
    except TypeError:  # lists and the like
        return False


def _texts(column: pd.Series) -> Text:
    return column.astype(str).to_numpy(dtype=str)


def _parts(names: Sequence[str] | Text) -> pd.DataFrame | None:
    """The sequence or bin in every name, and what stands around it; None where names have none."""
    series = pd.Series(np.asarray(names, dtype=object)).astype(str)
    for pattern in _STEMS:
        parts = series.str.extract(rf"^(?P<before>.*?)(?P<stem>{pattern})(?P<after>.*)$")
        if parts["stem"].notna().all():
            return parts
    return None


def _marks(
    names: Sequence[str] | Text, obs: pd.DataFrame | None, xy: npt.NDArray[np.float64] | None
) -> list[tuple[str, pd.DataFrame]]:
    """What stands once in a section, with words for it."""
    parts = _parts(names)
    stems = np.asarray(names, dtype=str) if parts is None else parts["stem"]
    found = [("barcodes stand there twice", pd.DataFrame({"stem": stems}))]
    for pair in _PLACES:
        if obs is not None and all(name in obs for name in pair):
            place = obs[list(pair)].reset_index(drop=True)
            found.append(("places of the array stand there twice", place))
            break
    if xy is not None:
        found.append(("spots lie on another", pd.DataFrame(np.asarray(xy), columns=[_X, "y"])))
    return found


def _n_repeated(mark: pd.DataFrame) -> int:
    """How many values stand there more than once; 0 where they are few, as cells in whole pixels or spots at 0, 0."""
    known = mark.dropna()
    n = len(known[known.duplicated()].drop_duplicates())
    least = _COINCIDENT if _X in known else _REPEATED
    return n if n > max(1.0, least * len(known)) else 0


def _listed(names: Sequence[Any]) -> str:
    return shorten([shown_name(str(name)) for name in names], _SHOWN)
