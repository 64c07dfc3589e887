r"""The posterior of one pair of genes at both levels, with the cells summed out.

.. math::
    x_{ij} \sim Poisson(s_i e^{u_{ij}}),\quad
    (u_{ia}, u_{ib}) \sim N_2(b_c, \Sigma_W(\zeta_c)),\quad
    \zeta_c = \zeta + v_c'\delta + \tau\eta_c

    b \sim MN(X\Gamma,\; (1 - \pi) I + \pi ZZ',\; \Sigma_B)

The integral over u of each cell is a sum over a fixed grid, so that only the normal weights of the
grid depend on parameters: :math:`L_i = P_{ia}' W_c P_{ib}`. The sampled vector contains b
(standardised by the genes' margins), the coefficients, the logs of the four standard deviations,
:math:`\zeta`, the z of the between-sample correlation, :math:`\log\tau` and :math:`\eta`, and the
logit of the proportion :math:`\pi` of the variance that samples of one block share; with covariates
v of the correlation (centred) their slopes :math:`\delta`; and with a standard deviation of each
sample

.. math::
    (u_{ia}, u_{ib}) \sim N_2(b_c - \sigma_c^2 / 2,\; \Sigma_W(\zeta_c, \sigma_c)),\quad
    \log\sigma_{gc} = \log\sigma_g + \omega_g\xi_{gc}

:math:`\log\omega` and :math:`\xi`. In this model b is the log of the sample's mean rate, whose
posterior hardly depends on the standard deviation.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import DTypeLike, NDArray

from hiercorr.bayes.margin import (
    Array,
    Cells,
    Margin,
    Rows,
    fit_margin,
    fit_margins_of_samples,
)
from hiercorr.bayes.priors import Priors
from hiercorr.bayes.setup import Population, Setup, ZRegression
from hiercorr.inference.poisson_lognormal import Grid
from hiercorr.kernels import bayes as kernels

Z_NODES = np.linspace(-2.6, 2.6, 27)


@dataclass(frozen=True)
class ParameterLayout:
    """Position of each parameter in the sampled vector.

    Attributes
    ----------
    n_samples, n_coefficients : int
    n_units : int
        Number of units with their own correlation within samples.
    heterogeneity : bool
        Whether log_tau and eta are sampled.
    blocked : bool
        Whether logit_share is sampled.
    n_slopes : int
        Number of slopes of z within samples.
    sd_per_sample : bool
        Whether log_omega and xi are sampled.
    """

    n_samples: int
    n_coefficients: int
    n_units: int
    heterogeneity: bool
    blocked: bool
    n_slopes: int = 0
    sd_per_sample: bool = False

    @property
    def names(self) -> list[str]:
        """Name of each entry of the vector."""
        b = [f"b[{c},{g}]" for g in "ab" for c in range(self.n_samples)]
        coef = [f"coefficient[{q},{g}]" for g in "ab" for q in range(self.n_coefficients)]
        sd = [f"log_sd_{level}[{g}]" for level in ("within", "between") for g in "ab"]
        eta = ["log_tau", *[f"eta[{u}]" for u in range(self.n_units)]] if self.heterogeneity else []
        share = ["logit_share"] if self.blocked else []
        slopes = [f"slope[{q}]" for q in range(self.n_slopes)]
        xi = [f"xi[{c},{g}]" for g in "ab" for c in range(self.n_samples)]
        own = ["log_omega[a]", "log_omega[b]", *xi] if self.sd_per_sample else []
        return [*b, *coef, *sd, "zeta", "z_between", *eta, *share, *slopes, *own]

    @property
    def size(self) -> int:
        """Length of the vector."""
        return self.xi.stop

    @property
    def means(self) -> slice:
        """Standardised means of the samples: those of gene a, then those of gene b."""
        return slice(0, 2 * self.n_samples)

    @property
    def coefficients(self) -> slice:
        """Coefficients of the formula: those of gene a, then those of gene b."""
        start = self.means.stop
        return slice(start, start + 2 * self.n_coefficients)

    @property
    def log_sd_within(self) -> slice:
        """Log standard deviations of both genes within samples."""
        return self._both(kernels.OFFSET_SD_WITHIN)

    @property
    def log_sd_between(self) -> slice:
        """Log standard deviations of both genes between samples."""
        return self._both(kernels.OFFSET_SD_BETWEEN)

    @property
    def zeta(self) -> int:
        """Fisher z of the correlation within a typical sample."""
        return self.coefficients.stop + kernels.OFFSET_ZETA

    @property
    def z_between(self) -> int:
        """Fisher z of the correlation between samples."""
        return self.coefficients.stop + kernels.OFFSET_Z_BETWEEN

    @property
    def log_tau(self) -> int:
        """Log standard deviation of z within samples over units, if there is heterogeneity."""
        return self.coefficients.stop + kernels.OFFSET_TAU

    @property
    def eta(self) -> slice:
        """Deviation of each unit's z, partly centred; empty without heterogeneity."""
        start = self.log_tau + self.heterogeneity
        return slice(start, start + self.n_units * self.heterogeneity)

    @property
    def logit_share(self) -> int:
        """Logit of the proportion of variance shared within blocks, if there are blocks."""
        return self.eta.stop

    @property
    def slopes(self) -> slice:
        """Slopes of z within samples."""
        start = self.logit_share + self.blocked
        return slice(start, start + self.n_slopes)

    @property
    def log_omega(self) -> slice:
        """Log standard deviations of log sd within samples over samples, of both genes."""
        return slice(self.slopes.stop, self.slopes.stop + 2 * self.sd_per_sample)

    @property
    def xi(self) -> slice:
        """Deviation of each sample's log sd, partly centred: those of gene a, then those of b."""
        start = self.log_omega.stop
        return slice(start, start + 2 * self.n_samples * self.sd_per_sample)

    def _both(self, offset: int) -> slice:
        start = self.coefficients.stop + offset
        return slice(start, start + 2)


