"""Every method that a study scores: p-value, estimate, interval and flag of all pairs of a panel.

A method is called as a user would call it; what it is asked is in its name.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterable
from dataclasses import dataclass

import anndata as ad
import numpy as np
from scipy import stats

import hiercorr as hc
from hiercorr.inference.meta import meta_analysis
from hiercorr.inference.pairs import fisher_z

INSUFFICIENT = hc.Flag.LOW_INFORMATION | hc.Flag.DOMINATED | hc.Flag.TOO_FEW_SAMPLES
BOOTSTRAP_DRAWS = 200


@dataclass
class Answer:
    """Matrices (gene, partner) in the order of the panel's genes; None where a method has none."""

    p: np.ndarray | None = None
    estimate: np.ndarray | None = None
    interval: tuple[np.ndarray, np.ndarray] | None = None
    insufficient: np.ndarray | None = None
    level: str = "within"

    def at(self, pairs: tuple[np.ndarray, np.ndarray]) -> dict:
        """The arguments of :meth:`validation.scores.Tally.add` for some pairs."""
        out = {
            k: None if (v := getattr(self, k)) is None else v[pairs]
            for k in ("p", "estimate", "insufficient")
        }
        return out | {
            "interval": None if self.interval is None else tuple(v[pairs] for v in self.interval)
        }


class Panel:
    """One data set and the fits that methods share."""

    def __init__(self, adata: ad.AnnData, pairs: tuple[np.ndarray, np.ndarray], seed: int) -> None:
        self.names, self.pairs, self.seed = adata.var_names.to_numpy(), pairs, seed
        self.adata = adata = adata[:, np.asarray(adata.X.sum(0)).ravel() > 0].copy()
        options = {"sample": "sample", "depth": "depth", "min_cells": 5}
        self.model = hc.CSCore(adata, **options)
        self.cells = hc.CellCorrelation(adata, **options)

    def matrix(self, result: hc.CorrelationResult, name: str) -> np.ndarray:
        """Pair variable in the panel's order of genes; NaN for genes without counts."""
        table = result.dataset[name]
        if table.sizes["gene"] < len(self.names):
            table = table.reindex(gene=self.names, partner=self.names)
        return table.values

    def placed(self, values: np.ndarray) -> np.ndarray:
        """A matrix that holds these values at the pairs that are asked for."""
        out = np.full((len(self.names), len(self.names)), np.nan)
        out[*self.pairs] = values
        out[*self.pairs[::-1]] = values
        return out

    def with_interval(self, result: hc.CorrelationResult, level: str = "within") -> Answer:
        best = (
            "correlation_unclipped" if "correlation_unclipped" in result.dataset else "correlation"
        )
        p, estimate, low, high, flag = (
            self.matrix(result, k) for k in ("p_value", best, "ci_lower", "ci_upper", "flag")
        )
        bits = np.nan_to_num(flag, nan=int(hc.Flag.TOO_FEW_SAMPLES)).astype(int)
        return Answer(p, estimate, (low, high), (bits & int(INSUFFICIENT)) > 0, level)

    def tested(self, result: hc.CorrelationResult) -> Answer:
        return Answer(
            p=self.matrix(result, "cell_p_value"), estimate=self.matrix(result, "correlation")
        )


def _meta(panel: Panel) -> Answer:
    """Paule-Mandel with Hartung-Knapp, of the pairs that are asked for: it iterates."""
    d = panel.model.fit(per_sample=True)
    r, se = (panel.matrix(d, k)[:, *panel.pairs] for k in ("sample_correlation", "sample_se"))
    m = meta_analysis(fisher_z(r), se**2)
    p = 2 * stats.t.sf(np.abs(m.estimate / m.se), len(r) - 1)
    p, estimate, low, high = (
        panel.placed(v) for v in (p, *np.tanh([m.estimate, m.lower, m.upper]))
    )
    return Answer(p, estimate, (low, high))


def _metacell(panel: Panel) -> Answer:
    grouped = hc.metacells(panel.adata, "sample", depth="depth", min_cells=5, seed=panel.seed)
    model = hc.CellCorrelation(
        grouped, "sample", depth=grouped.obs["depth"].to_numpy(), min_cells=2
    )
    return panel.tested(model.fit(level="pooled", uncertainty="none"))


def _pseudobulk(panel: Panel, formula: str) -> Answer:
    sums = hc.aggregate(panel.adata, "sample", depth="depth")
    fit = hc.Pseudobulk(sums, "sample", formula=formula, normalization="cpm").fit()
    answer = panel.with_interval(fit, "between")
    answer.insufficient = None
    return answer


METHODS: dict[str, Callable[[Panel], Answer]] = {
    "within, jackknife": lambda b: b.with_interval(b.model.fit(uncertainty="jackknife")),
    "within, cluster": lambda b: b.with_interval(b.model.fit(uncertainty="cluster")),
    "within, bootstrap": lambda b: b.with_interval(
        b.model.fit(uncertainty="bootstrap", n_bootstrap=BOOTSTRAP_DRAWS, seed=b.seed)
    ),
    "pooled CS-CORE, jackknife": lambda b: b.with_interval(b.model.fit("pooled")),
    "per-sample meta-analysis": _meta,
    "published CS-CORE test": lambda b: b.tested(b.model.fit("pooled", "none")),
    "cell Pearson": lambda b: b.tested(b.cells.fit("pearson", "pooled", uncertainty="none")),
    "cell Spearman": lambda b: b.tested(b.cells.fit("spearman", "pooled", uncertainty="none")),
    "repeated-measures correlation": lambda b: b.tested(
        b.cells.fit("pearson", "within", uncertainty="none")
    ),
    "metacell Pearson": _metacell,
    "pseudobulk Pearson": lambda b: _pseudobulk(b, "~ 1"),
    "pseudobulk partial": lambda b: _pseudobulk(b, "~ batch"),
}


def answers(
    adata: ad.AnnData,
    names: Iterable[str],
    seed: int,
    pairs: tuple[np.ndarray, np.ndarray] | None = None,
) -> Iterable[tuple[str, Answer]]:
    """Run each method on one panel, one at a time; matrices are valid at `pairs` (None: all)."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        panel = Panel(adata, np.triu_indices(adata.n_vars, 1) if pairs is None else pairs, seed)
        for name in names:
            try:
                answer = METHODS[name](panel)
            except hc.InputError:  # refused: too few samples for this method
                nothing = np.full((adata.n_vars, adata.n_vars), np.nan)
                answer = Answer(nothing, nothing, (nothing, nothing))
            yield name, answer
