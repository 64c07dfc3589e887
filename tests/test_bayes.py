"""The Bayesian model: density against PyMC, integrals against quadrature, draws against each other, results, refusals."""

import itertools
import json
import sys
import warnings

import numpy as np
import pandas as pd
import pytest
import xarray as xr
from scipy import integrate, stats

import hiercorr as hc
from hiercorr.bayes import many
from hiercorr.bayes.margin import Cells, Rows, fit_margin
from hiercorr.bayes.models import marginal_model
from hiercorr.bayes.pair import Population, make_pair
from hiercorr.bayes.population import cells_of
from hiercorr.bayes.predictive import waic
from hiercorr.bayes.priors import Priors, read_priors
from hiercorr.bayes.sampling import unpack
from hiercorr.bayes.tables import interval, projected
from hiercorr.schema import Flag
from hiercorr.simulate import simulate_counts
from validation.runner import run_study

pytestmark = pytest.mark.filterwarnings("ignore::FutureWarning", "ignore::hiercorr.DataWarning")
VEHICLE = {"condition": "ctrl"}


@pytest.fixture(scope="module")
def cells():
    adata, _ = simulate_counts(
        6, [60, 90, 40, 80, 70, 50], 4, mean=[0.1, 0.6, 2.0, 9.0], within=0.5, seed=1
    )
    s = adata.obs["depth"].to_numpy()
    starts = np.append(0, np.cumsum([60, 90, 40, 80, 70, 50]))
    return Cells(adata.X.toarray().astype(np.int64), np.log(s / s.mean()), starts)


@pytest.fixture(scope="module")
def fitted():
    adata, truth = simulate_counts(6, 150, 3, mean=[0.8, 2.0, 3.0], within=0.5, between=0.3, seed=5)
    model = hc.BayesianCorrelation(adata, "sample", depth="depth")
    return model, model.fit(draws=400, tune=300, seed=1), truth, adata


def _pair(
    cells,
    genes=(0, 1),
    block=None,
    structure="both",
    heterogeneity=True,
    dtype=np.float64,
    design=None,
):
    priors = read_priors()
    n = cells.n_samples
    block = np.arange(n) if block is None else np.asarray(block)
    design = np.ones((n, 1)) if design is None else design
    margins = tuple(fit_margin(cells.rows(j), 0, priors.log_sd) for j in genes)
    return make_pair(
        cells,
        genes,
        margins,
        Population(design, block),
        priors,
        heterogeneity=heterogeneity,
        structure=structure,
        dtype=dtype,
    )


def test_rows_stand_for_their_cells(cells):
    """A Gauss rule over depth replaces cells with the same counts; the margin's mode does not move."""
    for j in range(3):
        rows = cells.rows(j)
        assert len(rows.weight) < len(cells.x)
        np.testing.assert_allclose(
            np.add.reduceat(rows.weight, rows.starts[:-1]), np.diff(cells.starts)
        )
        every = Rows(
            cells.x[:, [j]].astype(float), cells.log_s, np.ones(len(cells.x)), cells.starts
        )
        few, all_ = (fit_margin(r, 0, (np.log(0.6), 0.6)) for r in (rows, every))
        assert few.log_sd == pytest.approx(all_.log_sd, abs=1e-7)
        np.testing.assert_allclose(few.m, all_.m, atol=1e-7)
        np.testing.assert_allclose(few.m_se, all_.m_se, rtol=1e-6)


def test_margin_is_the_mode_of_the_integrated_likelihood(cells):
    """Against adaptive quadrature of Poisson times normal for each cell."""
    j, c = 1, 0
    margin = fit_margin(cells.rows(j), 0, (np.log(0.6), 0.6))

    def cell(i, m, sd):
        def density(u):
            return stats.poisson.pmf(cells.x[i, j], np.exp(cells.log_s[i] + u)) * stats.norm.pdf(
                u, m, sd
            )

        return np.log(integrate.quad(density, m - 8 * sd, m + 8 * sd, limit=200)[0])

    def value(m):
        prior = stats.norm.logpdf(m, margin.prior_mean, 1.5)
        return prior + sum(
            cell(i, m, margin.sd) for i in range(cells.starts[c], cells.starts[c + 1])
        )

    h = 0.05
    down, mid, up = (value(margin.m[c] + k * h) for k in (-1, 0, 1))
    assert abs(up - down) / (2 * h) < 0.02 / margin.m_se[c]  # the slope is nought at the mode
    assert 1 / np.sqrt(-(up - 2 * mid + down) / h**2) == pytest.approx(margin.m_se[c], rel=0.02)


