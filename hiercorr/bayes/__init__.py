"""Bayesian hierarchical correlation: both levels at once.

``model`` is the interface; ``margin`` and ``pair`` state the posterior with the cells summed out,
:mod:`hiercorr.kernels.bayes` computes it, ``models`` states the same in PyMC, ``sampling`` draws
from it, ``tables`` makes the result, ``predictive`` checks the model against the data and ``many``
fits one gene against thousands.
"""
