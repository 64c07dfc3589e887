"""Command line: the same names as the functions: demo, check, fit, differential, cell-types, signature, power, report."""

from hiercorr.cli import _around as _around
from hiercorr.cli import _estimates as _estimates
from hiercorr.cli._group import main

__all__ = ["main"]