@dataclass(frozen=True)
class Pair:
    """The posterior of one pair, ready to be evaluated.

    Attributes
    ----------
    cells : Cells
    genes : tuple of int
        Columns of ``cells.x``.
    layout : ParameterLayout
    population : Population
    priors : Priors
    structure : str
    margins : tuple of Margin
    rows : Rows
    tables : tuple of ndarray
        Likelihoods of the rows on the grids of the two genes.
    grids : tuple
        (first points, spacings) of each gene.
    centred : ndarray, shape (n_units,)
        Degree of centring of each unit's z: 1 fully centred, 0 non-centred.
    sd_centred : ndarray, shape (n_samples, 2)
        The same of each sample's log sd.
    regression : ZRegression, optional
        Covariates of z within samples.
    coefficient_mean, coefficient_sd : ndarray, shape (2, n_coefficients)
        Priors of the coefficients.
    initial : ndarray
        Vector near the posterior mode, around which chains start.
    spread : ndarray
        Approximate posterior standard deviations.
    arguments : tuple
        Arguments of the kernel after the vector and its gradient.
    """

    cells: Cells
    genes: tuple[int, int]
    layout: ParameterLayout
    population: Population
    priors: Priors
    structure: str
    margins: tuple[Margin, Margin]
    rows: Rows
    tables: tuple[Array, Array]
    grids: tuple[tuple[Array, Array], tuple[Array, Array]]
    centred: Array
    sd_centred: Array
    regression: ZRegression | None
    coefficient_mean: Array
    coefficient_sd: Array
    initial: Array
    spread: Array
    arguments: tuple

    @property
    def unit(self) -> NDArray[np.int64]:
        """Unit of each sample; see :attr:`hiercorr.bayes.setup.Population.unit`."""
        return self.population.unit

    @property
    def x(self) -> NDArray[np.int64]:
        """Counts of both genes, shape (n_cells, 2)."""
        return self.cells.x[:, list(self.genes)]

    @property
    def grid(self) -> Grid:
        """The grids of both genes."""
        return Grid(
            np.stack([left for left, _ in self.grids], 1),
            np.stack([spacing for _, spacing in self.grids], 1),
            np.array([t.shape[1] for t in self.tables]),
        )

    @property
    def exposure(self) -> Array:
        """Log depth of each cell, with the effects of its covariates on each gene, (n_cells, 2)."""
        return self.cells.exposure(*self.genes)

    @property
    def centre(self) -> Array:
        """Values around which the samples' means are sampled, shape (n_samples, 2)."""
        return _centre(self.margins, self.layout.sd_per_sample)

    def log_density(self, theta: Array) -> tuple[float, Array]:
        """Evaluate the log posterior density, up to a constant, and its gradient."""
        gradient = np.empty_like(theta)
        return kernels.pair_density(theta, gradient, *self.arguments), gradient


