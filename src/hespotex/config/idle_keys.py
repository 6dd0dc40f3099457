"""Keys that were set and that the rest of the configuration keeps from being read."""

from __future__ import annotations

from collections.abc import Iterable

from hespotex.config.run_config import RunConfig, StageConfig


def idle_keys(config: RunConfig) -> dict[str, str]:
    """Dotted keys whose value changes nothing here, and for each what would have it read.

    A value that equals the default counts as not set.
    """
    found: dict[str, str] = {}
    if config.profile == "published":
        found |= _set(config.model, "model", type(config.model).model_fields, "profile=default")
    else:
        found |= _set(
            config.published, "published", type(config.published).model_fields, "profile=published"
        )
        tried = config.search.grid  # a searched value may switch on what the others are for
        if config.model.latent_target != "gate" and "model.latent_target" not in tried:
            gate = ("gate_components", "gate_hidden", "gate_steps")
            found |= _set(config.model, "model", gate, "model.latent_target=gate")
        if not config.model.graph_layers and "model.graph_layers" not in tried:
            found |= _set(config.model, "model", ("chained",), "model.graph_layers above 0")
    if config.panel.kind != "hvg":
        found |= _set(config.panel, "panel", ("n_top",), "panel.kind=hvg")
    if config.panel.kind != "list":
        found |= _set(config.panel, "panel", ("genes",), "panel.kind=list")
    if not config.search.grid:
        found |= _set(config.search, "search", ("score",), "search.grid")
    return found


def _set(stage: StageConfig, part: str, names: Iterable[str], needs: str) -> dict[str, str]:
    fields = type(stage).model_fields
    return {
        f"{part}.{name}": needs for name in names if getattr(stage, name) != fields[name].default
    }
