"""The two-layer evidence table: within samples for discovery, between samples for the main claim."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from hiercorr.errors import DataWarning, InputError, between_0_and_1, one_of
from hiercorr.results.result import CorrelationResult
from hiercorr.runtime.user_warnings import warn

CLASSES = ("both levels", "cell-state only", "between-sample only", "discordant", "insufficient")
_COLUMNS = ("correlation", "ci_lower", "ci_upper", "p_value", "q_value")
_HETEROGENEITY = ("tau2", "i2", "prediction_lower", "prediction_upper")


@dataclass(frozen=True)
class Evidence:
    """Partners of one gene at both levels.

    Attributes
    ----------
    target : str
    table : DataFrame
        Indexed by gene: estimates, intervals, p and q of each layer (``within_...``, ``between_...``, and
        ``exploratory_...``, ``bayesian_...`` where given), heterogeneity over samples, ``sign_agreement`` and ``evidence``,
        the class. Both levels first, then by the smaller q.
    q : float
        Threshold of the classes.
    """

    target: str
    table: pd.DataFrame
    q: float

    def counts(self) -> pd.Series:
        """Genes of each class."""
        return self.table["evidence"].value_counts().reindex(list(CLASSES), fill_value=0)

    def of(self, name: str) -> pd.DataFrame:
        """The genes of one class; `name`: both levels, cell-state only, between-sample only, discordant or insufficient."""
        one_of("class", name, CLASSES)
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
        return f"Evidence for {self.target} at q < {self.q:g}: {counts}\n{self.table[shown].head(10).round(3).to_string()}"

    __repr__ = __str__

    def _repr_html_(self) -> str:
        return self.counts().to_frame().T.to_html(border=0) + self.table.head(20).round(3).to_html(
            border=0
        )


def evidence(
    target: str,
    within: CorrelationResult,
    between: CorrelationResult,
    exploratory: CorrelationResult | None = None,
    bayesian: CorrelationResult | None = None,
    q: float = 0.05,
) -> Evidence:
    """Put the layers of evidence for the partners of a gene side by side.

    A gene is ``both levels`` where both q-values pass and the signs agree, ``discordant`` where both pass and they do not,
    ``cell-state only`` or ``between-sample only`` where one passes, else ``insufficient``. Only one level passing is no
    proof that there is nothing at the other; the intervals say what it could hold.

    Parameters
    ----------
    target : str
    within : CorrelationResult
        Level within samples, e.g. of :class:`hiercorr.CSCore`.
    between : CorrelationResult
        Level between samples, e.g. of :class:`hiercorr.Pseudobulk`.
    exploratory, bayesian : CorrelationResult, optional
        Shown beside them; they do not enter the class.
    q : float

    Returns
    -------
    Evidence

    Raises
    ------
    InputError
        If a result does not hold the target, has the wrong level, or shares no genes or samples with the other.

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
    between_0_and_1("q", q)
    _same_data(within, between)
    layers = {
        "within": within,
        "between": between,
        "exploratory": exploratory,
        "bayesian": bayesian,
    }
    parts: list[pd.DataFrame] = []
    for name, result in layers.items():
        if result is None:
            continue
        level = result.dataset.attrs.get("level")
        if name in ("within", "between") and level != name:
            raise InputError(
                f"{name}= needs a result of level {name!r}, this one has level {level!r}"
            )
        table = _layer(result, target)
        parts.append(table.add_prefix(f"{name}_"))
    shared = parts[0].index.intersection(parts[1].index)
    if not len(shared):
        raise InputError(
            "the two results share no gene but the target; fit both with the same genes="
        )
    if len(shared) < max(len(parts[0]), len(parts[1])):
        warn(
            f"{len(shared)} genes are in both results (within {len(parts[0])}, between {len(parts[1])}); the others are left "
            "out",
            DataWarning,
        )
    joined = pd.concat([p.reindex(shared) for p in parts], axis=1)
    joined["sign_agreement"] = np.sign(joined["within_correlation"]) == np.sign(
        joined["between_correlation"]
    )
    joined["evidence"] = _classes(joined, q)
    rank = joined["evidence"].cat.codes
    best = joined[["within_q_value", "between_q_value"]].min(axis=1).fillna(2)
    joined = joined.iloc[np.lexsort((best.to_numpy(), rank.to_numpy()))]
    joined.index.name = "gene"
    return Evidence(target, joined, q)


def _layer(result: CorrelationResult, target: str) -> pd.DataFrame:
    name, row = result._row(target)
    columns = [c for c in (*_COLUMNS, *_HETEROGENEITY) if c in row]
    table = pd.DataFrame(
        {c: row[c].values.astype(float) for c in columns}, index=pd.Index(row["gene"].values)
    )
    for c in _COLUMNS:
        if c not in table:
            table[c] = np.nan
    return table.drop(index=name, errors="ignore")


def _classes(table: pd.DataFrame, q: float) -> pd.Categorical:
    w, b = table["within_q_value"] < q, table["between_q_value"] < q
    same = table["sign_agreement"]
    conditions = [w & b & same, w & b, w, b]
    names = np.select(conditions, [CLASSES[0], CLASSES[3], CLASSES[1], CLASSES[2]], CLASSES[4])
    return pd.Categorical(names, categories=list(CLASSES))


def _same_data(within: CorrelationResult, between: CorrelationResult) -> None:
    names: list[set[Any]] = [set(r.dataset["sample"].values) for r in (within, between)]
    if not names[0] & names[1]:
        raise InputError(
            f"the two results come from different data: within has samples such as {sorted(names[0])[0]!r}, between such as "
            f"{sorted(names[1])[0]!r}, and none is in both"
        )
    if names[0] != names[1]:
        warn(
            f"the results rest on different samples: {len(names[0] - names[1])} only within, {len(names[1] - names[0])} only "
            "between",
            DataWarning,
        )
