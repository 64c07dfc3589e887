"""Plots of pairs show the numbers of the result."""

import numpy as np
import pytest

import hiercorr as hc
from tests.plotting.support import title

pytestmark = pytest.mark.filterwarnings(
    "ignore::hiercorr.DataWarning", "ignore::hiercorr.EstimationWarning"
)


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


def test_module_heatmap_writes_estimate_stars_and_interval(result):
    genes = list(result.genes[:5])
    model = hc.CSCore(
        hc.datasets.glioblastoma(),
        "sample_id",
        depth="total_counts",
        genes=genes,
        subset={"condition": "ctrl"},
    )
    r = model.fit()
    ax = r.plot.module_heatmap()
    rows = [t.get_text() for t in ax.get_yticklabels()]
    assert rows == [t.get_text() for t in ax.get_xticklabels()]
    found = {}
    for text in ax.texts:
        x, y = (int(v) for v in text.get_position())
        found[rows[y], rows[x]] = text.get_text()
    for a in genes:
        assert found[a, a] == ""
        for b in genes:
            if a == b:
                continue
            row = r[a, b]
            stars = sum(row["q_value"] < limit for limit in (0.05, 0.01, 0.001)) * "*"
            low, high = row["ci_lower"], row["ci_upper"]
            wanted = f"{row['correlation']:.2f}{stars}"
            wanted += f"\n{low:.2f}, {high:.2f}" if np.isfinite(low) else ""
            assert found[a, b] == wanted
    ax = r.plot.module_heatmap(intervals=False)
    assert not any("\n" in t.get_text() for t in ax.texts)
    of_target = model.fit(target=genes[0]).plot.module_heatmap()
    assert [t.get_text() for t in of_target.get_yticklabels()] == genes[:1]
    with pytest.raises(hc.InputError, match="cannot be read as numbers: use heatmap"):
        hc.CSCore(
            hc.datasets.glioblastoma(), "sample_id", depth="total_counts", genes=80
        ).fit().plot.module_heatmap()
    with pytest.raises(hc.InputError, match="intervals must be"):
        r.plot.module_heatmap(intervals="yes")


def test_ranked_shows_the_numbers(result):
    ax = result.plot.ranked("FTL", n=5)
    table = result.top("FTL", n=5).iloc[::-1]
    assert [t.get_text() for t in ax.get_yticklabels()] == table.index.tolist()
    np.testing.assert_allclose(
        ax.collections[-1].get_offsets()[:, 0], table["correlation"], rtol=1e-6
    )
    assert "5 of 29, ordered by p-value" in ax.get_title().replace("\n", " ")


def test_shrunken_estimates(result):
    r = result.shrink()
    table = r.top("FTL", n=5, sort_by="shrunken").iloc[::-1]
    ax = r.plot.ranked("FTL", n=5, shrunken=True)
    assert [t.get_text() for t in ax.get_yticklabels()] == table.index.tolist()
    points = ax.collections[-1]
    np.testing.assert_allclose(points.get_offsets()[:, 0], table["shrunken_correlation"], rtol=1e-6)
    np.testing.assert_array_equal(
        points.get_facecolors()[:, :3].min(1) < 1, (table["lfsr"] < 0.05).to_numpy()
    )
    assert ax.get_xlabel() == "shrunken correlation"
    texts = [t.get_text() for t in ax.get_legend().get_texts()]
    assert "local false sign rate < 0.05" in texts
    assert "5 of 29, ordered by shrunken estimate" in title(ax)
    for gene in ("FTL", None):
        ax = r.plot.volcano(gene, shrunken=True, n_labels=0)
        shown = np.sort(np.concatenate([c.get_offsets()[:, 0] for c in ax.collections]))
        wanted = r.matrix("shrunken_correlation").to_numpy()
        wanted = wanted[np.triu_indices(30, 1)] if gene is None else wanted[r.genes.get_loc(gene)]
        np.testing.assert_allclose(shown, np.sort(wanted[np.isfinite(wanted)]), rtol=1e-6)
        assert ax.get_xlabel() == "shrunken correlation"
        with pytest.raises(hc.InputError, match="call shrink"):
            result.plot.volcano(gene, shrunken=True)


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


def test_comparisons_show_what_was_tested(gbm):
    r = hc.differential(
        gbm, "sample_id", "condition", block="patient_id", depth="total_counts", genes=20
    )
    table = r.top("FTL", n=19)
    ax = r.plot.volcano("FTL")
    shown = np.sort(np.concatenate([c.get_offsets()[:, 0] for c in ax.collections]))
    np.testing.assert_allclose(shown, np.sort(table["difference"]), rtol=1e-6)
    assert ax.get_xlabel() == "difference of the correlation (condition: panobinostat minus ctrl)"
    ax = r.plot.ranked("FTL")
    line = next(c for c in ax.collections if hasattr(c, "get_segments"))
    ends = np.sort([segment[0, 0] for segment in line.get_segments()])
    np.testing.assert_allclose(ends, np.sort(table["difference_lower"]), rtol=1e-6)
    image = r.plot.heatmap().images[0].get_array()
    off = ~np.eye(20, dtype=bool)
    np.testing.assert_allclose(
        np.sort(image[off]), np.sort(r.matrix("difference").to_numpy()[off]), rtol=1e-6
    )


def test_heatmap_leaves_out_genes_that_cannot_be_estimated(result):
    from hiercorr.plotting.pairs import _estimable

    r = np.full((6, 6), 0.1)
    r[4] = r[:, 4] = np.nan  # of no pair
    r[5, :3] = r[:3, 5] = np.nan  # of one pair in four
    r[0, 1] = r[1, 0] = np.nan
    assert _estimable(r).tolist() == [True] * 4 + [False] * 2
    assert not _estimable(np.full((3, 3), np.nan)).any()
    bare = hc.CorrelationResult(result.dataset.copy(deep=True))
    for name in ("correlation", "fisher_z"):
        values = bare.dataset[name].values
        values[2] = values[:, 2] = np.nan
    if "correlation_unclipped" in bare.dataset:
        values = bare.dataset["correlation_unclipped"].values
        values[2] = values[:, 2] = np.nan
    ax = bare.plot.heatmap()
    assert "1 not estimable" in title(ax)
    assert ax.images[0].get_array().shape == (29, 29)
    assert not np.isnan(np.ma.filled(ax.images[0].get_array(), np.nan)).any()
