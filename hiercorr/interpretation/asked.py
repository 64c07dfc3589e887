"""Tables of the pairs that are asked for, from results of any layout."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
import xarray as xr
from numpy.typing import ArrayLike

from hiercorr.counts.targets import PairList, lefts
from hiercorr.errors import InputError
from hiercorr.inference.multiplicity import benjamini_hochberg
from hiercorr.results.frames import n_pairs
from hiercorr.results.layout import is_list, listed_ends, targets_of
from hiercorr.results.pairs import UNCLIPPED, pair_columns, row_of, table_columns
from hiercorr.runtime.resources import available_memory
from hiercorr.schema import Flag

_COLUMNS = ("correlation", "ci_lower", "ci_upper", "p_value", "q_value")
_HETEROGENEITY = ("tau2", "i2", "prediction_lower", "prediction_upper")
_ROW = 500  # bytes per pair: its columns, names and the copies of both while they are joined


def partners_of(dataset: xr.Dataset, target: str) -> pd.DataFrame:
    """Tabulate the partners of a gene in a result, indexed by gene."""
    name, row = row_of(dataset, target)
    return _tabulated(row, row["gene"].values).drop(index=name, errors="ignore")


def unordered(names: pd.Index) -> pd.Index:
    """Return names of pairs that do not depend on the order of their genes; genes unchanged."""
    if names.nlevels == 1:
        return names
    a, b = (names.get_level_values(k).astype(str).to_numpy(object) for k in (0, 1))
    swapped = a > b
    return pd.MultiIndex.from_arrays([np.where(swapped, b, a), np.where(swapped, a, b)])


@dataclass(frozen=True)
class PairsAsked:
    """Pairs that are asked for; all of a result if neither targets nor a list are given.

    Attributes
    ----------
    targets : sequence of str or None
        Genes whose pairs are asked for.
    listed : PairList or None
    """

    targets: Sequence[str] | None
    listed: PairList | None

    def table(self, dataset: xr.Dataset) -> pd.DataFrame:
        """Tabulate the distinct pairs of a result that are asked for.

        A result that has exactly these pairs keeps its q-values; one with more gets those of the
        Benjamini-Hochberg procedure over these pairs.

        Parameters
        ----------
        dataset : xarray.Dataset

        Returns
        -------
        DataFrame
            Indexed by the names of both genes.

        Raises
        ------
        InputError
            If a target has no pairs in the result, or the table needs more memory than is free.
        """
        if is_list(dataset) and self.targets is None:
            left, right = listed_ends(dataset)
            table = _tabulated(dataset, right).set_axis(_both(left, right))
        else:
            table = self._rows(dataset)
        keys = unordered(table.index)
        keep = ~keys.duplicated()
        if self.listed is not None:
            keep &= keys.isin(unordered(_both(self.listed.a, self.listed.b)))
        table = table[keep]
        if len(table) < n_pairs(dataset):
            table = table.assign(q_value=benjamini_hochberg(table["p_value"].to_numpy(float)))
        return table

    def _rows(self, dataset: xr.Dataset) -> pd.DataFrame:
        """Tabulate all pairs of the genes of one side of the pairs that are asked for."""
        names = self._names(dataset)
        n = len(names) * dataset.sizes["gene"]
        free = available_memory()
        if not is_list(dataset) and free is not None and n * _ROW > free:
            raise InputError(
                f"evidence for {n:,} pairs needs {n * _ROW / 2**30:.1f} GiB, and "
                f"{free / 2**30:.1f} GiB are free: name fewer targets with target=, or fit listed "
                "pairs, pairs="
            )
        tables = []
        for name in names:
            found, row = row_of(dataset, name)
            partners = row["gene"].values.astype(object)
            other = ((row["flag"].values & int(Flag.SELF)) == 0) & (partners != found)
            left = np.full(len(partners), found, object)
            tables.append(_tabulated(row, partners).set_axis(_both(left, partners))[other])
        return pd.concat(tables)

    def _names(self, dataset: xr.Dataset) -> list[str]:
        """Return genes whose rows contain the pairs that are asked for."""
        if self.targets is not None:
            return list(self.targets)
        targets, genes = targets_of(dataset), dataset["gene"].values
        if targets is not None:
            return list(map(str, targets))
        if self.listed is None:
            return list(map(str, genes))
        known = [name for name in lefts(self.listed) if name in genes]
        if not known:
            raise InputError(
                f"the results share no pair: one has the list, e.g. {self.listed.a[0]!r} and "
                f"{self.listed.b[0]!r}, and the other has none of these genes"
            )
        return known


def _both(left: ArrayLike, right: ArrayLike) -> pd.MultiIndex:
    return pd.MultiIndex.from_arrays([np.asarray(left, object), np.asarray(right, object)])


def _tabulated(dataset: xr.Dataset, partners: ArrayLike) -> pd.DataFrame:
    """Tabulate estimates of pairs in one dimension, indexed by the names of the partners."""
    withheld = [c for c in table_columns(dataset) if c == UNCLIPPED]
    columns = [c for c in (*_COLUMNS, *withheld, *_HETEROGENEITY) if c in dataset]
    values = {c: v.astype(float) for c, v in pair_columns(dataset, columns) if "[" not in c}
    table = pd.DataFrame(values, pd.Index(np.asarray(partners, object)))
    for c in _COLUMNS:
        if c not in table:
            table[c] = np.nan
    return table
