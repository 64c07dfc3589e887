"""Run the command line with ``python -m hiercorr.cli``."""

from hiercorr.cli import main

main()
