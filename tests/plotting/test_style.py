"""All plots: titles, ink, size of files, given axes, labels, exploratory results, refusals."""

import io
import warnings

import matplotlib.pyplot as plt
import pytest

import hiercorr as hc
from hiercorr import plotting
from tests.plotting.support import ink, title
from tests.support import VEHICLE

pytestmark = pytest.mark.filterwarnings(
    "ignore::hiercorr.DataWarning", "ignore::hiercorr.EstimationWarning"
)

PLOTS = {
    "heatmap": (lambda r: r.plot.heatmap(), "correlation"),
    "volcano": (lambda r: r.plot.volcano(r.genes[0]), "partners of"),
    "volcano of pairs": (lambda r: r.plot.volcano(), "all pairs"),
    "ranked": (lambda r: r.plot.ranked(r.genes[0]), "partners of"),
    "p_histogram": (lambda r: r.plot.p_histogram(), "p-values of"),
    "qq": (lambda r: r.plot.qq(), "quantiles of"),
    "diagnostics": (lambda r: r.plot.diagnostics(), "genes"),
    "network": (lambda r: r.plot.network(min_correlation=0.2), "network"),
}


@pytest.mark.sampled(4)
@pytest.mark.parametrize("name", PLOTS)
def test_thirty_genes(result, name):
    draw, text = PLOTS[name]
    ax = draw(result)
    assert text in title(ax)
    assert ink(ax.figure) > 0.01
    buffer = io.BytesIO()
    ax.figure.savefig(buffer, format="svg")
    assert b"<path" in buffer.getvalue()


@pytest.mark.slow
@pytest.mark.parametrize("name", [n for n in PLOTS if n not in ("network", "volcano of pairs")])
def test_three_thousand_genes(big, name):
    ax = PLOTS[name][0](big)
    assert ink(ax.figure) > 0.01
    buffer = io.BytesIO()
    ax.figure.savefig(buffer, format="pdf")
    assert len(buffer.getvalue()) < 3_000_000  # dense layers are pixels inside the vector file


def test_given_axes_are_used(result):
    for name in ("volcano", "ranked", "qq", "heatmap"):
        _, ax = plt.subplots()
        given = result.genes[0]
        assert (
            getattr(plotting, name)(
                *((result, given) if name in ("volcano", "ranked") else (result,)), ax=ax
            )
            is ax
        )
    plt.close("all")


def test_labels_do_not_overlap(result):
    ax = result.plot.volcano("FTL", n_labels=8)
    renderer = ax.figure.canvas.get_renderer()
    boxes = [t.get_window_extent(renderer) for t in ax.texts]
    overlap = sum(a.overlaps(b) for i, a in enumerate(boxes) for b in boxes[i + 1 :])
    assert len(boxes) == 8
    assert overlap <= 2  # two partners with nearly the same p-value


def test_exploratory_is_said(gbm):
    cells = hc.CellCorrelation(gbm, **VEHICLE, genes=60).fit()
    for draw, _ in PLOTS.values():
        assert "(exploratory)" in title(draw(cells))
        plt.close("all")


def test_nothing_to_show(gbm, result):
    one = hc.CSCore(gbm, **VEHICLE, genes=10).fit(target="FTL")
    with pytest.raises(hc.InputError, match="needs all pairs"):
        one.plot.heatmap()
    with pytest.raises(hc.InputError, match="per_sample=True"):
        one.plot.strip()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        bare = hc.CSCore(gbm, **VEHICLE, genes=10).fit(uncertainty="none")
    with pytest.raises(hc.InputError, match="needs p-values"):
        bare.plot.volcano("FTL" if "FTL" in bare.genes else bare.genes[0])
    with pytest.raises(AttributeError, match="there are: diagnostics"):
        result.plot.violin  # noqa: B018
