"""Simulation studies that can refute what hiercorr claims, and benchmarks. Run: ``python -m validation run NAME``."""
