"""Ids and symbols of a table that a user gives: which columns, which pairs, which genes they name."""

from __future__ import annotations

import gzip
from pathlib import Path

import pytest

from hespotex.errors import ConfigError
from hespotex.genes.name_table import NameTable, read_name_table

IDS = [f"ENSG{k:011d}" for k in range(1, 6)]
PAIRS = {IDS[0]: "TP53", IDS[1]: "ERBB2", IDS[2]: "KRT8"}


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("gene_names.csv", "id,symbol\n" + "".join(f"{i},{s}\n" for i, s in PAIRS.items())),
        ("pairs.csv", "".join(f"{s},{i}.7\n" for i, s in PAIRS.items())),
        (
            "features.tsv",
            "".join(f"{i}\t{s}\tGene Expression\n" for i, s in PAIRS.items()),
        ),
        (
            "mart.txt",
            "Gene stable ID\tGene description\tGene name\n"
            + "".join(f"{i}\ta gene, known\t{s}\n" for i, s in PAIRS.items()),
        ),
    ],
)
@pytest.mark.parametrize("packed", [False, True])
def test_ids_and_symbols_are_found_in_the_tables_that_there_are(name, text, packed, tmp_path: Path):
    path = tmp_path / (f"{name}.gz" if packed else name)
    path.write_bytes(gzip.compress(text.encode()) if packed else text.encode())
    assert read_name_table(path).symbols == PAIRS


def test_an_id_with_two_symbols_and_a_symbol_of_two_ids_name_nothing(tmp_path: Path):
    rows = [(IDS[0], "A"), (IDS[0], "B"), (IDS[1], "C"), (IDS[2], "C"), (IDS[3], "D"), (IDS[4], "")]
    path = tmp_path / "t.csv"
    path.write_text("id,symbol\n" + "".join(f"{i},{s}\n" for i, s in rows))
    assert read_name_table(path).symbols == {IDS[3]: "D"}


def test_genes_are_named_in_either_direction_and_what_is_unknown_or_doubled_keeps_its_name():
    table = NameTable(PAIRS, "t.csv")
    genes = [f"{IDS[0]}.4", IDS[4], IDS[1], "ERBB2"]
    assert table.named(genes, "symbol") == ["TP53", IDS[4], IDS[1], "ERBB2"]
    assert table.named(["KRT8", "ACTB", "TP53"], "id") == [IDS[2], "ACTB", IDS[0]]


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("gene,length\nTP53,100\nERBB2,200\n", "2 columns, with 0 ids in 3 rows"),
        ("\n".join(IDS), "1 columns, with 5 ids in 5 rows"),
    ],
)
def test_a_table_of_something_else_is_refused_by_its_name(text, found, tmp_path: Path):
    (tmp_path / "t.csv").write_text(text)
    with pytest.raises(ConfigError, match=rf"Ensembl ids and one of symbols in .*t\.csv.*{found}"):
        read_name_table(tmp_path / "t.csv")
    with pytest.raises(ConfigError, match=r"nowhere\.csv.*No such file"):
        read_name_table(tmp_path / "nowhere.csv")
