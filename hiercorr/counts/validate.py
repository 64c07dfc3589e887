"""Checks of the input, and the codes and positions of the selected cells, samples and genes."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray
from scipy import sparse

from hiercorr import kernels
from hiercorr.counts.counts import Counts
from hiercorr.counts.formats import unknown_column
from hiercorr.counts.modalities import are_genes
from hiercorr.counts.names import FeatureNames, refuse_repeated
from hiercorr.counts.plausibility import (
    CellSample,
    reads_per_molecule,
    technical_dispersion,
    why_equal_sums,
    why_scaled,
    why_underdispersed,
    why_uneven,
)
from hiercorr.counts.selection import Selection, in_order
from hiercorr.counts.sources import Source, blocks
from hiercorr.design.levels import one_name_each, writable_names
from hiercorr.design.samples import named_columns
from hiercorr.errors import DataWarning, InputError, numbers, unknown_name
from hiercorr.runtime.parts import of_a_part
from hiercorr.runtime.user_warnings import warn

# Below this number of genes, row sums are the totals of a targeted panel, not of the library.
PANEL_GENES = 1000
_FEW_GENES = 60  # up to which all pairs are examined
_EXPECTED_ZEROS = 20  # cells without a count, at least, above which their absence is not chance,
_MISSING_ZEROS = 0.3  # nor is a smaller proportion of them
_PEAK = r"^(chr)?\w+[:_-]\d+[-_]\d+$"  # names of genomic windows
_NO_DEPTH = "bcmM"  # kinds that numpy turns into numbers: booleans, complex numbers, times
_LISTS = (list, tuple, set, frozenset, np.ndarray, pd.Index, pd.Series)


def checked_blocks(
    source: Source, codes: NDArray[np.int64]
) -> Iterator[tuple[int, int, sparse.csr_matrix]]:
    """Yield the blocks of a source; raise an error at the first value that is not a count.

    After the last block, the values of the used cells (codes of 0 or more) are examined
    (:func:`check_values`).
    """
    check_shape(source)
    examined = CellSample.among(np.flatnonzero(codes >= 0), source.shape[1])
    for i, j, block in blocks(source):
        bad = first_bad(block)
        if bad is not None:
            raise not_counts(source, i, j, bad)
        examined.examine(i, j, block)
        yield i, j, block
    check_values(source, examined)


def check_values(source: Source, examined: CellSample) -> None:
    """Raise an error if integers are not counts; warn if they may not be, or count reads."""
    why = why_scaled(examined)
    if why is not None:
        raise InputError(
            "the matrix contains integers that are not counts, but seem to be scaled and "
            f"rounded: {why}; {_where_counts_are(source)}"
        )
    uneven = why_uneven(examined)
    if uneven is not None:
        _report_uneven(source, *uneven)
    why = why_underdispersed(examined)
    if why is not None and uneven is None:
        warn(
            f"{why}. If the values were scaled down and rounded, they are not counts, and results "
            f"are wrong: {_where_counts_are(source)}",
            DataWarning,
        )
    why = why_equal_sums(examined)
    if why is not None:
        warn(
            f"{why}. If the values were scaled to a common depth and rounded, they are not counts, "
            f"and results are wrong: {_where_counts_are(source)}. Counts that were sampled down "
            "to a common depth before genes were removed are counts",
            DataWarning,
        )
    reads = reads_per_molecule(examined)
    if reads is not None:
        noise, biological = technical_dispersion(examined)
        warn(
            "these seem to be counts of reads, not of molecules (UMIs): genes that few cells have "
            f"are counted {reads:.0f} times where they are found. Their noise is about "
            f"{noise:.0f} times that of molecules (variance over mean of the genes that vary "
            f"least), and is taken for biology: of a correlation of 0.5, about "
            f"{0.5 * biological:.2f} is found for the median gene. Tests keep their level",
            DataWarning,
        )


def _report_uneven(source: Source, why: str, clear: bool) -> None:
    """Raise an error for values that were scaled and rounded if that is clear, or warn."""
    if _are_peaks(source):
        warn(
            f"{why}. In peaks, cut sites seem to be counted, two of which come from one fragment: "
            "their variance is not that of counts, and correlations are wrong; count fragments "
            "(half of each value, rounded up)",
            DataWarning,
        )
        return
    if clear:
        raise InputError(
            f"the matrix contains integers that are not counts, but seem to be scaled and rounded: "
            f"{why}; {_where_counts_are(source)}"
        )
    warn(
        f"{why}. If the values were scaled and rounded, or corrected after they were counted, they "
        f"are not counts, and results are wrong: {_where_counts_are(source)}",
        DataWarning,
    )


def _are_peaks(source: Source) -> bool:
    """Return whether features that are read are peaks of open chromatin."""
    if source.read_types is not None:
        return bool((source.read_types == "Peaks").any())
    return bool(source.genes.astype(str).str.match(_PEAK).mean() > 0.5)


def check_shape(source: Source) -> None:
    """Raise an error if the matrix, the cell table and the gene names differ in length."""
    n, p = source.shape
    if len(source.obs) != n or len(source.genes) != p:
        raise InputError(
            f"the matrix is {n} x {p}, but there are {len(source.obs)} cells and "
            f"{len(source.genes)} genes"
        )


class BadCount(NamedTuple):
    """Entry that is not a count: position in its block, value, and largest value of the block."""

    row: int
    column: int
    value: float
    largest: float


def first_bad(block: sparse.csr_matrix) -> BadCount | None:
    """Return the first entry of a block that is not a count, if there is one."""
    k = kernels.counts.first_bad_count(block.data)
    if k < 0:
        return None
    row = int(np.searchsorted(block.indptr, k, side="right")) - 1
    return BadCount(row, int(block.indices[k]), float(block.data[k]), float(np.max(block.data)))


def warn_of_panel_depth(
    n_genes: int,
    depth: NDArray[np.float64],
    row_sum: NDArray[np.float64],
    given: str | ArrayLike | None,
    kind: str | None = None,
) -> None:
    """Warn if the depth is the row sum of a targeted panel, even if it was given.

    `kind` is the type of the features, if several are analysed.
    """
    if n_genes >= PANEL_GENES or not np.array_equal(depth, row_sum):
        return
    what = "genes" if kind is None or are_genes(kind) else f"features of type {kind!r}"
    depends = (
        f"the sum over only {n_genes} {what}, which for a targeted panel depends on the expression "
        f"of these {what}"
    )
    if given is None:
        text = (
            f"depth is {depends}; pass depth= (a numeric obs column or an array of size factors) "
            "if the full sequencing depth is known"
        )
    else:
        name = f"column {given!r}" if isinstance(given, str) else "array"
        text = (
            f"depth {name} is {depends}: it is not the full sequencing depth, which is better if "
            "it is known"
        )
    warn(text, DataWarning)


def warn_of_selected_on(
    genes: pd.Index, detected: NDArray[np.int64], total: NDArray[np.float64], n_cells: int
) -> None:
    """Warn of genes that nearly every cell has, although counts as low as theirs would often be 0.

    Among cells chosen because they express a gene, its counts have lost their zeros: its variance
    beyond noise is too small, and correlations with it too large in size (of 0.5, 0.86 was left in
    a simulation at mean 1).

    Parameters
    ----------
    genes : Index
    detected : ndarray of int64, shape (n_genes,)
        Number of cells with a count of each gene.
    total : ndarray, shape (n_genes,)
        Counts of each gene.
    n_cells : int
    """
    expected = n_cells * np.exp(-total / n_cells)  # Poisson; other distributions have more zeros
    lacking = n_cells - detected
    chosen = np.flatnonzero((expected > _EXPECTED_ZEROS) & (lacking < _MISSING_ZEROS * expected))
    if not len(chosen):
        return
    worst, most = chosen[np.argmax(expected[chosen])], int(lacking[chosen].max())
    every = f"all {n_cells:,}" if most == 0 else f"{n_cells - most:,} of {n_cells:,}"
    warn(
        f"{every} cells have counts of {', '.join(map(str, genes[chosen][:5]))}"
        f"{' and others' if len(chosen) > 5 else ''}, where at least {expected[worst]:,.0f} would "
        f"have none of {genes[worst]!r}: were cells chosen by these counts (subset= or before)? "
        "Without its zeros, a gene varies less than counts do: correlations with it are too large "
        "in size, or cannot be estimated; choose cells by other genes, such as markers of the cell "
        "type",
        DataWarning,
    )


def warn_of_selected_on_either(counts: Counts, target: str | None = None) -> None:
    """Warn of pairs of which nearly every cell has one, although chance would leave more without.

    Among cells chosen because they express A or B, independent genes correlate negatively: where
    one is 0, the other is not. Two genes that exclude each other and are counted often in their
    cells (of two subtypes) are not named: where one is 0, hardly any cell would lack the other.

    Parameters
    ----------
    counts : Counts
    target : str, optional
        Gene whose pairs are examined. None: all pairs, if there are not many genes.
    """
    lacking = counts.n_cells - (counts.offsets[:, -1] - counts.offsets[:, 0])
    first: Sequence[int] = ()
    if target is not None:
        first = [int(counts.genes.get_loc(target))]
    elif counts.n_genes <= _FEW_GENES:
        first = range(counts.n_genes)
    found: list[tuple[int, int, float, int]] = []
    for j in first:
        if lacking[j] <= _EXPECTED_ZEROS:
            continue
        among = np.ones(counts.n_cells, bool)  # cells without counts of j
        among[counts.rows[counts.offsets[j, 0] : counts.offsets[j, -1]]] = False
        if target is None:
            others = np.arange(j + 1, counts.n_genes)
        else:
            others = np.delete(np.arange(counts.n_genes), j)
        most = _MISSING_ZEROS * np.minimum(lacking[others], lacking[j])
        others = others[lacking[others] + lacking[j] - counts.n_cells < most]
        for k in others[lacking[others] > _EXPECTED_ZEROS]:
            expected = _expected_zeros(counts, k, among)
            if expected <= _EXPECTED_ZEROS:
                continue
            without = np.ones(counts.n_cells, bool)
            without[counts.rows[counts.offsets[k, 0] : counts.offsets[k, -1]]] = False
            expected = min(expected, _expected_zeros(counts, j, without))
            neither = int((among & without).sum())
            if expected > _EXPECTED_ZEROS and neither < _MISSING_ZEROS * expected:
                found.append((j, int(k), expected, neither))
    if not found:
        return
    j, k, expected, neither = max(found, key=lambda pair: pair[2])
    every = (
        "every cell has" if neither == 0 else f"all but {neither} of {counts.n_cells:,} cells have"
    )
    warn(
        f"{every} counts of {counts.genes[j]!r} or {counts.genes[k]!r}"
        f"{' (and of other pairs)' if len(found) > 1 else ''}, where at least {expected:,.0f} "
        "would have neither: were cells chosen because they express one of them (subset= or "
        "before)? Such genes correlate negatively whatever their expression; choose cells by "
        "other genes",
        DataWarning,
    )


def _expected_zeros(counts: Counts, gene: int, among: NDArray[np.bool_]) -> float:
    """Return the number of some cells that Poisson counts of a gene with their mean would miss."""
    entries = slice(counts.offsets[gene, 0], counts.offsets[gene, -1])
    n = int(among.sum())
    total = float(counts.values[entries][among[counts.rows[entries]]].sum())
    return n * float(np.exp(-total / max(n, 1)))


def check_gene_names(genes: pd.Index) -> None:
    """Raise an error if a name occurs more than once, or is no text."""
    writable_names("the index of genes", genes)
    if not genes.is_unique:
        twice = genes[genes.duplicated()].unique()
        raise InputError(
            f"{len(twice)} gene names occur more than once, e.g. {twice[0]!r}; "
            "call adata.var_names_make_unique() or use unique identifiers"
        )


def subset_mask(
    obs: pd.DataFrame, subset: ArrayLike | Mapping[str, Any] | None
) -> NDArray[np.bool_]:
    """Return a mask of the selected cells, shape (n_obs,)."""
    if subset is None:
        return np.ones(len(obs), bool)
    if isinstance(subset, Mapping):
        mask = np.ones(len(obs), bool)
        for column, value in subset.items():
            if column not in obs:
                raise unknown_column("obs column (subset)", column, obs)
            wanted = list(value) if isinstance(value, _LISTS) else [value]
            wanted = [_in_type_of(obs[column], v) for v in wanted]
            for v in wanted:
                if not pd.api.types.is_scalar(v):
                    raise InputError(
                        f"subset: {column!r} must be given a value or a list of values, not "
                        f"{type(value).__name__} with {type(v).__name__}"
                    )
                if not (obs[column] == v).any():
                    shown = f"{v:g}" if isinstance(v, float) else v
                    raise unknown_name(
                        f"value of obs column {column!r}", shown, obs[column].dropna().unique()
                    )
            mask &= obs[column].isin(wanted).to_numpy()
        if not mask.any():
            raise InputError(
                f"subset={dict(subset)!r} leaves no cell: no cell has all of these values"
            )
        return mask
    mask = np.asarray(in_order("subset", subset, obs.index))
    if mask.dtype != bool or mask.shape != (len(obs),):
        raise InputError(
            f"subset must be a boolean array of length {len(obs)} (one entry per cell) or "
            f"{{'obs column': value}}, not {mask.dtype} of shape {mask.shape}"
        )
    if not mask.any():
        raise InputError("subset selects no cell")
    return mask


def _in_type_of(column: pd.Series, value: Any) -> Any:
    """Read a text, as from a command line, as a value of a column of numbers or booleans."""
    categorical = isinstance(column.dtype, pd.CategoricalDtype)
    values = column.cat.categories if categorical else column
    if not isinstance(value, str):
        return value
    if pd.api.types.is_bool_dtype(values):
        return {"true": True, "false": False}.get(value.lower(), value)
    if pd.api.types.is_numeric_dtype(values):
        try:
            return float(value)
        except ValueError:
            return value
    return value


def sample_codes(
    obs: pd.DataFrame, sample: str | None, keep: NDArray[np.bool_]
) -> tuple[NDArray[np.int64], pd.Index]:
    """Return the position of each cell's sample, -1 for cells that are not used, and the names."""
    if sample is None:
        return np.where(keep, 0, -1), pd.Index(["all"])
    if sample not in obs:
        unknown = next((c for c in named_columns(sample) if c not in obs), sample)
        raise unknown_column("sample column", unknown, obs)
    column = obs[sample]
    missing = np.flatnonzero(column.isna().to_numpy() & keep)
    if len(missing):
        raise InputError(
            f"{len(missing)} cells have no value in sample column {sample!r}, e.g. cell "
            f"{obs.index[missing[0]]!r}; fill it or leave them out with subset="
        )
    one_name_each("sample column", sample, column[keep])
    categories = column.cat.categories if isinstance(column.dtype, pd.CategoricalDtype) else None
    used = pd.Index(column[keep].unique())
    samples = categories[categories.isin(used)] if categories is not None else used.sort_values()
    codes = samples.get_indexer(column)
    if len(samples) == 1 and not of_a_part():
        raise InputError(
            f"sample column {sample!r} contains one sample, {str(samples[0])!r}: correlation "
            "within samples and its uncertainty need several; choose the column that names donors, "
            "or pool all cells with estimator='pooled' and without sample="
        )
    return np.where(keep, codes, -1), samples.astype(str)


