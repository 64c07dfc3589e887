"""Genes of one cell type with genes of another, over samples, against sums made by hand."""

import itertools
import warnings

import anndata as ad
import numpy as np
import pandas as pd
import pytest
import statsmodels.api as sm
from scipy import stats

import hiercorr as hc
from hiercorr.inference.moderation import squeeze_variances

GENES = [f"g{j}" for j in range(6)]
TYPES = ("T", "mac")
CELLS = {"T": 20, "mac": 35, "other": 15}


def counts(donors=8, seed=1, cells=None, genes=6):
    """Counts of three cell types of each donor; genes vary between donors in each type."""
    rng = np.random.default_rng(seed)
    x, obs = [], []
    for d in range(donors):
        for kind, n in (cells or CELLS).items():
            mean = 4 * np.exp(rng.normal(0, 0.6, genes))
            size = rng.gamma(8, 1 / 8, (n, 1))
            x.append(rng.poisson(size * mean * rng.gamma(4, 1 / 4, (n, genes))))
            table = pd.DataFrame({"donor": f"d{d}", "kind": kind}, range(n))
            obs.append(table.assign(age=20.0 + 3 * (d % 5), arm="ab"[d % 2], depth=1000 * size))
    table = pd.concat(obs, ignore_index=True).rename(index=str)
    names = pd.DataFrame(index=[f"g{j}" for j in range(genes)])
    return ad.AnnData(np.vstack(x).astype(np.int64), obs=table, var=names)


def across(data, types=TYPES, **options):
    chosen = {"normalization": "cpm", "depth": "depth", **options}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", hc.DataWarning)
        return hc.AcrossCellTypes(data, "donor", "kind", types, **chosen)


def sums(data, kind):
    """Sum counts and depths per donor with pandas."""
    rows = (data.obs["kind"] == kind).to_numpy()
    donors = data.obs["donor"][rows].to_numpy()
    table = pd.DataFrame(data.X[rows], columns=data.var_names).groupby(donors).sum()
    return table, data.obs["depth"][rows].groupby(donors).sum()


def log_cpm(data, kind):
    total, size = sums(data, kind)
    prior = 2 * size / size.mean()
    return np.log2(total.add(prior, axis=0).div(size + 2 * prior, axis=0) * 1e6)


def test_correlations_are_those_of_sums_made_by_hand():
    data = counts()
    r = across(data, genes_a=["g0", "g1"], genes_b=["g1", "g2", "g3"]).fit()
    a, b = log_cpm(data, "T"), log_cpm(data, "mac")
    assert list(r.dataset["target"].values) == ["g0", "g1 (T)"]
    assert list(r.genes) == ["g1 (mac)", "g2", "g3"]
    by_hand = [[stats.pearsonr(a[i], b[j]) for j in ("g1", "g2", "g3")] for i in ("g0", "g1")]
    np.testing.assert_allclose(r.matrix(), [[t[0] for t in row] for row in by_hand], rtol=1e-10)
    p = np.array([[t[1] for t in row] for row in by_hand])
    np.testing.assert_allclose(r.matrix("p_value"), p, rtol=1e-7)
    q = stats.false_discovery_control(p.ravel()).reshape(p.shape)
    np.testing.assert_allclose(r.matrix("q_value"), q, rtol=1e-7)
    assert r.dataset.attrs["q_family"] == "the 6 pairs of 2 genes of T with 3 genes of mac"
    ranks = across(data, genes_a=["g0"], genes_b=["g2"]).fit("spearman")
    assert float(ranks.matrix().iloc[0, 0]) == pytest.approx(stats.spearmanr(a["g0"], b["g2"])[0])


@pytest.mark.parametrize("method", ["pearson", "ols"])
def test_covariates_are_those_of_a_regression(method):
    data = counts(10)
    found = across(data, formula="~ age + arm", genes_a=["g0"], genes_b=["g2"])
    r = found.fit(method, moderated=False if method == "ols" else None)["g0", "g2"]
    a, b = log_cpm(data, "T")["g0"], log_cpm(data, "mac")["g2"]
    donors = data.obs.groupby("donor", observed=True).first().loc[a.index]
    x = np.column_stack([np.ones(10), donors["age"], donors["arm"] == "b", a]).astype(float)
    fit = sm.OLS(b.to_numpy(), x).fit()
    t = fit.tvalues[-1]
    assert r["p_value"] == pytest.approx(fit.pvalues[-1], rel=1e-9)
    assert r["correlation"] == pytest.approx(t / np.sqrt(t**2 + fit.df_resid), rel=1e-9)
    assert r["df"] == fit.df_resid == 6