TYPICAL_OMEGA = 0.3  # sd of the prior of a sample's log sd around the gene's that finds its mode


def margin_of(cells: Cells, gene: int, setup: Setup) -> Margin:
    """Fit the margin of a gene, with a standard deviation of each sample if the setup has them."""
    rows, log_sd = cells.rows(gene), setup.priors.log_sd
    if setup.sd_per_sample:
        return fit_margins_of_samples(rows, 0, log_sd, TYPICAL_OMEGA)
    return fit_margin(rows, 0, log_sd)


def make_pair(
    cells: Cells,
    genes: tuple[int, int],
    margins: tuple[Margin, Margin],
    setup: Setup,
    dtype: DTypeLike = np.float32,
    intercepts: Array | None = None,
) -> Pair:
    """Lay the grids of a pair and choose starting values.

    Parameters
    ----------
    cells : Cells
    genes : tuple of int
        Columns of ``cells.x``.
    margins : tuple of Margin
        Margins of the two genes.
    setup : Setup
    dtype : dtype
        Precision of the likelihood tables.
    intercepts : ndarray, shape (2,), optional
        Prior means of the intercepts. None: as :func:`coefficient_prior` states.

    Returns
    -------
    Pair
    """
    rows = cells.rows(*genes)
    population, priors = setup.population, setup.priors
    n, k = population.design.shape
    unit = population.unit
    regression = setup.z_regression
    z_design = np.zeros((n, 0)) if regression is None else regression.design
    layout = ParameterLayout(
        n,
        k,
        int(unit.max()) + 1,
        setup.heterogeneity,
        population.blocked,
        z_design.shape[1],
        setup.sd_per_sample,
    )
    profile = z_profile(rows, margins, unit)
    row = priors.row(kernels.Z_WITHIN)
    mode = profile.mode(np.array([kernels.log_prior(z, *row)[0] for z in Z_NODES]))
    of_unit = np.array([z_design[unit == u].mean(0) for u in range(layout.n_units)])
    z_coef_sd = slope_sd(z_design, priors.z_coefficient)
    tau2, errors, slopes = profile.spread(of_unit)
    slopes = np.clip(slopes, -2 * z_coef_sd, 2 * z_coef_sd)
    largest = float(np.abs(mode[0] + z_design @ slopes).max())
    reach = np.tanh(min(largest + 3 * mode[1], 2.6))
    finest = min(0.8, 1.1 * float(np.sqrt(1 - reach**2)))
    narrow = float(np.sqrt(1 - np.tanh(min(largest, 2.6)) ** 2))
    grids = [m.grid(finest, narrow) for m in margins]
    (left_a, step_a, _), (left_b, step_b, _) = grids
    tables = tuple(rows.table(g, *grid).astype(dtype) for g, grid in enumerate(grids))
    centre = _centre(margins, setup.sd_per_sample)
    scale = np.stack([m.m_se for m in margins], 1)
    coef_mean, coef_sd = coefficient_prior(centre, population.design, priors)
    if intercepts is not None:
        coef_mean[:, 0] = intercepts
    # Units are centred to the degree that their data are more informative than the population. A
    # tau near 0 would then make a funnel, so the comparison uses a low estimate of tau.
    low = max(0.0, tau2 - (tau2 + float((errors**2).mean())) * np.sqrt(2 / max(len(errors) - 1, 1)))
    centred = low / (low + errors**2)
    omega, sd_centred = _spread_of_sd(margins, setup.sd_per_sample)
    arguments = (
        *tables,
        rows.weight,
        rows.starts,
        left_a,
        step_a,
        left_b,
        step_b,
        centre,
        scale,
        population.design,
        population.block,
        unit,
        centred,
        coef_mean,
        coef_sd,
        z_design,
        of_unit,
        z_coef_sd,
        sd_centred,
        priors.families,
        priors.parameters,
        setup.heterogeneity,
        population.blocked,
        setup.sd_per_sample,
        setup.structure != "independent",
        setup.structure == "both",
    )
    initial, spread = _starting_point(layout, population.design, margins, mode)
    if layout.heterogeneity:
        initial[layout.log_tau] = 0.5 * np.log(tau2 + 0.15**2)
        initial[layout.eta] = centred * (mode[0] + of_unit @ slopes)
    initial[layout.slopes], spread[layout.slopes] = slopes, z_coef_sd / 3
    if layout.sd_per_sample:
        middle = initial[layout.log_sd_within]
        away = np.stack([m.log_sd_of_samples[0] for m in margins], 1) - middle
        initial[layout.log_omega], spread[layout.log_omega] = np.log(omega), 0.3
        initial[layout.xi] = (away / omega ** (1 - sd_centred) + sd_centred * middle).T.ravel()
        spread[layout.xi] = 0.2
    return Pair(
        cells=cells,
        genes=genes,
        layout=layout,
        population=population,
        priors=priors,
        structure=setup.structure,
        margins=margins,
        rows=rows,
        tables=(tables[0], tables[1]),
        grids=((left_a, step_a), (left_b, step_b)),
        centred=centred,
        sd_centred=sd_centred,
        regression=regression,
        coefficient_mean=coef_mean,
        coefficient_sd=coef_sd,
        initial=initial,
        spread=spread,
        arguments=arguments,
    )


