"""What several models say of the same pairs, side by side and on one scale."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from hiercorr.errors import InputError, unknown_name
from hiercorr.results.result import CorrelationResult
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
        One row a pair, level and result: ``gene_a``, ``gene_b``, ``level``, ``result``, ``correlation``, ``ci_lower``,
        ``ci_upper``, ``scale`` (``"expression"`` or ``"log expression"``), ``flag``.
    """

    table: pd.DataFrame

    def wide(self) -> pd.DataFrame:
        """One row a pair and level, one column a result."""
        return self.table.pivot_table(
            index=["gene_a", "gene_b", "level"], columns="result", values="correlation", sort=False
        )

    def plot(self, ax: Axes | None = None) -> Axes:
        """Estimates with their intervals, on `ax` or new axes; see :func:`hiercorr.plotting.comparison`."""
        from hiercorr.plotting import comparison

        return comparison(self, ax=ax)

    def __repr__(self) -> str:
        return self.table.round(3).to_string(index=False)

    def _repr_html_(self) -> str:
        return self.table.round(3).to_html(border=0, index=False)


def compare(
    results: Mapping[str, CorrelationResult], pairs: Iterable[tuple[str, str]] | None = None
) -> Comparison:
    """Put the estimates of several models for the same pairs side by side.

    A result that holds two levels (:class:`hiercorr.BayesianCorrelation`) enters with both. Within samples, its correlation of
    expression (``natural_correlation``) is taken, which is what :class:`hiercorr.CSCore` estimates; between samples all are
    correlations of log expression.

    Parameters
    ----------
    results : mapping
        Name -> result.
    pairs : iterable of (str, str), optional
        None: all pairs that every result holds, 20 at most.

    Returns
    -------
    Comparison

    Raises
    ------
    InputError
        If there is no result, no common pair, or a gene is unknown.

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
    if not results:
        raise InputError("compare needs at least one result")
    for name, result in results.items():
        if not isinstance(result, CorrelationResult):
            raise InputError(
                f"result {name!r} is a {type(result).__name__}, not a CorrelationResult"
            )
    chosen = list(pairs) if pairs is not None else _common(results)
    rows = [
        row
        for name, result in results.items()
        for one in _levels(result)
        for row in _rows(name, one, chosen)
    ]
    table = pd.DataFrame(rows)
    order = {tuple(p): k for k, p in enumerate(chosen)}
    place = [order[a, b] for a, b in zip(table["gene_a"], table["gene_b"], strict=True)]
    return Comparison(
        table.iloc[np.lexsort((table["level"] == "between", place))].reset_index(drop=True)
    )


def _common(results: Mapping[str, CorrelationResult]) -> list[tuple[str, str]]:
    first, *rest = [r.genes for r in results.values()]
    shared = [str(g) for g in first if all(g in genes for genes in rest)]
    targets = {r.target for r in results.values() if r.target is not None}
    if len(targets) > 1:
        raise InputError(
            f"the results have different targets ({', '.join(sorted(map(str, targets)))}): no pair is in all"
        )
    if targets:
        target = str(next(iter(targets)))
        found = [(target, g) for g in shared if g != target]
    else:
        found = [(a, b) for k, a in enumerate(shared) for b in shared[k + 1 :]]
    if not found:
        raise InputError("the results have no pair in common: fit them with the same genes=")
    return found[:MAX_PAIRS]


def _levels(result: CorrelationResult) -> list[CorrelationResult]:
    own = str(result.dataset.attrs.get("level"))
    other = {"within": "between", "between": "within"}.get(own, "")
    return (
        [result, result.at(other)]
        if f"correlation_{other}" in result.dataset and other
        else [result]
    )


def _rows(
    name: str, result: CorrelationResult, pairs: list[tuple[str, str]]
) -> list[dict[str, Any]]:
    out = []
    level = str(result.dataset.attrs.get("level"))
    natural = "natural_correlation" in result.dataset
    columns = (
        ("natural_correlation", "natural_lower", "natural_upper")
        if natural
        else (
            "correlation",
            "ci_lower",
            "ci_upper",
        )
    )
    for a, b in pairs:
        left, right = (b, a) if result.target == b else (a, b)
        _, row = result._row(
            left if result.target is None or left == result.target else _no_pair(name, result, a, b)
        )
        if right not in result.genes:
            raise unknown_name("gene", right, result.genes)
        one = row.sel(gene=right)
        value, low, high = (float(one[c]) if c in one else np.nan for c in columns)
        out.append(
            {
                "gene_a": a,
                "gene_b": b,
                "level": level,
                "result": name,
                "correlation": value,
                "ci_lower": low,
                "ci_upper": high,
                "scale": "log expression" if level == "between" else "expression",
                "flag": describe_flag(int(one["flag"])),
            }
        )
    return out


def _no_pair(name: str, result: CorrelationResult, a: str, b: str) -> str:
    raise InputError(
        f"result {name!r} holds the pairs of {result.target!r} only, not {a!r} and {b!r}"
    )
