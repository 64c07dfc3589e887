"""The hierarchical model of correlations within samples: expected noise, and its prior."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from hiercorr import moments
from hiercorr.inference.levels import learn_within_donors, tau_within_donors
from hiercorr.inference.random_effects import (
    ABSENT,
    DonorGenes,
    HeterogeneityPrior,
    donor_effects,
    learn_prior,
)
from hiercorr.moments.genes import GeneMoments
from hiercorr.schema import Flag

Array = NDArray[np.float64]

LEAST_GENES, LEAST_PAIRS = 12, 60  # of a panel from which the prior is learnt
RICH, LEAST_RICH = 5.0, 60  # information of the panel's genes, and their least number
_LEAST_RATIO, _LARGEST_RATIO = 0.05, 1e4  # of a donor's variance to the common one
PANEL_GENES = 160  # genes whose pairs teach the prior; fewer if samples are many:
_PANEL_VALUES = 500 * PANEL_GENES**2  # pairs times samples of a panel, 100 MB per array


@dataclass(frozen=True)
class DonorModel:
    """Sampling variances of donors, and the distribution of their heterogeneity.

    Attributes
    ----------
    genes : DonorGenes
        Of all genes.
    variance : ndarray, shape (n_samples, n_genes, n_nodes)
        Expected squared weighted residual of a cell, divided by its depth, at the nodes.
    units : ndarray of int, shape (n_samples,)
        Donor of each sample.
    prior : HeterogeneityPrior, optional
    samples : DonorModel, optional
        The same with each sample as its own donor, where donors have several samples.
    within_donors : ndarray, optional
        Distribution of the standard deviation between the samples of one donor, where donors have
        several.
    """

    genes: DonorGenes
    variance: Array
    units: NDArray[np.int64]
    samples: DonorModel | None = None
    prior: HeterogeneityPrior | None = None
    within_donors: Array | None = None

    def take(self, genes: NDArray[np.int64]) -> DonorModel:
        """Return the same for some of the genes."""
        variance = np.ascontiguousarray(self.variance[:, genes])
        samples = None if self.samples is None else self.samples.take(genes)
        return replace(self, genes=self.genes[genes], variance=variance, samples=samples)

    def donor_effects(
        self, sums: moments.Sums, left: slice, right: slice, num: NDArray, den: NDArray
    ) -> tuple[Array, Array]:
        """Estimate the correlation of each pair in each donor, and its sampling variance.

        Parameters
        ----------
        sums : DepthSums
        left, right : slice
        num, den : ndarray, shape (n_samples, left, right)
            N and D of each sample.

        Returns
        -------
        effects, variances : ndarray, shape (n_donors, left, right)
        """
        noise = self.noise(sums, left, right, np.empty(num.shape, num.dtype))
        n, d, e = (by_donor(part, self.units) for part in (num, den, noise))
        return donor_effects(n, d, e, self.genes[left], self.genes[right])

    def tau_within_donors(
        self, sums: moments.Sums, left: slice, right: slice, num: NDArray, den: NDArray
    ) -> Array:
        """Estimate how much the samples of one donor differ, (left, right).

        A sample's covariance is divided by its own standard deviations (shrunk by their
        reliability), so that a gene that varies more in one sample is not heterogeneity.

        Parameters
        ----------
        sums, left, right, num, den
            As for :meth:`donor_effects`.
        """
        assert self.samples is not None
        assert self.within_donors is not None
        x, v = self.samples.donor_effects(sums, left, right, num, den)
        shape = x.shape[1:]
        x, v = (part.reshape(len(part), -1) for part in (x, v))
        tau = tau_within_donors(x, v, self.units, self.within_donors).reshape(shape)
        phi = self.genes.phi
        return np.where((phi[left, None] > 0) & (phi[None, right] > 0), tau, np.nan)

    def noise(self, sums: moments.Sums, left: slice, right: slice, out: NDArray) -> NDArray:
        r"""Compute the variance of each sample's N_c for independent genes by quadrature.

        .. math:: E_c = \sum_i e_{ij} e_{ik}, \quad e_{ij} = w_{ij}^2 (s_i \mu_{cj} + s_i^2
                  \mu_{cj}^2 \phi_j)

        Parameters
        ----------
        sums : DepthSums
        left, right : slice
        out : ndarray, shape (n_samples, left, right)
            Array for the result.

        Returns
        -------
        ndarray
            `out`.
        """
        for block, grams in moments.pair_blocks(sums, left, right):
            for c, gram in enumerate(grams):
                a = (self.variance[c, block.left] @ gram).astype(out.dtype)
                b = self.variance[c, block.right].astype(out.dtype)
                np.matmul(a, b.T, out=out[c, block.rows, block.columns])
        return out


def panel_genes(fit: GeneMoments, information: Array) -> NDArray[np.int64]:
    """Choose the genes whose pairs teach the prior: those with variance, evenly by information."""
    with np.errstate(invalid="ignore"):
        usable = np.flatnonzero((fit.variance > 0) & np.isfinite(information))
    order = usable[np.argsort(information[usable], kind="stable")]
    rich = int((information[order] >= RICH).sum())
    order = order[-max(rich, LEAST_RICH) :]
    room = int((_PANEL_VALUES / fit.num.shape[1]) ** 0.5)
    size = min(PANEL_GENES, max(room, LEAST_RICH))
    if len(order) <= size:
        return np.sort(order)
    at = np.linspace(0, len(order) - 1, size).round().astype(int)
    return np.sort(order[at])


def donor_model(
    sums: moments.Sums, fit: GeneMoments, n_cells: NDArray[np.int64], units: NDArray[np.int64]
) -> DonorModel:
    """Compute what the hierarchical model needs to know of every gene, by donor and by sample.

    Parameters
    ----------
    sums : DepthSums
    fit : GeneMoments
        Moments within samples.
    n_cells : ndarray, shape (n_samples,)
    units : ndarray of int, shape (n_samples,)
        Donor of each sample, 0, 1, ...
    """
    model, each = _model(sums, fit, n_cells, units), np.arange(len(units))
    nested = len(np.unique(units)) < len(units)
    return replace(model, samples=_model(sums, fit, n_cells, each)) if nested else model


def _model(
    sums: moments.Sums, fit: GeneMoments, n_cells: NDArray[np.int64], units: NDArray[np.int64]
) -> DonorModel:
    s, phi = sums.nodes, fit.variance
    known = np.where(phi > 0, phi, 0.0)[:, None, None]
    ratio = _relative_variances(sums, fit, known, units)
    known = known * ratio.T[:, units, None]
    noise, biology = _residual_variance(sums, fit, known)
    each = noise + biology
    m = fit.mu[:, :, None] * s
    third = (m + 3 * known * m**2 + 2 * known**2 * m**3) / (1 + fit.slope[:, :, None] * s) ** 3
    total, biological, skewed = (sums.over_cells(part, 0).T for part in (each, biology, third))
    squared = _squared_noise(sums, noise, biology)
    n = by_donor(n_cells[:, None].astype(float), units)
    total, biological, skewed, squared = (
        by_donor(part, units) for part in (total, biological, skewed, squared)
    )
    with np.errstate(divide="ignore", invalid="ignore"):
        share = np.nan_to_num(biological / total)
        skewness = np.nan_to_num(skewed / total**1.5 * n**0.5) / n**0.25
        of_phi = 2 * squared.sum(0) / (phi * fit.den.sum(1)) ** 2
    variance = np.ascontiguousarray((each / s).transpose(1, 0, 2))
    genes = DonorGenes(
        np.where(phi > 0, phi, -1.0), ratio**-0.5, share, skewness, np.nan_to_num(of_phi)
    )
    return DonorModel(genes, variance, units)


def _relative_variances(
    sums: moments.Sums, fit: GeneMoments, known: Array, units: NDArray[np.int64]
) -> Array:
    """Estimate donors' variances relative to the common one, shrunk to 1 by their reliability.

    Parameters
    ----------
    sums : DepthSums
    fit : GeneMoments
    known : ndarray, shape (n_genes, 1, 1)
        Variance of each gene, 0 where it has none.
    units : ndarray of int, shape (n_samples,)
        Donor of each sample.

    Returns
    -------
    ndarray, shape (n_donors, n_genes)
    """
    squared = by_donor(_squared_noise(sums, *_residual_variance(sums, fit, known)), units)
    num, den = (by_donor(part.T, units) for part in (fit.num, fit.den))
    return shrunken_ratios(num, den, fit.variance, squared)


def shrunken_ratios(num: Array, den: Array, variance: Array, squared: Array) -> Array:
    """Divide donors' variances by the common one, and shrink the ratios to 1.

    Parameters
    ----------
    num, den : ndarray, shape (n_donors, n_genes)
        Sums of the variances.
    variance : ndarray, shape (n_genes,)
        Common variance.
    squared : ndarray, shape (n_donors, n_genes)
        Half of the sampling variance of `num`.
    """
    with np.errstate(divide="ignore", invalid="ignore"):
        scale = variance * den
        ratio = num / scale - 1
        noise = 2 * squared / scale**2
        usable = (scale > 0) & np.isfinite(ratio) & (noise > 0)
        ratio, noise = np.where(usable, ratio, 0.0), np.where(usable, noise, np.inf)
        precision = 1 / noise
        excess = np.where(usable, ratio**2 * precision - 1, 0.0)
        between = np.clip(excess.sum(0) / precision.sum(0), 0, None)
        shrunk = ratio * np.nan_to_num(between / (between + noise))
    return np.clip(1 + shrunk, _LEAST_RATIO, _LARGEST_RATIO)


def _residual_variance(sums: moments.Sums, fit: GeneMoments, phi: Array) -> tuple[Array, Array]:
    """Compute the noise and the biological part of a squared weighted residual at the nodes.

    Arrays are (n_genes, n_samples, n_nodes); `phi` broadcasts against them.
    """
    f2 = (1 + fit.slope[:, :, None] * sums.nodes) ** -2.0
    m = fit.mu[:, :, None] * sums.nodes
    return f2 * m, f2 * m**2 * phi


def _squared_noise(sums: moments.Sums, noise: Array, biology: Array) -> Array:
    """Add the squares of the expected squared residuals over the cells, (n_samples, n_genes)."""
    return sums.squared_over_cells((noise + biology) / sums.nodes)


def learnt(
    model: DonorModel, sums: moments.Sums, num: NDArray, den: NDArray, genes: NDArray[np.int64]
) -> HeterogeneityPrior | None:
    """Learn the prior from the sums of the pairs of a panel; None with too few pairs.

    Parameters
    ----------
    model : DonorModel
    sums : DepthSums
    num, den : ndarray, shape (n_samples, n_panel, n_panel)
        N and D of each sample.
    genes : ndarray of int, shape (n_panel,)
        Positions of the panel's genes.
    """
    every, sums = slice(0, len(genes)), sums.take(genes)
    effects, variances = model.take(genes).donor_effects(sums, every, every, num, den)
    upper = np.triu_indices(len(genes), 1)
    if ((variances[:, *upper] < ABSENT).sum(0) >= 3).sum() < LEAST_PAIRS:
        return None
    return learn_prior(effects[:, *upper], variances[:, *upper])


def learnt_within_donors(
    model: DonorModel, sums: moments.Sums, num: NDArray, den: NDArray, genes: NDArray[np.int64]
) -> Array | None:
    """Learn how much the samples of one donor differ; None where no donor has two.

    Parameters
    ----------
    model, sums, num, den, genes
        As for :func:`learnt`.
    """
    if model.samples is None:
        return None
    every, sums = slice(0, len(genes)), sums.take(genes)
    effects, variances = model.samples.take(genes).donor_effects(sums, every, every, num, den)
    upper = np.triu_indices(len(genes), 1)
    return learn_within_donors(effects[:, *upper], variances[:, *upper], model.units)


def without_tau(tile: dict[str, NDArray]) -> NDArray[np.uint16]:
    """Flag the tested pairs of a tile whose heterogeneity cannot be estimated."""
    flag = np.zeros(tile["p_value"].shape, np.uint16)
    for name in ("tau", "tau_within_donors", "group_tau"):
        if name in tile:
            unknown = np.isnan(tile[name]).reshape(-1, *flag.shape).any(0)
            flag[unknown & np.isfinite(tile["p_value"])] |= Flag.NO_HETEROGENEITY.bit
    return flag


def by_donor(values: NDArray, units: NDArray[np.int64]) -> NDArray:
    """Add the arrays of the samples of each donor; the first dimension is the samples'."""
    if np.array_equal(units, np.arange(len(values))):
        return values
    out = np.zeros((int(units.max()) + 1, *values.shape[1:]), values.dtype)
    for unit, value in zip(units, values, strict=True):
        out[unit] += value
    return out
