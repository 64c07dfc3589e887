"""Results: one xarray Dataset in the schema of :mod:`hiercorr.schema`, with tables, exports and files."""

from hiercorr.results.result import CorrelationResult, load

__all__ = ["CorrelationResult", "load"]
