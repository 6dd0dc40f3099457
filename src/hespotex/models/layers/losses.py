"""The published losses: latent PCC, expression MSE, gene PCC.

Formulas: docs/design/method.md, "Two streams". A PCC of a constant row or column is 0 here, so
that training goes on; scores that are reported use hespotex.evaluation, where it is NaN.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor


def pcc(a: Tensor, b: Tensor, dim: int) -> Tensor:
    """Pearson correlation of a and b (n, m) along `dim`; 0 where one of them is constant."""
    a = a - a.mean(dim=dim, keepdim=True)
    b = b - b.mean(dim=dim, keepdim=True)
    tiny = torch.finfo(a.dtype).tiny
    return (F.normalize(a, dim=dim, eps=tiny) * F.normalize(b, dim=dim, eps=tiny)).sum(dim=dim)


def latent_pcc_loss(predicted: Tensor, target: Tensor) -> Tensor:
    """1 - mean over spots of the PCC of a spot's latents; both (n, L)."""
    return 1 - pcc(predicted, target, dim=1).mean()


def gene_pcc_loss(predicted: Tensor, target: Tensor) -> Tensor:
    """1 - mean over genes of the PCC over spots; both (n, G). Logged, not trained on."""
    return 1 - pcc(predicted, target, dim=0).mean()


def expression_mse(predicted: Tensor, target: Tensor) -> Tensor:
    """Mean squared error over spots and genes; both (n, G)."""
    return F.mse_loss(predicted, target)
