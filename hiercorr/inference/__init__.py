"""Inference with samples as the units: standard errors, tests, meta-analysis, multiple testing.

Pure functions on arrays, independent of the estimator that supplies the sums.
"""

from hiercorr.inference.derived import Derivation, errors_and_df, pair_table
from hiercorr.inference.meta import MetaAnalysis, meta_analysis
from hiercorr.inference.moderation import SqueezedVariances, squeeze_variances
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
    p_values,
    pair_estimate,
    sample_effects,
    variance_shares,
    within_range,
)
from hiercorr.inference.random_effects import (
    WEIGHTS,
    DonorGenes,
    HeterogeneityPrior,
    HierarchicalEstimate,
    average_over_donors,
    donor_effects,
    hierarchical_estimate,
    learn_prior,
)
from hiercorr.inference.variability import variance_interval

__all__ = [
    "UNCERTAINTIES",
    "WEIGHTS",
    "Derivation",
    "DonorGenes",
    "HeterogeneityPrior",
    "HierarchicalEstimate",
    "MetaAnalysis",
    "PairEstimate",
    "SqueezedVariances",
    "average_over_donors",
    "benjamini_hochberg",
    "benjamini_yekutieli",
    "bootstrap_draws",
    "donor_effects",
    "errors_and_df",
    "fisher_z",
    "gene_sides",
    "hierarchical",
    "hierarchical_estimate",
    "learn_prior",
    "log_p_table",
    "meta_analysis",
    "one_group",
    "p_values",
    "pair_estimate",
    "pair_table",
    "sample_effects",
    "simes",
    "squeeze_variances",
    "storey",
    "variance_interval",
    "variance_shares",
    "within_range",
]
