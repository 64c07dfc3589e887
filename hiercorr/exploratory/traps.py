"""Traps of cell-level correlation: dropout, depth, pseudo-replication, foreign cells."""

from __future__ import annotations

import html
import itertools
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
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
from hiercorr.counts.selection import Selection, selected_cells
from hiercorr.design.samples import sample_name
from hiercorr.errors import (
    MAX_REPEATS,
    EstimationWarning,
    InputError,
    between_0_and_1,
    listed,
    text,
    valid_seed,
    whole_number,
)
from hiercorr.exploratory.cells import CellCorrelation, log_values
from hiercorr.exploratory.foreign_cells import (
    LEFT_OUT,
    MOST_LOADED,
    SUSPICIOUS,
    dense,
    leading_component,
)
from hiercorr.results.result import CorrelationResult
from hiercorr.runtime.user_warnings import Kept, kept_for, warn
from hiercorr.schema import Flag
from hiercorr.within.cscore import CSCore

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Array = NDArray[np.float64]
_MIN_PERMUTATIONS = 19  # for a p-value of 0.05


@dataclass(frozen=True)
class Traps:
    """Effects of dropout, depth, pseudo-replication and foreign cells on the partners of a gene.

    Attributes
    ----------
    target : str
    genes : DataFrame
        One row per gene. ``detection``; ``naive`` (Pearson over pooled log-normalised cells) and
        ``within`` (CS-CORE within samples); ``zeros`` (observed frequency of both genes being zero
        / expected under independence) and ``zeros_expected`` (the same ratio for genes independent
        given sample and depth); ``depth_raw`` and ``depth_normalised`` (correlation with depth
        before and after normalisation), ``depth_slope``, ``depth_slope_p_value`` and
        ``depth_share`` (slope of log expression on log depth, as in the result); p-values
        ``p_cells`` (cells as units), ``p_shuffled`` (cells as units, target shuffled over the cells
        of each sample, so that no correlation within samples is left), ``p_within`` (samples as
        units, within samples) and ``p_between`` (samples as units, between samples, by
        permutation). ``attrs`` holds the selection of cells.
    summary : dict
        Dropout: rank correlations of absolute naive and within with detection, ratio of their
        medians. Depth: median absolute correlation with depth before and after
        normalisation, proportion above 0.1, and ``depth_dependent``, the proportion whose
        expression follows depth. Replication: number of genes significant at 5%
        (Bonferroni) by each p-value, n_cells, n_samples, smallest_p (the smallest possible
        permutation p-value). Foreign cells: ``foreign_share``, the proportion of the leading
        component of co-variation within samples that 5% of the cells carry, and
        ``foreign_expected``, the same if genes were independent.
    cells : Series
        Part of each cell in that component, by cell name; see :meth:`without_leading_cells`.

    Examples
    --------
    >>> import hiercorr as hc
    >>> adata = hc.datasets.glioblastoma()
    >>> options = {"depth": "total_counts", "subset": {"condition": "ctrl"}}
    >>> t = hc.traps(adata, "sample_id", "FTL", **options)
    >>> sorted(t.summary)[:3]
    ['attenuation', 'called_between', 'called_cells']
    """

    target: str
    genes: pd.DataFrame
    summary: dict[str, float]
    cells: pd.Series

    def __str__(self) -> str:
        s, cells = self.summary, selected_cells(self.genes.attrs, 60)
        return "\n".join(
            [
                f"Traps for {self.target}: {s['n_cells']:,.0f} cells of "
                f"{s['n_samples']:.0f} samples{f' ({cells})' if cells else ''}",
                "dropout: |r| over cells follows detection with rank correlation "
                f"{s['dropout_naive']:.2f} (corrected: {s['dropout_within']:.2f}); the median "
                f"cell-level correlation is {s['attenuation']:.0%} of the corrected one"
                f"{_zeros_text(s)}",
                f"depth: median |correlation with depth| {s['depth_raw']:.2f} raw, "
                f"{s['depth_normalised']:.2f} normalised; still above 0.1 for "
                f"{s['depth_share']:.0%} of the genes{_slope_text(s)}",
                f"replication: of {len(self.genes)} genes {s['called_cells']:.0f} are significant "
                f"with cells as units (Bonferroni, 5%); {s['called_shuffled']:.0f} remain "
                "significant after the target was shuffled within samples, although no correlation "
                f"is left there; {s['called_within']:.0f} with samples as units, "
                f"{s['called_between']:.0f} between samples (the smallest possible permutation "
                f"p-value is {s['smallest_p']:.2g})",
                self._foreign(),
            ]
        )

    def _foreign(self) -> str:
        share, expected = self.summary["foreign_share"], self.summary["foreign_expected"]
        if not np.isfinite(share):
            return "foreign cells: too few genes to tell"
        text = (
            f"foreign cells: {MOST_LOADED:.0%} of the cells carry {share:.0%} of the leading "
            f"component of co-variation ({expected:.0%} if genes were independent)"
        )
        if share < SUSPICIOUS:
            return text
        return (
            f"{text}: doublets, or cells of another type, may make the correlations; remove them "
            "(doublet calls, annotation), and compare a fit without the cells that carry most: "
            "subset=traps.without_leading_cells(adata.obs_names)"
        )

    def without_leading_cells(
        self, names: Sequence[str] | pd.Index, share: float = LEFT_OUT
    ) -> NDArray[np.bool_]:
        """Return a mask that leaves out the cells that carry most of the leading component.

        Parameters
        ----------
        names : sequence of str
            Names of all cells of the data.
        share : float
            Share of the analysed cells to leave out.

        Returns
        -------
        ndarray of bool, shape (n_cells,)
            For ``subset=``; False for cells that were not analysed.

        Examples
        --------
        >>> import hiercorr as hc
        >>> adata = hc.datasets.glioblastoma()
        >>> options = {"depth": "total_counts", "subset": {"condition": "ctrl"}}
        >>> t = hc.traps(adata, "sample_id", "FTL", **options)
        >>> keep = t.without_leading_cells(adata.obs_names)
        >>> bool(0 < keep.sum() < adata.n_obs)
        True
        """
        between_0_and_1("share", share)
        every = listed("names", names, "a list of cell names, as adata.obs_names")
        kept = self.cells.nsmallest(len(self.cells) - int(share * len(self.cells))).index
        return np.asarray(pd.Index(every, dtype=object).isin(kept))

    __repr__ = __str__

    def _repr_html_(self) -> str:
        return "".join(f"<p>{html.escape(line)}</p>" for line in str(self).splitlines())

    def plot(self, axes: Sequence[Any] | None = None) -> Figure:
        """Draw one panel per trap; see :func:`hiercorr.plotting.traps`.

        Parameters
        ----------
        axes : sequence of Axes, optional
            Three axes to draw on; None: a new figure.

        Returns
        -------
        Figure

        Examples
        --------
        >>> import hiercorr as hc
        >>> adata = hc.datasets.glioblastoma()
        >>> options = {"depth": "total_counts", "subset": {"condition": "ctrl"}}
        >>> hc.traps(adata, "sample_id", "FTL", **options).plot()  # doctest: +SKIP
        """
        from hiercorr.plotting import traps as draw

        return draw(self, axes)


