"""Frozen pathology encoders: a registry, their preprocessing and their engines."""
