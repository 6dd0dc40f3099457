"""The count likelihood of the default profile: a low-rank read-out to genes and a negative binomial with offset.

Formulas: docs/design/method.md, "Counts and scores". Read-out and likelihood are one operation: only a block of rows that
fits into a core's cache is held at a time, never a table of all spots x genes.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

_BLOCK_ENTRIES = 2**17  # half a megabyte a table: what a block needs fits into a core's cache
_VALUE_ENTRIES = 2**14
_PART_ROWS = 256  # rows that one worker takes at once: fixed, so that workers do not change a sum

Work = Callable[[tuple[int, slice]], tuple[Tensor, Tensor, Tensor]]
Run = Callable[[Work, Iterable[tuple[int, slice]]], Iterable[tuple[Tensor, Tensor, Tensor]]]


@dataclass(frozen=True)
class CountTarget:
    """The counts that spots are compared with; n spots in K sections, G genes.

    Attributes:
        counts: rows (b,) -> (b, G) raw counts of these spots, of any type of numbers, on the device of the
            read-out; called by several threads at once.
        totals: (n,) the spots' measured totals, the offset.
        section: (n,) number of the spot's section.
        log_baseline: (K, G) logarithm of each gene's share in the section: what a log ratio of 0 stands for.
        measured: (K, G), 0 where a section did not measure a gene, else 1; None: all did.
        dispersion: r > 0, variance = mean + mean^2 / r; large r is the Poisson likelihood.
    """

    counts: Callable[[Tensor], Tensor]
    totals: Tensor
    section: Tensor
    log_baseline: Tensor
    measured: Tensor | None
    dispersion: float


def read_out_loss(
    latent: Tensor, weight: Tensor, bias: Tensor, spots: Tensor, target: CountTarget, run: Run = map
) -> Tensor:
    """Mean negative log likelihood of the spots' counts, of each of M networks, up to a constant.

    mean = total x exp(baseline + weight latent + bias); loss = (c + r) log(mean + r) - c log(mean) - r log(r),
    averaged over measured entries. A spot without counts adds nothing. The gradient is that of all spots;
    the value, which is only looked at, is taken over the first ones: some thousand entries.

    Args:
        latent: (M, b, L).
        weight: (M, G, L).
        bias: (M, G).
        spots: (M, b) which spots the rows of `latent` are.
        target: their counts.
        run: `map`, or an executor's; the result does not depend on it.

    Returns:
        (M,).
    """
    loss: Tensor = _ReadOutLoss.apply(latent, weight, bias, spots, target, run)
    return loss


class _ReadOutLoss(torch.autograd.Function):
    """Loss and gradients in one pass: d loss / d log mean = r (mean - c) / (mean + r)."""

    @staticmethod
    def forward(
        ctx: Any,
        latent: Tensor,
        weight: Tensor,
        bias: Tensor,
        spots: Tensor,
        target: CountTarget,
        run: Run,
    ) -> Tensor:
        members, n = spots.shape
        to_latent = torch.empty_like(latent)

        def work(part: tuple[int, slice]) -> tuple[Tensor, Tensor, Tensor]:
            member, rows = part
            with torch.no_grad():  # the mode of the thread that calls is not that of the worker
                return _of_part(
                    latent[member, rows],
                    weight[member],
                    bias[member],
                    spots[member, rows],
                    target,
                    to_latent[member, rows],
                    value=rows.start == 0,
                )

        slices = [slice(at, min(at + _PART_ROWS, n)) for at in range(0, n, _PART_ROWS)]
        found = list(run(work, [(m, rows) for m in range(members) for rows in slices]))
        by_member = [found[i : i + len(slices)] for i in range(0, len(found), len(slices))]
        to_weight = torch.stack([_sum(part[1] for part in parts) for parts in by_member])
        to_bias = torch.stack([_sum(part[2] for part in parts) for parts in by_member])
        entries = _measured_entries(spots, target, weight.shape[1]).to(latent.dtype)
        ctx.save_for_backward(to_latent, to_weight, to_bias, entries)
        return torch.stack([parts[0][0] for parts in by_member])

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, upstream: Tensor) -> tuple[Tensor, Tensor, Tensor, None, None, None]:
        to_latent, to_weight, to_bias, entries = ctx.saved_tensors
        factor = upstream / entries
        return (
            to_latent * factor[:, None, None],
            to_weight * factor[:, None, None],
            to_bias * factor[:, None],
            None,
            None,
            None,
        )


def _of_part(
    latent: Tensor,
    weight: Tensor,
    bias: Tensor,
    spots: Tensor,
    target: CountTarget,
    to_latent: Tensor,
    *,
    value: bool,
) -> tuple[Tensor, Tensor, Tensor]:
    """Value (of the first rows, if asked for) and gradients by weight and bias, summed over entries; fills `to_latent`."""
    counts = target.counts(spots)
    section = target.section[spots]
    # An empty spot has mean 0 and no count; the floor only keeps its logarithm finite.
    log_total = torch.log(target.totals[spots].clamp(min=1e-30))[:, None]
    baseline = target.log_baseline + bias
    to_weight, to_bias = torch.zeros_like(weight), torch.zeros_like(bias)
    height = max(1, _BLOCK_ENTRIES // max(1, len(bias)))
    tables = latent.new_empty((2, min(height, len(latent)), len(bias)))
    loss = latent.new_zeros(())
    for at in range(0, len(latent), height):
        rows = slice(at, min(at + height, len(latent)))
        z, c = latent[rows], counts[rows].to(latent.dtype)
        table, ratio = tables[0, : len(z)], tables[1, : len(z)]
        torch.index_select(baseline, 0, section[rows], out=table)
        log_mean = table.addmm_(z, weight.t()).add_(log_total[rows])
        known = None if target.measured is None else target.measured[section[rows]]
        if value and at == 0:
            few = slice(max(1, _VALUE_ENTRIES // len(bias)))
            loss = _mean_loss(
                log_mean[few], c[few], target.dispersion, None if known is None else known[few]
            )
        mean = log_mean.exp_()
        torch.mul(mean, 1 / target.dispersion, out=ratio).add_(1)
        gradient = mean.sub_(c).div_(ratio)
        if known is not None:
            gradient.mul_(known)
        to_weight.addmm_(gradient.t(), z)
        to_bias += gradient.sum(dim=0)
        torch.mm(gradient, weight, out=to_latent[rows])
    return loss, to_weight, to_bias


def _mean_loss(log_mean: Tensor, counts: Tensor, dispersion: float, known: Tensor | None) -> Tensor:
    loss = torch.log(torch.exp(log_mean).div_(dispersion).add_(1)).mul_(counts + dispersion)
    loss.addcmul_(counts, log_mean - math.log(dispersion), value=-1)
    if known is None:
        return loss.mean()
    return (loss * known).sum() / known.sum().clamp(min=1)


def _measured_entries(spots: Tensor, target: CountTarget, genes: int) -> Tensor:
    """(M,) how many of the entries were measured, at least 1."""
    if target.measured is None:
        return torch.full(spots.shape[:1], spots.shape[1] * genes, device=spots.device)
    return target.measured.sum(dim=1)[target.section[spots]].sum(dim=1).clamp(min=1)


def _sum(parts: Iterable[Tensor]) -> Tensor:
    first, *others = parts
    for other in others:
        first += other
    return first
