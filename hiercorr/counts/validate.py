"""What the user chose - cells, samples, depth, genes - checked and turned into codes and positions."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray
from scipy import sparse

from hiercorr import kernels
from hiercorr.counts.sources import Source, blocks
from hiercorr.errors import DataWarning, InputError, unknown_name
from hiercorr.runtime.user_warnings import warn

PANEL_GENES = 1000  # below this many genes the row sum is a panel's, not the library's


def checked_blocks(source: Source) -> Iterator[tuple[int, int, sparse.csr_matrix]]:
    """The blocks of a source, each refused unless it holds counts."""
    check_shape(source)
    for i, j, block in blocks(source):
        bad = first_bad(block)
        if bad is not None:
            raise not_counts(source, i, j, bad)
        yield i, j, block


def check_shape(source: Source) -> None:
    n, p = source.shape
    if len(source.obs) != n or len(source.genes) != p:
        raise InputError(
            f"the matrix is {n} x {p} but there are {len(source.obs)} cells and {len(source.genes)} genes"
        )


class BadCount(NamedTuple):
    """An entry that is no count: where in its block, and the largest value beside it."""

    row: int
    column: int
    value: float
    largest: float


def first_bad(block: sparse.csr_matrix) -> BadCount | None:
    """The first entry of a block that is no count."""
    at = kernels.counts.first_bad_count(block.data)
    if at < 0:
        return None
    row = int(np.searchsorted(block.indptr, at, side="right")) - 1
    return BadCount(row, int(block.indices[at]), float(block.data[at]), float(np.max(block.data)))


def warn_of_panel_depth(
    n_genes: int, depth: NDArray[np.float64], row_sum: NDArray[np.float64]
) -> None:
    """Warn where the depth is a panel's row sum, also under the name of a column."""
    if n_genes < PANEL_GENES and np.array_equal(depth, row_sum):
        warn(
            f"depth is the sum over only {n_genes} genes, which for a targeted panel follows the genes' own "
            "expression; pass depth= (a numeric obs column or an array of size factors) if the full depth is known",
            DataWarning,
        )


def check_gene_names(genes: pd.Index) -> None:
    """Refuse names that occur more than once."""
    if not genes.is_unique:
        twice = genes[genes.duplicated()].unique()
        raise InputError(
            f"{len(twice)} gene names occur more than once, e.g. {twice[0]!r}; "
            "call adata.var_names_make_unique() or use identifiers that are unique"
        )


def subset_mask(
    obs: pd.DataFrame, subset: ArrayLike | Mapping[str, Any] | None
) -> NDArray[np.bool_]:
    if subset is None:
        return np.ones(len(obs), bool)
    if isinstance(subset, Mapping):
        mask = np.ones(len(obs), bool)
        for column, value in subset.items():
            if column not in obs:
                raise unknown_name("obs column (subset)", column, obs.columns)
            wanted = list(value) if isinstance(value, list | tuple | set | np.ndarray) else [value]
            for v in wanted:
                if not (obs[column] == v).any():
                    raise unknown_name(
                        f"value of obs column {column!r}", v, obs[column].dropna().unique()
                    )
            mask &= obs[column].isin(wanted).to_numpy()
        if not mask.any():
            raise InputError(
                f"subset={dict(subset)!r} leaves no cell: no cell has all of these values"
            )
        return mask
    mask = np.asarray(subset)
    if mask.dtype != bool or mask.shape != (len(obs),):
        raise InputError(
            f"subset must be a boolean array of length {len(obs)} (one entry a cell) or {{'obs column': value}}, "
            f"not {mask.dtype} of shape {mask.shape}"
        )
    if not mask.any():
        raise InputError("subset selects no cell")
    return mask


