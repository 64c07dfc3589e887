"""Models and posteriors that tests of the Bayesian model share."""

import numpy as np

import hiercorr as hc
from hiercorr.bayes.margin import fit_margin
from hiercorr.bayes.pair import make_pair
from hiercorr.bayes.priors import read_priors
from hiercorr.bayes.sampling import STATISTICS
from hiercorr.bayes.setup import Population, Setup

NO_STATISTICS = {name: np.zeros((1, 1), kind) for name, kind in STATISTICS.items()}


def pair_of(
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
    setup = Setup(Population(design, block), priors, heterogeneity, structure)
    return make_pair(cells, genes, margins, setup, dtype)


def model_of(adata, **options):
    return hc.BayesianCorrelation(adata, **{"sample": "sample", "depth": "depth", **options})
