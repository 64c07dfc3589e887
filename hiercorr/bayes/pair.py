r"""The posterior of one pair of genes at both levels, with the cells summed out.

.. math::
    x_{ij} \sim Poisson(s_i e^{u_{ij}}),\quad (u_{ia}, u_{ib}) \sim N_2(b_c, \Sigma_W(\zeta_c)),\quad
    \zeta_c = \zeta + \tau\eta_c

    b \sim MN(X\Gamma,\; (1 - \pi) I + \pi ZZ',\; \Sigma_B)

The cells' integral over u is a sum over a fixed grid, so that only the normal weights of the grid hold parameters:
:math:`L_i = P_{ia}' W_c P_{ib}`. What is sampled is a vector: b (standardised by the genes' margins), the coefficients, the
logs of the four standard deviations, :math:`\zeta`, the z of the correlation between samples, :math:`\log\tau` and
:math:`\eta`, and the logit of the share :math:`\pi` that samples of one block have in common.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import DTypeLike, NDArray

from hiercorr.bayes.margin import MAX_POINTS, Array, Cells, Margin, Rows
from hiercorr.bayes.priors import Priors
from hiercorr.kernels import bayes as kernels

STRUCTURES = ("both", "within", "independent")
Z_NODES = np.linspace(-2.6, 2.6, 27)


@dataclass(frozen=True)
class Population:
    """How samples relate: covariates, blocks of samples that are not independent.

    Attributes
    ----------
    design : ndarray, shape (n_samples, n_coefficients)
    block : ndarray of int64, shape (n_samples,)
        Block of each sample; all different where samples are independent.
    """

    design: Array
    block: NDArray[np.int64]

    @property
    def blocked(self) -> bool:
        return bool(self.block.max() + 1 < len(self.block))


@dataclass(frozen=True)
class ParameterLayout:
    """Where in the sampled vector each parameter is."""

    n_samples: int
    n_coefficients: int
    n_units: int
    heterogeneity: bool
    blocked: bool

    @property
    def names(self) -> list[str]:
        b = [f"b[{c},{g}]" for g in "ab" for c in range(self.n_samples)]
        coef = [f"coefficient[{q},{g}]" for g in "ab" for q in range(self.n_coefficients)]
        sd = [
            "log_sd_within[a]",
            "log_sd_within[b]",
            "log_sd_between[a]",
            "log_sd_between[b]",
            "zeta",
            "z_between",
        ]
        eta = ["log_tau", *[f"eta[{u}]" for u in range(self.n_units)]] if self.heterogeneity else []
        return [*b, *coef, *sd, *eta, *(["logit_share"] if self.blocked else [])]

    @property
    def size(self) -> int:
        return len(self.names)

    @property
    def at_sd(self) -> int:
        return 2 * (self.n_samples + self.n_coefficients)


@dataclass(frozen=True)
class Pair:
    """One pair's posterior, ready to be evaluated.

    Attributes
    ----------
    layout : ParameterLayout
    population : Population
    priors : Priors
    structure : str
    margins : tuple of Margin
    rows : Rows
    tables : tuple of ndarray
        Likelihoods of the rows on the two genes' grids.
    grids : tuple
        (left ends, spacing) of each gene.
    centred : ndarray, shape (n_units,)
        How far each unit's z is centred: 1 wholly, 0 not at all.
    coefficient_mean, coefficient_sd : ndarray, shape (2, n_coefficients)
        Priors of the coefficients.
    initial : ndarray
        A vector near the posterior's mode, to start chains from.
    spread : ndarray
        Rough posterior standard deviations.
    coarse : bool
        The grid would have to be finer than it may be: the correlation is too close to 1.
    """

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
        """The unit that has each sample's correlation: repeated samples of a donor share it."""
        return self.population.block

    def log_density(self, theta: Array) -> tuple[float, Array]:
        """Log posterior density of a vector, up to a constant, and its gradient."""
        gradient = np.empty_like(theta)
        return kernels.pair_density(theta, gradient, *self.arguments), gradient