def sample_codes(
    obs: pd.DataFrame, sample: str | tuple[str, str] | None, keep: NDArray[np.bool_]
) -> tuple[NDArray[np.int64], pd.Index]:
    """Code of each cell's sample, -1 for cells that are not used; a sample may be what two columns say together."""
    if sample is None:
        return np.where(keep, 0, -1), pd.Index(["all"])
    for name in (sample,) if isinstance(sample, str) else sample:
        if name not in obs:
            raise unknown_name("sample column", name, obs.columns)
    if isinstance(sample, str):
        column = obs[sample]
    else:
        first, second = (obs[name] for name in sample)
        column = (first.astype(str) + "|" + second.astype(str)).where(
            first.notna() & second.notna()
        )
    missing = np.flatnonzero(column.isna().to_numpy() & keep)
    if len(missing):
        raise InputError(
            f"{len(missing)} cells have no value in sample column {sample!r}, e.g. cell {obs.index[missing[0]]!r}; "
            "fill it or leave them out with subset="
        )
    categories = column.cat.categories if isinstance(column.dtype, pd.CategoricalDtype) else None
    used = pd.Index(column[keep].unique())
    samples = categories[categories.isin(used)] if categories is not None else used.sort_values()
    codes = samples.get_indexer(column)
    if len(samples) == 1:
        raise InputError(
            f"sample column {sample!r} holds one sample, {samples[0]!r}: correlation within samples and its uncertainty "
            "need several; choose the column that names donors, or pool all cells with "
            "CSCore(data, sample=None).fit(estimator='pooled')"
        )
    return np.where(keep, codes, -1), samples.astype(str)


def drop_small(
    codes: NDArray[np.int64],
    samples: pd.Index,
    sample: str | tuple[str, str] | None,
    min_cells: int,
    how: str,
    notes: dict[str, Any],
) -> tuple[NDArray[np.int64], pd.Index]:
    if how not in ("exclude", "error"):
        raise InputError(f"small_samples must be 'exclude' or 'error', not {how!r}")
    n = np.bincount(codes[codes >= 0], minlength=len(samples))
    small = n < min_cells
    if not small.any():
        return codes, samples
    named = ", ".join(
        f"{s!r} ({k})" for s, k in zip(samples[small][:10], n[small][:10], strict=True)
    )
    text = f"{small.sum()} of {len(samples)} samples in {sample!r} have fewer than {min_cells} cells: {named}"
    if sample is None:
        how = "error"
    notes["excluded_samples"] = ", ".join(
        str(s) for s in samples[small]
    )  # netCDF has no lists of one
    return leave_out(codes, samples, small, text, "min_cells", how)


def leave_out(
    codes: NDArray[np.int64],
    names: pd.Index,
    low: NDArray[np.bool_],
    text: str,
    option: str,
    how: str,
) -> tuple[NDArray[np.int64], pd.Index]:
    """Leave out the groups that are too `low`, with a warning, or refuse; codes and names of those that stay."""
    if how == "error":
        raise InputError(f"{text}; lower {option}= or use small_samples='exclude'")
    if (~low).sum() < 2:
        raise InputError(
            f"{text}; fewer than 2 samples are left, lower {option}= or choose other cells"
        )
    warn(f"{text}; they are left out ({option}=)", DataWarning)
    new = np.where(low, -1, np.cumsum(~low) - 1)
    return np.where(codes >= 0, new[codes], -1), names[~low]


def given_depth(obs: pd.DataFrame, depth: str | ArrayLike) -> NDArray[np.float64]:
    if isinstance(depth, str):
        if depth not in obs:
            raise unknown_name("depth column", depth, obs.columns)
        if not pd.api.types.is_numeric_dtype(obs[depth]):
            raise InputError(f"depth column {depth!r} is not numeric but {obs[depth].dtype}")
        return obs[depth].to_numpy(np.float64)
    values = np.asarray(depth, np.float64)
    if values.shape != (len(obs),):
        raise InputError(
            f"depth has shape {values.shape}; it needs one value for each of the {len(obs)} cells"
        )
    return values


def check_depth(depth: NDArray[np.float64], cells: pd.Index, given: object) -> None:
    bad = np.flatnonzero(~(np.isfinite(depth) & (depth > 0)))
    if len(bad):
        remedy = (
            "leave them out with subset="
            if given is None
            else "correct depth= or leave them out with subset="
        )
        raise InputError(
            f"{len(bad)} cells have a depth that is not positive, e.g. cell {cells[bad[0]]!r}: {depth[bad[0]]:g}; {remedy}"
        )