def test_both_directions_have_the_same_correlations():
    data = counts()
    one, other = across(data).fit(), across(data, TYPES[::-1]).fit()
    np.testing.assert_allclose(one.matrix(), other.matrix().T, rtol=1e-10)
    assert list(one.genes) == [f"{g} (mac)" for g in GENES]


def test_robust_errors_are_those_of_statsmodels():
    data = counts(10)
    r = across(data, genes_a=["g0"], genes_b=["g2", "g3"]).fit("hc3")
    a, b = log_cpm(data, "T")["g0"], log_cpm(data, "mac")
    for gene in ("g2", "g3"):
        fit = sm.OLS(b[gene].to_numpy(), sm.add_constant(a.to_numpy())).fit(
            cov_type="HC3", use_t=True
        )
        assert r["g0", gene]["p_value"] == pytest.approx(fit.pvalues[1], rel=1e-8)


def test_variances_are_moderated_over_the_genes_of_the_second_type():
    data = counts(8, genes=30)
    names = [f"g{j}" for j in range(5, 30)]
    model = across(data, genes_a=["g0", "g1"], genes_b=names)
    r = model.fit("ols")
    assert r.dataset.attrs["uncertainty"] == "moderated t"
    a, b = log_cpm(data, "T"), log_cpm(data, "mac")
    for gene in ("g0", "g1"):
        x = sm.add_constant(a[gene].to_numpy())
        fits = [sm.OLS(b[g].to_numpy(), x).fit() for g in names]
        squeezed = squeeze_variances(np.array([f.mse_resid for f in fits]), 6.0)
        t = [
            f.params[1] / np.sqrt(v * f.normalized_cov_params[1, 1])
            for f, v in zip(fits, squeezed.posterior, strict=True)
        ]
        p = 2 * stats.t.sf(np.abs(t), squeezed.total_df)
        np.testing.assert_allclose(r.matrix("p_value").loc[gene], p, rtol=1e-7)
    assert model.fit("ols", moderated=False).dataset.attrs["uncertainty"] == "t"


def test_noise_of_both_sums_is_taken_from_their_variances_only():
    data = counts(8)
    r = across(data, genes_a=["g0", "g1"], genes_b=["g2"]).fit("corrected")
    reliability, y = {}, {}
    for kind, names in (("T", ["g0", "g1"]), ("mac", ["g2"])):
        for g in names:
            noise, log = [], []
            for d in sorted(set(data.obs["donor"])):
                rows = ((data.obs["kind"] == kind) & (data.obs["donor"] == d)).to_numpy()
                x = np.asarray(data.X[rows][:, data.var_names == g], float).ravel()
                s = data.obs["depth"][rows].to_numpy()
                n, total = len(x), x.sum()
                residual = x - s * total / s.sum()
                noise.append(n / (n - 1) * (residual**2).sum() / (total + 0.5) ** 2)
                log.append(np.log((total + 0.5) / s.sum()))
            reliability[g] = 1 - np.mean(noise) / np.var(log, ddof=1)
            y[g] = log
    for a in ("g0", "g1"):
        raw = np.corrcoef(y[a], y["g2"])[0, 1]
        found = r[a, "g2"]
        expected = raw / np.sqrt(reliability[a] * reliability["g2"])
        assert found["correlation_unclipped" if abs(expected) > 1 else "correlation"] == (
            pytest.approx(expected, rel=1e-6)
        )
        assert found["observed_correlation"] == pytest.approx(raw, rel=1e-6)
        assert found["p_value"] == pytest.approx(stats.pearsonr(y[a], y["g2"])[1], rel=1e-6)
    table = r.gene_table()["reliability"]
    assert table.to_dict() == pytest.approx(reliability, rel=1e-6)


