"""Consistency purification and randomized-smoothing certification, distributed on Ray."""

__version__ = "0.1.0"
