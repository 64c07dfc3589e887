"""Every plot draws what it says, at 30 and 3,000 genes, on given axes, as pixels and as vectors."""

import io
import warnings

import matplotlib

matplotlib.use("Agg")

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest

import hiercorr as hc
from hiercorr import plotting
from hiercorr.modules import find_modules
from hiercorr.results.result import CorrelationResult
from hiercorr.schema import build_dataset

VEHICLE = {"sample": "sample_id", "depth": "total_counts", "subset": {"condition": "ctrl"}}
pytestmark = pytest.mark.filterwarnings(
    "ignore::hiercorr.DataWarning", "ignore::hiercorr.EstimationWarning"
)


@pytest.fixture(autouse=True)
def _close():
    yield
    plt.close("all")


@pytest.fixture(scope="module")
def result(gbm):
    return hc.CSCore(gbm, **VEHICLE, genes=30).fit(per_sample=True)


@pytest.fixture(scope="module")
def big():
    """3,000 genes of two blocks, without the work of estimating them."""
    rng = np.random.default_rng(0)
    load = np.where(np.arange(3000) % 2, 0.7, -0.7) + rng.normal(0, 0.1, 3000)
    r = np.clip(np.outer(load, load), -0.95, 0.95).astype(np.float32)
    p = np.minimum(np.exp(-20 * np.abs(r)) * rng.uniform(0.5, 1.5, r.shape), 1)
    p = np.minimum(p, p.T)
    np.fill_diagonal(r, 1)
    np.fill_diagonal(p, np.nan)
    names = pd.Index([f"g{j}" for j in range(3000)])
    pair = {
        "correlation": r,
        "fisher_z": r,
        "p_value": p,
        "q_value": p,
        "flag": np.zeros(r.shape, np.uint16),
    }
    pair["flag"][np.diag_indices(3000)] = int(hc.Flag.SELF)
    gene = {"detection": rng.uniform(0, 1, 3000), "gene_flag": np.zeros(3000, np.uint16)}
    sample = {"n_cells": np.full(5, 100), "depth": np.full(5, 1e3)}
    return CorrelationResult(
        build_dataset(
            genes=names,
            samples=pd.Index(list("abcde")),
            pair=pair,
            gene=gene,
            sample=sample,
            attrs={"level": "within"},
        )
    )


def ink(figure):
    """Share of pixels that are not background."""
    figure.canvas.draw()
    pixels = np.asarray(figure.canvas.buffer_rgba())[..., :3]
    return float((pixels < 250).any(-1).mean())


PLOTS = {
    "heatmap": (lambda r: r.plot.heatmap(), "correlation"),
    "volcano": (lambda r: r.plot.volcano(r.genes[0]), "partners of"),
    "volcano of pairs": (lambda r: r.plot.volcano(), "all pairs"),
    "ranked": (lambda r: r.plot.ranked(r.genes[0]), "partners of"),
    "p_histogram": (lambda r: r.plot.p_histogram(), "p values"),
    "qq": (lambda r: r.plot.qq(), "QQ of"),
    "diagnostics": (lambda r: r.plot.diagnostics(), "genes"),
    "network": (lambda r: r.plot.network(min_correlation=0.2), "network"),
}


def title(ax):
    own = ax.get_title()
    return own or ax.child_axes[0].get_title()


@pytest.mark.parametrize("name", PLOTS)
def test_thirty_genes(result, name):
    draw, text = PLOTS[name]
    ax = draw(result)
    assert text in title(ax)
    assert ink(ax.figure) > 0.01
    buffer = io.BytesIO()
    ax.figure.savefig(buffer, format="svg")
    assert b"<path" in buffer.getvalue()


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


def test_heatmap_groups_blocks_and_names_what_it_leaves_out(big, result):
    ax = big.plot.heatmap(max_genes=200)
    assert "200 of 3,000 genes" in title(ax)
    image = ax.images[0].get_array()
    half = image[:100, :100]
    assert (half > 0).mean() > 0.95  # a block, not a chessboard
    ax = result.plot.heatmap(genes=["FTL", "FTH1", "SPP1"])
    assert sorted(t.get_text() for t in ax.get_xticklabels()) == ["FTH1", "FTL", "SPP1"]
    assert title(ax) == "correlation"  # these were asked for: nothing was left out
    with pytest.raises(hc.InputError, match="unknown gene 'nothing'"):
        result.plot.heatmap(genes=["FTL", "nothing"])


def test_labels_do_not_overlap(result):
    ax = result.plot.volcano("FTL", n_labels=8)
    renderer = ax.figure.canvas.get_renderer()
    boxes = [t.get_window_extent(renderer) for t in ax.texts]
    overlap = sum(a.overlaps(b) for i, a in enumerate(boxes) for b in boxes[i + 1 :])
    assert len(boxes) == 8
    assert overlap <= 1


def test_ranked_shows_the_numbers(result):
    ax = result.plot.ranked("FTL", n=5)
    table = result.top("FTL", n=5).sort_values("correlation")
    assert [t.get_text() for t in ax.get_yticklabels()] == table.index.tolist()
    np.testing.assert_allclose(
        ax.collections[-1].get_offsets()[:, 0], table["correlation"], rtol=1e-6
    )
    assert "5 of 29 genes" in ax.get_title()


