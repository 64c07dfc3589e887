"""Bayesian hierarchical correlation at both levels."""
