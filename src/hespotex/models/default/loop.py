"""The training of the default profile's image stream; pure: the seed and the device are passed in.

What is fitted, in order: the projection of the features, GATE's latents (if asked for), the linear
depth, the networks of the ensemble, the level of slides, the table and the offsets that turn them into log1p(CPM).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from hespotex.config import ModelConfig
from hespotex.errors import SpotTableError
from hespotex.genes.panel import spot_totals
from hespotex.models.default.calibration import calibrate, train_mean_log1p
from hespotex.models.default.count_likelihood import CountTarget, read_out_loss
from hespotex.models.default.count_rows import row_reader
from hespotex.models.default.depth import DepthRidge, fit_depth
from hespotex.models.default.image_stream import ImageStream, ImageStreamSizes, spot_context
from hespotex.models.default.latents import fit_latents
from hespotex.models.default.level import fit_level
from hespotex.models.default.low_rank import LowRank, fit_low_rank, residuals
from hespotex.models.default.network import stream_sizes
from hespotex.models.default.regression import (
    fit_direct_log1p,
    fit_kernel_composition,
    regression_tensors,
)
from hespotex.models.default.stacked import StackedStreams
from hespotex.models.graph import join_edges, knn_edges
from hespotex.models.layers.adjacency import Adjacency
from hespotex.models.layers.losses import pcc
from hespotex.models.preprocessing import (
    InputProjection,
    feature_stats,
    fit_projection,
    with_nuclei,
)
from hespotex.models.types import FittedModel, TrainingSection
from hespotex.models.workers import Run, in_turn, workers
from hespotex.storage.spill import Spill, release_pages

Float32 = npt.NDArray[np.float32]
Float64 = npt.NDArray[np.float64]

_SMALL_BATCH, _LARGE_BATCH = 64, 512
_BATCHES_PER_EPOCH = 8
_WORTH_SHARING = 1_000_000  # networks x spots x genes of a step


@dataclass(frozen=True)
class Lesson:
    """All training spots, section by section: inputs and targets of a network.

    Attributes:
        context: (n, inputs x (1 + hops)).
        graph: neighbours, none between sections.
        target: counts of the spots, with the totals, sections and baselines that the likelihood needs.
        log_depth: (n,) log(1 + total) minus its section's mean.
        latents: (n, at most latent_size) expression-side latents.
    """

    context: Tensor
    graph: Adjacency
    target: CountTarget
    log_depth: Tensor
    latents: Tensor


def fit_model(
    sections: Sequence[TrainingSection],
    config: ModelConfig,
    *,
    seed: int,
    device: str = "cpu",
    spill: Spill | None = None,
) -> FittedModel:
    """Fit the default model on exactly these sections.

    Args:
        sections: training sections; all with a nuclei factor, or none.
        seed: of everything left to chance; the same seed on the same machine gives the same bits.
        spill: where counts go that do not fit into memory; None: all stay there.

    Raises:
        SpotTableError: no section, sections that differ in features or genes, nuclei in some only,
            or a section without any count of a panel gene.
    """
    check_sections(sections)
    with workers() as run:
        return _fit(sections, config, seed, device, run, spill)


def _fit(
    sections: Sequence[TrainingSection],
    config: ModelConfig,
    seed: int,
    device: str,
    run: Run,
    spill: Spill | None,
) -> FittedModel:
    stats = list(run(feature_stats, [s.features for s in sections]))
    projection = fit_projection(
        [s.features for s in sections], config.n_components, seed=seed, stats=stats
    )

    def project(number: int) -> Float32:
        section = sections[number]
        return with_nuclei(projection.apply(section.features, stats[number]), section.nuclei)

    inputs = list(run(project, range(len(sections))))
    release_pages()
    log_depth = [_centred_log_depth(s) for s in sections]
    table = fit_low_rank(sections, residuals, config.latent_size, seed=seed, run=run)
    latents, gate_losses = np.concatenate(table.scores), []
    if config.latent_target == "gate":
        gate = fit_latents(sections, config, seed=seed, device=device)
        latents, gate_losses = np.concatenate(gate.latents), gate.losses
    lesson = _lesson(sections, inputs, log_depth, latents, config, device, spill)
    release_pages()
    contexts = np.split(lesson.context.cpu().numpy(), np.cumsum([len(x) for x in inputs])[:-1])
    share = _variance_share(projection, lesson.context.shape[1], inputs[0].shape[1])
    closed, depth = _closed_form(sections, contexts, log_depth, table, share, config, seed, run)
    seeds = [seed * 1000 + member for member in range(config.ensemble)]
    release_pages()
    nets, losses = train_ensemble(lesson, config, seeds=seeds, run=run)
    del lesson
    release_pages()
    level, of_level = fit_level(sections, stats, projection, inputs, seed=seed)
    history = {"gate_mse": gate_losses} if gate_losses else {}
    history |= {f"member{member}.loss": values for member, values in enumerate(losses)}
    tensors = {
        **projection.tensors(),
        **level.tensors(),
        **closed,
        **{
            f"member{i}.{name}": value.detach().cpu().numpy().copy()
            for i, net in enumerate(nets)
            for name, value in net.state_dict().items()
        },
    }
    hyper = {
        **config.model_dump(mode="json"),
        "uses_nuclei": sections[0].nuclei is not None,
        "genes": sections[0].counts.shape[1],
        "inputs": inputs[0].shape[1],
        "depth_residual_sd": depth.residual_sd,
        "depth_sd": depth.target_sd,
        **of_level,
    }
    return calibrate(FittedModel("default", tensors, hyper, history), sections, inputs, run=run)


def _closed_form(
    sections: Sequence[TrainingSection],
    contexts: Sequence[Float32],
    log_depth: Sequence[Float64],
    table: LowRank,
    variance_share: Float64,
    config: ModelConfig,
    seed: int,
    run: Run,
) -> tuple[dict[str, npt.NDArray[np.floating]], DepthRidge]:
    """Arrays of the parts that are solved rather than trained, and the linear depth."""
    depth = fit_depth(
        contexts,
        log_depth,
        [s.xy_um for s in sections],
        [s.section_id for s in sections],
        [s.patient_id for s in sections],
        variance_share,
        config.depth_penalty,
    )
    kernel = (
        fit_kernel_composition(
            sections, contexts, table, variance_share, config, seed=seed, run=run
        )
        if config.kernel_share > 0
        else None
    )
    direct = (
        fit_direct_log1p(
            sections,
            contexts,
            variance_share,
            train_mean_log1p(sections),
            config,
            seed=seed,
            run=run,
        )
        if config.direct_share > 0
        else None
    )
    tensors = {"depth.coefficients": depth.coefficients, **regression_tensors(kernel, direct)}
    return tensors, depth


def train_ensemble(
    lesson: Lesson, config: ModelConfig, *, seeds: Sequence[int], run: Run = in_turn
) -> tuple[list[ImageStream], list[list[float]]]:
    """Train one network a seed, side by side; their losses, averaged over each epoch."""
    n, device = len(lesson.log_depth), lesson.context.device
    batch = int(np.clip(n // _BATCHES_PER_EPOCH, _SMALL_BATCH, _LARGE_BATCH))
    per_epoch = -(-n // batch)
    steps = min(config.epochs * per_epoch, config.max_steps)
    orders = [np.random.default_rng(seed) for seed in seeds]
    losses: list[Tensor] = []
    if batch * lesson.target.log_baseline.shape[1] * len(seeds) < _WORTH_SHARING:
        run = in_turn
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        streams = [_new_stream(lesson, config, seed) for seed in seeds]
        torch.manual_seed(seeds[0])
        stack = StackedStreams(streams).to(device)
        optimiser = torch.optim.AdamW(
            stack.parameters(), lr=config.lr, weight_decay=config.weight_decay, fused=True
        )
        schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, config.lr, total_steps=steps)
        for step in range(steps):
            at = step % per_epoch
            if at == 0:
                shuffled = torch.as_tensor(np.stack([order.permutation(n) for order in orders]))
            optimiser.zero_grad()
            spots = shuffled[:, at * batch : (at + 1) * batch].to(device)
            loss = batch_loss(stack, lesson, spots, config, run)
            torch.autograd.backward(loss.sum())
            optimiser.step()
            schedule.step()
            losses.append(loss.detach())
    stack.write_back()
    by_epoch = [
        torch.stack(losses[i : i + per_epoch]).mean(dim=0) for i in range(0, steps, per_epoch)
    ]
    return [stream.eval() for stream in streams], torch.stack(by_epoch).T.tolist()


def batch_loss(
    stack: StackedStreams, lesson: Lesson, spots: Tensor, config: ModelConfig, run: Run = in_turn
) -> Tensor:
    """Negative binomial of the counts + squared error of log depth + 1 - PCC of the latents, of each network.

    Args:
        stack: M networks.
        lesson: all training spots.
        spots: (M, b) which of them each network is shown.
    """
    decoded, depth, latent = stack(lesson.context, lesson.graph, spots)
    loss: Tensor = read_out_loss(decoded, *stack.read_out, spots, lesson.target, run)
    loss = loss + (depth - lesson.log_depth[spots]).square().mean(dim=1)
    if config.latent_weight > 0 and latent.shape[2] > 1:
        width = lesson.latents.shape[1]  # fewer than latent_size where there are fewer spots
        agreement = pcc(latent[..., :width], lesson.latents[spots], dim=2)
        loss = loss + config.latent_weight * (1 - agreement.mean(dim=1))
    return loss


def _new_stream(lesson: Lesson, config: ModelConfig, seed: int) -> ImageStream:
    torch.manual_seed(seed)
    return ImageStream(_sizes(lesson, config)).to(lesson.context.device)


def check_sections(sections: Sequence[TrainingSection]) -> None:
    """Raise SpotTableError unless the sections can be fitted on together."""
    if not sections:
        raise SpotTableError(expected="at least one training section", found="none")
    first = sections[0]
    for s in sections:
        found = (s.features.shape[1:], s.counts.shape[1], s.nuclei is not None)
        wanted = (first.features.shape[1:], first.counts.shape[1], first.nuclei is not None)
        if found != wanted:
            raise SpotTableError(
                expected=f"(scales, features), genes, nuclei = {wanted} as in {first.section_id}",
                found=f"{found}: encode and read all sections the same way",
                section=s.section_id,
            )
        if not len(s.features) == s.counts.shape[0] == len(s.xy_um):
            raise SpotTableError(
                expected="as many features as counts and positions",
                found=f"{len(s.features)}, {s.counts.shape[0]} and {len(s.xy_um)}: encode the section again",
                section=s.section_id,
            )
        if s.counts.nnz == 0:
            raise SpotTableError(
                expected="counts of panel genes",
                found="none: check the gene names or leave the section out",
                section=s.section_id,
            )


def _lesson(
    sections: Sequence[TrainingSection],
    inputs: Sequence[Float32],
    log_depth: Sequence[Float64],
    latents: npt.NDArray[np.floating],
    config: ModelConfig,
    device: str,
    spill: Spill | None,
) -> Lesson:
    edges = join_edges(
        [knn_edges(s.xy_um, config.neighbours) for s in sections], [len(x) for x in inputs]
    )
    x = torch.as_tensor(np.concatenate(inputs))
    graph = Adjacency.from_edges(torch.as_tensor(edges), len(x))
    measured = np.stack([s.measured for s in sections])
    baseline = np.stack([_log_baseline(s) for s in sections])
    number = np.repeat(np.arange(len(sections)), [len(i) for i in inputs])

    def tensor(values: npt.ArrayLike) -> Tensor:
        return torch.as_tensor(np.asarray(values, np.float32), device=device)

    return Lesson(
        context=spot_context(x, graph, config.hops).to(device),
        graph=graph.to(device),
        target=CountTarget(
            counts=row_reader([s.counts for s in sections], device, spill),
            totals=tensor(np.concatenate([spot_totals(s.counts) for s in sections])),
            section=torch.as_tensor(number, device=device),
            log_baseline=tensor(baseline),
            measured=None if measured.all() else tensor(measured),
            dispersion=config.dispersion,
        ),
        log_depth=tensor(np.concatenate(log_depth)),
        latents=tensor(latents),
    )


def _log_baseline(section: TrainingSection) -> Float64:
    """Log share of each gene in the section's pooled counts, half a count added to each."""
    totals = np.asarray(section.counts.sum(axis=0, dtype=np.float64)).ravel() + 0.5
    share: Float64 = np.log(totals / totals[section.measured].sum())
    return share


def _centred_log_depth(section: TrainingSection) -> Float64:
    log_total = np.log1p(spot_totals(section.counts))
    centred: Float64 = log_total - log_total.mean()
    return centred


def _variance_share(projection: InputProjection, context: int, inputs: int) -> Float64:
    """Share of the standardised features' variance along each column of the context."""
    share = np.square(projection.scale.astype(np.float64)) / len(projection.center)
    own = np.append(share, np.full(inputs - len(share), share.max()))
    return np.tile(own, context // inputs)


def _sizes(lesson: Lesson, config: ModelConfig) -> ImageStreamSizes:
    inputs = lesson.context.shape[1] // (1 + config.hops)
    return stream_sizes(config, inputs, lesson.target.log_baseline.shape[1])