def traps(
    data: ad.AnnData | str | Path,
    sample: str | tuple[str, str],
    target: str,
    genes: Sequence[str] | ArrayLike | int | None = None,
    layer: str | None = None,
    depth: str | ArrayLike | None = None,
    subset: ArrayLike | Mapping[str, Any] | None = None,
    *,
    block: str | None = None,
    modalities: str | None = None,
    gene_names: str | None = None,
    permutations: int = 999,
    min_cells: int = MIN_CELLS,
    seed: int | np.random.Generator | None = 0,
) -> Traps:
    """Measure what dropout, depth, pseudo-replication and foreign cells do to correlations.

    Parameters
    ----------
    data, sample, genes, layer, depth, subset, gene_names, min_cells
        As for :class:`hiercorr.CSCore`.
    target : str
        Target gene.
    block : str, optional
        Column with the donor of each sample: the tests with samples as units are those with donors
        as units.
    modalities : str, optional
        Type of the features to analyse, e.g. ``"Antibody Capture"``. None: genes.
    permutations : int
        Number of permutations of the sample labels; all arrangements if there are no more.
    seed : int or Generator, optional
        Seed of the shuffle and the permutations.

    Returns
    -------
    Traps
        Prints as text; ``genes`` is a table, ``plot()`` draws it.

    Examples
    --------
    >>> import hiercorr as hc
    >>> adata = hc.datasets.glioblastoma()
    >>> options = {"depth": "total_counts", "subset": {"condition": "ctrl"}}
    >>> t = hc.traps(adata, "sample_id", "FTL", **options)
    >>> t.summary["called_cells"] > t.summary["called_between"]
    True
    """
    sample = sample_name(sample)
    text("target", target)
    whole_number("permutations", permutations, _MIN_PERMUTATIONS, maximum=MAX_REPEATS)
    valid_seed(seed)
    rng = np.random.default_rng(seed)
    options: dict[str, Any] = {
        "genes": genes,
        "layer": layer,
        "depth": depth,
        "subset": subset,
        "modalities": modalities,
        "gene_names": gene_names,
        "min_cells": min_cells,
    }
    with _warned_once(), warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)
        cells = CellCorrelation(data, sample, **options)
        target = cells.counts.named(target)
        known = target in cells.counts.genes
        counts = (
            cells.counts
            if known
            else read_counts(data, Selection(sample, **options), always=(target,))
        )
        target = str(counts.named(target))
        model = CSCore(data, sample, block=block, **options)
        if model.n_donors < 3:
            units = "samples" if block is None else "donors"
            raise InputError(
                f"traps compares with tests over {units} and needs 3 of them; there are "
                f"{model.n_donors}"
            )
        naive = cells.fit(level="pooled", target=target, uncertainty="none")
        corrected = model.fit(target=target)
        between = Pseudobulk(data, sample, block=block, **options).fit(
            target=target, permutations=permutations, seed=rng
        )
    names = counts.genes
    position, logs = int(names.get_loc(target)), log_values(counts)

    def row(result: CorrelationResult, variable: str) -> pd.Series:
        return result.matrix(variable).loc[target].reindex(names)

    table = pd.DataFrame(
        {
            "detection": counts.detection,
            "naive": row(naive, "correlation"),
            "within": row(corrected, "correlation"),
            **_zeros(counts, position),
            **_depth(counts, logs),
            **{
                name: corrected.dataset[name].to_series().reindex(names)
                for name in ("depth_slope", "depth_slope_p_value", "depth_share")
            },
            "p_cells": row(naive, "cell_p_value"),
            "p_shuffled": _shuffled(counts, logs, position, rng),
            "p_within": row(corrected, "p_value"),
            "p_between": row(between, "p_value"),
        },
        index=names.rename("gene"),
    ).drop(index=target)
    table.attrs = counts.attributes
    leading = leading_component(counts, rng)
    nan = np.full(counts.n_cells, np.nan)
    part = pd.Series(nan if leading is None else leading.part, counts.obs.index.astype(str))
    smallest = float(between.dataset.attrs["smallest_p_value"])
    summary = {
        **_summary(table, counts),
        "smallest_p": smallest,
        "foreign_share": np.nan if leading is None else leading.share,
        "foreign_expected": np.nan if leading is None else leading.expected,
        "depth_dependent": _depth_dependent(corrected),
    }
    return Traps(target, table, summary, part.rename("leading_part"))