def not_counts(source: Source, first_cell: int, first_gene: int, bad: BadCount) -> InputError:
    """What to say of an entry that is no count, in the block that begins at this cell and gene."""
    cell, gene, value = first_cell + bad.row, first_gene + bad.column, bad.value
    where = f"cell {source.obs.index[cell]!r}, gene {source.genes[gene]!r}: {value:g}"
    if not np.isfinite(value):
        return InputError(
            f"the matrix holds a value that is not finite ({where}); raw counts are needed"
        )
    if value < 0:
        return InputError(
            f"the matrix holds a negative value ({where}); raw counts are needed, not scaled expression"
        )
    if value > np.iinfo(np.int32).max:
        return InputError(f"the matrix holds a value too large for a count ({where})")
    kind = "looks log-normalised" if bad.largest < 20 else "holds fractions"
    raw = [k for k, m in source.others.items() if _holds_counts(m)]
    hint = (
        f"raw counts seem to be in {' or '.join(raw)}"
        if raw
        else "no layer with raw counts was found in this object"
    )
    return InputError(f"the matrix {kind}, it does not hold counts ({where}); {hint}")


def _holds_counts(matrix: Any) -> bool:
    part = matrix[:100]
    part = part.to_memory() if hasattr(part, "to_memory") else part
    values = part.data if sparse.issparse(part) else np.asarray(part).ravel()
    return bool(len(values)) and kernels.counts.first_bad_count(np.ascontiguousarray(values)) < 0


def refuse_empty_genes(names: pd.Index, seen: NDArray[np.bool_]) -> None:
    """Raise an error if a gene is zero in every cell of the data."""
    if not seen.all():
        empty = names[~seen]
        raise InputError(
            f"{len(empty)} of {len(seen)} genes are zero in every cell of the data, e.g. {empty[0]!r}; drop them "
            "(adata[:, adata.X.sum(0) > 0]) or say which genes to use: names, a mask, or genes=N for the N highest"
        )


def choose_genes(
    names: pd.Index,
    genes: Sequence[str] | ArrayLike | int | None,
    total: NDArray[np.float64],
    always: Sequence[str],
) -> NDArray[np.int64]:
    for gene in always:
        if gene not in names:
            raise unknown_name("target gene", gene, names)
    keep = names.get_indexer(pd.Index(list(always), dtype=object))
    if genes is None:
        chosen = np.flatnonzero(total > 0)
        if len(chosen) < len(names):
            warn(
                f"{len(names) - len(chosen)} of {len(names)} genes have no count in the chosen cells and are left out",
                DataWarning,
            )
    elif isinstance(genes, int | np.integer) and not isinstance(genes, bool):
        if genes < 1:
            raise InputError(f"genes={genes}: at least one gene is needed")
        ranked = np.argsort(-total, kind="stable")[: int(genes)]
        chosen = np.sort(ranked[total[ranked] > 0])
    else:
        chosen = _named_genes(names, genes)
        empty = chosen[total[chosen] == 0]
        if len(empty):
            raise InputError(
                f"{len(empty)} of the genes asked for have no count in the chosen cells, e.g. {names[empty[0]]!r}; "
                "leave them out of genes="
            )
    zero = keep[total[keep] == 0]
    if len(zero):
        raise InputError(f"gene {names[zero[0]]!r} has no count in the chosen cells")
    if not np.isin(keep, chosen).all():
        chosen = np.sort(np.union1d(chosen, keep))
    if len(chosen) < 2:
        raise InputError(f"correlation needs at least 2 expressed genes; {len(chosen)} chosen")
    return chosen.astype(np.int64)


def _named_genes(names: pd.Index, genes: Any) -> NDArray[np.int64]:
    if isinstance(genes, str):
        raise InputError(
            f"genes={genes!r} is one string; pass a list of names, e.g. [{genes!r}, ...]"
        )
    values = np.asarray(genes)
    if values.dtype == bool:
        if values.shape != (len(names),):
            raise InputError(
                f"the gene mask has shape {values.shape}; it needs {len(names)} entries"
            )
        return np.flatnonzero(values)
    if values.dtype.kind in "iuf":
        raise InputError(
            "genes must be names, a boolean mask or one integer N; positions are not accepted"
        )
    found = names.get_indexer(values)
    if (found < 0).any():
        raise unknown_name("gene", values[np.flatnonzero(found < 0)[0]], names)
    repeated = pd.Index(values)[pd.Index(values).duplicated()]
    if len(repeated):
        raise InputError(f"gene {repeated[0]!r} is named twice in genes=")
    return found