def test_permutations_are_all_orders_of_the_samples():
    data = counts(5)
    r = across(data, genes_a=["g0"], genes_b=["g2"]).fit(permutations=1000)["g0", "g2"]
    a, b = log_cpm(data, "T")["g0"].to_numpy(), log_cpm(data, "mac")["g2"].to_numpy()
    every = [np.corrcoef(a[list(o)], b)[0, 1] for o in itertools.permutations(range(5))]
    assert r["p_value"] == pytest.approx(
        np.mean(np.abs(every) >= abs(np.corrcoef(a, b)[0, 1]) - 1e-9)
    )


def test_each_type_is_normalised_by_its_own_genes():
    data = counts(8, genes=40)
    model = across(data, normalization="tmm")
    for k, kind in enumerate(TYPES):
        own = hc.Pseudobulk(
            data[data.obs["kind"] == kind].copy(), "donor", depth="depth"
        ).library_sizes
        found = model.fit().dataset[f"library_size_{'ab'[k]}"].values
        np.testing.assert_allclose(found, own, rtol=1e-12)
        assert not np.allclose(found, sums(data, kind)[1])


def test_tables_state_the_types_and_files_keep_them(tmp_path):
    r = across(counts(), genes_a=["g0", "g1"], genes_b=["g1", "g2", "g3"]).fit()
    table = r.gene_table()
    assert table["cell_type"].to_dict() == {
        "g0": "T",
        "g1 (T)": "T",
        "g1 (mac)": "mac",
        "g2": "mac",
        "g3": "mac",
    }
    assert len(r) == len(r.to_frame()) == len(r.pairs()) == 6
    assert set(r.pairs()["gene_a"]) == {"g0", "g1 (T)"}
    assert sorted(r.top("g0").index) == ["g1 (mac)", "g2", "g3"]
    assert sorted(r.top("g2").index) == ["g0", "g1 (T)"]
    assert r["g2", "g0"]["correlation"] == r["g0", "g2"]["correlation"]
    assert r.sample_table()[["n_cells_a", "n_cells_b", "n_cells"]].iloc[0].tolist() == [20, 35, 55]
    assert "2 genes (T)" in str(r.summary())
    assert "3 (mac)" in str(r.summary())
    assert "2 targets (g0, g1 (T)) x 3 genes (T x mac)" in repr(r)
    for name in ("r.zarr", "r.nc"):
        again = hc.load(r.save(tmp_path / name))
        assert again.dataset.identical(r.dataset)
    assert r.adjust("holm").dataset.attrs["q_family"] == r.dataset.attrs["q_family"]
    p = r.matrix("p_value").to_numpy()
    np.testing.assert_allclose(r.adjust("bonferroni").matrix("q_value"), np.minimum(6 * p, 1))
    by_target = r.adjust("bonferroni", "gene").matrix("q_value")
    np.testing.assert_allclose(by_target, np.minimum(3 * p, 1))
    with pytest.raises(hc.InputError, match="two cell types"):
        r.to_anndata(counts())
    with pytest.raises(hc.InputError, match="name a gene"):
        r.top()
    with pytest.raises(hc.InputError, match=r"2 targets .* only, not 'g2' and 'g3'"):
        r["g2", "g3"]
    with pytest.raises(hc.InputError, match="'g1'; did you mean 'g1 "):
        r.top("g1")
    with pytest.raises(hc.InputError, match="modules need all pairs"):
        hc.modules.find_modules(r)


def test_one_gene_of_the_first_type_is_a_target():
    r = across(counts(), genes_a=["g0"], genes_b=["g1", "g2"]).fit()
    assert r.target == "g0"
    assert len(r) == 2
    assert sorted(r.top().index) == ["g1", "g2"]
    assert list(r.to_frame().index) == ["g1", "g2"]
    assert r["g0", "g1"].name == ("g0", "g1")


