"""Random intercepts of formulas: equal to block=, crossed ones against statsmodels, refusals."""

import warnings

import numpy as np
import pandas as pd
import pytest
import statsmodels.api as sm
import statsmodels.formula.api as smf

import hiercorr as hc
from hiercorr.between import crossed, normalization
from hiercorr.reporting import methods_text
from hiercorr.simulate import simulate_counts
from tests.between.support import model, pseudobulk

pytestmark = pytest.mark.filterwarnings(
    "ignore::hiercorr.DataWarning", "ignore::hiercorr.EstimationWarning"
)
DONOR, BATCH = np.repeat(np.arange(8), 4), np.tile(np.arange(4), 8)
X = np.column_stack([np.ones(32), np.repeat([0.0, 1.0], 16)])


def responses(n_genes, shares, seed):
    rng = np.random.default_rng(seed)
    parts = [
        np.sqrt(shares[0]) * rng.normal(size=(8, n_genes))[DONOR],
        np.sqrt(shares[1]) * rng.normal(size=(4, n_genes))[BATCH],
        np.sqrt(1 - sum(shares)) * rng.normal(size=(32, n_genes)),
    ]
    return np.sum(parts, 0)


def mixed_model(y, crossed_too):
    table = pd.DataFrame({"y": y, "x": X[:, 1], "donor": DONOR, "batch": BATCH, "one": 1})
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        if not crossed_too:
            fit = smf.mixedlm("y ~ x", table, groups="donor").fit(reml=True, gtol=1e-8)
            v = [float(fit.cov_re.iloc[0, 0])]
        else:
            parts = {"donor": "0 + C(donor)", "batch": "0 + C(batch)"}
            fit = smf.mixedlm("y ~ x", table, groups="one", vc_formula=parts).fit(reml=True)
            v = dict(zip(fit.model.exog_vc.names, fit.vcomp, strict=True))
            v = [v["donor"], v["batch"]]
    return np.array(v) / (sum(v) + fit.scale)


@pytest.mark.parametrize("seed", range(3))
def test_one_random_intercept_equals_the_mixed_model(seed):
    y = responses(1, (0.5, 0.0), seed)
    found = normalization.block_correlation(y, X, DONOR)
    assert found == pytest.approx(mixed_model(y[:, 0], False)[0], abs=2e-4)


@pytest.mark.parametrize("seed", range(4))
def test_crossed_random_intercepts_equal_the_mixed_model(seed):
    y = responses(1, (0.4, 0.3), seed)
    found = crossed.crossed_correlations(y, X, (DONOR, BATCH))
    wanted = mixed_model(y[:, 0], True)
    assert (wanted > 0.01).all()  # statsmodels' components are not negative
    np.testing.assert_allclose(found, wanted, atol=2e-3)


def test_refinement_finds_the_maximum():
    """The likelihood, written directly, is no higher around the estimate of each gene."""
    y = responses(12, (0.4, 0.2), 7)
    k = np.linalg.qr(X, mode="complete")[0][:, 2:]

    def likelihood(rho, z):
        v = k.T @ crossed.correlation_matrix((DONOR, BATCH), rho) @ k
        if np.linalg.eigvalsh(v)[0] <= 0:
            return -np.inf
        return -np.linalg.slogdet(v)[1] - len(z) * np.log(z @ np.linalg.solve(v, z))

    for j in range(y.shape[1]):
        rho = np.array(crossed.crossed_correlations(y[:, [j]], X, (DONOR, BATCH)))
        best = likelihood(rho, k.T @ y[:, j])
        for step in 1e-3 * np.array([[1, 0], [-1, 0], [0, 1], [0, -1], [1, 1], [-1, 1]]):
            assert likelihood(rho + step, k.T @ y[:, j]) < best + 1e-9


@pytest.mark.parametrize("shares", [(0.0, 0.0), (0.5, 0.0), (0.3, 0.3), (0.1, 0.6)])
def test_consensus_finds_the_truth(shares):
    found = crossed.crossed_correlations(responses(400, shares, 3), X, (DONOR, BATCH))
    np.testing.assert_allclose(found, shares, atol=0.08)


def test_weights_and_unbalanced_groups():
    y = responses(40, (0.4, 0.2), 5)
    plain = crossed.crossed_correlations(y, X, (DONOR, BATCH))
    np.testing.assert_allclose(
        crossed.crossed_correlations(y, X, (DONOR, BATCH), np.full_like(y, 3.0)), plain, atol=1e-5
    )
    rows = np.random.default_rng(1).permutation(32)[:25]
    weights = np.random.default_rng(2).uniform(0.5, 2, (25, 40))
    part = (DONOR[rows], BATCH[rows])
    codes = [pd.factorize(g)[0] for g in part]
    found = crossed.crossed_correlations(y[rows], X[rows], codes, weights)
    assert (np.array(found) > 0).all()
    assert np.linalg.eigvalsh(crossed.correlation_matrix(codes, found))[0] > 0


@pytest.fixture(scope="module")
def plates():
    """16 samples: 8 donors, each on two of four plates."""
    donor = [f"d{k}" for k in np.repeat(np.arange(8), 2)]
    plate = np.tile([0, 1, 2, 3, 1, 2, 3, 0], 2)
    adata, _ = simulate_counts(
        16,
        40,
        12,
        mean=3.0,
        between=0.5,
        donor=donor,
        donor_share=0.6,
        covariates={
            "plate": (np.array([1.0, -1.0, 0.5, 0.0])[plate], 0.6),
            "arm": (list("abab" * 4), 0.5),
        },
        seed=2,
    )
    adata.obs["plate"] = "p" + adata.obs["plate"].astype(str)
    return adata