def make_pair(
    cells: Cells,
    genes: tuple[int, int],
    margins: tuple[Margin, Margin],
    population: Population,
    priors: Priors,
    *,
    heterogeneity: bool,
    structure: str,
    dtype: DTypeLike = np.float32,
) -> Pair:
    """Lay the grids and tables of a pair and find where to start; `dtype` is that of the tables."""
    rows = cells.rows(*genes)
    unit = population.block
    profile = z_profile(rows, margins, unit)
    zeta, zeta_se = profile.mode(
        np.array([kernels.log_prior(z, *priors.row(2))[0] for z in Z_NODES])
    )
    tau2, errors = profile.spread()
    reach = np.tanh(min(abs(zeta) + 3 * zeta_se, 2.6))
    finest = min(0.8, 1.1 * float(np.sqrt(1 - reach**2)))
    grids = [m.grid(finest) for m in margins]
    (left_a, step_a, n_a), (left_b, step_b, n_b) = grids
    coarse = max(n_a, n_b) >= MAX_POINTS
    tables = tuple(rows.table(g, *grid).astype(dtype) for g, grid in enumerate(grids))
    n, k = population.design.shape
    layout = ParameterLayout(n, k, int(unit.max()) + 1, heterogeneity, population.blocked)
    centre = np.stack([m.m for m in margins], 1)
    scale = np.stack([m.m_se for m in margins], 1)
    coef_mean, coef_sd = coefficient_prior(centre, population.design, priors)
    # Centred where the unit's own data say more than the population does; but where tau may be near 0 that makes a funnel,
    # so it is a low estimate of tau that counts.
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
        unit,
        centred,
        coef_mean,
        coef_sd,
        priors.families,
        priors.parameters,
        heterogeneity,
        population.blocked,
        structure != "independent",
        structure == "both",
    )
    initial, rough = np.zeros(layout.size), np.ones(layout.size)
    fitted = np.linalg.lstsq(population.design, centre, rcond=None)[0]
    initial[2 * n : layout.at_sd] = fitted.T.ravel()
    left_over = np.sqrt(((centre - population.design @ fitted) ** 2).sum(0) / max(n - k, 1) + 0.01)
    at = layout.at_sd
    initial[at : at + 2] = [m.log_sd for m in margins]
    rough[at : at + 2] = [m.log_sd_se for m in margins]
    initial[at + 2 : at + 4] = np.log(left_over)
    rough[2 * n : at] = np.repeat(left_over / np.sqrt(n), k)
    rough[at + 2 : at + 4] = 0.5 / np.sqrt(n)
    initial[at + 4], rough[at + 4] = zeta, zeta_se
    rough[at + 5] = 1 / np.sqrt(n + 3)
    if heterogeneity:
        initial[at + 6] = 0.5 * np.log(tau2 + 0.15**2)
        initial[at + 7 : at + 7 + layout.n_units] = centred * zeta
    return Pair(
        layout,
        population,
        priors,
        structure,
        margins,
        rows,
        (tables[0], tables[1]),
        ((left_a, step_a), (left_b, step_b)),
        centred,
        coef_mean,
        coef_sd,
        initial,
        rough,
        arguments,
        coarse,
    )


def coefficient_prior(means: Array, design: Array, priors: Priors) -> tuple[Array, Array]:
    """Mean and standard deviation (gene, coefficient): around the data's mean, slopes per range of the covariate."""
    n_genes, k = means.shape[1], design.shape[1]
    centre = np.zeros((n_genes, k))
    centre[:, 0] = means.mean(0) if priors.intercept[0] is None else priors.intercept[0]
    spread = np.ptp(design, axis=0)
    sd = np.tile(priors.coefficient[1] / np.where(spread > 0, spread, 1.0), (n_genes, 1))
    sd[:, 0] = priors.intercept[1]
    return centre, sd


@dataclass(frozen=True)
class ZProfile:
    """Log likelihood of the correlation's z in each unit, given the margins.

    Attributes
    ----------
    value : ndarray, shape (n_units, n_nodes)
        At :data:`Z_NODES`.
    """

    value: Array

    def mode(self, log_prior: Array | float = 0.0) -> tuple[float, float]:
        """Mode of a z that all units have, and its standard error."""
        return _parabola(self.value.sum(0) + log_prior)

    def spread(self) -> tuple[float, Array]:
        """Variance of z over units beyond its error (DerSimonian-Laird), and the error in each unit."""
        each = np.array([_parabola(v) for v in self.value])
        z, v = each[:, 0], each[:, 1] ** 2
        w = 1 / v
        q = (w * (z - (w * z).sum() / w.sum()) ** 2).sum()
        return max(0.0, float((q - len(z) + 1) / (w.sum() - (w**2).sum() / w.sum()))), each[:, 1]


def z_profile(rows: Rows, margins: tuple[Margin, Margin], unit: NDArray[np.int64]) -> ZProfile:
    """Profile of a pair on a grid fine enough for a first look."""
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
    """Place and width of the largest of values at the nodes."""
    best = int(np.clip(value.argmax(), 1, len(value) - 2))
    down, mid, up = value[best - 1 : best + 2]
    step = Z_NODES[1] - Z_NODES[0]
    curve = (up - 2 * mid + down) / step**2
    if not curve < 0:
        return float(Z_NODES[value.argmax()]), 1.0
    shift = float(np.clip(-(up - down) / (2 * step) / curve, -step, step))
    return float(Z_NODES[best]) + shift, float(np.clip(1 / np.sqrt(-curve), 0.005, 1.0))
