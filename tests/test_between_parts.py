"""The parts of the models between samples, against statsmodels, scipy and plain loops."""

import itertools

import numpy as np
import pandas as pd
import pytest
import statsmodels.api as sm
from scipy import stats

from hiercorr import inference, kernels
from hiercorr.between import noise_correction, normalization, regression, residuals
from hiercorr.between.negative_binomial import negative_binomial
from hiercorr.between.permutation import freedman_lane_p
from hiercorr.design.permutation import arrangements
from tests.test_reference import table

RNG = np.random.default_rng(3)
DESIGN = np.column_stack([np.ones(12), np.tile([0.0, 1.0], 6), RNG.normal(size=12)])
Y = RNG.normal(size=(12, 5)) + DESIGN @ RNG.normal(size=(3, 5))
BLOCKS = np.repeat(np.arange(4), 3)


def test_classical_and_hc3_equal_statsmodels():
    weights = np.vstack([np.eye(3), [0, 1, -2]])
    for errors, kind in (("classical", "nonrobust"), ("hc3", "HC3")):
        found = regression.least_squares(Y, DESIGN, errors=errors).test(weights)
        for j in range(5):
            expected = sm.OLS(Y[:, j], DESIGN).fit(cov_type=kind, use_t=True)
            test = expected.t_test(weights)
            np.testing.assert_allclose(found["beta"][:, j], test.effect, rtol=1e-9)
            np.testing.assert_allclose(found["beta_se"][:, j], test.sd, rtol=1e-9)
            np.testing.assert_allclose(found["beta_p_value"][:, j], test.pvalue, rtol=1e-8)


def test_precision_weights_equal_statsmodels():
    w = RNG.uniform(0.2, 3, Y.shape)
    found = regression.least_squares(Y, DESIGN, w).test(np.eye(3))
    for j in range(5):
        expected = sm.WLS(Y[:, j], DESIGN, w[:, j]).fit()
        np.testing.assert_allclose(found["beta_se"][:, j], expected.bse, rtol=1e-9)
        np.testing.assert_allclose(found["beta_statistic"][:, j], expected.tvalues, rtol=1e-8)


def test_correlated_blocks_equal_generalised_least_squares():
    white = regression.whitener(BLOCKS, 0.6)
    sigma = np.where(BLOCKS[:, None] == BLOCKS, 0.6, 0.0) + 0.4 * np.eye(12)
    found = regression.least_squares(white @ Y, white @ DESIGN).test(np.eye(3))
    for j in range(5):
        expected = sm.GLS(Y[:, j], DESIGN, sigma).fit()
        np.testing.assert_allclose(found["beta"][:, j], expected.params, rtol=1e-9)
        np.testing.assert_allclose(found["beta_se"][:, j], expected.bse, rtol=1e-9)


def test_cluster_errors():
    # Clusters of one sample: CR2 is HC2.
    found = regression.least_squares(Y, DESIGN, errors="cluster", clusters=np.arange(12)).test(
        np.eye(3)
    )
    for j in range(5):
        np.testing.assert_allclose(
            found["beta_se"][:, j], sm.OLS(Y[:, j], DESIGN).fit(cov_type="HC2").bse, rtol=1e-9
        )
    # Two arms of equal clusters: the difference is a t test of cluster means, on clusters - 2 degrees of freedom.
    arm = np.repeat([0.0, 0, 1, 1], 3)
    y = RNG.normal(size=(12, 1)) + RNG.normal(size=4)[BLOCKS][:, None]
    found = regression.least_squares(
        y, np.column_stack([np.ones(12), arm]), errors="cluster", clusters=BLOCKS
    ).test(np.eye(2))
    means = pd.Series(y[:, 0]).groupby(BLOCKS).mean().to_numpy()
    expected = stats.ttest_ind(means[2:], means[:2])
    assert found["beta_df"][1, 0] == pytest.approx(2)
    assert found["beta_statistic"][1, 0] == pytest.approx(expected.statistic)
    assert found["beta_p_value"][1, 0] == pytest.approx(expected.pvalue)


