"""The stand-in for an encoder where every section brings its features in a file."""

from __future__ import annotations

from hespotex.encoders.base import Encoder, EncoderSource, FeatureRows, Patches
from hespotex.errors import EncoderError

FEATURES_FILE = "features-file"


class GivenFeatures(Encoder):
    """Features that another tool made; nothing can be encoded with it."""

    name = FEATURES_FILE
    dim = 0
    size_px = 1
    mpp = None
    mean = ()
    std = ()
    licence = "as its maker states"
    engine = "none"

    def key(self) -> str:
        """The same for all files: nobody knows what made them."""
        return FEATURES_FILE

    def encode(self, patches: Patches) -> FeatureRows:
        """Always refused."""
        raise EncoderError(
            expected="features for every section in the manifest's column `features`",
            found="a section without",
            remedy="give them, or name an encoder with --set encoder.name=NAME",
        )


def _build(_name: str, **_how: object) -> Encoder:
    return GivenFeatures()


ENCODER = EncoderSource(_build, lambda _: [], spelling="")
