r"""The posterior of one pair of genes at both levels, with the cells summed out.

.. math::
    x_{ij} \sim Poisson(s_i e^{u_{ij}}),\quad
    (u_{ia}, u_{ib}) \sim N_2(b_c, \Sigma_W(\zeta_c)),\quad
    \zeta_c = \zeta + \tau\eta_c

    b \sim MN(X\Gamma,\; (1 - \pi) I + \pi ZZ',\; \Sigma_B)

The integral over u of each cell is a sum over a fixed grid, so that only the normal weights of the
grid depend on parameters: :math:`L_i = P_{ia}' W_c P_{ib}`. The sampled vector contains b
(standardised by the genes' margins), the coefficients, the logs of the four standard deviations,
:math:`\zeta`, the z of the between-sample correlation, :math:`\log\tau` and :math:`\eta`, and the
logit of the proportion :math:`\pi` of the variance that samples of one block share.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import DTypeLike, NDArray

from hiercorr.bayes.margin import COARSE, MAX_POINTS, Array, Cells, Margin, Rows
from hiercorr.bayes.priors import Priors
from hiercorr.bayes.setup import Population, Setup
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
    """

    n_samples: int
    n_coefficients: int
    n_units: int
    heterogeneity: bool
    blocked: bool

    @property
    def names(self) -> list[str]:
        """Name of each entry of the vector."""
        b = [f"b[{c},{g}]" for g in "ab" for c in range(self.n_samples)]
        coef = [f"coefficient[{q},{g}]" for g in "ab" for q in range(self.n_coefficients)]
        sd = [f"log_sd_{level}[{g}]" for level in ("within", "between") for g in "ab"]
        eta = ["log_tau", *[f"eta[{u}]" for u in range(self.n_units)]] if self.heterogeneity else []
        share = ["logit_share"] if self.blocked else []
        return [*b, *coef, *sd, "zeta", "z_between", *eta, *share]

    @property
    def size(self) -> int:
        """Length of the vector."""
        return self.logit_share + self.blocked

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
        (first points, spacing) of each gene.
    centred : ndarray, shape (n_units,)
        Degree of centring of each unit's z: 1 fully centred, 0 non-centred.
    coefficient_mean, coefficient_sd : ndarray, shape (2, n_coefficients)
        Priors of the coefficients.
    initial : ndarray
        Vector near the posterior mode, around which chains start.
    spread : ndarray
        Approximate posterior standard deviations.
    arguments : tuple
        Arguments of the kernel after the vector and its gradient.
    coarse : bool
        Whether the correlation is too close to 1, or counts are too large, for the finest grid.
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
    grids: tuple[tuple[Array, float], tuple[Array, float]]
    centred: Array
    coefficient_mean: Array
    coefficient_sd: Array
    initial: Array
    spread: Array
    arguments: tuple
    coarse: bool

    @property
    def unit(self) -> NDArray[np.int64]:
        """Unit of each sample; samples of one block have the same correlation."""
        return self.population.block

    @property
    def x(self) -> NDArray[np.int64]:
        """Counts of both genes, shape (n_cells, 2)."""
        return self.cells.x[:, list(self.genes)]

    @property
    def grid(self) -> Grid:
        """The grids of both genes."""
        return Grid(
            np.stack([left for left, _ in self.grids], 1),
            np.array([spacing for _, spacing in self.grids]),
            np.array([t.shape[1] for t in self.tables]),
        )

    def log_density(self, theta: Array) -> tuple[float, Array]:
        """Evaluate the log posterior density, up to a constant, and its gradient."""
        gradient = np.empty_like(theta)
        return kernels.pair_density(theta, gradient, *self.arguments), gradient


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
    profile = z_profile(rows, margins, population.block)
    row = priors.row(kernels.Z_WITHIN)
    mode = profile.mode(np.array([kernels.log_prior(z, *row)[0] for z in Z_NODES]))
    tau2, errors = profile.spread()
    reach = np.tanh(min(abs(mode[0]) + 3 * mode[1], 2.6))
    finest = min(0.8, 1.1 * float(np.sqrt(1 - reach**2)))
    narrow = float(np.sqrt(1 - np.tanh(min(abs(mode[0]), 2.6)) ** 2))
    grids = [m.grid(finest, narrow) for m in margins]
    (left_a, step_a, _), (left_b, step_b, _) = grids
    tables = tuple(rows.table(g, *grid).astype(dtype) for g, grid in enumerate(grids))
    n, k = population.design.shape
    layout = ParameterLayout(n, k, population.n_blocks, setup.heterogeneity, population.blocked)
    centre = np.stack([m.m for m in margins], 1)
    scale = np.stack([m.m_se for m in margins], 1)
    coef_mean, coef_sd = coefficient_prior(centre, population.design, priors)
    if intercepts is not None:
        coef_mean[:, 0] = intercepts
    # Units are centred to the degree that their data are more informative than the population. A
    # tau near 0 would then make a funnel, so the comparison uses a low estimate of tau.
    low = max(0.0, tau2 - (tau2 + float((errors**2).mean())) * np.sqrt(2 / max(len(errors) - 1, 1)))
    centred = low / (low + errors**2)
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
        population.block,  # each block is one unit
        centred,
        coef_mean,
        coef_sd,
        priors.families,
        priors.parameters,
        setup.heterogeneity,
        population.blocked,
        setup.structure != "independent",
        setup.structure == "both",
    )
    initial, spread = _starting_point(layout, population.design, margins, mode, tau2, centred)
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
        coefficient_mean=coef_mean,
        coefficient_sd=coef_sd,
        initial=initial,
        spread=spread,
        arguments=arguments,
        coarse=max(m.points(finest, narrow) for m in margins) > COARSE * MAX_POINTS,
    )


def _starting_point(
    layout: ParameterLayout,
    design: Array,
    margins: tuple[Margin, Margin],
    mode: tuple[float, float],
    tau2: float,
    centred: Array,
) -> tuple[Array, Array]:
    """Return a vector near the posterior mode and approximate posterior standard deviations.

    `mode` is the mode of zeta and its standard error, `tau2` the variance of z over units.
    """
    n, k = design.shape
    centre = np.stack([m.m for m in margins], 1)
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
    if layout.heterogeneity:
        initial[layout.log_tau] = 0.5 * np.log(tau2 + 0.15**2)
        initial[layout.eta] = centred * mode[0]
    return initial, spread


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
    sd = np.tile(slope_sd(design, priors), (n_genes, 1))
    sd[:, 0] = priors.intercept[1]
    return centre, sd


def slope_sd(design: Array, priors: Priors) -> Array:
    """Return the prior standard deviation of each slope, given per range of the covariate."""
    spread = np.ptp(design, axis=0)
    return np.asarray(priors.coefficient[1] / np.where(spread > 0, spread, 1.0))


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

    def spread(self) -> tuple[float, Array]:
        """Estimate the variance of z over units (DerSimonian-Laird) and each unit's error."""
        z, errors = self.each
        v = errors**2
        w = 1 / v
        q = (w * (z - (w * z).sum() / w.sum()) ** 2).sum()
        return max(0.0, float((q - len(z) + 1) / (w.sum() - (w**2).sum() / w.sum()))), errors


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
        a.sd,
        b.sd,
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
