"""Gene pairs in the Dataset of a result: the pairs of one gene, distinct pairs, their order.

Rows follow the test: a pair with a p-value is in every table, network and plot, also if its
estimate lies beyond -1 or 1. Its ``correlation`` is then NaN, with ``correlation_unclipped``
alongside; where a number is needed (thresholds, weights, signs, positions in plots) it is the
boundary (:func:`estimates`).
"""

from __future__ import annotations

from collections.abc import Container, Hashable, Iterator, Sequence

import numpy as np
import pandas as pd
import xarray as xr
from numpy.typing import NDArray

from hiercorr.counts.names import are_identifiers, name_of
from hiercorr.errors import InputError, between_0_and_1, number, text, unknown_name
from hiercorr.inference.derived import in_double
from hiercorr.inference.prediction import predict_new_donor
from hiercorr.results.computed import is_computed
from hiercorr.results.layout import (
    distinct,
    ends,
    is_list,
    listed_row,
    scope,
    spans_types,
    target_of,
    targets_of,
)
from hiercorr.schema import GENE_ID, LAYERED, PAIR_VARIABLES, Flag, describe_flag, is_flagged

UNCLIPPED = "correlation_unclipped"
_LIMIT = {"correlation": 1.0, "difference": 2.0}
OVERALL = "largest_difference"  # what an overall test over several groups or a curve is about
SORTINGS = ("p_value", "shrunken")
_OF_CONTRASTS = ("contrast_difference", "contrast_adjusted_p_value")  # columns of tables of pairs
_PART = 20_000_000  # entries of a pair variable on disk that are read at one time
_FIRST_COLUMNS = (
    "correlation",
    "correlation_unclipped",
    "difference",
    "difference_unclipped",
    "difference_lower",
    "difference_upper",
    "largest_difference",
    "ci_lower",
    "ci_upper",
    "sd",
    "probability_of_direction",
    "se",
    "statistic",
    "df",
    "f_statistic",
    "df_denominator",
    "p_value",
    "q_value",
    "local_fdr",
    "bayesian_fdr",
    "lfsr",
    "shrunken_correlation",
    "shrunken_difference",
)


def genes_of(dataset: xr.Dataset) -> pd.Index:
    """Return the names of the genes."""
    return pd.Index(dataset["gene"].values)


def ids_of(dataset: xr.Dataset) -> pd.Index | None:
    """Return the ids of the genes, where a column of the data named them."""
    return pd.Index(dataset[GENE_ID].values) if GENE_ID in dataset else None


def known_gene(dataset: xr.Dataset, gene: object) -> str:
    """Return the name of a gene of a result that is given by its name or its id.

    Raises
    ------
    InputError
        If the result has no such gene.
    """
    genes = genes_of(dataset)
    name = name_of(gene, genes, ids_of(dataset))
    targets = targets_of(dataset)
    known = genes if targets is None else genes.union(targets, sort=False)
    if isinstance(name, str) and name in known:
        return name
    error = unknown_name("gene", gene, known)
    if are_identifiers(genes) and not are_identifiers(pd.Index([str(gene)])):
        error = InputError(
            f"{error}; genes of this result have the ids of the data: to use symbols, fit it with "
            "gene_names=, the column of var that has them"
        )
    raise error


def row_of(dataset: xr.Dataset, gene: str | None) -> tuple[str, xr.Dataset]:
    """Select the pairs of one gene.

    Parameters
    ----------
    dataset : xarray.Dataset
    gene : str or None
        None: the target, if there is one. One of several targets: its pairs with the genes; a
        gene: its pairs with the targets.

    Returns
    -------
    gene : str
    row : xarray.Dataset
        Pair variables over `gene`, the partners.

    Raises
    ------
    InputError
        If the gene is unknown, or has no pairs in a result of targets or of listed pairs.
    """
    text("gene", gene, optional=True)
    target, targets = target_of(dataset), targets_of(dataset)
    if target is not None:
        gene = name_of(gene, genes_of(dataset), ids_of(dataset))
        if gene not in (None, target):
            raise InputError(f"this result has pairs of target {target!r} only, not of {gene!r}")
        return target, dataset.isel(target=0, drop=True)
    if gene is None:
        raise InputError(f"name a gene: this result contains {scope(dataset)}")
    if targets is not None:
        named = name_of(gene, genes_of(dataset), ids_of(dataset))
        if spans_types(dataset):
            named = known_gene(dataset, gene)
            if named not in targets:
                return named, dataset.sel(gene=named, drop=True).rename(target="gene")
        if named not in targets:
            raise InputError(
                f"this result has pairs of its {len(targets)} targets only, not of {gene!r}: "
                f"{', '.join(map(str, targets[:10]))}{', ...' if len(targets) > 10 else ''}"
            )
        return str(named), dataset.sel(target=named, drop=True)
    gene = known_gene(dataset, gene)
    if is_list(dataset):
        return gene, listed_row(dataset, gene)
    return gene, dataset.sel(gene=gene, drop=True).rename(partner="gene")


