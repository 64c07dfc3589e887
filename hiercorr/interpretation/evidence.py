"""Evidence at two levels: within samples for discovery, between samples for the main claim."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from hiercorr.counts.names import are_identifiers
from hiercorr.errors import DataWarning, InputError, between_0_and_1, one_of, text
from hiercorr.results.feature_types import with_types
from hiercorr.results.pairs import UNCLIPPED, effects, pair_columns, table_columns
from hiercorr.results.result import CorrelationResult
from hiercorr.results.text import format_cell
from hiercorr.runtime.user_warnings import warn

CLASSES = ("both levels", "cell-state only", "between-sample only", "discordant", "insufficient")
_COLUMNS = ("correlation", "ci_lower", "ci_upper", "p_value", "q_value")
_UNLESS_STATED = {"subset": "all cells", "layer": "X", "depth": "row sums"}
_HETEROGENEITY = ("tau2", "i2", "prediction_lower", "prediction_upper")


@dataclass(frozen=True)
class Evidence:
    """Partners of one gene at both levels.

    Attributes
    ----------
    target : str
    table : DataFrame
        Indexed by gene: estimates, intervals, p-values and q-values of each layer (``within_...``,
        ``between_...``, and ``exploratory_...``, ``bayesian_...`` if given), heterogeneity over
        samples, ``sign_agreement`` and ``evidence``, the class. Sorted by class, then by the
        smaller q-value and p-value.
    q : float
        Threshold of the classes.

    Examples
    --------
    >>> import hiercorr as hc
    >>> adata = hc.datasets.glioblastoma()
    >>> options = {"depth": "total_counts", "subset": {"condition": "ctrl"}}
    >>> w = hc.CSCore(adata, "sample_id", **options).fit(target="FTL")
    >>> b = hc.Pseudobulk(adata, "sample_id", **options).fit(target="FTL")
    >>> found = hc.evidence("FTL", within=w, between=b)
    >>> found.table.columns.tolist()[:2]
    ['within_correlation', 'within_ci_lower']
    """

    target: str
    table: pd.DataFrame
    q: float

    def counts(self) -> pd.Series:
        """Count the genes of each class.

        Examples
        --------
        >>> import hiercorr as hc
        >>> adata = hc.datasets.glioblastoma()
        >>> options = {"depth": "total_counts", "subset": {"condition": "ctrl"}}
        >>> w = hc.CSCore(adata, "sample_id", **options).fit(target="FTL")
        >>> b = hc.Pseudobulk(adata, "sample_id", **options).fit(target="FTL")
        >>> int(hc.evidence("FTL", within=w, between=b).counts().sum())
        299
        """
        return self.table["evidence"].value_counts().reindex(list(CLASSES), fill_value=0)

    def of(self, name: str) -> pd.DataFrame:
        """Select the genes of one class.

        Parameters
        ----------
        name : str
            ``"both levels"``, ``"cell-state only"``, ``"between-sample only"``, ``"discordant"``
            or ``"insufficient"``.

        Returns
        -------
        DataFrame

        Examples
        --------
        >>> import hiercorr as hc
        >>> adata = hc.datasets.glioblastoma()
        >>> options = {"depth": "total_counts", "subset": {"condition": "ctrl"}}
        >>> w = hc.CSCore(adata, "sample_id", **options).fit(target="FTL")
        >>> b = hc.Pseudobulk(adata, "sample_id", **options).fit(target="FTL")
        >>> hc.evidence("FTL", within=w, between=b).of("cell-state only").index[0]
        'CTSL'
        """
        one_of("name", name, CLASSES)
        return self.table[self.table["evidence"] == name]

    def __str__(self) -> str:
        counts = ", ".join(f"{n} {name}" for name, n in self.counts().items())
        shown = [
            "within_correlation",
            "within_q_value",
            "between_correlation",
            "between_q_value",
            "evidence",
        ]
        table = _as_text(self.table[shown].head(10)).to_string()
        return f"Evidence for {self.target} at q < {self.q:g}: {counts}\n{table}"

    __repr__ = __str__

    def _repr_html_(self) -> str:
        table = _as_text(self.table.head(20))
        return self.counts().to_frame().T.to_html(border=0) + table.to_html(border=0)


def _as_text(table: pd.DataFrame) -> pd.DataFrame:
    """Format the numbers of a table: small p-values and q-values are not rounded to 0."""
    out = table.astype(object)
    for column in table.select_dtypes("number"):
        out[column] = [format_cell(column, float(v)) for v in table[column]]
    return out


def evidence(
    target: str,
    within: CorrelationResult,
    between: CorrelationResult,
    exploratory: CorrelationResult | None = None,
    bayesian: CorrelationResult | None = None,
    q: float = 0.05,
) -> Evidence:
    """Classify the partners of a gene by their evidence at both levels.

    A gene is classified as ``both levels`` if both q-values are below `q` and the signs agree,
    ``discordant`` if both are and the signs differ, ``cell-state only`` or ``between-sample only``
    if one is, and ``insufficient`` otherwise. A single significant level does not show that there
    is no correlation at the other; see its interval.

    Parameters
    ----------
    target : str
        Target gene.
    within : CorrelationResult
        Result of level within, e.g. from :class:`hiercorr.CSCore`.
    between : CorrelationResult
        Result of level between, e.g. from :class:`hiercorr.Pseudobulk`.
    exploratory, bayesian : CorrelationResult, optional
        Results shown alongside; they do not affect the class.
    q : float
        Threshold of the q-values.

    Returns
    -------
    Evidence

    Raises
    ------
    InputError
        If a result has no pairs of the target or the wrong level, or the two results have no
        genes or samples in common.

    Examples
    --------
    >>> import hiercorr as hc
    >>> adata = hc.datasets.glioblastoma()
    >>> options = {"sample": "sample_id", "depth": "total_counts", "subset": {"condition": "ctrl"}}
    >>> w = hc.CSCore(adata, **options).fit(target="FTL")
    >>> b = hc.Pseudobulk(adata, **options).fit(target="FTL")
    >>> int(hc.evidence("FTL", within=w, between=b).counts().sum())
    299
    """
    text("target", target)
    between_0_and_1("q", q)
    layers = {
        "within": within,
        "between": between,
        "exploratory": exploratory,
        "bayesian": bayesian,
    }
    for name, result in layers.items():
        if result is not None or name in ("within", "between"):
            _check_layer(name, result)
    _check_samples(within, between)
    check_names({name: result for name, result in layers.items() if result is not None})
    target, _ = within._row(target)
    parts = [
        _layer(result, target).add_prefix(f"{name}_")
        for name, result in layers.items()
        if result is not None
    ]
    shared = parts[0].index.intersection(parts[1].index)
    if not len(shared):
        raise InputError(
            "the two results share no gene except the target; fit both with the same genes="
        )
    if len(shared) < max(len(parts[0]), len(parts[1])):
        warn(
            f"{len(shared)} genes are in both results (within {len(parts[0])}, between "
            f"{len(parts[1])}); the others are excluded",
            DataWarning,
        )
    joined = pd.concat([p.reindex(shared) for p in parts], axis=1)
    signs = [np.sign(effects(joined, f"{level}_")) for level in ("within", "between")]
    joined["sign_agreement"] = signs[0] == signs[1]
    joined["evidence"] = _classes(joined, q)
    rank = joined["evidence"].cat.codes
    best_p, best_q = (
        joined[[f"{level}_{c}" for level in ("within", "between")]].min(axis=1).fillna(2)
        for c in ("p_value", "q_value")
    )
    joined = joined.iloc[np.lexsort((best_p, best_q, rank))]
    joined.index.name = "gene"
    return Evidence(target, with_types(joined, within.dataset), q)


def check_names(results: Mapping[str, CorrelationResult]) -> None:
    """Raise an error if results name their genes differently, as by symbols and by ids.

    Parameters
    ----------
    results : mapping
        Results by the name of their argument.
    """
    columns = [r.dataset.attrs.get("gene_names") for r in results.values()]
    by_id = [are_identifiers(r.genes) for r in results.values()]
    if len(set(columns)) == 1 and len(set(by_id)) == 1:
        return
    genes = [set(r.genes) for r in results.values()]
    if 2 * len(set.intersection(*genes)) >= min(map(len, genes)):
        return
    stated = "; ".join(
        f"{name!r} by {'var_names' if c is None else f'the column {c!r} of var'}, "
        f"e.g. {r.genes[0]!r}"
        for (name, r), c in zip(results.items(), columns, strict=True)
    )
    raise InputError(
        f"the results name their genes differently: {stated}; fit them with the same gene_names="
    )


def _check_layer(name: str, result: object) -> None:
    if not isinstance(result, CorrelationResult):
        raise InputError(f"{name} must be a CorrelationResult, not {type(result).__name__}")
    level = result.dataset.attrs.get("level")
    if name in ("within", "between") and level != name:
        raise InputError(f"{name}= needs a result of level {name!r}, this one has level {level!r}")


def _layer(result: CorrelationResult, target: str) -> pd.DataFrame:
    """Tabulate the partners of the target in one result."""
    name, row = result._row(target)
    withheld = [c for c in table_columns(result.dataset) if c == UNCLIPPED]
    columns = [c for c in (*_COLUMNS, *withheld, *_HETEROGENEITY) if c in row]
    values = {c: v.astype(float) for c, v in pair_columns(row, columns) if "[" not in c}
    table = pd.DataFrame(values, pd.Index(row["gene"].values))
    for c in _COLUMNS:
        if c not in table:
            table[c] = np.nan
    return table.drop(index=name, errors="ignore")


def _classes(table: pd.DataFrame, q: float) -> pd.Categorical:
    within, between = table["within_q_value"] < q, table["between_q_value"] < q
    both = within & between
    conditions = [both & table["sign_agreement"], both, within, between]
    names = np.select(conditions, [CLASSES[0], CLASSES[3], CLASSES[1], CLASSES[2]], CLASSES[4])
    return pd.Categorical(names, categories=list(CLASSES))


def different_choices(results: Iterable[CorrelationResult]) -> dict[str, list[str]]:
    """Return the choices of cells and counts that differ between results, by option."""
    attrs = [r.dataset.attrs for r in results]
    chosen = {k: [str(a.get(k, default)) for a in attrs] for k, default in _UNLESS_STATED.items()}
    return {option: values for option, values in chosen.items() if len(set(values)) > 1}


def _check_samples(within: CorrelationResult, between: CorrelationResult) -> None:
    names: list[set[Any]] = [set(r.dataset["sample"].values) for r in (within, between)]
    if not names[0] & names[1]:
        raise InputError(
            "within= and between= come from different data: samples such as "
            f"{sorted(names[0])[0]!r} within, such as {sorted(names[1])[0]!r} between, and none in "
            "both"
        )
    for option, chosen in different_choices((within, between)).items():
        warn(
            f"the results rest on different counts: {option} is {chosen[0]!r} within and "
            f"{chosen[1]!r} between",
            DataWarning,
        )
    if names[0] != names[1]:
        warn(
            f"the results rest on different samples: {len(names[0] - names[1])} only within, "
            f"{len(names[1] - names[0])} only between",
            DataWarning,
        )
