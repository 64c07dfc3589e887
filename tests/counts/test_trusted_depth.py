"""Depths and values that look right and are not: sums with other features, few counts, rounding."""

import warnings

import anndata as ad
import numpy as np
import pandas as pd
import pytest
from scipy import sparse

import hiercorr as hc

SAMPLES, CELLS = 4, 1200
CONSUMERS = {
    "fit": lambda d, **o: hc.CSCore(d, "donor", **o),
    "cluster": lambda d, **o: hc.CSCore(d, "donor", scheduler="threads", **o),
    "aggregate": lambda d, **o: hc.aggregate(d, "donor", **o),
    "check": lambda d, **o: hc.check_design(d, "donor", **o),
}


def world(n_genes=1200, mean=0.4, r=0.0, seed=0, sd=0.4):
    """Simulate genes and antibodies whose log depths correlate by r; donors differ in both."""
    rng = np.random.default_rng(seed)
    donor = np.repeat(np.arange(SAMPLES), CELLS // SAMPLES)
    z = rng.normal(size=(2, CELLS))
    log = np.stack([z[0], r * z[0] + np.sqrt(1 - r**2) * z[1]]) * sd
    log += rng.normal(0, 0.5, (1, SAMPLES))[:, donor]
    own = np.exp(rng.normal(0, 0.5, (CELLS, n_genes)) - 0.125)
    scale = np.exp(rng.normal(np.log(mean), 0.8, n_genes))
    genes = rng.poisson(np.exp(log[0])[:, None] * scale * own)
    antibodies = rng.poisson(
        np.exp(log[1])[:, None] * genes.sum() / CELLS / 20 * rng.gamma(3, 1 / 3, (CELLS, 20))
    )
    return genes, antibodies


def data(x, kinds=None, **columns):
    var = pd.DataFrame(index=[f"f{j}" for j in range(x.shape[1])])
    if kinds is not None:
        var["feature_types"] = kinds
    donor = np.repeat([f"d{k}" for k in range(SAMPLES)], len(x) // SAMPLES)
    obs = pd.DataFrame({"donor": donor, **columns}, index=[f"c{i}" for i in range(len(x))])
    return ad.AnnData(sparse.csr_matrix(x.astype(np.float32)), obs=obs, var=var)


def warnings_of(consumer, d, **options):
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        CONSUMERS[consumer](d, **options)
    return " | ".join(str(w.message) for w in caught if issubclass(w.category, hc.DataWarning))


@pytest.mark.parametrize("consumer", CONSUMERS)
def test_a_sum_with_antibodies_is_told_after_they_are_gone(consumer):
    genes, antibodies = world()
    d = data(genes, total=(genes.sum(1) + antibodies.sum(1)).astype(float))
    found = warnings_of(consumer, d, depth="total")
    assert "counts of other features than these, which vary on their own" in found
    assert "Leave out depth=" in found


@pytest.mark.sampled(8)
@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize(("r", "told"), [(-0.3, True), (0.3, True), (0.5, True), (0.9, False)])
def test_it_depends_on_how_the_depths_correlate(r, told, seed):
    genes, antibodies = world(r=r, seed=seed)
    few = np.random.default_rng(seed).poisson(5, CELLS)
    d = data(genes, total=genes.sum(1) + antibodies.sum(1) + few)
    assert ("vary on their own" in warnings_of("aggregate", d, depth="total")) == told


def test_the_effect_that_is_told_is_the_one_that_comes():
    genes, antibodies = world(300, mean=2.0)
    total = genes.sum(1) + antibodies.sum(1)
    d = data(genes, total=total)
    with pytest.warns(hc.DataWarning, match="vary on their own"):
        wrong = hc.CSCore(d, "donor", depth="total").fit()
    right = hc.CSCore(d, "donor").fit()
    upper = np.triu_indices(300, 1)
    variance = float(np.median(right.dataset["overdispersion"]))
    share = genes.sum(1) / total
    centred = share - np.repeat(share.reshape(SAMPLES, -1).mean(1), CELLS // SAMPLES)
    made = centred.var() / share.mean() ** 2 / variance
    median = float(np.nanmedian(wrong.matrix("correlation").to_numpy()[upper]))
    assert abs(np.nanmedian(right.matrix("correlation").to_numpy()[upper])) < 0.02
    assert median == pytest.approx(made, rel=0.35)
    assert median > 0.1


def test_sums_that_differ_by_a_few_counts_are_refused_beside_antibodies():
    genes, antibodies = world()
    rng = np.random.default_rng(1)
    total = genes.sum(1) + antibodies.sum(1) + rng.poisson(3, CELLS)
    kinds = ["Gene Expression"] * 1200 + ["Antibody Capture"] * 20
    d = data(np.hstack([genes, antibodies]), kinds, total=total)
    for consumer in CONSUMERS:
        with pytest.raises(hc.InputError, match="sum over features of all types"):
            warnings_of(consumer, d, depth="total")
    genes_only = data(np.hstack([genes, antibodies]), kinds, total=genes.sum(1) + 3)
    assert "vary on" not in warnings_of("aggregate", genes_only, depth="total")


@pytest.mark.parametrize("n", [10, 30, 100])
def test_depths_of_real_panels_are_not_suspected(n, gbm):
    rng = np.random.default_rng(n)
    for _ in range(3):
        panel = gbm[:, np.sort(rng.choice(gbm.n_vars, n, replace=False))]
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            hc.aggregate(panel, "sample_id", depth="total_counts")
        assert not any("vary on their own" in str(w.message) for w in caught)


@pytest.mark.parametrize("variable", [False, True])
def test_most_variable_genes_of_mixed_types_are_not_suspected(variable):
    rng = np.random.default_rng(3)
    kind = rng.integers(0, 3, CELLS)
    log = np.where(rng.random(1500) < 0.2, 1.0, 0.2) * rng.normal(size=(3, 1500))
    genes = rng.poisson(
        np.exp(rng.normal(0, 0.4, (CELLS, 1)) + log[kind]) * np.exp(rng.normal(-1, 1, 1500))
    )
    spread = genes.var(0) / np.maximum(genes.mean(0), 1e-9)
    chosen = np.argsort(-spread)[:200] if variable else rng.choice(1500, 200, replace=False)
    d = data(genes[:, np.sort(chosen)], total=genes.sum(1))
    assert "vary on their own" not in warnings_of("aggregate", d, depth="total")


@pytest.mark.parametrize("consumer", CONSUMERS)
@pytest.mark.parametrize(("mean", "told"), [(20, True), (50, True), (500, False)])
def test_counting_noise_of_a_depth_of_few_controls_is_told(consumer, mean, told):
    rng = np.random.default_rng(4)
    depth = np.exp(rng.normal(0, 0.5, CELLS))
    x = rng.poisson(depth[:, None] * 100 * rng.gamma(3, 1 / 3, (CELLS, 20)))
    control = np.maximum(rng.poisson(depth * mean), 1)
    found = warnings_of(consumer, data(x, control=control), depth="control")
    assert ("its own counting noise" in found) == told


def test_the_effect_of_this_noise_is_the_one_that_is_told():
    rng = np.random.default_rng(5)
    depth = np.exp(rng.normal(0, 0.3, CELLS))
    x = rng.poisson(depth[:, None] * 100 * rng.gamma(1 / 0.3, 0.3, (CELLS, 20)))
    d = data(x, control=np.maximum(rng.poisson(depth * 40), 1))
    with pytest.warns(hc.DataWarning, match=r"independent ones correlate, by about 0\.(0[89]|1)"):
        r = hc.CSCore(d, "donor", depth="control").fit()
    upper = np.triu_indices(20, 1)
    assert 0.04 < np.nanmedian(r.matrix("correlation").to_numpy()[upper]) < 0.12


@pytest.mark.parametrize("consumer", CONSUMERS)
@pytest.mark.parametrize("factor", [0.5, 0.7, 0.9, 1.2, 1.5])
def test_values_scaled_by_little_and_rounded_are_refused(consumer, factor):
    genes, _ = world(300, mean=2.0, seed=6)
    with pytest.raises(hc.InputError, match="scaled and rounded"):
        CONSUMERS[consumer](data(np.rint(genes * factor)))


@pytest.mark.parametrize("n_genes", [20, 1200])
def test_columns_and_rows_of_low_values_add_up(n_genes):
    from hiercorr.counts.plausibility import CellSample

    genes, _ = world(n_genes, mean=2.0)
    whole = CellSample.of(np.arange(CELLS), n_genes)
    block = sparse.csr_matrix(genes.astype(np.int32))
    for a in (0, 500):
        for b in (0, n_genes // 3):
            part = block[a : 500 if a == 0 else CELLS, b : n_genes // 3 if b == 0 else n_genes]
            whole.examine(a, b, part)
    for value in range(1, 7):
        assert np.array_equal(whole.low[value - 1], (genes == value).sum(0))


@pytest.mark.sampled(6)
@pytest.mark.parametrize("seed", range(40))
def test_counts_are_not_taken_for_scaled_ones(seed):
    rng = np.random.default_rng(seed)
    n, p = rng.choice([80, 400, 1600]), rng.choice([6, 60, 600])
    rate = np.exp(rng.normal(rng.uniform(-3, 2), rng.uniform(0, 1.5), p))
    rate = rate * np.exp(rng.normal(0, rng.choice([0, 0.5]), (n, 1)))
    noise = rng.choice([0, 0.1, 1])
    rate = rate * (rng.gamma(1 / noise, noise, (n, p)) if noise else 1)
    x = rng.poisson(rate)
    x[:, x.sum(0) == 0] += 1
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        hc.CSCore(data(x[: n - n % SAMPLES]), "donor")
    assert not any("occurs" in str(w.message) for w in caught)


def test_cut_sites_of_peaks_are_told():
    rng = np.random.default_rng(7)
    rate = np.exp(rng.normal(-1, 1, 600)) * rng.gamma(2, 0.5, (CELLS, 1))
    fragments = rng.poisson(rate)
    sites = 2 * fragments - rng.binomial(fragments, 0.2)
    d = data(sites)
    d.var_names = [f"chr1:{1000 * j}-{1000 * j + 500}" for j in range(600)]
    with pytest.warns(hc.DataWarning, match="count fragments"):
        hc.CSCore(d, "donor")
    whole = data((sites + 1) // 2)
    whole.var_names = d.var_names
    assert "cut sites" not in warnings_of("fit", whole)


@pytest.mark.parametrize("consumer", ["fit", "aggregate", "check"])  # a cluster knows one depth
def test_small_panels_and_dominating_antibodies_are_told(consumer):
    genes, antibodies = world(1200)
    antibodies = antibodies[:, :12]
    antibodies[:, 0] = 15 * antibodies[:, 1:].mean(1)
    kinds = ["Gene Expression"] * 1200 + ["Antibody Capture"] * 12
    d = data(np.hstack([genes, antibodies]), kinds)
    options = {"modalities": "Antibody Capture" if consumer == "check" else "all"}
    found = warnings_of(consumer, d, **options)
    assert "f1200: " in found
    assert "taken without it" in found
    if consumer != "check":
        assert "sum over only 12 features of type 'Antibody Capture'" in found


def test_a_depth_of_features_that_are_left_out_names_the_way():
    genes, antibodies = world(60, mean=2.0)
    kinds = ["Gene Expression"] * 60 + ["Antibody Capture"] * 20
    d = data(np.hstack([genes, antibodies]), kinds, controls=antibodies.sum(1))
    for consumer in CONSUMERS:
        with pytest.raises(hc.InputError, match="left out: analyse them with modalities="):
            CONSUMERS[consumer](d, depth={"Antibody Capture": "controls"})


@pytest.mark.parametrize("consumer", CONSUMERS)
def test_total_with_a_dominating_gene_is_told(consumer):
    genes, _ = world(400)
    genes[:, 3] = np.random.default_rng(8).poisson(genes.sum(1))
    found = warnings_of(consumer, data(genes), depth="total")
    assert "depth 'total' contains the counts of all genes" in found
    assert "counts of f3" in found


def test_traps_and_cell_correlation_of_one_type():
    genes, antibodies = world(60, mean=2.0)
    kinds = ["Gene Expression"] * 60 + ["Antibody Capture"] * 20
    d = data(np.hstack([genes, antibodies]), kinds)
    alone = data(antibodies)
    alone.var_names = [f"f{j}" for j in range(60, 80)]
    kind = {"modalities": "Antibody Capture"}
    found = hc.traps(d, "donor", "f61", permutations=19, **kind).genes
    pd.testing.assert_frame_equal(
        found, hc.traps(alone, "donor", "f61", permutations=19).genes, check_exact=False
    )
    cells = hc.CellCorrelation(d, "donor", **kind).fit(target="f61")
    expected = hc.CellCorrelation(alone, "donor").fit(target="f61")
    assert np.allclose(cells.dataset["correlation"], expected.dataset["correlation"])
    for call in (hc.CellCorrelation, hc.check_design):
        with pytest.raises(hc.InputError, match="features of one type"):
            call(d, "donor", modalities=["Gene Expression", "Antibody Capture"])
    with pytest.raises(hc.InputError, match="features of one type"):
        hc.traps(d, "donor", "f61", modalities="all")


def test_missing_depths_are_called_missing():
    genes, _ = world(60, mean=2.0)
    depth = genes.sum(1).astype(float)
    depth[5] = np.nan
    with pytest.raises(hc.InputError, match="1 cells have a depth that is missing"):
        hc.CSCore(data(genes, depth=depth), "donor", depth="depth")
    depth[6] = -1
    with pytest.raises(hc.InputError, match="2 cells have a depth that is missing or not pos"):
        hc.CSCore(data(genes, depth=depth), "donor", depth="depth")


@pytest.mark.parametrize("consumer", CONSUMERS)
def test_a_dominating_gene_is_told_if_few_genes_were_removed_after_the_sum(consumer):
    genes, _ = world(400)
    genes[:, 3] = np.random.default_rng(8).poisson(genes.sum(1))
    total = genes.sum(1) + np.random.default_rng(9).poisson(3, CELLS)
    found = warnings_of(consumer, data(genes, total=total), depth="total")
    assert "depth column 'total' contains the counts of all genes, and 50% of it" in found
    without = genes.sum(1) - genes[:, 3]
    assert "contains" not in warnings_of(consumer, data(genes, rest=without), depth="rest")
    large = 20 * genes.sum(1)  # of a library of which these genes are few
    assert "contains" not in warnings_of(consumer, data(genes, large=large), depth="large")


def test_what_a_dominating_gene_makes_of_independent_ones_in_such_a_column():
    genes, _ = world(400, mean=2.0)
    rng = np.random.default_rng(8)
    genes[:, 3] = rng.poisson(genes.sum(1) * np.exp(0.8 * rng.normal(size=CELLS) - 0.32))
    d = data(genes, total=genes.sum(1) + rng.poisson(3, CELLS))
    with pytest.warns(hc.DataWarning, match="contains the counts of all genes"):
        r = hc.CSCore(d, "donor", depth="total", genes=[f"f{j}" for j in range(4, 44)]).fit()
    assert np.nanmedian(r.matrix("correlation").to_numpy()[np.triu_indices(40, 1)]) > 0.1


@pytest.mark.sampled(8)
@pytest.mark.parametrize("consumer", CONSUMERS)
@pytest.mark.parametrize("kind", ["constant", "of the sample", "nearly constant"])
def test_one_depth_for_all_cells_of_a_sample_is_told(consumer, kind):
    genes, _ = world()
    sums = genes.sum(1)
    donor = np.repeat(np.arange(SAMPLES), CELLS // SAMPLES)
    noise = np.exp(0.005 * np.random.default_rng(2).normal(size=CELLS))
    depth = {
        "constant": np.full(CELLS, 1e4),
        "of the sample": (np.bincount(donor, sums) / np.bincount(donor))[donor],
        "nearly constant": 1e4 * noise,
    }[kind]
    found = warnings_of(consumer, data(genes, given=depth), depth="given")
    assert "is nearly the same for all cells of a sample, whose counts vary" in found
    assert "vary on their own" not in found
    rng = np.random.default_rng(0)
    down = rng.multivariate_hypergeometric  # counts sampled down to one depth, then fewer genes
    sampled = np.array([down(row, sums.min(), method="count") for row in genes])[:, :600]
    some = data(sampled, given=np.full(CELLS, float(sums.min())))
    assert "nearly the same" not in warnings_of(consumer, some, depth="given")


@pytest.mark.sampled(8)
@pytest.mark.parametrize("consumer", CONSUMERS)
@pytest.mark.parametrize("kind", ["genes found", "root"])
def test_depths_that_are_functions_of_the_depth_are_told(consumer, kind):
    genes, _ = world(mean=1.0)
    depth = (genes > 0).sum(1) if kind == "genes found" else np.sqrt(genes.sum(1))
    found = warnings_of(consumer, data(genes, given=depth), depth="given")
    assert "a root, or the number of genes found" in found


@pytest.mark.sampled(8)
@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("n", [15, 50, 200])
def test_the_depth_of_markers_of_mixed_types_is_not_suspected(n, seed):
    rng = np.random.default_rng(seed)
    kind = rng.integers(0, 4, CELLS)
    log = np.where(rng.random(1500) < 0.15, 1.5, 0.2) * rng.normal(size=(4, 1500))
    own = np.exp(0.5 * rng.normal(size=(CELLS, 1500)) + log[kind] + rng.normal(-1, 1, 1500))
    genes = rng.poisson(np.exp(0.4 * rng.normal(size=(CELLS, 1))) * own)
    variable = np.argsort(-log.std(0))[:n]
    found = warnings_of("fit", data(genes[:, variable], total=genes.sum(1)), depth="total")
    assert "vary on their own" not in found
    assert "the counts of the cells are" not in found


@pytest.mark.parametrize("leftover", [0.0, 0.02])
def test_cells_chosen_by_counts_are_told_with_some_others_among_them(leftover):
    genes, _ = world(20, mean=0.8, seed=3, sd=0.3)
    some = np.random.default_rng(1).random(CELLS) < leftover
    totals = genes.sum(0)
    a, b = np.argsort(np.abs(totals / CELLS - 0.8))[:2]
    for chosen, text in (
        (genes[:, a] > 0, f"cells have counts of f{a}"),
        ((genes[:, [a, b]] > 0).any(1), f"counts of 'f{min(a, b)}' or 'f{max(a, b)}'"),
    ):
        keep = chosen | some
        d = data(np.ones((CELLS, 1)))[keep]
        d = ad.AnnData(sparse.csr_matrix(genes[keep].astype(np.float32)), obs=d.obs)
        d.var_names = [f"f{j}" for j in range(20)]
        d.obs["depth"] = 1000.0
        assert text in warnings_of("fit", d)
    assert "cells chosen" not in warnings_of("fit", data(genes))


def programme(kind, seed=0):
    """Simulate 1,100 independent genes of which some hold a part of all counts that varies."""
    rng = np.random.default_rng(seed)
    genes, _ = world(1100, mean=1.0, seed=seed)
    each = genes.sum(1)
    if kind == "four of one programme":
        level = np.exp(rng.normal(0, 1, CELLS) - 0.5)[:, None]
        genes[:, :4] = rng.poisson(0.14 * each[:, None] * level * np.ones(4))
    elif kind == "one in few cells":
        genes[:, 0] = rng.poisson(1.5 * each * (rng.random(CELLS) < 0.12))
    elif kind == "one that varies":
        genes[:, 0] = rng.poisson(0.23 * each * np.exp(rng.normal(0, 1.2, CELLS) - 0.72))
    else:  # harmless
        genes[:, :2] = rng.poisson(0.08 * each[:, None] * np.exp(rng.normal(0, 0.3, (CELLS, 2))))
    return genes


@pytest.mark.sampled(8)
@pytest.mark.parametrize("consumer", CONSUMERS)
@pytest.mark.parametrize("kind", ["four of one programme", "one in few cells", "one that varies"])
def test_genes_that_hold_less_but_vary_are_left_out(kind, consumer):
    found = warnings_of(consumer, data(programme(kind)))
    assert "f0" in found
    assert "would pass as depth" in found
    assert "f0" in warnings_of(consumer, data(programme(kind)), depth="total")


def test_independent_genes_beside_them_do_not_correlate():
    for kind in ("four of one programme", "one in few cells", "one that varies"):
        d, names = data(programme(kind)), [f"f{j}" for j in range(10, 90)]
        with pytest.warns(hc.DataWarning, match="would pass as depth"):
            r = hc.CSCore(d, "donor", genes=names).fit()
        with pytest.warns(hc.DataWarning, match="passes as depth"):
            wrong = hc.CSCore(d, "donor", genes=names, depth="total").fit()
        upper = np.triu_indices(80, 1)
        right, made = (np.nanmedian(x.matrix().to_numpy()[upper]) for x in (r, wrong))
        assert abs(right) < 0.02
        assert made > 0.04
        assert "f0" in r.dataset.attrs["depth_without"]


@pytest.mark.parametrize("seed", range(3))
def test_stable_genes_count_as_depth(seed):
    assert "would pass" not in warnings_of("aggregate", data(programme("stable", seed)))
