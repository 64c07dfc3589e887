"""The three traps of cell-level correlation - dropout, depth, pseudo-replication - measured on the user's own data."""

from __future__ import annotations

import html
import itertools
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import anndata as ad
import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray
from scipy import special, stats

from hiercorr.between.pseudobulk import Pseudobulk
from hiercorr.counts.counts import MIN_CELLS, Counts
from hiercorr.counts.read import read_counts
from hiercorr.counts.selection import Selection
from hiercorr.errors import InputError
from hiercorr.exploratory.cells import CellCorrelation, log_values
from hiercorr.within.cscore import CSCore

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Traps:
    """What each trap does to the partners of one gene.

    Attributes
    ----------
    target : str
    genes : DataFrame
        One row a gene. ``detection``; ``naive`` (Pearson over pooled log-normalised cells) and ``within`` (CS-CORE within
        samples); ``zeros`` (both genes zero: observed share / expected if independent) and ``zeros_expected`` (the same
        ratio if they were independent given sample and depth); ``depth_raw`` and ``depth_normalised`` (correlation with
        depth before and after normalisation); ``p_cells`` (cells as units), ``p_shuffled`` (the same after the target was
        shuffled over the cells of each sample, so that no relation within samples is left), ``p_within`` (samples as units,
        within them), ``p_between`` (samples as units, their labels permuted).
    summary : dict
        dropout: rank correlation of the sizes of naive and within with detection, median ratio of the sizes; depth: median
        size of the correlation with depth before and after, share above 0.1; replication: genes called at 5% (Bonferroni) by
        each p, n_cells, n_samples, smallest_p (that permuting the sample labels can give).
    """

    target: str
    genes: pd.DataFrame
    summary: dict[str, float]

    def __str__(self) -> str:
        s = self.summary
        return "\n".join(
            [
                f"Traps for {self.target}: {s['n_cells']:,.0f} cells of {s['n_samples']:.0f} samples",
                f"dropout: |r| over cells follows detection with rank correlation {s['dropout_naive']:.2f} (corrected: "
                f"{s['dropout_within']:.2f}); the median cell-level correlation is {s['attenuation']:.0%} of the corrected "
                f"one; both genes are zero {s['zeros']:.2f} times as often as if independent, {s['zeros_expected']:.2f} times "
                "by depth and samples alone",
                f"depth: median |correlation with depth| {s['depth_raw']:.2f} raw, {s['depth_normalised']:.2f} normalised; "
                f"above 0.1 still for {s['depth_share']:.0%} of the genes",
                f"replication: of {len(self.genes)} genes {s['called_cells']:.0f} are called with cells as units (Bonferroni, "
                f"5%); {s['called_shuffled']:.0f} still after the target was shuffled within samples, which leaves nothing to "
                f"find within them; {s['called_within']:.0f} with samples as units, {s['called_between']:.0f} between samples "
                f"(where permuting labels can give no p below {s['smallest_p']:.2g})",
            ]
        )

    __repr__ = __str__

    def _repr_html_(self) -> str:
        return "".join(f"<p>{html.escape(line)}</p>" for line in str(self).splitlines())

    def plot(self, axes: Sequence[Any] | None = None) -> Figure:
        """Three panels, one a trap, on three `axes` or new ones (see :func:`hiercorr.plotting.traps`)."""
        from hiercorr.plotting import traps as draw

        return draw(self, axes)


def traps(
    data: ad.AnnData | str | Path,
    sample: str,
    target: str,
    genes: Sequence[str] | ArrayLike | int | None = None,
    layer: str | None = None,
    depth: str | ArrayLike | None = None,
    subset: ArrayLike | Mapping[str, Any] | None = None,
    *,
    permutations: int = 999,
    min_cells: int = MIN_CELLS,
    seed: int | np.random.Generator | None = 0,
) -> Traps:
    """Measure what dropout, depth and pseudo-replication do to the correlations of one gene in these data.

    Parameters
    ----------
    data, sample, genes, layer, depth, subset, min_cells
        As for :class:`hiercorr.CSCore`.
    target : str
    permutations : int
        Of the sample labels; all arrangements where there are no more.
    seed : int or Generator, optional
        For the shuffle and the permutations.

    Returns
    -------
    Traps
        Prints as text; ``genes`` is a table, ``plot()`` draws it.

    Examples
    --------
    >>> import hiercorr as hc
    >>> t = hc.traps(hc.datasets.glioblastoma(), "sample_id", "FTL", depth="total_counts", subset={"condition": "ctrl"})
    >>> t.summary["called_cells"] > t.summary["called_between"]
    True
    """
    rng = np.random.default_rng(seed)
    options: dict[str, Any] = {
        "genes": genes,
        "layer": layer,
        "depth": depth,
        "subset": subset,
        "min_cells": min_cells,
    }
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        cells = CellCorrelation(data, sample, **options)
        known = target in cells.counts.genes
        counts = (
            cells.counts
            if known
            else read_counts(data, Selection(sample, **options), always=(target,))
        )
        if counts.n_samples < 3:
            raise InputError(
                f"traps compares with tests over samples and needs 3 of them; there are {counts.n_samples}"
            )
        naive = cells.fit(level="pooled", target=target, uncertainty="none", precision="double")
        corrected = CSCore(data, sample, **options).fit(target=target, precision="double")
        between = Pseudobulk(data, sample, **options).fit(
            target=target, permutations=permutations, seed=rng
        )
    names = counts.genes
    row = lambda r, v: r.matrix(v).loc[target].reindex(names)  # noqa: E731
    at, logs = int(names.get_loc(target)), log_values(counts)
    table = pd.DataFrame(
        {
            "detection": counts.detection,
            "naive": row(naive, "correlation"),
            "within": row(corrected, "correlation"),
            **_zeros(counts, at),
            **_depth(counts, logs),
            "p_cells": row(naive, "cell_p_value"),
            "p_shuffled": _shuffled(counts, logs, at, rng),
            "p_within": row(corrected, "p_value"),
            "p_between": row(between, "p_value"),
        },
        index=names.rename("gene"),
    ).drop(index=target)
    smallest = float(between.dataset.attrs["smallest_p_value"])
    return Traps(target, table, {**_summary(table, counts), "smallest_p": smallest})


