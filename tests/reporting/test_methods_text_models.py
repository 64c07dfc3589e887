"""Every model with every option: its Methods paragraph names what was run, and only that."""

import inspect
import re
import warnings
from functools import cache, lru_cache, partial
from pathlib import Path

import numpy as np
import pytest

import hiercorr as hc
from hiercorr.enrichment import enrich, gsea, sum_gene_sets
from hiercorr.modules import find_modules
from hiercorr.reporting.methods_text import MODELS, citations, methods_text
from hiercorr.reporting.references import REFERENCES
from hiercorr.reporting.translations import translate

pytestmark = pytest.mark.filterwarnings("ignore")

GENES = (
    "FTL",
    "FTH1",
    "MT-RNR2",
    "SPP1",
    "TMSB4X",
    "MALAT1",
    "MT2A",
    "CLU",
    "ACTG1",
    "ACTB",
    "GAPDH",
    "TMSB10",
)
VEHICLE = {"condition": "ctrl"}
DEPTH = {"depth": "total_counts"}


@lru_cache(maxsize=1)
def cells():
    """2,500 cells of 10 samples, with covariates of cells."""
    adata = hc.datasets.glioblastoma()[::2].copy()
    adata.obs["phase"] = np.where(np.arange(adata.n_obs) % 2, "S", "G1")
    adata.obs["mito"] = np.asarray(adata[:, "MT-RNR2"].X.todense()).ravel() / 1e4
    adata.obs["lane"] = adata.obs["patient_id"].astype(str) + "-" + adata.obs["phase"].astype(str)
    return adata


def within(*, model=None, **options):
    made = {"sample": "sample_id", "genes": list(GENES), "subset": VEHICLE, **DEPTH}
    alone = {} if options.keys() & {"uncertainty", "estimator"} else {"uncertainty": "jackknife"}
    return hc.CSCore(cells(), **made | (model or {})).fit(**alone | options)


def signature(*genes, **options):
    model = hc.CSCore(cells(), "sample_id", list(GENES), subset=VEHICLE, **DEPTH)
    return model.signature(genes, "ferritin", **options)


def score(column, *, model=None, **options):
    made = hc.CSCore(cells(), "sample_id", list(GENES), subset=VEHICLE, **DEPTH, **(model or {}))
    return made.score(column, **options)


def direct(**options):
    model = hc.CSCore(cells(), "sample_id", list(GENES), subset=VEHICLE, **DEPTH)
    return hc.direct_partners(model, **options)


def by_type(**options):
    fit = {"uncertainty": "jackknife", **options.pop("fit", {})}
    made = {"genes": list(GENES), **DEPTH, **options}
    return hc.by_cell_type(cells(), "condition", "sample_id", fit=fit, **made)


def unequal_types():
    adata = cells()
    few = (adata.obs["condition"] == "ctrl") & ~adata.obs["patient_id"].isin(["PW030", "PW032"])
    adata = adata[~few | (np.arange(adata.n_obs) % 100 == 0)].copy()
    made = {"genes": list(GENES), "fit": {"uncertainty": "jackknife"}, **DEPTH}
    return hc.by_cell_type(adata, "condition", "sample_id", **made)


def differences(condition="condition", **options):
    made = {"sample": "sample_id", "genes": list(GENES), "target": "FTL", **DEPTH}
    if not {"method", "permutations", "uncertainty"} & set(options):
        made["uncertainty"] = "HC2"
    return hc.differential(cells(), condition=condition, **made | options)


def between(*, model=None, **options):
    made = {"sample": "sample_id", "genes": list(GENES), **DEPTH}
    return hc.Pseudobulk(cells(), **made | (model or {})).fit(**options)


def naive(*fit, model=None, **options):
    made = {"sample": "sample_id", "genes": list(GENES), "subset": VEHICLE, **DEPTH}
    return hc.CellCorrelation(cells(), **made | (model or {})).fit(*fit, **options)


@lru_cache(maxsize=1)
def sampled():
    """A posterior of two genes in 100 cells."""
    adata = cells()[::25].copy()
    model = hc.BayesianCorrelation(
        adata,
        "sample_id",
        list(GENES[:2]),
        "~ condition",
        block="patient_id",
        min_cells=5,
        **DEPTH,
    )
    short_chains = {"draws": 100, "tune": 100, "chains": 2, "seed": 2, "target_accept": 0.8}
    return model.fit(**short_chains, rope=0.2, confidence=0.9)


