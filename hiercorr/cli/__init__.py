"""The command line: demo, check, fit, differential, cell-types, signature, power and report."""

from hiercorr.cli import models as models
from hiercorr.cli import tools as tools
from hiercorr.cli.group import main

__all__ = ["main"]
