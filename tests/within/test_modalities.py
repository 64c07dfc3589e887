"""Features of several types: pairs between them have both depths in their moments."""

import warnings

import anndata as ad
import numpy as np
import pandas as pd
import pytest
from scipy import sparse

import hiercorr as hc
from hiercorr import moments
from hiercorr.within.cell_covariates import regress_out_covariates
from validation import plain

SAMPLES, CELLS, GENES, PROTEINS = 5, 120, 14, 9
KINDS = ["Gene Expression", "Antibody Capture"]
DEPTH = {"Gene Expression": "rna", "Antibody Capture": "adt"}


@pytest.fixture(scope="module")
def adata():
    """Genes and proteins of correlated but different depths; protein j follows gene j."""
    rng = np.random.default_rng(3)
    n = SAMPLES * CELLS
    log_rna = rng.normal(0, 0.5, n)
    log_adt = 0.5 * log_rna + rng.normal(0, 0.6, n)
    z = rng.normal(size=(n, GENES))
    own = rng.normal(size=(n, PROTEINS))
    own = 0.7 * z[:, :PROTEINS] + np.sqrt(1 - 0.49) * own
    mu, nu = np.geomspace(0.1, 8, GENES), np.geomspace(1, 40, PROTEINS)
    x = rng.poisson(np.exp(log_rna)[:, None] * mu * np.exp(0.7 * z - 0.245))
    y = rng.poisson(np.exp(log_adt)[:, None] * nu * np.exp(0.6 * own - 0.18))
    obs = pd.DataFrame(
        {
            "donor": np.repeat([f"d{k}" for k in range(SAMPLES)], CELLS),
            "group": np.repeat(["a", "b", "a", "b", "a"], CELLS),
            "rna": 2000 * np.exp(log_rna),
            "adt": 300 * np.exp(log_adt),
            "arm": np.tile(["x", "y"], n // 2),
            "phase": rng.normal(size=n) + 0.5 * z[:, 0],
        },
        index=[f"c{i}" for i in range(n)],
    )
    names = [f"g{j}" for j in range(GENES)] + [f"p{j}" for j in range(PROTEINS)]
    var = pd.DataFrame({"feature_types": np.repeat(KINDS, [GENES, PROTEINS])}, index=names)
    return ad.AnnData(sparse.csr_matrix(np.hstack([x, y]).astype(np.float32)), obs=obs, var=var)


def model(adata, **options):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", hc.DataWarning)
        return hc.CSCore(adata, "donor", **{"modalities": "all", "depth": DEPTH} | options)


def samples(adata):
    x = adata.X.toarray()
    depth = adata.obs[["rna", "adt"]].to_numpy()
    return [(x[at], depth[at]) for at in adata.obs.groupby("donor").indices.values()]


TYPES = np.repeat([0, 1], [GENES, PROTEINS])


def whole_matrices(adata):
    """Sums of every sample in plain numpy, with the theta of the package's iterations."""
    fit = moments.within_moments(moments.sums_of(model(adata).counts, 1e-13))
    found = plain.within(samples(adata), types=TYPES)
    np.testing.assert_allclose(fit.thetas[[0, -1]], found["theta"], rtol=1e-4)
    return plain.within(samples(adata), fit.thetas[[0, -1]], TYPES)


def test_correlations_are_those_of_whole_matrices(adata):
    found = whole_matrices(adata)
    right = plain.correlation(found["num"], found["den"], found["own"], found["own_den"])
    fit = model(adata).fit(uncertainty="jackknife", precision="double")
    r = fit.dataset["correlation_unclipped"].values
    off = ~np.eye(len(r), dtype=bool)
    np.testing.assert_allclose(r[off], right[off], rtol=1e-7, atol=1e-9)
    between = r[:GENES, GENES:]
    assert np.diag(between).mean() > 0.4
    assert abs(np.median(between[~np.eye(GENES, PROTEINS, dtype=bool)])) < 0.05


def test_jackknife_is_that_of_whole_matrices(adata):
    found = whole_matrices(adata)
    parts = [found[k] for k in ("num", "den", "own", "own_den")]
    fit = model(adata).fit(uncertainty="jackknife", precision="double")
    se = fit.dataset["se"].values
    # First order in the package, leave one out here: equal to second order.
    out = plain.leave_one_out(*parts)
    jack = np.sqrt((SAMPLES - 1) * out.var(0))
    at = (slice(5, GENES), slice(GENES, None))
    ratio = se[at] / jack[at]
    assert 0.8 < np.median(ratio) < 1.2


@pytest.mark.parametrize("uncertainty", ["jackknife", "hierarchical", "cluster", "bootstrap"])
def test_target_is_a_row_of_all_pairs(adata, uncertainty):
    options = {"uncertainty": uncertainty, "precision": "double"}
    options |= {"seed": 1} if uncertainty == "bootstrap" else {}
    whole = model(adata).fit(**options).dataset
    for target in ("g3", "p4"):
        row = model(adata).fit(target=target, **options).dataset.isel(target=0)
        for name in ("correlation", "se", "p_value"):
            np.testing.assert_allclose(
                row[name], whole[name].sel(gene=target).values, rtol=1e-6, atol=1e-12
            )


def test_genes_are_as_alone(adata):
    together = model(adata).fit(uncertainty="jackknife", precision="double").dataset
    for kind, column in DEPTH.items():
        own = adata[:, adata.var["feature_types"] == kind]
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", hc.DataWarning)
            alone = hc.CSCore(own, "donor", depth=column).fit(
                uncertainty="jackknife", precision="double"
            )
        at = together["feature_type"].values == kind
        for name in ("correlation", "se", "p_value"):
            np.testing.assert_allclose(
                together[name].values[np.ix_(at, at)], alone.dataset[name], rtol=1e-7, atol=1e-10
            )
        for name in ("mean", "overdispersion", "information", "effective_samples"):
            np.testing.assert_allclose(together[name].values[at], alone.dataset[name], rtol=1e-6)


def test_result_names_the_types(adata, tmp_path):
    result = model(adata).fit()
    d = result.dataset
    assert list(d["feature_type"].values) == list(adata.var["feature_types"])
    assert list(d["modality"].values) == KINDS
    for kind, column in DEPTH.items():
        right = adata.obs.groupby("donor")[column].median()
        np.testing.assert_allclose(d["modality_depth"].sel(modality=kind), right)
    assert d.attrs["modalities"] == "all"
    assert d.attrs["depth"] == "Gene Expression: rna; Antibody Capture: adt"
    for name in ("r.nc", "r.zarr"):
        result.save(tmp_path / name)
        again = hc.load(tmp_path / name).dataset
        assert list(again["feature_type"].values) == list(d["feature_type"].values)
        np.testing.assert_array_equal(again["modality_depth"], d["modality_depth"])


def test_tables_name_the_types_of_both_features(adata, tmp_path):
    r = model(adata).fit()
    kind = adata.var["feature_types"]
    row = model(adata).fit(target="p3", per_sample=True)
    frame = row.to_frame()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        between = hc.Pseudobulk(adata, "donor", modalities="all").fit(target="p3")
        by_type = hc.by_cell_type(adata, "arm", "donor", modalities="all", depth=DEPTH)
        difference = hc.differential(adata, "donor", "group", depth=DEPTH, modalities="all")
        shrunken = r.shrink().pairs(n=30, sort_by="shrunken")
    r.to_table(tmp_path / "pairs.csv")
    saved = hc.load(r.save(tmp_path / "r.zarr"), lazy=True)
    for table in (
        r.pairs(),
        r.pairs(n=1),
        r.to_frame().reset_index(),
        pd.read_csv(tmp_path / "pairs.csv"),
        saved.pairs(q=0.5),
        shrunken,
        by_type.pairs(n=40),
        difference.pairs(n=20),
    ):
        for end in "ab":
            right = kind.loc[table[f"gene_{end}"]]
            assert list(table[f"feature_type_{end}"]) == list(right)
    for table in (
        r.top("p3"),
        row.top(),
        frame,
        between.top(),
        hc.evidence("p3", row, between).table,
    ):
        assert list(table["feature_type"]) == list(kind.loc[table.index])
    assert len(frame) == len(kind) - 1
    pair = r["p3", "g2"]
    assert (pair["feature_type_a"], pair["feature_type_b"]) == (KINDS[1], KINDS[0])
    assert not any("feature_type" in e for *_, e in r.to_networkx(q=0.5).edges(data=True))
    alone = hc.CSCore(adata, "donor", modalities=KINDS[0], depth="rna").fit()
    assert not any("feature_type" in c for c in alone.pairs(n=3))


def test_cell_types_that_lack_features_are_saved_with_their_types(adata, tmp_path):
    other = adata.copy()
    x = other.X.toarray()
    x[(other.obs["arm"] == "x").to_numpy(), 3] = 0
    other.X = sparse.csr_matrix(x)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        fitted = hc.by_cell_type(other, "arm", "donor", modalities="all", depth=DEPTH)
    for name in ("t.zarr", "t.nc"):
        again = hc.load(fitted.save(tmp_path / name))
        for result in again.results.values():
            d = result.dataset
            assert list(d["feature_type"].values) == list(
                adata.var["feature_types"].loc[d["gene"].values]
            )
    assert len(again.results["x"].genes) == len(again.results["y"].genes) - 1


def test_streamed_tiles_are_those_in_memory(adata, tmp_path, monkeypatch):
    from hiercorr.results import tiling

    whole = model(adata).fit().dataset
    monkeypatch.setattr(tiling, "TILE", 8, raising=False)
    streamed = model(adata).fit(out=tmp_path / "r.zarr", checkpoint=tmp_path / "c").dataset
    for name in ("correlation", "se", "p_value"):
        np.testing.assert_allclose(streamed[name].values, whole[name], rtol=2e-5, atol=1e-6)


def test_tiles_cut_across_types(adata):
    """Sums of any two spans of genes are parts of those of all."""
    counts = model(adata).counts
    sums = moments.sums_of(counts, 1e-12)
    fit = moments.within_moments(sums)
    every = slice(0, counts.n_genes)

    def both(left, right):
        shape = (counts.n_samples, left.stop - left.start, right.stop - right.start)
        num = moments.numerators(counts, sums, fit, left, right, np.empty(shape))
        den = moments.denominators(sums, fit, left, right, num, np.empty(shape))
        return num, den

    num, den = both(every, every)
    for left, right in [((0, 16), (12, 23)), ((15, 23), (0, 3)), ((13, 15), (13, 15))]:
        part = both(slice(*left), slice(*right))
        for found, whole in zip(part, (num, den), strict=True):
            np.testing.assert_allclose(
                found, whole[:, slice(*left), slice(*right)], rtol=1e-9, atol=1e-8
            )
    genes = np.array([0, 5, 13, 14, 20])
    some = moments.denominators(
        sums.take(genes),
        fit.take(genes),
        slice(0, 5),
        slice(0, 5),
        np.ascontiguousarray(num[:, genes][:, :, genes]),
        np.empty((counts.n_samples, 5, 5)),
    )
    np.testing.assert_allclose(some, den[:, genes][:, :, genes], rtol=1e-9)


def test_published_test_is_that_of_whole_matrices(adata):
    fit = model(adata).fit(estimator="pooled", uncertainty="none", precision="double")
    x, depth = adata.X.toarray(), adata.obs[["rna", "adt"]].to_numpy()
    d = fit.dataset
    unit = depth.mean(0)
    mu = d["mean"].values * unit[TYPES]
    right = plain.published(x, (depth / unit)[:, TYPES], mu, d["overdispersion"].values * mu**2)
    off = ~np.eye(len(mu), dtype=bool)
    np.testing.assert_allclose(d["cell_statistic"].values[off], right[off], rtol=1e-6, atol=1e-8)
    by_samples = model(adata).fit(estimator="pooled", precision="double").dataset
    np.testing.assert_allclose(
        by_samples["correlation"].values[off], d["correlation"].values[off], rtol=1e-7
    )


def test_per_sample_estimates(adata):
    found = whole_matrices(adata)
    result = model(adata).fit(per_sample=True, precision="double").dataset
    for c in range(SAMPLES):
        parts = [found[k][[c]] for k in ("num", "den", "own", "own_den")]
        right = plain.correlation(*parts)
        r = result["sample_correlation"].values[c]
        known = np.isfinite(r) & ~np.eye(len(r), dtype=bool)
        np.testing.assert_allclose(r[known], right[known], rtol=1e-6, atol=1e-9)
    at = (slice(8, GENES), slice(GENES + 2, None))
    se = result["sample_se"].values[:, *at]
    spread = result["sample_correlation"].values[:, *at].std(0, ddof=1)
    assert 0.6 < np.nanmedian(spread / np.nanmean(se, 0)) < 1.5
    row = model(adata).fit(target="p4", per_sample=True, precision="double").dataset
    np.testing.assert_allclose(
        row["sample_se"].values[:, 0], result["sample_se"].sel(gene="p4").values, rtol=1e-6
    )


def test_covariates_of_cells_are_regressed_out(adata):
    """Sums of genes with proteins against hat matrices of both depths."""
    counts = model(adata).counts
    sums = moments.sums_of(counts, 1e-13)
    before = moments.within_moments(sums)
    z = np.column_stack([np.ones(counts.n_cells), counts.obs["phase"]])
    fit = regress_out_covariates(counts, sums, 1e-13, before, z)
    every = slice(0, counts.n_genes)
    shape = (SAMPLES, counts.n_genes, counts.n_genes)
    num = moments.numerators(counts, sums, fit, every, every, np.empty(shape))
    den = moments.denominators(sums, fit, every, every, num, np.empty(shape))
    x = counts.toarray()
    depth = np.array([d / d.mean() for d in counts.modalities.depth])
    for c in range(SAMPLES):
        cells = slice(counts.starts[c], counts.starts[c + 1])
        sides = [
            (x[cells][:, at], depth[t, cells], before.mu[at, c], before.slope[at, c])
            for t, at in enumerate((slice(0, GENES), slice(GENES, None)))
        ]
        right_num, right_den, _, _ = plain.adjusted_between(*sides, z[cells])
        np.testing.assert_allclose(num[c, :GENES, GENES:], right_num, rtol=1e-8, atol=1e-8)
        np.testing.assert_allclose(num[c, GENES:, :GENES], right_num.T, rtol=1e-8, atol=1e-8)
        np.testing.assert_allclose(den[c, :GENES, GENES:], right_den, rtol=1e-8)
    result = model(adata, covariates="~ phase").fit(per_sample=True)
    assert np.isfinite(result.dataset["correlation"].values[:GENES, GENES:]).all()


def test_differences_between_groups(adata):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        options = {"depth": DEPTH, "modalities": KINDS}
        result = hc.differential(adata, "donor", "group", **options)
        target = hc.differential(adata, "donor", "group", target="p4", **options)
    between = result.dataset["difference"].values[:GENES, GENES:]
    assert np.isfinite(between).mean() > 0.9
    assert list(result.dataset["modality"].values) == KINDS
    np.testing.assert_allclose(
        target.dataset["hc2_p_value"].values[0],
        result.dataset["hc2_p_value"].sel(gene="p4").values,
        rtol=1e-4,
    )


def test_interleaved_features_are_ordered_by_type(adata):
    order = np.random.default_rng(1).permutation(adata.n_vars)
    mixed = model(adata[:, order]).fit(uncertainty="jackknife", precision="double")
    right = model(adata).fit(uncertainty="jackknife", precision="double").matrix()
    kinds = mixed.dataset["feature_type"].values
    assert list(kinds) == sorted(kinds, reverse=True)
    found = mixed.matrix().loc[right.index, right.columns]
    np.testing.assert_allclose(found, right, rtol=1e-9)


def test_genes_are_chosen_in_each_type(adata):
    few = model(adata, genes=4)
    assert list(few.counts.modalities.kind) == [0] * 4 + [1] * 4
    named = model(adata, genes=["p1", "g2", "p3", "g12"])
    assert list(named.counts.genes) == ["g2", "g12", "p1", "p3"]
    whole = model(adata).fit(uncertainty="jackknife", precision="double").matrix()
    for target in ("g5", "p7"):  # read later, from the same matrix
        r = named.fit(target=target, uncertainty="jackknife", precision="double").dataset
        assert list(r["gene"].values) == sorted(
            ["g2", "g12", "p1", "p3", target], key=list(adata.var_names).index
        )
        assert r["correlation"].shape == (1, 5)
    assert whole.shape == (23, 23)
    with pytest.raises(hc.InputError, match="no feature of type 'Antibody Capture'"):
        model(adata, genes=["g1", "g2", "g3"])


def test_one_type_by_name(adata):
    alone = model(adata, modalities="Antibody Capture", depth="adt")
    assert alone.counts.modalities is None
    assert list(alone.counts.genes) == [f"p{j}" for j in range(PROTEINS)]


def test_default_depth_is_that_of_each_type(adata):
    x = adata.X.toarray()
    for depth in (None, "total", {"Antibody Capture": "adt"}):
        counts = model(adata, depth=depth).counts
        np.testing.assert_array_equal(counts.modalities.depth[0], x[:, :GENES].sum(1))
        of_proteins = x[:, GENES:].sum(1) if not isinstance(depth, dict) else adata.obs["adt"]
        np.testing.assert_array_equal(counts.modalities.depth[1], of_proteins)


def test_cells_without_counts_of_a_type_are_left_out(adata):
    other = adata.copy()
    x = other.X.toarray()
    x[:7, GENES:] = 0
    other.X = sparse.csr_matrix(x)
    with pytest.warns(hc.DataWarning, match="7 of 600 cells have no counts"):
        counts = hc.CSCore(other, "donor", modalities="all").counts
    assert counts.n_cells == 593


@pytest.mark.parametrize(
    ("options", "match"),
    [
        ({"depth": "rna"}, "depth= is one depth, and features of the types Gene Expression, Anti"),
        ({"depth": {"Peaks": "rna"}}, "type of features .depth=. 'Peaks'"),
        ({"depth": {"Antibody Capture": "adt2"}}, "depth column 'adt2'"),
        ({"modalities": ["Gene Expression", "Peaks"]}, "type of features .modalities=. 'Peaks'"),
        ({"modalities": []}, "modalities must be types of features"),
        ({"modalities": ["Gene Expression", "Gene Expression"]}, "names a type twice"),
        ({"modalities": 3}, "modalities must be types of features"),
        ({"scheduler": "threads"}, "scheduler= cannot be combined with modalities="),
    ],
)
def test_refusals(adata, options, match):
    with pytest.raises(hc.InputError, match=match):
        model(adata, **options)


def test_what_has_one_depth_is_refused(adata):
    with pytest.raises(hc.InputError, match="a signature is of features with one depth"):
        model(adata).signature(["g1", "g2"])
    with pytest.raises(hc.InputError, match="enter regressions with one depth"):
        model(adata, covariates="~ phase").fit(estimator="pooled")
    plain_genes = ad.AnnData(adata.X, obs=adata.obs)
    with pytest.raises(hc.InputError, match="the features have no types"):
        hc.CSCore(plain_genes, "donor", modalities=KINDS)


def test_names_of_two_types_are_told_apart(adata):
    other = adata.copy()
    names = list(other.var_names)
    names[GENES] = "g3"
    other.var_names = names
    counts = model(other).counts
    assert "g3" in counts.genes
    assert "g3 (Antibody Capture)" in counts.genes