def test_pair_likelihood_against_quadrature(cells):
    """Differences of the log density between two vectors, cells integrated with scipy."""
    pair = _pair(cells, (1, 2), heterogeneity=False)
    few = range(int(cells.starts[2]), int(cells.starts[3]))
    t0 = pair.initial.copy()
    t1 = t0.copy()
    t1[pair.layout.at_sd + 4] += 0.3  # zeta

    def cell(i, theta):
        d = unpack(pair, theta[None, None], np.zeros((1, 1), bool), np.zeros((1, 1)))
        mean, sd, rho = d.mean[0, 0, 2], d.sd_within[0, 0], np.tanh(d.zeta[0, 0])
        nodes, weights = np.polynomial.hermite_e.hermegauss(120)
        weights = weights / weights.sum()
        u = mean[0] + sd[0] * nodes
        v = mean[1] + sd[1] * (rho * nodes[:, None] + np.sqrt(1 - rho**2) * nodes)
        a = stats.poisson.pmf(cells.x[i, 1], np.exp(cells.log_s[i] + u))
        b = stats.poisson.pmf(cells.x[i, 2], np.exp(cells.log_s[i] + v))
        return np.log(weights @ (a[:, None] * b @ weights))

    wanted = sum(cell(i, t1) - cell(i, t0) for i in few)
    from hiercorr.kernels import bayes as kernels

    (la, sa), (lb, sb) = pair.grids
    i, e = pair.rows.starts[2:4]
    got = []
    for theta in (t0, t1):
        d = unpack(pair, theta[None, None], np.zeros((1, 1), bool), np.zeros((1, 1)))
        w = np.empty((pair.tables[0].shape[1], pair.tables[1].shape[1]))
        mean, sd, rho = d.mean[0, 0, 2], d.sd_within[0, 0], np.tanh(d.zeta[0, 0])
        total = kernels.bivariate_weights(
            w, mean[0], mean[1], sd[0], sd[1], rho, la[2], sa, lb[2], sb
        )
        each = kernels.row_likelihoods(w, total, pair.tables[0][i:e], pair.tables[1][i:e])
        got.append((pair.rows.weight[i:e] * each).sum())
    assert got[1] - got[0] == pytest.approx(wanted, abs=2e-4)


@pytest.mark.parametrize(
    ("block", "structure", "heterogeneity"),
    [
        (None, "both", True),
        ([0, 0, 1, 1, 1, 2], "both", True),
        (None, "within", False),
        (None, "independent", True),
    ],
)
def test_gradient(cells, block, structure, heterogeneity):
    design = np.column_stack([np.ones(6), [0, 1, 0, 1, 0, 1.0]])
    pair = _pair(cells, (0, 2), block, structure, heterogeneity, design=design)
    rng = np.random.default_rng(0)
    theta = pair.initial + 0.3 * pair.spread * rng.standard_normal(pair.layout.size)
    _, gradient = pair.log_density(theta)
    h = 1e-5
    numeric = [
        (pair.log_density(theta + h * e)[0] - pair.log_density(theta - h * e)[0]) / (2 * h)
        for e in np.eye(len(theta))
    ]
    np.testing.assert_allclose(gradient, numeric, atol=2e-6 * np.abs(gradient).max())
    assert len(pair.layout.names) == len(theta)