def test_forest(result):
    ax = result.plot.forest("FTL", "FTH1")
    labels = [t.get_text() for t in ax.get_yticklabels()]
    assert labels[:2] == ["a new sample (95%)", "all samples"]
    assert len(labels) == 7
    at = result.dataset.sel(gene="FTL", partner="FTH1")
    np.testing.assert_allclose(
        sorted(ax.collections[1].get_offsets()[:, 0]),
        np.sort(at["sample_correlation"].values),
        rtol=1e-6,
    )
    assert ink(ax.figure) > 0.01


def test_strip(result):
    ax = result.plot.strip("FTL", n=6)
    assert len(ax.get_xticklabels()) == 6
    assert len(ax.lines) == 6  # five samples and the zero line


def test_pair_scatter(gbm):
    ax = plotting.pair_scatter(gbm, gene_a="FTL", gene_b="FTH1", **VEHICLE, max_cells=500)
    assert "500 of 2,500 drawn" in ax.get_title()
    assert len(ax.collections[0].get_offsets()) == 500
    assert len(ax.collections) == 6
    cells = gbm[gbm.obs["sample_id"] == "PW030-701"]
    scale = (
        np.median(gbm.obs.loc[gbm.obs["condition"] == "ctrl", "total_counts"])
        / cells.obs["total_counts"].sum()
    )
    expected = np.log1p([cells[:, g].X.sum() * scale for g in ("FTL", "FTH1")])
    np.testing.assert_allclose(ax.collections[1].get_offsets()[0], expected, rtol=1e-6)


def test_levels_and_traps(gbm, result):
    between = hc.Pseudobulk(gbm, **VEHICLE, genes=30).fit()
    e = hc.evidence("FTL", within=result, between=between)
    ax = plotting.levels(e)
    assert sum(len(c.get_offsets()) for c in ax.collections) == 29
    figure = hc.traps(gbm, target="FTL", genes=30, **VEHICLE).plot()
    assert len(figure.axes) == 4  # three panels and a colour bar
    assert ink(figure) > 0.02


def test_network_modules_and_limits(result):
    modules = find_modules(result, min_correlation=0.2)
    ax = result.plot.network(min_correlation=0.2, modules=modules, max_genes=10)
    assert "10 of" in ax.get_title()
    with pytest.raises(hc.InputError, match="no network to show"):
        result.plot.network(min_correlation=0.999)


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


def test_p_value_plots_show_the_p_values(result):
    p = result.matrix("p_value").to_numpy(float)
    p = np.sort(p[np.triu_indices(30, 1)])
    p = p[np.isfinite(p)]
    ax = result.plot.p_histogram(bins=10)
    np.testing.assert_array_equal(
        [b.get_height() for b in ax.patches], np.histogram(p, np.linspace(0, 1, 11))[0]
    )
    points = result.plot.qq().lines[-1].get_xydata()
    rank = np.round(10.0 ** -points[:, 0] * len(p) + 0.5).astype(int)  # some ranks are thinned out
    np.testing.assert_allclose(points[:, 0], -np.log10((rank - 0.5) / len(p)), rtol=1e-9)
    np.testing.assert_allclose(points[:, 1], -np.log10(p[rank - 1]), rtol=1e-6)
    assert {1, len(p)} <= set(rank)


def test_diagnostics_and_network_show_the_result(result):
    r = result.matrix().to_numpy(float).copy()
    np.fill_diagonal(r, np.nan)
    shown = np.concatenate([c.get_offsets() for c in result.plot.diagnostics().collections])
    expected = np.column_stack([result.gene_table()["detection"], np.nanmedian(np.abs(r), axis=0)])
    np.testing.assert_allclose(
        shown[np.lexsort(shown.T)], expected[np.lexsort(expected.T)], rtol=1e-6
    )
    ax = result.plot.network(min_correlation=0.2)
    table = result.pairs(q=0.05, min_correlation=0.2)
    lines = sum(len(c.get_segments()) for c in ax.collections if hasattr(c, "get_segments"))
    assert lines == len(table)


def test_plots_of_designs_show_their_tables():
    from hiercorr.planning.best_design import best_design
    from hiercorr.planning.power_analysis import around, power_curve

    design = hc.power(samples=8, cells=300, mean=0.5)
    curve = power_curve(design, "samples", around(design, "samples"))
    ax = hc.plotting.power_curve({"a": curve, "b": curve}, goal=0.9)
    np.testing.assert_allclose(ax.lines[0].get_ydata(), curve["power"])
    assert [t.get_text() for t in ax.get_legend().get_texts()] == ["a", "b"]
    table = best_design(design, donor_cost=1500, cell_cost=0.15)
    ax = hc.plotting.designs(table)
    assert ax.lines[1].get_xydata().tolist() == [[table["samples"][0], table["cost"][0]]]
    bought = best_design(design, donor_cost=1500, cell_cost=0.15, budget=9000)
    ax = hc.plotting.designs(bought)
    assert ax.get_ylabel() == "power"
    with pytest.raises(hc.InputError, match="no curve is given"):
        hc.plotting.power_curve({})
    for over in ("cells", "mean", "rho", "heterogeneity"):
        assert power_curve(design, over, around(design, over))["power"].between(0, 1).all()
    with pytest.raises(hc.InputError, match="over must be"):
        around(design, "alpha")