def exclude_small(
    codes: NDArray[np.int64],
    samples: pd.Index,
    selection: Selection,
    notes: dict[str, Any],
    label: str | tuple[str, str] | None = None,
) -> tuple[NDArray[np.int64], pd.Index]:
    """Exclude samples with fewer than `min_cells` cells, or raise an error.

    Parameters
    ----------
    codes : ndarray of int64, shape (n_obs,)
        Position of each cell's sample in `samples`, -1 for cells that are not used.
    samples : Index
    selection : Selection
    notes : dict
        Filled with the names of the excluded samples.
    label : str, optional
        Name of the samples in messages. None: the sample column.

    Returns
    -------
    ndarray of int64
        Codes of the remaining samples.
    Index
        Names of the remaining samples.
    """
    n = np.bincount(codes[codes >= 0], minlength=len(samples))
    small = n < selection.min_cells
    if not small.any():
        return codes, samples
    listed = ", ".join(
        f"{s!r} ({k})" for s, k in zip(samples[small][:10], n[small][:10], strict=True)
    )
    text = (
        f"{small.sum()} of {len(samples)} samples in {label or selection.sample!r} have fewer than "
        f"{selection.min_cells} cells: {listed}"
    )
    how = "error" if selection.sample is None else selection.small_samples
    before = [notes["excluded_samples"]] if "excluded_samples" in notes else []
    excluded = ", ".join([*before, *(str(s) for s in samples[small])])  # netCDF: no list of one
    notes["excluded_samples"] = excluded
    return exclude(codes, samples, small, text, "min_cells", how)


