"""Prediction with a fitted default model: depth and composition, averaged over its networks."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import torch

from hespotex.config import ModelConfig
from hespotex.errors import ModelFileError
from hespotex.models.default.image_stream import ImageStream, spot_context
from hespotex.models.default.network import stream_sizes
from hespotex.models.default.regression import (
    DirectLog1p,
    KernelComposition,
    read_direct,
    read_kernel,
)
from hespotex.models.graph import knn_edges
from hespotex.models.layers.adjacency import Adjacency
from hespotex.models.types import FittedModel

Float32 = npt.NDArray[np.float32]

_ENTRIES = (
    2**19
)  # (spots, genes) values of a table that are worked on at once: they fit into a cache
RIDGE_SHARE = 0.75  # of the linear depth in the predicted depth; the networks have the rest


@dataclass(frozen=True)
class Decoded:
    """The ensemble's prediction of some rows.

    Attributes:
        rows: which spots.
        log_ratio: (b, G) mean over the members, log share over the baseline, not normalised.
        members: (M, b, G) the same with one network instead of their mean; None where not asked for.
        log1p: (b, G) what the direct regression says of log1p(CPM), or None.
    """

    rows: slice
    log_ratio: Float32
    members: Float32 | None
    log1p: Float32 | None


class Factors(NamedTuple):
    """The log ratios of n spots as a product: latent @ read_out + bias.

    Attributes:
        latent: (n, K).
        read_out: (K, G).
        bias: (G,).
        depth: (n,) centred log depth.
    """

    latent: Float32
    read_out: Float32
    bias: Float32
    depth: npt.NDArray[np.float64]


@dataclass(frozen=True)
class Ensemble:
    """The networks of a fitted model, ready to predict.

    Attributes:
        nets: one a seed.
        depth_coefficients: (columns of the context,) of the linear depth.
        kernel: regression of the composition, or None.
        direct: regression of log1p, or None.
        config: sizes.
        inputs: numbers a spot brings along.
    """

    nets: tuple[ImageStream, ...]
    depth_coefficients: Float32
    kernel: KernelComposition | None
    direct: DirectLog1p | None
    config: ModelConfig
    inputs: int

    @classmethod
    def from_model(cls, model: FittedModel, device: str = "cpu") -> Ensemble:
        """Restore the networks.

        Raises:
            ModelFileError: the model is of another profile, or its arrays do not fit its sizes.
        """
        if model.profile != "default":
            raise ModelFileError(
                expected="a model of the default profile",
                found=f"{model.profile}: predict with its own",
            )
        known = ModelConfig.model_fields
        try:
            config = ModelConfig(**{k: v for k, v in model.hyper.items() if k in known})
            inputs, genes = int(model.hyper["inputs"]), int(model.hyper["genes"])
            sizes = stream_sizes(config, inputs, genes)
            nets = []
            for member in range(config.ensemble):
                prefix = f"member{member}."
                state = {
                    name.removeprefix(prefix): torch.as_tensor(np.array(value))
                    for name, value in model.tensors.items()
                    if name.startswith(prefix)
                }
                with torch.device("meta"):
                    net = ImageStream(sizes)
                net.load_state_dict(state, assign=True)
                nets.append(net.to(device).eval())
            coefficients = np.asarray(model.tensors["depth.coefficients"])
            kernel, direct = read_kernel(model.tensors), read_direct(model.tensors)
        except (KeyError, ValueError, RuntimeError) as error:
            found = " ".join(str(error).split())
            raise ModelFileError(
                f"the model's arrays are not those of the default profile: {found}",
                remedy="train it anew",
            ) from error
        return cls(tuple(nets), coefficients, kernel, direct, config, inputs)

    def context(self, inputs: Float32, xy_um: npt.ArrayLike) -> tuple[Float32, Adjacency]:
        """Context and graph of the spots of one section."""
        edges = knn_edges(xy_um, self.config.neighbours)
        graph = Adjacency.from_edges(torch.as_tensor(edges), len(inputs))
        context: Float32 = spot_context(torch.as_tensor(inputs), graph, self.config.hops).numpy()
        return context, graph

    def decode(
        self,
        context: Float32,
        graph: Adjacency,
        *,
        rows: npt.NDArray[np.intp] | None = None,
        members: bool = True,
    ) -> tuple[npt.NDArray[np.float64], Iterator[Decoded]]:
        """Centred log depth of the spots, and the log ratios in blocks of rows.

        The graph layers see all spots at once; the genes are read out block by block, so memory
        grows with spots x latent size, not with spots x genes.

        Args:
            context: of all spots of the section.
            graph: their neighbours.
            rows: decode these spots alone; None: all.
            members: also the log ratios of each network.
        """
        latents, depth = self._encoded(context, graph, rows)
        context = context if rows is None else context[rows]
        kernel = None if self.kernel is None else self.kernel.latent(context)
        direct = None if self.direct is None else self.direct.latent(context)
        return depth, self._blocks(latents, kernel, direct, members)

    def factors(self, context: Float32, graph: Adjacency) -> Factors:
        """The mean log ratios of all spots as a product, for work on any block of rows."""
        latents, depth = self._encoded(context, graph, None)
        kernel = None if self.kernel is None else self.kernel.latent(context)
        return Factors(*self._joined(latents, kernel, self._kernel_share), depth)

    def _encoded(
        self, context: Float32, graph: Adjacency, rows: npt.NDArray[np.intp] | None
    ) -> tuple[list[torch.Tensor], npt.NDArray[np.float64]]:
        """What the genes are read out of, of each network, and the centred log depth."""
        device = self._device
        chosen = slice(None) if rows is None else rows
        latents, depths = [], []
        x = torch.as_tensor(context, device=device)
        on_device = graph.to(device)
        with torch.inference_mode():
            for net in self.nets:
                latent, depth = net.encode(x, on_device)
                latents.append(latent[chosen])
                depths.append(depth[chosen].double().cpu().numpy())
        linear = context[chosen].astype(np.float64) @ self.depth_coefficients
        return latents, RIDGE_SHARE * linear + (1 - RIDGE_SHARE) * np.mean(depths, axis=0)

    @property
    def _kernel_share(self) -> np.float32:
        return np.float32(self.config.kernel_share if self.kernel is not None else 0)

    @property
    def _device(self) -> torch.device:
        """Device of the networks."""
        return next(self.nets[0].parameters()).device

    def _blocks(
        self,
        latents: list[torch.Tensor],
        kernel: Float32 | None,
        direct: Float32 | None,
        members: bool,
    ) -> Iterator[Decoded]:
        share = self._kernel_share
        joined, read_out, bias = self._joined(latents, kernel, share)
        step = max(1, _ENTRIES // len(bias))
        for at in range(0, len(joined), step):
            rows = slice(at, min(at + step, len(joined)))
            log_ratio = joined[rows] @ read_out
            log_ratio += bias
            log1p = None
            if self.direct is not None and direct is not None:
                log1p = self.direct.train_mean + direct[rows] @ self.direct.loadings
            each = self._members(latents, kernel, share, rows) if members else None
            yield Decoded(rows, log_ratio, each, log1p)

    def _joined(
        self, latents: list[torch.Tensor], kernel: Float32 | None, share: np.float32
    ) -> tuple[Float32, Float32, Float32]:
        """The mean over the networks, and the kernel's part, as one product: (n, K), (K, G) and the bias (G,)."""
        own = (1 - share) / np.float32(len(self.nets))
        with torch.inference_mode():
            left = [latent.cpu().numpy() * own for latent in latents]
            right = [net.genes.weight.cpu().numpy().T for net in self.nets]
            bias = own * np.sum([net.genes.bias.cpu().numpy() for net in self.nets], axis=0)
        if self.kernel is not None and kernel is not None:
            left.append(share * kernel)
            right.append(self.kernel.loadings)
        return np.concatenate(left, axis=1), np.concatenate(right), np.asarray(bias, np.float32)

    def _members(
        self, latents: list[torch.Tensor], kernel: Float32 | None, share: np.float32, rows: slice
    ) -> Float32:
        """(M, b, G) each network's prediction, the kernel's part included."""
        with torch.inference_mode():
            values: Float32 = torch.stack(
                [net.genes(latent[rows]) for net, latent in zip(self.nets, latents, strict=True)]
            ).numpy(force=True)
        if self.kernel is not None and kernel is not None:
            values *= 1 - share
            values += share * (kernel[rows] @ self.kernel.loadings)
        return values
