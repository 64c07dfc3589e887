r"""One gene's margin: the distribution of its log rate over the cells of each sample.

.. math:: x_{ij} \sim Poisson(s_i e^{u_{ij}}),\quad u_{ij} \sim N(m_{cj}, \sigma_j^2),\qquad
          L_i = \sum_g P(x_{ij} | s_i e^{u_g})\, w_g(m_{cj}, \sigma_j)

Its parameters maximise the marginal likelihood. The weights w are a normal density on a uniform
grid, normalised to 1: the sum is the trapezoid rule, whose error vanishes when the spacing is below
about one standard deviation of the integrand.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from hiercorr.kernels import bayes as kernels

NODES = 8  # of the Gauss rule over log depth that replaces cells with equal counts
REACH = 4.5  # standard deviations that a grid extends to both sides of a sample's mean
MEAN_SD = 1.5  # prior sd of a sample's log mean around the gene's; keeps means of no counts finite
MAX_POINTS = 161
ROUNDING = 0.0001  # share of the variance of log rates that the spacing of a grid may add
_MARGIN_POINTS = 801  # of the grid of one gene

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Cells:
    """Counts of a few genes in every cell, cells grouped by sample.

    Attributes
    ----------
    x : ndarray of int64, shape (n_cells, n_genes)
        Counts.
    log_s : ndarray, shape (n_cells,)
        Log sequencing depth, relative to the mean depth.
    starts : ndarray of int64, shape (n_samples + 1,)
        Cells of sample c are ``starts[c]:starts[c + 1]``.
    effect : ndarray, shape (n_cells, n_genes), optional
        Effects of covariates of cells on the log rates. None: there are no covariates.
    """

    x: NDArray[np.int64]
    log_s: Array
    starts: NDArray[np.int64]
    effect: Array | None = None

    @property
    def n_samples(self) -> int:
        """Number of samples."""
        return len(self.starts) - 1

    @property
    def sample(self) -> NDArray[np.int64]:
        """Sample of each cell."""
        return np.repeat(np.arange(self.n_samples), np.diff(self.starts))

    def exposure(self, *genes: int) -> Array:
        """Return the log depth with the effects of covariates, shape (n_cells, genes given)."""
        if self.effect is None:
            return np.repeat(self.log_s[:, None], len(genes), 1)
        return np.asarray(self.log_s[:, None] + self.effect[:, list(genes)])

    def rows(self, *genes: int) -> Rows:
        """Return the cells as rows for these genes; cells with equal counts are compressed.

        With covariates of cells, every cell has a row: the exposure of one gene does not determine
        that of another.
        """
        if self.effect is not None:
            x = self.x[:, list(genes)].astype(float)
            return Rows(x, self.exposure(*genes), np.ones(len(x)), self.starts)
        key = np.zeros(len(self.x), np.int64)
        for j in genes:
            key = np.unique(key * (self.x[:, j].max() + 1) + self.x[:, j], return_inverse=True)[1]
        cell, log_s, weight, starts = kernels.gauss_rows(key, self.log_s, self.starts, NODES)
        log_s = np.repeat(log_s[:, None], len(genes), 1)
        return Rows(self.x[cell][:, list(genes)].astype(float), log_s, weight, starts)


@dataclass(frozen=True)
class Rows:
    """Weighted rows that represent the cells.

    Attributes
    ----------
    x : ndarray, shape (n_rows, n_genes)
        Counts.
    log_s : ndarray, shape (n_rows, n_genes)
        Log sequencing depth, with the effects of covariates of cells.
    weight : ndarray, shape (n_rows,)
        Number of cells that a row represents.
    starts : ndarray of int64, shape (n_samples + 1,)
        Rows of sample c are ``starts[c]:starts[c + 1]``.
    """

    x: Array
    log_s: Array
    weight: Array
    starts: NDArray[np.int64]

    def of_sample(self, c: int) -> Rows:
        """Return the rows of one sample."""
        at = slice(self.starts[c], self.starts[c + 1])
        starts = np.array([0, at.stop - at.start])
        return Rows(self.x[at], self.log_s[at], self.weight[at], starts)

    def table(self, gene: int, left: Array, spacing: Array, points: int) -> Array:
        """Compute the likelihood of a gene's counts at the grid points, scaled to row maximum 1."""
        return np.asarray(
            kernels.poisson_table(
                *(self.x[:, gene].copy(), self.log_s[:, gene].copy()),
                *(self.starts, left, spacing, points),
            )[0]
        )


