"""Evidence at two levels: within samples for discovery, between samples for the main claim."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from hiercorr.counts.names import are_identifiers
from hiercorr.counts.targets import PairList, Target, given_targets
from hiercorr.errors import DataWarning, InputError, between_0_and_1, n_of, one_of
from hiercorr.interpretation.asked import PairsAsked, partners_of, unordered
from hiercorr.results.feature_types import with_types
from hiercorr.results.frames import n_pairs
from hiercorr.results.kinds import DIFFERENCES, EXPLORATORY, PARTIAL, refuse_kinds
from hiercorr.results.layout import is_list, listed_ends, scope
from hiercorr.results.pairs import effects, known_gene, row_of
from hiercorr.results.result import CorrelationResult
from hiercorr.results.text import format_cell
from hiercorr.runtime.user_warnings import warn

CLASSES = ("both levels", "cell-state only", "between-sample only", "discordant", "insufficient")
_UNLESS_STATED = {"subset": "all cells", "layer": "X", "depth": "row sums"}


@dataclass(frozen=True)
class Evidence:
    """Partners of a gene, or several targets' or listed pairs, at both levels.

    Attributes
    ----------
    target : str or None
        The only target; None for several targets or listed pairs.
    table : DataFrame
        Indexed by gene, or by ``gene_a`` and ``gene_b`` without an only target: estimates,
        intervals, p-values and q-values of each layer (``within_...``, ``between_...``, and
        ``exploratory_...``, ``bayesian_...`` if given), heterogeneity over samples,
        ``sign_agreement`` and ``evidence``, the class. Sorted by class, then by the smaller q-value
        and p-value.
    q : float
        Threshold of the classes.
    scope : str
        The pairs that were classified, e.g. ``"target FTL"`` or ``"12 listed pairs"``.

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

    target: str | None
    table: pd.DataFrame
    q: float
    scope: str

    def counts(self) -> pd.Series:
        """Count the pairs of each class.

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
        """Select the pairs of one class.

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
        about = self.target or self.scope
        return f"Evidence for {about} at q < {self.q:g}: {counts}\n{table}"

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
    target: Target,
    within: CorrelationResult,
    between: CorrelationResult,
    exploratory: CorrelationResult | None = None,
    bayesian: CorrelationResult | None = None,
    q: float = 0.05,
) -> Evidence:
    """Classify the partners of genes, or listed pairs, by their evidence at both levels.

    A pair is classified as ``both levels`` if both q-values are below `q` and the signs agree,
    ``discordant`` if both are and the signs differ, ``cell-state only`` or ``between-sample only``
    if one is, and ``insufficient`` otherwise. A single significant level does not show that there
    is no correlation at the other; see its interval.

    Parameters
    ----------
    target : str, sequence of str or None
        Target gene; several, whose distinct pairs are one family of tests; or None: the pairs of
        both results, i.e. the listed pairs where a result has a list. For one target, the
        q-values of the results are used. Otherwise q-values are recomputed over the pairs that were
        requested (Benjamini-Hochberg), unless the result contains exactly these.
    within : CorrelationResult
        Result of level within, e.g. from :class:`hiercorr.CSCore`.
    between : CorrelationResult
        Result of level between, e.g. from :class:`hiercorr.Pseudobulk`.
    exploratory, bayesian : CorrelationResult, optional
        Results shown alongside, that of :class:`hiercorr.BayesianCorrelation` as `bayesian`; they
        do not affect the class.
    q : float
        Threshold of the q-values.

    Returns
    -------
    Evidence

    Raises
    ------
    InputError
        If a result has no pairs of a target or the wrong level, or is of differences (as from
        :func:`hiercorr.differential`), of partial correlations (:func:`hiercorr.direct_partners`)
        or, within and between, exploratory (:class:`hiercorr.CellCorrelation`); if the two results
        have no pairs or samples in common, or the pairs need more memory than is available.

    Examples
    --------
    >>> import hiercorr as hc
    >>> adata = hc.datasets.glioblastoma()
    >>> options = {"sample": "sample_id", "depth": "total_counts", "subset": {"condition": "ctrl"}}
    >>> w = hc.CSCore(adata, **options).fit(target="FTL")
    >>> b = hc.Pseudobulk(adata, **options).fit(target="FTL")
    >>> int(hc.evidence("FTL", within=w, between=b).counts().sum())
    299

    A list of pairs is one family of tests:

    >>> pairs = [("FTL", "FTH1"), ("CTSL", "CTSB"), ("SPP1", "FTL")]
    >>> w = hc.CSCore(adata, **options).fit(pairs=pairs)
    >>> b = hc.Pseudobulk(adata, **options).fit(pairs=pairs)
    >>> found = hc.evidence(None, within=w, between=b)
    >>> found.scope, len(found.table)
    ('3 listed pairs', 3)
    """
    targets = given_targets(target)
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
    given = {name: result for name, result in layers.items() if result is not None}
    check_names(given)
    if targets is None and within.target is not None:
        targets = (within.target,)
    for target in targets or ():
        for name, result in given.items():
            _check_target(name, result, target)
    if targets is not None and len(targets) == 1:
        return _of_target(targets[0], given, q)
    return _of_pairs(targets, given, q)


