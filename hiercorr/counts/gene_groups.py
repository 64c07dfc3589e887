"""Groups of genes by name: modules that were found, a mapping, or a GMT file."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Protocol

import pandas as pd

from hiercorr.datasets import read_gmt
from hiercorr.errors import InputError

LEAST = 2  # genes of a module


class NamedSets(Protocol):
    """Anything that can be written as names of modules and lists of their genes."""

    def to_dict(self) -> dict[str, list[str]]:
        """Return the genes by module."""


Sets = Mapping[str, Iterable[str]] | NamedSets | str | Path


def named_sets(sets: Sets) -> dict[str, list[str]]:
    """Return the genes of modules by name, each once.

    Parameters
    ----------
    sets : mapping, Modules or path

    Raises
    ------
    InputError
        If there is no module, or one of a mapping has fewer than 2 genes.
    """
    if isinstance(sets, str | Path):
        return {name: list(dict.fromkeys(genes)) for name, genes in read_gmt(sets).items()}
    found: Any = sets
    if not isinstance(sets, Mapping) and callable(getattr(sets, "to_dict", None)):
        found = sets.to_dict()
    if not isinstance(found, Mapping):
        raise InputError(
            "sets must be a mapping from names to lists of genes, the modules of find_modules() or "
            f"the path of a GMT file, not {sets!r}"
        )
    if not found:
        raise InputError("no module is given")
    out = {}
    for name, genes in found.items():
        if not isinstance(name, str):
            raise InputError(f"sets: names of modules must be strings, not {name!r}")
        genes = genes.keys() if isinstance(genes, Mapping | pd.Series) else genes  # of weights
        if isinstance(genes, str) or not isinstance(genes, Iterable):
            raise InputError(f"module {name!r} of sets= is {genes!r}: give a list of genes")
        listed = list(genes)
        if not all(isinstance(gene, str) for gene in listed):
            raise InputError(f"module {name!r} of sets= must be a list of gene names: {listed!r}")
        out[name] = list(dict.fromkeys(listed))
        if len(out[name]) < LEAST:
            size = f"{len(out[name])} gene{'' if out[name] else 's'}"
            raise InputError(f"module {name!r} has {size}; a module needs at least 2: leave it out")
    return out
