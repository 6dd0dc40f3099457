"""How slides are read, by patches or by area: `auto` becomes one of them, and a model's reading may be left for the other."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, cast

from hespotex.config import Machine, Reading, RunConfig
from hespotex.encoders import offline
from hespotex.encoders.base import Encoder, EncoderInfo, Tile
from hespotex.encoders.given import FEATURES_FILE
from hespotex.encoders.registry import list_encoders
from hespotex.features.encode import default_sides
from hespotex.features.patches import PatchPlan
from hespotex.features.prices import Price, core_time, price
from hespotex.models.encoder_match import encoder_name, load_encoder, patch_config
from hespotex.progress import Reporter
from hespotex.sections.section import Section

if TYPE_CHECKING:
    from hespotex.models.bundle import Bundle

_AS_PRICED = "priced for the offline encoder"
_PAGE = "docs/design/area.md"


@dataclass(frozen=True)
class Chosen:
    """A configuration whose reading is stated.

    Attributes:
        why: the reading and its reason, in words.
    """

    config: RunConfig
    why: str


def chosen_reading(
    config: RunConfig, sections: Sequence[Section], machine: Machine, reporter: Reporter
) -> Chosen:
    """The configuration with `auto` decided by what the sections' features cost: sums over all of them, both ways.

    Area is taken where it saves a tenth and the encoder reads by area. The encoder is loaded only where that matters.

    Raises:
        EncoderError: there is no such encoder, or its weights are not here.
        ConfigError: some sections bring features and others do not.
    """
    if config.encoder.reading != "auto":
        return Chosen(config, f"by {config.encoder.reading}, as asked for")
    name = encoder_name(config, sections)
    reading: Reading = "patches"
    if name == FEATURES_FILE:
        why = "none: features are given"
    else:
        found, refused = _price(config, sections, name, machine)
        why = _because(found)
        if found.cheaper == "area" and refused:
            why = f"by patches, since {name} reads patches alone: {refused}"
        elif found.cheaper == "area":
            reading = "area"
        if found.cheaper == "area":
            reporter.say(f"encoder.reading=auto: {why}")
    encoder = config.encoder.model_copy(update={"reading": reading})
    return Chosen(config.model_copy(update={"encoder": encoder}), why)


def reading_of(bundle: Bundle, asked: Reading | None) -> str:
    """How slides are read for a prediction, in words."""
    own = bundle.config.encoder.read_as
    if switched(bundle, asked):
        return f"by {asked}, as asked for; the model was fitted by {own}"
    return f"by {own}, as in the model's training"


def switched(bundle: Bundle, asked: Reading | None) -> str:
    """What to know of a prediction that is read otherwise than the model's training was; empty where it is not."""
    own = bundle.config.encoder.read_as
    if asked is None or asked == own or bundle.encoder.name == FEATURES_FILE:
        return ""
    return (
        f"features are read by {asked}, the model was fitted by {own}: its grades and intervals were found by {own} "
        f"({_PAGE} has what the change was seen to move)"
    )


def cheaper_reading(found: Price, own: Reading, asked: Reading | None) -> str:
    """One line where the model's own reading is followed though the other costs much less; else empty."""
    other = None if asked is not None else found.much_cheaper(own)
    if other is None:
        return ""
    return (
        f"features by {own}, as in the model's training, take about {core_time(found.of(own))}, by {other} about "
        f"{core_time(found.of(other))} ({_AS_PRICED}); --reading {other} does it ({_PAGE} has what that moves)"
    )


def say_of_reading(
    bundle: Bundle,
    config: RunConfig,
    sections: Sequence[Section],
    asked: Reading | None,
    machine: Machine,
    reporter: Reporter,
) -> None:
    """Say of sections at their own spots that the other reading is much cheaper, or that it was asked for.

    Args:
        config: of `encode_config`.
        asked: `--reading`.
    """
    name = encoder_name(config, sections)
    if name == FEATURES_FILE:
        return
    if note := switched(bundle, asked):
        reporter.warn(note)
    own = config.encoder.read_as
    found, refused = _price(config, sections, name, machine, than=own)
    if not refused and (line := cheaper_reading(found, own, asked)):
        reporter.say(line)


def _price(
    config: RunConfig,
    sections: Sequence[Section],
    name: str,
    machine: Machine,
    *,
    than: Reading | None = None,
) -> tuple[Price, str]:
    """The price both ways, and why the encoder cannot be read by area where it would be the cheaper way.

    Args:
        than: ask for a much cheaper way than this; None: for the cheaper one.
    """
    encoder: Encoder | EncoderInfo | None = next(
        (row for row in list_encoders(lazyslide=False) if row.name == name and row.size_px), None
    )
    if encoder is None:
        encoder = load_encoder(name, machine)
    found = _of(config, sections, encoder)
    by_area = found.cheaper == "area" if than is None else found.much_cheaper(than) == "area"
    if not by_area:
        return found, ""
    loaded = encoder if isinstance(encoder, Encoder) else load_encoder(name, machine)
    refused = loaded.not_by_area()
    if not refused:
        found = _of(config, sections, loaded, loaded.area_tiles())
    return found, refused


def _of(
    config: RunConfig,
    sections: Sequence[Section],
    encoder: Encoder | EncoderInfo,
    tiles: Sequence[Tile] = offline.TILES,
) -> Price:
    # Of an encoder only size and mpp are asked for, and its line in the listing has both.
    sides_um = patch_config(config, sections).sides_um or default_sides(cast(Encoder, encoder))
    plan = PatchPlan(sides_um, encoder.size_px or 1)
    return price(((s.xy_px0, s.geometry.mpp) for s in sections), plan, tiles)


def _because(found: Price) -> str:
    other: Reading = "patches" if found.cheaper == "area" else "area"
    return (
        f"by {found.cheaper}: the training sections take about {core_time(found.of(found.cheaper))}, by {other} "
        f"{core_time(found.of(other))} ({_AS_PRICED}; area is taken where it saves a tenth)"
    )
