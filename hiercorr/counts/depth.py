"""Sequencing depth of the cells: given, or row sums without genes that dominate them."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from hiercorr.counts import validate
from hiercorr.counts.sources import Source, blocks, matrix_blocks
from hiercorr.errors import DataWarning, InputError, unknown_name
from hiercorr.runtime.user_warnings import warn

Array = NDArray[np.float64]

TOTAL, TRIMMED = "total", "trimmed"
_SHARE = 0.1  # of all counts, above which a gene may dominate,
_MEANS = 20  # and above this multiple of the genes' mean share,
_OTHER_TYPES = 0.02  # SD of log(given depth / counts of the type) that other types may make
_TOGETHER = 0.2  # if such genes hold more than this together
_FOLLOWS = (0.5, 2.0)  # slope of log counts on log of a given depth, within which it may be theirs,
_SURELY = 3.0  # by so many standard errors;
_TIGHT, _FUNCTION = 0.95, (0.7, 1.4)  # correlation of both, above which the slope is of a function
_SAME = 0.02  # SD of log depth within samples, below which it is one number per sample
_LEAST_CELLS, _LEAST_COUNTS, _LEAST_SPREAD = 100, 20, 0.005  # cells, counts per cell, SD of log
_ALONE, _ALONE_MEANS = 0.4, 3  # share of one of few features, and multiple of their mean
_CLOSER = 0.2  # of the SD of log(given depth / counts), if it is the sum over all types
_CONTAINED = 0.99  # of the cells, whose given depth is not below their counts
_SHARE_VARIABLE, _TOGETHER_VARIABLE = 0.04, 0.1  # the same for genes whose counts vary so much
_SPREAD_VARIABLE = 0.08  # that log depth changes by this SD with them
_REST = 0.05  # of a given depth that are other counts,
_REST_CORRELATION = 0.65  # whose correlation with the counts is 0.7 to 1 if they are of genes,
_REST_SLOPE = 0.8  # as is the slope of the counts on them, also if these vary more, as markers do,
_REST_VARIANCE = 0.01  # and the relative variance that they make
_NOISE = 0.01  # relative variance of a given depth that is counting noise


Depth = str | ArrayLike | Mapping[str, Any] | None


class CellDepth(NamedTuple):
    """Depth of each cell, its sums over the genes that count as depth, and the others' positions.

    Attributes
    ----------
    depth, sums : ndarray, shape (n_obs,)
    without : ndarray of int64
        Dominating genes that do not count.
    """

    depth: Array
    sums: Array
    without: NDArray[np.int64]


def cell_depth(
    source: Source,
    given: str | ArrayLike | None,
    row_sum: Array,
    total: Array,
    notes: dict[str, Any],
    codes: NDArray[np.int64],
    features: NDArray[np.int64] | None = None,
) -> CellDepth:
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
    codes : ndarray of int64, shape (n_obs,)
        Sample of each cell, -1 for cells that are not used.
    features : ndarray of int64, optional
        Features of one type, which `row_sum` is the sum of. None: all.

    Returns
    -------
    CellDepth
    """
    features = np.arange(len(total)) if features is None else features
    none = features[:0]
    genes = features[dominating(total[features])]
    if not len(genes) and (given is None or is_total(source, given)):
        genes = _variable(source, row_sum, total, features, codes)
    share = float(total[genes].sum() / max(total[features].sum(), 1.0))
    if given is not None and not is_total(source, given):
        depth = validate.given_depth(source.obs, given)
        _refuse_sum_of_types(source, given, depth, row_sum)
        _warn_of_other_depth(given, depth, row_sum, codes)
        share = _share_of(total[genes], depth, row_sum, codes)
        if share > _TOGETHER:
            _warn_of_given(source, _called(given), genes, share)
        return CellDepth(depth, row_sum, none)
    if given is not None and len(genes):
        _warn_of_given(source, repr(TOTAL), genes, share)
    if given is not None or not len(genes):
        return CellDepth(row_sum, row_sum, none)
    depth = row_sum - counts_of(source, genes)
    names = ", ".join(map(str, source.genes[genes]))
    used = (depth > 0) & (row_sum > 0)
    spread = float(np.std(np.log(row_sum[used] / depth[used]))) if used.any() else 0.0
    warn(
        f"{names}: {share:.0%} of all counts. The depth of the cells is "
        f"taken without {'it' if len(genes) == 1 else 'them'}: included, expression of "
        f"{'this gene' if len(genes) == 1 else 'these genes'} would pass as depth (log depth would "
        f"change with a standard deviation of {spread:.2g}) and make independent genes correlate; "
        f"depth={TOTAL!r} is the sum over all genes",
        DataWarning,
    )
    before = [notes["depth_without"]] if "depth_without" in notes else []
    notes["depth_without"] = ", ".join([*before, names])
    return CellDepth(depth, depth, genes)


