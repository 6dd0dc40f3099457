"""Frozen pathology encoders: a registry, their preprocessing and their engines."""

from hespotex.encoders.base import Encoder, EncoderInfo, EncoderSource
from hespotex.encoders.registry import get_encoder, list_encoders

__all__ = ["Encoder", "EncoderInfo", "EncoderSource", "get_encoder", "list_encoders"]
