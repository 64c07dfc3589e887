r"""Hierarchical model of correlations: cells in donors, donors in a population, pairs in a panel.

A donor's correlation of a pair is estimated with a sampling variance that follows from the number,
the depth and the moments of its cells. What donors differ in beyond that, :math:`\tau`, is too much
to ask of 3 to 8 numbers; but all pairs of a panel together show how :math:`\tau` is distributed:

.. math:: L_c \sim N(\rho, \lambda_c (v_c + \tau^2)), \quad (\tau, \sigma) \sim G, \quad
          \rho \sim N(0, \sigma^2)

G is a distribution on a grid, estimated by maximum likelihood over all pairs (NPMLE); the factor
:math:`\lambda_c` is larger than 1 for a donor that deviates from the others in most pairs.

References
----------
Robbins 1956; Kiefer & Wolfowitz 1956; Stephens 2017 (adaptive shrinkage); Harville 1977 (REML).
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from hiercorr import kernels
from hiercorr.errors import InputError
from hiercorr.inference import posterior
from hiercorr.inference.derived import Derivation
from hiercorr.inference.mixtures import mixture
from hiercorr.runtime.compile import over_ranges

Array = NDArray[np.float64]

COMPILED_FROM = 2_000_000  # pairs of a fit, for which compilation (13 s, once) pays
VALUES_FROM = 40_000_000  # the same, pairs x donors
WEIGHTS = ("adaptive", "equal", "information")
TAU = np.array([0, 0.03, 0.06, 0.1, 0.15, 0.2, 0.3, 0.45, 0.7])
FLIP = np.array([0.1, 0.15, 0.2, 0.3, 0.45, 0.6])
SIGMA = np.array([0, 0.05, 0.1, 0.2, 0.4, 0.8])
_NEGLIGIBLE = 1e-3  # prior probability below which a point of the grid is left out
_MEDIAN_CHI2 = 0.45493642311957283  # of 1 degree of freedom
DONOR_ROUNDS = 8
_LARGEST_INFLATION = 50.0
_LEAST_INFORMATIVE, _MOST_INFORMATIVE = 500, 10_000  # pairs
ABSENT = posterior.ABSENT
NOTICEABLE = 0.15  # tau that a few donors can tell from 0
_LEAST_TOLD = 60  # pairs


@dataclass(frozen=True)
class HeterogeneityPrior:
    """Distribution of the heterogeneity between donors over the pairs of a panel.

    Attributes
    ----------
    tau : ndarray, shape (n_taus,)
        Grid of the standard deviation between donors, on the scale of the correlation.
    weight : ndarray, shape (n_taus,)
        Distribution of tau over all pairs, whatever their mean correlation: for tests.
    flip, flip_weight : ndarray, shape (n_flips,)
        Grid of b and its distribution over pairs whose donors have a correlation of b or -b by
        chance; adds up to 1 with `weight`.
    sigma : ndarray, shape (n_sigmas,)
        Grid of the standard deviation of the mean correlation over pairs.
    joint : ndarray, shape (n_taus, n_sigmas)
        Distribution of tau and sigma over all pairs: for estimates and intervals.
    inflation : ndarray, shape (n_donors,)
        Factor of each donor's variance, at least 1.
    n_pairs : int
        Number of pairs that the distribution was learnt from.
    heterogeneous : float or None
        Proportion of pairs with a tau of at least 0.15; None if :func:`tell_tau` is false.
    """

    tau: Array
    weight: Array
    flip: Array
    flip_weight: Array
    sigma: Array
    joint: Array
    inflation: Array
    n_pairs: int
    heterogeneous: float | None


def _at_every_tau(
    effects: Array, variances: Array, inflation: Array, taus: Array = TAU
) -> tuple[Array, Array, Array]:
    """Compute mean, variance and restricted log likelihood at every tau, (n_taus, n_pairs) each."""
    mean, variance, level = (np.empty((len(taus), effects.shape[1])) for _ in range(3))
    for a, tau in enumerate(taus):
        spread = inflation[:, None] * (variances + tau**2)
        w = 1 / spread
        variance[a] = 1 / w.sum(0)
        mean[a] = (w * effects).sum(0) * variance[a]
        squares = (w * (effects - mean[a]) ** 2).sum(0)
        level[a] = 0.5 * (np.log(variance[a]) - np.log(spread).sum(0) - squares)
    return mean, variance, level


def likelihood_at_every_tau(effects: Array, variances: Array) -> Array:
    """Compute the restricted log likelihood at every tau, (n_taus, n_pairs).

    Parameters
    ----------
    effects, variances : ndarray, shape (k, n_pairs)
        Estimates and their sampling variances, large where there is no information.
    """
    return _at_every_tau(effects, variances, np.ones(len(effects)))[2]


def _by_chance(effects: Array, variances: Array, sizes: Array = FLIP) -> Array:
    """Compute the restricted log likelihood of correlations +-b, (n_flips, n_pairs).

    All donors have the same size, and signs as tossed by a coin: of the patterns of signs, that of
    the data and those in which all agree count.
    """
    w = 1 / variances
    total, moment = w.sum(0), (w * effects).sum(0)
    squares, size = (w * effects**2).sum(0), (w * np.abs(effects)).sum(0)
    signs = (w * np.sign(effects)).sum(0)
    start = 0.5 * (np.log(w).sum(0) - np.log(total))
    start = start + (1 - (variances < ABSENT).sum(0)) * np.log(2)
    agree = start - 0.5 * (squares - moment**2 / total)
    out = np.empty((len(sizes), effects.shape[1]))
    for k, b in enumerate(sizes):
        rest = moment - b * signs
        seen = start - 0.5 * (squares - 2 * b * size + b * b * total - rest**2 / total)
        seen[np.abs(signs) > 0.999999 * total] = -np.inf
        out[k] = np.logaddexp(agree, seen)
    return out


def likelihood_of_pairs(
    effects: Array, variances: Array, inflation: Array, taus: Array = TAU, flips: Array = FLIP
) -> Array:
    """Compute the likelihood of every tau and flip, (n_taus + n_flips, n_pairs); the largest is 1.

    Parameters
    ----------
    effects, variances : ndarray, shape (n_donors, n_pairs)
        0 and 1e30 where a donor has no information.
    inflation : ndarray, shape (n_donors,)
        Factor of each donor's variance.
    taus, flips : ndarray
        Points of both grids to use.
    """
    level = _at_every_tau(effects, variances, inflation, taus)[2]
    chance = _by_chance(effects, inflation[:, None] * variances, flips)
    both = np.concatenate([level, chance])
    return np.exp(both - both.max(0))


def pruned(weight: Array) -> Array:
    """Leave out points of the grid with a probability below 0.001."""
    kept = np.where(weight >= _NEGLIGIBLE, weight, 0.0)
    return kept / kept.sum()


def informative(variances: Array) -> NDArray[np.int64]:
    """Choose the pairs that can tell tau from 0: donors' standard errors of at most 0.3.

    At least 500 and at most 10,000 pairs are kept. In pairs of sparser genes, the heavy tails of
    sums of few counts would pass for heterogeneity.
    """
    typical = len(variances) / (1 / variances).sum(0)
    limit = posterior.INFORMATIVE
    if (typical <= limit).sum() < _LEAST_INFORMATIVE:
        limit = np.sort(typical)[:_LEAST_INFORMATIVE][-1]
    kept = np.flatnonzero(typical <= limit)
    return kept[:: -(-len(kept) // _MOST_INFORMATIVE)]


def tell_tau(variances: Array) -> bool:
    """Check whether a panel can tell how many of its pairs differ between donors.

    At least 60 pairs, and half of all, must have donors with standard errors of at most 0.3.

    Parameters
    ----------
    variances : ndarray, shape (n_donors, n_pairs)
    """
    shown = posterior.shows_tau((variances < ABSENT).sum(0), (1 / variances).sum(0))
    return bool(shown.sum() >= max(_LEAST_TOLD, shown.size / 2))


def updated_inflation(square: Array, inflation: Array) -> Array:
    """Correct donors' factors by the medians over pairs of their squared standardised residuals.

    The factors are relative to the median donor's; `square` is NaN where it is not known.
    """
    found = np.ones(len(square))
    known = np.isfinite(square).any(1)
    found[known] = np.nanmedian(square[known], axis=1) / _MEDIAN_CHI2
    found *= inflation
    return np.clip(found / max(1.0, float(np.median(found))), 1.0, _LARGEST_INFLATION)


def _inflation(effects: Array, variances: Array) -> Array:
    """Estimate how much more each donor deviates than the others do, over all pairs.

    The median over pairs of a donor's squared standardised residual is compared with that of the
    median donor, so that pairs that differ between donors do not decide.
    """
    inflation = np.ones(len(effects))
    for _ in range(DONOR_ROUNDS):
        _, _, level = _at_every_tau(effects, variances, inflation)
        likelihood = np.exp(level - level.max(0))
        weight = mixture(likelihood)
        posterior = weight[:, None] * likelihood
        posterior /= posterior.sum(0)
        tau2 = (posterior * TAU[:, None] ** 2).sum(0)
        spread = inflation[:, None] * (variances + tau2)
        w = 1 / spread
        total = w.sum(0)
        residual = effects - (w * effects).sum(0) / total
        left = np.maximum(1 - w / total, 1e-3)
        square = np.where(variances < ABSENT, residual**2 / (spread * left), np.nan)
        new = updated_inflation(square, inflation)
        done = np.abs(np.log(new / inflation)).max() < 0.02
        inflation = new
        if done:
            break
    return inflation


def learn_prior(effects: Array, variances: Array) -> HeterogeneityPrior:
    r"""Learn how the correlations of a panel differ between donors.

    Parameters
    ----------
    effects, variances : ndarray, shape (n_donors, n_pairs)
        Correlation of each pair in each donor, and its sampling variance; NaN where a donor has no
        information. Pairs in fewer than 3 donors are left out.

    Returns
    -------
    HeterogeneityPrior

    Raises
    ------
    InputError
        If no pair can be estimated in at least 3 donors.

    Examples
    --------
    >>> import numpy as np
    >>> rng = np.random.default_rng(1)
    >>> tau = np.repeat([0.0, 0.3], [900, 100])
    >>> effects = rng.normal(0, np.sqrt(0.05**2 + tau**2), (6, 1000))
    >>> prior = learn_prior(effects, np.full((6, 1000), 0.05**2))
    >>> round(prior.heterogeneous, 1)
    0.1
    """
    x, v = np.asarray(effects, float), np.asarray(variances, float)
    present = np.isfinite(x) & (v < ABSENT) & (v > 0)
    known = present.sum(0) >= 3
    if not known.any():
        raise InputError(
            "no pair can be estimated in at least 3 donors: the distribution of tau is unknown"
        )
    x, v = (np.where(present, x, 0.0)[:, known], np.where(present, v, ABSENT)[:, known])
    kept = informative(v)
    x, v = x[:, kept], v[:, kept]
    inflation = _inflation(x, v)
    mean, variance, level = _at_every_tau(x, v, inflation)
    weight = pruned(mixture(likelihood_of_pairs(x, v, inflation)))
    spread = variance[:, None] + SIGMA[:, None] ** 2
    both = level[:, None] - 0.5 * (np.log(spread) + mean[:, None] ** 2 / spread)
    both = both.reshape(-1, both.shape[2])
    joint = pruned(mixture(np.exp(both - both.max(0)))).reshape(len(TAU), len(SIGMA))
    return HeterogeneityPrior(
        TAU,
        weight[: len(TAU)],
        FLIP,
        weight[len(TAU) :],
        SIGMA,
        joint,
        inflation,
        x.shape[1],
        float(joint[TAU >= NOTICEABLE].sum()) if tell_tau(v) else None,
    )


@dataclass(frozen=True)
class DonorGenes:
    """What the hierarchical model needs to know of the genes of one side of a tile.

    Attributes
    ----------
    phi : ndarray, shape (n_genes,)
        Variance of each gene; -1 where it has none.
    scale : ndarray, shape (n_donors, n_genes)
        1 / sqrt of each donor's variance relative to it, shrunk towards 1 by its reliability.
    share : ndarray, shape (n_donors, n_genes)
        Proportion of the variance of a cell's weighted residual that is not counting noise.
    skewness : ndarray, shape (n_donors, n_genes)
        Factors of the skewness of N_c: that of a pair is the product of its genes'.
    noise : ndarray, shape (n_genes,)
        Relative sampling variance of `phi`.
    factor : ndarray, shape (n_taus + n_flips, n_genes), optional
        Factors of the prior of each tau and flip (:mod:`hiercorr.inference.gene_factors`).
    """

    phi: Array
    scale: Array
    share: Array
    skewness: Array
    noise: Array
    factor: Array | None = None

    def __getitem__(self, genes: slice | NDArray[np.int64]) -> DonorGenes:
        """Return the same for some of the genes."""
        parts = (np.ascontiguousarray(a[:, genes]) for a in (self.scale, self.share, self.skewness))
        scale, share, skewness = parts
        factor = None if self.factor is None else np.ascontiguousarray(self.factor[:, genes])
        return DonorGenes(self.phi[genes], scale, share, skewness, self.noise[genes], factor)

    @property
    def factors(self) -> Array:
        """The factors, 1 if there are none."""
        if self.factor is not None:
            return self.factor
        return np.ones((len(TAU) + len(FLIP), len(self.phi)))

    def of_rows(self, rows: slice) -> posterior.Sides:
        """Return some of the genes as the rows of a block."""
        return self._side((slice(None), rows, None))

    def of_columns(self, columns: slice) -> posterior.Sides:
        """Return some of the genes as the columns of a block."""
        return self._side((slice(None), None, columns))

    def _side(self, at: tuple[slice | None, ...]) -> posterior.Sides:
        return posterior.Sides(
            self.phi[None][at],
            self.scale[at],
            self.share[at],
            self.skewness[at],
            self.noise[None][at],
            None if self.factor is None else self.factor[at],
        )


def donor_effects(
    num: NDArray, den: NDArray, noise: NDArray, left: DonorGenes, right: DonorGenes
) -> tuple[Array, Array]:
    r"""Estimate the correlation of each pair in each donor, and its sampling variance.

    .. math:: L_c = \frac{N_c}{D_c} \frac{a_{cj} a_{ck}}{\sqrt{\phi_j\phi_k}}, \quad
              v_c = \frac{E_c}{D_c^2} \frac{a_{cj}^2 a_{ck}^2}{\phi_j \phi_k}
              (1 + \tilde\rho^2 h_{cj} h_{ck})

    E_c is the variance of N_c without correlation, a and h are ``scale`` and ``share`` of the
    genes, and :math:`\tilde\rho` is the correlation over all donors, shrunk by its reliability:
    with the estimate in its place, large chance correlations would get large variances.

    Parameters
    ----------
    num, den, noise : ndarray, shape (n_donors, left, right)
        Sums N_c and D_c, and E_c.
    left, right : DonorGenes

    Returns
    -------
    effects, variances : ndarray, shape (n_donors, left, right)
        0 and 1e30 where a donor has no information on the pair.
    """
    found = np.empty((2, *num.shape))
    one = np.ones((len(num), 1, 1))
    for rows, columns in _blocks(num.shape):
        n, d, e = (part[:, rows, columns] for part in (num, den, noise))
        found[:, :, rows, columns] = posterior.effects(
            n, d, e, left.of_rows(rows), right.of_columns(columns), one
        )
    return found[0], found[1]


def _blocks(shape: tuple[int, ...], symmetric: bool = False) -> list[tuple[slice, slice]]:
    """Divide a tile (donors, rows, columns) into blocks; half of it if it is symmetric."""
    out = []
    n_donors, rows, columns = shape
    size = posterior.block_size(n_donors)
    start = 0
    while start < rows:
        first = start if symmetric else 0
        height = min(max(1, size // max(columns - first, 1)), rows - start)
        out += [
            (slice(start, start + height), slice(a, min(a + size, columns)))
            for a in range(first, columns, size)
        ]
        start += height
    return out


@dataclass(frozen=True)
class HierarchicalEstimate:
    """Mean correlations over donors of the pairs of one tile; arrays are (left, right).

    Attributes
    ----------
    correlation : ndarray
        Mean over donors, not clipped.
    table : dict of ndarray
        ``fisher_z``, ``fisher_z_se``, ``se``, ``ci_lower``, ``ci_upper``, ``statistic`` (normal
        score of the p-value), ``df`` (infinite), ``p_value``, and ``tau``, the square root of the
        posterior mean of tau^2, NaN where donors' correlations have standard errors above 0.3
        or the panel could not tell tau.
    largest_share : ndarray
        Largest weight of one donor.
    """

    correlation: NDArray
    table: dict[str, NDArray]
    largest_share: NDArray


def hierarchical_estimate(
    sums: tuple[NDArray, NDArray, NDArray],
    sides: tuple[DonorGenes, DonorGenes],
    prior: HeterogeneityPrior,
    weights: str = "adaptive",
    confidence: float = 0.95,
    symmetric: bool = False,
) -> HierarchicalEstimate:
    r"""Estimate the mean correlation over donors of every pair of a tile.

    At each tau of the grid the mean is :math:`m_\tau = \sum w_c L_c / \sum w_c` with variance
    :math:`V_\tau`, and the residuals give tau a restricted likelihood. The p-value averages
    those at each tau over the posterior of tau given the residuals alone,

    .. math:: p = \sum_\tau \Pr(\tau \mid L_c - m_\tau)\; 2\Phi(-|m_\tau| / \sqrt{V_\tau}),

    which is uniform over the null pairs of a panel for which the distribution of tau is known.
    Pairs whose correlation is b or -b in every donor, by chance, are part of that distribution:
    with few donors all may agree, and what the panel says of their number goes into the p-value.
    The normal score is corrected for the skewness of sums of few counts. Estimate and interval use
    the posterior given the mean as well, as correlated pairs differ more between donors than
    others, and include the uncertainty of the variances that the correlation is scaled by.

    Parameters
    ----------
    sums : tuple of ndarray, shape (n_donors, left, right)
        N_c, D_c and E_c, see :func:`donor_effects`.
    sides : pair of DonorGenes
        Genes of both sides.
    prior : HeterogeneityPrior
    weights : {"adaptive", "equal", "information"}
        1 / (tau^2 + v_c), equal, or D_c.
    confidence : float
        Confidence level of the intervals.
    symmetric : bool
        Whether both sides are the same genes: half of the pairs are computed.

    Returns
    -------
    HierarchicalEstimate
    """
    found = average_over_donors(sums, sides, prior, weights, symmetric)
    base = {**found.table, "correlation_unclipped": found.correlation}
    return replace(found, table=found.table | Derivation("normal", confidence)(base))


def average_over_donors(
    sums: tuple[NDArray, NDArray, NDArray],
    sides: tuple[DonorGenes, DonorGenes],
    prior: HeterogeneityPrior,
    weights: str = "adaptive",
    symmetric: bool = False,
    n_pairs: int | None = None,
) -> HierarchicalEstimate:
    """Compute what :func:`hierarchical_estimate` does, without the variables that follow from it.

    Parameters
    ----------
    sums, sides, prior, weights, symmetric
        As for :func:`hierarchical_estimate`.
    n_pairs : int, optional
        Number of pairs of all tiles: compiled loops are used for many. None: those of this tile.

    Returns
    -------
    HierarchicalEstimate
        Its table contains ``se``, ``tau``, ``statistic`` and ``p_value``.
    """
    left, right = sides
    shape, dtype = sums[0].shape[1:], sums[0].dtype
    names = ("correlation", "se", "tau", "statistic", "p_value")
    out = {name: np.full(shape, np.nan, dtype) for name in names}
    largest = np.full(shape, np.nan, np.float32)
    work = largest.size if n_pairs is None else n_pairs
    if work < COMPILED_FROM and work * len(sums[0]) < VALUES_FROM:
        grid, blocks = _grid(prior), _blocks(sums[0].shape, symmetric)

        def estimate(begin: int, end: int) -> None:
            for rows, columns in blocks[begin:end]:
                num, den, noise = (part[:, rows, columns] for part in sums)
                genes = left.of_rows(rows), right.of_columns(columns)
                found = posterior.estimate_block(
                    num, den, noise, genes, prior.inflation, grid, weights
                )
                for name, values in _variables(found).items():
                    out[name][rows, columns] = values
                largest[rows, columns] = found.largest

        over_ranges(estimate, len(blocks))
    else:
        _compiled(sums, sides, prior, weights, symmetric, out, largest)
    if prior.heterogeneous is None:
        out["tau"][:] = np.nan
    if symmetric:
        for array in (*out.values(), largest):
            kernels.squares.mirror(array)
    return HierarchicalEstimate(out.pop("correlation"), out, largest)


def _variables(found: posterior.BlockEstimate) -> dict[str, Array]:
    """Return the variables of a block."""
    return {
        "correlation": found.mean,
        "se": found.sd,
        "tau": found.tau,
        "statistic": np.copysign(posterior.normal_score(found.p), found.mean),
        "p_value": found.p,
    }


def _compiled(
    sums: tuple[NDArray, NDArray, NDArray],
    sides: tuple[DonorGenes, DonorGenes],
    prior: HeterogeneityPrior,
    weights: str,
    symmetric: bool,
    out: dict[str, NDArray],
    largest: NDArray,
) -> None:
    """Fill the variables of a tile by compiled loops."""
    left, right = sides
    grid = _grid(prior)
    points = [(a, w, s2) for a, parts in grid.points for w, s2 in parts]
    flips = np.array(grid.flips).reshape(-1, 2)
    at, weight, sigma2 = (np.array(column) for column in zip(*points, strict=True))
    kernels.heterogeneity.posterior(
        sums,
        (
            left.phi,
            right.phi,
            left.scale,
            right.scale,
            left.share,
            right.share,
            left.skewness,
            right.skewness,
            left.noise,
            right.noise,
            np.ascontiguousarray(left.factors[grid.positions]),
            np.ascontiguousarray(right.factors[grid.positions]),
        ),
        prior.inflation,
        (
            grid.tau2,
            grid.null,
            at.astype(np.int64),
            weight,
            sigma2,
            np.ascontiguousarray(flips[:, 0]),
            np.ascontiguousarray(flips[:, 1]),
        ),
        WEIGHTS.index(weights),
        posterior.INFORMATIVE,
        symmetric,
        tuple(out[k] for k in ("correlation", "se", "tau")),
        (out["statistic"], out["p_value"], largest),
    )


def _grid(prior: HeterogeneityPrior) -> posterior.Grid:
    """Leave out points without a probability, except tau = 0."""
    needed = np.flatnonzero((prior.weight > 0) | (prior.joint > 0).any(1) | (prior.tau == 0))
    points = [
        (a, [(float(w), float(s) ** 2) for w, s in zip(row, prior.sigma, strict=True) if w > 0])
        for a, row in enumerate(prior.joint[needed])
    ]
    flips = np.flatnonzero(prior.flip_weight > 0)
    return posterior.Grid(
        prior.tau[needed] ** 2,
        prior.weight[needed],
        [(a, parts) for a, parts in points if parts],
        [(float(prior.flip[k]), float(prior.flip_weight[k])) for k in flips],
        np.concatenate([needed, len(prior.tau) + flips]),
    )