def _check_target(name: str, result: CorrelationResult, target: str) -> None:
    """Raise an error that names the argument whose result has no pairs of a target."""
    try:
        row_of(result.dataset, target)
    except InputError as error:
        raise InputError(f"{name}= has no pairs of {target!r}: {error}") from None


def _of_target(target: str, given: Mapping[str, CorrelationResult], q: float) -> Evidence:
    """Classify the partners of one gene."""
    target, _ = given["within"]._row(target)
    parts = [
        partners_of(result.dataset, target).add_prefix(f"{name}_") for name, result in given.items()
    ]
    table = _classified(parts, "gene", q)
    table.index.name = "gene"
    return Evidence(target, with_types(table, given["within"].dataset), q, f"target {target}")


def _of_pairs(
    targets: Sequence[str] | None, given: Mapping[str, CorrelationResult], q: float
) -> Evidence:
    """Classify the pairs of several targets, or those that the results have."""
    datasets = {name: result.dataset for name, result in given.items()}
    both = [datasets[name] for name in ("within", "between")]
    if targets is None:
        smaller = min(both, key=lambda d: (not is_list(d), n_pairs(d)))
        listed = PairList(*listed_ends(smaller)) if is_list(smaller) else None
        asked, about = PairsAsked(None, listed), scope(smaller)
    else:
        targets = [known_gene(both[0], name) for name in targets]
        asked = PairsAsked(targets, None)
        about = f"{len(targets)} targets ({', '.join(targets[:3])}{', ...' * (len(targets) > 3)})"
    parts = [asked.table(dataset).add_prefix(f"{name}_") for name, dataset in datasets.items()]
    table = _classified(parts, "pair", q)
    table.index = table.index.set_names(["gene_a", "gene_b"])
    return Evidence(None, with_types(table, both[0]), q, about)


def _classified(parts: Sequence[pd.DataFrame], noun: str, q: float) -> pd.DataFrame:
    """Join the layers of evidence, within and between first, and sort them by class."""
    keys = [unordered(part.index) for part in parts]
    shared = keys[0].isin(keys[1])
    if not shared.any():
        what = "no gene except the target; fit both with the same genes="
        if noun == "pair":
            what = "no pair; fit both with the same target= or pairs="
        raise InputError(f"the two results share {what}")
    if shared.sum() < max(len(parts[0]), len(parts[1])):
        n = int(shared.sum())
        warn(
            f"{n_of(n, noun)} {'is' if n == 1 else 'are'} in both results (within "
            f"{len(parts[0])}, between {len(parts[1])}); the others are excluded",
            DataWarning,
        )
    names = parts[0].index[shared]
    aligned = [p.set_axis(k).reindex(keys[0][shared]) for p, k in zip(parts, keys, strict=True)]
    joined = pd.concat(aligned, axis=1).set_axis(names)
    signs = [np.sign(effects(joined, f"{level}_")) for level in ("within", "between")]
    joined["sign_agreement"] = signs[0] == signs[1]
    joined["evidence"] = _classes(joined, q)
    rank = joined["evidence"].cat.codes
    best_p, best_q = (
        joined[[f"{level}_{c}" for level in ("within", "between")]].min(axis=1).fillna(2)
        for c in ("p_value", "q_value")
    )
    return joined.iloc[np.lexsort((best_p, best_q, rank))]


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
    kinds = (DIFFERENCES, PARTIAL) if name == "exploratory" else (DIFFERENCES, PARTIAL, EXPLORATORY)
    refuse_kinds(result.dataset, f"{name}=", "evidence is of marginal correlations", *kinds)
    model = result.dataset.attrs.get("model")
    if name == "bayesian" and model != "BayesianCorrelation":
        raise InputError(
            f"bayesian= needs a result of BayesianCorrelation, and this one is of {model!r}: leave "
            "it out"
        )


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
