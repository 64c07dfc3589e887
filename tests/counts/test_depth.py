"""What passes as depth, and what passes as counts: the same answer through every door."""

import warnings
from dataclasses import fields
from operator import attrgetter

import anndata as ad
import numpy as np
import pandas as pd
import pytest
from scipy import sparse

import hiercorr as hc
from hiercorr import kernels
from hiercorr.counts.depth import dominating
from hiercorr.counts.plausibility import (
    CellSample,
    reads_per_molecule,
    technical_dispersion,
    why_equal_sums,
    why_scaled,
    why_underdispersed,
)
from hiercorr.reporting.methods_text import methods_text
from tests.counts.support import DOORS, written

CELLS, GENES, SAMPLES = 600, 400, 4
NAMES = [f"g{j}" for j in range(GENES)]
KINDS = ["Gene Expression"] * GENES + ["Antibody Capture"] * 20


@pytest.fixture(scope="module")
def counts():
    """Counts of independent genes, cells x genes; the cells differ in depth."""
    rng = np.random.default_rng(11)
    depth = np.exp(rng.normal(0, 0.4, CELLS))
    mean = np.exp(rng.normal(np.log(0.4), 1, GENES))
    own = np.exp(rng.normal(0, 0.5, (CELLS, GENES)) - 0.125)
    return rng.poisson(depth[:, None] * mean * own)


@pytest.fixture(scope="module")
def antibodies():
    """Counts of antibodies, which have a depth of their own."""
    rng = np.random.default_rng(12)
    depth = np.exp(rng.normal(3, 0.5, (CELLS, 1)))
    return rng.poisson(depth * np.exp(rng.normal(0, 0.6, (CELLS, 20))))


