"""Owns the count likelihood of the default profile, a negative binomial with offset; pure.

Formulas: method.md, "What the published score measures". A low-rank head is a Linear from a small
latent to the genes, so nothing here grows faster than spots x genes of one batch.
"""

from __future__ import annotations

import math
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
        # An empty spot has mean 0 and no count; the floor only keeps its logarithm finite.
        log_mean = log_share + torch.log(totals.clamp(min=1e-30))[:, None]
        mean = torch.exp(log_mean)
        scaled = mean / dispersion
        loss = torch.log1p(scaled).mul_(counts + dispersion)
        loss.addcmul_(counts, log_mean.sub_(math.log(dispersion)), value=-1)
        gradient = mean.sub_(counts).div_(scaled.add_(1))
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
