"""Simulation studies that test the claims of hiercorr, and benchmarks."""
