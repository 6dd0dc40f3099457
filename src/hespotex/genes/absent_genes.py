"""Why a gene is in no prediction (never measured, seldom seen, not chosen), and what to do; pure."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from typing import TYPE_CHECKING, Final

from hespotex.genes.gene_names import find_names

if TYPE_CHECKING:
    from hespotex.config import PanelConfig

_SIMILAR: Final = 3


@dataclass(frozen=True)
class OtherGenes:
    """Genes of the training tables that a panel leaves out.

    Attributes:
        names: sorted.
        shares: of the training spots in which each was seen, over the sections that measured it.
    """

    names: tuple[str, ...] = ()
    shares: tuple[float, ...] = ()


def why_left_out(share: float, rule: PanelConfig) -> str:
    """Why a measured gene is not in a panel, to be read after its name.

    Args:
        share: of the training spots in which it was seen.
    """
    seen = f"was seen in {_percent(share)} of the training spots"
    if rule.kind == "list":
        return f"{seen}, but is not in the list of genes that the model was trained with"
    if share < rule.min_spot_fraction:
        return f"{seen}, where {_percent(rule.min_spot_fraction)} are asked"
    if rule.min_spots and rule.kind == "all":
        return f"{seen}, in fewer than {rule.min_spots:,} of them"
    return f"{seen}, but is not among the {rule.n_top:,} most variable genes of a section"


def _percent(share: float) -> str:
    percent = 100 * share
    return f"{percent:.2g} %" if 0 < percent < 10 else f"{percent:.0f} %"


def why_absent(gene: str, panel: Collection[str], others: OtherGenes, rule: PanelConfig) -> str:
    """One sentence on a gene that a model does not predict, with what to do.

    Args:
        gene: not in the panel.
        others: as the panel left them out; empty where a model file of before does not say.
    """
    share = dict(zip(others.names, others.shares, strict=True)).get(gene)
    if share is not None:
        return f"{gene} {why_left_out(share, rule)}; train with --add-genes {gene}"
    near = similar_names(gene, [*panel, *others.names])
    spelt = f"check its name (similar: {', '.join(near)})" if near else "check its name"
    if others.names:
        return f"{gene} was never measured: no training section's table has it; {spelt}"
    return (
        f"{gene} is not in this model's panel of {len(panel):,} genes; {spelt}, or train with "
        f"--add-genes {gene} where it was measured"
    )


def similar_names(gene: str, known: Sequence[str]) -> list[str]:
    """Known names that may be meant: the same gene written otherwise, in another case, or nearly so."""
    same = list(find_names([gene], known).values())
    folded = gene.casefold()
    cased = [name for name in known if name.casefold() == folded]
    near = get_close_matches(gene, known, n=_SIMILAR, cutoff=0.8) if not same + cased else []
    return list(dict.fromkeys([*same, *cased, *near]))[:_SIMILAR]
