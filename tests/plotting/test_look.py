"""Styles of figures: widths, letters, files."""

import io

import matplotlib as mpl
import matplotlib.pyplot as plt
import pytest

import hiercorr as hc
from hiercorr import plotting
from hiercorr.plotting import style

pytestmark = pytest.mark.filterwarnings(
    "ignore::hiercorr.DataWarning", "ignore::hiercorr.EstimationWarning"
)


@pytest.mark.parametrize(("width", "mm"), [("single", 89), ("double", 183), (120, 120)])
def test_widths_and_letters_on_paper(result, width, mm):
    before = mpl.rcParams.copy()
    with plotting.figure_style("paper", width=width):
        ax = result.plot.ranked("FTL", n=12)
    assert mpl.rcParams == before
    assert ax.figure.get_figwidth() * 25.4 == pytest.approx(mm)
    ax.figure.canvas.draw()
    ticks = [t.get_fontsize() for t in (*ax.get_xticklabels(), *ax.get_yticklabels())]
    sizes = {*ticks, ax.title.get_fontsize(), ax.xaxis.label.get_fontsize()}
    sizes |= {t.get_fontsize() for t in ax.get_legend().get_texts()}
    assert sizes == {6.0, 7.0}
    assert result.plot.ranked("FTL", n=12).title.get_fontsize() == 11  # outside of the style


def test_nothing_leaves_the_page(result):
    """Titles, names of axes and legends are inside of a narrow figure."""
    with plotting.figure_style("paper"):
        drawn = [
            result.plot.ranked("FTL", n=5),
            result.plot.strip("FTL", n=8),
            result.plot.forest("FTL", "FTH1"),
            result.plot.network(min_correlation=0.2, max_genes=12),
        ]
        for ax in drawn:
            style.freeze(ax.figure)
            ax.figure.canvas.draw()
            page = ax.figure.bbox
            legend = [ax.get_legend()] if ax.get_legend() else []
            for part in (ax.title, ax.xaxis.label, ax.yaxis.label, *legend):
                box = part.get_window_extent()
                if not box.width:
                    continue
                assert box.x0 >= page.x0 - 2
                assert box.x1 <= page.x1 + 2
                assert box.y0 >= page.y0 - 2


def test_files_have_text(result):
    with plotting.figure_style("paper"):
        ax = result.plot.qq()
        pdf, svg = io.BytesIO(), io.BytesIO()
        ax.figure.savefig(pdf, format="pdf")
        ax.figure.savefig(svg, format="svg")
    assert b"/FontFile2" in pdf.getvalue()  # TrueType
    assert b">expected -log10 p-value</text>" in svg.getvalue()


def test_a_frozen_figure_is_arranged_once(result):
    ax = result.plot.qq()
    style.freeze(ax.figure)
    position = ax.get_position().bounds
    ax.set_ylabel("a label\nof\nthree lines")
    ax.figure.canvas.draw()
    assert ax.get_position().bounds == position
    plt.close(ax.figure)


def test_a_notebook_stays_interactive(monkeypatch, result):
    # The first figure of a notebook turns the mode on, inside of the settings of the plot.
    created = plt.subplots
    before = mpl.is_interactive()

    def first(*args, **kwargs):
        mpl.interactive(True)
        return created(*args, **kwargs)

    monkeypatch.setattr(plt, "subplots", first)
    try:
        mpl.interactive(False)
        result.plot.volcano()
        assert mpl.is_interactive()
        mpl.interactive(False)
        with plotting.figure_style("paper"):
            result.plot.volcano()
        assert mpl.is_interactive()
    finally:
        mpl.interactive(before)
        plt.close("all")


def test_refusals():
    with pytest.raises(hc.InputError, match="style must be"), plotting.figure_style("print"):
        pass
    with pytest.raises(hc.InputError, match="width must be"), plotting.figure_style(width="wide"):
        pass
    with pytest.raises(hc.InputError, match="is no width in mm"), plotting.figure_style(width=5):
        pass
