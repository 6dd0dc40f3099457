"""Scores, baselines and trust: what predictions are worth."""
