"""The encoder and the patches of a run, and whether they are those of a model."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from statistics import median

from hespotex.config import Machine, NucleiConfig, PatchConfig, Reading, RunConfig
from hespotex.encoders import Encoder, get_encoder
from hespotex.encoders.given import FEATURES_FILE
from hespotex.errors import ConfigError, ModelFileError
from hespotex.models.bundle import Bundle
from hespotex.models.fit import device_name, use_threads
from hespotex.models.types import EncoderRecord
from hespotex.sections.section import Section


def encode_config(
    bundle: Bundle, nuclei: NucleiConfig, reading: Reading | None = None
) -> RunConfig:
    """The model's configuration with its patch sides written out, with these nuclei, and read as stated."""
    config = bundle.config
    patches = config.patches.model_copy(update={"sides_um": bundle.sides_um})
    encoder = config.encoder.model_copy(update={"reading": reading or config.encoder.read_as})
    return config.model_copy(update={"patches": patches, "nuclei": nuclei, "encoder": encoder})


def encoder_name(config: RunConfig, sections: Sequence[Section]) -> str:
    """The configured encoder, or `features-file` where every section brings its features.

    Raises:
        ConfigError: some sections bring features and others do not.
    """
    mixed = mixed_features(sections)
    if mixed is not None:
        raise mixed
    given = any(s.features_file is not None for s in sections)
    return FEATURES_FILE if given else config.encoder.name


def load_encoder(name: str, machine: Machine) -> Encoder:
    """An encoder on the machine's device, with its threads.

    Raises:
        EncoderError: there is no such encoder, or its weights are not here.
        ConfigError: the device is not here.
    """
    use_threads(machine)
    return get_encoder(name, device=device_name(machine), threads=machine.threads)


def patch_config(config: RunConfig, sections: Sequence[Section]) -> PatchConfig:
    """The configured patches; the published profile takes the spot diameter where nothing is asked for."""
    if config.profile == "published" and config.patches.sides_um is None:
        return PatchConfig(sides_um=(median(s.geometry.spot_diameter_um for s in sections),))
    return config.patches


def encoder_record(encoder: Encoder, dim: int) -> EncoderRecord:
    """The record of the encoder in a model file; `dim` is that of the features, after any projection."""
    return EncoderRecord(
        name=encoder.name,
        key=encoder.key(),
        dim=dim,
        size_px=encoder.size_px,
        mean=encoder.mean,
        std=encoder.std,
    )


def check_same_encoder(model: Path, bundle: Bundle, encoder: EncoderRecord) -> None:
    """Refuse features of other weights or preprocessing than the model was fitted on.

    Raises:
        ModelFileError: names both keys.
    """
    if encoder.name == FEATURES_FILE and encoder.dim == bundle.encoder.dim:
        return  # made elsewhere: their number is all that can be checked
    if encoder != bundle.encoder:
        raise ModelFileError(
            expected=(
                f"the encoder that {model} was trained with ({bundle.encoder.name}, key "
                f"{bundle.encoder.key})"
            ),
            found=f"other weights or preprocessing (key {encoder.key})",
            remedy="install the same encoder version",
        )


def mixed_features(sections: Sequence[Section]) -> ConfigError | None:
    """The error of sections of which some bring features and others do not; None where all are alike."""
    given = [s.section_id for s in sections if s.features_file is not None]
    if not given or len(given) == len(sections):
        return None
    return ConfigError(
        expected="features files for all sections or for none",
        found=f"them for {', '.join(given[:5])} only",
        remedy="features of two makers do not mix",
    )
