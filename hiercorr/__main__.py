"""``python -m hiercorr`` is the command ``hiercorr``."""

from hiercorr.cli import main

if __name__ == "__main__":
    main(prog_name="hiercorr")