def joint():
    """A joint posterior of two genes in 100 cells."""
    adata = cells()[::25].copy()
    model = hc.BayesianCorrelation(
        adata, "sample_id", list(GENES[:2]), min_cells=5, heterogeneity=False, **DEPTH
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return model.fit(method="joint", draws=100, tune=100, chains=2, seed=2, progress=False)


def restated(**attrs):
    """The posterior with the attributes that slower options would give."""
    dataset = sampled().dataset
    kept = {k: v for k, v in dataset.attrs.items() if attrs.get(k, v) is not None}
    return hc.CorrelationResult(dataset.assign_attrs({}).pipe(_with, kept | attrs))


def _with(dataset, attrs):
    dataset.attrs = {k: v for k, v in attrs.items() if v is not None}
    return dataset


def empirical_bayes(model=None, **options):
    made = {"sample": "sample_id", "genes": list(GENES[:4]), "min_cells": 5, **DEPTH}
    adata = cells()[::10].copy()
    return hc.BayesianCorrelation(adata, **made | (model or {})).fit_many("FTL", **options)


def of_metacells(**options):
    made = hc.metacells(cells(), "sample_id", subset=VEHICLE, **DEPTH, **options)
    return hc.CSCore(made, "sample_id", list(GENES), depth="depth", min_cells=2).fit(
        "within", "jackknife", target="FTL"
    )


def labelled_metacells():
    adata = cells()
    adata.obs["pool"] = [f"{s}-{k % 25}" for k, s in enumerate(adata.obs["sample_id"])]
    return of_metacells(labels="pool")


def of_gene_sets():
    adata = sum_gene_sets(cells(), {"mito": ["MT-RNR2", "MT-CO1"]}, keep=["FTL"], min_size=1)
    return hc.CSCore(adata, "sample_id", depth="hiercorr_depth").fit(target="FTL")


def evidence():
    return hc.evidence("FTL", within(target="FTL"), between(target="FTL"), q=0.1)


def enriched(**options):
    return enrich(within(target="FTL"), sets={"two": ["FTH1", "SPP1"]}, min_size=1, **options)


def ranked():
    return gsea(within(target="FTL"), sets="hallmark", min_size=1, permutations=20, seed=3)


def expressed():
    return hc.differential_expression(
        cells()[:, list(GENES)].copy(),
        "sample_id",
        "~ condition",
        ("condition", "panobinostat", "ctrl"),
        block="patient_id",
        **DEPTH,
    )


def variable(**options):
    made = {"genes": list(GENES), "block": "patient_id", "confidence": 0.9, **DEPTH, **options}
    return hc.differential_variability(cells(), "sample_id", "condition", **made)


SETS = {"ferritin": ["FTL", "FTH1"], "three": ["SPP1", "CLU", "MT2A"]}


def with_modules(method="module_correlation", **options):
    model = hc.CSCore(cells(), "sample_id", genes=list(GENES), subset=VEHICLE, **DEPTH)
    return getattr(model, method)(sets=SETS, **options)


def different_modules(**options):
    made = {"genes": list(GENES), "block": "patient_id", "confidence": 0.9, **DEPTH, **options}
    return hc.modules.differential_correlation(cells(), "sample_id", "condition", SETS, **made)


def traits(model=None, **options):
    made = hc.Pseudobulk(cells(), "sample_id", **DEPTH, **(model or {}))
    return made.module_traits(SETS, "condition", **options)


def compared(**options):
    adata = cells()
    model = hc.CSCore(adata, "sample_id", genes=list(GENES), **DEPTH)
    r = model.fit(per_sample=True, uncertainty="none")
    samples = adata.obs.drop_duplicates("sample_id").set_index("sample_id")
    values = hc.modules.connectivity(SETS, r)
    return hc.modules.compare_donors(values, samples, "condition", **options)


def preserved(**options):
    r = within(target=None)
    return hc.modules.preservation(SETS, r, **{"permutations": 100, **options})


def modules(**options):
    return find_modules(within(), min_correlation=0.1, q=0.5, min_size=2, **options).table


CSCORE, BH = "Su et al. 2023", "Benjamini & Hochberg 1995"
T_OF_SAMPLES = "Satterthwaite 1946"
JACKKNIFE = {CSCORE, "Miller 1974", T_OF_SAMPLES, BH}
HIERARCHICAL = {CSCORE, "Kiefer & Wolfowitz 1956", "Stephens 2017", "Harville 1977", BH}
OVERALL = {CSCORE, "MacKinnon & White 1985", "Pustejovsky & Tipton 2018", BH}
HC2 = {CSCORE, "MacKinnon & White 1985", "Bell & McCaffrey 2002", BH}
TMM = {"Robinson & Oshlack 2010", "Robinson et al. 2010", BH}
POSTERIOR = {"Aitchison & Ho 1989", "Kruschke 2018", "Lewandowski et al. 2009"}
CHECKED = {"Vehtari et al. 2021", "Kumar et al. 2019", "Betancourt 2016"}
NUTS = POSTERIOR | CHECKED | {"Hoffman & Gelman 2014"}
NUTPIE, PYMC = "Seyboldt et al. 2026", "Abril-Pla et al. 2023"
META = {"Paule & Mandel 1982", "Higgins & Thompson 2002", "Nagashima et al. 2019"}
GSEAPY = "Fang et al. 2023"

COVARIATES = {"model": {"covariates": "~ mito + gender"}}
DONOR = {"formula": "~ condition", "block": "patient_id"}
TYPES = {"cell_type": "phase"}
FTL = {"target": "FTL"}
DRUG = {"contrasts": {"drug": ("condition", "panobinostat", "ctrl")}}

# name -> (result, fragments of the text, exactly these citations)
CASES = {
    # CSCore.fit
    "within": (
        within,
        [
            "between all pairs of 12 genes (selected by name) were estimated within samples",
            "1,250 cells (condition: ctrl) from 5 samples",
            "total_counts as sequencing depth",
            "centred within each sample and pooled over samples as ratios of sums",
            "leaving one sample out",
            "95% confidence intervals",
            "Benjamini-Hochberg procedure",
            "over all distinct pairs of genes",
        ],
        JACKKNIFE,
    ),
    "donors in a hierarchical model": (
        lambda: within(uncertainty=None, confidence=0.9),
        [
            "The sample is the unit of inference, in a hierarchical model",
            "over 66 pairs by nonparametric maximum likelihood",
            "weighted by the inverse of their sampling variance plus that between samples",
            "90% confidence intervals",
        ],
        HIERARCHICAL,
    ),
    "hierarchical, equal weights": (
        lambda: within(uncertainty="hierarchical", weights="equal", target="FTL"),
        ["samples were weighted equally"],
        HIERARCHICAL,
    ),
    "information": (
        lambda: within(uncertainty="hierarchical", weights="information", target="FTL"),
        ["samples were weighted by their information"],
        HIERARCHICAL,
    ),
    "samples in donors": (
        lambda: within(uncertainty=None, model={"subset": None, "block": "patient_id"}),
        [
            "Samples of the same patient_id were added up, and 5 donors are the units",
            "The donor is the unit of inference",
        ],
        HIERARCHICAL,
    ),
    "samples in donors, jackknife": (
        lambda: within(model={"subset": None, "block": "patient_id"}, target="FTL"),
        ["5 donors are the units", "leaving one donor out at a time"],
        JACKKNIFE,
    ),
    "row sums": (
        partial(within, model={"depth": None}),
        ["each cell's total count as sequencing depth"],
        JACKKNIFE,
    ),
    "depth array, mask": (
        lambda: within(
            model={
                "depth": cells().obs["total_counts"].to_numpy(),
                "subset": cells().obs["condition"].to_numpy() == "ctrl",
            }
        ),
        ["user-supplied sequencing depths", "1,250 cells (selected by a mask)"],
        JACKKNIFE,
    ),
    "small samples": (
        lambda: within(
            model={"subset": {**VEHICLE, "phase": ["S", "G1"]}, "min_cells": 5, "sample": "lane"},
            target="FTL",
        ),
        ["condition: ctrl; phase: S, G1", "from 10 samples"],
        JACKKNIFE,
    ),
    "excluded": (
        lambda: hc.CSCore(
            cells()[: 250 * 4 + 5].copy(), "sample_id", list(GENES), min_cells=20, **DEPTH
        ).fit(target="FTL"),
        ["Samples with fewer than 20 cells were excluded"],
        HIERARCHICAL,
    ),
    "target, per sample, confidence": (
        partial(within, per_sample=True, confidence=0.9, **FTL),
        [
            "between FTL and 11 other genes",
            "90% confidence intervals",
            "estimated in each sample",
            "tau^2",
            "I^2",
            "95% prediction interval",
            "over the pairs with FTL",
        ],
        JACKKNIFE | META,
    ),
    "bootstrap": (
        partial(within, uncertainty="bootstrap", n_bootstrap=200, seed=7),
        ["bootstrap over samples", "200 resamples", "seed 7"],
        {CSCORE, "Efron 1979", T_OF_SAMPLES, BH},
    ),
    "cluster": (
        partial(within, uncertainty="cluster"),
        ["cluster-robust sandwich estimator with samples as clusters"],
        {CSCORE, "Bell & McCaffrey 2002", T_OF_SAMPLES, BH},
    ),
    "no uncertainty": (
        partial(within, uncertainty="none"),
        ["No uncertainty over samples was estimated."],
        {CSCORE},
    ),
    "two samples": (
        lambda: within(
            model={"subset": {**VEHICLE, "patient_id": ["PW030", "PW032"]}},
        ),
        ["from 2 samples", "because at least 3 samples are needed"],
        {CSCORE},
    ),
    "pooled": (
        partial(within, estimator="pooled"),
        ["over all cells, pooled across samples", "as published", "cell-level test"],
        JACKKNIFE,
    ),
    "pooled, no samples": (
        partial(within, model={"sample": None}, estimator="pooled"),
        ["were estimated over all cells from raw counts", "in 1,250 cells (condition: ctrl), with"],
        {CSCORE},
    ),
    "covariates of cells": (
        partial(within, **COVARIATES),
        [
            "Covariates of cells (mito) were regressed out of the counts within each sample",
            "constant within samples (gender)",
        ],
        JACKKNIFE,
    ),
    "covariates, pooled": (
        partial(within, estimator="pooled", **COVARIATES),
        [
            "The covariates mito and gender entered the mean, variance and covariance regressions",
            "with effects on expression",
            "after centring and scaling",
            "No uncertainty",
        ],
        {CSCORE},
    ),
    "covariates, pooled, options": (
        partial(
            within,
            estimator="pooled",
            standardize=False,
            covariate_level="count",
            adjust=("mean",),
            **COVARIATES,
        ),
        ["entered the mean regression of CS-CORE, with effects on the observed counts."],
        {CSCORE},
    ),
    # CorrelationResult.adjust
    "BY": (
        lambda: within().adjust("by"),
        ["Benjamini-Yekutieli procedure"],
        JACKKNIFE - {BH} | {"Benjamini & Yekutieli 2001"},
    ),
    "Storey": (
        lambda: within().adjust("storey"),
        ["Storey procedure"],
        JACKKNIFE - {BH} | {"Storey et al. 2004"},
    ),
    "hierarchical": (
        lambda: within().adjust("hierarchical", level=0.1),
        ["adjusted hierarchically", "Simes p-values", "at level 0.1"],
        JACKKNIFE | {"Simes 1986", "Benjamini & Bogomolov 2014"},
    ),
    "family": (
        lambda: within().adjust("bh", family="gene"),
        ["over the pairs of each gene separately"],
        JACKKNIFE,
    ),
    # CSCore.signature
    "signature": (
        partial(signature, "FTL", "FTH1", uncertainty="jackknife"),
        [
            "between the signature ferritin and 12 genes",
            "signature of 2 genes",
            "equal weights",
            "over the pairs with ferritin",
        ],
        JACKKNIFE,
    ),
    "signature, expression": (
        partial(signature, "FTL", "FTH1", weights="expression", uncertainty="cluster"),
        ["plain sum of the genes' expression", "cluster-robust"],
        {CSCORE, "Bell & McCaffrey 2002", T_OF_SAMPLES, BH},
    ),
    "signature, weights": (
        partial(
            signature,
            "FTL",
            "FTH1",
            weights={"FTL": 1.0, "FTH1": -1.0},
            confidence=0.8,
            uncertainty="jackknife",
        ),
        ["user-supplied weights", "80% confidence intervals"],
        JACKKNIFE,
    ),
    # CSCore.score
    "score": (
        partial(score, "mito", uncertainty="jackknife"),
        [
            "between the cell score mito and 12 genes",
            "scaled to the same variance in each sample and taken as measured",
            "over the pairs with mito",
        ],
        JACKKNIFE,
    ),
    "score, levels and covariates": (
        partial(score, "phase", model={"covariates": "~ mito"}, uncertainty="jackknife"),
        [
            "1 for cells of the level S and 0 for the others",
            "(mito) were regressed out of the counts and the score",
        ],
        JACKKNIFE,
    ),
    # by_cell_type
    "cell types": (
        partial(by_type, fit=FTL),
        [
            "each of 2 cell types separately (ctrl: 1,250 cells from 5 samples; panobinostat: ",
            "over the pairs with FTL in 2 cell types together",
        ],
        JACKKNIFE,
    ),
    "cell types, family": (
        partial(by_type, family="type"),
        ["over all distinct pairs of genes, separately for each cell type"],
        JACKKNIFE,
    ),
    "one of the cell types": (
        lambda: by_type(fit=FTL)["ctrl"],
        ["condition: ctrl", "over the pairs with FTL in 2 cell types together"],
        JACKKNIFE,
    ),
    "unequal cell types": (
        unequal_types,
        ["from 2 samples", "except in ctrl (fewer than 3 samples)", "Samples with fewer than 10"],
        JACKKNIFE,
    ),
    # differential
    "differential": (
        differences,
        [
            "Differences in correlations of expression between FTL and 11 other genes",
            "between levels of condition",
            "regressed on condition, weighted",
            "contrast was condition[T.panobinostat]",
            "HC2",
            "95% confidence intervals",
            "two-sided t tests of no difference",
            "over the pairs with FTL",
        ],
        HC2,
    ),
    "differential, hierarchical": (
        partial(differences, uncertainty="hierarchical"),
        [
            "in a random-effects regression",
            "variance between samples in each group",
            "over 66 pairs",
            "Two-sided p-values of no difference average",
        ],
        {CSCORE, "Kiefer & Wolfowitz 1956", "Stephens 2017", "Harville 1977", BH},
    ),
    "differential, pairs of groups": (
        partial(differences, contrast="pairwise"),
        [
            "the null hypothesis was equality of ctrl, panobinostat",
            "an F distribution with 1 numerator degrees of freedom",
            "adjusted by Holm's procedure",
        ],
        OVERALL | {"Holm 1979"},
    ),
    "differential, block": (
        partial(differences, block="patient_id", target=None, confidence=0.9),
        ["with fixed effects of patient_id", "90% confidence", "over all distinct pairs"],
        HC2,
    ),
    "differential, covariates": (
        partial(differences, formula="~ gender + mito"),
        ["Covariates of cells (mito)", "regressed on condition, adjusting for gender"],
        HC2,
    ),
    "differential, slope": (
        partial(differences, "age", subset=VEHICLE),
        ["Slopes of correlations", "on age", "(condition: ctrl)"],
        HC2,
    ),
    "differential, contrast": (
        partial(
            differences,
            "patient_id",
            contrast=("patient_id", "PW034", "PW030"),
            subset={"patient_id": ["PW030", "PW032", "PW034"]},
        ),
        ["contrast was patient_id[T.PW034]"],
        HC2,
    ),
    "differential, within samples": (
        partial(differences, "phase", block="sample_id", subset=VEHICLE),
        ["10 combinations of sample and phase", "each unit's", "fixed effects of sample_id"],
        HC2,
    ),
    "differential, exact": (
        partial(differences, block="patient_id", permutations=100),
        [
            "permuting condition over samples within patient_id",
            "studentised",
            "all 32 possible permutations",
        ],
        HC2 | {"Janssen 1997"},
    ),
    "differential, Monte Carlo": (
        partial(differences, permutations=50, seed=3),
        ["permuting condition over samples, with", "50 random permutations, seed 3"],
        HC2 | {"Janssen 1997", "Phipson & Smyth 2010"},
    ),
    "differential, pooled": (
        partial(differences, method="pooled"),
        ["Fisher's z scale", "Welch-Satterthwaite", "jackknife", "95% confidence intervals"],
        {CSCORE, "Miller 1974", "Welch 1947", BH},
    ),
    "differential, pooled, cluster": (
        partial(differences, method="pooled", uncertainty="cluster"),
        ["cluster-robust"],
        {CSCORE, "Bell & McCaffrey 2002", "Welch 1947", BH},
    ),
    "differential, adjusted": (
        lambda: differences(target=None).adjust("by"),
        ["Benjamini-Yekutieli"],
        HC2 - {BH} | {"Benjamini & Yekutieli 2001"},
    ),
    # Pseudobulk
    "pearson": (
        between,
        [
            "summed over the cells of each of 10 samples (2,500 cells, with total_counts",
            "TMM",
            ". Pearson correlations between samples",
            "between all pairs of 12 genes",
            "prior count 2",
            "two-sided t tests",
            "over all distinct pairs",
            "The sample is the unit of inference",
        ],
        TMM,
    ),
    "partial": (
        partial(between, model=DONOR, method="partial", confidence=0.9),
        ["Partial Pearson", "adjusting for condition", "fixed effects of patient_id", "90%"],
        TMM,
    ),
    "median of ratios": (
        partial(between, model={"normalization": "median_of_ratios"}),
        ["median of ratios"],
        TMM - {"Robinson & Oshlack 2010"} | {"Anders & Huber 2010"},
    ),
    "cpm": (
        partial(between, model={"normalization": "cpm"}),
        ["total depths were used as library sizes", "without further normalisation"],
        TMM - {"Robinson & Oshlack 2010"},
    ),
    "shallow": (
        lambda: between(model={"min_counts": 170_000}),
        ["Samples with fewer than 170,000 counts in total were excluded"],
        TMM,
    ),
    "spearman": (
        partial(between, model={"subset": VEHICLE}, method="spearman"),
        [". Spearman correlations", "exact p-values", "(condition: ctrl)"],
        TMM | {"Kendall et al. 1939", "Fieller et al. 1957"},
    ),
    "spearman, partial": (
        partial(between, model={"formula": "~ condition"}, method="spearman"),
        ["Partial Spearman", "adjusting for condition", "t tests"],
        TMM | {"Fieller et al. 1957"},
    ),
    "ols": (
        partial(between, **FTL),
        [
            "each of 11 genes (selected by name) were regressed on the log2 counts per million of",
            "ordinary least squares",
            "partial correlations",
            "two-sided t tests",
            "over the pairs with FTL",
        ],
        TMM,
    ),
    "hc3, interaction, contrast": (
        partial(
            between,
            model={"formula": "~ condition"},
            method="hc3",
            interaction="condition",
            **DRUG,
            **FTL,
        ),
        [
            "HC3 heteroscedasticity-consistent",
            "allowed to depend on condition (interaction)",
            "drug: condition, panobinostat, ctrl",
        ],
        TMM | {"MacKinnon & White 1985"},
    ),
    "voom": (
        partial(between, method="voom", **FTL),
        ["voom precision weights"],
        TMM | {"Law et al. 2014"},
    ),
    "moderated": (
        partial(between, moderated=True, **FTL),
        [
            "moderated across genes by empirical Bayes (Smyth 2004)",
            "shrunk towards a common value, with ",
            " prior degrees of freedom",
            "ratio of moderated to ordinary standard error",
        ],
        TMM | {"Smyth 2004"},
    ),
    "moderated, trend and robust": (
        partial(between, moderated=("trend", "robust"), **FTL),
        [
            "a trend in mean log expression, estimated robustly against hypervariable genes",
            "(Smyth 2004; Phipson et al. 2016)",
            "a median of ",
        ],
        TMM | {"Smyth 2004", "Phipson et al. 2016"},
    ),
    "moderated voom": (
        partial(between, method="voom", moderated="trend", **FTL),
        ["voom precision weights", "moderated across genes"],
        TMM | {"Law et al. 2014", "Smyth 2004"},
    ),
    "negative binomial": (
        partial(between, method="negative_binomial", **FTL),
        ["negative-binomial regression", "library size as offset", "Wald t tests"],
        TMM | {"Seabold & Perktold 2010", "Breslow 1984"},
    ),
    "corrected": (
        partial(between, model={"formula": "~ condition"}, method="corrected", seed=4),
        ["sampling noise of the sample means", "generalised pivotal quantity", "seed 4"],
        TMM - {"Robinson et al. 2010"} | {"Weerahandi 1993"},
    ),
    "block correlation": (
        partial(between, model=DONOR | {"block_method": "correlation"}, method="voom", **FTL),
        ["consensus correlation of 0.", "samples of the same patient_id", "adjusting for"],
        TMM | {"Law et al. 2014", "Smyth et al. 2005"},
    ),
    "clustered": (
        partial(between, model=DONOR | {"block_method": "cluster"}, **FTL),
        ["CR2 standard errors clustered by patient_id"],
        TMM | {"Bell & McCaffrey 2002", "Pustejovsky & Tipton 2018"},
    ),
    "cell types in samples": (
        partial(between, model={"cell_type": "phase", "min_cells": 5}),
        [
            "20 combinations of sample and phase",
            "adjusting for phase",
            "samples of the same sample_id",
        ],
        TMM | {"Smyth et al. 2005"},
    ),
    "exact permutation": (
        partial(between, model={"block": "patient_id"}, permutations=50),
        ["permuting samples within patient_id (all 32 possible permutations)"],
        TMM,
    ),
    "Freedman-Lane": (
        partial(between, model=DONOR, permutations=50, **FTL),
        ["permuting the residuals given the covariates within patient_id"],
        TMM | {"Freedman & Lane 1983"},
    ),
    "Monte Carlo permutation": (
        partial(between, method="spearman", permutations=50, seed=2),
        ["permuting samples (50 random permutations, seed 2"],
        TMM | {"Fieller et al. 1957", "Phipson & Smyth 2010"},
    ),
    # BayesianCorrelation
    "joint": (
        joint,
        ["All genes were modelled jointly", "2 chains of 100"],
        {
            "Aitchison & Ho 1989",
            "Barnard, McCulloch & Meng 2000",
            "Kruschke 2018",
            "Kumar et al. 2019",
            "Vehtari et al. 2021",
            "Yu & Meng 2011",
        },
    ),
    "posterior": (
        sampled,
        [
            "Poisson-lognormal hierarchical model",
            "100 cells from 10 samples",
            "between 2 genes (selected by name) were modelled within and between samples",
            "sample means depend on condition",
            "Samples of the same patient_id",
            "vary over samples with a normal distribution",
            "No-U-Turn",
            "2 chains of 100 draws after 100 tuning steps, target acceptance 0.8",
            "seed 2",
            "90% highest-density intervals",
            "within 0.2 of zero",
            "halfnormal(sigma=0.3)",
            "beta(alpha=1, beta=1)",
        ],
        NUTS | {NUTPIE},
    ),
    "posterior between": (
        lambda: sampled().at("between"),
        ["modelled within and between samples"],
        NUTS | {NUTPIE},
    ),
    "structure": (
        partial(
            restated,
            structure="within",
            heterogeneity=0,
            block=None,
            prior_z_within="normal(mu=0, sigma=0.5)",
        ),
        ["within samples only", "same in all samples", "normal(mu=0, sigma=0.5)"],
        NUTS - {"Lewandowski et al. 2009"} | {NUTPIE},
    ),
    "independent": (
        partial(restated, structure="independent", heterogeneity=0),
        ["without correlation between 2 genes"],
        NUTS - {"Lewandowski et al. 2009"} | {NUTPIE},
    ),
    "PyMC": (
        partial(restated, estimator="marginal, NUTS (pymc)"),
        ["in PyMC", "integrated out on a grid"],
        NUTS | {PYMC},
    ),
    "latent": (
        partial(restated, estimator="latent, NUTS (nutpie)", positive_definite_between=0),
        [
            "in PyMC (Abril-Pla et al. 2023) with nutpie",
            "expression of each cell as a parameter",
            "between samples was not positive definite",
        ],
        NUTS | {NUTPIE, PYMC, "Higham 2002"},
    ),
    "subsample": (
        partial(restated, subsampled_from=40_000),
        ["a random subset of 100 of 40,000 cells"],
        NUTS | {NUTPIE},
    ),
    "empirical Bayes": (
        partial(empirical_bayes, shrink=True, draws=200, seed=5, rope=0.05, confidence=0.8),
        [
            "between FTL and 3 other genes",
            "empirical Bayes",
            "200 independent draws, seed 5",
            "maximum marginal likelihood",
            "within 0.05 of zero",
            "80% highest-density",
        ],
        POSTERIOR,
    ),
    "empirical Bayes, one correlation": (
        partial(empirical_bayes, {"heterogeneity": False}, draws=100),
        ["same in all samples"],
        POSTERIOR,
    ),
    # exploratory
    "cells, Pearson": (
        naive,
        [
            "For exploration, Pearson correlations between all pairs of 12 genes",
            "within samples (repeated-measures",
            "affected by dropout and sequencing depth",
        ],
        JACKKNIFE - {CSCORE} | {"Bakdash & Marusich 2017"},
    ),
    "cells, Spearman": (
        partial(naive, "spearman", "within", uncertainty="cluster", confidence=0.9),
        ["ranks of log-normalised counts within samples", "cluster-robust", "90% confidence"],
        {"Bakdash & Marusich 2017", "Bell & McCaffrey 2002", T_OF_SAMPLES, BH},
    ),
    "cells, pooled": (
        partial(naive, "pearson", "pooled", uncertainty="none", **FTL),
        ["between FTL and 11 other genes", "pooled across samples", "No uncertainty"],
        set(),
    ),
    "cells, no samples": (
        partial(naive, "spearman", "pooled", model={"sample": None}),
        ["over all cells from the ranks of log-normalised counts in 1,250 cells"],
        set(),
    ),
    "metacells": (
        partial(of_metacells, size=20, n_genes=100, n_components=5, seed=1),
        [
            "metacells from 5 samples",
            "at least 20 similar cells",
            "5 principal components of the 100 most variable genes",
            "seed 1",
            "exploratory",
        ],
        JACKKNIFE | {"Morabito et al. 2023"},
    ),
    "metacells, labels": (
        labelled_metacells,
        ["metacells using predefined labels (pool)"],
        JACKKNIFE,
    ),
    "gene sets": (
        of_gene_sets,
        ["between FTL and 1 other gene (gene sets entered as summed counts: 1)"],
        JACKKNIFE,
    ),
    # interpretation
    "decomposition": (
        lambda: hc.decompose(
            cells(), "sample_id", list(GENES), subset=VEHICLE, target="FTL", **DEPTH
        ),
        ["law of total covariance", "between FTL and 11 other genes", "no tests"],
        {CSCORE},
    ),
    "direct partners": (
        lambda: direct(seed=3, n_bootstrap=20, min_correlation=0.2, confidence=0.9),
        [
            "between all pairs of 12 genes",
            "Poisson-lognormal",
            "maximised the Gaussian likelihood of left-out donors",
            "20 bootstrap resamples of donors, seed 3",
            "at least 0.2",
            "90% confidence",
        ],
        {CSCORE, BH, "Aitchison & Ho 1989", "Jankova & van de Geer 2015", "Smyth 2004"}
        | {"Miller 1974"},
    ),
    "direct partners, natural scale": (
        lambda: direct(scale="natural", shrinkage=0.1),
        ["of expression between", "the weight 0.1 that was given"],
        {CSCORE, BH, "Jankova & van de Geer 2015", "Smyth 2004", "Miller 1974"},
    ),
    "modules with each other": (
        partial(with_modules, weights="eigengene", uncertainty="cluster"),
        ["between 2 modules", "first principal component", "left out of both for their pair"],
        {CSCORE, T_OF_SAMPLES, BH, "Bell & McCaffrey 2002"},
    ),
    "modules with a score": (
        partial(with_modules, "score", score="total_counts"),
        ["between the cell score total_counts and 2 modules", "with equal weights"],
        JACKKNIFE,
    ),
    "difference of modules": (
        different_modules,
        ["Differences in correlations of expression between 2 modules between levels", "90%"],
        HC2,
    ),
    "modules with traits": (
        partial(traits, {"block": "patient_id"}, weights="expression", confidence=0.9),
        [
            "the log2 counts per million of the sum of its genes",
            "Pearson correlations with condition (two-level traits were coded as 1 for "
            "condition: panobinostat)",
            "fixed effects of patient_id",
            "90%",
        ],
        TMM,
    ),
    "modules with traits, ranks": (
        partial(traits, {"formula": "~ gender"}, method="spearman", permutations=99, seed=4),
        ["the mean of the log2", "partial Spearman correlations", "adjusting for gender", "seed 4"],
        TMM | {"Freedman & Lane 1983", "Phipson & Smyth 2010"},
    ),
    "connectivity": (
        partial(compared, block="patient_id"),
        [
            "The connectivity of modules was regressed on condition, with fixed effects of "
            "patient_id, over the samples of 5 donors",
            "condition[T.panobinostat] = 0",
            "over 2 units",
        ],
        {"MacKinnon & White 1985", "Bell & McCaffrey 2002", BH},
    ),
    "preservation": (
        partial(preserved, seed=2),
        ["100 random sets", "(seed 2)"],
        {"Langfelder et al. 2011", BH},
    ),
    "evidence": (evidence, ["Partners of FTL", "threshold 0.1", "discordant"], set()),
    "differential expression": (
        expressed,
        [
            "between 10 samples",
            "median-of-ratios",
            "condition and fixed effects of patient_id",
            "contrast condition, panobinostat, ctrl;",
            "independent filtering",
        ],
        {"Love et al. 2014", "Muzellec et al. 2023", "Anders & Huber 2010", BH},
    ),
    "differential variability": (
        variable,
        [
            "relative to its squared mean",
            "cells from 10 samples",
            "regressed on condition, with fixed effects of patient_id by quasi-likelihood",
            "contrast was condition[T.panobinostat]",
            "90% confidence intervals",
        ],
        {CSCORE, "Smyth 2004", BH},
    ),
    "enrich": (
        partial(enriched, q=0.2, min_correlation=0.01, direction="positive", max_size=20),
        [
            "Over-representation of gene sets",
            "positive correlation with FTL at q < 0.2 and |r| >= 0.01",
            "1 to 20 genes",
            "hypergeometric",
        ],
        {GSEAPY, BH},
    ),
    "enrich, partners": (
        partial(enriched, partners=["FTH1", "CLU"]),
        ["among the 2 selected genes", "11 tested genes other than FTL"],
        {GSEAPY, BH},
    ),
    "gsea": (
        ranked,
        ["Hallmark", "partners of FTL", "test statistic", "20 permutations of genes (seed 3)"],
        {GSEAPY, "Subramanian et al. 2005", "Liberzon et al. 2015"},
    ),
    "leiden": (
        partial(modules, power=2.0, resolution=0.5, seed=6),
        ["Leiden", "resolution 0.5", "seed 6", "q <= 0.5", "|r| >= 0.1", "to the power 2"],
        {"Traag et al. 2019", "Langfelder & Horvath 2008"},
    ),
    "hierarchical modules": (
        partial(modules, method="hierarchical", n_modules=2, signed=False),
        ["average-linkage", "cut into 2 clusters", "absolute correlations"],
        set(),
    ),
}


@cache
def result_of(name):
    return CASES[name][0]()


def short(citation):
    """The short form of a reference, e.g. "Su et al. 2023"."""
    return re.match(r".*? \d{4}", citation)[0]


SLOW = {"joint"}  # compiles the sampler


@pytest.mark.parametrize(
    "name", [pytest.param(n, marks=[pytest.mark.slow] * (n in SLOW)) for n in CASES]
)
def test_text_names_options_and_citations(name):
    _, fragments, cited = CASES[name]
    result = result_of(name)
    text = methods_text(result)
    for fragment in fragments:
        assert fragment in text
    assert {short(c) for c in citations(result)} == cited
    assert text.endswith(".")
    for flaw in ("None", "nan", "  ", " ,", " .", "..", "()", "{"):
        assert flaw not in text


def test_every_model_and_every_reference_is_covered():
    cited = set().union(*(c for _, _, c in CASES.values()))
    assert cited == {shortened for shortened, _ in REFERENCES.values()}
    assert all(short(f"{s}, {full}") == s for s, full in REFERENCES.values())


# Options that a paragraph states, and options that change no method.
DATA = "data sample genes layer depth subset min_cells small_samples"
OPTIONS = {
    hc.CSCore: (
        f"{DATA} covariates block modalities depth_adjust",
        "gene_names memory_limit scratch scheduler",
    ),
    hc.CSCore.fit: (
        "estimator uncertainty weights target pairs per_sample standardize covariate_level adjust "
        "n_bootstrap confidence seed",
        "precision out overwrite checkpoint n_jobs progress",
    ),
    hc.CSCore.signature: ("genes name weights uncertainty confidence", "n_jobs progress"),
    hc.CSCore.score: ("score name uncertainty sets weights confidence", "n_jobs progress"),
    hc.CSCore.module_correlation: ("sets weights uncertainty confidence", "n_jobs progress"),
    hc.CSCore.module_membership: ("sets weights uncertainty confidence", "n_jobs progress"),
    hc.Pseudobulk.module_traits: (
        "sets traits method weights permutations confidence seed",
        "",
    ),
    hc.modules.differential_correlation: (
        f"{DATA} condition sets formula block weights contrast confidence",
        "gene_names n_jobs",
    ),
    hc.modules.compare_donors: (
        "values samples condition formula block contrast moderated",
        "confidence",
    ),
    hc.modules.preservation: ("modules result permutations donors seed", ""),
    hc.by_cell_type: ("data cell_type sample types family fit subset block options", ""),
    hc.differential: (
        f"{DATA} condition formula block modalities target pairs contrast method uncertainty "
        "permutations confidence seed",
        "gene_names precision n_jobs progress",
    ),
    hc.Pseudobulk: (
        f"{DATA} cell_type formula normalization block block_method min_counts modalities",
        "gene_names",
    ),
    hc.Pseudobulk.fit: (
        "method target pairs interaction contrasts permutations moderated confidence seed",
        "precision progress",
    ),
    hc.BayesianCorrelation: (
        f"{DATA} formula covariates correlation_formula priors block heterogeneity sd_per_sample "
        "structure many_cells seed",
        "gene_names",
    ),
    hc.BayesianCorrelation.fit: (
        "draws tune chains seed sampler target_accept target method confidence rope",
        "checkpoint progress",
    ),
    hc.BayesianCorrelation.fit_many: (
        "target genes shrink draws confidence rope seed",
        "n_jobs progress",
    ),
    hc.CellCorrelation: (f"{DATA} modalities", "gene_names"),
    hc.CellCorrelation.fit: (
        "method level target pairs uncertainty confidence",
        "precision progress",
    ),
    hc.metacells: (
        "data sample size labels layer depth subset n_genes n_components min_cells seed",
        "gene_names",
    ),
    hc.decompose: (f"{DATA} target pairs", "gene_names progress"),
    hc.direct_partners: (
        "model scale shrinkage min_correlation n_bootstrap confidence seed",
        "n_jobs",
    ),
    hc.CorrelationResult.adjust: ("method family level", ""),
    hc.evidence: ("target within between exploratory bayesian q", ""),
    hc.differential_expression: (
        "data sample formula contrast layer depth subset block min_cells min_counts small_samples",
        "gene_names",
    ),
    hc.differential_variability: (
        f"{DATA} condition formula block modalities contrast confidence",
        "gene_names n_jobs",
    ),
    enrich: (
        "result gene sets partners q min_correlation direction min_size max_size",
        "",
    ),
    gsea: ("result gene sets min_size max_size permutations seed", ""),
    find_modules: (
        "result method q min_correlation power signed resolution n_modules min_size without seed",
        "",
    ),
}


@pytest.mark.parametrize("function", OPTIONS, ids=lambda f: f.__qualname__)
def test_every_option_is_stated_or_changes_no_method(function):
    """A new option must be added to the text and to the table above."""
    stated, silent = (set(names.split()) for names in OPTIONS[function])
    assert set(inspect.signature(function).parameters) - {"self"} == stated | silent


@pytest.mark.parametrize("path", sorted((Path(__file__).parents[1] / "data").glob("*.nc")))
def test_older_files_have_a_text(path):
    result = hc.load(path)
    assert "hiercorr" in methods_text(result)
    assert citations(result)


def test_unknown_models_are_refused():
    dataset = result_of("within").dataset
    for model in ("CSCorr", None, ""):
        unknown = hc.CorrelationResult(dataset.assign_attrs(model=model))
        with pytest.raises(hc.InputError, match="unknown model"):
            methods_text(unknown)
        with pytest.raises(hc.InputError, match="unknown model"):
            citations(unknown)
    with pytest.raises(hc.InputError, match="unknown model"):
        methods_text(cells().obs)  # a table that is not one of ours
    with pytest.raises(hc.InputError, match="has no Methods text"):
        methods_text("CSCore")


def test_every_model_has_a_case():
    made = {"CSCore", "differential", "CellCorrelation", "decomposition", "Pseudobulk"}
    made |= {"direct_partners", "AcrossCellTypes"}  # the latter in test_between_text
    tables = {"differential_expression", "differential_variability"}
    tables |= {"enrich", "gsea", "find_modules", "preservation", "compare_donors"}
    assert set(MODELS) == made | tables | {"BayesianCorrelation"}


TITLED = (
    "within",
    "pooled",
    "differential",
    "pearson",
    "posterior",
    "posterior between",
    "empirical Bayes",
    "cells, Spearman",
    "cells, pooled",
    "metacells",
    "decomposition",
    "direct partners",
)


@pytest.mark.parametrize("name", TITLED)
def test_titles_are_translated(name):
    title = result_of(name).dataset.attrs["title"]
    assert translate(title, "zh") != title


@pytest.mark.usefixtures("undrawn")
def test_report_describes_evidence_and_enrichment(tmp_path):
    other = enriched(q=0.2).assign(note="").copy()
    other.attrs = {}  # a table from elsewhere
    page = hc.report(
        tmp_path / "r.html", evidence=evidence(), enrichment={"a": enriched(q=0.2), "b": other}
    ).read_text()
    assert "Partners of FTL were classified" in page
    assert page.count("Over-representation") == 1
    assert GSEAPY in page
