"""Fixtures of tests, documentation and docstrings."""

import os
import sys

import pytest
from _pytest.doctest import DoctestItem

# Bytecode is kept whatever the environment says: tests start workers and many interpreters.
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
sys.dont_write_bytecode = False


@pytest.fixture
def undrawn(monkeypatch):
    """Build plots without arranging or drawing them, where a test does not look at them."""
    from matplotlib.figure import Figure

    from hiercorr.plotting import style

    def written(figure, file, *_, **__):
        if hasattr(file, "write"):
            file.write(b"<svg/>")
        else:
            with open(file, "wb") as handle:
                handle.write(b"<svg/>")

    monkeypatch.setattr(Figure, "savefig", written)
    monkeypatch.setattr(style, "arrange", lambda figure: None)


@pytest.fixture(autouse=True)
def examples_are_undrawn(request):
    """Draw no plots of examples, whose numbers are tested where they stand; tests/ draws plots."""
    if isinstance(request.node, DoctestItem):
        request.getfixturevalue("undrawn")
