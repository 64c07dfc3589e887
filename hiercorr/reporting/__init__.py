"""Reporting: one HTML file for the reviewer, and the Methods paragraph with its citations."""

from hiercorr.reporting.methods_text import citations, methods_text
from hiercorr.reporting.report import report

__all__ = ["citations", "methods_text", "report"]
