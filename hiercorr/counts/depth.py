"""Sequencing depth of the cells: given, or row sums without genes that dominate them."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from hiercorr.counts import validate
from hiercorr.counts.sources import Source, blocks
from hiercorr.errors import DataWarning
from hiercorr.runtime.user_warnings import warn

Array = NDArray[np.float64]

TOTAL = "total"
_SHARE = 0.1  # of all counts, above which a gene may dominate,
_MEANS = 20  # and above this multiple of the genes' mean share,
_TOGETHER = 0.2  # if such genes hold more than this together


def cell_depth(
    source: Source,
    given: str | ArrayLike | None,
    row_sum: Array,
    total: Array,
    notes: dict[str, Any],
) -> tuple[Array, Array]:
    """Return the depth of each cell.

    Parameters
    ----------
    source : Source
    given : str, array or None
        Column of obs or array; ``"total"`` (if no column has this name): row sums over all genes.
        None: row sums without dominating genes, whose own expression would pass as depth, so that
        every other gene correlates through it.
    row_sum : ndarray, shape (n_obs,)
    total : ndarray, shape (n_vars,)
        Counts of each gene.
    notes : dict
        ``depth_without`` is filled with the names of the dominating genes.

    Returns
    -------
    depth : ndarray, shape (n_obs,)
    sums : ndarray, shape (n_obs,)
        Row sums over the genes that count as depth.
    """
    if given is not None and not is_total(source, given):
        depth = validate.given_depth(source.obs, given)
        _warn_of_given(source, given, depth, row_sum, total)
        return depth, row_sum
    genes = dominating(total)
    if given is not None or not len(genes):
        return row_sum, row_sum
    depth = row_sum - counts_of(source, genes)
    names = ", ".join(map(str, source.genes[genes]))
    used = (depth > 0) & (row_sum > 0)
    spread = float(np.std(np.log(row_sum[used] / depth[used]))) if used.any() else 0.0
    warn(
        f"{names}: {total[genes].sum() / total.sum():.0%} of all counts. The depth of the cells is "
        f"taken without {'it' if len(genes) == 1 else 'them'}: included, expression of "
        f"{'this gene' if len(genes) == 1 else 'these genes'} would pass as depth (log depth would "
        f"change with a standard deviation of {spread:.2g}) and make independent genes correlate; "
        f"depth={TOTAL!r} is the sum over all genes",
        DataWarning,
    )
    notes["depth_without"] = names
    return depth, depth


def check_given(source: Source, given: str | ArrayLike | None) -> None:
    """Raise an error, before any pass over the matrix, if a given depth is not valid."""
    if given is not None and not is_total(source, given):
        validate.given_depth(source.obs, given)


def dominating(total: Array) -> NDArray[np.int64]:
    """Return the genes that hold a large part of all counts.

    Genes of more than 10% each (and 20 times the mean gene), if together they hold more than 20%.
    Less moves log depth little: a gene of 10% whose log expression has a standard deviation of 0.5
    by 0.05.

    Parameters
    ----------
    total : ndarray, shape (n_genes,)
        Counts of each gene.

    Returns
    -------
    ndarray of int64
        In descending order of their counts.
    """
    everything = float(total.sum())
    limit = max(_SHARE, _MEANS / max(len(total), 1)) * everything
    order = np.argsort(-total, kind="stable")
    genes = order[: int((total > limit).sum())].astype(np.int64)
    return genes if total[genes].sum() > _TOGETHER * everything else genes[:0]


def counts_of(source: Source, genes: NDArray[np.int64]) -> Array:
    """Sum the counts of some genes over each cell, shape (n_obs,), in a pass over the matrix."""
    out = np.zeros(source.shape[0])
    for i, j, block in blocks(source):
        here = genes[(genes >= j) & (genes < j + block.shape[1])] - j
        if len(here):
            out[i : i + block.shape[0]] += np.asarray(block[:, here].sum(1, dtype=float)).ravel()
    return out


def is_total(source: Source, given: object) -> bool:
    """Return whether the depth is said to be the row sums, all genes included."""
    return isinstance(given, str) and given == TOTAL and TOTAL not in source.obs


def _warn_of_given(
    source: Source, given: str | ArrayLike, depth: Array, row_sum: Array, total: Array
) -> None:
    genes = dominating(total)
    if not len(genes) or not np.array_equal(depth, row_sum):
        return
    name = f"column {given!r}" if isinstance(given, str) else "array"
    warn(
        f"depth {name} is the sum over all genes, and "
        f"{total[genes].sum() / total.sum():.0%} of it are counts of "
        f"{', '.join(map(str, source.genes[genes]))}, whose expression passes as depth and makes "
        "independent genes correlate; without depth= they are not part of it",
        DataWarning,
    )
