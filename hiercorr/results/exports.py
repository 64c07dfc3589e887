"""Exports of a result to AnnData and NetworkX."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import xarray as xr

from hiercorr.errors import InputError
from hiercorr.results import layout, pairs, tables
from hiercorr.runtime.optional import optional
from hiercorr.schema import CELL_TYPE

if TYPE_CHECKING:
    import anndata as ad
    import networkx as nx


def to_anndata(dataset: xr.Dataset, adata: ad.AnnData, key: str) -> ad.AnnData:
    """Copy the genes of a result from an AnnData object and add the result to the copy."""
    genes, targets = pairs.genes_of(dataset), layout.targets_of(dataset)
    if CELL_TYPE in dataset:
        raise InputError(
            "this result has genes of two cell types, for which an AnnData of genes has no place: "
            "use to_table() or save()"
        )
    if layout.is_list(dataset):
        raise InputError(
            "listed pairs are not a matrix of genes, and have no place in an AnnData: use "
            "to_frame()"
        )
    ids = pairs.ids_of(dataset)
    named = genes if ids is None or genes.isin(adata.var_names).all() else ids
    missing = named.difference(adata.var_names)
    if len(missing):
        raise InputError(
            f"{len(missing)} genes are not in the AnnData (adata=), e.g. {missing[0]!r}"
        )
    out = adata[:, named].copy()
    for name in dataset.data_vars:
        values = dataset[name]
        if name == "p_value":
            values = values.copy(data=pairs.p_values(dataset))
        if values.dims == ("gene", "partner"):
            out.varp[f"{key}_{name}"] = np.array(values.values)
        elif values.dims == ("target", "gene"):
            assert targets is not None
            for target, row in zip(targets, values.values, strict=True):
                out.var[f"{key}_{target}_{name}"] = np.array(row)
        elif values.dims == ("gene",):
            out.var[f"{key}_{name}"] = np.array(values.values)
    out.uns[key] = {str(k): v for k, v in dataset.attrs.items()}
    return out


def to_networkx(dataset: xr.Dataset, q: float | None, min_correlation: float) -> nx.Graph:
    """Build a graph of the pairs that pass the thresholds, with every gene as a node."""
    nx = optional("networkx", "graphs")
    table = pairs.distinct_pairs(dataset, q, min_correlation, None)
    table = table.assign(weight=pairs.effects(table))
    graph = nx.from_pandas_edgelist(table, "gene_a", "gene_b", edge_attr=True)
    for name, row in tables.gene_table(dataset).iterrows():
        graph.add_node(name, **row.to_dict())
    return graph