def exclude(
    codes: NDArray[np.int64],
    names: pd.Index,
    excluded: NDArray[np.bool_],
    text: str,
    option: str,
    how: str,
) -> tuple[NDArray[np.int64], pd.Index]:
    """Exclude groups with a warning, or raise an error; return codes and names of the others."""
    if how == "error":
        raise InputError(f"{text}; lower {option}= or use small_samples='exclude'")
    if (~excluded).sum() < 2:
        raise InputError(
            f"{text}; fewer than 2 samples are left, lower {option}= or choose other cells"
        )
    warn(f"{text}; they are left out ({option}=)", DataWarning)
    new = np.where(excluded, -1, np.cumsum(~excluded) - 1)
    return np.where(codes >= 0, new[codes], -1), names[~excluded]


def without_empty_cells(
    codes: NDArray[np.int64],
    depth: NDArray[np.float64],
    row_sum: NDArray[np.float64],
    notes: dict[str, Any],
) -> NDArray[np.int64]:
    """Leave out cells without counts and depth, as of unfiltered droplets, with a warning.

    Parameters
    ----------
    codes : ndarray of int64, shape (n_obs,)
        Position of each cell's sample, -1 for cells that are not used.
    depth, row_sum : ndarray, shape (n_obs,)
    notes : dict
        Filled with the number of these cells.

    Returns
    -------
    ndarray of int64
        The codes, -1 for these cells.
    """
    empty = (codes >= 0) & (row_sum == 0) & ~(depth > 0)
    n = int(empty.sum())
    if n == 0:
        return codes
    beside = f" beside {notes['depth_without']}" if "depth_without" in notes else ""
    warn(f"{n} of {(codes >= 0).sum()} cells have no counts{beside} and are left out", DataWarning)
    notes["empty_cells"] = n
    return np.where(empty, -1, codes)


