"""Frozen pathology encoders: a registry, their preprocessing and their engines."""

from hespotex.encoders.base import Encoder, EncoderInfo
from hespotex.encoders.registry import get_encoder, list_encoders

__all__ = ["Encoder", "EncoderInfo", "get_encoder", "list_encoders"]
