"""Progress bars: shown where asked for, silent elsewhere, the work unchanged."""

import io
import sys

import pytest

from hiercorr.runtime import progress


class Terminal(io.StringIO):
    def isatty(self):
        return True


@pytest.mark.parametrize("show", [True, False, None])
def test_all_work_is_done_in_order(show):
    assert list(progress.with_progress(range(10), show)) == list(range(10))


@pytest.mark.parametrize(
    ("stream", "show", "n", "drawn"),
    [
        (io.StringIO, None, 100, False),  # not a terminal
        (Terminal, None, 100, True),
        (Terminal, None, 3, False),  # too little work
        (Terminal, False, 100, False),
        (Terminal, True, 3, True),
    ],
)
def test_bars_are_drawn_in_terminals(stream, show, n, drawn, monkeypatch):
    err = stream()
    monkeypatch.setattr(sys, "stderr", err)
    list(progress.with_progress(range(n), show))
    assert ("gene pairs" in err.getvalue()) == drawn
