"""Benchmarks: accuracy beside the reference, speed and memory; `python -m benchmarks.run --help`."""
