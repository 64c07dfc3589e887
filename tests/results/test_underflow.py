"""p-values too small for single precision: computed in double, ordered, never shown as 0."""

import numpy as np
import pytest
from scipy import stats

import hiercorr as hc
from hiercorr.inference.derived import in_double
from hiercorr.plotting import volcano
from hiercorr.reporting.report import _formatted
from hiercorr.results import tiling
from hiercorr.results.text import p_text

pytestmark = pytest.mark.filterwarnings(
    "ignore::hiercorr.DataWarning", "ignore::hiercorr.EstimationWarning"
)


@pytest.fixture(scope="module")
def ipsc():
    return hc.datasets.ipsc_cycle()


@pytest.fixture(scope="module")
def hierarchical(ipsc):
    return hc.CSCore(ipsc, "donor", depth="depth").fit()


def test_p_values_follow_the_statistic(hierarchical):
    ds = hierarchical.dataset
    p, t = ds["p_value"].values, np.abs(ds["statistic"].values.astype(float))
    known = np.isfinite(p)
    assert 0 < p[known].min() < np.finfo(np.float32).tiny
    np.testing.assert_allclose(p[known], 2 * stats.norm.sf(t[known]), rtol=1e-3)
    assert (ds["q_value"].values[known] > 0).all()
    strongest = hierarchical.pairs(n=1).iloc[0]
    assert {strongest["gene_a"], strongest["gene_b"]} == {"HIST1H4E", "HIST1H4C"}
    assert strongest["p_value"] < 1e-45


def test_student_t_and_normal():
    p = np.array([0.0, 0.0, 0.2, np.nan], np.float32)
    t = np.array([-14.3, 1e5, 1.3, np.nan], np.float32)
    df = np.array([np.inf, 9.0, 9.0, np.nan], np.float32)
    found = in_double(p, t, df)
    assert found[0] == pytest.approx(2 * stats.norm.sf(14.3), rel=1e-4)
    assert found[1] == pytest.approx(2 * stats.t.sf(1e5, 9), rel=1e-4)
    np.testing.assert_array_equal(found[2:], p[2:].astype(float))


def test_large_results_show_and_order_them_as_well(ipsc, monkeypatch):
    monkeypatch.setattr(tiling, "COMPUTED_FROM", 1)
    r = hc.CSCore(ipsc, "donor", depth="depth").fit()
    assert (r.dataset["p_value"].values == 0).any()
    for table in (r.pairs(), r.pairs(n=3), r.top("HIST1H4E", n=5)):
        p, t = table["p_value"].to_numpy(), table["statistic"].abs().to_numpy()
        assert 0 < p[0] < 1e-45
        assert (np.diff(t[p < 1e-30]) <= 0).all()
    assert "0.0e+00" not in str(r.summary())
    height = np.concatenate([c.get_offsets()[:, 1] for c in volcano(r).collections])
    assert np.nanmax(height) == pytest.approx(45.96, abs=0.1)


def test_equal_p_values_are_ordered_by_the_statistic(hierarchical):
    flat = hierarchical.dataset.assign(p_value=hierarchical.dataset["p_value"] * 0)
    r = hc.CorrelationResult(flat.assign(df=flat["df"] * 0 + 1).drop_vars("df"))
    for table in (r.pairs(), r.pairs(n=7), r.top("CDK1", n=7)):
        assert (np.diff(table["statistic"].abs()) <= 0).all()
    assert r.pairs(n=7).equals(r.pairs().head(7))


def test_cells_as_units(ipsc):
    r = hc.CellCorrelation(ipsc, "donor", depth="depth").fit()
    p, t = r.dataset["cell_p_value"].values, r.dataset["cell_statistic"].values
    small = (np.abs(t) > 15) & (np.abs(t) < 30)
    assert small.any()
    df = ipsc.n_obs - 7
    np.testing.assert_allclose(p[small], 2 * stats.t.sf(np.abs(t[small]), df), rtol=1e-3)
    assert "0.0e+00" not in str(r.summary())


def test_text():
    shown = ["<1e-38", "2.8e-32", "0.040", ">0.999", "1"]
    assert [p_text(p) for p in (0.0, 2.8e-32, 0.0402, 0.9999, 1.0)] == shown
    assert (_formatted(0.0, "q_value"), _formatted(0.0, "overlap")) == ("<1e-38", "0")


def test_shrinkage_of_large_results_is_that_of_small_ones(ipsc, hierarchical, monkeypatch):
    monkeypatch.setattr(tiling, "COMPUTED_FROM", 1)
    large = hc.CSCore(ipsc, "donor", depth="depth").fit()
    assert (large.dataset["p_value"].values == 0).any()
    found, wanted = large.shrink(), hierarchical.shrink()
    assert found.dataset.attrs["null_share"] == pytest.approx(wanted.dataset.attrs["null_share"])
    np.testing.assert_allclose(
        found.matrix("shrunken_correlation"), wanted.matrix("shrunken_correlation"), rtol=1e-3
    )
    small, again = hierarchical.adjust("by"), large.adjust("by")
    assert (again.matrix("q_value").to_numpy() == 0).sum() == 0
    np.testing.assert_allclose(again.matrix("q_value"), small.matrix("q_value"), rtol=1e-3)


def test_other_doors_of_large_results(ipsc, monkeypatch):
    monkeypatch.setattr(tiling, "COMPUTED_FROM", 1)
    r = hc.CSCore(ipsc, "donor", depth="depth").fit()
    tested = r.dataset["p_value"].notnull().values
    exported = r.to_anndata(ipsc).varp["hiercorr_p_value"]
    for p in (r.matrix("p_value").to_numpy(), exported):
        assert p[tested].min() > 0
    height = r.plot.qq().lines[-1].get_ydata()
    assert height.max() == pytest.approx(45.96, abs=0.1)


def test_cell_types_of_large_results_have_the_q_values_of_small_ones(ipsc, monkeypatch):
    """In single precision the strongest pairs of the first type would tie."""
    ipsc = ipsc.copy()
    ipsc.obs["kind"] = np.where(np.arange(ipsc.n_obs) % 8, "a", "b")
    monkeypatch.setattr(tiling, "COMPUTED_FROM", 1)
    large = hc.by_cell_type(ipsc, "kind", "donor", depth="depth")
    p = np.concatenate([t["p_value"] for t in (large["a"].pairs(), large["b"].pairs())])
    q = np.concatenate([t["q_value"] for t in (large["a"].pairs(), large["b"].pairs())])
    wanted = stats.false_discovery_control(p)
    np.testing.assert_allclose(q[wanted > 1e-37], wanted[wanted > 1e-37], rtol=1e-5)
    assert (p < np.finfo(np.float32).tiny).any()
