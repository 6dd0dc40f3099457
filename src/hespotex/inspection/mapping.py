"""Ensembl ids to symbols, from the sections' own files alone."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path

from hespotex.errors import HESpotExError, SpotTableError
from hespotex.genes.gene_names import bare_names, without_version
from hespotex.inspection.findings import Finding
from hespotex.inspection.genes import describe_genes, is_ensembl
from hespotex.sections.section import ManifestRow, Section
from hespotex.storage.hdf5 import open_h5
from hespotex.storage.text_files import open_text

# Columns of var in which scanpy, HEST and CELLxGENE keep the names that are not in the index.
_ID_COLUMNS = ("gene_ids", "gene_id", "ensembl_id", "ensemblID", "feature_id")
_SYMBOL_COLUMNS = ("gene_symbols", "gene_symbol", "gene_name", "feature_name", "symbol")
_MATRICES = (
    "*filtered_feature_bc_matrix.h5",
    "*raw_feature_bc_matrix.h5",
    "*cell_feature_matrix.h5",
)
_TABLES = ("*features.tsv.gz", "*features.tsv", "*genes.tsv")

Pairs = Iterator[tuple[str, str]]


def offer_mapping(
    rows: Sequence[ManifestRow], sections: Sequence[Section]
) -> tuple[dict[str, str], list[Finding]]:
    """A mapping for the sections that name genes by Ensembl id, from the files of the others.

    Returns:
        symbol by id (without version), one to one; and what to say of it. Both empty where the files
        hold no mapping, or none is needed.
    """
    kinds = {s.section_id: describe_genes(s.genes).kind for s in sections if s.genes is not None}
    if "symbols" not in kinds.values() or not any("Ensembl" in k for k in kinds.values()):
        return {}, []
    pairs = {pair for row in rows if row.expression for pair in _pairs(row.expression)}
    ids, symbols = (Counter(side) for side in zip(*pairs, strict=True)) if pairs else ({}, {})
    mapping = {i: s for i, s in sorted(pairs) if ids[i] == 1 and symbols[s] == 1}
    if not mapping:
        return {}, []
    findings = []
    for section in sections:
        if section.genes is not None and "Ensembl" in kinds[section.section_id]:
            known = sum(bare in mapping for bare in bare_names(section.genes.tolist()))
            findings.append(
                Finding(
                    section.section_id,
                    "genes",
                    "info",
                    f"the sections' own files hold the symbols of {known:,} of {len(section.genes):,} Ensembl ids",
                    "give gene_names.csv, which inspect --out writes, with --gene-names",
                )
            )
    return mapping, findings


def _pairs(path: Path) -> Pairs:
    """(id without version, symbol) of every gene for which a file has both."""
    for identifier, symbol in _read(path):
        if is_ensembl(identifier) and symbol:
            yield without_version(identifier), symbol


def _read(path: Path) -> Pairs:
    try:
        if path.is_dir():
            yield from _read_folder(path)
        elif path.suffix == ".h5ad":
            yield from _read_h5ad(path)
        elif path.suffix == ".h5":
            yield from _read_h5(path)
    except (HESpotExError, OSError):
        return  # a file that cannot be read holds no mapping; what is wrong with it is said elsewhere


def _read_folder(path: Path) -> Pairs:
    outs = path / "outs" if (path / "outs").is_dir() else path
    for pattern in _MATRICES:
        for file in sorted(outs.glob(pattern)):
            yield from _read_h5(file)
            return
    for pattern in _TABLES:
        for file in sorted(outs.rglob(pattern)):
            with open_text(file) as stream:
                for line in stream:
                    cells = line.rstrip("\n").split("\t")
                    if len(cells) > 1:
                        yield cells[0], cells[1]
            return


def _read_h5(path: Path) -> Pairs:
    with open_h5(path, "a feature-barcode matrix in", SpotTableError) as file:
        features = file["matrix/features"]
        for identifier, symbol in zip(features["id"][:], features["name"][:], strict=True):
            yield _text(identifier), _text(symbol)


def _read_h5ad(path: Path) -> Pairs:
    from anndata.io import read_elem

    with open_h5(path, "an h5ad file at", SpotTableError) as file:
        var = read_elem(file["var"])
    index = var.index.astype(str)
    for column in _ID_COLUMNS:
        if column in var:
            yield from zip(var[column].astype(str), index, strict=True)
    for column in _SYMBOL_COLUMNS:
        if column in var:
            yield from zip(index, var[column].astype(str), strict=True)


def _text(value: object) -> str:
    return value.decode() if isinstance(value, bytes) else str(value)
