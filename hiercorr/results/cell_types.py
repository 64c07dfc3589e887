"""Results of several cell types: one dataset with a dimension cell_type."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import xarray as xr

from hiercorr.counts.names import name_of
from hiercorr.errors import InputError, instance_of, text, true_or_false, unknown_name, whole_number
from hiercorr.results.layout import is_list, pair_names
from hiercorr.results.pairs import ids_of, sort_by_evidence
from hiercorr.results.result import CorrelationResult
from hiercorr.results.storage import plain, write_dataset
from hiercorr.schema import GENE_TEXTS

if TYPE_CHECKING:
    from statsmodels.iolib.summary import Summary

_PRESENT = {"gene": "gene_in_type", "sample": "sample_in_type", "pair": "pair_in_type"}
_EACH, _LEFT_OUT = "of_cell_types", "left_out"


@dataclass(frozen=True)
class CellTypes(Mapping[str, CorrelationResult]):
    """Results of several cell types, as a mapping from cell type to result.

    Attributes
    ----------
    results : dict
        CorrelationResult of each cell type.
    left_out : dict
        Reason why a cell type has no result.

    Examples
    --------
    >>> import hiercorr as hc
    >>> adata = hc.datasets.glioblastoma()
    >>> adata.obs["type"] = ["A", "B"] * (adata.n_obs // 2)
    >>> types = hc.by_cell_type(adata, "type", "patient_id", genes=20, depth="total_counts")
    >>> list(types)
    ['A', 'B']
    """

    results: dict[str, CorrelationResult]
    left_out: dict[str, str]

    def __getitem__(self, cell_type: str) -> CorrelationResult:
        """Return the result of one cell type."""
        if not isinstance(cell_type, str) or cell_type not in self.results:
            raise unknown_name("cell type", cell_type, self.results)
        return self.results[cell_type]

    def __iter__(self) -> Iterator[str]:
        """Iterate over the cell types."""
        return iter(self.results)

    def __len__(self) -> int:
        """Return the number of cell types with a result."""
        return len(self.results)

    @property
    def dataset(self) -> xr.Dataset:
        """All results, with a dimension ``cell_type``; missing values are NaN (flags: 0).

        Examples
        --------
        >>> import hiercorr as hc
        >>> adata = hc.datasets.glioblastoma()
        >>> adata.obs["type"] = ["A", "B"] * (adata.n_obs // 2)
        >>> types = hc.by_cell_type(adata, "type", "patient_id", genes=20, depth="total_counts")
        >>> types.dataset.sizes["cell_type"]
        2
        """
        parts = [r.dataset.assign_attrs({}) for r in self.results.values()]
        names = [pair_names(p) for p in parts] if is_list(parts[0]) else None
        if names is not None:
            parts = [
                p.drop_vars(["gene_a", "gene_b"]).assign_coords(pair=keys)
                for p, keys in zip(parts, names, strict=True)
            ]
        texts = dict.fromkeys(GENE_TEXTS, "")
        flags = {str(v): 0 for p in parts for v in p.data_vars if str(v).endswith("flag")}
        fill: dict[str, Any] = (
            {str(v): np.nan for p in parts for v in p.data_vars} | texts | flags | {"n_cells": 0}
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
        shared = {
            k: v
            for k, v in parts[0].attrs.items()
            if all(k in p.attrs and np.array_equal(p.attrs[k], v) for p in parts)
        }
        if names is not None:
            ends = [r.dataset[["gene_a", "gene_b"]].to_dataframe() for r in self.results.values()]
            every = pd.concat(
                [e[["gene_a", "gene_b"]].set_index(k) for e, k in zip(ends, names, strict=True)]
            )
            every = every[~every.index.duplicated()].loc[out["pair"].values]
            sides = {name: ("pair", every[name].to_numpy(object)) for name in every}
            out = out.drop_vars("pair").assign_coords(sides)
        subsets = " | ".join(str(p.attrs.get("subset", "")) for p in parts)
        return out.assign_attrs({**shared, "subset": subsets})

    def top(self, gene: str | None = None, n: int = 20) -> pd.DataFrame:
        """Return the partners of a gene with the strongest evidence over all types, type first.

        Parameters
        ----------
        gene : str, optional
            None: the target of the results.
        n : int
            Number of rows.

        Examples
        --------
        >>> import hiercorr as hc
        >>> adata = hc.datasets.glioblastoma()
        >>> adata.obs["type"] = ["A", "B"] * (adata.n_obs // 2)
        >>> types = hc.by_cell_type(adata, "type", "patient_id", genes=20, depth="total_counts")
        >>> types.top("FTL", n=2).columns.tolist()[:2]
        ['cell_type', 'correlation']
        """
        whole_number("n", n)
        text("gene", gene, optional=True)
        found = self.results if gene is None else self._with_gene(gene)
        return _strongest({k: r.top(gene, n) for k, r in found.items()}, n)

    def _with_gene(self, gene: str) -> dict[str, CorrelationResult]:
        """Return the results that have a gene, which is named by its name or its id."""
        names = {k: name_of(gene, r.genes, ids_of(r.dataset)) for k, r in self.results.items()}
        found = {k: r for k, r in self.results.items() if names[k] in r.genes}
        if not found:
            every = dict.fromkeys(g for r in self.results.values() for g in r.genes)
            raise unknown_name("gene", gene, every)
        return found

    def pairs(
        self, q: float | None = None, min_correlation: float = 0.0, n: int | None = None
    ) -> pd.DataFrame:
        """Return the distinct pairs of all types, strongest evidence first, with the type first.

        Parameters
        ----------
        q, min_correlation, n
            As for :meth:`CorrelationResult.pairs`: thresholds, and the maximum number of rows.

        Examples
        --------
        >>> import hiercorr as hc
        >>> adata = hc.datasets.glioblastoma()
        >>> adata.obs["type"] = ["A", "B"] * (adata.n_obs // 2)
        >>> types = hc.by_cell_type(adata, "type", "patient_id", genes=20, depth="total_counts")
        >>> types.pairs(n=1).columns.tolist()[:3]
        ['cell_type', 'gene_a', 'gene_b']
        """
        tables = {k: r.pairs(q, min_correlation, n) for k, r in self.results.items()}
        return _strongest(tables, n).reset_index(drop=True)

    def save(self, path: str | Path, overwrite: bool = False) -> Path:
        """Write :attr:`dataset` atomically, for :func:`hiercorr.load` and ``xarray.open_dataset``.

        Parameters
        ----------
        path : str or Path
            Name that ends in .zarr or .nc.
        overwrite : bool
            Replace an existing file.

        Returns
        -------
        Path

        Examples
        --------
        >>> import hiercorr as hc
        >>> adata = hc.datasets.glioblastoma()
        >>> adata.obs["type"] = ["A", "B"] * (adata.n_obs // 2)
        >>> types = hc.by_cell_type(adata, "type", "patient_id", genes=20, depth="total_counts")
        >>> import pathlib, tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     list(hc.load(types.save(pathlib.Path(folder) / "types.zarr")))
        ['A', 'B']
        """
        instance_of("path", path, (str, Path), "a path")
        true_or_false("overwrite", overwrite)
        return write_dataset(self._stored(), Path(path), overwrite)

    def _stored(self) -> xr.Dataset:
        """Return the dataset with all that :meth:`from_dataset` needs to take it apart again."""
        out = self.dataset
        parts = {k: r.dataset for k, r in self.results.items()}
        for dim, name in _PRESENT.items():
            if dim not in out.dims:
                continue
            values = {k: _values(p, dim) for k, p in parts.items()}
            inside = np.array([np.isin(_values(out, dim), v) for v in values.values()])
            text = f"whether the {dim} is in the result of the cell type"
            out[name] = (("cell_type", dim), inside.astype(np.int8), {"long_name": text})
        each = {
            k: {
                "attrs": {n: plain(v) for n, v in p.attrs.items()},
                "variables": [str(v) for v in p.data_vars],
            }
            for k, p in parts.items()
        }
        return out.assign_attrs({_EACH: json.dumps(each), _LEFT_OUT: json.dumps(self.left_out)})

    @classmethod
    def from_dataset(cls, dataset: xr.Dataset) -> CellTypes:
        """Take the dataset of a saved file apart into the results of the cell types.

        Examples
        --------
        >>> import hiercorr as hc
        >>> adata = hc.datasets.glioblastoma()
        >>> adata.obs["type"] = ["A", "B"] * (adata.n_obs // 2)
        >>> types = hc.by_cell_type(adata, "type", "patient_id", genes=20, depth="total_counts")
        >>> list(type(types).from_dataset(types.dataset))
        ['A', 'B']
        """
        instance_of("dataset", dataset, xr.Dataset, "the dataset of a saved result")
        if "cell_type" not in dataset.coords:
            raise InputError("this dataset has no cell types: use CorrelationResult(dataset)")
        attrs = dict(dataset.attrs)
        each, left_out = (_unpacked(attrs, name) for name in (_EACH, _LEFT_OUT))
        results = {}
        for k, cell_type in enumerate(map(str, dataset["cell_type"].values)):
            part = dataset.isel(cell_type=k, drop=True)
            own = each.get(cell_type, {"attrs": attrs})  # files of earlier versions have no more
            inside = {d: np.flatnonzero(part[v].values) for d, v in _PRESENT.items() if v in part}
            if "gene" not in inside and "mean" in part:
                inside["gene"] = np.flatnonzero(part["mean"].notnull().values)
            if "gene" in inside and "partner" in part.dims:
                inside["partner"] = inside["gene"]
            names = own.get("variables", [v for v in part if v not in _PRESENT.values()])
            lost = [v for v in names if v not in part]
            if lost:
                raise InputError(f"not a result of cell types: it has no {lost[0]!r}")
            one = part[names].isel(inside)
            one.attrs = dict(own["attrs"])
            results[cell_type] = CorrelationResult(one)
        return cls(results, left_out)

    def summary(self, gene: str | None = None, n: int = 20) -> Summary:
        """Summarise the results of all cell types, one after the other.

        Parameters
        ----------
        gene : str, optional
            Show the pairs of this gene only.
        n : int
            Number of pairs shown per cell type.

        Returns
        -------
        statsmodels.iolib.summary.Summary

        Examples
        --------
        >>> import hiercorr as hc
        >>> adata = hc.datasets.glioblastoma()
        >>> adata.obs["type"] = ["A", "B"] * (adata.n_obs // 2)
        >>> types = hc.by_cell_type(adata, "type", "patient_id", genes=20, depth="total_counts")
        >>> print(str(types.summary()).splitlines()[0].strip())
        hiercorr: CS-CORE, within samples
        """
        from hiercorr.results.summary import EscapedSummary  # loads statsmodels

        whole_number("n", n)
        text("gene", gene, optional=True)
        out, notes = EscapedSummary(), []
        found = self.results if gene is None else self._with_gene(gene)
        for name, result in found.items():
            one = result.summary(gene, n)
            out.tables += one.tables
            notes.append(f"{name}: {(one.extra_txt or '').strip()}")
        out.add_extra_txt(["", *notes])
        return out

    def __repr__(self) -> str:
        size = {k: r.dataset.attrs.get("n_samples", "?") for k, r in self.results.items()}
        listed = ", ".join(f"{k} ({n} samples)" for k, n in size.items())
        left_out = f"; left out: {', '.join(self.left_out)}" if self.left_out else ""
        return f"<CellTypes: {listed}{left_out}>"

    def _repr_html_(self) -> str:
        return str(self.summary(n=5)._repr_html_())


def _values(dataset: xr.Dataset, dim: str) -> np.ndarray:
    """Return the names along a dimension."""
    return pair_names(dataset) if dim == "pair" else dataset[dim].values


def _unpacked(attrs: dict[str, Any], name: str) -> dict[str, Any]:
    """Take an attribute with JSON out of the attributes."""
    try:
        found = json.loads(attrs.pop(name, "{}"))
    except (TypeError, ValueError) as error:
        raise InputError(f"the attribute {name!r} cannot be read ({error})") from error
    parts = found.values() if isinstance(found, dict) else [None]
    if name == _EACH and not all(
        isinstance(p, dict)
        and isinstance(p.get("attrs"), dict)
        and isinstance(p.get("variables", []), list)
        for p in parts
    ):
        raise InputError(f"the attribute {name!r} does not describe the cell types")
    return dict(found)


def _strongest(tables: dict[str, pd.DataFrame], n: int | None) -> pd.DataFrame:
    """Return the rows with the strongest evidence, with their type as first column."""
    for cell_type, table in tables.items():
        table.insert(0, "cell_type", cell_type)
    every = pd.concat(tables.values())
    found = sort_by_evidence(every)
    return found if n is None else found.head(n)