def test_density_is_that_of_the_model_in_pymc(cells):
    """The compiled density and the model as PyMC states it differ by a constant, with blocks, covariates, heterogeneity."""
    pytest.importorskip("pymc")
    design = np.column_stack([np.ones(6), [0, 1, 0, 1, 0, 1.0]])
    pair = _pair(cells, (1, 2), [0, 0, 1, 1, 1, 2], design=design)
    model = marginal_model(pair)
    logp = model.compile_logp(jacobian=True)
    names = model.initial_point()
    rng, s, differences = np.random.default_rng(1), pair.layout.at_sd, []
    for _ in range(3):
        theta = pair.initial + pair.spread * rng.standard_normal(pair.layout.size)
        d = unpack(pair, theta[None, None], np.zeros((1, 1), bool), np.zeros((1, 1)))
        first = [int(np.flatnonzero(pair.unit == u)[0]) for u in range(pair.layout.n_units)]
        point = {
            "mean": d.mean[0, 0].ravel(),
            "coefficient": d.coefficient[0, 0],
            "sd_within_log__": theta[s : s + 2],
            "sd_between_log__": theta[s + 2 : s + 4],
            "zeta_half_logodds__": 2 * d.zeta[0, 0],
            "z_between_half_logodds__": 2 * d.z_between[0, 0],
            "tau_log__": np.log(d.tau[0, 0]),
            "eta": (d.z_sample[0, 0][first] - d.zeta[0, 0]) / d.tau[0, 0],
            "share_logodds__": theta[-1],
        }
        assert set(point) == set(names)
        stated = logp({k: np.asarray(v, float) for k, v in point.items()})
        partly_centred = -(pair.centred * np.log(d.tau[0, 0])).sum()  # the Jacobian of eta
        differences.append(pair.log_density(theta)[0] - stated - partly_centred)
    assert np.ptp(differences) < 1e-6


def test_single_precision_is_enough(cells):
    exact, fast = _pair(cells, (2, 3)), _pair(cells, (2, 3), dtype=np.float32)
    theta = exact.initial
    other = theta + 0.2 * exact.spread
    assert fast.log_density(other)[0] - fast.log_density(theta)[0] == pytest.approx(
        exact.log_density(other)[0] - exact.log_density(theta)[0], abs=1e-2
    )


def test_recovers_both_levels(fitted):
    _, r, truth, _ = fitted
    ds = r.dataset
    natural = truth["within"].values[0, 1]
    assert ds["natural_lower"].values[0, 1] < natural < ds["natural_upper"].values[0, 1]
    b = r.at("between").dataset
    assert b["ci_lower"].values[0, 1] < 0.3 < b["ci_upper"].values[0, 1]
    assert np.nanmax(ds["r_hat"]) < 1.03
    assert np.nanmin(ds["ess_bulk"]) > 200


def test_schema_and_levels(fitted):
    _, r, _, _ = fitted
    ds = r.dataset
    for name in (
        "correlation",
        "fisher_z",
        "se",
        "sd",
        "ci_lower",
        "ci_upper",
        "probability_of_direction",
        "rope_share",
        "flag",
        "ess_bulk",
        "ess_tail",
        "r_hat",
    ):
        assert ds[name].dims == ("gene", "partner")
        np.testing.assert_array_equal(ds[name].values, ds[name].values.T)
        assert ds[name].attrs["long_name"]
    z = ds["posterior_zeta"].values[..., 0, 1].ravel().astype(float)
    assert ds["correlation"].values[0, 1] == pytest.approx(np.tanh(z).mean(), abs=1e-6)
    assert ds["se"].values[0, 1] == pytest.approx(z.std(ddof=1), abs=1e-6)
    assert ds.attrs["level"] == "within"
    between = r.at("between")
    assert between.dataset.attrs["level"] == "between"
    z = ds["posterior_z_between"].values[..., 0, 1].ravel().astype(float)
    assert between.dataset["correlation"].values[0, 1] == pytest.approx(np.tanh(z).mean(), abs=1e-6)
    xr.testing.assert_identical(between.at("within").dataset, ds)
    assert r.at("within") is not None
    with pytest.raises(hc.InputError, match="unknown level 'pooled'"):
        r.at("pooled")
    assert "Prior of the correlation between samples: 95% in -0.81..0.81" in str(between.summary())
    assert "R-hat" in str(r.summary())
    with pytest.raises(hc.InputError, match="it is a posterior"):
        r.pairs(q=0.05)
    assert len(r.pairs()) == 3
    assert r.top("gene0").index.tolist()[0] == "gene1"
    assert ds.attrs["prior_tau"] == "halfnormal(sigma=0.3)"