def _starting_point(
    layout: ParameterLayout,
    design: Array,
    margins: tuple[Margin, Margin],
    mode: tuple[float, float],
) -> tuple[Array, Array]:
    """Return a vector near the posterior mode and approximate posterior standard deviations.

    `mode` is the mode of zeta and its standard error. Parameters that vary over samples, but the
    means, remain 0.
    """
    n, k = design.shape
    centre = _centre(margins, layout.sd_per_sample)
    initial, spread = np.zeros(layout.size), np.ones(layout.size)
    fitted = np.linalg.lstsq(design, centre, rcond=None)[0]
    residuals = centre - design @ fitted
    residual_sd = np.sqrt((residuals**2).sum(0) / max(n - k, 1) + 0.01)
    initial[layout.coefficients] = fitted.T.ravel()
    spread[layout.coefficients] = np.repeat(residual_sd / np.sqrt(n), k)
    initial[layout.log_sd_within] = [m.log_sd for m in margins]
    spread[layout.log_sd_within] = [m.log_sd_se for m in margins]
    initial[layout.log_sd_between] = np.log(residual_sd)
    spread[layout.log_sd_between] = 0.5 / np.sqrt(n)
    initial[layout.zeta], spread[layout.zeta] = mode
    spread[layout.z_between] = 1 / np.sqrt(n + 3)
    return initial, spread


def _centre(margins: tuple[Margin, Margin], sd_per_sample: bool) -> Array:
    """Return the mode of each sample's mean log rate, or of the log of its mean rate."""
    shift = [m.sd_of_samples**2 / 2 * sd_per_sample for m in margins]
    return np.stack([m.m + v for m, v in zip(margins, shift, strict=True)], 1)


def _spread_of_sd(margins: tuple[Margin, Margin], sd_per_sample: bool) -> tuple[Array, Array]:
    """Estimate omega of each gene, and the degree of centring of each sample's log sd."""
    n = len(margins[0].m)
    omega, centred = np.full(2, 0.2), np.zeros((n, 2))
    if sd_per_sample:
        for g, m in enumerate(margins):
            log_sd, se = m.log_sd_of_samples
            excess = log_sd.var(ddof=1) - (se**2).mean()
            low = max(0.0, excess - (excess + (se**2).mean()) * np.sqrt(2 / (n - 1)))
            omega[g] = np.sqrt(max(excess, 0.0) + 0.1**2)
            centred[:, g] = low / (low + se**2)
    return omega, centred


