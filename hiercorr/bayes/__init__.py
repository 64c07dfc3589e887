"""Bayesian hierarchical correlation, within and between samples at once.

``model`` is the interface. It reads the counts and hands them, with a ``setup`` (design,
population, priors), to ``panel`` (pairs of a few genes, by NUTS), ``many`` (one gene against
thousands, on grids), ``predictive`` (checks of the model) and ``calibration`` (of its posteriors).
``margin`` and ``pair`` state the posterior with the cells summed out, ``models`` states it in PyMC,
``sampling`` draws from it, ``collected`` joins the draws, ``diagnostics`` and ``tables`` summarise
them, ``generative`` draws from the priors and ``cost`` predicts times.
"""

from hiercorr.bayes import models

__all__ = ["models"]