@pytest.mark.parametrize("options", [{"target": "FTL"}, {}, {"method": "voom", "target": "FTL"}])
def test_a_random_intercept_is_the_block_correlation(gbm, options):
    stated = model(gbm, formula="~ condition + (1 | patient_id)")
    block = model(gbm, formula="~ condition", block="patient_id", block_method="correlation")
    both = model(gbm, formula="~ (1 | `patient_id`) + condition", block="patient_id")
    assert (stated.block, stated.block_method) == ("patient_id", "correlation")
    a, b, c = (m.fit(**options).dataset for m in (stated, block, both))
    for d in (b, c):
        assert a.drop_attrs().equals(d.drop_attrs())
        assert a.attrs["formula"] == d.attrs["formula"]
        assert a.attrs["block_correlation"] == d.attrs["block_correlation"]


def test_crossed_intercepts_whiten_the_regression(plates):
    m = pseudobulk(plates, formula="~ arm + (1 | donor) + (1 | plate)")
    r = m.fit(target="gene0", moderated=False)
    text = r.dataset.attrs["block_correlation"]
    assert r.dataset.attrs["block"] == "donor + plate"
    rho = [float(part.rpartition(": ")[2]) for part in text.split("; ")]
    assert text.startswith("donor: ")
    assert rho[0] > 0.2
    codes = [pd.factorize(m.samples.obs[c])[0] for c in ("donor", "plate")]
    sigma = crossed.correlation_matrix(codes, m._problem(m.expression, _asked()).correlation)
    assert sigma[codes[0][:, None] == codes[0]].min() >= rho[0] - 1e-3
    x = np.column_stack([m.design.matrix, m.expression["gene0"]])
    expected = sm.GLS(m.expression["gene5"], x, sigma).fit()
    d = r.dataset.sel(gene="gene5")
    assert float(d["statistic"][0]) == pytest.approx(expected.tvalues.iloc[-1])
    assert float(d["p_value"][0]) == pytest.approx(expected.pvalues.iloc[-1])
    sentence = methods_text(r)
    assert f"{rho[0]:.2f} (donor) and {rho[1]:.2f} (plate)" in sentence
    every = m.fit("pearson").dataset
    assert every.attrs["block_correlation"] == text
    assert m.fit("voom", target="gene0").dataset["p_value"].notnull().sum() == 11


def _asked():
    from hiercorr.between.options import BetweenOptions

    return BetweenOptions("ols", "gene0", None, {}, None, "double", 0.95, None, None)


@pytest.mark.parametrize(
    ("options", "match"),
    [
        ({"formula": "~ arm + (1 | donor)", "block": "plate"}, "name different groups"),
        ({"formula": "~ (1 | donor) + (1 | plate)", "block": "donor"}, "name different groups"),
        ({"formula": "~ (1 | donor)", "block_method": "fixed"}, "cannot be combined with the"),
        ({"formula": "~ (1 | donor) + (1 | plate) + (1 | arm)"}, "no more than 2 random"),
        ({"formula": "~ (arm | donor)"}, "random effect 'arm'"),
        ({"formula": "~ (1 | nothing)"}, "unknown block column 'nothing'"),
        ({"formula": "~ (1 | one)"}, "'one' has one value, 'x', in all 16 samples"),
        ({"formula": "~ (1 | sample)"}, "different value in each of the 16 samples"),
        ({"formula": "~ (1 | donor) + (1 | twin)"}, "group the samples alike"),
        ({"formula": "~ (1 | depth)"}, "'depth' varies within samples"),
        ({"block": "one"}, "'one' has one value"),
        ({"block": "sample"}, "different value in each"),
        ({"block": "gap"}, "missing for sample"),
    ],
)
def test_refuses(plates, options, match):
    adata = plates.copy()
    adata.obs["one"] = "x"
    adata.obs["twin"] = adata.obs["donor"].astype(str) + "!"
    adata.obs["gap"] = adata.obs["donor"].astype(object).where(adata.obs["donor"] != "d0")
    with pytest.raises(hc.InputError, match=match):
        pseudobulk(adata, **options)


def test_swapped_names_are_named(plates):
    with pytest.raises(hc.InputError, match="swapped; use sample='sample', block='donor'"):
        hc.Pseudobulk(plates, "donor", formula="~ (1 | sample)", depth="depth")
    with pytest.raises(hc.InputError, match="swapped; use sample='sample', block='donor'"):
        hc.Pseudobulk(plates, "donor", block="sample", depth="depth")
    sums = hc.aggregate(plates, "donor", depth="depth")
    with pytest.raises(hc.InputError, match="varies within samples"):
        hc.Pseudobulk(sums, "donor", block="sample")


def test_bayesian_model(plates):
    options = {"sample": "sample", "genes": ["gene0", "gene1"], "depth": "depth"}
    stated = hc.BayesianCorrelation(plates, formula="~ arm + (1 | donor)", **options)
    block = hc.BayesianCorrelation(plates, formula="~ arm", block="donor", **options)
    assert stated.block == block.block == "donor"
    assert stated.design.formula == block.design.formula == "~ arm"
    population = [m._setup.population for m in (stated, block)]
    np.testing.assert_array_equal(population[0].block, population[1].block)
    assert hc.BayesianCorrelation(plates, formula="~ (1 | donor)", **options).block == "donor"
    for formula, words in (
        ("~ (1 | donor) + (1 | plate)", "no more than 1 random intercept can"),
        ("~ (arm | donor)", "random effect 'arm'"),
    ):
        with pytest.raises(hc.InputError, match=words):
            hc.BayesianCorrelation(plates, formula=formula, **options)
    with pytest.raises(hc.InputError, match="name different groups"):
        hc.BayesianCorrelation(plates, formula="~ (1 | donor)", block="plate", **options)
