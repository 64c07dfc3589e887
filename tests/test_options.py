"""Every option of every public function: a wrong type, a wrong value, a value without effect."""

import inspect
import warnings
from types import ModuleType

import numpy as np
import pandas as pd
import pytest
import xarray as xr

import hiercorr as hc
from hiercorr import enrichment, modules, planning, specification
from hiercorr.simulate import natural_correlation, simulate_counts

NONE = object()  # no such value: any value of this type is right, or the option always acts


class World:
    """Small data and results that all calls share."""

    def __init__(self):
        self.data, _ = simulate_counts(5, 40, 12, mean=2.0, within=0.4, seed=1)
        number = self.data.obs["sample"].cat.codes.to_numpy()
        self.data.obs["arm"] = np.where(number % 2 == 0, "a", "b")
        self.data.obs["kind"] = np.where(np.arange(self.data.n_obs) % 2 == 0, "x", "y")
        self.data.obs["age"] = 30.0 + number
        self.data.obs["age_of_cell"] = np.arange(self.data.n_obs) % 11.0
        self.data.obs["sample_copy"] = self.data.obs["sample"].astype(str)
        self.data.obs["pair"] = (number // 2).astype(str)
        options = {"sample": "sample", "depth": "depth"}
        self.model = hc.CSCore(self.data, **options)
        self.few_cells = hc.CellCorrelation(self.data, **options)
        self.sums = hc.aggregate(self.data, **options)
        self.pseudobulk = hc.Pseudobulk(self.data, **options, formula="~ arm", normalization="cpm")
        self.across = hc.AcrossCellTypes(self.data, **options, **ACROSS)
        self.within = self.model.fit(per_sample=True)
        self.target = self.model.fit(target="gene0")
        self.no_q = self.model.fit(target="gene0", uncertainty="none")
        self.between = self.pseudobulk.fit(target="gene0")
        self.between_all = self.pseudobulk.fit()
        self.pairwise = hc.differential(self.data, condition="arm", contrast="pairwise", **options)
        self.types = hc.by_cell_type(self.data, "kind", **options)
        self.evidence = hc.evidence("gene0", self.within, self.between)
        self.modules = modules.find_modules(
            self.within, "hierarchical", q=None, min_correlation=0.1, min_size=2
        )
        self.parts = pd.Series(np.arange(20.0), [f"cell{i}" for i in range(20)])
        self.design = planning.power(samples=8, cells=300)
        self.between_design = planning.power("between", samples=8, cells=300)
        self.bayes = hc.BayesianCorrelation(self.data, **options, genes=["gene0", "gene1"])


@pytest.fixture(scope="module")
def world():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return World()


# option: wrong type, wrong value, (a value without effect, the options that take it away) or NONE
DATA = {
    "data": (3, "nowhere.h5ad", NONE),
    "sample": (3, "smaple", NONE),
    "layer": (3, "nothing", NONE),
    "depth": (3, "nothing", NONE),
    "subset": (3, {"nothing": 1}, NONE),
    "gene_names": (3, "nothing", NONE),
}
GENES = {"genes": (3.5, ["nothing"], NONE)}
MODALITIES = {"modalities": (3, ["nothing"], NONE)}
MIN_CELLS = {"min_cells": ("many", 0, NONE)}
SMALL = {**MIN_CELLS, "small_samples": (3, "keep", NONE)}
TARGET = {"target": (3, "nothing", NONE)}
PAIRS = {"pairs": (3, [("nothing", "gene0")], ([("gene0", "gene1")], {"target": "gene2"}))}
CONFIDENCE = {"confidence": ("high", 95, NONE)}
UNUSED_CONFIDENCE = {"confidence": ("high", 95, (0.9, {"uncertainty": "none"}))}
PRECISION = {"precision": (3, "half", NONE)}
SEED = {"seed": ("first", -1, NONE)}
PROGRESS = {"progress": ("yes", NONE, NONE)}
N_JOBS = {"n_jobs": ("two", 0, NONE)}
Q = {"q": ("small", 2.0, NONE)}
SIZE = {"min_correlation": ("large", 2.0, NONE)}
N = {"n": ("ten", -1, NONE)}
GENE = {"gene": (3, "nothing", NONE)}
PAIR = {"gene_a": (3, "nothing", NONE), "gene_b": (3, "nothing", NONE)}
SETS = {"sets": (3, "nowhere.gmt", NONE)}
SET_SIZES = {"min_size": ("five", 0, NONE), "max_size": ("many", 1, NONE)}
PATH = {"path": (3, "nowhere/r.zarr", NONE)}

NEARBY = pd.DataFrame(
    {
        "chrom": "1",
        "start": [100, 200],
        "end": [300, 400],
        "feature_types": ["Gene Expression", "Peaks"],
    },
    index=["gene", "peak"],
)
BASE = {"sample": "sample", "depth": "depth"}
CELLS = {"data": lambda w: w.data, **BASE}
ACROSS = {"cell_type": "kind", "types": ("x", "y"), "normalization": "cpm"}
GENE_SETS = {"a": [f"gene{j}" for j in range(6)], "b": [f"gene{j}" for j in range(6, 12)]}

# name: (call, options that are given, table of options)
MODELS = {
    "CSCore": (
        lambda w, **o: hc.CSCore(**o),
        CELLS,
        {
            **DATA,
            **GENES,
            **MODALITIES,
            **SMALL,
            "covariates": (3, ["nothing"], ("~ age", {"scheduler": "threads"})),
            "block": (3, "nothing", ("pair", {"sample": "pair"})),
            "depth_adjust": ("yes", NONE, (True, {"scheduler": "threads"})),
            "memory_limit": ([], "much", NONE),
            "scratch": (3, "nowhere/deep", ("counts", {"scheduler": "threads"})),
            "scheduler": (3, "nothing", ("threads", {"covariates": "~ age"})),
        },
    ),
    "CSCore.fit": (
        lambda w, **o: w.model.fit(**o),
        {},
        {
            "estimator": (3, "median", NONE),
            "uncertainty": (3, "exact", NONE),
            "weights": (3, "heavy", ("adaptive", {"uncertainty": "jackknife"})),
            **TARGET,
            **PAIRS,
            "per_sample": ("yes", NONE, (True, {"estimator": "pooled"})),
            **PRECISION,
            "standardize": ("yes", NONE, (False, {"estimator": "pooled"})),
            "covariate_level": (3, "nonsense", ("count", {})),
            "adjust": (3, ("nonsense",), (("mean",), {})),
            "n_bootstrap": ("many", -5, (500, {"uncertainty": "jackknife"})),
            **UNUSED_CONFIDENCE,
            **SEED,
            "out": (3, "r.txt", ("r.zarr", {"target": "gene0"})),
            "overwrite": ("yes", NONE, (True, {})),
            "checkpoint": (3, NONE, NONE),
            **N_JOBS,
            **PROGRESS,
        },
    ),
    "CSCore.signature": (
        lambda w, **o: w.model.signature(**o),
        {"genes": ["gene0", "gene1"]},
        {
            "genes": (3, ["gene0", "nothing"], NONE),
            "name": (3, "gene0", NONE),
            "weights": (3, "heavy", NONE),
            "uncertainty": (3, "bootstrap", NONE),
            **UNUSED_CONFIDENCE,
            **N_JOBS,
            **PROGRESS,
        },
    ),
    "CSCore.score": (
        lambda w, **o: w.model.score(**o),
        {"score": "age_of_cell"},
        {
            "score": (3, "nothing", NONE),
            "name": (3, "gene0", NONE),
            "uncertainty": (3, "bootstrap", NONE),
            "sets": (3, {"a": ["gene0", "nothing"]}, NONE),
            "weights": (3, NONE, ("equal", {"sets": None})),
            **UNUSED_CONFIDENCE,
            **N_JOBS,
            **PROGRESS,
        },
    ),
    **{
        f"CSCore.{name}": (
            lambda w, name=name, **o: getattr(w.model, name)(**o),
            {"sets": GENE_SETS},
            {
                "sets": (3, {"a": ["gene0", "nothing"], "b": ["gene1", "gene2"]}, NONE),
                "weights": (3, "heavy", NONE),
                "uncertainty": (3, "bootstrap", NONE),
                **UNUSED_CONFIDENCE,
                **N_JOBS,
                **PROGRESS,
            },
        )
        for name in ("module_membership", "module_correlation")
    },
    "CSCore.module_weights": (
        lambda w, **o: w.model.module_weights(**o),
        {"sets": GENE_SETS},
        {
            "sets": (3, {"a": ["gene0", "nothing"]}, NONE),
            "weights": (3, "heavy", NONE),
            **PROGRESS,
        },
    ),
    "Pseudobulk.module_expression": (
        lambda w, **o: w.pseudobulk.module_expression(**o),
        {"sets": GENE_SETS},
        {"sets": (3, {"a": ["gene0", "nothing"]}, NONE), "weights": (3, "eigengene", NONE)},
    ),
    "Pseudobulk.module_traits": (
        lambda w, **o: w.pseudobulk.module_traits(**o),
        {"sets": GENE_SETS, "traits": "age"},
        {
            "sets": (3, {"a": ["gene0", "nothing"]}, NONE),
            "traits": (3, "nothing", NONE),
            "method": (3, "kendall", NONE),
            "weights": (3, "eigengene", NONE),
            "permutations": ("many", 5, NONE),
            **CONFIDENCE,
            **SEED,
        },
    ),
    "Pseudobulk": (
        lambda w, **o: hc.Pseudobulk(**o),
        {**CELLS, "normalization": "cpm"},
        {
            **DATA,
            **GENES,
            **MODALITIES,
            "cell_type": (3, "nothing", NONE),
            "formula": (3, "~ nothing", NONE),
            "normalization": (3, "rpkm", NONE),
            "block": (3, "nothing", NONE),
            "block_method": (3, "random", ("cluster", {})),
            "min_cells": ("many", 0, (20, {"data": lambda w: w.sums, "depth": None})),
            "min_counts": ("many", -1, (5, {"data": lambda w: w.sums, "depth": None})),
            "small_samples": (3, "keep", NONE),
        },
    ),
    "Pseudobulk.fit": (
        lambda w, **o: w.pseudobulk.fit(**o),
        {"target": "gene0"},
        {
            "method": (3, "kendall", ("hc3", {"target": None})),
            **TARGET,
            **PAIRS,
            "interaction": (3, "nothing", ("arm", {"method": "corrected"})),
            "contrasts": (
                3,
                {"a": "nothing"},
                ({"a": "`arm[T.b]`"}, {"target": None, "method": "spearman"}),
            ),
            "permutations": ("many", 5, (99, {"method": "voom"})),
            "moderated": (3, "shrunk", (True, {"method": "hc3"})),
            **PRECISION,
            **CONFIDENCE,
            **SEED,
            **PROGRESS,
        },
    ),
    "Pseudobulk.compare_slopes": (
        lambda w, **o: w.pseudobulk.compare_slopes(**o),
        {"target": "gene0", "condition": "arm"},
        {
            "target": (3, "nothing", NONE),
            "condition": (3, "nothing", NONE),
            "adjustment": (3, "bonferroni", NONE),
            "moderated": (3, "shrunk", NONE),
            **CONFIDENCE,
        },
    ),
    "AcrossCellTypes": (
        lambda w, **o: hc.AcrossCellTypes(**o),
        {**CELLS, **ACROSS},
        {
            **DATA,
            "cell_type": (3, "nothing", NONE),
            "types": (3, ("x", "nothing"), NONE),
            "genes_a": (3.5, ["nothing"], (["gene0"], {"pairs": [("gene0", "gene1")]})),
            "genes_b": (3.5, ["nothing"], (5, {"pairs": [("gene0", "gene1")]})),
            "pairs": (3, [("gene0", "nothing")], NONE),
            "formula": (3, "~ nothing", NONE),
            "normalization": (3, "rpkm", NONE),
            "block": (3, "nothing", NONE),
            "block_method": (3, "cluster", ("fixed", {})),
            **SMALL,
            "min_counts": ("many", -1, NONE),
        },
    ),
    "AcrossCellTypes.fit": (
        lambda w, **o: w.across.fit(**o),
        {},
        {
            "method": (3, "voom", NONE),
            "permutations": ("many", 5, (99, {"method": "hc3"})),
            "moderated": (3, "shrunk", (True, {"method": "hc3"})),
            **PRECISION,
            **CONFIDENCE,
            **SEED,
            **PROGRESS,
        },
    ),
    "BayesianCorrelation": (
        lambda w, **o: hc.BayesianCorrelation(**o),
        CELLS,
        {
            **DATA,
            **GENES,
            **SMALL,
            "formula": (3, "~ nothing", NONE),
            "priors": (3, {"nothing": {}}, NONE),
            "block": (3, "nothing", NONE),
            "covariates": (3, "~ nothing", NONE),
            "correlation_formula": (3, "~ nothing", NONE),
            "heterogeneity": ("yes", NONE, NONE),
            "sd_per_sample": ("yes", NONE, NONE),
            "structure": (3, "all", NONE),
            "many_cells": (3, "some", NONE),
            **SEED,
        },
    ),
    "BayesianCorrelation.fit": (
        lambda w, **o: w.bayes.fit(**o),
        {},
        {
            "draws": ("many", 5, NONE),
            "tune": ("long", 5, NONE),
            "chains": ("two", 1, NONE),
            **SEED,
            "sampler": (3, "stan", NONE),
            "target_accept": ("high", 2, NONE),
            **TARGET,
            "method": (3, "exact", NONE),
            **CONFIDENCE,
            "rope": ("thin", 2, NONE),
            "checkpoint": (3, NONE, NONE),
            **PROGRESS,
        },
    ),
    "BayesianCorrelation.predicted_seconds": (
        lambda w, **o: w.bayes.predicted_seconds(**o),
        {},
        {
            "draws": ("many", 5, NONE),
            "tune": ("long", 5, NONE),
            "chains": ("two", 1, NONE),
            **TARGET,
            "method": (3, "latent", NONE),
        },
    ),
    "BayesianCorrelation.pymc_model": (
        lambda w, **o: w.bayes.pymc_model(**o),
        {"gene_a": "gene0", "gene_b": "gene1"},
        {**PAIR, "method": (3, "exact", NONE)},
    ),
    "BayesianCorrelation.sbc": (
        lambda w, **o: w.bayes.sbc(**o),
        {"n": 1, "gene_a": "gene0", "gene_b": "gene1"},
        {
            "n": ("one", 0, NONE),
            **PAIR,
            "ranks": ("many", 0, NONE),
            "draws": ("many", 5, NONE),
            "tune": ("long", 5, NONE),
            "chains": ("two", 1, NONE),
            **SEED,
            **PROGRESS,
        },
    ),
    "BayesianCorrelation.fit_many": (
        lambda w, **o: w.bayes.fit_many(**o),
        {"target": "gene0"},
        {
            **TARGET,
            "genes": (3, ["nothing"], NONE),
            "shrink": ("yes", NONE, NONE),
            "draws": ("many", 5, NONE),
            **CONFIDENCE,
            "rope": ("thin", 2, NONE),
            **SEED,
            **N_JOBS,
            **PROGRESS,
        },
    ),
    "BayesianCorrelation.pair": (
        lambda w, **o: w.bayes.pair(**o),
        {"gene_a": "gene0", "gene_b": "gene1"},
        {**PAIR, "structure": (3, "all", NONE), "priors": (3, NONE, NONE)},
    ),
    "BayesianCorrelation.prior_predictive": (
        lambda w, **o: w.bayes.prior_predictive(**o),
        {},
        {"draws": ("many", 0, NONE), **SEED},
    ),
    "BayesianCorrelation.posterior_predictive": (
        lambda w, **o: w.bayes.posterior_predictive(**o),
        {"result": lambda w: w.within},
        {"result": (3, lambda w: w.within, NONE), "draws": ("many", 0, NONE), **SEED},
    ),
    "BayesianCorrelation.compare_structures": (
        lambda w, **o: w.bayes.compare_structures(**o),
        {"gene_a": "gene0", "gene_b": "gene1"},
        {**PAIR, **SEED},
    ),
    "BayesianCorrelation.prior_sensitivity": (
        lambda w, **o: w.bayes.prior_sensitivity(**o),
        {"gene_a": "gene0", "gene_b": "gene1"},
        {**PAIR, "priors": (3, {"a": {"nothing": {}}}, NONE), **SEED},
    ),
    "CellCorrelation": (
        lambda w, **o: hc.CellCorrelation(**o),
        CELLS,
        {**DATA, **GENES, **SMALL, **MODALITIES},
    ),
    "CellCorrelation.fit": (
        lambda w, **o: w.few_cells.fit(**o),
        {},
        {
            "method": (3, "kendall", NONE),
            "level": (3, "between", NONE),
            **TARGET,
            **PAIRS,
            "uncertainty": (3, "bootstrap", NONE),
            **PRECISION,
            **UNUSED_CONFIDENCE,
            **PROGRESS,
        },
    ),
}

FUNCTIONS = {
    "aggregate": (
        lambda w, **o: hc.aggregate(**o),
        CELLS,
        {
            **DATA,
            **MODALITIES,
            **SMALL,
            "cell_type": (3, "nothing", NONE),
            "min_counts": ("many", -1, NONE),
        },
    ),
    "differential": (
        lambda w, **o: hc.differential(**o),
        {**CELLS, "condition": "arm"},
        {
            **DATA,
            **GENES,
            **MODALITIES,
            **SMALL,
            "condition": (3, "nothing", NONE),
            "formula": (3, "~ nothing", ("~ age", {"method": "pooled"})),
            "block": (3, "nothing", NONE),
            **TARGET,
            **PAIRS,
            "contrast": (3, "nothing", NONE),
            "method": (3, "exact", NONE),
            "uncertainty": (3, "exact", ("cluster", {})),
            "permutations": ("many", 5, (99, {"formula": "~ age"})),
            **PRECISION,
            **CONFIDENCE,
            **SEED,
            **N_JOBS,
            **PROGRESS,
        },
    ),
    "by_cell_type": (
        lambda w, **o: hc.by_cell_type(**o),
        {**CELLS, "cell_type": "kind"},
        {
            **{k: DATA[k] for k in ("data", "sample", "subset")},
            "cell_type": (3, "nothing", NONE),
            "types": (3, ["nothing"], NONE),
            "block": (3, "nothing", ("sample_copy", {})),
            "family": (3, "none", NONE),
            "fit": (3, {"confidence": 95}, NONE),
        },
    ),
    "differential_expression": (
        lambda w, **o: hc.differential_expression(**o),
        {**CELLS, "formula": "~ arm", "contrast": ("arm", "b", "a")},
        {
            **DATA,
            **SMALL,
            "formula": (3, "~ nothing", NONE),
            "contrast": (3, "nothing", NONE),
            "block": (3, "nothing", NONE),
            "min_counts": ("many", -1, NONE),
        },
    ),
    "differential_variability": (
        lambda w, **o: hc.differential_variability(**o),
        {**CELLS, "condition": "arm"},
        {
            **DATA,
            **GENES,
            **MODALITIES,
            **SMALL,
            "condition": (3, "nothing", NONE),
            "formula": (3, "~ nothing", NONE),
            "block": (3, "nothing", NONE),
            "contrast": (3, "nothing", NONE),
            **CONFIDENCE,
            **N_JOBS,
        },
    ),
    "direct_partners": (
        lambda w, **o: hc.direct_partners(**o),
        {"model": lambda w: w.model},
        {
            "model": (3, lambda w: w.within, NONE),
            "scale": (3, "sqrt", NONE),
            "shrinkage": ("much", 0.96, NONE),
            **SIZE,
            "n_bootstrap": ("many", 0, NONE),
            **CONFIDENCE,
            **SEED,
            **N_JOBS,
        },
    ),
    "decompose": (
        lambda w, **o: hc.decompose(**o),
        CELLS,
        {**DATA, **GENES, **TARGET, **PAIRS, **SMALL, **PROGRESS},
    ),
    "nearby_pairs": (
        lambda w, **o: hc.nearby_pairs(**o),
        {"data": lambda w: NEARBY},
        {
            "data": (3, NONE, NONE),
            "distance": ("far", -1, NONE),
            "anchor": (3, "middle", NONE),
            "kinds": (3, ("Gene Expression", "Guides"), NONE),
            **dict.fromkeys(("chrom", "start", "end", "strand"), (3, "nothing", NONE)),
        },
    ),
    "traps": (
        lambda w, **o: hc.traps(**o),
        {**CELLS, "target": "gene0"},
        {
            **DATA,
            **GENES,
            **TARGET,
            **MIN_CELLS,
            **MODALITIES,
            "block": (3, "nothing", ("pair", {"sample": "pair"})),
            "permutations": ("many", 5, NONE),
            **SEED,
        },
    ),
    "metacells": (
        lambda w, **o: hc.metacells(**o),
        CELLS,
        {
            **DATA,
            **MIN_CELLS,
            "size": ("small", 1, (7, {"labels": "kind"})),
            "labels": (3, "nothing", NONE),
            "n_genes": ("many", 1, (5, {"labels": "kind"})),
            "n_components": ("two", 0, (2, {"labels": "kind"})),
            **SEED,
        },
    ),
    "metacell_sensitivity": (
        lambda w, **o: hc.metacell_sensitivity(**o),
        {**CELLS, "target": "gene0", "sizes": (5,)},
        {
            **DATA,
            **GENES,
            **TARGET,
            "sizes": (5, (5, 0), NONE),
            "n_genes": ("many", 1, NONE),
            "n_components": ("two", 0, NONE),
            **SEED,
        },
    ),
    "check_design": (
        lambda w, **o: hc.check_design(**o),
        CELLS,
        {
            **DATA,
            **MIN_CELLS,
            **MODALITIES,
            "cell_type": (3, "nothing", NONE),
            "formula": (3, NONE, NONE),  # a wrong formula is one of the problems that are listed
            "block": (3, "nothing", ("pair", {"sample": "pair"})),
            "main_claim": ("yes", NONE, NONE),
            "review": ("yes", NONE, NONE),
        },
    ),
    "power": (
        lambda w, **o: planning.power(**o),
        {"samples": 8, "cells": 300},
        {
            "question": (3, "causal", NONE),
            "samples": ("many", 2, (8, {"power": 0.8})),
            "cells": ("many", 1, (300, {"power": 0.8})),
            "mean": ("high", 0.0, NONE),
            "rho": ("high", 1.5, NONE),
            "heterogeneity": ("low", 2.0, (0.3, {"question": "between"})),
            "power": ("high", 80, (0.8, {"cells": 300})),
            "alpha": ("low", 5, NONE),
            "tests": ("many", 0, NONE),
            "within_sd": ("low", -1.0, NONE),
            "between_sd": ("low", -1.0, (0.5, {})),
            "depth_sd": ("low", -1.0, NONE),
            "baseline": ("low", 1.5, (0.2, {})),
            "paired": ("yes", NONE, (True, {})),
            "covariates": ("sex", -1, (2, {})),
            "uncertainty": (3, "bootstrap", ("jackknife", {"question": "between"})),
            "correlated": ("many", 3, NONE),
            "samples_per_donor": ("two", 0, (2, {"question": "differential"})),
        },
    ),
    "evidence": (
        lambda w, **o: hc.evidence(**o),
        {"target": "gene0", "within": lambda w: w.within, "between": lambda w: w.between},
        {
            **TARGET,
            "within": (3, lambda w: w.between, NONE),
            "between": (3, lambda w: w.within, NONE),
            "exploratory": (3, NONE, NONE),
            "bayesian": (3, NONE, NONE),
            **Q,
        },
    ),
    "compare": (
        lambda w, **o: hc.compare(**o),
        {"results": lambda w: {"a": w.within, "b": w.target}},
        {"results": (3, {}, NONE), "pairs": (3, [("gene0", "nothing")], NONE)},
    ),
    "report": (
        lambda w, path="r.html", results=None, **o: hc.report(path, *(results or [w.target]), **o),
        {},
        {
            "path": (3, "nowhere/r.html", NONE),
            "results": ([3], NONE, NONE),
            "design": (3, NONE, NONE),
            "traps": (3, NONE, NONE),
            "evidence": (3, NONE, NONE),
            "enrichment": (3, NONE, NONE),
            "figures": (3, NONE, NONE),
            "findings": (3, NONE, NONE),
            "choices": (3, NONE, NONE),
            "links": (3, NONE, NONE),
            **GENE,
            "n": ("ten", 0, NONE),
            "title": (3, NONE, NONE),
            "language": (3, "latin", NONE),
        },
    ),
    "CorrelationResult.to_table": (
        lambda w, **o: w.within.to_table(**{"path": "r.csv", **o}),
        {},
        {
            "path": (3, "nowhere/r.csv", NONE),
            "overwrite": ("yes", NONE, NONE),
            **GENE,
            **Q,
            **SIZE,
            **N,
            "sort_by": (3, "none", NONE),
            "gene_ids": ("yes", True, NONE),
        },
    ),
    "analyze": (
        lambda w, **o: hc.analyze(**{"output": "analysis", **o}),
        {**CELLS, "target": "gene0", "sets": "none"},
        {
            **DATA,
            **GENES,
            **MODALITIES,
            **MIN_CELLS,
            **TARGET,
            **SETS,
            **Q,
            **SEED,
            **PROGRESS,
            "output": (3, "nowhere/analysis", NONE),
            "cell_type": (3, {"kind": "z"}, NONE),
            "condition": (3, "nothing", NONE),
            "block": (3, "nothing", NONE),
            "formula": (3, "~ nothing", NONE),
            "covariates": (3, "~ nothing", NONE),
            "title": (3, NONE, NONE),
            "overwrite": ("yes", NONE, NONE),
        },
    ),
    "datasets.path": (
        lambda w, **o: hc.datasets.path(**o),
        {"name": "ipsc_cycle"},
        {"name": (3, "nothing", NONE)},
    ),
    "load": (
        lambda w, **o: hc.load(**{"path": "r.nc", **o}),
        {},
        {"path": (3, "nowhere.zarr", NONE), "lazy": ("yes", NONE, NONE)},
    ),
    "planning.best_design": (
        lambda w, **o: planning.best_design(**o),
        {"design": lambda w: w.design, "donor_cost": 500, "cell_cost": 0.1},
        {
            "design": (3, NONE, NONE),
            "donor_cost": ("high", -1, NONE),
            "cell_cost": ("high", 0, NONE),
            "goal": ("high", 80, (0.9, {"budget": 9000})),
            "budget": ("large", -5, NONE),
        },
    ),
    "planning.pilot": (
        lambda w, **o: planning.pilot(**o),
        {**CELLS, "gene_a": "gene0", "gene_b": "gene1"},
        {**{k: DATA[k] for k in ("data", "sample", "depth")}, **PAIR},
    ),
    "planning.around": (
        lambda w, **o: planning.around(**o),
        {"design": lambda w: w.design, "over": "samples"},
        {
            "design": (3, NONE, NONE),
            "over": (3, "alpha", ("heterogeneity", {"design": lambda w: w.between_design})),
        },
    ),
    "planning.power_curve": (
        lambda w, **o: planning.power_curve(**o),
        {"design": lambda w: w.design, "over": "samples", "values": [8]},
        {
            "design": (3, NONE, NONE),
            "over": (3, "alpha", ("heterogeneity", {"design": lambda w: w.between_design})),
            "values": (3, [2], NONE),
        },
    ),
    "enrichment.gene_sets": (lambda w, **o: enrichment.gene_sets(**o), {}, SETS),
    "enrichment.enrich": (
        lambda w, **o: enrichment.enrich(**o),
        {"result": lambda w: w.target, "sets": GENE_SETS},
        {
            "result": (3, lambda w: w.no_q, NONE),
            "gene": (3, "nothing", NONE),
            **SETS,
            "partners": (3, ["nothing"], NONE),
            "q": ("small", 2.0, (0.1, {"partners": ["gene1"]})),
            "min_correlation": ("large", 2.0, (0.1, {"partners": ["gene1"]})),
            "direction": (3, "up", ("positive", {"partners": ["gene1"]})),
            **SET_SIZES,
        },
    ),
    "enrichment.gsea": (
        lambda w, **o: enrichment.gsea(**o),
        {"result": lambda w: w.target, "sets": GENE_SETS},
        {
            "result": (3, NONE, NONE),
            **GENE,
            **SETS,
            **SET_SIZES,
            "permutations": ("many", 0, NONE),
            **SEED,
        },
    ),
    "enrichment.sum_gene_sets": (
        lambda w, **o: enrichment.sum_gene_sets(**o),
        {"data": lambda w: w.data, "sets": GENE_SETS, "depth": "depth"},
        {
            **{k: DATA[k] for k in ("data", "layer", "depth", "gene_names")},
            **SETS,
            "keep": ("gene0", ["nothing"], NONE),
            "min_size": ("five", 0, NONE),
        },
    ),
    "modules.find_modules": (
        lambda w, **o: modules.find_modules(**o),
        {"result": lambda w: w.within, "q": None, "min_correlation": 0.1},
        {
            "result": (3, lambda w: w.target, NONE),
            "method": (3, "kmeans", NONE),
            **Q,
            **SIZE,
            "power": ("high", 0, NONE),
            "signed": ("yes", NONE, NONE),
            "resolution": ("high", 0, (2, {"method": "hierarchical"})),
            "n_modules": ("two", 0, (2, {"method": "leiden"})),
            "min_size": ("two", 0, NONE),
            "without": ("s1", NONE, NONE),
            **SEED,
        },
    ),
    "modules.write_graphml": (
        lambda w, **o: modules.write_graphml(**o),
        {"result": lambda w: w.within, "path": "g.graphml"},
        {
            "result": (3, NONE, NONE),
            "path": (3, "nowhere/g.graphml", NONE),
            **Q,
            **SIZE,
            "modules": (3, NONE, NONE),
        },
    ),
    "modules.preservation": (
        lambda w, **o: modules.preservation(**o),
        {"modules": GENE_SETS, "result": lambda w: w.within},
        {
            "modules": (3, {"a": ["nothing", "nobody"]}, NONE),
            "result": (3, lambda w: w.target, NONE),
            "permutations": ("many", 5, NONE),
            "donors": (3, {"s1": "d1"}, ({}, {"result": lambda w: w.between_all})),
            **SEED,
        },
    ),
    "modules.differential_connectivity": (
        lambda w, **o: modules.differential_connectivity(**o),
        {
            "modules": GENE_SETS,
            "result": lambda w: w.within,
            "groups": lambda w: dict(zip(w.within.dataset["sample"].values, "aabbb", strict=True)),
        },
        {
            "modules": (3, {"a": ["gene0", "nothing"]}, NONE),
            "result": (3, lambda w: w.target, NONE),
            "groups": (3, {"s1": "a"}, NONE),
            "donors": (3, {"s1": "d1"}, NONE),
            "confidence": ("high", 95, NONE),
        },
    ),
    "modules.connectivity": (
        lambda w, **o: modules.connectivity(**o),
        {"modules": GENE_SETS, "result": lambda w: w.within},
        {
            "modules": (3, {"a": ["gene0", "nothing"]}, NONE),
            "result": (3, lambda w: w.target, NONE),
        },
    ),
    "modules.centrality": (
        lambda w, **o: modules.centrality(**o),
        {"result": lambda w: w.within},
        {
            "modules": (3, {"a": ["gene0", "nothing"]}, NONE),
            "result": (3, lambda w: w.target, NONE),
        },
    ),
    "modules.compare_donors": (
        lambda w, **o: modules.compare_donors(**o),
        {
            "values": lambda w: modules.connectivity(GENE_SETS, w.within),
            "samples": lambda w: w.data.obs.drop_duplicates("sample").set_index("sample"),
            "condition": "arm",
        },
        {
            "values": (3, NONE, NONE),
            "samples": (3, lambda w: pd.DataFrame({"arm": ["a"]}, ["nobody"]), NONE),
            "condition": (3, "nothing", NONE),
            "formula": (3, "~ nothing", NONE),
            "block": (3, "nothing", NONE),
            "contrast": (3, "nothing", NONE),
            "moderated": ("yes", NONE, (True, {"contrast": "overall"})),
            **CONFIDENCE,
        },
    ),
    "modules.left_out_preservation": (
        lambda w, **o: modules.left_out_preservation(**o),
        {
            "fit": lambda w: lambda some: w.within,
            "samples": lambda w: list(w.within.dataset["sample"].values),
            "permutations": 100,
        },
        {
            "fit": (3, NONE, NONE),
            "samples": (3, ["s1", "s1"], NONE),
            "donors": (3, {"s1": "d1"}, NONE),
            "folds": ("two", 1, NONE),
            "permutations": ("many", 5, NONE),
            **SEED,
        },
    ),
    "modules.project": (
        lambda w, **o: modules.project(**o),
        {"weights": {"a": {"gene0": 1.0, "gene1": 2.0}}, "model": lambda w: w.model},
        {"weights": (3, {"a": 3}, NONE), "model": (3, NONE, NONE)},
    ),
    "datasets.read_gmt": (
        lambda w, **o: hc.datasets.read_gmt(**o),
        {},
        {"path": (3, "nowhere.gmt", NONE)},
    ),
    "simulate.simulate_counts": (
        lambda w, **o: simulate_counts(**o),
        {"n_samples": 3, "n_cells": 5, "n_genes": 4},
        {
            "n_samples": ("many", 0, NONE),
            "n_cells": ("many", 0, NONE),
            "n_genes": ("many", 1, NONE),
            "mean": ("high", 0.0, NONE),
            "within": ("high", 1.0, NONE),
            "between": ("high", 1.0, NONE),
            "within_sd": ("low", 0.0, NONE),
            "between_sd": ("low", 0.0, NONE),
            "heterogeneity": ("low", -1, NONE),
            "distribution": (3, "normal", NONE),
            "cell_imbalance": ("low", -1, (0.5, {"n_cells": [5, 6, 7]})),
            "depth_mean": ("high", 0, NONE),
            "depth_sd": ("low", -1, NONE),
            "depth_shift": ("low", -1, NONE),
            "covariates": (3, {"age": ([1, 2], 0.1)}, NONE),
            "donor": (3, ["a"], NONE),
            "donor_share": ("half", 2.0, (0.2, {})),
            **SEED,
        },
    ),
    "simulate.natural_correlation": (
        lambda w, **o: natural_correlation(**o),
        {"latent": 0.5, "sd_a": 0.5, "sd_b": 0.5},
        {
            "latent": ("high", 2.0, NONE),
            "sd_a": ("low", 0.0, NONE),
            "sd_b": ("low", 0.0, NONE),
        },
    ),
    "specification.read_specification": (
        lambda w, **o: specification.read_specification(**o),
        {},
        {"source": (3, "wihtin", NONE)},
    ),
}

RESULTS = {
    "CorrelationResult": (
        lambda w, **o: hc.CorrelationResult(**o),
        {},
        {"dataset": (3, xr.Dataset(), NONE)},
    ),
    "CorrelationResult.at": (
        lambda w, **o: w.within.at(**o),
        {},
        {"level": (3, "total", NONE)},
    ),
    "CorrelationResult.pair_idata": (
        lambda w, **o: w.bayes.fit_many("gene0").pair_idata(**o),
        {"gene_a": "gene0", "gene_b": "gene1"},
        {**PAIR},
    ),
    "CorrelationResult.adjust": (
        lambda w, **o: w.within.adjust(**o),
        {},
        {
            "method": (3, "sidak", NONE),
            "family": (3, "none", NONE),
            "level": ("low", 5, (0.1, {"method": "by"})),
        },
    ),
    "CorrelationResult.prediction_interval": (
        lambda w, **o: w.within.prediction_interval(**o),
        {},
        CONFIDENCE,
    ),
    "CorrelationResult.of": (
        lambda w, **o: w.target.of(**o),
        {"target": "gene0"},
        {**TARGET},
    ),
    "CorrelationResult.top": (
        lambda w, **o: w.within.top(**o),
        {"gene": "gene0"},
        {**GENE, **N, "sort_by": (3, "q_value", NONE)},
    ),
    "CorrelationResult.pairs": (
        lambda w, **o: w.within.pairs(**o),
        {},
        {**Q, **SIZE, **N, "sort_by": (3, "q_value", NONE)},
    ),
    "CorrelationResult.matrix": (
        lambda w, **o: w.within.matrix(**o),
        {},
        {"variable": (3, "nothing", NONE)},
    ),
    "CorrelationResult.coefficients": (
        lambda w, **o: w.between.coefficients(**o),
        {},
        {"term": (3, "nothing", NONE)},
    ),
    "CorrelationResult.contrasts": (
        lambda w, **o: w.pairwise.contrasts(**o),
        {},
        {**PAIR, "q": ("many", 5, NONE)},
    ),
    "CorrelationResult.sample_table": (
        lambda w, **o: w.within.sample_table(**o),
        {"gene_a": "gene0", "gene_b": "gene1"},
        PAIR,
    ),
    "CorrelationResult.summary": (
        lambda w, **o: w.within.summary(**o),
        {"gene": "gene0"},
        {**GENE, **N},
    ),
    "CorrelationResult.save": (
        lambda w, **o: w.within.save(**o),
        {"path": "r.nc"},
        {**PATH, "overwrite": ("yes", NONE, NONE)},
    ),
    "CorrelationResult.to_anndata": (
        lambda w, **o: w.within.to_anndata(**o),
        {"adata": lambda w: w.data},
        {"adata": (3, lambda w: w.data[:, :3], NONE), "key": (3, NONE, NONE)},
    ),
    "CorrelationResult.to_networkx": (
        lambda w, **o: w.within.to_networkx(**o),
        {},
        {**Q, **SIZE},
    ),
    "CellTypes.top": (
        lambda w, **o: w.types.top(**o),
        {"gene": "gene0"},
        {**GENE, **N},
    ),
    "CellTypes.summary": (lambda w, **o: w.types.summary(**o), {}, {**GENE, **N}),
    "CellTypes.pairs": (lambda w, **o: w.types.pairs(**o), {}, {**Q, **SIZE, **N}),
    "CellTypes.save": (
        lambda w, **o: w.types.save(**o),
        {"path": "r.nc"},
        {**PATH, "overwrite": ("yes", NONE, NONE)},
    ),
    "Evidence.of": (lambda w, **o: w.evidence.of(**o), {}, {"name": (3, "strong", NONE)}),
    "Traps.without_leading_cells": (
        lambda w, **o: hc.Traps("gene0", None, {}, w.parts).without_leading_cells(**o),
        {"names": ["cell0"]},
        {"names": (3, NONE, NONE), "share": ("x", 1.5, NONE)},
    ),
    "modules.Modules.of": (
        lambda w, **o: w.modules.of(**o),
        {},
        {"module": ("first", 99, NONE)},
    ),
}

TABLE = {**MODELS, **FUNCTIONS, **RESULTS}


def cases():
    """Yield an identifier, the name of the call, the option, its bad value and other options."""
    for name, (_, _, options) in TABLE.items():
        for option, (wrong_type, wrong_value, without_effect) in options.items():
            value, others = (NONE, {}) if without_effect is NONE else without_effect
            for kind, bad, more in (
                ("type", wrong_type, {}),
                ("value", wrong_value, {}),
                ("effect", value, others),
            ):
                if bad is not NONE:
                    yield pytest.param(name, option, bad, more, id=f"{name}-{option}-{kind}")


def resolved(world, value):
    """Return a value of the table; functions take it from the shared results."""
    return value(world) if inspect.isfunction(value) else value


def names_of(value):
    """List the strings in a value: names of genes, columns, files, options."""
    if isinstance(value, str):
        return [value]
    if isinstance(value, list | tuple | dict):
        inside = [*value, *(value.values() if isinstance(value, dict) else ())]
        return [name for part in inside for name in names_of(part)]
    return []


def is_named(message, option, value):
    """Check that a message names an option, or a name that was given."""
    words = option.removesuffix("s").replace("_", " ")
    return words in message.replace("_", " ") or any(n in message for n in names_of(value))


@pytest.mark.parametrize(("name", "option", "bad", "more"), list(cases()))
def test_bad_option_is_refused_by_name(world, name, option, bad, more, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    call, given, _ = TABLE[name]
    options = {k: resolved(world, v) for k, v in {**given, **more, option: bad}.items()}
    before = world.data.obs.copy()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with pytest.raises(hc.InputError) as caught:
            call(world, **options)
    message = str(caught.value)
    assert is_named(message, option, bad), message
    assert "\n" not in message
    assert not list(tmp_path.iterdir())  # nothing half-written is left
    pd.testing.assert_frame_equal(world.data.obs, before)


def test_a_seed_alone_is_accepted(world, quiet):
    """A seed is common to all calls, also of methods that draw nothing."""
    seeded = world.model.fit(target="gene0", seed=1)
    np.testing.assert_array_equal(seeded.matrix(), world.target.matrix())
    modules.find_modules(world.within, "hierarchical", q=None, min_correlation=0.1, seed=1)


_RETURNED = (  # results, which users do not make
    "Analysis",
    "CellTypes",
    "Comparison",
    "DesignCheck",
    "Evidence",
    "Flag",
    "Traps",
    "planning.Design",
    "modules.Modules",
    "specification.Specification",
)
_PLOTS = ("Comparison.plot", "Traps.plot")  # of hiercorr.plotting


def public_calls():
    """Yield the name and the function of every public call, methods included."""
    places = [("", hc)] + [
        (f"{module.__name__.removeprefix('hiercorr.')}.", module)
        for module in (planning, enrichment, modules, hc.datasets, hc.simulate, specification)
    ]
    for prefix, module in places:
        for short in getattr(module, "__all__", None) or vars(module):
            value = getattr(module, short)
            name = f"{prefix}{short}"
            if isinstance(value, ModuleType | str) or short.startswith("_"):
                continue
            home = str(getattr(value, "__module__", ""))
            if prefix and not home.startswith(module.__name__):  # imported there
                continue
            if inspect.isfunction(value):
                yield name, value
            elif inspect.isclass(value) and not issubclass(value, Warning | Exception):
                if name not in _RETURNED:
                    yield name, value
                for method, function in vars(value).items():
                    if inspect.isfunction(function) and not method.startswith("_"):
                        yield f"{name}.{method}", function


def options_of(function):
    """List the options of a call."""
    options = inspect.signature(function).parameters.values()
    kinds = inspect.Parameter.VAR_KEYWORD
    return {p.name for p in options if p.kind is not kinds and p.name != "self"}


def test_every_option_of_every_public_call_stands_in_the_table():
    wanted = {
        name: options_of(function)
        for name, function in public_calls()
        if name not in _PLOTS and options_of(function)
    }
    wanted.pop("planning.power")  # hiercorr.power
    found = {name: set(options) for name, (_, _, options) in TABLE.items()}
    assert found == wanted
