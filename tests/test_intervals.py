"""Intervals exclude 0 exactly where the test rejects it; where they cannot, the result says so."""

import warnings

import numpy as np
import pytest

import hiercorr as hc
from hiercorr import inference
from hiercorr.between import pair_tests, regression, residuals
from hiercorr.between.pair_tests import PairOptions
from hiercorr.reporting import methods_text
from hiercorr.schema import AGREES, Flag
from hiercorr.within import differential, differential_tests
from tests.support import OPTIONS
from tests.within.support import two_arms

PAIRS = 100_000


def contradictions(p, lower, upper, confidence):
    """Pairs with an interval that contradicts the p-value."""
    p, lower, upper = (np.asarray(v, float) for v in (p, lower, upper))
    known = np.isfinite(p) & np.isfinite(lower)
    return int((((lower > 0) | (upper < 0)) != (p < 1 - confidence))[known].sum())


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("confidence", [0.95, 0.8])
@pytest.mark.parametrize("df", [1, 2, 5, 30])
def test_t_tests_between_samples(df, confidence, dtype):
    r = np.tanh(np.random.default_rng(df).normal(0, 1.5 / np.sqrt(df), (1, PAIRS)))
    t = residuals.t_table(r, df, confidence, dtype)
    assert np.isfinite(t["ci_lower"]).all()
    assert 0.02 < np.mean(t["p_value"] < 1 - confidence) < 0.6
    assert contradictions(t["p_value"], t["ci_lower"], t["ci_upper"], confidence) == 0


