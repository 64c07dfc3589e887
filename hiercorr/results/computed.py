"""Pair variables that follow from others: computed at once, or when they are asked for.

In a result of many genes an array takes 100 MB and more. Those that follow from others
(:class:`hiercorr.inference.Derivation`) are variables of its Dataset as any other, but their values
are computed for the part that is read, and not kept. ``q_value`` needs all p-values: it is computed
whole when it is first read, and kept.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray
from xarray.backends import BackendArray
from xarray.core import indexing

from hiercorr import kernels
from hiercorr.inference.derived import Derivation
from hiercorr.inference.multiplicity import benjamini_hochberg
from hiercorr.results import tiling

_BLOCK = 1_000_000  # entries computed at one time

Values = Mapping[str, Any]


def completed(base: Mapping[str, NDArray], follow: Derivation, rows: slice | None) -> Values:
    """Add the pair variables that follow from others, and q-values.

    Parameters
    ----------
    base : mapping
        Arrays of a fit.
    follow : Derivation
    rows : slice or None
        Position of the target, or None for all pairs.

    Returns
    -------
    mapping
        Arrays, or variables that are computed when they are read.
    """
    if base["correlation"].size < tiling.COMPUTED_FROM or rows is not None:
        pair = {**base, **follow(base)}
        if "p_value" in pair:
            tiling.add_q_values(pair, rows)
        return pair
    found: dict[str, Any] = {name: Computed(name, base, follow) for name in follow.names}
    p = found.get("p_value", base.get("p_value"))
    if p is not None and "q_value" not in base:
        found["q_value"] = Adjusted(p, base["correlation"].dtype)
    return {**base, **{name: lazily(values) for name, values in found.items()}}


def is_computed(values: xr.DataArray) -> bool:
    """Check whether the values of a variable are computed when they are read."""
    data = getattr(values.variable, "_data", None)
    while isinstance(data, indexing.CopyOnWriteArray | indexing.LazilyIndexedArray):
        data = data.array
    return isinstance(data, _Variable)


def lazily(values: _Variable) -> Any:
    """Return the values of a variable, which xarray reads when they are asked for."""
    found: Any = indexing.LazilyIndexedArray(values)
    return indexing.CopyOnWriteArray(found)


class _Variable(BackendArray):
    """A square variable of which xarray asks for rows and columns."""

    def __init__(self, shape: tuple[int, ...], dtype: np.dtype) -> None:
        self.shape, self.dtype = shape, dtype

    def __getitem__(self, key: indexing.ExplicitIndexer) -> NDArray:
        """Return some of the values."""
        support = indexing.IndexingSupport.OUTER
        return indexing.explicit_indexing_adapter(key, self.shape, support, self._values)

    def _values(self, key: tuple[Any, ...]) -> NDArray:
        """Return some rows and columns, whose integers drop a dimension."""
        rows, columns = (
            k if isinstance(k, slice) else np.atleast_1d(np.asarray(k, np.int64)) for k in key
        )
        single = tuple(
            0 if np.ndim(k) == 0 and not isinstance(k, slice) else slice(None) for k in key
        )
        return self.part(rows, columns)[single]

    def part(self, rows: slice | NDArray, columns: slice | NDArray) -> NDArray:
        """Return the values of some rows and columns."""
        raise NotImplementedError


class Computed(_Variable):
    """A variable that follows from others, entry by entry.

    Parameters
    ----------
    name : str
    base : mapping
        Arrays of the variables that it follows from.
    follow : Derivation
    """

    def __init__(self, name: str, base: Mapping[str, NDArray], follow: Derivation) -> None:
        self.name, self.follow = name, follow
        self.base = {needed: base[needed] for needed in follow.needs}
        r = base["correlation_unclipped"]
        super().__init__(r.shape, follow.dtype(name, r.dtype))

    def part(self, rows: slice | NDArray, columns: slice | NDArray) -> NDArray:
        """Compute the values of some rows and columns, in blocks of rows."""
        base = {name: values[rows][:, columns] for name, values in self.base.items()}
        n, m = base["correlation_unclipped"].shape
        out = np.empty((n, m), self.dtype)
        step = max(1, _BLOCK // max(m, 1))
        for start in range(0, n, step):
            some = slice(start, start + step)
            out[some] = self.follow({k: v[some] for k, v in base.items()})[self.name]
        return out


class Adjusted(_Variable):
    """Benjamini-Hochberg q-values over distinct pairs, computed when they are first read.

    Parameters
    ----------
    p : ndarray or Computed
        p-values.
    dtype : dtype
    """

    def __init__(self, p: NDArray | Computed, dtype: np.dtype) -> None:
        super().__init__(p.shape, dtype)
        self.p: NDArray | Computed | None = p
        self.q: NDArray | None = None

    def part(self, rows: slice | NDArray, columns: slice | NDArray) -> NDArray:
        """Return the values of some rows and columns."""
        q, p = self.q, self.p
        if q is None:
            assert p is not None
            q = np.full(self.shape, np.nan, self.dtype)
            kernels.squares.fill_upper(benjamini_hochberg(_upper(p, self.dtype)), q)
            kernels.squares.mirror(q)
            self.q, self.p = q, None
        return q[rows][:, columns].copy()


class DeltaError(_Variable):
    """Standard error of the correlation from that of Fisher's z, for files that lack it.

    Parameters
    ----------
    correlation, fisher_z_se : DataArray
        Possibly on disk.
    """

    def __init__(self, correlation: xr.DataArray, fisher_z_se: xr.DataArray) -> None:
        self.correlation, self.fisher_z_se = correlation, fisher_z_se
        super().__init__(fisher_z_se.shape, fisher_z_se.dtype)

    def part(self, rows: slice | NDArray, columns: slice | NDArray) -> NDArray:
        """Compute the values of some rows and columns."""
        r, se = (v[rows, columns].values for v in (self.correlation, self.fisher_z_se))
        return (1 - r**2) * se


def _upper(p: NDArray | Computed, dtype: np.dtype) -> NDArray:
    """Return the entries above the diagonal, row by row; those that are computed, as `dtype`."""
    if isinstance(p, np.ndarray):
        return kernels.squares.upper_triangle(p)
    n = p.shape[0]
    out, k = np.empty(n * (n - 1) // 2, dtype), 0
    step = max(1, _BLOCK // n)
    for start in range(0, n, step):
        block = p.part(slice(start, start + step), slice(start, n))
        for i, row in enumerate(block):
            some = row[i + 1 :]
            out[k : k + len(some)] = some
            k += len(some)
    return out