def _variable(
    source: Source,
    row_sum: Array,
    total: Array,
    features: NDArray[np.int64],
    codes: NDArray[np.int64],
) -> NDArray[np.int64]:
    """Return genes that hold a part of all counts which varies much, in a pass over the matrix.

    Together they need not hold much: genes of one programme (immunoglobulins), or one that few
    cells express at a high level, change log depth as much as a gene that dominates it.
    """
    everything = float(total[features].sum())
    if len(features) < _MEANS / _SHARE_VARIABLE:
        return features[:0]
    some = features[total[features] > _SHARE_VARIABLE * everything]
    if total[some].sum() <= _TOGETHER_VARIABLE * everything:
        return some[:0]
    own = counts_of(source, some)
    used = (codes >= 0) & (row_sum > own)
    if used.sum() < _LEAST_CELLS:
        return some[:0]
    rest, group = row_sum[used] - own[used], codes[used]
    log = _within(np.log(row_sum[used] / rest), group)
    variance = float(log @ log) / len(log) - float(np.mean(1 / rest - 1 / row_sum[used]))
    order = np.argsort(-total[some], kind="stable")
    return some[order] if variance > _SPREAD_VARIABLE**2 else some[:0]


def depths_of_types(
    source: Source, given: Depth, total: Array, notes: dict[str, Any], codes: NDArray[np.int64]
) -> list[CellDepth]:
    """Return the depth of each cell in each type of features, in a pass over the matrix.

    Parameters
    ----------
    source : Source
        Of several types of features.
    given : mapping, ``"total"`` or None
        Depth of each type, or of none, as for :func:`cell_depth`.
    total : ndarray, shape (n_vars,)
    notes : dict
    codes : ndarray of int64, shape (n_obs,)

    Returns
    -------
    list of CellDepth
        Of each type.
    """
    kind = source.kind
    row_sums = np.zeros((len(source.kinds), source.shape[0]))
    for i, j, block in blocks(source):
        of_type = kind[j : j + block.shape[1], None] == np.arange(len(source.kinds))
        row_sums[:, i : i + block.shape[0]] += np.asarray(block @ of_type.astype(float)).T
    found = []
    for t, name in enumerate(source.kinds):
        own = of_kind(given, name)
        if (own is None or is_total(source, own)) and (kind == t).sum() == 1:
            raise InputError(
                f"there is one feature of type {name!r}, and its counts cannot be its own depth: "
                f"pass depth={{{name!r}: 'column of obs'}}, or leave out the type (modalities=)"
            )
        features = np.flatnonzero(kind == t)
        found.append(cell_depth(source, own, row_sums[t], total, notes, codes, features))
    return found


def of_kind(given: Depth, kind: str | None = None) -> str | ArrayLike | None:
    """Return the depth that was given for a type of features; None: for the only one.

    ``"trimmed"`` is the default by its name.
    """
    own: str | ArrayLike | None
    if not isinstance(given, Mapping):
        own = given
    else:
        own = next(iter(given.values()), None) if kind is None else given.get(kind)
    return None if _is_trimmed(own) else own


def _is_trimmed(given: object) -> bool:
    return isinstance(given, str) and given == TRIMMED


def check_given(source: Source, given: Depth) -> None:
    """Raise an error, before any pass over the matrix, if a given depth is not valid."""
    kinds = list(source.kinds) or _only_kind(source)
    if isinstance(given, Mapping):
        for kind, depth in given.items():
            if kind not in kinds and kind in source.features_left_out:
                raise InputError(
                    f"depth= is given for {kind!r}, and features of this type are left out: "
                    f"analyse them with modalities={kind!r}, or with the genes, modalities='all'"
                )
            if kind not in kinds:
                raise unknown_name("type of features (depth=)", kind, kinds)
            _check_one(source, depth)
    elif _is_trimmed(given):
        _check_one(source, given)
    elif len(kinds) > 1 and given is not None and not is_total(source, given):
        raise InputError(
            f"depth= is one depth, and features of the types {', '.join(kinds)} have one each: "
            f"pass a mapping, e.g. depth={{{kinds[0]!r}: 'column of obs'}}; types that it does not "
            "name have the sums of their counts"
        )
    else:
        _check_one(source, given)


