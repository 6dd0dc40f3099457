"""Import of a checkpoint of the reference implementation as a model file."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from hespotex.config import Machine, RunConfig
from hespotex.encoders import get_encoder
from hespotex.encoders.given import FEATURES_FILE
from hespotex.errors import ModelFileError
from hespotex.models.bundle import Bundle, write_model
from hespotex.models.encoder_match import encoder_record
from hespotex.models.fit import device_name
from hespotex.models.published.checkpoint_import import import_checkpoint
from hespotex.models.types import EncoderRecord


def import_model(
    checkpoint: Path,
    out: Path,
    *,
    genes: Sequence[str],
    encoder: str,
    side_um: float,
    spot_pitch_um: float,
    projection: int | None = None,
    uses_nuclei: bool = True,
    machine: Machine | None = None,
) -> Path:
    """Write a model file of the published profile from weights that the reference trained.

    Example:
        >>> import_model(Path("best.pt"), Path("best.hespotex"), genes=panel,
        ...              encoder="lazyslide:quiltnet", side_um=55, spot_pitch_um=100)  # doctest: +SKIP

    Args:
        checkpoint: state dict; read without running code.
        genes: its panel, in its order.
        encoder: the encoder that it was trained on; `features-file` if features come from files alone.
        side_um: side of its patches in microns (published: the spot's diameter).
        spot_pitch_um: of its training spots.
        projection: columns of the fixed projection of the features, if any.
        uses_nuclei: whether it was trained with the nuclei factor.

    Raises:
        ModelFileError: tensors are missing or misshapen, or the encoder has other features.
        EncoderError: the encoder's weights are not on this machine.
    """
    model = import_checkpoint(checkpoint, genes, encoder, uses_nuclei=uses_nuclei)
    wanted = int(model.tensors["latent_head.0.weight"].shape[1])
    config = RunConfig.from_values(
        {
            "profile": "published",
            "encoder": {"name": encoder, "projection": projection, "reading": "patches"},
            "patches": {"sides_um": [side_um]},
            "panel": {"kind": "list", "genes": list(genes)},
            "nuclei": {"mode": "published" if uses_nuclei else "off"},
        }
    )
    bundle = Bundle(
        config=config,
        genes=tuple(genes),
        training_totals=(),
        encoder=_record(encoder, projection, wanted, machine or Machine()),
        sides_um=(side_um,),
        spot_pitch_um=spot_pitch_um,
        spot_diameter_um=side_um,
        sections=(),
        model=model,
    )
    write_model(out, bundle)
    return out


def _record(name: str, projection: int | None, wanted: int, machine: Machine) -> EncoderRecord:
    if name == FEATURES_FILE:
        return EncoderRecord(FEATURES_FILE, FEATURES_FILE, wanted, 1, (), ())
    encoder = get_encoder(name, device=device_name(machine), threads=machine.threads)
    dim = projection or encoder.dim
    if dim != wanted:
        raise ModelFileError(
            expected=f"an encoder with the checkpoint's {wanted} features a patch",
            found=f"{dim} with {name}",
            remedy="name the encoder that it was trained on, or its --projection",
        )
    return encoder_record(encoder, dim)