@pytest.mark.parametrize("end", ["zarr", "nc"])
def test_saved_with_its_posterior(fitted, tmp_path, end):
    _, r, _, _ = fitted
    back = hc.load(r.save(tmp_path / f"r.{end}"))
    xr.testing.assert_equal(back.dataset, r.dataset)
    assert back.at("between").dataset.attrs["title"] == "Bayesian correlation, between samples"
    posterior = back.idata["posterior"]
    assert set(posterior["within"].dims) == {"chain", "draw", "gene", "partner"}
    assert posterior["within_sample"].sizes["sample"] == 6
    assert list(posterior["beta"]["coefficient"].values) == ["Intercept"]
    assert "diverging" in back.idata["sample_stats"]
    with pytest.raises(hc.InputError, match="no posterior draws"):
        _ = (
            hc.CSCore(hc.datasets.glioblastoma(), "patient_id", genes=3, depth="total_counts")
            .fit()
            .idata
        )


def test_same_seed_same_draws():
    adata, _ = simulate_counts(4, 60, 2, mean=2.0, within=0.5, seed=2)
    model = hc.BayesianCorrelation(adata, "sample", depth="depth")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        first, second, third = (model.fit(draws=100, tune=150, chains=2, seed=s) for s in (1, 1, 2))
    a, b, c = (r.dataset["posterior_zeta"].values for r in (first, second, third))
    np.testing.assert_array_equal(a, b)
    assert not np.array_equal(a[..., 0, 1], c[..., 0, 1])


def test_bad_draws_are_flagged():
    adata, _ = simulate_counts(4, 60, 2, mean=2.0, within=0.5, seed=2)
    with pytest.warns(hc.EstimationWarning, match="not_converged: raise draws="):
        r = hc.BayesianCorrelation(adata, "sample", depth="depth").fit(
            draws=100, tune=100, chains=2, seed=1
        )
    assert r.flag_counts()["not_converged"] == 1
    assert "not_converged" in str(r.summary())


def test_posterior_and_prior_predictive(fitted):
    model, r, _, adata = fitted
    after = model.posterior_predictive(r, draws=60, seed=1)
    assert dict(after.sizes) == {"draw": 60, "gene": 3, "pair": 3}
    zeros = (adata.X.toarray() == 0).mean(0)
    np.testing.assert_allclose(after["data_zeros"], zeros)
    assert (np.abs(after["zeros"].mean("draw") - zeros) < 0.03).all()
    assert (after["p_observed"] > 0.02).all()  # the model that made the data is not found wanting
    before = model.prior_predictive(draws=60, seed=1)
    assert (before["zeros"].std("draw") > 3 * after["zeros"].std("draw")).all()
    assert "p_zeros" not in before


def test_predictive_check_sees_zero_inflation():
    adata, _ = simulate_counts(4, 300, 2, mean=5.0, within=0.5, seed=3)
    rng = np.random.default_rng(0)
    adata.X = adata.X.multiply(rng.random(adata.shape) > 0.3).tocsr().astype(np.int32)
    model = hc.BayesianCorrelation(adata, "sample", depth="depth")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        r = model.fit(draws=200, tune=200, chains=2, seed=1)
    assert (model.posterior_predictive(r, 60, seed=1)["p_zeros"] < 0.1).all()


def test_leave_one_out_prefers_the_structure_that_is_there(fitted):
    model, *_ = fitted
    table = model.compare_structures("gene0", "gene1", seed=1, draws=200, tune=200, chains=2)
    assert table.index[-1] == "independent"
    assert set(table.index) == {"both", "within", "independent"}
    assert table["elpd_waic"].idxmin() == "independent"
    loo = table["elpd" if "elpd" in table else "elpd_loo"]
    np.testing.assert_allclose(
        table["elpd_waic"], loo, atol=6
    )  # they agree where neither is in trouble; ArviZ 1 rounds


def test_waic_by_hand():
    value = np.log(np.array([[0.2, 0.5], [0.4, 0.1]]))
    found = waic(value)
    effective = np.var(value, axis=0, ddof=1)
    assert found["p_waic"] == pytest.approx(effective.sum())
    assert found["elpd_waic"] == pytest.approx((np.log([0.3, 0.3]) - effective).sum())


def test_prior_sensitivity_shows_few_samples(fitted):
    model, *_ = fitted
    table = model.prior_sensitivity(
        "gene0",
        "gene1",
        {"lkj": {}, "tight": {"z_between": {"distribution": "normal", "sigma": 0.05}}},
        seed=1,
        draws=200,
        tune=200,
        chains=2,
    )
    between = table[table["level"] == "between"].set_index("priors")
    assert between.loc["tight", "sd"] < between.loc["lkj", "sd"] / 3
    assert between.loc["tight", "prior_upper"] < 0.2


