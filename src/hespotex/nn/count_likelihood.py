"""Owns the count likelihood of the default profile, a negative binomial with offset; pure.

Formulas: method.md, "What the published score measures". A low-rank head is a Linear from a small
latent to the genes, so nothing here grows faster than spots x genes of one batch.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor


def negative_binomial_loss(
    counts: Tensor,
    totals: Tensor,
    log_share: Tensor,
    dispersion: float,
    measured: Tensor | None = None,
) -> Tensor:
    """Mean negative log likelihood of counts with mean = total x exp(log_share), up to a constant.

    loss = (c + r) log(mean + r) - c log(mean) - r log(r), r the dispersion (variance
    mean + mean^2 / r), averaged over measured entries. A spot without counts adds nothing.

    Args:
        counts: (b, G) raw counts.
        totals: (b,) the spots' measured totals, the offset.
        log_share: (b, G) natural logarithm of each gene's share.
        dispersion: r > 0; large r is the Poisson likelihood.
        measured: (b, G) or (1, G), 0 where a gene was not measured; None: all were.
    """
    loss: Tensor = _NegativeBinomial.apply(counts, totals, log_share, dispersion, measured)
    return loss


class _NegativeBinomial(torch.autograd.Function):
    """Loss and gradient in one pass over (b, G): d loss / d log mean = r (mean - c) / (mean + r)."""

    @staticmethod
    def forward(
        ctx: Any,
        counts: Tensor,
        totals: Tensor,
        log_share: Tensor,
        dispersion: float,
        measured: Tensor | None,
    ) -> Tensor:
        mean = torch.exp(log_share).mul_(totals[:, None])
        shifted = mean + dispersion
        seen = counts > 0  # where c = 0, c log(mean) is 0 even for mean = 0
        loss = torch.log(shifted / dispersion).mul_(counts + dispersion)
        loss -= counts * torch.log(torch.where(seen, mean / dispersion, 1.0))
        gradient = mean.sub_(counts).mul_(dispersion).div_(shifted)
        if measured is None:
            entries = float(counts.numel())
        else:
            loss, gradient = loss * measured, gradient * measured
            entries = float(measured.expand_as(counts).sum().clamp(min=1))
        ctx.save_for_backward(gradient.div_(entries))
        return loss.sum() / entries

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, upstream: Tensor) -> tuple[None, None, Tensor, None, None]:
        (gradient,) = ctx.saved_tensors
        return None, None, gradient * upstream, None, None
