"""Layers and losses that both models use."""
