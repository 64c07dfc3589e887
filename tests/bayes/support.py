"""Models and posteriors that tests of the Bayesian model share."""

import numpy as np

import hiercorr as hc
from hiercorr.bayes.pair import make_pair, margin_of
from hiercorr.bayes.priors import read_priors
from hiercorr.bayes.sampling import STATISTICS
from hiercorr.bayes.setup import Population, Setup, ZRegression

NO_STATISTICS = {name: np.zeros((1, 1), kind) for name, kind in STATISTICS.items()}


def pair_of(
    cells,
    genes=(0, 1),
    block=None,
    structure="both",
    heterogeneity=True,
    dtype=np.float64,
    design=None,
    regression=None,
    sd_per_sample=False,
):
    priors = read_priors()
    n = cells.n_samples
    block = np.arange(n) if block is None else np.asarray(block)
    design = np.ones((n, 1)) if design is None else design
    population = Population(design, block, z=regression)
    setup = Setup(population, priors, heterogeneity, structure, sd_per_sample=sd_per_sample)
    margins = tuple(margin_of(cells, j, setup) for j in genes)
    return make_pair(cells, genes, margins, setup, dtype)


def regression_of(*columns):
    """Return covariates of the correlation, without groups."""
    x = np.column_stack(columns).astype(float)
    names = tuple(f"x{k}" for k in range(x.shape[1]))
    none = np.zeros((0, x.shape[1]))
    return ZRegression("~ x", names, x - x.mean(0), x.mean(0), np.ones(len(names)), (), none)


def model_of(adata, **options):
    return hc.BayesianCorrelation(adata, **{"sample": "sample", "depth": "depth", **options})
