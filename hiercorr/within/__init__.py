"""Correlation within samples and its differences between groups of samples."""
