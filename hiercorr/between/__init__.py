"""Correlation between samples, from counts summed per sample."""