@dataclass(frozen=True)
class Margin:
    """Posterior mode of one gene's margin, and its curvature.

    Attributes
    ----------
    m : ndarray, shape (n_samples,)
        Mean log rate of each sample.
    log_sd : float
        Log standard deviation of the log rate over the cells of a sample.
    m_se : ndarray, shape (n_samples,)
        Standard error of m given log_sd.
    log_sd_se : float
        Standard error of log_sd.
    slope : ndarray, shape (n_samples,)
        Derivative of m with respect to log_sd along the ridge of the posterior.
    prior_mean : float
        Mean of the weak prior of m.
    spacing : float
        Largest spacing of a grid that resolves the likelihoods of the counts.
    each : tuple of Margin
        Margins of the samples one by one, where the standard deviation varies between them.
    """

    m: Array
    log_sd: float
    m_se: Array
    log_sd_se: float
    slope: Array
    prior_mean: float
    spacing: float
    each: tuple[Margin, ...] = ()

    @property
    def sd(self) -> float:
        """Standard deviation of the log rate over the cells of a sample."""
        return float(np.exp(self.log_sd))

    @property
    def log_sd_of_samples(self) -> tuple[Array, Array]:
        """Log standard deviation of each sample, and its standard error."""
        of = self.each or (self,) * len(self.m)
        return np.array([m.log_sd for m in of]), np.array([m.log_sd_se for m in of])

    @property
    def sd_of_samples(self) -> Array:
        """Standard deviation of the log rate over the cells of each sample."""
        return np.asarray(np.exp(self.log_sd_of_samples[0]))

    def points(self, finest: float, narrow: float = 1.0) -> int:
        """Return the number of grid points that the spacing of :meth:`grid` asks for."""
        half, spacing = self._extent(finest, narrow)
        return int(np.ceil(2 * half / spacing).max()) + 1

    def _extent(self, finest: float, narrow: float) -> tuple[Array, Array]:
        """Return half of the width of each sample's grid, and its largest spacing."""
        log_sd, se = self.log_sd_of_samples
        low, high = (np.exp(log_sd + k * np.minimum(2 * se, 0.7)) for k in (-1, 1))
        of_mean = self.m_se if self.each else self.m_se.max()
        half = REACH * high + np.minimum(3 * of_mean, 3.0)
        of = self.each or (self,) * len(self.m)
        spacing = np.array([m.spacing for m in of])
        return half, np.minimum(finest * low, spacing * narrow)

    def grid(self, finest: float, narrow: float = 1.0) -> tuple[Array, Array, int]:
        """Lay a grid over the posterior.

        Parameters
        ----------
        finest : float
            Largest spacing, in standard deviations of the log rate. It is also at most
            :func:`largest_spacing`: the likelihoods of large counts are narrower.
        narrow : float
            Standard deviation of the log rate given that of the other gene, relative to the
            marginal one, which rounding to the grid must not change.

        Returns
        -------
        left, spacing : ndarray, shape (n_samples,)
            First point of each sample, and distance between its points.
        points : int
        """
        half, _ = self._extent(finest, narrow)
        points = int(np.clip(self.points(finest, narrow), 25, MAX_POINTS))
        return self.m - half, 2 * half / (points - 1), points


def fit_margin(
    rows: Rows, gene: int, sd_prior: tuple[float, float], start_sd: float = 0.6
) -> Margin:
    """Find the posterior mode of a gene's margin.

    Newton's method on (m_1..m_S, log sd); the grid is laid again when the mode has moved.

    Parameters
    ----------
    rows : Rows
    gene : int
        Column of ``rows.x``.
    sd_prior : tuple of float
        Mean and standard deviation of the normal prior of log sd.
    start_sd : float
        Starting value of the standard deviation.

    Returns
    -------
    Margin
    """
    x, log_s = rows.x[:, gene].copy(), rows.log_s[:, gene].copy()
    sums = np.add.reduceat(rows.weight * x, rows.starts[:-1])
    depth = np.add.reduceat(rows.weight * np.exp(log_s), rows.starts[:-1])
    centre = float(np.log(max(sums.sum(), 0.5) / depth.sum()))
    log_sd = float(np.log(start_sd))
    m = np.log((sums + 0.5) / (depth + 0.5 * np.exp(-centre))) - start_sd**2 / 2
    prior_mean = float(centre - start_sd**2 / 2)
    prior = np.asarray(sd_prior, float)
    for _ in range(8):
        sd = np.exp(log_sd)
        half = REACH * 1.6 * sd + 1.0
        fine = min(0.6 * sd, largest_spacing(x, rows.weight, float(sd)))
        points = int(np.clip(np.ceil(2 * half / fine), 25, _MARGIN_POINTS))
        left, spacing = m - half, 2 * half / (points - 1)
        steps = np.full(len(m), spacing)
        table, _ = kernels.poisson_table(x, log_s, rows.starts, left, steps, points)
        args = (table, rows.weight, rows.starts, left, spacing, prior_mean, MEAN_SD, prior)
        m_new, s_new, terms = _newton(m, log_sd, args)
        moved = max(abs(s_new - log_sd), float(np.abs(m_new - m).max()) / sd)
        m, log_sd = m_new, s_new
        if moved < 0.3:
            break
    _, _, _, h_mm, h_ms, h_ss = terms
    spacing = largest_spacing(x, rows.weight, float(np.exp(log_sd)))
    schur = h_ss - (h_ms**2 / h_mm).sum()
    se = 1 / np.sqrt(max(-schur, 1 / prior[1] ** 2))
    return Margin(m, log_sd, 1 / np.sqrt(-h_mm), float(se), -h_ms / h_mm, prior_mean, spacing)


