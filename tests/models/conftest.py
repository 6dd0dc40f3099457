"""The published network with golden weights, as a reference checkpoint and as a model of ours."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from hespotex.models.published.checkpoint_import import import_checkpoint
from hespotex.models.types import FittedModel


@pytest.fixture(scope="session")
def golden_state(golden) -> dict[str, torch.Tensor]:
    """State dict by the reference's own names, in float64."""
    return {
        name.removeprefix("w/"): torch.as_tensor(value).double()
        for name, value in golden("decoder_forward").items()
        if name.startswith("w/")
    }


@pytest.fixture(scope="session")
def golden_model(golden_state, tmp_path_factory) -> FittedModel:
    """The golden weights, imported."""
    path: Path = tmp_path_factory.mktemp("checkpoint") / "golden.pt"
    torch.save(golden_state, path)
    return import_checkpoint(path, [f"G{i}" for i in range(17)], "efficientnet-lite0")
