"""Uncertainty whose n is the number of samples: jackknife, cluster and bootstrap errors, meta-analysis, multiplicity.

Pure functions on arrays, which do not know what was summed.
"""

from hiercorr.inference.meta import MetaAnalysis, meta_analysis
from hiercorr.inference.multiplicity import (
    benjamini_hochberg,
    benjamini_yekutieli,
    hierarchical,
    simes,
    storey,
)
from hiercorr.inference.pairs import (
    UNCERTAINTIES,
    PairEstimate,
    bootstrap_draws,
    fisher_z,
    gene_sides,
    log_p_table,
    one_group,
    pair_estimate,
    pair_table,
    sample_effects,
    student_table,
    variance_shares,
)

__all__ = [
    "UNCERTAINTIES",
    "MetaAnalysis",
    "PairEstimate",
    "benjamini_hochberg",
    "benjamini_yekutieli",
    "bootstrap_draws",
    "fisher_z",
    "gene_sides",
    "hierarchical",
    "log_p_table",
    "meta_analysis",
    "one_group",
    "pair_estimate",
    "pair_table",
    "sample_effects",
    "simes",
    "storey",
    "student_table",
    "variance_shares",
]
