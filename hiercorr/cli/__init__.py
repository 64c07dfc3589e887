"""The command line: demo, analyze, check, power, report, and a command for each model."""

from hiercorr.cli import analysis as analysis
from hiercorr.cli import models as models
from hiercorr.cli import modules as modules
from hiercorr.cli import tables as tables
from hiercorr.cli import tools as tools
from hiercorr.cli.group import main

__all__ = ["main"]