@pytest.mark.sampled(5)
@pytest.mark.parametrize("samples", [5, 8, 20])
@pytest.mark.parametrize("errors", ["classical", "moderated", "weights", "hc3", "cluster"])
def test_regressions_on_a_target(errors, samples):
    rng = np.random.default_rng(samples)
    x = rng.normal(size=samples)
    y = rng.normal(size=(samples, PAIRS)) + x[:, None] * rng.normal(0, 0.7, PAIRS)
    y[:, 0] = x
    design = np.column_stack([np.ones(samples), x])
    fitted = residuals.residuals(y, design[:, :1])
    weights = rng.uniform(0.5, 2, y.shape) if errors == "weights" else None
    kind = errors if errors in ("hc3", "cluster") else "classical"
    fit = regression.least_squares(y, design, weights, kind, np.arange(samples) // 2)
    options = PairOptions(
        slice(0, 1),
        np.float64,
        0.95,
        np.zeros(PAIRS, np.uint16),
        None,
        False,
        lambda n: "plain" if errors == "moderated" else None,
    )
    pair = pair_tests.against_target(fit, np.eye(2), 0, fitted, options, y.mean(0)).pair
    assert np.isfinite(pair["ci_lower"][0, 1:]).mean() > 0.999
    assert contradictions(pair["p_value"], pair["ci_lower"], pair["ci_upper"], 0.95) == 0


def test_hc3_covers():
    """Coverage was 98% with 6 to 8 samples when a t quantile met the normal's standard error."""
    rng = np.random.default_rng(1)
    for rho in (0.0, 0.6):
        x = rng.normal(size=10)
        y = rng.normal(size=(10, 20000)) * np.sqrt(1 - rho**2)
        fits = []
        for k in range(200):
            x = rng.normal(size=10)
            block = y[:, k * 100 : (k + 1) * 100] + rho * x[:, None]
            block[:, 0] = x
            design = np.column_stack([np.ones(10), x])
            fit = regression.least_squares(block, design, None, "hc3")
            none = np.zeros(100, np.uint16)
            options = PairOptions(slice(0, 1), np.float64, 0.95, none, None, False)
            fitted = residuals.residuals(block, design[:, :1])
            pair = pair_tests.against_target(fit, np.eye(2), 0, fitted, options, x).pair
            fits.append((pair["ci_lower"][0, 1:] < rho) & (rho < pair["ci_upper"][0, 1:]))
        assert np.mean(fits) == pytest.approx(0.955, abs=0.012)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_t_tests_within_samples(dtype):
    rng = np.random.default_rng(0)
    r, se = rng.normal(0, 0.4, (1, PAIRS)), rng.uniform(0.05, 0.4, (1, PAIRS))
    estimate = inference.PairEstimate(r, se, rng.uniform(0.1, 30, (1, PAIRS)), None, None, None)
    t = inference.pair_table(estimate, 0.9, dtype)
    assert contradictions(t["p_value"], t["ci_lower"], t["ci_upper"], 0.9) == 0
    # no value in [-1, 1] is compatible with an estimate far beyond: no interval
    assert (np.abs(r[np.isnan(t["ci_lower"])]) > 1).all()


@pytest.mark.parametrize("pooled", [None, "jackknife", "cluster"])
def test_differences_within_samples(pooled):
    rng = np.random.default_rng(2)
    genes = 320  # 102,400 pairs
    den = np.ones((10, genes, genes))
    num = rng.normal(0.3, 0.5, den.shape)
    one = rng.uniform(0.8, 1.2, (genes, 10))
    sums = differential_tests.TileSums(
        num, den, (one, one), (np.ones_like(one),) * 2, (np.ones(genes),) * 2
    )
    groups = np.repeat([0, 1], 5)
    question = differential_tests.Question(
        np.column_stack([np.ones(10), groups]), np.array([0.0, -1]), groups, ["a", "b"]
    )
    found = (
        differential_tests.tile_difference(question, sums, None)
        if pooled is None
        else differential_tests.pooled_difference(question, sums, pooled)
    )
    t = differential._table(found, 0.95, np.float64, question.largest)
    limits = t["difference_lower"], t["difference_upper"]
    assert np.isfinite(limits[0]).mean() > 0.9
    assert contradictions(t["p_value"], *limits, 0.95) == 0


@pytest.fixture(scope="module")
def data():
    return two_arms(0.2, 0.7, n=6, cells=120, genes=16, seed=3, mean=3.0, paired=True)


def cscore(data, **fit):
    return hc.CSCore(data, **OPTIONS).fit(**fit)


def between(data, *, formula=None, block=None, block_method=None, **fit):
    given = {"formula": formula, "block": block, "block_method": block_method}
    return hc.Pseudobulk(data, **OPTIONS, **{k: v for k, v in given.items() if v}).fit(**fit)


def cells(data, **fit):
    return hc.CellCorrelation(data, **OPTIONS).fit(**fit)


def difference(data, **options):
    return hc.differential(data, condition="arm", **OPTIONS, **options)


ESTIMATORS = [
    (cscore, {"uncertainty": "jackknife"}, True),
    (cscore, {"uncertainty": "cluster"}, True),
    (cscore, {"uncertainty": "bootstrap", "seed": 1}, True),
    (cscore, {"uncertainty": "hierarchical"}, False),
    (cscore, {"estimator": "pooled", "uncertainty": "jackknife"}, True),
    (between, {}, True),
    (between, {"formula": "~ arm"}, True),
    (between, {"method": "spearman"}, False),
    (between, {"method": "corrected"}, False),
    (between, {"permutations": 99, "seed": 1}, False),
    (between, {"block": "batch"}, True),
    (between, {"block": "batch", "block_method": "correlation"}, True),
    (between, {"method": "ols", "target": "gene0"}, True),
    (between, {"method": "ols", "target": "gene0", "moderated": True}, True),
    (between, {"method": "hc3", "target": "gene0"}, True),
    (between, {"method": "voom", "target": "gene0"}, True),
    (between, {"method": "negative_binomial", "target": "gene0"}, True),
    (
        between,
        {"block": "donor", "block_method": "cluster", "method": "ols", "target": "gene0"},
        True,
    ),
    (cells, {}, True),
    (difference, {}, False),
    (difference, {"uncertainty": "HC2"}, True),
    (difference, {"method": "pooled"}, True),
    (difference, {"permutations": 99, "seed": 1}, False),
]


@pytest.mark.sampled(4)
@pytest.mark.parametrize(("fit", "options", "agrees"), ESTIMATORS)
def test_results_say_whether_interval_and_test_agree(fit, options, agrees, data):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        r = fit(data, **options)
    ds = r.dataset
    assert (ds.attrs["interval"] == AGREES) == agrees
    prefix = "difference" if "difference" in ds else "ci"
    p, lower, upper = (ds[n].values for n in ("p_value", f"{prefix}_lower", f"{prefix}_upper"))
    if agrees:
        assert contradictions(p, lower, upper, ds.attrs["confidence"]) == 0
    else:
        assert "need not agree" in ds.attrs["interval"]
        assert "need not agree" in str(r.summary())
        assert "need not agree" in methods_text(r)
    silent = np.isfinite(p) & np.isnan(lower)
    excused = Flag.OUT_OF_RANGE | Flag.NO_INTERVAL
    assert ((ds["flag"].values[silent] & int(excused)) > 0).all()