def test_partial_correlation_and_its_table():
    fitted = residuals.residuals(Y, DESIGN)
    r = fitted.unit.T @ fitted.unit
    found = residuals.t_table(r, fitted.df - 1, 0.9, np.float64)
    for j, k in itertools.combinations(range(5), 2):
        expected = sm.OLS(Y[:, j], np.column_stack([DESIGN, Y[:, k]])).fit()
        assert found["statistic"][j, k] == pytest.approx(expected.tvalues[-1], rel=1e-9)
        assert found["p_value"][j, k] == pytest.approx(expected.pvalues[-1], rel=1e-6)
    one = stats.pearsonr(Y[:, 0], Y[:, 1])
    plain = residuals.residuals(Y, np.ones((12, 1)))
    found = residuals.t_table(plain.unit.T @ plain.unit, 10, 0.95, np.float64)
    assert found["p_value"][0, 1] == pytest.approx(one.pvalue, rel=1e-6)
    low, high = one.confidence_interval(0.95)
    assert (found["ci_lower"][0, 1], found["ci_upper"][0, 1]) == pytest.approx((low, high))
    tiny = residuals.t_table(np.array([[1 - 1e-9]]), 98, 0.95, np.float64)["p_value"]
    assert 0 < tiny[0, 0] < 1e-300


@pytest.mark.parametrize("n", [3, 5, 7, 9, 14])
def test_spearman(n):
    y = RNG.normal(size=(n, 3))
    fitted = residuals.residuals(stats.rankdata(y, axis=0), np.ones((n, 1)))
    r = fitted.unit.T @ fitted.unit
    found = residuals.spearman_table(r, n - 2, False, 0.95, np.float64)
    for j, k in ((0, 1), (0, 2), (1, 2)):
        expected = stats.spearmanr(y[:, j], y[:, k])
        assert r[j, k] == pytest.approx(expected.statistic)
        if n <= 7:  # all orders, by scipy
            shown = stats.permutation_test(
                (y[:, j],),
                lambda x, k=k: stats.spearmanr(x, y[:, k]).statistic,
                permutation_type="pairings",
                n_resamples=np.inf,
            )
            assert found["p_value"][j, k] == pytest.approx(shown.pvalue)
        elif n == 9:
            assert found["p_value"][j, k] == pytest.approx(expected.pvalue, abs=0.02)
        else:
            assert found["p_value"][j, k] == pytest.approx(expected.pvalue, rel=1e-6)
    assert np.nanmin(found["p_value"]) >= 2 / np.prod(np.arange(1.0, n + 1)) - 1e-12


def test_permutation_is_exact_and_never_zero():
    y = RNG.normal(size=(5, 3))
    y[:, 1] = y[:, 0] + 0.01 * y[:, 1]
    fitted = residuals.residuals(y, np.ones((5, 1)))
    r = fitted.unit.T @ fitted.unit
    chosen = arrangements(5, 1000, None, None)
    assert (chosen.exact, chosen.possible) == (True, 120)
    assert chosen.smallest_p == pytest.approx(1 / 120)
    p = freedman_lane_p(fitted.unit, fitted.unit, fitted, chosen, r)
    for j, k in ((0, 1), (0, 2), (1, 2)):
        sizes = [
            abs(np.corrcoef(y[list(o), j], y[:, k])[0, 1]) for o in itertools.permutations(range(5))
        ]
        assert p[j, k] == pytest.approx(np.mean(np.array(sizes) >= abs(r[j, k]) - 1e-9))
    drawn = arrangements(12, 99, None, 1)
    assert (drawn.exact, drawn.smallest_p) == (False, 0.01)
    fitted = residuals.residuals(np.column_stack([Y[:, 0], Y[:, 0] + 1e-6 * Y[:, 1]]), DESIGN)
    r = fitted.unit.T @ fitted.unit
    assert freedman_lane_p(fitted.unit, fitted.unit, fitted, drawn, r)[0, 1] == pytest.approx(0.01)


