"""The published profile: its training, and prediction with its network.

What it reproduces, and what of the published way is not offered: docs/design/published-profile.md.
Pure: arrays in, arrays out; the seed and the device are passed in.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from hespotex.config import PublishedConfig
from hespotex.errors import ModelFileError, SpotTableError
from hespotex.genes.panel import log1p_cpm
from hespotex.models.graph import published_decoder_edges, published_gate_edges
from hespotex.models.layers.adjacency import Adjacency
from hespotex.models.layers.fit_gate import Descent, fit_gate_in_turn
from hespotex.models.layers.graph_decoder import PublishedNet, build_published_net
from hespotex.models.layers.losses import expression_mse, gene_pcc_loss, latent_pcc_loss
from hespotex.models.types import FittedModel, TrainingSection

_ROWS = 4096  # spots that the read-out handles at once when predicting


def fit_published(
    sections: Sequence[TrainingSection],
    config: PublishedConfig | None = None,
    *,
    seed: int = 0,
    device: str = "cpu",
) -> FittedModel:
    """Train the published network the published way, and keep the LAST epoch.

    GATE section after section on log1p of counts scaled to 1e6 over the panel; then AdamW on
    1 - PCC of the latents plus the mean squared error of the expression, one section per step in
    the order given. Epochs are never chosen by a held-out section, and nothing is shifted by its
    minimum. Genes that a section did not measure are left out of its squared error.

    Args:
        sections: training sections; all with a nuclei factor, or none.
        seed: of all starting weights, the only chance involved.

    Raises:
        SpotTableError: no section, sections of different features or genes, or nuclei in some only.
    """
    config = config or PublishedConfig()
    _check(sections)
    expression = [log1p_cpm(s.counts) for s in sections]
    gate = fit_gate_in_turn(
        expression,
        [published_gate_edges(s.xy_um, config.gate_query) for s in sections],
        latent_size=config.latent_size,
        hidden=config.gate_hidden,
        descent=Descent(steps=config.gate_steps),
        seed=seed,
        device=device,
    )
    lessons = [
        _lesson(*parts, device) for parts in zip(sections, expression, gate.latents, strict=True)
    ]
    net = _new_net(lessons[0], config, seed).to(device)
    history = _train(net, lessons, config)
    return FittedModel(
        profile="published",
        tensors={k: v.detach().cpu().numpy().copy() for k, v in net.state_dict().items()},
        hyper={"uses_nuclei": sections[0].nuclei is not None, **config.model_dump(mode="json")},
        history={"gate_mse": gate.losses, **history},
    )


def predict_published(
    model: FittedModel,
    features: npt.ArrayLike,
    xy_um: npt.ArrayLike,
    nuclei: npt.ArrayLike | None = None,
    *,
    device: str = "cpu",
) -> npt.NDArray[np.floating[Any]]:
    """Predict log1p of counts scaled to 1e6 over the panel.

    Args:
        model: fitted by `fit_published` or imported from a checkpoint.
        features: (n, S, D) or (n, S x D), the encoder's raw features.
        xy_um: (n, 2) spot centres, any unit: only their order by distance matters.
        nuclei: (n,) nuclei factor; needed if, and only if, the model was trained with one.

    Returns:
        (n, G) in the dtype of the weights; values below 0 occur and are left as they are.

    Raises:
        ModelFileError: the model is of another profile, wants features of another size, or was
            trained with nuclei and none are given.
    """
    net = restore_net(model).to(device).eval()
    weight = net.state_dict()["latent_head.0.weight"]
    x = torch.as_tensor(np.array(features), dtype=weight.dtype, device=device).flatten(1)
    if x.shape[1] != weight.shape[1]:
        raise ModelFileError(
            f"the model expects {weight.shape[1]} features a spot, found {x.shape[1]}: encode with "
            "the model's own encoder and patch sides"
        )
    graph = _graph(xy_um, device)
    with torch.inference_mode():
        latent = net.latent_head(x)
        layers = net.decoder.graph_branch.layers(latent, graph)
        rows = [
            net.decoder.gene_head(latent[at : at + _ROWS])
            + net.decoder.graph_branch.readout(layers[:, at : at + _ROWS])
            for at in range(0, len(x), _ROWS)
        ]
        out = torch.cat(rows).cpu().numpy()
    factor = _factor(model, nuclei)
    return out if factor is None else out * factor.astype(out.dtype)


def restore_net(model: FittedModel) -> PublishedNet:
    """The network with the model's weights; sizes are read from the weights' shapes.

    Raises:
        ModelFileError: another profile, or weights that do not belong to this network.
    """
    if model.profile != "published":
        raise ModelFileError(
            expected="a model of the published profile",
            found=f"{model.profile}: predict with its own",
        )
    state = {name: torch.as_tensor(np.array(value)) for name, value in model.tensors.items()}
    try:
        latent, features = (state[f"latent_head.{i}.weight"].shape[j] for i, j in ((3, 0), (0, 1)))
        genes = state["decoder.gene_head.3.weight"].shape[0]
        with torch.device("meta"):
            net = build_published_net(features, genes, latent)
        net.load_state_dict(state, assign=True)
    except (KeyError, RuntimeError) as error:
        found = " ".join(str(error).split())
        raise ModelFileError(
            f"the model's weights are not those of the published network: {found}",
            remedy="train it anew",
        ) from error
    return net


class _Lesson(NamedTuple):
    """One section as tensors: what goes in, what should come out."""

    features: Tensor
    graph: Adjacency
    factor: Tensor | None
    latent: Tensor
    expression: Tensor
    measured: Tensor | None


def _lesson(
    section: TrainingSection, expression: npt.NDArray[Any], latent: npt.NDArray[Any], device: str
) -> _Lesson:
    def tensor(values: npt.ArrayLike) -> Tensor:
        return torch.as_tensor(np.array(values), dtype=torch.float32, device=device)

    return _Lesson(
        features=tensor(section.features).flatten(1),
        graph=_graph(section.xy_um, device),
        factor=None if section.nuclei is None else tensor(section.nuclei)[:, None],
        latent=tensor(latent),
        expression=tensor(expression),
        measured=None
        if section.measured.all()
        else torch.as_tensor(np.array(section.measured), device=device),
    )


def _train(
    net: PublishedNet, lessons: Sequence[_Lesson], config: PublishedConfig
) -> dict[str, list[float]]:
    """All epochs; mean losses of each over its sections, taken before their steps."""
    optimiser = torch.optim.AdamW(
        net.parameters(), lr=config.lr, weight_decay=config.weight_decay, fused=True
    )
    names = ("latent_pcc_loss", "expression_mse", "gene_pcc_loss")
    history: dict[str, list[float]] = {name: [] for name in names}
    for _ in range(config.epochs):
        seen = np.zeros(len(names))
        for lesson in lessons:
            optimiser.zero_grad()
            losses = _losses(net, lesson)
            (losses[0] + losses[1]).backward()  # type: ignore[no-untyped-call]
            optimiser.step()
            seen += [loss.item() for loss in losses]
        for name, total in zip(names, seen, strict=True):
            history[name].append(float(total / len(lessons)))
    return history


def _losses(net: PublishedNet, lesson: _Lesson) -> tuple[Tensor, Tensor, Tensor]:
    latent, expression = net(lesson.features, lesson.graph)
    target = lesson.expression
    if lesson.factor is not None:
        expression = expression * lesson.factor
    if lesson.measured is not None:
        expression, target = expression[:, lesson.measured], target[:, lesson.measured]
    with torch.no_grad():
        logged = gene_pcc_loss(expression, target)
    return latent_pcc_loss(latent, lesson.latent), expression_mse(expression, target), logged


def _new_net(lesson: _Lesson, config: PublishedConfig, seed: int) -> PublishedNet:
    """The network at its start; the caller's random state is left as it was."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return build_published_net(
            lesson.features.shape[1], lesson.expression.shape[1], config.latent_size
        )