def has_values(dataset: xr.Dataset, name: str) -> bool:
    """Check whether a pair variable has any value; on disk, only a few rows are read."""
    values = dataset[name]
    found = bool(_some_rows(values).notnull().any())
    return found or (is_computed(values) and bool(values.notnull().any()))


def _some_rows(values: xr.DataArray) -> xr.DataArray:
    """Return a few rows of a pair variable on disk or computed, all rows of one in memory."""
    if values.variable._in_memory:
        return values
    rows = np.linspace(0, values.shape[0] - 1, min(8, values.shape[0])).astype(int)
    return values.isel({values.dims[0]: rows})


def row_blocks(dataset: xr.Dataset) -> Iterator[tuple[int, xr.Dataset]]:
    """Yield blocks of rows and the index of their first row; one block if held in memory."""
    flag = dataset["flag"]
    rows, columns = flag.shape[0], int(np.prod(flag.shape[1:]))
    whole = all(v.variable._in_memory for v in dataset.data_vars.values() if v.dims == flag.dims)
    step = rows if whole else max(1, _PART // columns)
    for start in range(0, rows, step):
        yield start, dataset.isel({flag.dims[0]: slice(start, start + step)})


def table_columns(dataset: xr.Dataset) -> list[str]:
    """List the pair variables that have values, in the order of the columns of tables.

    ``correlation_unclipped`` and ``difference_unclipped`` are among them if such an estimate was
    withheld.
    """
    known = [
        n for n in PAIR_VARIABLES if n in dataset and not n.startswith(LAYERED) and n != "flag"
    ]
    have = [n for n in known if not n.endswith("_unclipped") and has_values(dataset, n)]
    have = have if "correlation" in have else ["correlation", *have]
    for shown in ("correlation", "difference"):
        every = f"{shown}_unclipped"
        if every in dataset and _withheld(dataset[shown], dataset[every]):
            have.append(every)
    first = [c for c in _FIRST_COLUMNS if c in have]
    rest = [c for c in have if c not in first and not c.startswith("fisher_z")]
    return [*first, *rest, *_group_columns(dataset)]


def _group_columns(dataset: xr.Dataset) -> list[str]:
    """List the variables with one column for each group, or each contrast of groups."""
    shown, every = "group_correlation", f"group_{UNCLIPPED}"
    of_contrasts = [n for n in _OF_CONTRASTS if n in dataset]
    if shown not in dataset:
        return of_contrasts
    withheld = every in dataset and _withheld(dataset[shown], dataset[every])
    limits = [n for n in ("group_ci_lower", "group_ci_upper") if n in dataset]
    return [shown, *([every] if withheld else []), *limits, *of_contrasts]


def _withheld(shown: xr.DataArray, every: xr.DataArray) -> bool:
    """Check whether an estimate is in the second variable only; on disk, few rows are read."""
    return bool((_some_rows(shown).isnull() & _some_rows(every).notnull()).any())


def effect_name(names: Container[Hashable]) -> str:
    """Return the quantity that was tested: a difference where there is one.

    ``"largest_difference"`` for an overall test over several groups or along a curve.

    Parameters
    ----------
    names : container of str
        Variables of a result or columns of a table.
    """
    return next((n for n in ("difference", OVERALL) if n in names), "correlation")


def limit_names(effect: str) -> tuple[str, str]:
    """Return the names of the confidence limits of the quantity that was tested."""
    prefix = "ci" if effect == "correlation" else effect
    return f"{prefix}_lower", f"{prefix}_upper"


def first_estimated(table: pd.DataFrame) -> str | None:
    """Return the first partner in a table that could be estimated; None if none could."""
    return next((str(g) for g, r in effects(table).items() if np.isfinite(r)), None)


def estimates(dataset: xr.Dataset) -> NDArray:
    """Return the correlations, or differences, that were tested.

    Correlations beyond -1 or 1 are at that boundary, differences at -2 or 2.
    """
    name = effect_name(dataset.data_vars)
    r, every = dataset[name].values, f"{name}_unclipped"
    if not {every, "p_value"} <= set(dataset.data_vars):
        return r
    return _bounded(r, dataset[every].values, dataset["p_value"].values, _LIMIT[name])


def effects(table: pd.DataFrame, prefix: str = "") -> pd.Series:
    """Return the correlations or differences of a table of pairs as :func:`estimates` does.

    Parameters
    ----------
    table : DataFrame
    prefix : str
        Beginning of the names of its columns.
    """
    name = effect_name([c.removeprefix(prefix) for c in table.columns if c.startswith(prefix)])
    names = [prefix + c for c in (name, f"{name}_unclipped", "p_value")]
    if not set(names) <= set(table.columns):
        return table[names[0]]
    r, every, p = (table[c].to_numpy() for c in names)
    return pd.Series(_bounded(r, every, p, _LIMIT[name]), table.index)


def in_tables(dataset: xr.Dataset) -> NDArray[np.bool_]:
    """Return which entries have a correlation or a p-value, except for genes with themselves."""
    found = np.isfinite(dataset["correlation"].values)
    if "p_value" in dataset:
        found |= np.isfinite(dataset["p_value"].values)
    return found & ((dataset["flag"].values & int(Flag.SELF)) == 0)


def _bounded(r: NDArray, unclipped: NDArray, p: NDArray, limit: float) -> NDArray:
    return np.where(np.isnan(r) & np.isfinite(p), np.clip(unclipped, -limit, limit), r)


def p_values(dataset: xr.Dataset) -> NDArray:
    """Return the p-values, in double precision where single precision has no number for them."""
    p = dataset["p_value"].values
    if {"statistic", "df"} <= set(dataset.data_vars):
        return in_double(p, dataset["statistic"].values, dataset["df"].values)
    return p


def pair_columns(dataset: xr.Dataset, columns: Sequence[str]) -> Iterator[tuple[str, NDArray]]:
    """Yield the columns of a table of pairs as arrays with the dimensions of ``correlation``."""
    for c in columns:
        if not c.startswith(LAYERED):
            yield c, p_values(dataset) if c == "p_value" else dataset[c].values
            continue
        layer, _, name = c.partition("_")
        for label, values in zip(dataset[layer].values, dataset[c].values, strict=True):
            yield f"{name}[{label}]", values


def shrunken_name(dataset: xr.Dataset) -> str:
    """Return the name of the shrunken estimate; raise an error if there is none."""
    for name in ("shrunken_difference", "shrunken_correlation"):
        if name in dataset:
            return name
    raise InputError("this result has no shrunken estimates: call shrink() first")


def distinct_pairs(
    dataset: xr.Dataset,
    q: float | None,
    min_correlation: float,
    n: int | None,
    sort_by: str = "p_value",
) -> pd.DataFrame:
    """Tabulate the distinct pairs that pass the thresholds, strongest evidence first.

    Parameters
    ----------
    dataset : xarray.Dataset
    q : float or None
        Maximum ``q_value``; None: no threshold.
    min_correlation : float
        Minimum absolute correlation.
    n : int or None
        Maximum number of pairs; None: all.
    sort_by : {"p_value", "shrunken"}

    Returns
    -------
    DataFrame
    """
    by = None if sort_by == "p_value" else shrunken_name(dataset)
    check_threshold(dataset, q)
    columns = table_columns(dataset)
    tables = [
        _block_of_pairs(distinct(dataset, block, first), block, columns, q, min_correlation, n, by)
        for first, block in row_blocks(dataset)
    ]
    tables = [t for t in tables if len(t)] or tables[:1]  # empty blocks have names without a dtype
    table = sort_rows(pd.concat(tables, ignore_index=True), by).reset_index(drop=True)
    table = table if n is None else table.head(n)
    flag = [describe_flag(f) for f in table.pop("flag")]
    return table.assign(flag=flag)


def check_threshold(dataset: xr.Dataset, q: float | None) -> None:
    """Raise an error if pairs are to be chosen by q-values that a result does not have."""
    number("q", q, 0, 1, optional=True)
    if q is not None and not ("q_value" in dataset and has_values(dataset, "q_value")):
        raise InputError(f"this result has no q-values: {_why_no_q(dataset)}; pass q=None")


def _why_no_q(dataset: xr.Dataset) -> str:
    if dataset.attrs.get("n_samples", 0) < 3:
        return "too few samples for an interval"
    if "probability_of_direction" in dataset:
        return "it is a posterior"
    if dataset.attrs.get("uncertainty", "none") != "none":
        return "none of its pairs could be tested, see flag_counts()"
    return "it was fitted without uncertainty"


def _block_of_pairs(
    once: NDArray[np.bool_],
    ds: xr.Dataset,
    columns: Sequence[str],
    q: float | None,
    min_correlation: float,
    n: int | None,
    by: str | None,
) -> pd.DataFrame:
    """Tabulate the pairs in a block of rows, of entries that count each pair once."""
    r, flag = estimates(ds), ds["flag"].values
    keep = in_tables(ds) & (np.nan_to_num(np.abs(r)) >= min_correlation)
    if q is not None:
        keep &= ds["q_value"].values <= q
    keep &= once
    at = np.nonzero(keep)
    if n is not None and len(at[0]) > n:  # before the table is made: there can be millions of pairs
        if by is not None:
            strongest = _smallest(-np.abs(ds[by].values[at]), np.zeros(len(at[0])), n)
        elif "p_value" in columns:
            size = ds["statistic"].values if "statistic" in ds else r
            strongest = _smallest(ds["p_value"].values[at], -np.abs(size[at]), n)
        else:
            weak = (flag[at] & int(Flag.LOW_INFORMATION)) > 0
            strongest = _smallest(weak - np.abs(r[at]), np.zeros(len(at[0])), n)
        rows, first_of = np.unique(at[0][strongest], return_inverse=True)
        at, flag = (first_of, *(k[strongest] for k in at[1:])), flag[rows]
        ds = ds.isel({ds["flag"].dims[0]: rows})
    left, right = ends(ds, at)
    table = {"gene_a": left, "gene_b": right}
    table |= {c: v[at].astype(float) for c, v in pair_columns(ds, columns)}
    return pd.DataFrame({**table, "flag": flag[at]})


def _smallest(key: NDArray, then: NDArray, n: int) -> NDArray[np.int64]:
    """Return the positions of the n smallest keys, of equal ones those with the smallest `then`."""
    key, then = np.nan_to_num(key, nan=2.0), np.nan_to_num(then)
    last = np.partition(key, n - 1)[n - 1]
    below, equal = np.flatnonzero(key < last), np.flatnonzero(key == last)
    return np.append(below, equal[np.argsort(then[equal], kind="stable")[: n - len(below)]])


def sort_rows(table: pd.DataFrame, by: str | None) -> pd.DataFrame:
    """Sort rows by the absolute value of a column, NaN last; None: by evidence."""
    if by is None:
        return sort_by_evidence(table)
    return table.iloc[np.argsort(-table[by].abs().fillna(-1).to_numpy(), kind="stable")]


def sort_by_evidence(table: pd.DataFrame) -> pd.DataFrame:
    """Sort rows by p-value, then by absolute statistic and correlation; rows without come last.

    Without p-values, rows with low information come after the others: their estimates are large by
    chance.
    """
    size = -effects(table).abs()
    p = table["p_value"] if "p_value" in table else pd.Series(np.nan, table.index)
    weak = np.zeros(len(table), bool)
    if "flag" in table and p.isna().all():
        weak = np.array([_is_weak(f) for f in table["flag"]], bool)
    statistic = -table["statistic"].abs() if "statistic" in table else size
    order = np.lexsort(
        (size.fillna(0), statistic.fillna(0), weak, p.fillna(2))  # the last one counts most
    )
    return table.iloc[order]


def _is_weak(flag: int | str) -> bool:
    names = flag if isinstance(flag, str) else describe_flag(flag)
    return is_flagged(names, Flag.LOW_INFORMATION)


def prediction_interval(dataset: xr.Dataset, confidence: float) -> xr.Dataset:
    """Compute :meth:`hiercorr.CorrelationResult.prediction_interval`."""
    between_0_and_1("confidence", confidence)
    if "tau" not in dataset:
        raise InputError(
            "a prediction interval needs tau, the heterogeneity between donors, which "
            f"uncertainty={dataset.attrs.get('uncertainty', 'none')!r} does not estimate: fit with "
            "uncertainty='hierarchical'"
        )
    r = dataset["correlation_unclipped"]
    # files of schema 1 that were left on disk have no `se` of the correlation
    sd = dataset["se"] if "se" in dataset else (1 - r**2) * dataset["fisher_z_se"]
    limits = predict_new_donor(r.values, sd.values, dataset["tau"].values, confidence)
    names = ("prediction_lower", "prediction_upper")
    return xr.Dataset({n: r.copy(data=v) for n, v in zip(names, limits, strict=True)})
