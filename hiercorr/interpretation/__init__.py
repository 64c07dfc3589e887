"""Interpretation of results: evidence at two levels, comparison of models, decomposition."""