def fit_margins_of_samples(
    rows: Rows, gene: int, sd_prior: tuple[float, float], spread: float
) -> Margin:
    """Find the mode of a gene's margin with a standard deviation of each sample.

    Parameters
    ----------
    rows, gene, sd_prior
        As for :func:`fit_margin`.
    spread : float
        Standard deviation of the normal prior of a sample's log sd around the gene's.

    Returns
    -------
    Margin
        With the samples' means given their own standard deviations.
    """
    common = fit_margin(rows, gene, sd_prior)
    prior = (common.log_sd, spread)
    n = len(common.m)
    each = tuple(fit_margin(rows.of_sample(c), gene, prior, common.sd) for c in range(n))
    log_sd, se = np.array([(m.log_sd, m.log_sd_se) for m in each]).T
    weight = 1 / (se**2 + spread**2 / 4)
    return replace(
        common,
        m=np.concatenate([m.m for m in each]),
        m_se=np.concatenate([m.m_se for m in each]),
        log_sd=float((weight * log_sd).sum() / weight.sum()),
        log_sd_se=float(1 / np.sqrt(weight.sum())),
        slope=np.concatenate([m.slope for m in each]),
        each=each,
    )


def largest_spacing(x: Array, weight: Array, sd: float) -> float:
    r"""Return the largest spacing of a grid that adds little to the variance of the log rates.

    The likelihood of a count x has the standard deviation :math:`\omega = x^{-1/2}` over log rates.
    Where it is narrower than the spacing h, only the nearest grid point counts: the log rate is
    rounded, which adds the variance :math:`h^2/12` and attenuates the correlation. Wider ones are
    integrated, with a relative error of :math:`2 e^{-2\pi^2\omega^2/h^2}`. The mean over cells of
    the product of both is at most 0.0001 of the variance of the log rates.

    Parameters
    ----------
    x, weight : ndarray, shape (n_rows,)
        Counts, and the number of cells that a row represents.
    sd : float
        Standard deviation of the log rate.
    """
    values, which = np.unique(x, return_inverse=True)
    share = np.bincount(which, weight) / weight.sum()
    square = 1 / (values + 1 / sd**2)
    low, high = 0.02 * sd, 2 * sd
    for _ in range(30):
        middle = float(np.sqrt(low * high))
        rounded = np.minimum(2 * np.exp(-2 * np.pi**2 * square / middle**2), 1.0)
        added = float(share @ rounded) * middle**2 / 12
        low, high = (middle, high) if added < ROUNDING * sd**2 else (low, middle)
    return low


def _newton(m: Array, log_sd: float, args: tuple) -> tuple[Array, float, tuple]:
    terms = kernels.margin_terms(m, log_sd, *args)
    for _ in range(40):
        value, g_m, g_s, h_mm, h_ms, h_ss = terms
        h_mm = np.minimum(h_mm, -1e-8)
        schur = h_ss - (h_ms**2 / h_mm).sum()
        step = (
            -(g_s - (h_ms * g_m / h_mm).sum()) / min(schur, -1e-3)
            if schur < 0
            else np.sign(g_s) * 0.3
        )
        step = float(np.clip(step, -0.5, 0.5))
        move = np.clip(-(g_m + h_ms * step) / h_mm, -1.0, 1.0)
        for _ in range(12):
            following = kernels.margin_terms(m + move, log_sd + step, *args)
            if following[0] >= value - 1e-9 * abs(value):
                break
            step, move = step / 2, move / 2
        m, log_sd, terms = m + move, log_sd + step, following
        if abs(step) < 1e-7 and np.abs(move).max() < 1e-7:
            break
    return m, log_sd, terms
