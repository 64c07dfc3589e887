r"""The joint posterior of a panel of genes, and where its chains start.

.. math::
    x_{ij} \sim Poisson(s_i e^{u_{ij}}),\quad u_i \sim N(m_c, D R_{k(c)} D),\quad
    R_k = cor(Q_k),\quad Q_k \sim IW(m + G - 1, R)

    m_c = x_c\Gamma + d_{k(c)} + b_c,\quad b_c \sim N(0, \Sigma_B),\quad d_k \sim N(0, \Sigma_D)

The vectors have one entry for each of the G genes; i is a cell, c its sample, k(c) the donor of the
sample (without ``block=`` each sample has a donor of its own, and there are no d). Every covariance
matrix is positive definite in every draw.

The correlation matrix within samples :math:`R_k` of a donor varies around the matrix R of the
population; the standard deviations D are those of all samples. An inverse Wishart matrix of which
genes are left out is one of the other genes with the same m, so that the model of a pair does not
depend on the panel. Fisher's z of the pair varies as that of m + 2 observations does: around 0 it
has the standard deviation :math:`\tau = \sqrt{\psi'(m / 2) / 2}`, which is about the same
around other values, and :math:`1/\sqrt{m}` for large m. Tau has the prior of the pairs' model.
Without heterogeneity all :math:`R_k = R`.

Its standard deviations have the priors of the pairs' model. Its correlation matrix has the density

.. math::
    p(R) \propto |R|^{-(\nu + G + 1) / 2} \prod_j \{(R^{-1})_{jj}\}^{-\nu / 2},\quad
    \nu = 2\eta + G - 1,

that of the correlations of an inverse Wishart matrix (Barnard et al. 2000), whatever the standard
deviations. Each correlation then has the density :math:`(1 - \rho^2)^{\eta - 1}` of ``lkj(eta)``
for two genes, whatever the number of genes G; under an LKJ prior of the matrix it would get
narrower with each gene added.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from hiercorr.bayes.margin import Array, Cells, Margin, fit_margin
from hiercorr.bayes.pair import coefficient_prior
from hiercorr.bayes.priors import Priors, read_priors
from hiercorr.bayes.setup import Population, Setup
from hiercorr.errors import InputError
from hiercorr.kernels import bayes, joint, joint_units

REPEATS = 3  # moves of the samples' level per sweep: they cost little
WEIGHT = 20.0  # sweeps that the expected curvature of a row is worth in its average


@dataclass(frozen=True)
class JointModel:
    """The posterior of a panel; genes are in the order of their information, largest first.

    Attributes
    ----------
    order : ndarray of int64, shape (n_genes,)
        Position in the data of each gene of the model.
    cells : tuple
        Counts, depths, samples of cells, first cells and ends of samples, their counts; see
        :func:`hiercorr.kernels.joint.sweep_chain`.
    population : Population
    heterogeneity : bool
        Whether the correlation matrix within samples varies between donors.
    priors : tuple
        Arguments of the kernels.
    margins : tuple of Margin
    """

    order: NDArray[np.int64]
    cells: tuple
    population: Population
    heterogeneity: bool
    priors: tuple
    margins: tuple[Margin, ...]

    @property
    def n_genes(self) -> int:
        """Number of genes."""
        return len(self.order)

    @property
    def population_arguments(self) -> tuple:
        """Arguments of the kernels."""
        p = self.population
        sizes = np.bincount(self.unit, self.cells[4] - self.cells[3]).astype(np.int64)
        varies = self.heterogeneity
        return p.design, p.block, p.blocked, REPEATS, self.unit, sizes, varies

    @property
    def unit(self) -> NDArray[np.int64]:
        """Unit of each sample, all samples of which have the same correlations within samples."""
        block = self.population.block
        return block if self.heterogeneity else np.zeros_like(block)

    @property
    def n_units(self) -> int:
        """Number of units."""
        return int(self.unit.max()) + 1


def make_model(cells: Cells, setup: Setup) -> JointModel:
    """State the joint posterior of a panel.

    Parameters
    ----------
    cells : Cells
    setup : Setup

    Returns
    -------
    JointModel

    Raises
    ------
    InputError
        If an option or a prior of the setup has no place in the joint model.
    """
    check_setup(setup)
    priors, population = setup.priors, setup.population
    margins = [fit_margin(cells.rows(j), 0, priors.log_sd) for j in range(cells.x.shape[1])]
    order = np.argsort([-cells.x[:, j].sum() for j in range(len(margins))], kind="stable")
    margins = [margins[j] for j in order]
    x = np.ascontiguousarray(cells.x[:, order].T, float)
    counts = np.ascontiguousarray(np.add.reduceat(x, cells.starts[:-1], axis=1).T)
    size = np.diff(cells.starts)
    padded = -(-size // joint.LANES) * joint.LANES
    starts = np.append(0, np.cumsum(padded)[:-1])
    place = np.arange(x.shape[1]) + np.repeat(starts - cells.starts[:-1], size)
    wide, depth = np.zeros((len(x), padded.sum())), np.zeros(padded.sum())
    wide[:, place], depth[place] = x, np.exp(cells.log_s)
    sample = np.repeat(np.arange(cells.n_samples), padded)
    arrays = (wide, depth, sample, starts, starts + size, counts)
    centre, spread = coefficient_prior(
        np.stack([m.m for m in margins], 1), population.design, priors
    )
    scalars = (
        float(priors.table["z_within"]["eta"]),
        np.array(priors.row(bayes.SD_WITHIN), float),
        float(priors.table["z_between"]["eta"]),
        np.array(priors.row(bayes.SD_BETWEEN), float),
        centre,
        spread,
        np.array(priors.row(bayes.TAU), float),
    )
    return JointModel(order, arrays, population, setup.heterogeneity, scalars, tuple(margins))


def check_setup(setup: Setup) -> None:
    """Raise an error for options and priors that have no place in the joint model."""
    if setup.structure != "both":
        raise InputError(
            f"method='joint' has correlations at every level: structure={setup.structure!r} "
            "needs method='marginal'"
        )
    _check_priors(setup.priors)


def _check_priors(priors: Priors) -> None:
    for name in ("z_within", "z_between"):
        if priors.table[name]["distribution"] != "lkj":
            raise InputError(
                f"method='joint' needs a prior of {name!r} that is lkj, not "
                f"{priors.describe()[name]}: change it, or use method='marginal'"
            )
    if priors.table["share"] != read_priors().table["share"]:
        raise InputError(
            "the prior of 'share' has no effect with method='joint', where donors and samples have "
            "covariance matrices of their own: leave it out"
        )


@dataclass
class Chain:
    """State of one chain, changed in place by the kernels.

    Attributes
    ----------
    rng : Generator
    state, tuning : tuple
        See :func:`hiercorr.kernels.joint.sweep_chain`.
    adapted : int
        Sweeps of the warm-up so far.
    """

    rng: np.random.Generator
    state: tuple
    tuning: tuple
    adapted: int = field(default=0)


def start_chain(model: JointModel, seed: np.random.SeedSequence) -> Chain:
    """Draw a starting point near the mode of the genes' margins.

    Parameters
    ----------
    model : JointModel
    seed : SeedSequence

    Returns
    -------
    Chain
    """
    rng = np.random.default_rng(seed)
    x, s, sample, *_, counts = model.cells
    g, design, blocked = model.n_genes, model.population.design, model.population.blocked
    n, k = design.shape
    margins = model.margins
    centre, error = (np.stack([getattr(m, a) for m in margins], 1) for a in ("m", "m_se"))
    mean = centre + error * rng.standard_normal((n, g))
    sd = np.exp([m.log_sd + m.log_sd_se * rng.standard_normal() for m in margins])
    coefficient = np.linalg.lstsq(design, mean, rcond=None)[0]
    rest = mean - design @ coefficient
    spread = np.sqrt((rest**2).sum(0) / max(n - k, 1) + 0.01)
    effect = np.zeros((model.population.n_blocks if blocked else 1, g))
    share = np.sqrt(0.5) if blocked else 1.0

    def some(scale: Array) -> Array:
        return np.diag(scale * np.exp(0.3 * rng.standard_normal(g)))

    # The posterior mean of a rate given the count alone, if rates had gamma distributions.
    shape = 1 / np.expm1(sd**2)[:, None]
    typical = np.exp(mean + sd**2 / 2)[sample].T
    rate = typical * (x + shape) / (s * typical + shape)
    u = np.log(rate)
    lam = np.empty_like(u)
    joint.expected(s, u, lam)
    state = (
        u,
        lam,
        mean,
        coefficient,
        effect,
        np.diag(sd),
        some(share * spread),
        some(share * spread),
        *_start_units(model, rng),
    )
    total = counts.sum(0)
    of_deviations = _row_metric(total, sd, model.priors[0])
    of_rates = _row_metric_given_rates(len(sample), sd, model.priors[0])
    tuning = (
        s * rate + 1e-9,
        u + (x - lam) / (s * rate + 1e-9),
        np.zeros_like(u),
        np.zeros_like(u),
        np.zeros(5, np.int64),
        *_row_tuning(*of_deviations),
        *_row_tuning(*of_rates),
        _information(model, s * rate, sd),
        *(np.zeros((model.n_units, g, g)) for _ in range(3)),
    )
    return Chain(rng, state, tuning)


def _start_units(model: JointModel, rng: np.random.Generator) -> tuple[Array, Array]:
    """Draw matrices of units from the prior given some heterogeneity, and degrees of freedom."""
    n, g = model.n_units, model.n_genes
    if not model.heterogeneity:
        return np.eye(g)[None], np.full(1, joint_units.LARGEST)
    df = rng.uniform(0.1, 0.3) ** -2
    inverse = np.tril(rng.standard_normal((n, g, g)), -1)
    diagonal = np.arange(g)
    inverse[:, diagonal, diagonal] = np.sqrt(rng.chisquare(df + diagonal, (n, g)))
    return np.tril(np.linalg.inv(inverse)), np.full(1, df)


def _information(model: JointModel, curvature: Array, sd: Array) -> Array:
    """Return the expected information on z of each pair in each unit, (units, genes, genes)."""
    known = curvature * sd[:, None] ** 2
    known /= 1 + known  # reliability of a cell's log rate
    out = np.zeros((model.n_units, len(sd), len(sd)))
    for unit, a, b in zip(model.unit, *model.cells[3:5], strict=True):
        out[unit] += known[:, a:b] @ known[:, a:b].T
    return out


def _row_tuning(metric: Array, scale: Array) -> tuple[Array, ...]:
    g = len(metric)
    return metric, np.full(g, WEIGHT), scale, np.full(g, 0.9), np.zeros(g, np.int64)


def _row_metric_given_rates(n: int, sd: Array, eta: float) -> tuple[Array, Array]:
    """Return the same as :func:`_row_metric` for rows given the log rates of n cells."""
    g = len(sd)
    metric, scale = np.zeros((g, g, g)), np.zeros((g, g, g))
    for j in range(g):
        a = np.diag(np.full(j + 1, (n + 2 * eta + g) / sd[j] ** 2))
        a[j, j] *= 2
        metric[j, : j + 1, : j + 1] = WEIGHT * a
        scale[j, : j + 1, : j + 1] = np.sqrt(a)
    return metric, scale


def _row_metric(total: Array, sd: Array, eta: float) -> tuple[Array, Array]:
    """Return the expected curvatures of the rows of the root (times their weight), and roots."""
    g = len(sd)
    metric, scale = np.zeros((g, g + 1, g + 1)), np.zeros((g, g + 1, g + 1))
    for j in range(g):
        a = np.diag(np.append(np.full(j + 1, total[j] + (2 * eta + g) / sd[j] ** 2), total[j] + 1))
        a[j, j] += total[j] * sd[j] ** 2
        a[j, j + 1] = a[j + 1, j] = 0.8 * total[j] * sd[j]
        metric[j, : j + 2, : j + 2] = WEIGHT * a
        scale[j, : j + 2, : j + 2] = np.linalg.cholesky(a)
    return metric, scale
