"""Genes as tables of every kind name them: the same genes of one species, spelt in many ways."""

from __future__ import annotations

import numpy as np

from hespotex.genes.gene_names import make_names


def _words(text: str) -> list[str]:
    return text.split()


HUMAN = _words(
    "ACTB GAPDH HLA-A HLA-DRB1 MT-CO1 MT-ND4L C1orf112 C9orf72 KRT8 EPCAM CD3E PTPRC MS4A1 COL1A1 VIM MALAT1 "
    "LINC00115 RP11-34P13.7 AC012345.1 SNORD3A RN7SK Y_RNA NKX2-1 H1-2 TP53 ERBB2 ESR1 MKI67 SFTPC 7SK"
)
MOUSE = _words(
    "Actb Gapdh H2-K1 H2-Aa mt-Co1 mt-Nd4l Gm1234 Gm42418 Krt8 Epcam Cd3e Ptprc Ms4a1 Col1a1 Vim Malat1 "
    "1700001A01Rik 2310009E13Rik AC149090.1 Snord3a Rn7sk n-R5s1 Nkx2-1 H1f2 Trp53 Erbb2 Esr1 Mki67 Sftpc Xkr4"
)
RAT = _words(
    "Actb Gapdh RT1-A1 RT1-Da Mt-co1 Mt-nd4l LOC100911498 LOC685963 Krt8 Epcam Cd3e Ptprc Ms4a1 Col1a1 Vim Malat1 "
    "RGD1305184 RGD1562987 AABR07000001.1 Snord3a Rn7sk U6 Nkx2-1 H1f2 Tp53 Erbb2 Esr1 Mki67 Sftpc Xkr4"
)
N = len(HUMAN)


def ids(species: str = "", version: int | None = None, start: int = 3) -> list[str]:
    """Ensembl ids: `ENSG` of human, `ENSMUSG`, `ENSRNOG`; the version differs from gene to gene."""
    bare = [f"ENS{species}G{start + k:011d}" for k in range(N)]
    return bare if version is None else [f"{name}.{version + k % 7}" for k, name in enumerate(bare)]


# Every way in which a table of one species names its genes.
KINDS: dict[str, list[str]] = {
    "human symbols": HUMAN,
    "mouse symbols": MOUSE,
    "rat symbols": RAT,
    "human ids": ids(),
    "mouse ids": ids("MUS"),
    "rat ids": ids("RNO"),
    "human ids with version": ids(version=5),
    "mouse ids with version": ids("MUS", version=2),
    "rat ids with version": ids("RNO", version=1),
    "human ids, half with version": [
        n for pair in zip(ids()[::2], ids(version=5)[1::2], strict=True) for n in pair
    ],
    "human symbols and ids where none is known": [*HUMAN[:18], *ids()[18:]],
    "rat symbols and ids where none is known": [*RAT[:18], *ids("RNO")[18:]],
    "GRCh38_": [f"GRCh38_{n}" for n in HUMAN],
    "GRCh38_____": [f"GRCh38_____{n}" for n in HUMAN],
    "GRCh38-": [f"GRCh38-{n}" for n in HUMAN],
    "GRCh38-2020-A_": [f"GRCh38-2020-A_{n}" for n in HUMAN],
    "hg19_": [f"hg19_{n}" for n in HUMAN],
    "mm10___": [f"mm10___{n}" for n in MOUSE],
    "mm10-1.2.0_premrna___": [f"mm10-1.2.0_premrna___{n}" for n in MOUSE],
    "mRatBN7.2_": [f"mRatBN7.2_{n}" for n in RAT],
    "GRCh38_ids": [f"GRCh38_{n}" for n in ids()],
    "mm10___ids with version": [f"mm10___{n}" for n in ids("MUS", version=2)],
    "human symbols of R": [make_names(n) for n in HUMAN],
    "mouse symbols of R": [make_names(n) for n in MOUSE],
    "human symbols of Seurat": [n.replace("_", "-") for n in HUMAN],
    "human ids with symbols": [f"{i}_{n}" for i, n in zip(ids(), HUMAN, strict=True)],
}


def species_of(kind: str) -> str:
    """Human, mouse or rat, as the name of a kind says."""
    if "rat" in kind or "RatBN" in kind:
        return "rat"
    return "mouse" if "mouse" in kind or "mm10" in kind else "human"


def counts(n_spots: int, seed: int, n_genes: int = N) -> np.ndarray:
    """(n_spots, n_genes) counts of genes whose abundance differs tenfold."""
    rates = 3.0 * 10 ** np.linspace(0, 1, n_genes)
    return np.random.default_rng(seed).poisson(rates, (n_spots, n_genes))
