"""Library sizes, log expression, voom and block correlation against edgeR, limma and pydeseq2."""

import numpy as np
import pandas as pd
import pytest

import hiercorr as hc
from hiercorr.between import normalization
from tests.support import table


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
            self.libraries() / expected["lib.size"], expected["norm.factors"], rtol=1e-10
        )

    @pytest.mark.parametrize("seed", [None, 0, 1, 2])
    def test_tmm_of_sparse_samples_in_any_order(self, seed):
        counts = table("edger_tmm_sparse_counts.csv.gz").T
        if seed is not None:
            rng = np.random.default_rng(seed)
            counts = counts.iloc[rng.permutation(12), rng.permutation(counts.shape[1])]
        expected = table("edger_tmm_sparse.csv")["factor"].loc[counts.index]
        total = counts.sum(axis=1)
        found = normalization.library_sizes(counts, total) / total
        np.testing.assert_allclose(found / np.exp(np.log(found).mean()), expected, rtol=1e-10)

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


def test_tmm_in_degenerate_samples():
    same = np.array([[5, 0, 3, 9], [10, 0, 6, 18], [5, 0, 3, 9]])
    np.testing.assert_allclose(
        normalization.library_sizes(same, same.sum(1)) / same.sum(1), 1, rtol=1e-12
    )
    two = np.random.default_rng(0).poisson(3, (2, 200))
    found = normalization.library_sizes(two, two.sum(1))
    np.testing.assert_allclose(
        normalization.library_sizes(two[::-1], two[::-1].sum(1)), found[::-1], rtol=1e-12
    )
    with pytest.raises(hc.InputError, match="1 of 3 samples: they share no gene"):
        normalization.library_sizes([[5, 3, 0], [8, 4, 0], [0, 0, 9]], [8, 12, 9])
    with pytest.raises(hc.InputError, match="a sample without counts"):
        normalization.library_sizes([[5, 3], [0, 0]], [8, 1])