def check_depths(
    source: Source, given: Depth, depths: Array, sums: Array, cells: NDArray[np.int64]
) -> None:
    """Raise an error for depths that are not positive; warn of those of a panel of features.

    Parameters
    ----------
    source : Source
    given : str, array, mapping or None
        What was given as depth.
    depths, sums : ndarray, shape (n_types, n_cells)
        Depths of the used cells, and their sums over the features that count as depth.
    cells : ndarray of int64, shape (n_cells,)
        Positions of these cells.
    """
    only = [] if source.kinds else _only_kind(source)
    for t, (depth, row_sum) in enumerate(zip(depths, sums, strict=True)):
        kind = source.kinds[t] if source.kinds else None
        own = of_kind(given, kind)
        kind = only[0] if len(only) == 1 else kind
        validate.check_depth(depth, source.obs.index[cells], own)
        said = None if is_total(source, own) else own
        n = int((source.kind == t).sum()) if source.kinds else source.shape[1]
        validate.warn_of_panel_depth(n, depth, row_sum, said, kind)


def _check_one(source: Source, given: str | ArrayLike | None) -> None:
    if _is_trimmed(given):
        if TRIMMED in source.obs:
            raise InputError(
                f"depth={TRIMMED!r} is the sum without dominating genes, and the name of a column "
                "of obs: rename the column, or leave out depth="
            )
        return
    if given is not None and not is_total(source, given):
        validate.given_depth(source.obs, given)


def _only_kind(source: Source) -> list[str]:
    """Return the type of the features that are read, if they are of one."""
    return [] if source.read_types is None else list(source.read_types.unique())