def _graph(xy: npt.ArrayLike, device: str) -> Adjacency:
    edges = published_decoder_edges(xy)
    return Adjacency.from_edges(torch.as_tensor(edges), len(np.asarray(xy))).to(device)


def _factor(model: FittedModel, nuclei: npt.ArrayLike | None) -> npt.NDArray[np.float64] | None:
    uses: Mapping[str, Any] = model.hyper
    if not uses["uses_nuclei"]:
        return None
    if nuclei is None:
        raise ModelFileError(
            "the model was trained with a nuclei factor, found no nuclei for this slide: give a "
            "nuclei mask or let nuclei be found"
        )
    return np.asarray(nuclei, np.float64).reshape(-1, 1)


def _check(sections: Sequence[TrainingSection]) -> None:
    if not sections:
        raise SpotTableError("training needs one section or more, found none: name some")
    first = sections[0]
    for section in sections:
        for what, own, other in (
            ("features a spot", section.features.shape[1:], first.features.shape[1:]),
            ("genes", section.counts.shape[1], first.counts.shape[1]),
            ("nuclei factor present", section.nuclei is not None, first.nuclei is not None),
        ):
            if own != other:
                raise SpotTableError(
                    f"{what}: expected {other} as in section {first.section_id}, found {own}: "
                    "prepare all sections alike",
                    section=section.section_id,
                )
