"""Names of files and columns are legal everywhere, each once, and those that were fit stay as they are."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from hespotex.sections.carried import plain_values, writable_columns
from hespotex.storage.safe_names import changed_names, safe_names

LONG = "L" * 300
ODD = [
    "A/B", "A_B", "a_b", LONG, LONG + "L", "CON", "nul.x", "..", "", "__x", "日本/語", "a.", "a\x00b", "x" * 119 + "é",
]  # fmt: skip


def test_any_names_become_legal_and_distinct_on_every_file_system() -> None:
    names = safe_names(ODD)
    assert len({name.casefold() for name in names}) == len(ODD)
    assert all(0 < len(name.encode()) <= 120 for name in names)
    assert not any(set(name) & set('/\\:*?"<>|\x00 ') for name in names)
    assert not any(name.startswith((".", "__")) or name.endswith(".") for name in names)
    assert not any(name.partition(".")[0].casefold() in {"con", "nul"} for name in names)
    assert safe_names(names) == names


def test_a_fit_name_stays_and_the_other_gets_a_number() -> None:
    assert safe_names(["B cells", "B_cells", "b_cells"]) == ("B_cells_3", "B_cells", "b_cells_2")
    assert safe_names(["HLA-A", "MT-CO1", "ENSG01.3", "日本"]) == (
        "HLA-A",
        "MT-CO1",
        "ENSG01.3",
        "日本",
    )
    assert safe_names(["x"], taken=["X"]) == ("x_2",)


def test_an_ending_is_never_cut_off() -> None:
    one, other = safe_names([LONG, LONG + "L"], endings=["_untested", "_untested"])
    assert one != other
    assert one.endswith("_untested")
    assert other.endswith("_untested")


def test_what_changed_is_said_in_short() -> None:
    before, after = ["a b", "c"], ["a_b", "c"]
    assert changed_names(before, after) == "a b is now a_b"
    assert changed_names(["c"], ["c"]) == ""
    many = [f"a {i}" for i in range(9)]
    assert changed_names(many, safe_names(many)).endswith("and 5 more")


def test_columns_named_as_ours_are_kept_beside_ours() -> None:
    columns = pd.DataFrame({"_index": [1, 2], "ood": [True, False], "patient_id": ["P", "P"]})
    made, said = writable_columns(columns.items(), ["ood", "patient_id"], {"patient_id": "P"})
    assert {name: column.tolist() for name, column in made.items()} == {
        "index_as_given": [1, 2],
        "ood_as_given": [True, False],
    }
    assert said == "_index is now index_as_given, ood is now ood_as_given"
    other, said = writable_columns(columns.items(), ["ood", "patient_id"], {"patient_id": "Q"})
    assert other["patient_id_as_given"].tolist() == ["P", "P"]


def test_equal_columns_of_one_name_are_one_and_others_are_two() -> None:
    one, two = pd.Series(["7", "7"]), pd.Series([7.0, 8.0])
    assert list(writable_columns([("x_run", one), ("x_run", one)])[0]) == ["x_run"]
    made, said = writable_columns([("x_run", one), ("x_run", two)])
    assert made["x_run"].tolist() == ["7", "7"]
    assert made["x_run_2"].tolist() == [7.0, 8.0]
    assert said == "x_run is now x_run_2"


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        (pd.Series([1, 2]), [1, 2]),
        (pd.Series([1, None], dtype="Int64"), [1.0, np.nan]),
        (pd.Series([1, 2], dtype="Int64"), [1, 2]),
        (pd.Series([0.5, None], dtype="Float32"), [0.5, np.nan]),
        (pd.Series([True, False], dtype="boolean"), [True, False]),
        (pd.Series([True, None], dtype="boolean"), ["True", None]),
        (pd.Series(["a", None], dtype="string"), ["a", None]),
        (pd.Series([1, "one"], dtype=object), ["1", "one"]),
        (pd.Series([[1, 2], None], dtype=object), ["[1, 2]", None]),
        (pd.Series(["a\x00b", "c"], dtype=object), ["ab", "c"]),
        (pd.Series(pd.Categorical([3, 4])), [3, 4]),
        (pd.Series(pd.Categorical([1, "1"])), ["1", "1"]),
        (pd.Series(pd.to_datetime(["2024-05-01", None])), ["2024-05-01 00:00:00", None]),
        (pd.Series([1 + 2j, 0]), ["(1+2j)", "0j"]),
    ],
)
def test_values_of_any_kind_become_numbers_or_texts(values: pd.Series, expected: list) -> None:
    found = plain_values(values)
    assert found.isna().tolist() == pd.Series(expected, dtype=object).isna().tolist()
    known = [i for i, value in enumerate(expected) if not pd.isna(value)]
    assert [str(found.iloc[i]) for i in known] == [str(expected[i]) for i in known]
    assert found.dtype.kind in "biuf" or isinstance(found.dtype, pd.CategoricalDtype)
