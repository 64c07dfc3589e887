"""The two styles of figures: for a screen, and for the column of a journal."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any

from hiercorr.errors import InputError, one_of
from hiercorr.runtime.optional import optional

WIDTHS = {"single": 89.0, "double": 183.0}  # mm, the columns of most journals
MM = 1 / 25.4  # inches
FONTS = ["Arial", "Helvetica", "Liberation Sans", "Nimbus Sans", "DejaVu Sans"]
EDITABLE = {"pdf.fonttype": 42, "ps.fonttype": 42, "svg.fonttype": "none"}


@dataclass(frozen=True)
class Look:
    """Sizes of a style.

    Attributes
    ----------
    width : float or None
        Width of new figures in inches. None: each plot has its own.
    height : float
        Heights of new figures, relative to those on a screen.
    title, text, small : float
        Sizes of letters in points: titles; labels and ticks; legends, names of points.
    line, point : float
        Widths of lines and diameters of points, relative to those on a screen.
    """

    width: float | None = None
    height: float = 1.0
    title: float = 11.0
    text: float = 10.0
    small: float = 8.0
    line: float = 1.0
    point: float = 1.0

    def lw(self, width: float) -> float:
        """Return the width of a line in points."""
        return width * self.line

    def ms(self, size: float) -> float:
        """Return the diameter of a marker in points."""
        return size * self.point

    def area(self, size: float) -> float:
        """Return the area of a point in square points."""
        return size * self.point**2

    def rc(self) -> dict[str, Any]:
        """Return the settings of Matplotlib for whatever is drawn in this style."""
        if self.width is None:
            return {}
        spine = 0.5
        return {
            "font.family": "sans-serif",
            "font.sans-serif": FONTS,
            "font.size": self.text,
            "axes.titlesize": self.title,
            "axes.labelsize": self.text,
            "axes.labelpad": 2.0,
            "axes.titlepad": 4.0,
            "axes.linewidth": spine,
            "xtick.labelsize": self.text,
            "ytick.labelsize": self.text,
            **{f"{a}tick.major.{k}": v for a in "xy" for k, v in _TICK.items()},
            **{f"{a}tick.minor.{k}": v * 0.6 for a in "xy" for k, v in _TICK.items()},
            "legend.fontsize": self.small,
            "legend.title_fontsize": self.small,
            "lines.linewidth": 1.0,
            "patch.linewidth": 0.5,
            "figure.constrained_layout.w_pad": 0.03,
            "figure.constrained_layout.h_pad": 0.03,
            "savefig.dpi": 300,
            **EDITABLE,
        }


_TICK = {"width": 0.5, "size": 2.0, "pad": 1.5}
_SCREEN = Look()
_LOOK: ContextVar[Look] = ContextVar("look", default=_SCREEN)


def look() -> Look:
    """Return the style in use."""
    return _LOOK.get()


@contextmanager
def settings(rc: dict[str, Any]) -> Iterator[None]:
    """Change settings of Matplotlib for a while, except whether it is interactive.

    In a notebook, the first figure turns the interactive mode on. If leaving the context turned it
    off again, no later figure would be shown.
    """
    matplotlib = optional("matplotlib", "plots")
    interactive = matplotlib.is_interactive()
    try:
        with matplotlib.rc_context(rc):
            try:
                yield
            finally:
                interactive = matplotlib.is_interactive()
    finally:
        matplotlib.interactive(interactive)


@contextmanager
def figure_style(style: str = "paper", width: str | float = "single") -> Iterator[None]:
    """Draw and save figures in a style: for a screen, or for the column of a journal.

    Parameters
    ----------
    style : {"paper", "screen"}
        ``"paper"``: text of 7 points (6 in legends and names of points), thin lines, and text that
        can be edited in PDF and SVG files (TrueType, ``pdf.fonttype`` 42). ``"screen"``: the sizes
        of figures that are drawn outside of any style.
    width : {"single", "double"} or float
        Width of new figures on paper: 89 mm, 183 mm, or a number of mm.

    Raises
    ------
    InputError
        If the style or width is unknown.

    Examples
    --------
    >>> import hiercorr as hc
    >>> adata = hc.datasets.glioblastoma()
    >>> r = hc.CSCore(adata, "patient_id", genes=20, depth="total_counts").fit(target="FTL")
    >>> with hc.plotting.figure_style("paper", width="single"):
    ...     ax = r.plot.volcano()
    >>> f"{25.4 * ax.figure.get_figwidth():.0f} mm"
    '89 mm'
    """
    one_of("style", style, ("paper", "screen"))
    if isinstance(width, str):
        one_of("width", width, WIDTHS)
        mm = WIDTHS[width]
    elif isinstance(width, bool) or not isinstance(width, int | float) or not 30 <= width <= 1000:
        raise InputError(
            f"width={width!r} is no width in mm (30 to 1,000); 'single' is 89 mm and 'double' is "
            "183 mm"
        )
    else:
        mm = float(width)
    chosen = _SCREEN
    if style == "paper":
        chosen = Look(mm * MM, 0.7, 7.0, 7.0, 6.0, 0.65, 0.68)
    token = _LOOK.set(chosen)
    try:
        with settings(chosen.rc()):
            yield
    finally:
        _LOOK.reset(token)