def _summary(table: pd.DataFrame, counts: Counts) -> dict[str, float]:
    bound = 0.05 / len(table)
    known = table.dropna(subset=["naive", "within"])
    rank = lambda v: (
        float(stats.spearmanr(known[v].abs(), known["detection"]).statistic)
        if len(known) > 2
        else np.nan
    )  # noqa: E731
    return {
        "n_cells": counts.n_cells,
        "n_samples": counts.n_samples,
        "dropout_naive": rank("naive"),
        "dropout_within": rank("within"),
        "attenuation": float(known["naive"].abs().median() / known["within"].abs().median())
        if len(known)
        else np.nan,
        "zeros": float(table["zeros"].median()),
        "zeros_expected": float(table["zeros_expected"].median()),
        "depth_raw": float(table["depth_raw"].abs().median()),
        "depth_normalised": float(table["depth_normalised"].abs().median()),
        "depth_share": float((table["depth_normalised"].abs() > 0.1).mean()),
        **{
            f"called_{k}": float((table[f"p_{k}"] < bound).sum())
            for k in ("cells", "shuffled", "within", "between")
        },
    }


def _zeros(counts: Counts, at: int) -> dict[str, Array]:
    """Both zero: observed over independent, and the same if they were independent given sample and depth.

    The latter from zero rates in strata of about 20 cells of one sample and like depth.
    """
    n = counts.n_cells
    stratum = np.empty(n, np.int64)
    last = 0
    for a, b in itertools.pairwise(counts.starts):
        bins = max(1, min(10, (b - a) // 20))
        rank = np.argsort(np.argsort(counts.depth[a:b], kind="stable"), kind="stable")
        stratum[a:b] = last + rank * bins // (b - a)
        last += bins
    size = np.bincount(stratum, minlength=last)
    zero = np.array(
        [
            size - np.bincount(stratum[counts.rows[a:b]], minlength=last)
            for a, b in counts.offsets[:, [0, -1]]
        ]
    )
    has = np.zeros(n, bool)
    has[counts.rows[slice(*counts.offsets[at, [0, -1]])]] = True
    both = np.array(
        [n - has.sum() - (~has[counts.rows[a:b]]).sum() for a, b in counts.offsets[:, [0, -1]]]
    )
    independent = zero.sum(1) * zero[at].sum() / n
    with np.errstate(divide="ignore", invalid="ignore"):
        expected = (zero * zero[at] / size).sum(1)
        return {
            "zeros": np.where(independent > 0, both / independent, np.nan),
            "zeros_expected": np.where(independent > 0, expected / independent, np.nan),
        }


def _depth(counts: Counts, logs: Array) -> dict[str, Array]:
    raw, normalised = np.empty(counts.n_genes), np.empty(counts.n_genes)
    for j in range(counts.n_genes):
        raw[j] = np.corrcoef(_dense(counts, j, counts.values), counts.depth)[0, 1]
        normalised[j] = np.corrcoef(_dense(counts, j, logs), counts.depth)[0, 1]
    return {"depth_raw": raw, "depth_normalised": normalised}


def _shuffled(counts: Counts, logs: Array, at: int, rng: np.random.Generator) -> Array:
    """Naive p of every gene with the target's values shuffled over the cells of each sample."""
    n = counts.n_cells
    y = _dense(counts, at, logs)
    for a, b in itertools.pairwise(counts.starts):
        y[a:b] = rng.permutation(y[a:b])
    y = (y - y.mean()) / np.linalg.norm(y - y.mean())
    r = np.empty(counts.n_genes)
    for j in range(counts.n_genes):
        x = _dense(counts, j, logs)
        x -= x.mean()
        r[j] = x @ y / np.linalg.norm(x)
    t = r * np.sqrt((n - 2) / (1 - r**2))
    return np.asarray(2 * special.stdtr(n - 2, -np.abs(t)))


def _dense(counts: Counts, j: int, values: NDArray) -> Array:
    """The values of gene j in every cell."""
    a, b = counts.offsets[j, [0, -1]]
    out = np.zeros(counts.n_cells)
    out[counts.rows[a:b]] = values[a:b]
    return out