def dominating(total: Array) -> NDArray[np.int64]:
    """Return the genes that hold a large part of all counts.

    Genes of more than 10% each (and 20 times the mean gene), if together they hold more than 20%;
    of few features those of more than 40% (and 3 times the mean). Less moves log depth little: a
    gene of 10% whose log expression has a standard deviation of 0.5 by 0.05.

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
    n = max(len(total), 1)
    limit = max(_SHARE, min(_MEANS / n, max(_ALONE, _ALONE_MEANS / n))) * everything
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


def _refuse_sum_of_types(
    source: Source, given: str | ArrayLike, depth: Array, row_sum: Array
) -> None:
    """Raise an error if a depth is the sum over features of all types, and that matters."""
    of_others = bool(source.features_left_out) and source.columns is not None
    if not (of_others or source.kinds):
        return
    used = np.isfinite(depth) & (depth > 0) & (row_sum > 0)
    spread = float(np.std(np.log(depth[used] / row_sum[used]))) if used.any() else 0.0
    if spread < _OTHER_TYPES:
        return
    total = np.zeros(source.shape[0])
    for i, _, block in matrix_blocks(source):
        total[i : i + block.shape[0]] += np.asarray(block.sum(1, dtype=float)).ravel()
    # a multiple of the sum is the same depth, as is one that differs from it by a few counts
    if np.std(np.log(depth[used] / total[used])) > _CLOSER * spread:
        return
    raise InputError(
        f"depth {_called(given)} is the sum over features of all types, and counts of one type say "
        "nothing of the depth of another: leave it out, so that each type has its own sums, or "
        "pass the depth of the genes"
    )


def _warn_of_other_depth(
    given: str | ArrayLike, depth: Array, row_sum: Array, codes: NDArray[np.int64]
) -> None:
    """Warn if a given depth does not seem to be that of these features.

    Counts change in proportion to their own depth; those of antibodies do not with the depth of
    genes. Other counts that are part of it vary with these, if they are of genes. And a depth that
    does not contain these counts, such as that of a few controls, has counting noise of its own.
    """
    used = (codes >= 0) & np.isfinite(depth) & (depth > 0) & (row_sum > 0)
    if used.sum() < _LEAST_CELLS or np.median(row_sum[used]) < _LEAST_COUNTS:
        return
    depth, row_sum, codes = depth[used], row_sum[used], codes[used]
    name = _called(given)
    contained = (depth >= row_sum).mean() >= _CONTAINED
    log, counts = _within(np.log(depth), codes), _within(np.log(row_sum), codes)
    variance = float(np.mean((counts - log) ** 2) - np.mean(1 / row_sum))
    if log.std() < _SAME and variance > _REST_VARIANCE:
        warn(
            f"the depth {name} is nearly the same for all cells of a sample, whose counts vary "
            f"({math.sqrt(variance):.0%}): unless all cells were sampled down to one depth before "
            "genes were removed, it is not theirs, and independent genes correlate, by about "
            f"{variance / 0.3:.2f} if their relative variance is 0.3. Leave out depth=",
            DataWarning,
        )
        return
    slope, se = _slope(np.log(depth), np.log(row_sum))
    limits = _FOLLOWS
    if log.std() > 0 and np.corrcoef(log, counts)[0, 1] > _TIGHT and variance > _REST_VARIANCE:
        slope, se = _slope(log, counts)
        limits = _FUNCTION
    if not limits[0] <= slope + _SURELY * se or not slope - _SURELY * se <= limits[1]:
        why = "is it the depth of other features, or very noisy? Independent genes then correlate"
        if slope > 0.5:
            why = "is it a logarithm, a root, or the number of genes found?"
        warn(
            f"where the depth {name} is 10% larger, the counts of the cells are "
            f"{1.1**slope - 1:.0%} larger, not 10%: {why}",
            DataWarning,
        )
    elif contained:
        _warn_of_rest(name, depth, row_sum, codes)
    elif np.array_equal(depth, np.rint(depth)) and np.mean(1 / depth) > _NOISE:
        noise = float(np.mean(1 / depth))
        warn(
            f"the depth {name} is a number of counts that does not contain those of these features "
            f"(median {np.median(depth):.0f}): its own counting noise, {math.sqrt(noise):.0%} of "
            "it, is common to all features and makes independent ones correlate, by about "
            f"{noise / 0.3:.2f} if their relative variance is 0.3. Use a depth of more counts",
            DataWarning,
        )


def _slope(log: Array, counts: Array) -> tuple[float, float]:
    """Regress log counts on log depth; return slope and standard error, 1 and 0 without spread."""
    log, counts = log - log.mean(), counts - counts.mean()
    square = float(log @ log)
    if square < _LEAST_SPREAD**2 * len(log):
        return 1.0, 0.0
    slope = float(log @ counts) / square
    return slope, float(np.sqrt(np.mean((counts - slope * log) ** 2) / square))


def _warn_of_rest(name: str, depth: Array, row_sum: Array, codes: NDArray[np.int64]) -> None:
    """Warn if counts that are part of a given depth, but not of these features, vary on their own.

    The rest of a depth of genes correlates with the counts of a panel of them by 0.7 to 1 within
    samples (genes of three data sets, at random and the most variable ones); antibodies by less.
    Markers of several cell types correlate less with it, too, but change in proportion to it.
    """
    rest = depth - row_sum
    some = rest > 0
    share = float(rest.sum() / depth.sum())
    if share < _REST or some.mean() < _CONTAINED:
        return
    rest, depth, row_sum, codes = rest[some], depth[some], row_sum[some], codes[some]
    ours, theirs, part = (_within(np.log(v), codes) for v in (row_sum, rest, row_sum / depth))
    variance = float(part @ part) / len(part) - float(np.mean(1 / row_sum - 1 / depth))
    variances = [
        float(log @ log) / len(log) - float(np.mean(1 / counts))
        for log, counts in ((ours, row_sum), (theirs, rest))
    ]
    if variance < _REST_VARIANCE or min(variances) <= 0:
        return
    covariance = float(ours @ theirs) / len(ours)
    r = covariance / math.sqrt(variances[0] * variances[1])
    if r > _REST_CORRELATION or covariance > _REST_SLOPE * variances[1]:
        return
    warn(
        f"{share:.0%} of the depth {name} are counts of other features than these, which vary on "
        f"their own (within samples, their logarithm correlates by {max(r, -1.0):.2f} with that of "
        "these counts; other genes' by 0.7 to 1): are they of antibodies? Independent genes then "
        f"correlate, by about {variance / 0.3:.2f} if their relative variance is 0.3. Leave out "
        "depth=, or pass the depth of the genes",
        DataWarning,
    )


def _within(values: Array, codes: NDArray[np.int64]) -> Array:
    """Subtract the mean of each sample."""
    _, group = np.unique(codes, return_inverse=True)
    return np.asarray(values - (np.bincount(group, values) / np.bincount(group))[group])


def _share_of(counts: Array, depth: Array, row_sum: Array, codes: NDArray[np.int64]) -> float:
    """Return the proportion of a given depth that are counts of some genes, 0 if it has none."""
    used = (codes >= 0) & np.isfinite(depth) & (depth > 0)
    if not used.any() or (depth[used] >= row_sum[used]).mean() < _CONTAINED:
        return 0.0
    return float(counts.sum() / depth[used].sum())


def _called(given: object) -> str:
    """Return how a given depth is called in messages."""
    return f"column {given!r}" if isinstance(given, str) else "array"


def _warn_of_given(source: Source, name: str, genes: NDArray[np.int64], share: float) -> None:
    warn(
        f"depth {name} contains the counts of all genes, and {share:.0%} of it are counts of "
        f"{', '.join(map(str, source.genes[genes]))}, whose expression passes as depth and makes "
        "independent genes correlate; without depth= they are not part of it",
        DataWarning,
    )