@contextmanager
def _warned_once() -> Iterator[None]:
    """Issue what several models warn of the data once, and nothing of their estimates."""
    kept: Kept = {}
    try:
        with kept_for(kept, ""):
            yield
    finally:
        for message, category in kept:
            if not issubclass(category, EstimationWarning):
                warn(message, category)


def _median(values: pd.Series) -> float:
    """Return the median of the values that are known; NaN, without a warning, if none is."""
    known = values.dropna()
    return float(known.median()) if len(known) else np.nan


def _summary(table: pd.DataFrame, counts: Counts) -> dict[str, float]:
    bound = 0.05 / len(table)
    known = table.dropna(subset=["naive", "within"])

    def rank(variable: str) -> float:
        if len(known) <= 2:
            return np.nan
        return float(stats.spearmanr(known[variable].abs(), known["detection"]).statistic)

    return {
        "n_cells": counts.n_cells,
        "n_samples": counts.n_samples,
        "dropout_naive": rank("naive"),
        "dropout_within": rank("within"),
        "attenuation": _median(known["naive"].abs()) / _median(known["within"].abs())
        if len(known)
        else np.nan,
        "zeros": _median(table["zeros"]),
        "zeros_expected": _median(table["zeros_expected"]),
        "depth_raw": _median(table["depth_raw"].abs()),
        "depth_normalised": _median(table["depth_normalised"].abs()),
        "depth_share": float((table["depth_normalised"].abs() > 0.1).mean()),
        **{
            f"called_{k}": float((table[f"p_{k}"] < bound).sum())
            for k in ("cells", "shuffled", "within", "between")
        },
    }