def coefficient_prior(means: Array, design: Array, priors: Priors) -> tuple[Array, Array]:
    """Scale the priors of the coefficients to the data.

    Intercepts are centred at the gene's mean, unless their prior has a mean; slopes are per range
    of the covariate.

    Parameters
    ----------
    means : ndarray, shape (n_samples, n_genes)
        Log means of the samples.
    design : ndarray, shape (n_samples, n_coefficients)
    priors : Priors

    Returns
    -------
    mean, sd : ndarray, shape (n_genes, n_coefficients)
    """
    n_genes, k = means.shape[1], design.shape[1]
    centre = np.zeros((n_genes, k))
    centre[:, 0] = means.mean(0) if priors.intercept[0] is None else priors.intercept[0]
    sd = np.tile(slope_sd(design, priors.coefficient[1]), (n_genes, 1))
    sd[:, 0] = priors.intercept[1]
    return centre, sd


def slope_sd(design: Array, sigma: float) -> Array:
    """Return the prior standard deviation of each slope from `sigma`, per range of a covariate."""
    spread = np.ptp(design, axis=0)
    return np.asarray(sigma / np.where(spread > 0, spread, 1.0))


@dataclass(frozen=True)
class ZProfile:
    """Log likelihood of the Fisher z within each unit, given the margins.

    Attributes
    ----------
    value : ndarray, shape (n_units, n_nodes)
        At :data:`Z_NODES`.
    """

    value: Array

    def mode(self, log_prior: Array | float = 0.0) -> tuple[float, float]:
        """Find the mode of a z common to all units, and its standard error."""
        return _parabola(self.value.sum(0) + log_prior)

    @property
    def each(self) -> tuple[Array, Array]:
        """The mode of each unit's z, and its standard error."""
        found = np.array([_parabola(v) for v in self.value])
        return found[:, 0], found[:, 1]

    def spread(self, covariates: Array) -> tuple[float, Array, Array]:
        """Estimate the variance of z over units given covariates (DerSimonian-Laird).

        Parameters
        ----------
        covariates : ndarray, shape (n_units, n_slopes)

        Returns
        -------
        tau2 : float
        errors : ndarray, shape (n_units,)
            Standard error of each unit's z.
        slopes : ndarray, shape (n_slopes,)
        """
        z, errors = self.each
        w = 1 / errors**2
        x = np.column_stack([np.ones(len(z)), covariates])
        inverse = np.linalg.pinv(x.T @ (w[:, None] * x))
        beta = inverse @ (x.T @ (w * z))
        q = (w * (z - x @ beta) ** 2).sum() - len(z) + np.linalg.matrix_rank(x)
        total = w.sum() - np.trace(inverse @ (x.T @ (w[:, None] ** 2 * x)))
        return max(0.0, float(q / max(total, 1e-9))), errors, beta[1:]


def z_profile(rows: Rows, margins: tuple[Margin, Margin], unit: NDArray[np.int64]) -> ZProfile:
    """Compute the profile of a pair on a moderately fine grid."""
    (left_a, step_a, n_a), (left_b, step_b, n_b) = (m.grid(0.5) for m in margins)
    a, b = margins
    by_sample = kernels.z_profile(
        Z_NODES,
        rows.table(0, left_a, step_a, n_a),
        rows.table(1, left_b, step_b, n_b),
        rows.weight,
        rows.starts,
        a.m,
        b.m,
        a.sd_of_samples,
        b.sd_of_samples,
        left_a,
        step_a,
        left_b,
        step_b,
    )
    value = np.zeros((int(unit.max()) + 1, len(Z_NODES)))
    np.add.at(value, unit, by_sample)
    return ZProfile(value)


def _parabola(value: Array) -> tuple[float, float]:
    """Fit a parabola through the largest value at the nodes; return its vertex and its width."""
    best = int(np.clip(value.argmax(), 1, len(value) - 2))
    down, mid, up = value[best - 1 : best + 2]
    step = Z_NODES[1] - Z_NODES[0]
    curve = (up - 2 * mid + down) / step**2
    if not curve < 0:
        return float(Z_NODES[value.argmax()]), 1.0
    shift = float(np.clip(-(up - down) / (2 * step) / curve, -step, step))
    return float(Z_NODES[best]) + shift, float(np.clip(1 / np.sqrt(-curve), 0.005, 1.0))