def data(x, names, kinds=None):
    var = pd.DataFrame(index=names)
    if kinds is not None:
        var["feature_types"] = kinds
    obs = pd.DataFrame(
        {"library": np.repeat([f"{k + 1}" for k in range(SAMPLES)], CELLS // SAMPLES)},
        index=[f"AC{i}-{1 + i * SAMPLES // CELLS}" for i in range(CELLS)],
    )
    return ad.AnnData(sparse.csr_matrix(x.astype(np.float32)), obs=obs, var=var)


CONSUMERS = {
    "fit": lambda d, **o: hc.CSCore(d, "library", **o).fit(),
    "cluster": lambda d, **o: hc.CSCore(d, "library", scheduler="threads", **o).fit(),
    "aggregate": lambda d, **o: hc.aggregate(d, "library", **o),
    "check": lambda d, **o: hc.check_design(d, "library", **o),
}


def answer(consumer, d, **options):
    """Return the numbers of a consumer, and its warnings of depth and features."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        found = CONSUMERS[consumer](d, **options)
    if consumer in ("fit", "cluster"):
        number = found.dataset["correlation_unclipped"].values
    elif consumer == "aggregate":
        number = found.obs["depth"].to_numpy()
    else:
        number = found.samples["median_depth"].to_numpy()
    said = [str(w.message) for w in caught if "targeted panel" not in str(w.message)]
    return number, [text for text in said if "depth" in text or "features" in text]


def cases(counts, antibodies):
    rng = np.random.default_rng(13)
    blood = rng.poisson(counts.sum(1) * np.exp(rng.normal(0, 1, CELLS)))[:, None]
    proteins = [f"p{j}" for j in range(20)]
    return {
        "antibodies": (
            data(np.hstack([counts, antibodies]), NAMES + proteins, KINDS),
            "features of other types than 'Gene Expression' are left out",
        ),
        "interleaved": (
            data(np.hstack([antibodies, counts]), proteins + NAMES, KINDS[::-1]),
            "features of other types than 'Gene Expression' are left out",
        ),
        "dominated": (
            data(np.hstack([blood, counts]), ["HBB", *NAMES]),
            "HBB: .* of all counts. The depth of the cells is taken without it",
        ),
    }


@pytest.mark.sampled(12)
@pytest.mark.parametrize("case", ["antibodies", "interleaved", "dominated"])
@pytest.mark.parametrize("door", DOORS)
def test_depth_is_that_of_the_other_genes_through_every_door(
    case, door, counts, antibodies, tmp_path
):
    adata, said = cases(counts, antibodies)[case]
    genes = NAMES[:13]
    layer = {"layer": "raw"} if door == "raw" else {}
    right, _ = answer("fit", data(counts, NAMES), genes=genes)
    found, texts = answer("fit", DOORS[door](adata, tmp_path / "d"), genes=genes, **layer)
    np.testing.assert_allclose(found, right, atol=2e-6)
    assert abs(np.nanmedian(found[np.triu_indices(13, 1)])) < 0.08
    assert pd.Series(texts, dtype=str).str.contains(said).sum() == 1


@pytest.mark.sampled(12)
@pytest.mark.parametrize("case", ["antibodies", "interleaved"])
@pytest.mark.parametrize("door", DOORS)
def test_both_types_are_the_same_through_every_door(case, door, counts, antibodies, tmp_path):
    adata, _ = cases(counts, antibodies)[case]
    names = [*NAMES[:9], "p1", "p3", "p5", "p8"]
    kinds = ["rna", "prot"] if door in ("MuData", "h5mu") else ["Gene Expression", KINDS[-1]]
    layer = {"layer": "raw"} if door == "raw" else {}
    of_proteins = data(antibodies, [f"p{j}" for j in range(20)])
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        model = hc.CSCore(
            DOORS[door](adata, tmp_path / "d"), "library", genes=names, modalities=kinds, **layer
        )
        fits = [
            hc.CSCore(data(counts, NAMES), "library", genes=names[:9]),
            hc.CSCore(of_proteins, "library", genes=names[9:]),
            model,
        ]
        right, own, found = (
            m.fit(uncertainty="jackknife").dataset["correlation_unclipped"].values for m in fits
        )
    np.testing.assert_allclose(found[:9, :9], right, atol=2e-6)
    np.testing.assert_allclose(found[9:, 9:], own, atol=2e-6)
    assert abs(np.nanmedian(found[:9, 9:])) < 0.08
    assert not any("left out" in str(w.message) for w in caught)


@pytest.mark.parametrize("case", ["antibodies", "interleaved", "dominated"])
@pytest.mark.parametrize("consumer", CONSUMERS)
def test_depth_is_that_of_the_other_genes_for_every_consumer(
    case, consumer, counts, antibodies, tmp_path
):
    adata, said = cases(counts, antibodies)[case]
    options = {"genes": NAMES[:13]} if consumer in ("fit", "cluster") else {}
    right, _ = answer(consumer, data(counts, NAMES), **options)
    found, texts = answer(consumer, adata, **options)
    np.testing.assert_allclose(found, right, atol=2e-6)
    assert pd.Series(texts, dtype=str).str.contains(said).any()
    if consumer in ("fit", "cluster"):
        by_file, _ = answer(consumer, written(adata, tmp_path / "d", ".h5ad"), **options)
        np.testing.assert_allclose(by_file, right, atol=2e-6)


def test_total_is_the_sum_over_all_genes(counts, antibodies):
    adata, _ = cases(counts, antibodies)["dominated"]
    adata.obs["sum"] = np.asarray(adata.X.sum(1)).ravel()
    by_column, texts = answer("fit", adata, genes=NAMES[:13], depth="sum")
    total, told = answer("fit", adata, genes=NAMES[:13], depth="total")
    np.testing.assert_array_equal(total, by_column)
    assert np.median(total[np.triu_indices(13, 1)]) > 0.2
    for said in (texts, told):
        assert any("of it are counts of HBB" in text for text in said)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model = hc.CSCore(adata, "library", genes=NAMES[:13])
        result = model.fit()
    assert result.dataset.attrs["depth_without"] == "HBB"
    assert "without HBB as sequencing depth" in methods_text(result)


def test_gene_masks_beside_antibodies(counts, antibodies):
    adata, said = cases(counts, antibodies)["antibodies"]
    mask = pd.Series(np.arange(adata.n_vars) < 13, adata.var_names)
    by_name, _ = answer("fit", adata, genes=NAMES[:13])
    by_mask, _ = answer("fit", adata, genes=mask)
    np.testing.assert_array_equal(by_mask, by_name)
    with (
        pytest.warns(hc.DataWarning, match=said),
        pytest.raises(hc.InputError, match=r"it needs 400 entries, .* a Series .* is matched"),
    ):
        hc.CSCore(adata, "library", genes=mask.to_numpy())


def test_features_of_other_types_only(antibodies):
    kinds = ["Antibody Capture"] * 19 + ["Peaks"]
    adata = data(antibodies, [f"p{j}" for j in range(20)], kinds)
    with pytest.raises(hc.InputError, match="no common depth: analyse one type at a time"):
        hc.CSCore(adata, "library")
    adata.var["feature_types"] = "Antibody Capture"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        result = hc.CSCore(adata, "library").fit()
    assert result.dataset.sizes["gene"] == 20
    assert "features_left_out" not in result.dataset.attrs


def test_a_gene_dominates_only_beside_many_others():
    assert list(dominating(np.array([900.0, 50, 50]))) == []
    total = np.ones(1000)
    assert list(dominating(total)) == []
    total[[3, 7]] = 300, 400
    assert list(dominating(total)) == [7, 3]
    total[[3, 7]] = 150, 10
    assert list(dominating(total)) == []


def scaled(counts, to):
    return np.round(counts / counts.sum(1, keepdims=True) * to)


@pytest.mark.sampled(12)
@pytest.mark.parametrize("door", DOORS)
@pytest.mark.parametrize("to", [1e4, 1e6])
def test_scaled_and_rounded_values_are_refused_through_every_door(door, to, counts, tmp_path):
    d = DOORS[door](data(scaled(counts, to), NAMES), tmp_path / "d")
    layer = {"layer": "raw"} if door == "raw" else {}
    with pytest.raises(hc.InputError, match="not counts, but seem to be scaled"):
        hc.CSCore(d, "library", **layer)


@pytest.mark.parametrize("consumer", CONSUMERS)
def test_scaled_and_rounded_values_are_refused_by_every_consumer(consumer, counts):
    adata = data(scaled(counts, 1e4), NAMES)
    adata.layers["counts"] = sparse.csr_matrix(counts)
    with pytest.raises(hc.InputError, match="raw counts seem to be in layer='counts'"):
        CONSUMERS[consumer](adata)


def examined(x, step=None):
    x = sparse.csr_matrix(x)
    out = CellSample.among(np.arange(x.shape[0]), x.shape[1])
    step = step or x.shape[1]
    for j in range(0, x.shape[1], step):
        out.examine(0, j, x[:, j : j + step])
    return out


@pytest.mark.parametrize("small", [0, 1 << 22])
@pytest.mark.parametrize("genes", [150, GENES])
def test_columns_and_rows_add_up(genes, small, counts, monkeypatch):
    counts = counts[:, :genes].copy()
    counts[5] = 0
    whole = examined(counts)
    monkeypatch.setattr(kernels.counts, "_SMALL", small)
    monkeypatch.setattr(kernels.counts, "_CHUNK", 500)
    pieces = examined(counts, step=37)
    cells = np.arange(CELLS)
    parts = CellSample.of(cells, genes)
    for a in range(0, CELLS, 250):
        part = CellSample.of(cells, genes)
        part.examine(a, 0, sparse.csr_matrix(counts[a : a + 250]))
        parts.add(part)
    for name in map(attrgetter("name"), fields(CellSample)):
        np.testing.assert_array_equal(getattr(whole, name), getattr(pieces, name))
        np.testing.assert_array_equal(getattr(whole, name), getattr(parts, name))


def test_scaled_to_less_than_the_depth_is_seen_by_the_sums(counts):
    # Cells of about the same, larger depth: a count of 1 stays 1.
    rng = np.random.default_rng(14)
    deep = rng.poisson(5 * counts.mean(0) * np.exp(rng.normal(0, 0.1, (CELLS, 1))))
    assert why_equal_sums(examined(deep)) is None
    less = scaled(deep, 0.9 * deep.sum(1).mean())
    why = why_equal_sums(examined(less))
    assert why is not None
    assert "sums are" in why
    with pytest.warns(hc.DataWarning, match="If the values were scaled to a common depth"):
        hc.CSCore(data(less, NAMES), "library")


def test_counts_sampled_down_before_genes_were_removed_are_not_refused(counts):
    rng = np.random.default_rng(17)
    cells = counts[counts.sum(1) >= 120]
    sampled = np.array([rng.multivariate_hypergeometric(row, 120) for row in cells])
    kept = sampled[:, (sampled > 0).mean(0) > 0.1]
    assert why_equal_sums(examined(sampled)) is None
    assert why_equal_sums(examined(kept)) is not None
    assert why_scaled(examined(kept)) is None


def test_what_is_counted_passes(counts):
    rng = np.random.default_rng(15)
    depth = 60
    sampled = [rng.multivariate_hypergeometric(row, min(depth, row.sum())) for row in counts]
    rich = rng.poisson(50 * np.exp(rng.normal(0, 0.3, (CELLS, 30))))
    for x in (counts, np.array(sampled), rich, counts[:, :15], counts.sum(1, keepdims=True)):
        assert why_scaled(examined(x)) is None
        assert why_equal_sums(examined(x)) is None
        assert reads_per_molecule(examined(x)) is None


@pytest.mark.parametrize("mean", [1.1, 1.25, 1.4])
def test_sums_of_few_counts_in_cells_of_one_depth_are_not_suspected(mean):
    # Without the empty cells, their variance is less than half their mean.
    rng = np.random.default_rng(18)
    for _ in range(20):
        assert why_equal_sums(examined(rng.poisson(mean / 50, (1000, 50)))) is None


def test_zeros_and_ones_are_not_suspected():
    x = np.random.default_rng(19).random((800, 40)) < 0.7
    assert why_equal_sums(examined(x.astype(int))) is None


def test_molecules_of_markers_and_guides_are_not_reads():
    rng = np.random.default_rng(20)
    kind, marker = rng.integers(0, 10, 2000), rng.integers(0, 10, 300)
    own = kind[:, None] == marker
    cells = np.exp(rng.normal(0, 0.4, (2000, 1)))
    markers = rng.poisson(np.where(own, 4, 0.05) * cells)
    assert markers.sum() > 3 * (markers > 0).sum()
    by_kind = rng.poisson(np.where(own, 12, 0.1) * cells)  # sums of 20 cells
    guides = rng.poisson(0.05, (2000, 120))
    guides[np.arange(2000), rng.integers(0, 120, 2000)] += rng.poisson(25, 2000)
    for x in (markers, by_kind, guides):
        assert reads_per_molecule(examined(x)) is None


def test_reads_are_told(counts):
    rng = np.random.default_rng(16)
    reads = np.where(counts > 0, 1 + rng.negative_binomial(2, 0.05, counts.shape) * counts, 0)
    with pytest.warns(hc.DataWarning, match="counts of reads, .* Their noise is about .* times"):
        hc.CSCore(data(reads, NAMES), "library")


def test_cells_selected_by_their_counts_are_told(counts):
    adata = data(counts, NAMES)
    mean = counts.mean(0)
    j = int(np.argmin(np.abs(mean - 1)))
    cells = counts[:, j] > 0
    with pytest.warns(hc.DataWarning, match=f"all .* cells have counts of {NAMES[j]}"):
        hc.CSCore(adata, "library", genes=[NAMES[j], "g0"], subset=cells)
    model = hc.CSCore(adata, "library", genes=["g0", "g1"], subset=cells)
    with pytest.warns(hc.DataWarning, match=f"all .* cells have counts of {NAMES[j]}"):
        model.fit(target=NAMES[j], uncertainty="jackknife")


def test_cells_that_have_either_gene_are_told(counts):
    adata = data(counts, NAMES)
    order = np.argsort(np.abs(counts.mean(0) - 0.6))
    a, b = order[:2]
    cells = (counts[:, a] > 0) | (counts[:, b] > 0)
    told = rf"every cell has counts of '{NAMES[min(a, b)]}' or '{NAMES[max(a, b)]}'"
    with pytest.warns(hc.DataWarning, match=told):
        hc.CSCore(adata, "library", genes=[NAMES[a], NAMES[b], "g0"], subset=cells)
    model = hc.CSCore(adata, "library", genes=[NAMES[b], "g0", "g1"], subset=cells)
    with pytest.warns(hc.DataWarning, match="every cell has counts of"):
        model.fit(target=NAMES[a], uncertainty="jackknife")


def test_genes_of_two_subtypes_are_not_suspected(counts):
    rng = np.random.default_rng(21)
    kind = rng.random(CELLS) < 0.5
    for mean in (2.0, 4.0, 30.0):
        either = rng.poisson(np.where([kind, ~kind], mean, 0.05)).T
        _, texts = answer("fit", data(np.hstack([either, counts]), ["A", "B", *NAMES]), genes=20)
        assert not any("every cell has" in text for text in texts)
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            hc.CSCore(
                data(np.hstack([either, counts]), ["A", "B", *NAMES]), "library", genes=["A", "B"]
            )
        assert not any("every cell has" in str(w.message) for w in caught)


def test_the_sum_over_all_types_is_refused(counts, antibodies, tmp_path):
    adata, _ = cases(counts, antibodies)["antibodies"]
    adata.obs["total_counts"] = np.asarray(adata.X.sum(1)).ravel()
    adata.obs["genes_counts"] = counts.sum(1)
    for door in ("AnnData", "CSC", "h5ad", "Dask array"):
        d = DOORS[door](adata, tmp_path / door.replace(" ", ""))
        for consumer in ("fit", "aggregate", "check"):
            with pytest.raises(hc.InputError, match="'total_counts' is the sum over features of"):
                answer(consumer, d, depth="total_counts")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        depth = {"Antibody Capture": "total_counts"}
        with pytest.raises(hc.InputError, match="is the sum over features of all types"):
            hc.CSCore(adata, "library", modalities="all", depth=depth)
        given, _ = answer("fit", adata, genes=NAMES[:13], depth="genes_counts")
        default, _ = answer("fit", adata, genes=NAMES[:13])
    np.testing.assert_array_equal(given, default)


def test_a_few_counts_of_guides_in_a_given_depth_do_not_matter(counts):
    rng = np.random.default_rng(22)
    guides = rng.poisson(0.01, (CELLS, 5))
    guides[rng.integers(0, CELLS, 5), np.arange(5)] = 1
    kinds = ["Gene Expression"] * GENES + ["CRISPR Guide Capture"] * 5
    adata = data(np.hstack([counts, guides]), NAMES + [f"s{j}" for j in range(5)], kinds)
    adata.obs["total_counts"] = np.asarray(adata.X.sum(1)).ravel()
    answer("fit", adata, genes=NAMES[:13], depth="total_counts")


def test_an_antibody_among_genes_is_named_as_left_out(counts, antibodies):
    adata, _ = cases(counts, antibodies)["antibodies"]
    said = "'p3' is of type 'Antibody Capture', whose features are left out: include them with"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with pytest.raises(hc.InputError, match=said):
            hc.CSCore(adata, "library", genes=["g1", "p3"])
        with pytest.raises(hc.InputError, match=said):
            hc.CSCore(adata, "library", genes=NAMES[:5]).fit(target="p3")
        with pytest.raises(hc.InputError, match=said):
            hc.BayesianCorrelation(adata, "library", genes=["g1", "p3"])
        mask = pd.Series(np.isin(adata.var_names, ["g1", "g2", "p3"]), adata.var_names)
        with pytest.raises(hc.InputError, match=r"selects 1 features .* e.g. 'p3': antibodies"):
            hc.CSCore(adata, "library", genes=mask)
        both = hc.CSCore(adata, "library", genes=mask, modalities="all").counts
    assert list(both.genes) == ["g1", "g2", "p3"]


def test_values_scaled_down_vary_too_little():
    rng = np.random.default_rng(23)
    mean = np.exp(rng.normal(0, 1.5, 600))
    depth = 30 * np.exp(rng.normal(0, 0.4, (1500, 1)))
    x = rng.poisson(depth * mean * rng.gamma(20, 0.05, (1500, 600)))
    assert why_underdispersed(examined(x)) is None
    less = np.round(x / x.sum(1, keepdims=True) * x.sum(1).mean() / 4)
    assert "genes vary over the cells less than counts can" in why_underdispersed(examined(less))
    obs = pd.DataFrame({"s": np.repeat(list("abc"), 500)}, index=[f"c{i}" for i in range(1500)])
    names = [f"g{j}" for j in range(600)]
    adata = ad.AnnData(
        sparse.csr_matrix(less.astype(np.float32)), obs=obs, var=pd.DataFrame(index=names)
    )
    with pytest.raises(hc.InputError, match="seem to be scaled and rounded: the value 1 occurs"):
        hc.CSCore(adata, "s", genes=20)
    large = rng.poisson(40 * rng.gamma(50, 0.02, (1500, 600)))  # without low values
    adata.X = sparse.csr_matrix(np.floor(large / 4).astype(np.float32))
    with pytest.warns(hc.DataWarning, match="If the values were scaled down and rounded"):
        hc.CSCore(adata, "s", genes=20)


@pytest.mark.parametrize("genes", [6, 20, 200])
@pytest.mark.parametrize("mean", [0.3, 2.0, 20.0])
def test_counts_of_any_mean_vary_enough(genes, mean):
    rng = np.random.default_rng(24)
    probability = rng.dirichlet(np.full(genes, 3.0))
    fixed = rng.multinomial(int(genes * mean), probability, 2000)  # sums are all the same
    poisson = rng.poisson(mean * genes * probability, (2000, genes))
    for x in (fixed, poisson):
        assert why_underdispersed(examined(x)) is None
        assert why_scaled(examined(x)) is None


def test_panels_of_scaled_values_are_refused(counts):
    panel = np.argsort(-counts.mean(0))[:45]
    less = scaled(counts, 5 * counts.sum(1).mean())[:, panel]
    assert why_scaled(examined(less)) is not None
    assert why_scaled(examined(counts[:, panel])) is None


def variable_world(rng, depth, cells=600, genes=1500):
    """Counts of genes whose variances differ, and the most variable of them."""
    mean = rng.lognormal(0, 1.5, genes)
    shape = rng.lognormal(1.2, 0.7, genes)
    size = depth * np.exp(0.4 * rng.normal(size=(cells, 1)))
    x = rng.poisson(size * mean / mean.sum() * rng.gamma(shape, 1 / shape, (cells, genes)))
    beyond = (x.var(0) - x.mean(0)) / np.maximum(x.mean(0), 0.05) ** 1.5
    return x, np.argsort(-beyond)


@pytest.mark.parametrize("genes", [15, 30, 100, 200])
@pytest.mark.parametrize(("depth", "to"), [(1000, 3e3), (3000, 1e4), (10_000, 1e6)])
def test_variable_genes_of_scaled_values_are_refused(genes, depth, to):
    x, variable = variable_world(np.random.default_rng(27), depth)
    panel = variable[:genes]
    assert why_scaled(examined(scaled(x, to)[:, panel])) is not None
    assert why_scaled(examined(x[:, panel])) is None


def test_counts_without_small_ones_are_not_in_steps():
    rng = np.random.default_rng(28)
    tag = np.arange(8) == rng.integers(0, 8, (2000, 1))
    staining = np.exp(rng.normal(3, 0.5, (2000, 1)))
    copies = rng.poisson(2, (2000, 20))
    x, variable = variable_world(rng, 50_000, 2000, 300)
    for counts in (
        rng.poisson(10, (2000, 8)),
        rng.poisson(np.where(tag, 300, 12)),
        rng.poisson(np.where(tag, 3000, 20)),
        rng.poisson(staining * np.exp(rng.normal(0, 0.6, (2000, 20)))),
        rng.multinomial(300, rng.dirichlet(np.full(12, 3.0)), 2000),
        rng.poisson(8 * copies),
        x[:, variable[:15]],
        x[:, variable[:100]],
    ):
        assert why_scaled(examined(counts)) is None


def test_cells_that_are_not_used_are_not_examined(counts):
    mixed = np.vstack([counts[:400], scaled(counts[400:], 1e4)])
    adata = data(mixed, NAMES)
    used = np.arange(CELLS) < 400
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for consumer in ("fit", "cluster", "aggregate", "check"):
            options = {"genes": NAMES[:13]} if consumer in ("fit", "cluster") else {}
            CONSUMERS[consumer](adata, subset=used, **options)
    with pytest.raises(hc.InputError, match="scaled and rounded"):
        hc.CSCore(adata, "library")


def test_traps_warn_once(counts, antibodies):
    adata, said = cases(counts, antibodies)["antibodies"]
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        hc.traps(adata, "library", "g1", genes=NAMES[:13], permutations=99)
    assert sum(said in str(w.message) for w in caught) == 1


@pytest.mark.parametrize("copies", [5.0, 30.0])
def test_noise_of_reads_and_what_it_makes_of_correlations(copies):
    """Pairs of equal expression in molecules: what is left of 0.8 in reads."""
    rng = np.random.default_rng(25)
    depth = np.exp(rng.normal(0, 0.3, (1500, 1)))
    z = rng.normal(size=(1500, 300))
    z[:, 150:] = 0.8 * z[:, :150] + 0.6 * z[:, 150:]
    mean = np.exp(rng.normal(-0.5, 0.7, 300))
    molecules = rng.poisson(depth * mean * np.exp(0.8 * z - 0.32))
    reads = rng.poisson(copies * rng.gamma(2 * molecules + 1e-9, 0.5))
    noise, biological = technical_dispersion(examined(reads))
    assert noise == pytest.approx(copies * 1.5 + 1, rel=0.35)
    obs = pd.DataFrame({"s": np.repeat(list("abc"), 500), "d": 1000 * depth[:, 0]})
    obs.index = obs.index.astype(str)
    adata = ad.AnnData(reads.astype(np.float32), obs=obs)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        r = hc.CSCore(adata, "s", depth="d").fit(uncertainty="jackknife").matrix().to_numpy()
    k = np.arange(150)
    assert 0.5 < np.median(r[k, 150 + k]) / (0.8 * biological) < 2


def test_multiples_of_the_sum_over_all_types_are_refused(counts, antibodies):
    adata, _ = cases(counts, antibodies)["antibodies"]
    total = np.asarray(adata.X.sum(1)).ravel()
    for depth in (total / total.mean(), (total * 1e-3).astype(np.float32)):
        with pytest.raises(hc.InputError, match="is the sum over features of all types"):
            answer("fit", adata, depth=depth)


def other_depths(adata, counts, antibodies):
    own = antibodies.sum(1) + 1.0
    return {
        "logarithm": (50 * np.log1p(counts.sum(1)), "is it a logarithm"),
        "of antibodies": (own, "is it the depth of other features"),
        "detected genes": ((counts > 0).sum(1), "or the number of genes found"),
        "sum": (counts.sum(1), None),
        "constant": (np.full(CELLS, 100.0), None),
        "noisy": (np.random.default_rng(3).poisson(counts.sum(1) * 0.2) + 1.0, None),
    }


@pytest.mark.parametrize(
    "depth", ["logarithm", "of antibodies", "detected genes", "sum", "constant", "noisy"]
)
@pytest.mark.parametrize("consumer", CONSUMERS)
def test_depths_of_other_features_are_told(consumer, depth, counts, antibodies):
    adata = data(counts, NAMES)
    given, said = other_depths(adata, counts, antibodies)[depth]
    options = {"genes": NAMES[:13]} if consumer in ("fit", "cluster") else {}
    _, texts = answer(consumer, adata, depth=given, **options)
    told = [text for text in texts if "the counts of the cells are" in text]
    assert len(told) == (said is not None)
    assert all(said in text for text in told)


@pytest.mark.sampled(3)
@pytest.mark.parametrize("genes", [3, 30, 300])
def test_true_depths_are_never_taken_for_others(genes):
    """Counts of few genes, of one that dominates, and of genes that follow depth."""
    for seed in range(30):
        rng = np.random.default_rng(seed)
        depth = np.exp(rng.choice([0.03, 0.2, 0.6]) * rng.normal(size=400))
        mean = np.exp(rng.normal(np.log(40 / genes), 1.5, genes))
        mean[0] *= rng.choice([1, 20])
        slope = 1 + rng.normal(0.2, 0.3, genes)
        own = np.exp(0.8 * rng.normal(size=(400, genes)) - 0.32)
        x = rng.poisson(depth[:, None] ** slope * mean * own)
        adata = ad.AnnData(x.astype(np.float32), obs=pd.DataFrame({"d": 1000 * depth}))
        adata.obs["library"] = np.repeat(list("abcd"), 100)
        adata.obs_names = [f"c{i}" for i in range(400)]
        _, texts = answer("check", adata, depth="d")
        assert not any("the counts of the cells are" in text for text in texts)


def test_flags_are_no_depth(counts):
    adata = data(counts, NAMES)
    adata.obs["kept"] = True
    with pytest.raises(hc.InputError, match="depth column 'kept' is not numeric but bool"):
        hc.CSCore(adata, "library", depth="kept")


def test_one_feature_is_not_its_own_depth(counts, antibodies):
    kinds = [*KINDS[:GENES], KINDS[-1]]
    adata = data(np.hstack([counts, antibodies[:, :1]]), [*NAMES, "p0"], kinds)
    adata.obs["own"] = antibodies.sum(1)
    for depth in (None, "total", {"Gene Expression": "own"}):
        with pytest.raises(hc.InputError, match="there is one feature of type 'Antibody Capture'"):
            hc.CSCore(adata, "library", modalities="all", depth=depth)
        with pytest.raises(hc.InputError, match="there is one feature of type 'Antibody Capture'"):
            hc.aggregate(adata, "library", modalities="all", depth=depth)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        options = {"modalities": "all", "depth": {KINDS[-1]: "own"}, "genes": [*NAMES[:4], "p0"]}
        r = hc.CSCore(adata, "library", **options).fit(target="p0")
    assert np.isfinite(r.top()["correlation"]).all()


def test_infinite_depths_are_refused_without_noise(counts, antibodies):
    adata, _ = cases(counts, antibodies)["antibodies"]
    depth = np.where(np.arange(CELLS) == 3, np.inf, antibodies.sum(1))
    with warnings.catch_warnings():
        warnings.simplefilter("error", RuntimeWarning)
        with pytest.raises(hc.InputError, match="1 cells have a depth that is not positive"):
            hc.CSCore(adata, "library", modalities="all", depth={KINDS[-1]: depth})


@pytest.mark.parametrize("case", ["dominated", "antibodies"])
@pytest.mark.parametrize("consumer", CONSUMERS)
def test_trimmed_is_the_default_by_its_name(consumer, case, counts, antibodies):
    adata, said = cases(counts, antibodies)[case]
    options = {"genes": NAMES[:13]} if consumer in ("fit", "cluster") else {}
    right, _ = answer(consumer, adata, **options)
    found, texts = answer(consumer, adata, depth="trimmed", **options)
    np.testing.assert_array_equal(found, right)
    assert pd.Series(texts, dtype=str).str.contains(said).any()
    adata.obs["trimmed"] = 1.0
    with pytest.raises(hc.InputError, match="and the name of a column of obs: rename the column"):
        answer(consumer, adata, depth="trimmed", **options)


def test_trimmed_for_each_type(counts, antibodies):
    adata, _ = cases(counts, antibodies)["antibodies"]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for depth in ("trimmed", {KINDS[-1]: "trimmed", KINDS[0]: "total"}):
            model = hc.CSCore(adata, "library", genes=5, modalities="all", depth=depth)
            np.testing.assert_array_equal(model.counts.modalities.depth[1], antibodies.sum(1))
            np.testing.assert_array_equal(model.counts.modalities.depth[0], counts.sum(1))
        result = hc.CSCore(cases(counts, antibodies)["dominated"][0], "library", depth="trimmed")
        assert "without HBB as sequencing depth" in methods_text(result.fit(target="g1"))