def test_projection_is_the_nearest_correlation_matrix():
    bad = np.array([[1, 0.9, -0.9], [0.9, 1, 0.9], [-0.9, 0.9, 1]])
    nearest, smallest = projected(bad)
    assert smallest == pytest.approx(-0.8)
    assert np.linalg.eigvalsh(nearest)[0] > -1e-7
    np.testing.assert_allclose(np.diag(nearest), 1)
    assert nearest[0, 1] == pytest.approx(0.5, abs=0.02)  # by symmetry, r, r, -r at the edge
    good, _ = projected(np.array([[1, 0.2], [0.2, 1]]))
    np.testing.assert_array_equal(good, [[1, 0.2], [0.2, 1]])


def test_interval_is_the_shortest():
    draws = np.random.default_rng(0).exponential(size=(20000, 1))
    low, high = interval(draws, 0.9)
    assert low[0] < 0.01
    assert high[0] == pytest.approx(-np.log(0.1), rel=0.05)


def test_fit_many_agrees_with_nuts(fitted):
    model, r, _, _ = fitted
    many = model.fit_many("gene1", seed=1)
    for level in ("within", "between"):
        a, b = r.at(level).dataset, many.at(level).dataset
        for gene in ("gene0", "gene2"):
            full = a.sel(gene="gene1", partner=gene)
            fast = b.isel(target=0).sel(gene=gene)
            assert float(fast["fisher_z"]) == pytest.approx(
                float(full["fisher_z"]), abs=0.3 * float(full["se"])
            )
            assert float(fast["se"]) == pytest.approx(float(full["se"]), rel=0.2)
    assert many.dataset.attrs["uncertainty"] == "posterior, not MCMC"
    assert "not MCMC" in str(many.summary())
    assert "r_hat" not in many.dataset
    assert many.dataset["posterior_zeta"].dims == ("chain", "draw", "target", "gene")


def test_fit_many_subset_shrinkage_and_threads(fitted):
    model, *_ = fitted
    one = model.fit_many("gene1", ["gene0"], seed=1)
    assert list(one.genes) == ["gene1", "gene0"]
    two = model.fit_many("gene1", seed=1, n_jobs=1)
    three = model.fit_many("gene1", seed=1, n_jobs=2)
    xr.testing.assert_equal(two.dataset, three.dataset)
    adata, _ = simulate_counts(5, 150, 21, mean=1.0, within=0.0, seed=8)
    null = hc.BayesianCorrelation(adata, "sample", depth="depth")
    plain, shrunk = (
        null.fit_many("gene0", shrink=s, seed=1).dataset["correlation"].values[0, 1:]
        for s in (False, True)
    )
    assert np.abs(shrunk).mean() < 0.7 * np.abs(plain).mean()


def test_grid_draws_follow_the_density():
    log_density = stats.norm.logpdf(many.FINE, 0.4, 0.3)[None]
    draws = many.grid_draws(log_density, 4000, np.random.default_rng(0))[:, 0]
    assert draws.mean() == pytest.approx(0.4, abs=0.01)
    assert draws.std() == pytest.approx(0.3, abs=0.01)


def test_known_noise_between_samples():
    """The restricted likelihood on the grid is that of a multivariate normal with the coefficients integrated out."""
    from hiercorr.kernels import bayes as kernels

    rng = np.random.default_rng(0)
    n = 7
    mean, design = rng.normal(size=(n, 2)), np.column_stack([np.ones(n), rng.normal(size=n)])
    noise = np.column_stack(
        [rng.uniform(0.1, 0.3, n), rng.uniform(-0.05, 0.05, n), rng.uniform(0.1, 0.3, n)]
    )
    out = kernels.between_posterior(
        mean, noise, design, np.log([0.5, 0.9]), np.log([0.4]), np.array([-0.5, 0.7])
    )

    def direct(a, b, z):
        cov = np.zeros((2 * n, 2 * n))
        for c in range(n):
            cross = np.tanh(z) * a * b + noise[c, 1]
            cov[2 * c : 2 * c + 2, 2 * c : 2 * c + 2] = [
                [a * a + noise[c, 0], cross],
                [cross, b * b + noise[c, 2]],
            ]
        x = np.kron(design, np.eye(2))
        wide = cov + 1e8 * x @ x.T  # flat coefficients
        return stats.multivariate_normal.logpdf(mean.ravel(), cov=wide, allow_singular=True)

    got = [out[p, 0, r] for p, r in itertools.product(range(2), range(2))]
    wanted = [direct(a, 0.4, z) for a, z in itertools.product((0.5, 0.9), (-0.5, 0.7))]
    np.testing.assert_allclose(np.diff(got), np.diff(wanted), atol=1e-4)


