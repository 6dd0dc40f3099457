"""Attention MIL of many label vectors at once: pools of torchmil, a linear head, and what each spot says.

A slide's margin is the mean of its spots' margins, weighed by attention: z = sum a_i x_i and w z + b = sum a_i (w x_i + b).
So what a group of spots says alone, and what a slide loses without it, follow from attention and margins, exactly.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float32]
Ints = npt.NDArray[np.intp]

_HIDDEN: Final = 16
_STEPS: Final = 30
_RATE: Final = 0.04
_DECAY: Final = 0.3
# Spots of a slide that one step looks at, drawn anew in each.
_SPOTS: Final = 128
# Spots whose attention is made at once.
_BLOCK: Final = 32_768


@dataclass(frozen=True)
class Attention:
    """m fitted models.

    Attributes:
        pool: parameters of torchmil's AttentionPool, each with m rows.
        head: (m, k, C) weights of the classes, and (m, C) `bias`.
        neutral: (m, C) mean margin of the training slides.
    """

    pool: dict[str, Floats]
    head: Floats
    bias: Floats
    neutral: Floats

    def spots(self, values: Floats) -> tuple[Floats, Floats]:
        """Attention before the softmax (m, n), and margins (m, n, C) of spots (n, k)."""
        import torch
        from torch.func import functional_call, vmap

        pool = _pool(values.shape[1])
        named = {name: torch.as_tensor(v) for name, v in self.pool.items()}
        parts = []
        with torch.no_grad():
            for start in range(0, len(values), _BLOCK):
                x = torch.as_tensor(values[start : start + _BLOCK])[None]
                said = vmap(lambda p, x=x: functional_call(pool, p, (x, None, True))[1])(named)
                parts.append(said[:, 0].numpy())
        raised = np.concatenate(parts, axis=1)
        logits = np.einsum("nk,mkc->mnc", values, self.head) + self.bias[:, None, :]
        return raised, margins(logits)


def margins(logits: Floats) -> Floats:
    """(..., C) each class's logit less the mean of the others."""
    n = logits.shape[-1]
    return np.asarray((logits * n - logits.sum(axis=-1, keepdims=True)) / (n - 1), np.float32)


def softmax_by_slide(raised: Floats, starts: Ints) -> Floats:
    """(m, N) attention that sums to 1 in every slide."""
    top = np.maximum.reduceat(raised, starts[:-1], axis=1)
    lengths = np.diff(starts)
    weight = np.exp(raised - np.repeat(top, lengths, axis=1))
    total = np.add.reduceat(weight, starts[:-1], axis=1)
    return np.asarray(weight / np.repeat(total, lengths, axis=1), np.float32)


def fit_attention(
    values: Floats, starts: Ints, labels: Ints, weights: Floats, n_classes: int, *, seed: int = 0
) -> Attention:
    """Fit m models at once, which share nothing but their slides and the spots that a step draws.

    Args:
        values: (N, k) components of all slides' spots.
        starts: (B + 1,) first row of each slide.
        labels: (m, B) class of each slide for each model.
        weights: (m, B) of each slide in each model; 0: not in its training.
    """
    import torch
    from torch.func import functional_call, stack_module_state, vmap

    torch.manual_seed(seed)
    m, k = len(labels), values.shape[1]
    # One start for all: what a model becomes does not depend on which others are fitted beside it.
    parameters, _ = stack_module_state([_pool(k)] * m)
    pool = {name: v.detach().requires_grad_() for name, v in parameters.items()}
    head = torch.zeros(m, k, n_classes, requires_grad=True)
    bias = torch.zeros(m, n_classes, requires_grad=True)
    optimiser = torch.optim.AdamW(
        [{"params": [*pool.values(), head], "weight_decay": _DECAY}, {"params": [bias], "weight_decay": 0.0}],
        lr=_RATE,
    )  # fmt: skip
    shape = _pool(k)
    target = torch.as_tensor(labels, dtype=torch.int64)
    share = torch.as_tensor(weights / weights.sum(axis=1, keepdims=True), dtype=torch.float32)
    rng, lengths = np.random.default_rng([seed, 3]), np.diff(starts)
    used = np.flatnonzero((weights > 0).any(axis=0))
    target, share = target[:, used], share[:, used]

    def pooled(drawn: torch.Tensor) -> torch.Tensor:
        mixed: torch.Tensor = vmap(lambda p: functional_call(shape, p, (drawn,)))(pool)
        return mixed

    for _ in range(_STEPS):
        at = rng.random((len(used), _SPOTS)) * lengths[used, None]
        rows = starts[used, None] + at.astype(np.intp)
        logits = torch.einsum("mbk,mkc->mbc", pooled(torch.as_tensor(values[rows])), head)
        logits = logits + bias[:, None]
        loss = torch.nn.functional.cross_entropy(logits.transpose(1, 2), target, reduction="none")
        optimiser.zero_grad()
        (loss * share).sum().backward()  # type: ignore[no-untyped-call]
        optimiser.step()
    fitted = Attention(
        {name: v.detach().numpy() for name, v in pool.items()},
        head.detach().numpy(),
        bias.detach().numpy(),
        np.zeros((m, n_classes), np.float32),
    )
    neutral = np.einsum("mb,mbc->mc", share.numpy(), margins(logits.detach().numpy()))
    return Attention(fitted.pool, fitted.head, fitted.bias, neutral.astype(np.float32))


def _pool(width: int):  # type: ignore[no-untyped-def]  # torchmil has no types
    from torchmil.nn import AttentionPool

    return AttentionPool(width, _HIDDEN)
