"""Bayesian hierarchical correlation, within and between samples at once.

``model`` is the interface. It reads the counts and hands them, with a ``setup`` (design,
population, priors), to ``panel`` (all pairs of a few genes, by NUTS), ``many`` (one gene against
thousands, on grids) and ``predictive`` (checks of the model). ``margin`` and ``pair`` state the
posterior with the cells summed out, ``models`` states it in PyMC, ``sampling`` draws from it and
``tables`` summarises the draws.
"""