def test_agrees_with_moments_on_real_data(gbm):
    """CSCore's estimate lies in the Bayesian interval of the same estimand, for the genes that are well measured."""
    genes = ["FTL", "FTH1", "MT2A", "SPP1", "CLU", "CHI3L1", "B2M"]
    options = {"depth": "total_counts", "subset": VEHICLE}
    bayes = hc.BayesianCorrelation(gbm, "sample_id", genes, **options).fit_many("FTL", seed=1)
    moments = hc.CSCore(gbm, "sample_id", genes, **options).fit(target="FTL")
    both = hc.compare({"Bayesian": bayes, "moments": moments})
    within = (
        both.table[both.table["level"] == "within"]
        .set_index(["gene_b", "result"])["correlation"]
        .unstack()
    )
    assert (within["Bayesian"] - within["moments"]).abs().max() < 0.12
    width = (both.table["ci_upper"] - both.table["ci_lower"]).rename("width")
    keys = ["gene_b", "result"]
    se = pd.concat([both.table[[*keys, "level"]], width / 3.92], axis=1)
    se = se[se["level"] == "within"].set_index(keys)["width"].unstack()
    joint = np.sqrt((se**2).sum(axis=1))
    assert ((within["Bayesian"] - within["moments"]).abs() < 2 * joint).all()


def test_compare_table_and_plot(fitted):
    model, r, _, adata = fitted
    results = {"Bayesian": r, "moments": hc.CSCore(adata, "sample", depth="depth").fit()}
    found = hc.compare(results)
    assert found.wide().shape == (6, 2)
    first = found.table.iloc[0]
    assert first["correlation"] == pytest.approx(float(r.dataset["natural_correlation"][0, 1]))
    assert list(found.table["level"].unique()) == ["within", "between"]
    ax = found.plot()
    assert [t.get_text() for t in ax.get_yticklabels()][:2] == [
        "gene0 - gene1, within",
        "gene0 - gene1, between",
    ]
    drawn = np.sort(
        np.concatenate([line.get_xdata() for line in ax.lines if line.get_label() in results])
    )
    np.testing.assert_allclose(drawn, np.sort(found.table["correlation"]))
    assert len(hc.compare(results, [("gene2", "gene0")]).table) == 3
    with pytest.raises(hc.InputError, match="unknown gene 'gene9'"):
        hc.compare(results, [("gene0", "gene9")])
    many = model.fit_many("gene1", seed=1)
    with pytest.raises(hc.InputError, match="holds the pairs of 'gene1' only"):
        hc.compare({"many": many}, [("gene0", "gene2")])
    with pytest.raises(hc.InputError, match="at least one result"):
        hc.compare({})


def test_covariates_blocks_and_absent_genes():
    adata, _ = simulate_counts(
        8,
        60,
        2,
        mean=[2.0, 2.0],
        within=0.4,
        seed=4,
        covariates={"arm": (["a", "b"] * 4, 1.0)},
        donor=["d1", "d1", "d2", "d2", "d3", "d3", "d4", "d4"],
    )
    x = adata.X.toarray()
    x[(adata.obs["sample"] == "s3").to_numpy(), 0] = 0
    adata.X = x
    with pytest.warns(hc.DataWarning, match="use block='donor'"):
        hc.BayesianCorrelation(adata, "sample", depth="depth")
    model = hc.BayesianCorrelation(adata, "sample", formula="~ arm", block="donor", depth="depth")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        r = model.fit(draws=200, tune=300, chains=2, seed=1)
    assert r.flag_counts()["absent_in_sample"] == 1
    beta = r.dataset["posterior_beta"].sel(coefficient="arm[T.b]").values[..., 1, 0]
    assert beta.mean() == pytest.approx(1.0, abs=3 * float(beta.std()))
    share = r.dataset["posterior_share"].values[..., 0, 1]
    assert ((share > 0) & (share < 1)).all()
    with pytest.raises(hc.InputError, match="fit_many has no block="):
        model.fit_many("gene0")


