"""The count likelihood is the negative binomial, and its own gradient is the derivative of its value."""

from __future__ import annotations

import pytest
import torch
from scipy.stats import nbinom

from hespotex.nn.count_likelihood import negative_binomial_loss

COUNTS = torch.tensor([[0.0, 3.0, 1.0], [5.0, 0.0, 40.0]], dtype=torch.float64)
TOTALS = torch.tensor([4.0, 45.0], dtype=torch.float64)
LOG_SHARE = torch.tensor([[-2.0, -0.5, -1.5], [-1.0, -3.0, -0.4]], dtype=torch.float64)


def test_differences_of_the_loss_are_those_of_scipys_log_probability():
    dispersion = 7.0
    other = LOG_SHARE + 0.3

    def scipy_loss(log_share: torch.Tensor) -> float:
        mean = (TOTALS[:, None] * log_share.exp()).numpy()
        return -nbinom.logpmf(COUNTS.numpy(), dispersion, dispersion / (dispersion + mean)).mean()

    ours = [
        negative_binomial_loss(COUNTS, TOTALS, s, dispersion).item() for s in (LOG_SHARE, other)
    ]
    theirs = [scipy_loss(s) for s in (LOG_SHARE, other)]
    assert abs((ours[1] - ours[0]) - (theirs[1] - theirs[0])) < 1e-12


def test_gradient_is_the_derivative():
    share = LOG_SHARE.clone().requires_grad_()
    mask = torch.tensor([[1.0, 0.0, 1.0], [1.0, 1.0, 1.0]], dtype=torch.float64)
    assert torch.autograd.gradcheck(
        lambda s: negative_binomial_loss(COUNTS, TOTALS, s, 10.0), (share,)
    )
    assert torch.autograd.gradcheck(
        lambda s: negative_binomial_loss(COUNTS, TOTALS, s, 10.0, mask), (share,)
    )


def test_an_unmeasured_entry_counts_neither_in_value_nor_in_gradient():
    mask = torch.tensor([[1.0, 0.0, 1.0]], dtype=torch.float64)
    wild = COUNTS.clone()
    wild[:, 1] = 1e4
    share = LOG_SHARE.clone().requires_grad_()
    loss = negative_binomial_loss(wild, TOTALS, share, 10.0, mask)
    loss.backward()
    kept = negative_binomial_loss(COUNTS[:, [0, 2]], TOTALS, LOG_SHARE[:, [0, 2]], 10.0)
    torch.testing.assert_close(loss, kept)
    assert share.grad is not None
    assert (share.grad[:, 1] == 0).all()


def test_a_spot_without_counts_pulls_at_nothing():
    share = LOG_SHARE.clone().requires_grad_()
    loss = negative_binomial_loss(torch.zeros_like(COUNTS), torch.zeros(2).double(), share, 10.0)
    loss.backward()
    assert abs(loss.item()) < 1e-25
    assert share.grad is not None
    assert (share.grad.abs() < 1e-25).all()


def test_a_baseline_by_row_is_the_same_as_one_added_before():
    baseline, which = torch.arange(9, dtype=torch.float64).reshape(3, 3) / 7.0, torch.tensor([2, 0])
    before, inside = (LOG_SHARE.clone().requires_grad_() for _ in range(2))
    added = negative_binomial_loss(COUNTS, TOTALS, before + baseline[which], 10.0)
    given = negative_binomial_loss(COUNTS, TOTALS, inside, 10.0, None, (baseline, which))
    added.backward()
    given.backward()
    assert given.item() == pytest.approx(added.item(), rel=1e-12)
    torch.testing.assert_close(inside.grad, before.grad, rtol=1e-12, atol=0)


def test_blocks_of_rows_do_not_matter(monkeypatch):
    mask = torch.tensor([[1.0, 0.0, 1.0], [1.0, 1.0, 0.0]]).double()
    whole = negative_binomial_loss(COUNTS, TOTALS, LOG_SHARE, 10.0, mask)
    monkeypatch.setattr("hespotex.nn.count_likelihood._BLOCK_ENTRIES", 1)
    by_row = negative_binomial_loss(COUNTS, TOTALS, LOG_SHARE, 10.0, mask)
    assert by_row.item() == pytest.approx(whole.item(), rel=1e-12)
