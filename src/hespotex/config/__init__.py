"""Configuration: what a result depends on, what a user accepts of inputs, and where work runs."""

from hespotex.config.choices import ACCEPTABLE, Grid, InputChoices
from hespotex.config.machine import Machine
from hespotex.config.run_config import (
    EncoderConfig,
    FoldConfig,
    ModelConfig,
    NucleiConfig,
    NucleiMode,
    NucleiSource,
    PanelConfig,
    PatchConfig,
    PoolingConfig,
    Profile,
    PublishedConfig,
    Reading,
    RunConfig,
    SearchConfig,
    StageConfig,
    TrustConfig,
)

__all__ = [
    "ACCEPTABLE",
    "EncoderConfig",
    "FoldConfig",
    "Grid",
    "InputChoices",
    "Machine",
    "ModelConfig",
    "NucleiConfig",
    "NucleiMode",
    "NucleiSource",
    "PanelConfig",
    "PatchConfig",
    "PoolingConfig",
    "Profile",
    "PublishedConfig",
    "Reading",
    "RunConfig",
    "SearchConfig",
    "StageConfig",
    "TrustConfig",
]
