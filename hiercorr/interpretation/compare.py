"""Comparison of the estimates of several models for the same pairs, on one scale."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from hiercorr.counts.names import name_of
from hiercorr.errors import DataWarning, InputError, listed, unknown_name
from hiercorr.interpretation.evidence import check_names, different_choices
from hiercorr.results.kinds import DIFFERENCES, PARTIAL, kind_of, refuse_kinds
from hiercorr.results.layout import has_all_pairs, scope
from hiercorr.results.pairs import ids_of
from hiercorr.results.result import CorrelationResult
from hiercorr.runtime.user_warnings import warn
from hiercorr.schema import describe_flag

if TYPE_CHECKING:
    from matplotlib.axes import Axes

MAX_PAIRS = 20


@dataclass(frozen=True)
class Comparison:
    """Estimates of several results.

    Attributes
    ----------
    table : DataFrame
        One row per pair, level and result: ``gene_a``, ``gene_b``, ``level``, ``result``,
        ``correlation``, ``ci_lower``, ``ci_upper``, ``scale`` (``"expression"`` or
        ``"log expression"``; followed by ``", partial"`` for direct partners), ``flag``.

    Examples
    --------
    >>> import hiercorr as hc
    >>> adata = hc.datasets.glioblastoma()
    >>> options = {"depth": "total_counts", "genes": 30, "subset": {"condition": "ctrl"}}
    >>> model = hc.CSCore(adata, "sample_id", **options)
    >>> results = {u: model.fit(uncertainty=u) for u in ("hierarchical", "jackknife")}
    >>> c = hc.compare(results)
    >>> c.wide().columns.tolist()
    ['hierarchical', 'jackknife']
    """

    table: pd.DataFrame

    def wide(self) -> pd.DataFrame:
        """Return the correlations with one row per pair and level and one column per result.

        Examples
        --------
        >>> import hiercorr as hc
        >>> adata = hc.datasets.glioblastoma()
        >>> options = {"depth": "total_counts", "genes": 30, "subset": {"condition": "ctrl"}}
        >>> model = hc.CSCore(adata, "sample_id", **options)
        >>> c = hc.compare({"a": model.fit(), "b": model.fit(uncertainty="jackknife")})
        >>> c.wide().shape
        (20, 2)
        """
        return self.table.pivot_table(
            index=["gene_a", "gene_b", "level"], columns="result", values="correlation", sort=False
        )

    def plot(self, ax: Axes | None = None) -> Axes:
        """Plot the estimates with their intervals; see :func:`hiercorr.plotting.comparison`.

        Parameters
        ----------
        ax : Axes, optional
            Axes to draw on; None: new axes.

        Returns
        -------
        Axes

        Examples
        --------
        >>> import hiercorr as hc
        >>> adata = hc.datasets.glioblastoma()
        >>> options = {"depth": "total_counts", "genes": 30, "subset": {"condition": "ctrl"}}
        >>> model = hc.CSCore(adata, "sample_id", **options)
        >>> results = {u: model.fit(uncertainty=u) for u in ("hierarchical", "jackknife")}
        >>> c = hc.compare(results)
        >>> c.plot()  # doctest: +SKIP
        """
        from hiercorr.plotting import comparison

        return comparison(self, ax=ax)

    def __repr__(self) -> str:
        return self.table.round(3).to_string(index=False)

    def _repr_html_(self) -> str:
        return self.table.round(3).to_html(border=0, index=False)


def compare(
    results: Mapping[str, CorrelationResult], pairs: Iterable[tuple[str, str]] | None = None
) -> Comparison:
    """Compare the estimates of several models for the same pairs.

    A result with two levels (:class:`hiercorr.BayesianCorrelation`) contributes both. Within
    samples its correlation of expression (``natural_correlation``) is used, which is what
    :class:`hiercorr.CSCore` estimates; between samples all are correlations of log expression.

    Parameters
    ----------
    results : mapping
        Results by name.
    pairs : iterable of (str, str), optional
        Pairs to compare. None: the first 20 pairs that are in every result.

    Returns
    -------
    Comparison

    Raises
    ------
    InputError
        If there is no result, no common pair, or a gene is unknown; if a result is of differences,
        or partial correlations (:func:`hiercorr.direct_partners`) are beside marginal ones.

    Warns
    -----
    DataWarning
        If the results rest on different cells, counts or samples.

    Examples
    --------
    >>> import hiercorr as hc
    >>> adata, vehicle = hc.datasets.glioblastoma(), {"condition": "ctrl"}
    >>> options = {"depth": "total_counts", "subset": vehicle, "genes": ["FTL", "FTH1", "SPP1"]}
    >>> w = hc.CSCore(adata, "sample_id", **options).fit()
    >>> b = hc.BayesianCorrelation(adata, "sample_id", **options).fit_many("FTL", seed=1)
    >>> hc.compare({"moments": w, "Bayesian": b}).wide().shape
    (4, 2)
    """
    if not isinstance(results, Mapping):
        raise InputError(f"results must map names to results, not be a {type(results).__name__}")
    if not results:
        raise InputError("compare needs at least one result; results is empty")
    for name, result in results.items():
        if not isinstance(result, CorrelationResult):
            raise InputError(
                f"result {name!r} is a {type(result).__name__}, not a CorrelationResult"
            )
    _check_kinds(results)
    _warn_of_different_cells(results)
    check_names(results)
    first = next(iter(results.values()))
    chosen = _common(results) if pairs is None else _named(_checked(pairs), first)
    rows = [
        row
        for name, result in results.items()
        for at_level in _levels(result)
        for row in _rows(name, at_level, chosen)
    ]
    table = pd.DataFrame(rows)
    order = {pair: k for k, pair in enumerate(chosen)}
    rank = [order[a, b] for a, b in zip(table["gene_a"], table["gene_b"], strict=True)]
    return Comparison(
        table.iloc[np.lexsort((table["level"] == "between", rank))].reset_index(drop=True)
    )


def _check_kinds(results: Mapping[str, CorrelationResult]) -> None:
    """Raise an error for differences, and for partial beside marginal correlations."""
    partial = [name for name, r in results.items() if kind_of(r.dataset) == PARTIAL]
    refused = [DIFFERENCES] if len(partial) == len(results) else [DIFFERENCES, PARTIAL]
    for name, result in results.items():
        use = "estimates of one quantity are compared"
        refuse_kinds(result.dataset, f"result {name!r}", use, *refused)


def _warn_of_different_cells(results: Mapping[str, CorrelationResult]) -> None:
    """Warn if the results rest on different cells or counts."""
    for option, chosen in different_choices(results.values()).items():
        stated = ", ".join(f"{c!r} in {n!r}" for n, c in zip(results, chosen, strict=True))
        warn(f"the results rest on different counts: {option} is {stated}", DataWarning)
    names = [frozenset(r.dataset["sample"].values) for r in results.values()]
    if len(set(names)) > 1:
        sizes = ", ".join(f"{len(s)} in {n!r}" for n, s in zip(results, names, strict=True))
        warn(f"the results rest on different samples: {sizes}", DataWarning)


def _checked(pairs: Any) -> list[tuple[str, str]]:
    every = listed("pairs", pairs, "a list of pairs of genes")
    for pair in every:
        names = [] if isinstance(pair, str) or not isinstance(pair, Iterable) else list(pair)
        if len(names) != 2 or not all(isinstance(g, str) for g in names):
            raise InputError(f"pairs must contain pairs of genes, not {pair!r}")
    if not every:
        raise InputError("pairs is empty; leave it out to compare all common pairs")
    return [(a, b) for a, b in every]


def _named(pairs: list[tuple[str, str]], result: CorrelationResult) -> list[tuple[str, str]]:
    """Return pairs by the names of their genes, which may be given by their ids."""
    ids = ids_of(result.dataset)
    return [(name_of(a, result.genes, ids), name_of(b, result.genes, ids)) for a, b in pairs]


def _common(results: Mapping[str, CorrelationResult]) -> list[tuple[str, str]]:
    """List the first pairs that are in every result."""
    first, *rest = [r.genes for r in results.values()]
    shared = [str(g) for g in first if all(g in genes for genes in rest)]
    targets = {r.target for r in results.values() if r.target is not None}
    if len(targets) > 1:
        raise InputError(
            f"the results have different targets ({', '.join(sorted(map(str, targets)))}) and no "
            "pair in common"
        )
    for r in results.values():
        if r.target is None and not has_all_pairs(r.dataset):
            raise InputError(f"a result has {scope(r.dataset)}: name the pairs to compare, pairs=")
    if targets:
        target = str(next(iter(targets)))
        found = [(target, g) for g in shared if g != target]
    else:
        found = [(a, b) for k, a in enumerate(shared) for b in shared[k + 1 :]]
    if not found:
        raise InputError("the results have no pair in common: fit them with the same genes=")
    return found[:MAX_PAIRS]


def _levels(result: CorrelationResult) -> list[CorrelationResult]:
    """Return a result, and the same result at its other level if it has one."""
    level = str(result.dataset.attrs.get("level"))
    other = {"within": "between", "between": "within"}.get(level, "")
    if other and f"correlation_{other}" in result.dataset:
        return [result, result.at(other)]
    return [result]


def _scale(result: CorrelationResult) -> str:
    attrs = result.dataset.attrs
    if kind_of(result.dataset) == PARTIAL:
        return f"{'log ' if attrs.get('scale') == 'log' else ''}expression, partial"
    return "log expression" if attrs.get("level") == "between" else "expression"


def _rows(
    name: str, result: CorrelationResult, pairs: list[tuple[str, str]]
) -> list[dict[str, Any]]:
    """Extract the estimates of the pairs from one result."""
    level = str(result.dataset.attrs.get("level"))
    if "natural_correlation" in result.dataset:
        columns = ("natural_correlation", "natural_lower", "natural_upper")
    else:
        columns = ("correlation", "ci_lower", "ci_upper")
    out = []
    for a, b in pairs:
        targets = result.targets
        swapped = targets is not None and a not in targets
        left, right = (b, a) if swapped else (a, b)
        if targets is not None and left not in targets:
            of = scope(result.dataset) if result.target is None else repr(result.target)
            raise InputError(
                f"result {name!r} contains the pairs of {of} only, not {a!r} and {b!r}"
            )
        _, row = result._row(left)
        if right not in result.genes:
            raise unknown_name("gene", right, result.genes)
        if right not in row["gene"].values:
            raise unknown_name(f"partner of {left}", right, row["gene"].values)
        estimate = row.sel(gene=right)
        value, low, high = (float(estimate[c]) if c in estimate else np.nan for c in columns)
        out.append(
            {
                "gene_a": a,
                "gene_b": b,
                "level": level,
                "result": name,
                "correlation": value,
                "ci_lower": low,
                "ci_upper": high,
                "scale": _scale(result),
                "flag": describe_flag(int(estimate["flag"])),
            }
        )
    return out
