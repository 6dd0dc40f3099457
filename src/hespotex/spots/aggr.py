"""One library taken out of a table that Space Ranger's `aggr` joined."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pandas as pd

from hespotex.errors import SpotTableError
from hespotex.spots.libraries import ENDINGS, Libraries
from hespotex.spots.text import read_table

_TABLE = "aggregation.csv"


def endings(names: Sequence[str] | npt.NDArray[np.str_]) -> npt.NDArray[np.str_]:
    """(n,) the number behind the last hyphen of every barcode; empty where there is none."""
    series = pd.Series(np.asarray(names, dtype=object)).astype(str)
    return series.str.extract(r"-([0-9]+)$", expand=False).fillna("").to_numpy(dtype=str)


def library_names(outs: Path) -> dict[str, str]:
    """Number and name of every library of `aggregation.csv`, whose rows stand in this order; empty without one."""
    path = next((p / _TABLE for p in (outs, outs.parent) if (p / _TABLE).is_file()), None)
    if path is None:
        return {}
    table = read_table(path, ())
    column = next((c for c in ("library_id", "sample_id") if c in table), table.columns[0])
    return {str(i): name for i, name in enumerate(table[column], start=1)}


def chosen_ending(
    found: npt.NDArray[np.str_], wanted: str | None, outs: Path, source: str
) -> str | None:
    """The ending of the one library that is meant; None for a table of one library and no wish.

    Args:
        found: (n,) endings of its barcodes.
        wanted: name or number of a library.
        outs: the folder, for names of libraries.
        source: the file, for messages.

    Raises:
        SpotTableError: there are several and none is chosen, there is no such one, or two have its name.
    """
    known = sorted(set(found.tolist()), key=lambda text: (len(text), text))
    if wanted is None and len(known) < 2:
        return None
    names = library_names(outs)
    if wanted is None:
        labels = pd.Series(found).map(lambda e: names.get(e, e)).to_numpy(dtype=str)
        why = f"they end in {', '.join(f'-{ending}' for ending in known[:6])}, as aggr writes them"
        raise Libraries(why, ENDINGS, labels).error(source)
    meant = _meant(names, wanted)
    if len(meant) > 1:
        raise SpotTableError(
            expected=f"one library named {wanted} in {_TABLE} beside {source}",
            found=f"{len(meant)} (numbers {', '.join(meant)})",
            remedy=f"give every library of {_TABLE} a name of its own",
        )
    if meant[0] in known:
        return meant[0]
    shown = ", ".join(names.get(ending, ending) for ending in known[:6])
    raise SpotTableError(
        expected=f"the library {wanted} in {source}",
        found=shown,
        remedy="correct the manifest's column library",
    )


def _meant(names: Mapping[str, str], wanted: str) -> list[str]:
    """Endings of the libraries named `wanted`; a number is one only where no library is named so."""
    return [ending for ending, name in names.items() if name == wanted] or [wanted]


def own_folder(outs: Path, ending: str | None) -> Path | None:
    """`spatial/LIBRARY` of the chosen library; None where aggr left none."""
    if ending is None:
        return None
    names = library_names(outs)
    own = [n for n in (names.get(ending), ending) if n and ending in _meant(names, n)]
    return next((outs / "spatial" / n for n in own if (outs / "spatial" / n).is_dir()), None)


def positions_of(
    positions: pd.DataFrame, ending: str | None, wanted: str | None, outs: Path, source: str
) -> pd.DataFrame:
    """The positions of one library, where the file has several.

    Raises:
        SpotTableError: it has several, and none is chosen.
    """
    found = endings(positions["barcode"].to_numpy(dtype=str))
    if len(set(found.tolist())) < 2:
        return positions
    if ending is None:
        ending = chosen_ending(found, wanted, outs, source)
    kept: pd.DataFrame = positions[found == ending]
    return kept