def test_listed_pairs_are_the_family():
    data = counts()
    pairs = [("g0", "g1"), ("g0", "g2"), ("g3", "g1")]
    r = across(data, pairs=pairs).fit()
    whole = across(data, genes_a=["g0", "g3"], genes_b=["g1", "g2"]).fit()
    assert {tuple(p) for p in r.pairs()[["gene_a", "gene_b"]].to_numpy()} == set(pairs)
    p = np.array([whole[pair]["p_value"] for pair in pairs])
    q = stats.false_discovery_control(p)
    np.testing.assert_allclose([r[pair]["q_value"] for pair in pairs], q, rtol=1e-9)
    assert len(r) == 3
    assert sorted(r.top("g1").index) == ["g0", "g3"]
    assert list(r.top("g2").index) == ["g0"]
    assert r.dataset.attrs["q_family"].startswith("the 3 listed pairs of 2 genes of T")
    with pytest.raises(hc.InputError, match="not among the listed pairs"):
        r["g3", "g2"]
    table = pd.DataFrame(pairs, columns=["ligand", "receptor"]).assign(source="a list")
    assert across(data, pairs=table).fit().dataset["q_value"].equals(r.dataset["q_value"])
    assert len(r.adjust("holm").pairs()) == 3


def test_pairs_have_an_order_and_are_listed_once():
    data = counts()
    pairs = [("g0", "g1"), ("g1", "g0"), ("g2", "g2")]
    with pytest.warns(hc.DataWarning, match="1 pair is listed more than once, e.g. 'g0'"):
        r = hc.AcrossCellTypes(
            data, "donor", "kind", TYPES, depth="depth", pairs=[*pairs, pairs[0]]
        ).fit()
    assert len(r) == 3
    mapping = {"g0": ["g1"], "g1": ["g0"], "g2": ["g2"]}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        same = hc.AcrossCellTypes(data, "donor", "kind", TYPES, depth="depth", pairs=mapping).fit()
    assert same.dataset["p_value"].equals(r.dataset["p_value"])


def test_pairs_without_counts_are_left_out_with_a_warning():
    data = counts()
    data.X[(data.obs["kind"] == "T").to_numpy(), 5] = 0
    pairs = [("g0", "g1"), ("g5", "g1"), ("g0", "nothing")]
    with pytest.warns(hc.DataWarning, match="2 of 3 pairs .*nothing.*1 genes .* 'T' .g5"):
        model = hc.AcrossCellTypes(data, "donor", "kind", TYPES, depth="depth", pairs=pairs)
    assert len(model.fit()) == 1
    for only, message in (
        ([("g5", "g1")], "no pair of pairs= can be analysed.*'T'"),
        ([("g0", "nothing")], "unknown gene 'nothing'"),
    ):
        with pytest.raises(hc.InputError, match=message):
            across(data, pairs=only)


def test_donors_without_one_type_are_left_out():
    data = counts(8)
    gone = (data.obs["donor"] == "d3") & (data.obs["kind"] == "T")
    data = data[~gone.to_numpy()].copy()
    with pytest.warns(hc.DataWarning, match="1 of 8 samples are left out.*without 'T': d3"):
        model = hc.AcrossCellTypes(data, "donor", "kind", TYPES, depth="depth")
    assert "d3" not in model.samples.obs_names
    few = data[data.obs["donor"].isin(["d0", "d1", "d2", "d3"])].copy()
    with pytest.raises(hc.InputError, match=r"3 samples of 'donor' have enough cells.*at least 4"):
        across(few)


def test_a_covariate_that_differs_between_the_types_is_refused():
    data = counts()
    data.obs["mito"] = np.where(data.obs["kind"] == "T", 1.0, 2.0) + data.obs["age"] % 4
    with pytest.raises(hc.InputError, match="'mito' varies within samples"):
        across(data, formula="~ mito")
    with pytest.raises(hc.InputError, match="'kind' varies within samples"):
        across(data, formula="~ kind")


