"""Columns of tables of pairs that state the type of each feature: gene, antibody, peak."""

from __future__ import annotations

import pandas as pd
import xarray as xr

from hiercorr.schema import FEATURE_TYPE


def with_types(table: pd.DataFrame, dataset: xr.Dataset) -> pd.DataFrame:
    """Add the types of the features to a table of pairs, if the result has several types.

    Parameters
    ----------
    table : DataFrame
        Pairs by ``gene_a`` and ``gene_b`` (columns or index), or partners by name (index).
    dataset : xarray.Dataset

    Returns
    -------
    DataFrame
        With ``feature_type_a`` and ``feature_type_b`` after the names, or with ``feature_type`` of
        the partners as its first column.
    """
    if FEATURE_TYPE not in dataset:
        return table
    of = pd.Series(dataset[FEATURE_TYPE].values.astype(object), dataset["gene"].values)
    names = table.index.to_frame(index=False) if "gene_a" not in table else table
    if "gene_b" not in names:
        types = {FEATURE_TYPE: of.reindex(table.index).to_numpy()}
    else:
        types = {
            f"{FEATURE_TYPE}_{end}": of.reindex(names[f"gene_{end}"]).to_numpy() for end in "ab"
        }
    out = table.copy()
    first = 2 if "gene_b" in table else 0
    for k, (name, values) in enumerate(types.items()):
        out.insert(first + k, name, values)
    return out
