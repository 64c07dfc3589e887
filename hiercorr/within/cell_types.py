"""Several cell types in one call: the same fit in each, one dataset with a cell_type dimension, one family of tests."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import anndata as ad
import numpy as np
import pandas as pd
import xarray as xr

from hiercorr.counts.sources import open_source
from hiercorr.errors import DataWarning, InputError, one_of, unknown_name
from hiercorr.inference.multiplicity import benjamini_hochberg
from hiercorr.results.result import CorrelationResult
from hiercorr.results.storage import write_dataset
from hiercorr.runtime.user_warnings import warn
from hiercorr.within.cscore import CSCore

FAMILIES = ("all", "type")


@dataclass(frozen=True)
class CellTypes(Mapping[str, CorrelationResult]):
    """Results of several cell types; ``types["B cells"]`` is one of them.

    Attributes
    ----------
    results : dict
        Cell type -> CorrelationResult.
    left_out : dict
        Cell type -> why it has no result.
    """

    results: dict[str, CorrelationResult]
    left_out: dict[str, str]

    def __getitem__(self, cell_type: str) -> CorrelationResult:
        if cell_type not in self.results:
            raise unknown_name("cell type", cell_type, self.results)
        return self.results[cell_type]

    def __iter__(self) -> Iterator[str]:
        return iter(self.results)

    def __len__(self) -> int:
        return len(self.results)

    @property
    def dataset(self) -> xr.Dataset:
        """All results with a dimension ``cell_type``; what a type does not have is NaN (flags: 0)."""
        parts = [r.dataset.assign_attrs({}) for r in self.results.values()]
        flags = {str(v): 0 for p in parts for v in p.data_vars if str(v).endswith("flag")}
        fill: dict[str, Any] = (
            {str(v): np.nan for p in parts for v in p.data_vars} | flags | {"n_cells": 0}
        )
        out = xr.concat(
            parts,
            dim=pd.Index(list(self.results), name="cell_type"),
            join="outer",
            data_vars="all",
            coords="minimal",
            compat="override",
            fill_value=fill,
            combine_attrs="drop_conflicts",
        )
        return out.assign_attrs(
            {k: v for k, v in parts[0].attrs.items() if all(p.attrs.get(k) == v for p in parts)}
        )

    def top(self, gene: str | None = None, n: int = 20) -> pd.DataFrame:
        """Strongest partners of a gene over all types, with the type in the first column.

        Parameters
        ----------
        gene : str, optional
            May be left out where the results have a target.
        n : int
        """
        tables = {
            k: r.top(gene, n) for k, r in self.results.items() if gene is None or gene in r.genes
        }
        if not tables:
            raise unknown_name(
                "gene", str(gene), {g for r in self.results.values() for g in r.genes}
            )
        return _strongest(tables, n)

    def pairs(self, n: int = 20) -> pd.DataFrame:
        """Pairs with the strongest evidence over all types, with the type in the first column.

        Parameters
        ----------
        n : int
        """
        return _strongest({k: r.pairs(n=n) for k, r in self.results.items()}, n).reset_index(
            drop=True
        )

    def save(self, path: str | Path, overwrite: bool = False) -> Path:
        """Write :attr:`dataset` whole or not at all, for ``xarray.open_dataset``.

        Parameters
        ----------
        path : str or Path
            Ends in .zarr or .nc.
        overwrite : bool

        Returns
        -------
        Path
        """
        left_out = {f"left out: {k}": v for k, v in self.left_out.items()}
        return write_dataset(self.dataset.assign_attrs(left_out), Path(path), overwrite)

    def __repr__(self) -> str:
        size = {k: r.dataset.attrs["n_samples"] for k, r in self.results.items()}
        said = "<CellTypes: " + ", ".join(f"{k} ({n} samples)" for k, n in size.items())
        return said + (f"; left out: {', '.join(self.left_out)}>" if self.left_out else ">")


def _strongest(tables: dict[str, pd.DataFrame], n: int) -> pd.DataFrame:
    """The rows with the strongest evidence, with their type in the first column."""
    for cell_type, table in tables.items():
        table.insert(0, "cell_type", cell_type)
    every = pd.concat(tables.values())
    key = "p_value" if "p_value" in every else "correlation"
    return every.sort_values(key, ascending=key == "p_value", kind="stable").head(n)


def by_cell_type(
    data: ad.AnnData | str | Path,
    cell_type: str,
    sample: str,
    types: Sequence[str] | None = None,
    *,
    family: str = "all",
    fit: Mapping[str, Any] | None = None,
    subset: Mapping[str, Any] | None = None,
    **options: Any,
) -> CellTypes:
    """Correlation within samples in every cell type, with the same settings and one family of tests.

    Parameters
    ----------
    data : AnnData or path
        Cells x genes raw counts, as for :class:`hiercorr.CSCore`.
    cell_type : str
        Column of ``obs``.
    sample : str
        Column of ``obs``.
    types : sequence of str, optional
        None: all of them.
    family : {"all", "type"}
        q-values over the pairs of all types together, or of each by itself.
    fit : mapping, optional
        Arguments of :meth:`hiercorr.CSCore.fit`, e.g. ``{"target": "FTL"}``.
    subset : mapping, optional
        Further choice of cells, ``{"obs column": value}``.
    **options
        Of :class:`hiercorr.CSCore`.

    Returns
    -------
    CellTypes

    Raises
    ------
    InputError
        If no type can be fitted, or an option does not fit.

    Examples
    --------
    >>> import hiercorr as hc
    >>> adata = hc.datasets.glioblastoma()
    >>> found = hc.by_cell_type(adata, "condition", "sample_id", fit={"target": "FTL"}, depth="total_counts", genes=20)
    >>> dict(found.dataset.sizes)["cell_type"]
    2
    """
    one_of("family", family, FAMILIES)
    with open_source(data, options.get("layer")) as source:
        obs = source.obs
    if cell_type not in obs:
        raise unknown_name("cell_type column", cell_type, obs.columns)
    known = [str(t) for t in pd.unique(obs[cell_type].dropna())]
    for name in types or ():
        if name not in known:
            raise unknown_name("cell type", name, known)
    results: dict[str, CorrelationResult] = {}
    left_out: dict[str, str] = {}
    for name in types or sorted(known):
        try:
            results[name] = CSCore(
                data, sample, subset={**(subset or {}), cell_type: name}, **options
            ).fit(**(fit or {}))
        except InputError as error:
            left_out[name] = str(error)
    if not results:
        first = next(iter(left_out))
        raise InputError(f"no cell type could be fitted; {first!r}: {left_out[first]}")
    if left_out:
        said = "; ".join(f"{k!r}: {v}" for k, v in left_out.items())
        warn(f"{len(left_out)} cell types are left out: {said}", DataWarning)
    return CellTypes(_one_family(results) if family == "all" else results, left_out)


def _one_family(results: dict[str, CorrelationResult]) -> dict[str, CorrelationResult]:
    """q-values over the distinct pairs of all results."""
    if not all("p_value" in r.dataset for r in results.values()):
        return results
    values, places = [], []
    for r in results.values():
        p = r.dataset["p_value"].values
        at = (
            np.triu_indices(len(p), 1)
            if r.target is None
            else (np.zeros(p.size, int), np.arange(p.size))
        )
        places.append(at)
        values.append(p[at].astype(float))
    q = np.split(
        benjamini_hochberg(np.concatenate(values)), np.cumsum([len(v) for v in values])[:-1]
    )
    out = {}
    for (name, r), at, part in zip(results.items(), places, q, strict=True):
        changed = r.dataset["q_value"].copy()
        changed.values = np.full(changed.shape, np.nan, changed.dtype)
        changed.values[at] = part
        if r.target is None:
            changed.values.T[at] = part
        family = f"{r.dataset.attrs['q_family']} of {len(results)} cell types"
        out[name] = CorrelationResult(
            r.dataset.assign(q_value=changed).assign_attrs(q_family=family)
        )
    return out
