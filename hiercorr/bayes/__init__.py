"""Bayesian hierarchical correlation: both levels at once.

``model`` is the interface; ``_margin`` and ``_pair`` state the posterior with the cells summed out, ``_kernels`` compute it,
``models`` states the same in PyMC, ``_sampling`` draws from it, ``_tables`` makes the result, ``_predictive`` checks the
model against the data and ``_many`` fits one gene against thousands.
"""
