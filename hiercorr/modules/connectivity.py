"""Connectivity of modules in other data, and its difference between groups, donors as units."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy import stats

from hiercorr.counts.gene_groups import LEAST, Sets, named_sets
from hiercorr.counts.names import name_of
from hiercorr.errors import DataWarning, InputError, number, unknown_name, whole_number
from hiercorr.inference.multiplicity import benjamini_hochberg
from hiercorr.modules.donor_values import (
    few_pairs,
    mean_of_pairs,
    sample_correlations,
    warn_of_incomplete,
)
from hiercorr.results.kinds import DIFFERENCES, refuse_kinds
from hiercorr.results.layout import need_all_pairs
from hiercorr.results.pairs import ids_of
from hiercorr.results.result import CorrelationResult
from hiercorr.runtime.user_warnings import warn

Array = NDArray[np.float64]
OfSamples: TypeAlias = Mapping[str, object] | pd.Series
_BINS = 10  # of mean expression,
_IN_BIN = 20  # of which each has at least this many genes


def preservation(
    modules: Sets,
    result: CorrelationResult,
    *,
    permutations: int = 1000,
    donors: OfSamples | None = None,
    seed: int = 0,
) -> pd.DataFrame:
    r"""Test whether modules found elsewhere are connected in a result of other data.

    The connectivity of a module is the mean correlation of its pairs of genes. It is compared with
    that of random sets of genes of the result, with the same numbers of genes in each bin of mean
    expression, because estimates of sparse genes are noisier:

    .. math:: z = (\bar r - \bar r_0) / s_0, \quad p = (1 + \#\{\bar r_0 \ge \bar r\}) / (1 + B)

    The reference is other genes of the same cells, and p is valid for these donors. If the result
    was fitted with ``per_sample=True``, the excess of the connectivity over the mean of the random
    sets is also tested over donors, by a one-sided t test.

    Parameters
    ----------
    modules : mapping, Modules or path
        Genes by name of the module, the modules of :func:`hiercorr.modules.find_modules`,
        or a GMT file.
    result : CorrelationResult
        All pairs, of data in which the modules were not found.
    permutations : int
        Number B of random sets, at least 100.
    donors : mapping or Series, optional
        Donor of each sample, for a result with several samples of one donor (``block=``).
    seed : int
        Seed of the random sets.

    Returns
    -------
    DataFrame
        By module: size, genes (of them in the result), connectivity, random_mean, random_sd, z,
        p_value, q_value (over modules); with estimates of samples also donors, excess, excess_se,
        excess_p_value and excess_q_value. Modules with fewer than 2 genes in the result, and those
        of all its genes, are NaN.

    Raises
    ------
    InputError
        If the result does not have all pairs, or no module has 2 genes in it.

    References
    ----------
    Langfelder, Luo, Oldham & Horvath 2011, PLoS Computational Biology 7:e1001057.

    Examples
    --------
    >>> import hiercorr as hc
    >>> adata = hc.datasets.glioblastoma()
    >>> options = {"depth": "total_counts", "genes": 60, "subset": {"condition": "panobinostat"}}
    >>> other = hc.CSCore(adata, "patient_id", **options).fit()
    >>> hc.modules.preservation({"ribosome": ["RPS2", "RPLP0", "RPS18"]}, other)["genes"].item()
    3
    """
    matrix, known = _matrix(result)
    whole_number("permutations", permutations, 100)
    whole_number("seed", seed, 0)
    named = _named(modules)
    found = {name: _present(genes, result) for name, genes in named.items()}
    absent = [name for name, at in found.items() if len(at) < LEAST]
    if len(absent) == len(found):
        first = next(iter(named.values()))[0]
        raise InputError(
            f"modules: none has 2 genes in the result; {unknown_name('gene', first, result.genes)}"
        )
    if absent:
        warn(
            f"modules with fewer than 2 genes in the result are NaN: {', '.join(absent)}",
            DataWarning,
        )
    layers, donor_of = [(matrix, known)], None
    if "sample_correlation" in result.dataset:
        donor_of = _donors(result, donors)
        layers += [_filled(part) for part in result.dataset["sample_correlation"].values]
    elif donors is not None:
        raise InputError("donors= has no effect without estimates of samples: fit(per_sample=True)")
    bins = _bins(result)
    rng = np.random.default_rng(seed)
    rows = []
    for name, at in found.items():
        row: dict[str, float] = {"size": len(named[name]), "genes": len(at)}
        if len(at) >= LEAST:
            row |= _preserved(layers, at, bins, permutations, rng, donor_of)
        rows.append(row)
    alone = [n for n, row in zip(found, rows, strict=True) if np.isnan(row.get("random_mean", 0.0))]
    if alone:
        warn(
            "no random set of genes with the same mean expression can be compared with "
            f"{', '.join(alone)}: the tests are NaN; fit more genes",
            DataWarning,
        )
    table = pd.DataFrame(rows, index=pd.Index(list(found), name="module"))
    table.attrs = {"model": "preservation", "permutations": permutations, "seed": seed}
    return _with_q(table, {"p_value": "q_value", "excess_p_value": "excess_q_value"})


def differential_connectivity(
    modules: Sets,
    result: CorrelationResult,
    groups: OfSamples,
    *,
    donors: OfSamples | None = None,
    confidence: float = 0.95,
) -> pd.DataFrame:
    """Compare the connectivity of modules between two groups of donors.

    For covariates, several groups and curves, see
    :func:`hiercorr.modules.compare_donors` with the values of
    :func:`hiercorr.modules.connectivity`.

    The connectivity of a module in a sample is the mean of the correlations of its pairs of genes
    within the sample, over the pairs that could be estimated in every sample. Samples of one donor
    are averaged. Donors have equal weight: Welch's t test, or a paired t test if all donors are in
    both groups.

    Parameters
    ----------
    modules : mapping, Modules or path
        Genes by name of the module, the modules of
        :func:`hiercorr.modules.find_modules`, or a GMT file. Modules
        found by a comparison of these groups would be circular.
    result : CorrelationResult
        All pairs, fitted with ``per_sample=True``.
    groups : mapping or Series
        Group of each sample; None or NaN leaves it out. The difference is the second group (in the
        order of categories, else of the alphabet) minus the first.
    donors : mapping or Series, optional
        Donor of each sample; None: samples are donors.
    confidence : float
        Confidence level of the intervals.

    Returns
    -------
    DataFrame
        By module: size, genes, pairs, pairs_used, connectivity of both groups, difference,
        difference_se, difference_lower, difference_upper, df, p_value, q_value (over modules).
        Modules without a pair that could be estimated in every sample are NaN.

    Raises
    ------
    InputError
        If there are not two groups with two donors each, or a donor is in both groups and others
        are not.

    References
    ----------
    Welch 1947, Biometrika 34:28-35.

    Examples
    --------
    >>> import hiercorr as hc
    >>> adata = hc.datasets.glioblastoma()
    >>> r = hc.CSCore(adata, "sample_id", depth="total_counts", genes=40).fit(per_sample=True)
    >>> samples = adata.obs.drop_duplicates("sample_id").set_index("sample_id")
    >>> arm, donor = samples["condition"], samples["patient_id"]
    >>> sets = {"ferritin": ["FTL", "FTH1"]}
    >>> list(hc.modules.differential_connectivity(sets, r, arm, donors=donor).index)
    ['ferritin']
    """
    _matrix(result)
    number("confidence", confidence, 0, 1)
    if not 0 < confidence < 1:
        raise InputError(f"confidence must lie between 0 and 1, not {confidence!r}")
    correlations = sample_correlations(result)
    named = _named(modules)
    strict = not isinstance(modules, str | Path)
    found = {name: _present(genes, result, strict) for name, genes in named.items()}
    group_of = _of_samples("groups", groups, result)
    design = _design(group_of, _donors(result, donors))
    used = group_of.notna().to_numpy()
    r = correlations[used]
    rows, incomplete = [], []
    for name, at in found.items():
        values, n_used, n_pairs = mean_of_pairs(r, at)
        row: dict[str, float] = {
            "size": len(named[name]),
            "genes": len(at),
            "pairs": n_pairs,
            "pairs_used": n_used,
        }
        if n_used:
            row |= design.compare(values, confidence)
        if few_pairs(n_used, n_pairs):
            incomplete.append(name)
        rows.append(row)
    warn_of_incomplete({name: found[name] for name in incomplete}, r, group_of.index[used])
    table = pd.DataFrame(rows, index=pd.Index(list(found), name="module"))
    table.attrs = {"test": design.test, "confidence": confidence}
    for column in ("difference", "p_value"):
        table[column] = table.get(column, np.nan)
    return _with_q(table, {"p_value": "q_value"})


@dataclass(frozen=True)
class _Design:
    """Donors of two groups.

    Attributes
    ----------
    unit : ndarray of int64, shape (n_samples,)
        Position of each sample's donor, in its group.
    group : ndarray of bool, shape (n_samples,)
        Whether the sample is in the second group.
    names : tuple of str
        Names of the groups.
    paired : bool
        Whether all donors are in both groups.
    """

    unit: NDArray[np.int64]
    group: NDArray[np.bool_]
    names: tuple[str, str]
    paired: bool

    @property
    def test(self) -> str:
        """Name of the test."""
        return "paired t" if self.paired else "Welch"

    def compare(self, values: Array, confidence: float) -> dict[str, float]:
        """Compare the values of samples between the groups."""
        first, second = (
            pd.Series(values[side]).groupby(self.unit[side]).mean().to_numpy()
            for side in (~self.group, self.group)
        )
        if self.paired:
            test = stats.ttest_rel(second, first)
            se = stats.sem(second - first)
        else:
            test = stats.ttest_ind(second, first, equal_var=False)
            se = np.hypot(stats.sem(first), stats.sem(second))
        interval = test.confidence_interval(confidence)
        return {
            f"connectivity_{self.names[0]}": first.mean(),
            f"connectivity_{self.names[1]}": second.mean(),
            "difference": second.mean() - first.mean(),
            "difference_se": float(se),
            "difference_lower": interval.low,
            "difference_upper": interval.high,
            "df": test.df,
            "p_value": test.pvalue,
        }


def _design(groups: pd.Series, donor_of: pd.Series) -> _Design:
    """Check the groups and their donors."""
    kept = groups.dropna()
    names = sorted(kept.unique(), key=str)
    if isinstance(groups.dtype, pd.CategoricalDtype):
        names = [c for c in groups.cat.categories if (kept == c).any()]
    if len(names) != 2:
        raise InputError(
            f"groups must be two, not {len(names)} ({', '.join(map(str, names))}): give None for "
            "the samples of others"
        )
    donor = donor_of.loc[kept.index]
    sides = [set(donor[kept == name]) for name in names]
    common = sides[0] & sides[1]
    paired = sides[0] == sides[1]
    if common and not paired:
        raise InputError(
            f"donor {min(common, key=str)!r} is in both groups, and others are in one: leave out "
            "the donors of one group (a paired test), or the second samples of these"
        )
    for name, side in zip(names, sides, strict=True):
        if len(side) < 2:
            raise InputError(
                f"group {str(name)!r} of groups= has {len(side)} donor; a t test needs 2 in each"
            )
    unit = pd.factorize(donor.to_numpy(object))[0].astype(np.int64)
    second = (kept == names[1]).to_numpy(bool)
    return _Design(unit, second, (str(names[0]), str(names[1])), paired)


def _named(modules: object) -> dict[str, list[str]]:
    try:
        return named_sets(modules)  # type: ignore[arg-type]
    except InputError as error:
        raise InputError(f"modules: {error}") from None


def _matrix(result: object) -> tuple[Array, NDArray[np.bool_]]:
    """Return the correlations, 0 where there is none, and where there is one."""
    if not isinstance(result, CorrelationResult):
        raise InputError(f"result must be a CorrelationResult, not {type(result).__name__}")
    need_all_pairs(result.dataset, "result: connectivity needs")
    refuse_kinds(result.dataset, "result", "connectivity is of correlations", DIFFERENCES)
    return _filled(result.dataset["correlation"].values)


def _filled(r: NDArray) -> tuple[Array, NDArray[np.bool_]]:
    known = np.isfinite(r)
    np.fill_diagonal(known, False)
    return np.where(known, r, 0.0).astype(float), known


def _mean(layer: tuple[Array, NDArray[np.bool_]], at: NDArray[np.int64]) -> float:
    """Return the mean correlation of the pairs of some genes."""
    part = np.ix_(at, at)
    n = layer[1][part].sum()
    return float(layer[0][part].sum() / n) if n else np.nan


def _present(
    genes: list[str], result: CorrelationResult, strict: bool = False
) -> NDArray[np.int64]:
    """Return the positions of the genes that are in the result."""
    known, ids = result.genes, ids_of(result.dataset)
    named = [name_of(gene, known, ids) for gene in genes]
    at = known.get_indexer(pd.Index(named, dtype=object))
    if strict and (at < 0).any():
        raise unknown_name("gene of modules", genes[int(np.flatnonzero(at < 0)[0])], known)
    return np.unique(at[at >= 0]).astype(np.int64)


def _bins(result: CorrelationResult) -> NDArray[np.int64]:
    """Return the bin of mean expression of each gene, of equal numbers of genes."""
    name = next((n for n in ("mean", "mean_log") if n in result.dataset), None)
    if name is None:
        raise InputError("result has no mean expression of genes, by which random sets are chosen")
    rank = stats.rankdata(result.dataset[name].values, "ordinal") - 1
    n = min(_BINS, max(len(rank) // _IN_BIN, 1))
    return (rank * n // len(rank)).astype(np.int64)


def _preserved(
    layers: list[tuple[Array, NDArray[np.bool_]]],
    at: NDArray[np.int64],
    bins: NDArray[np.int64],
    permutations: int,
    rng: np.random.Generator,
    donor_of: pd.Series | None,
) -> dict[str, float]:
    """Compare one module with random sets, over all donors together and by donor."""
    in_bin = [np.flatnonzero(bins == b) for b in range(bins.max() + 1)]
    wanted = np.bincount(bins[at], minlength=len(in_bin))
    own = np.array([_mean(layer, at) for layer in layers])
    if all(n in (0, len(b)) for b, n in zip(in_bin, wanted, strict=True)):  # no other set
        names = ["random_mean", "random_sd", "z", "p_value"]
        names += [] if donor_of is None else ["donors", "excess", "excess_se", "excess_p_value"]
        return {"connectivity": own[0], **dict.fromkeys(names, np.nan)}
    drawn = np.empty((permutations, len(layers)))
    for k in range(permutations):
        genes = np.concatenate(
            [rng.choice(b, n, replace=False) for b, n in zip(in_bin, wanted, strict=True) if n]
        )
        drawn[k] = [_mean(layer, genes) for layer in layers]
    every = drawn[:, 0][np.isfinite(drawn[:, 0])]
    sd = every.std(ddof=1) if len(every) > 1 else np.nan
    known = np.isfinite(own[0]) and len(every) > 1
    row = {
        "connectivity": own[0],
        "random_mean": every.mean() if len(every) else np.nan,
        "random_sd": sd,
        "z": (own[0] - every.mean()) / sd if known and sd > 0 else np.nan,
        "p_value": (1 + (every >= own[0]).sum()) / (1 + len(every)) if known else np.nan,
    }
    if donor_of is None:
        return row
    some = np.isfinite(drawn).any(0)
    centre = np.full(len(layers), np.nan)
    centre[some] = np.nanmean(drawn[:, some], 0)
    excess = pd.Series((own - centre)[1:]).groupby(donor_of.to_numpy(object)).mean().dropna()
    n = len(excess)
    se = excess.std() / n**0.5 if n > 1 else np.nan
    p = stats.t.sf(excess.mean() / se, n - 1) if n > 1 and se > 0 else np.nan
    return row | {
        "donors": n,
        "excess": excess.mean() if n else np.nan,
        "excess_se": se,
        "excess_p_value": p,
    }


def _donors(result: CorrelationResult, donors: OfSamples | None) -> pd.Series:
    """Return the donor of each sample."""
    samples = pd.Index(result.dataset["sample"].values)
    if donors is None:
        if result.dataset.attrs.get("block"):
            raise InputError(
                f"the donors of this result are its {result.dataset.attrs['block']!r}: pass the "
                "donor of each sample as donors="
            )
        return pd.Series(samples, samples)
    found = _of_samples("donors", donors, result)
    if found.isna().any():
        raise InputError(f"donors= names no donor of sample {found.index[found.isna()][0]!r}")
    return found


def _of_samples(name: str, given: object, result: CorrelationResult) -> pd.Series:
    """Return a value of each sample."""
    if not isinstance(given, Mapping | pd.Series):
        raise InputError(f"{name} must be a mapping or a Series by sample, not {given!r}")
    values = (
        pd.Series(given) if isinstance(given, pd.Series) else pd.Series(dict(given), dtype=object)
    )
    values.index = values.index.astype(str)
    samples = [str(s) for s in result.dataset["sample"].values]
    if not values.index.is_unique:
        twice = values.index[values.index.duplicated()][0]
        raise InputError(f"{name}= has sample {twice!r} more than once")
    missing = [s for s in samples if s not in values.index]
    if missing:
        raise InputError(f"{name}= does not name sample {missing[0]!r}")
    return values.loc[samples]


def _with_q(table: pd.DataFrame, names: dict[str, str]) -> pd.DataFrame:
    for p, q in names.items():
        if p in table:
            table[q] = benjamini_hochberg(table[p].to_numpy(float))
    return table
