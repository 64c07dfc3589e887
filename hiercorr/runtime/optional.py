"""Optional dependencies: imported on use, with an error message that gives the install command."""

from __future__ import annotations

from importlib import import_module
from typing import Any

EXTRAS = {
    "arviz": "bayes",
    "dask": "dask",
    "gseapy": "report",
    "igraph": "network",
    "jinja2": "report",
    "matplotlib": "report",
    "mudata": "mudata",
    "networkx": "network",
    "nutpie": "bayes",
    "openpyxl": "report",
    "pyarrow": "parquet",
    "pydeseq2": "de",
    "pymc": "bayes",
    "pytensor": "bayes",
}


def optional(module: str, purpose: str) -> Any:
    """Import an optional dependency.

    Parameters
    ----------
    module : str
        Name of the module, e.g. ``"matplotlib.pyplot"``; its package must be a key of ``EXTRAS``.
    purpose : str
        Feature that needs the module, in the plural, e.g. ``"plots"``.

    Returns
    -------
    module

    Raises
    ------
    ImportError
        If the package is not installed; the message names the extra that installs it.

    Examples
    --------
    >>> from hiercorr.runtime.optional import optional
    >>> optional("networkx", "graphs").__name__
    'networkx'
    """
    package = module.partition(".")[0]
    try:
        return import_module(module)
    except ImportError as error:
        if error.name is not None and error.name.partition(".")[0] != package:
            raise ImportError(
                f"{purpose} need {package}, which cannot be imported: {error}"
            ) from error
        extra = EXTRAS[package]
        raise ImportError(f'{purpose} need {package}: pip install "hiercorr[{extra}]"') from error
