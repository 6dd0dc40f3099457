"""Readers of spots: one file per input kind, each returns a SpotTable."""