@pytest.mark.slow
def test_latent_model_agrees_with_the_marginal_one():
    pytest.importorskip("pymc")
    adata, _ = simulate_counts(4, 60, 2, mean=3.0, within=0.6, seed=6)
    model = hc.BayesianCorrelation(adata, "sample", depth="depth", heterogeneity=False)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        marginal = model.fit(draws=400, tune=300, chains=2, seed=1)
        latent = model.fit(draws=300, tune=300, chains=2, seed=1, method="latent")
    for level in ("within", "between"):
        a, b = marginal.at(level).dataset, latent.at(level).dataset
        assert float(a["fisher_z"][0, 1]) == pytest.approx(
            float(b["fisher_z"][0, 1]), abs=0.5 * float(a["se"][0, 1])
        )
        assert float(a["se"][0, 1]) == pytest.approx(float(b["se"][0, 1]), rel=0.4)
    assert latent.idata["posterior"]["within"].sizes["gene"] == 2


@pytest.mark.slow
def test_pymc_samples_the_same_posterior():
    adata, _ = simulate_counts(4, 40, 2, mean=3.0, within=0.6, seed=6)
    model = hc.BayesianCorrelation(adata, "sample", depth="depth")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        a, b = (
            model.fit(draws=300, tune=300, chains=2, seed=1, sampler=s).dataset
            for s in ("nutpie", "pymc")
        )
    assert float(a["fisher_z"][0, 1]) == pytest.approx(
        float(b["fisher_z"][0, 1]), abs=0.3 * float(a["se"][0, 1])
    )


@pytest.mark.slow
def test_simulation_based_calibration_with_20_replicates():
    _, refuted = run_study("bayesian_sbc", quick=True, replicates=20)
    assert not refuted


def _model(adata, **options):
    return hc.BayesianCorrelation(adata, **{"sample": "sample", "depth": "depth", **options})


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"priors": {"z_betwen": {}}}, "unknown prior 'z_betwen'; did you mean 'z_between'"),
        (
            {"priors": {"tau": {"distribution": "lkj", "eta": 2}}},
            "prior 'tau' must be halfnormal or lognormal, not 'lkj'",
        ),
        (
            {"priors": {"tau": {"distribution": "halfnormal", "sigma": -1}}},
            "sigma must be a positive number, not -1",
        ),
        ({"priors": {"tau": {"distribution": "halfnormal"}}}, "needs sigma"),
        (
            {"priors": {"tau": {"distribution": "halfnormal", "scale": 1}}},
            "unknown parameter of prior 'tau'",
        ),
        ({"priors": "nowhere.toml"}, "there is no such file"),
        ({"priors": 3}, "must be a mapping or a TOML file"),
        ({"structure": "all"}, "structure must be one of"),
        ({"many_cells": "some"}, "many_cells must be one of"),
        ({"sample": None}, "sample= is needed"),
        ({"block": "batch"}, "unknown block column 'batch'"),
        ({"block": "half"}, "block 'half' has 2 values"),
        ({"block": "depth"}, "varies within samples"),
        ({"formula": "~ sample"}, "confounded with the sample"),
        ({"subset": {"sample": ["s1", "s2"]}}, "2 samples: correlation between samples"),
        ({"genes": ["gene0", "nix"]}, "unknown gene 'nix'"),
    ],
)
def test_refusals(options, text):
    adata, _ = simulate_counts(4, 30, 3, mean=2.0, seed=1)
    adata.obs["half"] = adata.obs["sample"].isin(["s1", "s2"]).map({True: "x", False: "y"})
    with pytest.raises(hc.InputError, match=text):
        _model(adata, **options)


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"draws": 5}, "draws must be a whole number of at least 100"),
        ({"chains": 1}, "chains must be a whole number of at least 2"),
        ({"sampler": "gibbs"}, "sampler must be one of"),
        ({"method": "exact"}, "method must be one of"),
        ({"target_accept": 1.2}, "target_accept must lie between 0 and 1"),
    ],
)
def test_refused_options_of_fit(options, text):
    adata, _ = simulate_counts(4, 30, 2, mean=2.0, seed=1)
    with pytest.raises(hc.InputError, match=text):
        _model(adata).fit(**options)


