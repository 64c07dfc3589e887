"""Bad input, one line each: the call and the words of the refusal."""

import warnings

import anndata as ad
import numpy as np
import pandas as pd
import pytest

import hiercorr as hc
from hiercorr import enrichment, modules, planning
from hiercorr.simulate import simulate_counts
from hiercorr.specification import read_specification


class World:
    """Small data and fits that the lines below share; nothing in it is changed by them."""

    def __init__(self):
        self.data, _ = simulate_counts(6, 40, 6, mean=2.0, within=0.4, seed=1)
        obs = self.data.obs
        samples = list(dict.fromkeys(obs["sample"]))
        number = obs["sample"].map({s: k for k, s in enumerate(samples)}).astype(int)
        obs["arm"], obs["batch"] = (
            np.where(number % 2 == 0, "a", "b"),
            np.where(number % 2 == 0, "x", "y"),
        )
        obs["lone"] = np.where(number == 0, "a", "b")
        obs["three"] = np.array(["a", "b", "c"])[number % 3]
        obs["donor"] = np.array(["d0", "d1", "d2"])[number // 2]
        obs["by_donor"] = np.where(number < 2, "a", "b")
        obs["same"], obs["age"], obs["score"] = (
            "v",
            30.0 + number,
            np.random.default_rng(0).random(len(obs)),
        )
        obs["gap"] = obs["age"].where(number > 0)
        self.first, self.genes = samples[0], list(self.data.var_names)
        self.within = hc.CSCore(self.data, "sample", depth="depth").fit()
        self.target = hc.CSCore(self.data, "sample", depth="depth").fit(target=self.genes[0])
        self.between = hc.Pseudobulk(self.data, "sample", depth="depth", normalization="cpm").fit(
            target=self.genes[0]
        )

    def with_x(self, change):
        copy = self.data.copy()
        x = copy.X.toarray().astype(float)
        change(x)
        copy.X = x
        return copy

    def model(self, data=None, **options):
        return hc.CSCore(
            self.data if data is None else data, **{"sample": "sample", "depth": "depth", **options}
        )

    def sums(self, **options):
        return hc.Pseudobulk(
            self.data, **{"sample": "sample", "depth": "depth", "normalization": "cpm", **options}
        )

    def change(self, condition="arm", **options):
        return hc.differential(
            self.data, **{"sample": "sample", "condition": condition, "depth": "depth", **options}
        )

    def two(self):
        return self.data.obs["sample"].isin(self.data.obs["sample"].unique()[:2]).to_numpy()


def put(i, j, value):
    def change(x):
        x[i, j] = value

    return change


TABLE = {
    # counts
    "a fraction": (lambda w: w.model(w.with_x(put(3, 1, 0.5))), "contains fractions"),
    "a negative count": (lambda w: w.model(w.with_x(put(3, 1, -2))), "negative"),
    "a missing count": (lambda w: w.model(w.with_x(put(3, 1, np.nan))), "not finite"),
    "an infinite count": (lambda w: w.model(w.with_x(put(3, 1, np.inf))), "not finite"),
    "a count of more than 32 bits": (lambda w: w.model(w.with_x(put(3, 1, 3e9))), "too large"),
    "an array": (lambda w: w.model(np.ones((4, 4))), "wrap an array as anndata.AnnData"),
    "a table": (lambda w: w.model(pd.DataFrame(np.ones((4, 4)))), "not DataFrame"),
    "a file that is not there": (lambda w: w.model("nowhere.h5ad"), "no such file: 'nowhere.h5ad'"),
    "a layer that is not there": (lambda w: w.model(layer="counts"), "unknown layer 'counts'"),
    # samples, cells, depth
    "an unknown sample column": (
        lambda w: w.model(sample="smaple"),
        "unknown sample column 'smaple'; did you mean 'sample'",
    ),
    "one sample": (lambda w: w.model(sample="same"), "contains one sample"),
    "no sample for within": (lambda w: w.model(sample=None).fit(), "needs samples"),
    "samples that are too small": (
        lambda w: w.model(min_cells=100),
        "fewer than 2 samples are left",
    ),
    "small samples as errors": (
        lambda w: w.model(min_cells=100, small_samples="error"),
        "fewer than 100 cells",
    ),
    "an unknown depth column": (
        lambda w: w.model(depth="dpeth"),
        "unknown depth column 'dpeth'; did you mean 'depth'",
    ),
    "a depth of words": (lambda w: w.model(depth="arm"), "depth column 'arm' is not numeric"),
    "a depth of 0": (lambda w: w.model(depth=np.r_[0, np.ones(239)]), "depth that is not positive"),
    "a depth of another length": (lambda w: w.model(depth=np.ones(3)), r"shape \(3,\)"),
    "an unknown value of a subset": (
        lambda w: w.model(subset={"arm": "c"}),
        "unknown value of obs column 'arm' 'c'",
    ),
    "a subset without cells": (lambda w: w.model(subset=np.zeros(240, bool)), "selects no cell"),
    # genes
    "an unknown gene": (
        lambda w: w.model(genes=["gene0", "gen1"]),
        "unknown gene 'gen1'; did you mean 'gene1'",
    ),
    "a gene named twice": (lambda w: w.model(genes=["gene0", "gene0"]), "is named twice"),
    "one gene": (lambda w: w.model(genes=["gene0"]), "at least 2 expressed genes"),
    "an unknown target": (lambda w: w.model().fit(target="gene99"), "unknown target gene 'gene99'"),
    # options of within
    "an unknown estimator": (
        lambda w: w.model().fit("median"),
        "estimator must be one of .*'within', 'pooled'.*, not 'median'",
    ),
    "an unknown uncertainty": (
        lambda w: w.model().fit(uncertainty="exact"),
        "uncertainty must be one of",
    ),
    "a confidence in percent": (lambda w: w.model().fit(confidence=95), "between 0 and 1, not 95"),
    "an unknown precision": (
        lambda w: w.model().fit(precision="half"),
        r"one of \('single', 'double'\), not 'half'",
    ),
    "ten bootstrap draws": (
        lambda w: w.model().fit(uncertainty="bootstrap", n_bootstrap=10),
        "at least 100 resamples",
    ),
    "no threads": (
        lambda w: w.model().fit(n_jobs=0),
        "n_jobs must be a whole number of at least 1",
    ),
    "a memory limit in words": (
        lambda w: w.model(memory_limit="much"),
        "is not an amount of memory",
    ),
    # formulas
    "an unknown column": (
        lambda w: w.sums(formula="~ agee"),
        "unknown column in the formula 'agee'; did you mean 'age'",
    ),
    "half a formula": (lambda w: w.sums(formula="~ age +"), "cannot read formula"),
    "a left side": (lambda w: w.sums(formula="age ~ arm"), "has no left-hand side here"),
    "no intercept": (lambda w: w.sums(formula="~ 0 + age"), "has no intercept"),
    "a constant column": (lambda w: w.sums(formula="~ same"), "is constant"),
    "two names of one thing": (lambda w: w.sums(formula="~ arm + batch"), "not of full rank"),
    "a column that varies within samples": (
        lambda w: w.sums(formula="~ score"),
        "varies within samples",
    ),
    "a value that is missing": (lambda w: w.sums(formula="~ gap"), "is missing for"),
    "a covariate that is the sample": (
        lambda w: w.sums(formula="~ sample"),
        "confounded with the sample",
    ),
    "more terms than samples": (
        lambda w: w.sums(formula="~ poly(age, 3) + arm").fit(),
        "residual degree of freedom",
    ),
    "code in a formula": (
        lambda w: w.sums(formula="~ I(__import__('os').getcwd())"),
        "only columns, arithmetic and functions",
    ),
    "a function of a file": (
        lambda w: w.sums(formula="~ np.load('x')"),
        "only columns, arithmetic and functions",
    ),
    "covariates of samples within them": (
        lambda w: w.model(covariates="~ age").fit(),
        "one value in each sample",
    ),
    # between samples
    "two samples": (lambda w: w.sums(subset=w.two()), "needs at least 3"),
    "an unknown method": (lambda w: w.sums().fit("kendall"), "method must be one of"),
    "an unknown normalization": (
        lambda w: w.sums(normalization="rpkm"),
        "normalization must be one of",
    ),
    "a regression without a target": (lambda w: w.sums().fit("ols"), "name it with target="),
    "an unknown block": (
        lambda w: w.sums(block="doner"),
        "unknown block column 'doner'; did you mean 'donor'",
    ),
    "a block that varies within samples": (
        lambda w: w.sums(block="score"),
        "varies within samples",
    ),
    "nine permutations": (lambda w: w.sums().fit(target="gene0", permutations=9), "at least 19"),
    "permutations of weights": (
        lambda w: w.sums().fit("voom", target="gene0", permutations=99),
        "permutations= requires",
    ),
    # differences
    "one sample in a group": (lambda w: w.change("lone"), "has one sample in group 'a'"),
    "one group": (lambda w: w.change("same"), "nothing to compare"),
    "pairs of numbers": (lambda w: w.change("age", contrast="pairwise"), "compares groups"),
    "a trend without an order": (
        lambda w: w.change("three", contrast="trend"),
        "needs an order of the groups",
    ),
    "an unknown contrast": (
        lambda w: w.change("three", contrast="overal"),
        "did you mean 'overall'",
    ),
    "a condition of cells": (lambda w: w.change("score"), "varies within samples"),
    "a condition confounded with batch": (
        lambda w: w.change("arm", formula="~ batch"),
        "not of full rank",
    ),
    "blocks without both conditions": (
        lambda w: w.change("by_donor", block="donor"),
        "0 values of block .donor. have",
    ),
    "permutations with a covariate": (
        lambda w: w.change(formula="~ age", permutations=99),
        "are valid for the condition",
    ),
    # signatures, cell types, designs
    "a signature of one gene": (lambda w: w.model().signature(["gene0"]), "at least 2 genes"),
    "a weight of 0": (
        lambda w: w.model().signature(["gene0", "gene1"], weights={"gene0": 1, "gene1": 0}),
        "finite and not 0",
    ),
    "an unknown cell type": (
        lambda w: hc.by_cell_type(w.data, "arm", "sample", ["c"]),
        "unknown cell type 'c'",
    ),
    "an unknown family": (
        lambda w: hc.by_cell_type(w.data, "arm", "sample", family="none"),
        "family must be one of",
    ),
    "power of two unknowns": (lambda w: hc.power(cells=100), "must be None to be solved for"),
    "power beyond reach": (
        lambda w: hc.power(samples=3, cells=None, rho=0.01, power=0.99),
        "no number of cells",
    ),
    "a negative cost": (
        lambda w: planning.best_design(hc.power(samples=8, cells=9), -1, 1),
        "donor_cost must be a number of at least 0",
    ),
    "metacells larger than a sample": (
        lambda w: hc.metacells(w.data, "sample", 500, depth="depth"),
        "must lie between 2 and",
    ),
    # results
    "an unknown gene of a result": (lambda w: w.within.top("gene9x"), "unknown gene 'gene9x'"),
    "no gene where all pairs are": (
        lambda w: w.within.top(),
        "name a gene: this result contains all pairs",
    ),
    "an unknown adjustment": (lambda w: w.within.adjust("sidak"), "method must be one of"),
    "evidence of the wrong level": (
        lambda w: hc.evidence("gene0", within=w.between, between=w.between),
        "a result of level",
    ),
    "modules of one target": (lambda w: modules.find_modules(w.target), "modules need all pairs"),
    "an unknown direction": (
        lambda w: enrichment.enrich(w.target, direction="up"),
        "direction must be one of",
    ),
    "nothing to report": (lambda w: hc.report("x.html"), "nothing to report"),
    "a folder that is not there": (lambda w: w.within.save("nowhere/r.zarr"), "there is no folder"),
    "a name without a format": (lambda w: w.within.save("r.txt"), "must end in .zarr or .nc"),
    "a result that is not there": (lambda w: hc.load("nowhere.zarr"), "no such result"),
    "streaming of one target": (
        lambda w: w.model().fit(target="gene0", out="r.zarr"),
        "out= is for all pairs",
    ),
    # specifications
    "an unknown specification": (lambda w: read_specification("wihtin"), "did you mean .within."),
}


@pytest.fixture(scope="module")
def world():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return World()


@pytest.mark.parametrize("what", TABLE)
def test_refused_by_name(world, what, tmp_path, monkeypatch, quiet):
    monkeypatch.chdir(tmp_path)
    call, text = TABLE[what]
    before = world.data.copy()
    with pytest.raises(hc.InputError, match=text) as caught:
        call(world)
    assert len(str(caught.value)) > 20
    assert "\n" not in str(caught.value)
    assert not list(tmp_path.iterdir())  # nothing half-written is left
    assert (world.data.X != before.X).nnz == 0
    pd.testing.assert_frame_equal(world.data.obs, before.obs)


def test_the_table_is_long_enough():
    assert len(TABLE) >= 60


def test_anndata_views_are_not_modified(world):
    view = world.data[:120]
    assert isinstance(view, ad.AnnData)
    hc.CSCore(view, "sample", depth="depth").fit()
    assert view.is_view
