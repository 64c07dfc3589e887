"""Whether integers are counts of molecules: what their values say, in a sample of the cells."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from hiercorr import kernels

CELLS = 2_000  # examined, evenly spaced
_LEAST_ENTRIES = 20  # non-zeros below which a cell is not informative,
_FEW_ENTRIES = 6  # unless most cells have fewer, as in a panel of some dozens of genes
_TIES = 0.3  # proportion of them that have the smallest value,
_LEAST_TIES = 3  # and their number
_SCALED, _SCALED_FEW = 0.1, 0.25  # proportion of the cells; of cells with few non-zeros
_LATTICE_GENES = 200  # of a panel, up to which values in steps are searched
_SMALLEST = 32  # values of a cell that are examined for it,
_LEAST_VALUES = 6  # and their minimum number
_STEP = 2.5  # smallest step that is told from chance
_MULTIPLES = 10  # of the smallest one, up to which a step is clear
_TRIALS = 41  # steps that are tried for each smallest count
_EVIDENCE = 7.0  # log likelihood ratio of values in steps over evenly spread ones
_IN_STEPS = 0.1  # proportion of the cells with such evidence: of counts at most 2%
_UNDERDISPERSED = 0.85  # variance of a gene over its mean, below which it varies too little,
_SURELY = 6.0  # and the number of standard errors below 1
_UNDERDISPERSED_GENES = (3, 0.02)  # number and proportion of such genes
_MEAN = 0.3  # of a gene whose variance is examined,
_SHARE = 0.1  # and its proportion of all counts, at most: sums of all genes may be fixed
_DISPERSION = 0.5  # variance of the row sums over their mean
_DISPERSION_CELLS = 100
_DISPERSION_MEAN = 20  # of row sums; cells without counts, which are not used, matter below
_READS = 3.0  # mean of the non-zeros of genes that are rarely detected,
_ONES = 0.25  # and the proportion of them that are 1
_RARE = (0.01, 0.2)  # their detection
_RARE_GENES = 100
_LOW = 6  # values whose frequencies are compared, 1 to this
_LOW_RATIO, _CLEAR_RATIO = 1.2, 2.5  # of the frequency that a value must have to the one it has,
_LOW_Z = 8.0  # and its distance from chance in standard errors
_FLOOR = 0.05  # quantile over genes of variance over mean, which is noise alone


@dataclass
class CellSample:
    """Summaries of the values in a sample of the cells.

    Attributes
    ----------
    cells : ndarray of int64, shape (n,)
        Positions of the examined cells, in ascending order.
    least : ndarray, shape (n,)
        Smallest non-zero value of each cell, inf for a cell without counts.
    ties : ndarray of int64, shape (n,)
        Number of its entries that have this value.
    nonzero : ndarray of int64, shape (n,)
        Number of its non-zero entries.
    smallest : ndarray, shape (n, 32)
        Its smallest non-zero values, ascending, then inf; of panels only.
    row_sum : ndarray, shape (n,)
    total, squares : ndarray, shape (n_genes,)
        Counts of each gene, and the sum of their squares.
    detected : ndarray of int64, shape (n_genes,)
        Number of cells with a count of each gene.
    low : ndarray of int64, shape (6, n_genes)
        Number of cells with a count of exactly 1, 2, ..., 6.
    """

    cells: NDArray[np.int64]
    least: NDArray[np.float64]
    ties: NDArray[np.int64]
    nonzero: NDArray[np.int64]
    smallest: NDArray[np.float64]
    row_sum: NDArray[np.float64]
    total: NDArray[np.float64]
    squares: NDArray[np.float64]
    detected: NDArray[np.int64]
    low: NDArray[np.int64]

    @classmethod
    def among(cls, used: NDArray[np.int64], n_genes: int) -> CellSample:
        """Choose cells among those that are used, whose positions ascend."""
        n = min(len(used), CELLS)
        return cls.of(used[np.linspace(0, len(used) - 1, n).astype(np.int64)], n_genes)

    @classmethod
    def of(cls, cells: NDArray[np.int64], n_genes: int) -> CellSample:
        """Examine these cells, none so far."""
        n = len(cells)
        return cls(
            cells,
            np.full(n, np.inf),
            np.zeros(n, np.int64),
            np.zeros(n, np.int64),
            np.full((n, _SMALLEST), np.inf),
            np.zeros(n),
            np.zeros(n_genes),
            np.zeros(n_genes),
            np.zeros(n_genes, np.int64),
            np.zeros((_LOW, n_genes), np.int64),
        )

    def examine(self, first_cell: int, first_gene: int, block: sparse.csr_matrix) -> None:
        """Add the examined cells of a block of counts."""
        low, high = np.searchsorted(self.cells, [first_cell, first_cell + block.shape[0]])
        if low == high:
            return
        rows = self.cells[low:high] - first_cell
        genes = slice(first_gene, first_gene + block.shape[1])
        if len(self.total) > _LATTICE_GENES and not kernels.counts.is_small(*block.shape):
            parts = (block.indptr, block.indices, block.data)
            names = (self.total, self.squares, self.detected, self.low)
            sums = (values[..., genes] for values in names)
            self._merge(slice(low, high), *kernels.counts.examine_rows(*parts, rows, *sums))
            return
        part = block if len(rows) == block.shape[0] else block[rows]
        if not part.data.all():
            part = part.copy()
            part.eliminate_zeros()
        values, n = part.data.astype(np.float64), part.shape[1]
        self.total[genes] += np.bincount(part.indices, values, n)
        self.squares[genes] += np.bincount(part.indices, values * values, n)
        self.detected[genes] += np.bincount(part.indices, minlength=n)
        small = values <= _LOW
        place = (values[small].astype(np.int64) - 1) * n + part.indices[small]
        self.low[:, genes] += np.bincount(place, minlength=_LOW * n).reshape(_LOW, n)
        entries = np.diff(part.indptr)
        some = np.flatnonzero(entries)
        if not len(some):
            return
        starts = part.indptr[:-1][some]
        least = np.full(high - low, np.inf)
        least[some] = np.minimum.reduceat(values, starts)
        same = values == np.repeat(least, entries)
        ties, row_sum = np.zeros(high - low, np.int64), np.zeros(high - low)
        ties[some] = np.add.reduceat(same.astype(np.int64), starts)
        row_sum[some] = np.add.reduceat(values, starts)
        self._merge(slice(low, high), least, ties, entries, row_sum)
        if len(self.total) <= _LATTICE_GENES:
            table = np.full((high - low, int(entries.max())), np.inf)
            table[np.arange(table.shape[1]) < entries[:, None]] = values
            self._keep_smallest(slice(low, high), table)

    def add(self, other: CellSample) -> None:
        """Add what was found in other blocks of the same matrix."""
        self.total += other.total
        self.squares += other.squares
        self.detected += other.detected
        self.low += other.low
        self._merge(slice(None), other.least, other.ties, other.nonzero, other.row_sum)
        self._keep_smallest(slice(None), other.smallest)

    def _merge(
        self, part: slice, least: NDArray, ties: NDArray, nonzero: NDArray, row_sum: NDArray
    ) -> None:
        before, number = self.least[part].copy(), self.ties[part].copy()
        self.least[part] = np.minimum(before, least)
        self.ties[part] = np.where(before <= least, number, 0) + np.where(least <= before, ties, 0)
        self.nonzero[part] += nonzero
        self.row_sum[part] += row_sum

    def _keep_smallest(self, part: slice, values: NDArray) -> None:
        every = np.hstack([self.smallest[part], values])
        self.smallest[part] = np.sort(every, axis=1)[:, :_SMALLEST]


def why_scaled(examined: CellSample) -> str | None:
    """Say why integers cannot be counts: they were scaled and rounded.

    A count of 1 becomes the same value in all genes of a cell, so that its smallest value is at the
    same time a frequent one, but not 1.

    Returns
    -------
    str or None
        None: they may be counts.
    """
    telling, limit = examined.nonzero >= _LEAST_ENTRIES, _SCALED
    if telling.mean() < 0.5:
        telling, limit = examined.nonzero >= _FEW_ENTRIES, _SCALED_FEW
    often = np.maximum(_TIES * examined.nonzero, _LEAST_TIES)
    scaled = telling & (examined.least > 1) & (examined.ties >= often)
    if scaled.sum() > limit * telling.sum():
        k = int(np.flatnonzero(scaled)[0])
        return (
            f"in {scaled.sum() / telling.sum():.0%} of the cells the smallest value is a frequent "
            f"one, and is not 1 (in one of them, {examined.ties[k]} of {examined.nonzero[k]} "
            f"non-zeros are {examined.least[k]:.0f})"
        )
    return _why_in_steps(examined)


def _why_in_steps(examined: CellSample) -> str | None:
    """Say why values of a panel cannot be counts: those of a cell are multiples of one step.

    A count of 1 becomes the same value in all genes of a cell, and other counts its multiples; what
    lies between them does not occur. Nothing is known of a panel's depth, so that the step is
    searched in each cell. Values scaled by less than 2.5 are not told from counts by this.
    """
    small = examined.smallest <= _MULTIPLES * examined.smallest[:, [0]]
    number = (small & np.isfinite(examined.smallest)).sum(1)
    telling = np.flatnonzero((number >= _LEAST_VALUES) & (examined.least >= int(_STEP)))
    if not len(telling):
        return None
    values, n = examined.smallest[telling], number[telling]
    values = np.where(small[telling], values, values[:, [0]])
    low, high = values[:, 0], values.max(1)
    evidence, step = np.zeros(len(telling)), np.zeros(len(telling))
    trials = np.linspace(-0.5, 0.5, _TRIALS)
    for smallest_count in range(1, 5):
        for rounded in trials:
            trial = (low + rounded) / smallest_count
            multiple = np.rint(values / trial[:, None])
            beyond = np.abs(values - multiple * trial[:, None])
            fits = (beyond <= 0.5 + multiple / (2 * _TRIALS * smallest_count)).all(1)
            possible = np.rint(high / trial) - np.rint(low / trial) + 1
            ratio = n * np.log((high - low + 1) / possible)
            better = fits & (trial >= _STEP) & (ratio > evidence)
            evidence[better], step[better] = ratio[better], trial[better]
    found = evidence > _EVIDENCE
    if found.sum() < max(_IN_STEPS * len(telling), _IN_STEPS * len(number) / 2, 10):
        return None
    k = int(np.argmax(evidence))
    shown = ", ".join(f"{v:.0f}" for v in np.unique(values[k])[:5])
    return (
        f"in {found.sum():,} of {len(telling):,} cells without small counts, all values are "
        f"multiples of one step, rounded (in one of them {step[k]:.1f}: {shown}, ...)"
    )


def why_underdispersed(examined: CellSample) -> str | None:
    """Say why values are not counts: some genes vary less than counts can.

    The variance of a count over cells is at least its mean, whatever else varies; that of counts
    which were divided is smaller. Only genes that vary little beyond noise show it.

    Returns
    -------
    str or None
        None: they may be counts, or there are too few cells or counts.
    """
    n = len(examined.cells)
    mean = examined.total / n
    usable = (mean > _MEAN) & (examined.total < _SHARE * examined.total.sum())
    usable &= examined.total > examined.detected  # values of 0 and 1 alone are no counts
    if not usable.any():
        return None
    ratio = (examined.squares[usable] / n - mean[usable] ** 2) / mean[usable]
    # Without variance beyond Poisson, the variance of the ratio is 2 / n at any mean.
    few = (ratio < _UNDERDISPERSED) & (ratio < 1 - _SURELY * math.sqrt(2 / n))
    least, share = _UNDERDISPERSED_GENES
    if few.sum() < max(least, share * len(ratio)):
        return None
    return (
        f"{few.sum()} of {len(ratio)} genes vary over the cells less than counts can (variance "
        f"{ratio.min():.2f} times the mean, where counts have at least 1)"
    )


def why_uneven(examined: CellSample) -> tuple[str, bool] | None:
    r"""Say why low values cannot be those of counts: some are too rare beside their neighbours.

    Whatever the rates of Poisson counts are, :math:`k! P(k)` is log-convex in k, so that

    .. math:: P(k + 1) \ge \frac{k}{k + 1} \, \frac{P(k)^2}{P(k - 1)}.

    Values that were multiplied and rounded skip some integers, and fall on others twice. So do cut
    sites of peaks, two of which come from one fragment.

    Returns
    -------
    str or None
        None: they may be counts.
    bool
        Whether the evidence is clear.

    Source: moments of mixed Poisson distributions, with the inequality of Cauchy and Schwarz.
    """
    if np.array_equal(examined.total, examined.detected):  # zeros and ones are no counts
        return None
    zeros = len(examined.cells) - examined.detected
    numbers = np.vstack([zeros, examined.low]).astype(float)
    found: list[tuple[float, str]] = []
    for k in range(1, _LOW):
        before, here, after = numbers[k - 1 : k + 2]
        use = (here >= 2) & (here <= 2 * before)
        before, here, after = before[use], here[use], after[use]
        part = k / (k + 1) * here / (before + 1)
        least = part * np.maximum(here - 1, 0)
        noise = (
            np.maximum(after, least)
            + 4 * part**2 * here
            + (part * here / (before + 1)) ** 2 * before
        )
        excess, ratio = least.sum() - after.sum(), least.sum() / max(after.sum(), 1.0)
        if ratio < _LOW_RATIO or excess < _LOW_Z * math.sqrt(noise.sum()):
            continue
        text = (
            f"the value {k} occurs {here.sum():,.0f} times and {k - 1} {before.sum():,.0f} times, "
            f"but {k + 1} only {after.sum():,.0f} times, where counts would have it at least "
            f"{least.sum():,.0f} times ({use.sum():,} genes together)"
        )
        found.append((ratio, text))
    if not found:
        return None
    ratio, text = max(found)
    return text, ratio > _CLEAR_RATIO


def why_equal_sums(examined: CellSample) -> str | None:
    """Say why the sums of the cells are not those of counts: they vary too little.

    Sums of independent counts have a variance of at least their mean; values scaled to a common
    depth and rounded have not. Neither have counts that were sampled down to a common depth and
    then lost some genes, which nothing tells apart from them. Sums that are equal exactly are those
    of counts that were sampled down, and pass, as do values that are all 1.

    Returns
    -------
    str or None
        None: they vary enough, or there are too few cells or counts.
    """
    sums = examined.row_sum[examined.row_sum > 0]
    binary = np.array_equal(examined.total, examined.detected)
    if len(sums) < _DISPERSION_CELLS or sums.mean() < _DISPERSION_MEAN or binary:
        return None
    _, equal = np.unique(sums, return_counts=True)
    mean, variance = float(sums.mean()), float(sums.var(ddof=1))
    if variance < _DISPERSION * mean and equal.max() < 0.5 * len(sums):
        return (
            f"the cells' sums are {mean:,.0f} +- {math.sqrt(variance):.2g}, where sums of counts "
            f"vary by at least +- {math.sqrt(mean):.2g}"
        )
    return None


def technical_dispersion(examined: CellSample) -> tuple[float, float]:
    """Estimate the noise of counts of reads: the floor over genes of variance over mean.

    Reads of one molecule come together, so that their variance is a multiple of the mean, the same
    for all genes; what a gene varies beyond that is biology.

    Returns
    -------
    dispersion : float
        Variance over mean of the genes that vary least (5% quantile).
    biological : float
        Proportion of the extra-Poisson variance that exceeds this noise (median over genes); the
        model takes all extra-Poisson variance for biological.
    """
    n = len(examined.cells)
    usable = (examined.detected >= 10) & (examined.total > 0)
    mean = examined.total[usable] / n
    ratio = (examined.squares[usable] / n - mean**2) / mean
    floor = float(np.quantile(ratio, _FLOOR))
    beyond = ratio[ratio > 1]
    part = np.maximum(beyond - floor, 0) / (beyond - 1)
    return floor, float(np.median(part)) if len(part) else 0.0


def reads_per_molecule(examined: CellSample) -> float | None:
    """Return the mean value of rarely detected genes where they are detected, if it is not near 1.

    Molecules (UMIs) of such genes are counted once or twice; reads of one molecule are many.
    Markers of few cells, guides and sums of cells have a large mean beside many ones.

    Returns
    -------
    float or None
        Median over genes. None: they may be molecules, or there are too few such genes.
    """
    detection = examined.detected / len(examined.cells)
    rare = (detection > _RARE[0]) & (detection < _RARE[1]) & (examined.detected >= 5)
    if rare.sum() < _RARE_GENES:
        return None
    value = float(np.median(examined.total[rare] / examined.detected[rare]))
    ones = float(np.median(examined.low[0, rare] / examined.detected[rare]))
    return value if value > _READS and ones < _ONES else None