def _slope_text(summary: dict[str, float]) -> str:
    """State how many genes change with depth; nothing if hardly any, or with too few samples."""
    share = summary["depth_dependent"]
    if not share >= _LEAST_SHARE:
        return ""
    return (
        f"; expression itself follows depth within samples for {share:.0%}, and such genes "
        "correlate through it: compare with CSCore(depth_adjust=True)"
    )


_LEAST_SHARE = 0.01  # of the genes, that is mentioned
_LEAST_ZEROS = 5  # cells expected to be zero for both genes, below which a ratio means nothing


def _zeros_text(summary: dict[str, float]) -> str:
    """State how often both genes are zero, unless hardly any cell is expected to be."""
    if np.isnan(summary["zeros"]):
        return ""
    return (
        f"; both genes are zero {summary['zeros']:.2f} times as often as under independence, "
        f"{summary['zeros_expected']:.2f} times from depth and samples alone"
    )


def _zeros(counts: Counts, target: int) -> dict[str, Array]:
    """Compare how often both genes are zero with independence, marginal and given sample and depth.

    The conditional expectation uses zero rates in strata of about 20 cells of one sample with
    similar depth.
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
    present = np.zeros(n, bool)
    present[counts.rows[slice(*counts.offsets[target, [0, -1]])]] = True
    both = np.array(
        [
            n - present.sum() - (~present[counts.rows[a:b]]).sum()
            for a, b in counts.offsets[:, [0, -1]]
        ]
    )
    independent = zero.sum(1) * zero[target].sum() / n
    enough = independent >= _LEAST_ZEROS
    with np.errstate(divide="ignore", invalid="ignore"):
        expected = (zero * zero[target] / size).sum(1)
        return {
            "zeros": np.where(enough, both / independent, np.nan),
            "zeros_expected": np.where(enough, expected / independent, np.nan),
        }


def _depth(counts: Counts, logs: Array) -> dict[str, Array]:
    """Correlate counts and log-normalised values with depth."""
    raw, normalised = np.empty(counts.n_genes), np.empty(counts.n_genes)
    for j in range(counts.n_genes):
        raw[j] = np.corrcoef(dense(counts, j, counts.values), counts.depth)[0, 1]
        normalised[j] = np.corrcoef(dense(counts, j, logs), counts.depth)[0, 1]
    return {"depth_raw": raw, "depth_normalised": normalised}


def _depth_dependent(result: CorrelationResult) -> float:
    """Return the proportion of the genes with a slope whose expression follows depth."""
    known = result.dataset["depth_slope_p_value"].notnull().to_numpy()
    if not known.any():
        return float("nan")
    follows = (result.dataset["gene_flag"].to_numpy() & Flag.DEPTH_DEPENDENT.bit) > 0
    return float(follows[known].mean())


def _shuffled(counts: Counts, logs: Array, target: int, rng: np.random.Generator) -> Array:
    """Compute naive p-values with the target shuffled over the cells of each sample."""
    n = counts.n_cells
    y = dense(counts, target, logs)
    for a, b in itertools.pairwise(counts.starts):
        y[a:b] = rng.permutation(y[a:b])
    y = (y - y.mean()) / np.linalg.norm(y - y.mean())
    r = np.empty(counts.n_genes)
    for j in range(counts.n_genes):
        x = dense(counts, j, logs)
        x -= x.mean()
        r[j] = x @ y / np.linalg.norm(x)
    t = r * np.sqrt((n - 2) / (1 - r**2))
    return np.asarray(2 * special.stdtr(n - 2, -np.abs(t)))
