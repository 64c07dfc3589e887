"""Names of genes and samples that are markup or formulas are shown as they are written."""

import numpy as np
import pandas as pd
import pytest

import hiercorr as hc
from hiercorr import plotting
from hiercorr.simulate import simulate_counts

pytestmark = pytest.mark.filterwarnings(
    "ignore::hiercorr.DataWarning", "ignore::hiercorr.EstimationWarning", "ignore::UserWarning"
)
HOSTILE = ["<script>alert(1)</script>", r"$\frac{$", "$x$", "a_b^{", "&amp;", "$", "\\", "plain"]


@pytest.fixture(scope="module")
def data():
    made, _ = simulate_counts(5, 40, len(HOSTILE), mean=4, within=0.5, seed=3)
    made.var_names = HOSTILE
    made.obs["sample"] = made.obs["sample"].astype(str).replace({"s1": r"<b>$\frac{$"})
    return made


@pytest.fixture(scope="module")
def every(data):
    return hc.CSCore(data, "sample", depth="depth").fit(per_sample=True)


@pytest.mark.sampled(3)
@pytest.mark.parametrize("target", [None, *HOSTILE[:2]])
def test_html_of_notebooks_and_reports(data, tmp_path, target):
    r = hc.CSCore(data, "sample", depth="depth").fit(target=target, per_sample=True)
    report = hc.report(tmp_path / "r.html", r).read_text()
    for html in (r._repr_html_(), r.summary()._repr_html_(), r.summary().as_html(), report):
        assert "<script>alert" not in html
        assert "<b>$" not in html
        assert "&lt;script&gt;alert(1)" in html
    assert "<script>alert(1)</script>" in str(r.summary())  # text is not HTML


PLOTS = {
    "volcano": lambda r, g: r.plot.volcano(g),
    "ranked": lambda r, g: r.plot.ranked(g),
    "strip": lambda r, g: r.plot.strip(g),
    "forest": lambda r, g: r.plot.forest(g, "plain"),
    "heatmap": lambda r, g: r.plot.heatmap(),
    "network": lambda r, g: r.plot.network(q=None, min_correlation=0.0),
    "diagnostics": lambda r, g: r.plot.diagnostics(),
    "qq": lambda r, g: r.plot.qq(),
}


@pytest.mark.sampled(6)
@pytest.mark.parametrize("gene", [HOSTILE[0], HOSTILE[1], "$", "\\"])
@pytest.mark.parametrize("name", PLOTS)
def test_plots(every, name, gene):
    import matplotlib.pyplot as plt

    ax = np.ravel(np.asarray(PLOTS[name](every, gene), object))[0]
    ax.figure.canvas.draw()
    plt.close("all")


def test_plots_of_cells_and_axes_of_the_user(data, every):
    import matplotlib.pyplot as plt

    pair = {"gene_a": HOSTILE[1], "gene_b": HOSTILE[0]}
    plotting.pair_scatter(data, **pair, sample="sample", depth="depth").figure.canvas.draw()
    fig, ax = plt.subplots()
    every.plot.ranked(HOSTILE[1], ax=ax)
    fig.canvas.draw()
    fig, ax = plt.subplots()
    ax.set_title("$x^2$")  # the formulas of the user's own figures stay formulas
    assert ax.title.get_parse_math()
    plt.close("all")


def test_powers_of_ten_are_set(every):
    import matplotlib.pyplot as plt
    from matplotlib.text import Text

    from hiercorr.plotting.style import verbatim

    @verbatim
    def logarithmic(ax):
        ax.set_xscale("log")
        ax.plot([1, 1000], [0, 1])
        return ax

    ax = logarithmic(plt.subplots()[1])
    ax.figure.canvas.draw()
    shown = [t for t in ax.figure.findobj(Text) if "mathdefault" in t.get_text()]
    assert shown
    assert all(t.get_parse_math() for t in shown if t in ax.xaxis.get_ticklabels(which="both"))
    plt.close("all")


def test_draws_are_an_attribute_of_some_results(every):
    assert not hasattr(every, "idata")
    assert getattr(every, "idata", None) is None
    with pytest.raises(hc.InputError, match="no posterior draws"):
        _ = every.idata


COLUMNS = {  # each value of a sample gets a name with the same start, which pandas would merge
    "sample": lambda d: hc.CSCore(d, "named", depth="depth"),
    "sample of sums": lambda d: hc.Pseudobulk(d, "named", depth="depth"),
    "two columns": lambda d: hc.CSCore(d, ("sample", "named"), depth="depth"),
    "block": lambda d: hc.CSCore(d, "sample", depth="depth", block="named"),
    "formula": lambda d: hc.Pseudobulk(d, "sample", depth="depth", formula="~ named"),
    "cell type": lambda d: hc.by_cell_type(d, "named", "sample", depth="depth"),
    "condition": lambda d: hc.differential(d, "sample", "named", depth="depth"),
    "check": lambda d: hc.check_design(d, "named", depth="depth"),
    "aggregate": lambda d: hc.aggregate(d, "sample", cell_type="named", depth="depth"),
}


@pytest.mark.parametrize("character", ["\0", "\ud800"])
@pytest.mark.parametrize("kind", [object, "category", "string"])
@pytest.mark.parametrize("door", COLUMNS)
def test_values_that_are_no_text(data, door, kind, character):
    if character == "\ud800" and kind == "string":
        pytest.skip("may not be represented")
    changed = data.copy()
    codes = pd.factorize(changed.obs["sample"])[0] // 2
    levels = [f"n{character}{k}" for k in range(3)]
    if kind == "category":
        changed.obs["named"] = pd.Categorical.from_codes(codes, levels)
    else:
        values = np.array(levels, object)[codes]
        changed.obs["named"] = pd.Series(values, changed.obs_names, dtype=kind)
    with pytest.raises(hc.InputError, match="is no text"):
        COLUMNS[door](changed)


@pytest.mark.parametrize("name", ["a\0x", "a\ud800"])
def test_genes_and_titles_that_are_no_text(data, every, tmp_path, name):
    changed = data.copy()
    changed.var_names = [name, *HOSTILE[1:]]
    for door in (hc.CSCore, hc.Pseudobulk, hc.aggregate, hc.check_design):
        with pytest.raises(hc.InputError, match="is no text"):
            door(changed, "sample", depth="depth")
    named = hc.CSCore(data, "sample", depth="depth").signature(HOSTILE[:3], name=name)
    for suffix in (".nc", ".zarr"):
        with pytest.raises(hc.InputError, match="is no text"):
            named.save(tmp_path / f"r{suffix}")
    assert not list(tmp_path.iterdir())