def given_depth(obs: pd.DataFrame, depth: str | ArrayLike) -> NDArray[np.float64]:
    """Return the depth of a column or an array, shape (n_obs,)."""
    if isinstance(depth, str):
        if depth not in obs:
            raise unknown_column("depth column", depth, obs)
        dtype = obs[depth].dtype
        if not pd.api.types.is_numeric_dtype(dtype) or dtype.kind in _NO_DEPTH:
            raise InputError(f"depth column {depth!r} is not numeric but {dtype}")
        return obs[depth].to_numpy(np.float64, copy=True, na_value=np.nan)
    values = numbers("depth", in_order("depth", depth, obs.index)).copy()
    if values.shape != (len(obs),):
        raise InputError(
            f"depth has shape {values.shape}; it needs one value for each of the {len(obs)} cells"
        )
    return values


def check_depth(depth: NDArray[np.float64], cells: pd.Index, given: object) -> None:
    """Raise an error if the depth of a cell is not a positive number."""
    bad = np.flatnonzero(~(np.isfinite(depth) & (depth > 0)))
    if len(bad):
        missing = int(np.isnan(depth[bad]).sum())
        what = "not positive" if missing == 0 else "missing or not positive"
        what = "missing" if missing == len(bad) else what
        remedy = (
            "leave them out with subset="
            if given is None
            else "correct depth= or leave them out with subset="
        )
        raise InputError(
            f"{len(bad)} cells have a depth that is {what}, e.g. cell {cells[bad[0]]!r}: "
            f"{depth[bad[0]]:g}; {remedy}"
        )


