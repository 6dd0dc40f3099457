"""The graph as tensors: sparse rows, their transpose, sums along weighted edges.

The only file that touches torch's sparse layout, so that every layer above is a few dense lines. Sums run as sparse products: neither the forward nor the backward pass ever
holds an (edges, channels) array.
"""

from __future__ import annotations

import functools
import warnings
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor


@dataclass(frozen=True, eq=False)
class Adjacency:
    """Edges j -> i between n spots, sorted by target i (and, transposed, by source j).

    Results are bit-identical for any order in which edges are given. An edge
    given twice is one edge.

    Attributes:
        n: number of spots.
        source, target: (E,) int64, sorted by (target, source).
        row_start: (n + 1,), where each target's edges begin.
        flip: (E,), permutation to the order by (source, target).
        column_start: (n + 1,), where each source's edges begin in that order.
    """

    n: int
    source: Tensor
    target: Tensor
    row_start: Tensor
    flip: Tensor
    column_start: Tensor

    @classmethod
    def from_edges(cls, edge_index: Tensor, n: int) -> Adjacency:
        """Build from edge_index (2, E) with row 0 the source and row 1 the target.

        Raises:
            ValueError: an index lies outside 0 .. n - 1, or the shape is not (2, E).
        """
        if edge_index.ndim != 2 or edge_index.shape[0] != 2:
            raise ValueError(f"edge_index must be (2, E), found {tuple(edge_index.shape)}")
        if edge_index.numel() and not 0 <= int(edge_index.min()) <= int(edge_index.max()) < n:
            raise ValueError(f"edge_index must lie in 0 .. {n - 1}, found {int(edge_index.max())}")
        by_target = torch.unique(edge_index[1].long() * n + edge_index[0])
        source, target = by_target % max(n, 1), by_target // max(n, 1)
        flip = torch.argsort(source, stable=True)
        return cls(
            n=n,
            source=source,
            target=target,
            row_start=_starts(target, n),
            flip=flip,
            column_start=_starts(source[flip], n),
        )

    @property
    def degree(self) -> Tensor:
        """Number of edges into each spot, (n,) int64."""
        return self.row_start.diff()

    def to(self, device: torch.device | str) -> Adjacency:
        """The same edges on another device."""
        return Adjacency(
            self.n,
            self.source.to(device),
            self.target.to(device),
            self.row_start.to(device),
            self.flip.to(device),
            self.column_start.to(device),
        )

    def softmax(self, score: Tensor) -> Tensor:
        """Softmax of (E,) scores over the edges into each target."""
        # The largest score of a target only keeps exp in range: no gradient passes through it.
        largest = torch.segment_reduce(score.detach(), "max", offsets=self.row_start)
        weight = (score - self._per_edge(largest)).exp()
        # 1e-16 as in torch-geometric, whose bits these are; stored models were fitted with it.
        total = torch.segment_reduce(weight, "sum", offsets=self.row_start) + 1e-16
        return weight / self._per_edge(total)

    def _per_edge(self, value: Tensor) -> Tensor:
        """(n,) values of targets at each of their edges, (E,)."""
        return value.repeat_interleave(self.degree, output_size=len(self.target))

    def propagate(self, weight: Tensor, x: Tensor) -> Tensor:
        """out_i = sum over edges j -> i of weight_ji x_j, with gradients for both.

        Args:
            weight: (E,), in the order of `source` and `target`.
            x: (n, C), of the same dtype.

        Returns:
            (n, C); zeros where no edge arrives.
        """
        result: Tensor = _Propagate.apply(weight, x, self)
        return result

    def sum(self, x: Tensor) -> Tensor:
        """out_i = sum over edges j -> i of x_j, (n, C)."""
        return self.propagate(x.new_ones(self.source.shape), x)


def _starts(ascending: Tensor, n: int) -> Tensor:
    """(n + 1,), where the entries of each of 0 .. n - 1 begin."""
    return torch.searchsorted(ascending, torch.arange(n + 1, device=ascending.device))


@functools.cache
def _take_beta_notice() -> None:
    """Trigger torch's once-a-process notice on CSR tensors here, where it is caught."""
    start = torch.zeros(2, dtype=torch.int64)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Sparse CSR tensor support is in beta state")
        torch.sparse_csr_tensor(start, start[:0], torch.zeros(0), (1, 1), check_invariants=False)


def _csr(start: Tensor, column: Tensor, value: Tensor, n: int) -> Tensor:
    _take_beta_notice()
    return torch.sparse_csr_tensor(start, column, value, (n, n), check_invariants=False)


class _Propagate(torch.autograd.Function):
    """Sparse times dense; torch's own gradient for the values of a CSR matrix is not there yet."""

    @staticmethod
    def forward(ctx: Any, weight: Tensor, x: Tensor, graph: Adjacency) -> Tensor:
        ctx.save_for_backward(weight, x)
        ctx.graph = graph
        return _csr(graph.row_start, graph.source, weight, graph.n) @ x.contiguous()

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, Tensor | None, None]:
        weight, x = ctx.saved_tensors
        graph: Adjacency = ctx.graph
        gradient = gradient.contiguous()
        to_weight = to_x = None
        if ctx.needs_input_grad[0]:
            # d out_i / d weight_ji = x_j: the products <gradient_i, x_j>, on the edges alone.
            pattern = _csr(graph.row_start, graph.source, torch.zeros_like(weight), graph.n)
            to_weight = torch.sparse.sampled_addmm(pattern, gradient, x.t(), beta=0.0).values()
        if ctx.needs_input_grad[1]:
            flip = graph.flip
            transposed = _csr(graph.column_start, graph.target[flip], weight[flip], graph.n)
            to_x = transposed @ gradient
        return to_weight, to_x, None
