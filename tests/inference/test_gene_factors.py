"""The prior of a pair depends on its genes."""

import anndata as ad
import numpy as np
import pandas as pd
import pytest
from scipy import sparse

import hiercorr as hc
from hiercorr.inference.gene_factors import learn_factors
from hiercorr.inference.random_effects import ABSENT, FLIP, TAU, learn_prior
from hiercorr.within import fitting
from validation.populations import Population, draw

TEACHERS, GENES, DONORS, SE = 40, 200, 5, 0.05


@pytest.fixture(scope="module")
def panel():
    """A tenth of the genes has correlations that differ between donors."""
    rng = np.random.default_rng(1)
    tau = np.where(np.arange(GENES) % 10 == 0, 0.3, 0.0)
    effects = rng.normal(0, np.sqrt(SE**2 + tau**2), (DONORS, TEACHERS, GENES))
    variances = np.full_like(effects, SE**2)
    prior = learn_prior(effects.reshape(DONORS, -1), variances.reshape(DONORS, -1))
    return tau, effects, variances, prior


def test_genes_that_differ_between_donors_are_told_from_others(panel):
    tau, effects, variances, prior = panel
    factor = learn_factors(effects, variances, prior, np.ones((TEACHERS, GENES), bool))
    assert factor.shape == (len(TAU) + len(FLIP), GENES)
    weight = prior.weight[:, None] * factor[: len(TAU)]
    flip = prior.flip_weight[:, None] * factor[len(TAU) :]
    np.testing.assert_allclose(weight.sum(0) + flip.sum(0), 1, atol=1e-9)  # a distribution
    large = weight[TAU >= 0.15].sum(0) + flip.sum(0)
    assert large[tau > 0].min() > 0.6
    assert large[tau == 0].max() < 0.1
    assert large.mean() == pytest.approx(0.1, abs=0.04)


def test_genes_with_little_information_are_as_all(panel):
    _, effects, variances, prior = panel
    variances = variances.copy()
    variances[:, :, 0] = 0.5**2  # standard errors that cannot tell tau
    variances[:, 19:, 1] = ABSENT  # 19 pairs
    other = np.ones((TEACHERS, GENES), bool)
    other[19:, 2] = False
    factor = learn_factors(effects, variances, prior, other)
    np.testing.assert_array_equal(factor[:, :3], 1)
    assert (factor[:, 3:] != 1).any(0).all()


def _star(seed, genes=60, donors=6, cells=250):
    """One gene whose correlation with all others varies around 0 from donor to donor."""
    rng = np.random.default_rng(seed)
    donor = np.repeat(np.arange(donors), cells)
    z = 0.2 * rng.standard_normal((donors, genes))[donor]
    e = rng.standard_normal((len(donor), genes))
    e[:, 1:] = np.tanh(z[:, 1:]) * e[:, :1] + e[:, 1:] / np.cosh(z[:, 1:])
    depth = np.exp(0.3 * rng.standard_normal(len(donor)))
    counts = rng.poisson(3 * depth[:, None] * np.exp(0.64 * e - 0.64**2 / 2))
    obs = pd.DataFrame({"donor": np.char.mod("d%d", donor), "depth": 1e4 * depth})
    obs.index = obs.index.astype(str)
    var = pd.DataFrame(index=[f"gene{j}" for j in range(genes)])
    return ad.AnnData(sparse.csr_matrix(counts.astype(np.float32)), obs, var)


def _small_p(seed):
    model = hc.CSCore(_star(seed), "donor", depth="depth")
    p = model.fit(target="gene0", progress=False).dataset["p_value"].values[0, 1:]
    return [(p < level).mean() for level in (0.05, 0.01)]


def test_a_gene_that_varies_around_0_needs_more_evidence(monkeypatch):
    ours = np.mean([_small_p(seed) for seed in range(6)], axis=0)
    monkeypatch.setattr(fitting, "with_gene_factors", lambda donors, *_: donors)
    one_prior = np.mean([_small_p(seed) for seed in range(6)], axis=0)
    assert one_prior[1] > 0.05
    assert ours[1] < 0.75 * one_prior[1]
    assert ours[0] < 0.85 * one_prior[0]


def test_genes_that_do_not_vary_do_not_pay_for_those_that_do(monkeypatch):
    """Of 40% of the genes, in blocks of four, each donor tosses the signs of the correlations."""
    data = draw(Population(changing=0.4), np.full(5, 300), 80, np.random.default_rng(0))

    def calls():
        d = hc.CSCore(data.adata, "sample", depth="depth", min_cells=5).fit(progress=False).dataset
        q = d["q_value"].values[data.pairs]
        return (q[data.related] < 0.05).mean(), (q[~data.related] < 0.05).sum()

    power, false = calls()
    assert power > 0.5
    assert false <= 0.15 * power * data.related.sum()
    monkeypatch.setattr(fitting, "with_gene_factors", lambda donors, *_: donors)
    assert calls()[0] < 0.1


def test_factors_depend_on_the_genes_alone():
    """A target has the factors that it has among all pairs, whatever the tiles."""
    data, _ = hc.simulate.simulate_counts(4, 150, 30, mean=2.0, within=0.3, seed=3)
    model = hc.CSCore(data, "sample", depth="depth")
    every = model.fit(progress=False).dataset
    one = model.fit(target="gene7", progress=False).dataset.isel(target=0)
    for name in ("p_value", "correlation", "se"):
        np.testing.assert_allclose(
            one[name].values, every[name].sel(gene="gene7").values, rtol=1e-5, atol=1e-7
        )