def not_counts(source: Source, first_cell: int, first_gene: int, bad: BadCount) -> InputError:
    """Build the error for an entry that is not a count; its block starts at this cell and gene."""
    cell, gene, value = first_cell + bad.row, first_gene + bad.column, bad.value
    where = f"cell {source.obs.index[cell]!r}, gene {source.genes[gene]!r}: {value:g}"
    if not np.isfinite(value):
        return InputError(
            f"the matrix contains a value that is not finite ({where}); raw counts are needed"
        )
    if value < 0:
        return InputError(
            f"the matrix contains a negative value ({where}); raw counts are needed, not scaled "
            "expression"
        )
    if value > np.iinfo(np.int32).max:
        return InputError(f"the matrix contains a value too large for a count ({where})")
    kind = "looks log-normalised" if bad.largest < 20 else "contains fractions"
    hint = _where_counts_are(source)
    return InputError(f"the matrix {kind}, it does not contain counts ({where}); {hint}")


def _where_counts_are(source: Source) -> str:
    raw = [k for k, m in source.others.items() if _has_counts(m)]
    if raw:
        return f"raw counts seem to be in {' or '.join(raw)}"
    return "no layer with raw counts was found in this object"


def _has_counts(matrix: Any) -> bool:
    """Check the first 100 cells of a matrix."""
    part = matrix[:100]
    part = part.to_memory() if hasattr(part, "to_memory") else part
    values = part.data if sparse.issparse(part) else np.asarray(part).ravel()
    return bool(len(values)) and kernels.counts.first_bad_count(np.ascontiguousarray(values)) < 0


