"""Compares reconstruction terms on one model at one rate: ``python -m benchmarks.quality``."""
