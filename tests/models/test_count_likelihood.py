"""The count likelihood is the negative binomial, and its own gradients are the derivatives of its value."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import torch
from scipy.stats import nbinom
from torch import Tensor

from hespotex.models.default.count_likelihood import CountTarget, read_out_loss

COUNTS = torch.tensor([[0.0, 3.0, 1.0], [5.0, 0.0, 40.0]], dtype=torch.float64)
TOTALS = torch.tensor([4.0, 45.0], dtype=torch.float64)
LOG_SHARE = torch.tensor([[-2.0, -0.5, -1.5], [-1.0, -3.0, -0.4]], dtype=torch.float64)


def _target(
    counts: Tensor,
    totals: Tensor,
    dispersion: float,
    measured: Tensor | None = None,
    baseline: Tensor | None = None,
) -> CountTarget:
    """Every spot is a section of its own, so that baselines and measured genes can be given by spot."""
    return CountTarget(
        lambda spots: counts[spots],
        totals,
        torch.arange(len(counts)),
        torch.zeros_like(counts) if baseline is None else baseline,
        None if measured is None else measured.expand_as(counts),
        dispersion,
    )


def negative_binomial_loss(
    counts: Tensor,
    totals: Tensor,
    log_share: Tensor,
    dispersion: float,
    measured: Tensor | None = None,
) -> Tensor:
    """Of one network whose read-out says just `log_share`."""
    genes = counts.shape[1]
    weight, bias = torch.eye(genes).to(log_share)[None], torch.zeros(1, genes).to(log_share)
    spots = torch.arange(len(counts))[None]
    target = _target(counts, totals, dispersion, measured)
    return read_out_loss(log_share[None], weight, bias, spots, target)[0]


def _two_networks(spots: int = 2, genes: int = 3) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    rng = torch.Generator().manual_seed(0)
    latent, weight, bias = (
        (0.3 * torch.randn(shape, generator=rng, dtype=torch.float64)).requires_grad_()
        for shape in ((2, spots, 4), (2, genes, 4), (2, genes))
    )
    return latent, weight, bias, torch.stack([torch.arange(spots), torch.arange(spots).flip(0)])


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


def test_gradients_of_two_networks_are_the_derivatives():
    latent, weight, bias, spots = _two_networks()
    mask = torch.tensor([[1.0, 0.0, 1.0], [1.0, 1.0, 1.0]], dtype=torch.float64)
    baseline = torch.arange(6, dtype=torch.float64).reshape(2, 3) / 7.0
    for target in (_target(COUNTS, TOTALS, 10.0), _target(COUNTS, TOTALS, 3.0, mask, baseline)):
        assert torch.autograd.gradcheck(
            lambda z, w, b, target=target: read_out_loss(z, w, b, spots, target),
            (latent, weight, bias),
        )


def test_the_baseline_of_the_spots_section_is_added():
    latent, weight, bias, spots = _two_networks()
    baseline = torch.arange(6, dtype=torch.float64).reshape(2, 3) / 7.0
    found = read_out_loss(
        latent, weight, bias, spots, _target(COUNTS, TOTALS, 10.0, None, baseline)
    )
    for number in range(2):
        log_share = latent[number] @ weight[number].T + bias[number] + baseline[spots[number]]
        alone = negative_binomial_loss(
            COUNTS[spots[number]], TOTALS[spots[number]], log_share, 10.0
        )
        torch.testing.assert_close(found[number], alone, rtol=1e-12, atol=0)


def test_neither_blocks_of_rows_nor_workers_change_the_gradients(monkeypatch):
    rng = torch.Generator().manual_seed(1)
    counts = torch.poisson(torch.full((600, 7), 2.0), generator=rng).double()
    target = _target(
        counts, counts.sum(dim=1), 10.0, (torch.rand(600, 7, generator=rng) < 0.7).double()
    )
    *inputs, spots = _two_networks(600, 7)

    def gradients(run) -> tuple[Tensor, ...]:
        return torch.autograd.grad(read_out_loss(*inputs, spots, target, run).sum(), inputs)

    whole = gradients(map)
    with ThreadPoolExecutor(3) as pool:
        for ours, theirs in zip(gradients(pool.map), whole, strict=True):
            assert torch.equal(ours, theirs)
    monkeypatch.setattr("hespotex.models.default.count_likelihood._BLOCK_ENTRIES", 1)
    for ours, theirs in zip(gradients(map), whole, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-9, atol=1e-12)