def test_donors_with_several_samples_are_blocks():
    data = counts(12)
    data.obs["person"] = "p" + (data.obs["donor"].str[1:].astype(int) // 2).astype(str)
    options = {"genes_a": ["g0"], "genes_b": ["g1", "g2"], "block": "person"}
    fixed = across(data, **options).fit()
    assert fixed.dataset["df"].values[0, 0] == 12 - 6 - 1
    assert fixed.dataset.attrs["n_donors"] == 6
    correlated = across(data, **options, block_method="correlation").fit()
    assert "block_correlation" in correlated.dataset.attrs
    assert correlated.dataset["df"].values[0, 0] == 10


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"types": ("T", "mak")}, "unknown cell type in 'kind' 'mak'; did you mean 'mac'"),
        ({"types": ("T", "T")}, "names 'T' twice.*Pseudobulk"),
        ({"types": ("T",)}, "two cell types"),
        ({"types": "T"}, "two cell types"),
        ({"genes_a": ["g0", "g0"]}, "cell type 'T': gene 'g0' is named twice in genes_a="),
        ({"genes_b": ["G1"]}, "cell type 'mac': unknown gene 'G1'; did you mean 'g1'"),
        ({"genes_a": 0}, "cell type 'T': genes_a=0"),
        ({"genes_a": "g0"}, "cell type 'T': genes_a='g0' is one string"),
        ({"pairs": [("g0",)]}, "pairs must be a table.*not .'g0',"),
        ({"pairs": []}, "pairs is empty"),
        ({"pairs": pd.DataFrame({"ligand": ["g0"]})}, "this table has the columns 'ligand'"),
        ({"pairs": [("g0", "g1")], "genes_a": ["g0"]}, "genes_a"),
        ({"subset": {"kind": "T"}}, "use types="),
        ({"subset": [True]}, "subset must be a mapping"),
        ({"formula": "~ nothing"}, "nothing"),
        ({"block_method": "fixed"}, "needs block="),
        ({"block": "nothing"}, "nothing"),
        ({"block_method": "cluster", "block": "arm"}, "block_method"),
        ({"min_counts": -1}, "min_counts"),
        ({"normalization": "none"}, "normalization"),
    ],
)
def test_bad_options_are_refused(options, message):
    with pytest.raises(hc.InputError, match=message):
        across(counts(5), **options)


def test_a_gene_without_counts_in_its_type_is_refused():
    data = counts(5)
    data.X[(data.obs["kind"] == "mac").to_numpy(), 2] = 0
    with pytest.raises(hc.InputError, match=r"cell type 'mac': 1 of the requested genes.*genes_b="):
        across(data, genes_b=["g2", "g3"])
    assert "g2" not in [g.partition(" ")[0] for g in across(data).genes_b]
    with pytest.raises(hc.InputError, match="unknown cell_type column"):
        hc.AcrossCellTypes(data, "donor", "type", TYPES, depth="depth")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"method": "voom"}, "method"),
        ({"moderated": True}, "requires method 'ols'"),
        ({"method": "hc3", "permutations": 99}, "permutations"),
        ({"confidence": 2}, "confidence"),
        ({"precision": "half"}, "precision"),
        ({"method": "ols", "moderated": "shrunk"}, "moderated"),
    ],
)
def test_bad_options_of_a_fit_are_refused(options, message):
    with pytest.raises(hc.InputError, match=message):
        across(counts(5), genes_a=["g0"], genes_b=["g1"]).fit(**options)


def test_genes_that_do_not_vary_are_missing():
    data = counts(6)
    kinds, names = data.obs["kind"] == "T", data.var_names == "g0"
    data.X[np.ix_(kinds.to_numpy(), names)] = 0
    for d in set(data.obs["donor"]):
        first = np.flatnonzero((kinds & (data.obs["donor"] == d)).to_numpy())[0]
        data.X[first, 0] = 7
    data.obs["depth"] = 500.0
    for method in ("pearson", "ols"):
        with pytest.warns(hc.EstimationWarning, match="could not be estimated"):
            r = across(data, genes_a=["g0", "g1"], genes_b=["g2"]).fit(method)
        assert np.isnan(r.matrix().loc["g0", "g2"])
        assert "nonpositive_variance" in r["g0", "g2"]["flag"]
        assert np.isfinite(r.matrix().loc["g1", "g2"])
    with pytest.raises(hc.InputError, match="none of the genes"):
        across(data, genes_a=["g0"], genes_b=["g2"]).fit("ols")


def test_large_rectangles_in_tiles_and_single_precision():
    data = counts(6, genes=90)
    whole = across(data).fit()
    part = across(data, genes_a=["g3"], genes_b=["g88"]).fit()
    assert whole["g3 (T)", "g88 (mac)"]["correlation"] == pytest.approx(
        part["g3", "g88"]["correlation"]
    )
    single = across(data).fit(precision="single")
    assert single.dataset["correlation"].dtype == np.float32
    assert single.dataset["p_value"].dtype == np.float64