def test_freedman_lane_by_hand():
    chosen = arrangements(12, 199, BLOCKS, 5)
    assert all((BLOCKS[o] == BLOCKS).all() for o in chosen.orders)
    fitted = residuals.residuals(Y, DESIGN)
    r = fitted.unit.T @ fitted.unit
    p = freedman_lane_p(fitted.unit[:, :1], fitted.unit[:, 1:2], fitted, chosen, r[:1, 1:2])[0, 0]
    reduced = sm.OLS(Y[:, 0], DESIGN).fit()
    full = np.column_stack([DESIGN, Y[:, 1]])
    observed = abs(sm.OLS(Y[:, 0], full).fit().tvalues[-1])
    t = [
        abs(sm.OLS(reduced.fittedvalues + reduced.resid[o], full).fit().tvalues[-1])
        for o in chosen.orders
    ]
    assert p == pytest.approx((1 + np.sum(np.array(t) >= observed - 1e-9)) / 200)


def test_pairs_of_samples_have_mirror_images():
    chosen = arrangements(6, 1000, np.repeat([0, 1, 2], 2), None)
    assert (chosen.possible, chosen.smallest_p) == (8, 0.25)


def test_negative_binomial_equals_statsmodels_at_its_dispersion():
    library = np.exp(RNG.normal(8, 0.3, 12))
    mu = library * np.exp(-4 + DESIGN @ [0, 0.5, 0.3])
    counts = RNG.negative_binomial(5, 5 / (5 + mu))[:, None].astype(float)
    found, dispersion = negative_binomial(counts, DESIGN, library, np.eye(3))
    family = sm.families.NegativeBinomial(alpha=dispersion[0])
    expected = sm.GLM(counts[:, 0], DESIGN, family=family, offset=np.log(library)).fit()
    assert expected.pearson_chi2 == pytest.approx(9, rel=1e-4)
    np.testing.assert_allclose(found["beta"][:, 0], expected.params, rtol=1e-5)
    np.testing.assert_allclose(found["beta_se"][:, 0], expected.bse, rtol=1e-5)
    np.testing.assert_allclose(
        found["beta_p_value"][:, 0], 2 * stats.t.sf(np.abs(expected.tvalues), 9), rtol=1e-3
    )


def test_noise_interval_against_plain_draws():
    """The pivotal quantity from Wishart draws of whole matrices, without the kernel's algebra."""
    df, r, noise, reliable = 9, 0.5, 0.1, (0.6, 0.8)
    draws = noise_correction.pivotal_draws(df, None)
    a = np.array([[1, r], [r, 1]])
    nn = np.array([[1 - reliable[0], noise], [noise, 1 - reliable[1]]])
    found = []
    for swap in (False, True):
        p = np.eye(2)[::-1] if swap else np.eye(2)
        la = np.linalg.cholesky(df * p @ a @ p)
        for k in range(noise_correction.DRAWS):
            t11, t22 = np.sqrt(df) / draws[0][k], np.sqrt(df) / draws[2][k]
            root = la @ np.linalg.inv(np.array([[t11, 0], [draws[1][k] * t22, t22]]))
            s = p @ root @ root.T @ p - nn
            if s[0, 0] > 0 and s[1, 1] > 0:
                found.append(np.clip(s[0, 1] / np.sqrt(s[0, 0] * s[1, 1]), -1, 1))
    rho, low, high = noise_correction.corrected(
        np.array([[r]]), np.array([[noise]]), (np.array([0.6]), np.array([0.8])), draws, 0.95
    )
    assert rho[0, 0] == pytest.approx((r - noise) / np.sqrt(0.48))
    np.testing.assert_allclose(
        [low[0, 0], high[0, 0]], np.quantile(found, [0.025, 0.975]), atol=1e-9
    )


