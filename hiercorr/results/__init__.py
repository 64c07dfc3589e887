"""Results of all models: one xarray Dataset with tables, text, plots and files."""

from hiercorr.results.result import CorrelationResult, load

__all__ = ["CorrelationResult", "load"]