def test_too_much_work_is_refused_with_its_cost():
    adata, _ = simulate_counts(4, 30, 25, mean=2.0, seed=1)
    with pytest.raises(
        hc.InputError, match=r"2 to 20 genes, not 25: 300 pairs would take about .* fit_many"
    ):
        _model(adata).fit()
    big, _ = simulate_counts(4, 5200, 2, mean=0.5, seed=1)
    with pytest.raises(hc.InputError, match=r"20,800 cells: .*many_cells='subsample'"):
        _model(big)
    with pytest.warns(hc.DataWarning, match="of 20,800 cells are used"):
        thinned = _model(big, many_cells="subsample", seed=1)
    assert thinned.counts.n_cells == 20_000
    where = thinned.counts.cells
    np.testing.assert_array_equal(cells_of(thinned.counts).x, big.X.toarray()[where])
    assert _model(big, many_cells="all").counts.n_cells == 20_800
    with pytest.raises(hc.InputError, match="has a parameter for each of"):
        _model(big, many_cells="all").fit(method="latent", draws=100)


def test_priors_from_file_and_shipped(tmp_path):
    path = tmp_path / "p.toml"
    path.write_text('[priors.z_between]\ndistribution = "normal"\nsigma = 0.3\n')
    priors = read_priors(path)
    assert isinstance(priors, Priors)
    assert priors.describe()["z_between"] == "normal(sigma=0.3)"
    assert priors.describe()["tau"] == read_priors().describe()["tau"]
    rho = np.tanh(read_priors().draw("z_within", 20000, np.random.default_rng(0)))
    assert rho.std() == pytest.approx(np.sqrt(1 / 5), rel=0.03)  # LKJ(2) in two dimensions
    path.write_text("[priors")
    with pytest.raises(hc.InputError, match="not valid TOML"):
        read_priors(path)


def test_missing_extra_is_one_line(monkeypatch):
    adata, _ = simulate_counts(4, 30, 2, mean=2.0, seed=1)
    monkeypatch.setitem(sys.modules, "arviz", None)
    with pytest.raises(ImportError, match=r'pip install "hiercorr\[bayes\]"'):
        _model(adata).fit(draws=100)


def test_methods_text_and_report(fitted, tmp_path):
    _, r, _, _ = fitted
    page = hc.report(tmp_path / "b.html", r, r.at("between")).read_text()
    assert "Poisson-lognormal hierarchical model" in page
    assert "Aitchison" in page


def test_evidence_takes_the_bayesian_layer(fitted):
    _, r, _, adata = fitted
    within, between = (
        hc.CSCore(adata, "sample", depth="depth").fit(),
        hc.Pseudobulk(adata, "sample", depth="depth").fit(),
    )
    table = hc.evidence("gene0", within=within, between=between, bayesian=r).table
    assert table.loc["gene1", "bayesian_correlation"] == pytest.approx(
        float(r.dataset["correlation"][0, 1])
    )


def test_command_line(tmp_path):
    from click.testing import CliRunner

    from hiercorr.cli import main

    adata, _ = simulate_counts(4, 50, 3, mean=2.0, within=0.5, seed=1)
    path = tmp_path / "a.h5ad"
    adata.write_h5ad(path)
    args = [
        "fit",
        "models/bayesian.toml",
        str(path),
        "--sample",
        "sample",
        "--depth",
        "depth",
        "--genes",
        "gene0,gene1",
    ]
    done = CliRunner().invoke(
        main,
        [*args, "--draws", "150", "--chains", "2", "--seed", "1", "-o", str(tmp_path / "b.zarr")],
    )
    assert done.exit_code == 0, done.output
    back = hc.load(tmp_path / "b.zarr")
    assert back.dataset.attrs["draws"] == 150
    assert json.dumps(back.dataset.attrs["prior_tau"])
    args = [
        "fit",
        str(path),
        "--model",
        "bayesian",
        "--sample",
        "sample",
        "--depth",
        "depth",
        "--target",
        "gene0",
    ]
    done = CliRunner().invoke(main, [*args, "--seed", "1", "-o", str(tmp_path / "m.nc")])
    assert done.exit_code == 0, done.output
    assert hc.load(tmp_path / "m.nc").target == "gene0"
    assert isinstance(hc.load(tmp_path / "m.nc").top(), pd.DataFrame)
    assert int(Flag.NOT_CONVERGED) == 2048