def choose_genes(
    features: FeatureNames,
    genes: Sequence[str] | ArrayLike | int | None,
    total: NDArray[np.float64],
    always: Sequence[str],
    kind: NDArray[np.int64] | None = None,
    fewest: int = 2,
) -> NDArray[np.int64]:
    """Return the positions of the selected genes, in the order of the data.

    Parameters
    ----------
    features : FeatureNames
        Names of the features that are read; genes may be named by their ids as well.
    genes : sequence of str, bool mask or int, optional
        See :class:`hiercorr.counts.selection.Selection`.
    total : ndarray, shape (n_vars,)
        Counts of each gene in the used cells.
    always : sequence of str
        Genes that are added to the selection.
    kind : ndarray of int64, shape (n_vars,), optional
        Type of each feature, if there are several: features are ordered by type, and N is the
        number of each.
    fewest : int
        Minimum number of genes.

    Returns
    -------
    ndarray of int64
    """
    names = features.genes
    always = [features.named(gene) for gene in always]
    for gene in always:
        if gene not in names:
            raise features.unknown("target gene", gene)
    added = names.get_indexer(pd.Index(list(always), dtype=object))
    if genes is None:
        chosen = np.flatnonzero(total > 0)
        if len(chosen) < len(names):
            warn(
                f"{len(names) - len(chosen)} of {len(names)} genes have no count in the chosen "
                "cells and are left out",
                DataWarning,
            )
    elif isinstance(genes, int | np.integer) and not isinstance(genes, bool):
        if genes < 1:
            raise InputError(f"genes={genes}: at least one gene is needed")
        ranked = np.argsort(-total, kind="stable")
        if kind is None:
            ranked = ranked[: int(genes)]
        else:
            ranked = np.concatenate([ranked[kind[ranked] == t][: int(genes)] for t in set(kind)])
        chosen = np.sort(ranked[total[ranked] > 0])
    else:
        chosen = _named_genes(features, genes)
        empty = chosen[total[chosen] == 0]
        if len(empty):
            raise InputError(
                f"{len(empty)} of the requested genes have no count in the chosen cells, e.g. "
                f"{names[empty[0]]!r}; leave them out of genes="
            )
    zero = added[total[added] == 0]
    if len(zero):
        raise InputError(f"gene {names[zero[0]]!r} has no count in the chosen cells")
    if not np.isin(added, chosen).all():
        chosen = np.sort(np.union1d(chosen, added))
    if len(chosen) < fewest:
        raise InputError(
            f"correlation needs at least {fewest} expressed gene{'s' * (fewest > 1)}; "
            f"{len(chosen)} chosen"
        )
    if kind is not None:
        chosen = chosen[np.argsort(kind[chosen], kind="stable")]
    return chosen.astype(np.int64)


def _named_genes(features: FeatureNames, genes: Any) -> NDArray[np.int64]:
    names = features.genes
    if isinstance(genes, str):
        raise InputError(
            f"genes={genes!r} is one string; pass a list of names, e.g. [{genes!r}, ...]"
        )
    values = np.atleast_1d(np.asarray(in_order("genes", genes, names)))
    if values.ndim > 1:
        raise InputError(f"genes must be a list of names or a mask, not a table: {genes!r}")
    if values.dtype == bool:
        if values.shape != (len(names),):
            raise InputError(
                f"the gene mask has shape {values.shape}; it needs {len(names)} entries, one for "
                "each gene (features of other types are not genes); a Series of True and False "
                "with gene names as its index is matched by name"
            )
        return np.flatnonzero(values)
    if values.dtype.kind in "iuf":
        raise InputError(
            "genes must be names, a boolean mask or one integer N; positions are not accepted"
        )
    if features.ids is not None:
        values = np.array([features.named(gene) for gene in values], object)
    found = names.get_indexer(values)
    if (found < 0).any():
        raise features.unknown("gene", values[np.flatnonzero(found < 0)[0]])
    refuse_repeated("genes=", values)
    return found