def test_noise_of_a_mean_by_hand(small):
    from hiercorr.counts.read import read_counts

    counts = read_counts(small, sample="sample", depth="depth")
    counts = counts.take(np.argsort(counts.detection, kind="stable"))
    weight = np.array([0.1, 0.2, 0.3, 0.0, 0.4])
    noise = noise_correction.measure_noise(counts, weight, 1e-13)
    x = counts.toarray()
    expected = np.zeros((counts.n_genes, counts.n_genes))
    for c in range(5):
        cells = slice(counts.starts[c], counts.starts[c + 1])
        part, s = x[cells], counts.depth[cells]
        total, n = part.sum(0), len(s)
        e = part - s[:, None] * (total / s.sum())
        expected += weight[c] * n / (n - 1) * (e.T @ e) / np.outer(total + 0.5, total + 0.5)
    np.testing.assert_allclose(noise.own, np.diag(expected), rtol=1e-9)
    whole = slice(0, counts.n_genes)
    off = ~np.eye(counts.n_genes, dtype=bool)
    np.testing.assert_allclose(
        noise.shared(whole, whole, np.float64)[off], expected[off], rtol=1e-7, atol=1e-12
    )


def test_constant_gene_has_no_residuals():
    y = np.column_stack([np.full(12, 1e6), Y[:, 0]])
    assert residuals.residuals(y, DESIGN).constant.tolist() == [True, False]
    z = np.column_stack([DESIGN @ [3, 2, 1], Y[:, 0]])
    assert residuals.residuals(z, DESIGN).constant.tolist() == [True, False]


class TestReferenceFigures:
    counts = table("pseudobulk_gbm_counts.csv").T
    samples = table("pseudobulk_gbm_samples.csv")
    design = np.column_stack(
        [np.ones(10), samples["condition"] == "panobinostat", samples["gender"] == "M"]
    ).astype(float)

    def libraries(self):
        return normalization.library_sizes(self.counts, self.counts.sum(axis=1))

    def test_tmm(self):
        expected = table("edger_tmm_gbm.csv")
        np.testing.assert_allclose(
            self.libraries() / expected["lib.size"], expected["norm.factors"], rtol=1e-9
        )

    def test_log_cpm(self):
        expected = table("edger_logcpm_gbm.csv").T
        np.testing.assert_allclose(
            normalization.log_cpm(self.counts, self.libraries()), expected, atol=1e-6
        )

    def test_voom(self):
        found = normalization.voom(self.counts, self.libraries(), self.design)
        np.testing.assert_allclose(found.expression, table("limma_voom_E_gbm.csv").T, atol=1e-6)
        np.testing.assert_allclose(found.weights, table("limma_voom_weights_gbm.csv").T, rtol=1e-6)

    def test_duplicate_correlation(self):
        found = normalization.voom(self.counts, self.libraries(), self.design)
        blocks = pd.factorize(self.samples["patient_id"])[0]
        rho = normalization.block_correlation(found.expression, self.design, blocks, found.weights)
        assert rho == pytest.approx(0.670, abs=5e-4)

    def test_median_of_ratios(self):
        from pydeseq2.preprocessing import deseq2_norm

        found = normalization.library_sizes(
            self.counts, self.counts.sum(axis=1), "median_of_ratios"
        )
        ratio = found / np.asarray(deseq2_norm(self.counts)[1])
        np.testing.assert_allclose(ratio, ratio[0], rtol=1e-12)
        assert np.exp(np.mean(np.log(found / self.counts.sum(axis=1)))) == pytest.approx(1)


def test_kernel_table_marks_what_is_not_inside():
    out = [np.empty((1, 3)) for _ in range(7)]
    kernels.pairs.correlation_table(
        np.array([[1.0, np.nan, 0.3]]), 5.0, 0.5, 0.4, *inference.log_p_table(5, 5**0.5), *out
    )
    assert np.isnan(out[0]).tolist() == [[True, True, False]]
