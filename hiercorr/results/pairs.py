"""Pair variables of a dataset as tables: which of them say anything, which pairs are wanted, in which order."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import pandas as pd
import xarray as xr

from hiercorr.schema import PAIR_VARIABLES, Flag, describe_flag

_PART = 20_000_000  # entries of a pair variable on disk that are read at one time


def _columns(dataset: xr.Dataset) -> list[str]:
    """Pair variables that say anything, in the schema's order."""
    known = [
        n
        for n in PAIR_VARIABLES
        if n in dataset and not n.startswith(("sample_", "group_")) and n != "flag"
    ]
    said = [n for n in known if n != "correlation_unclipped" and says(dataset, n)]
    return said if "correlation" in said else ["correlation", *said]


def says(dataset: xr.Dataset, name: str) -> bool:
    """Whether a pair variable holds anything; of one on disk, a few rows answer for it."""
    values = dataset[name]
    if not values.variable._in_memory:
        rows = np.linspace(0, values.shape[0] - 1, min(8, values.shape[0])).astype(int)
        return any(bool(values.isel({values.dims[0]: r}).notnull().any()) for r in rows)
    return bool(values.notnull().any())


def parts(dataset: xr.Dataset) -> Iterator[tuple[int, xr.Dataset]]:
    """First row and part of the dataset: the whole where it is in memory, else as many rows as are read at once."""
    flag = dataset["flag"]
    rows, columns = flag.shape
    step = rows if flag.variable._in_memory else max(1, _PART // columns)
    for a in range(0, rows, step):
        yield a, dataset.isel({flag.dims[0]: slice(a, a + step)})


def columns_in_order(dataset: xr.Dataset) -> list[str]:
    """The same with what readers look at first in front."""
    first = [
        "correlation",
        "difference",
        "difference_lower",
        "difference_upper",
        "ci_lower",
        "ci_upper",
        "sd",
        "probability_of_direction",
        "se",
        "statistic",
        "df",
        "p_value",
        "q_value",
    ]
    have = _columns(dataset)
    return [c for c in first if c in have] + [c for c in have if c not in first and c != "fisher_z"]


def distinct_pairs(
    dataset: xr.Dataset, q: float | None, min_correlation: float, n: int | None
) -> pd.DataFrame:
    """Distinct pairs that pass the thresholds, the `n` strongest of them, strongest evidence first."""
    columns = columns_in_order(dataset)
    tables = [
        _pairs_of(first, part, columns, q, min_correlation, n) for first, part in parts(dataset)
    ]
    tables = [t for t in tables if len(t)] or tables[:1]  # an empty part has no type of its names
    table = by_evidence(pd.concat(tables, ignore_index=True)).reset_index(drop=True)
    table = table if n is None else table.head(n)
    flag = [describe_flag(f) for f in table.pop("flag")]
    return table.assign(flag=flag)


def _pairs_of(
    first: int,
    ds: xr.Dataset,
    columns: Sequence[str],
    q: float | None,
    min_correlation: float,
    n: int | None,
) -> pd.DataFrame:
    """Distinct pairs of some rows of the dataset, the first of which is the `first` of all."""
    r, flag = ds["correlation"].values, ds["flag"].values
    keep = np.isfinite(r) & (np.abs(r) >= min_correlation) & ((flag & int(Flag.SELF)) == 0)
    if q is not None:
        keep &= ds["q_value"].values <= q
    if "target" not in ds.dims:
        keep &= np.triu(np.ones(keep.shape, bool), first + 1)
    i, j = np.nonzero(keep)
    if n is not None and len(i) > n:  # before the table is made: there can be millions
        has_p = "p_value" in columns
        key = ds["p_value"].values[i, j] if has_p else -np.abs(r[i, j])
        strongest = np.argpartition(np.nan_to_num(key, nan=2.0), n)[:n]
        i, j = i[strongest], j[strongest]
    left, right = (np.array([str(g) for g in ds[d].values], object) for d in ds["correlation"].dims)
    table = {"gene_a": left[i], "gene_b": right[j]}
    table |= {c: ds[c].values[i, j].astype(float) for c in columns}
    if "group_correlation" in ds:
        by_group = ds["group_correlation"].values
        table |= {
            f"correlation[{g}]": by_group[k][i, j].astype(float)
            for k, g in enumerate(ds["group"].values)
        }
    return pd.DataFrame({**table, "flag": flag[i, j]})


def by_evidence(table: pd.DataFrame) -> pd.DataFrame:
    """Rows by p-value, then by size of the correlation; those without one last."""
    size = -table["correlation"].abs()
    p = table["p_value"] if "p_value" in table else pd.Series(0.0, table.index)
    order = np.lexsort(
        (size.fillna(0).to_numpy(), p.fillna(2).to_numpy(), table["correlation"].isna().to_numpy())
    )
    return table.iloc[order]
