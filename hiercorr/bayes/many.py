r"""One gene against thousands: empirical Bayes with every integral on a grid, no Markov chain.

Each gene's margin is fitted once. The likelihood of a pair in each sample is then a curve in z, and

.. math:: p(\zeta, \tau | x) \propto p(\zeta)\,p(\tau) \int \prod_c \sum_z N(z; \zeta, \tau^2)\,
          e^{\ell_c(z) + \delta' t_c(z)}\; N(\delta; 0, V)\, d\delta

is summed exactly over z and tau. :math:`\delta` are the errors of the two log standard deviations,
and t the derivatives of the log likelihood along the ridges of the margins: without them intervals
are too short. They are integrated by a cubature of five points. Between samples, the means are
normal with known noise, and both standard deviations and z lie on a grid.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray
from scipy import interpolate, optimize, special

from hiercorr.bayes import sparse_prior, tables
from hiercorr.bayes.collected import PAIR, joined
from hiercorr.bayes.margin import MEAN_SD, NODES, Array, Margin, Rows, fit_margin
from hiercorr.bayes.pair import Z_NODES
from hiercorr.bayes.priors import Acting, Priors
from hiercorr.bayes.setup import Intervals, Setup
from hiercorr.counts.counts import Counts
from hiercorr.counts.names import FeatureNames, refuse_repeated
from hiercorr.errors import (
    MAX_REPEATS,
    InputError,
    listed,
    one_of,
    true_or_false,
    valid_seed,
    whole_number,
)
from hiercorr.inference.credible import highest_density
from hiercorr.kernels import bayes as kernels
from hiercorr.results.result import CorrelationResult
from hiercorr.runtime import blas
from hiercorr.runtime.progress import shown
from hiercorr.runtime.resources import cores
from hiercorr.schema import Flag, build_dataset
from hiercorr.simulate import natural_correlation

FINE = np.arange(-130, 131) / 50  # 0 is one of them
TAUS = np.array([0.0, 0.05, 0.1, 0.15, 0.2, 0.25, 0.3, 0.4, 0.5, 0.65, 0.8, 1.0])
SHRINKAGE = ("sparse",)
_CUBATURE = np.sqrt(3.0)  # of degree 3 for a normal in two dimensions, with a central point


@dataclass(frozen=True)
class Curves:
    """Log likelihoods of one pair, before the priors of zeta and of z between samples.

    Attributes
    ----------
    zeta : ndarray, shape (n_fine,)
        Log likelihood of zeta, with tau and the standard deviations integrated out.
    tau : ndarray, shape (n_taus,)
        Log posterior mass of tau, given the prior of zeta.
    between : ndarray, shape (n_fine,)
        Log likelihood of z between samples, with the standard deviations integrated out.
    sd : float
        Standard deviation of the partner's log expression within samples.
    coarse : bool
        Whether the likelihood has its maximum at an end of the grid of z.
    joint : ndarray, shape (n_taus, n_fine), optional
        Log likelihood of tau and zeta, with the standard deviations integrated out.
    """

    zeta: Array
    tau: Array
    between: Array
    sd: float
    coarse: bool
    joint: NDArray | None = None


@lru_cache(maxsize=1)
def _spline() -> Array:
    """Return the matrix that interpolates from the nodes to the fine grid by cubic splines."""
    return np.asarray(interpolate.CubicSpline(Z_NODES, np.eye(len(Z_NODES)))(FINE))


@lru_cache(maxsize=1)
def _spreads() -> Array:
    """Return normal weights of z around each zeta for each tau, shape (taus, zeta, z)."""
    out = np.empty((len(TAUS), len(FINE), len(FINE)))
    for k, tau in enumerate(TAUS):
        if tau == 0:
            out[k] = np.eye(len(FINE))
            continue
        w = np.exp(-0.5 * ((FINE - FINE[:, None]) / tau) ** 2)
        out[k] = w / w.sum(1, keepdims=True)
    return out


def log_prior(priors: Priors, k: int, x: Array) -> Array:
    """Evaluate the log prior density of the k-th scalar on the scale that is sampled."""
    row = priors.row(k)
    return np.array([kernels.log_prior(v, *row)[0] for v in x])


def tau_weights(priors: Priors, heterogeneity: bool) -> tuple[NDArray[np.int64], Array]:
    """Return the positions of the taus to sum over, and the log prior mass of each."""
    if not heterogeneity:
        return np.array([0]), np.zeros(1)
    edges = np.append(0.0, np.append((TAUS[1:] + TAUS[:-1]) / 2, TAUS[-1] + 0.1))
    x = np.maximum(TAUS, 0.0125)
    density = np.exp(log_prior(priors, kernels.TAU, np.log(x))) / x  # of tau, not of its logarithm
    mass = density * np.diff(edges)
    return np.arange(len(TAUS)), np.log(mass / mass.sum())


class Columns:
    """Dense columns of a few genes of sparse counts, and their margins.

    Parameters
    ----------
    counts : Counts
    priors : Priors
    """

    def __init__(self, counts: Counts, priors: Priors) -> None:
        self.counts, self.priors = counts, priors
        self.log_s = np.log(counts.depth / counts.depth.mean())

    def dense(self, j: int) -> NDArray[np.int64]:
        """Return the counts of one gene in every cell."""
        x = np.zeros(self.counts.n_cells, np.int64)
        a, b = self.counts.offsets[j, [0, -1]]
        x[self.counts.rows[a:b]] = self.counts.values[a:b]
        return x

    def rows(self, *columns: NDArray[np.int64]) -> Rows:
        """Return the cells as rows for these columns; cells with equal counts are compressed."""
        key = columns[0] if len(columns) == 1 else columns[0] * (columns[1].max() + 1) + columns[1]
        cell, log_s, weight, starts = kernels.gauss_rows(key, self.log_s, self.counts.starts, NODES)
        x = np.stack([c[cell] for c in columns], 1).astype(float)
        return Rows(x, np.repeat(log_s[:, None], x.shape[1], 1), weight, starts)

    def margin(self, x: NDArray[np.int64]) -> Margin:
        """Fit the margin of a column."""
        return fit_margin(self.rows(x), 0, self.priors.log_sd)


def pair_curves(
    rows: Rows,
    margins: tuple[Margin, Margin],
    cells: NDArray[np.int64],
    design: Array,
    priors: Priors,
    heterogeneity: bool,
    sd_errors: bool = True,
    joint: bool = False,
) -> Curves:
    """Compute the log likelihoods of one pair at both levels.

    Parameters
    ----------
    rows : Rows
    margins : tuple of Margin
    cells : ndarray of int, shape (n_samples,)
        Number of cells per sample.
    design : ndarray, shape (n_samples, n_coefficients)
    priors : Priors
    heterogeneity : bool
    sd_errors : bool
        Integrate over the errors of the standard deviations.
    joint : bool
        Keep the likelihood of tau and zeta together.

    Returns
    -------
    Curves
    """
    a, b = margins
    grids = [m.grid(0.5) for m in margins]
    pa, pb = (rows.table(g, *grid) for g, grid in enumerate(grids))
    found = kernels.z_profile_slopes(
        Z_NODES,
        pa,
        pb,
        rows.weight,
        rows.starts,
        a.m,
        b.m,
        a.sd_of_samples,
        b.sd_of_samples,
        a.slope,
        b.slope,
        grids[0][0],
        grids[0][1],
        grids[1][0],
        grids[1][1],
    )
    value, tilt_a, tilt_b = (v @ _spline().T for v in _extrapolated(*found))
    middle = len(FINE) // 2
    tilt_a, tilt_b = tilt_a - tilt_a[:, [middle]], tilt_b - tilt_b[:, [middle]]
    which, log_mass = tau_weights(priors, heterogeneity)
    total = np.full((len(which), len(FINE)), -np.inf)
    se_a, se_b = (min(m.log_sd_se, 0.5) * _CUBATURE for m in margins)
    points = [
        (0.0, 0.0, 1 / 3),
        (se_a, 0.0, 1 / 6),
        (-se_a, 0.0, 1 / 6),
        (0.0, se_b, 1 / 6),
        (0.0, -se_b, 1 / 6),
    ]
    for da, db, weight in points if sd_errors else [(0.0, 0.0, 1.0)]:
        curve = value + da * tilt_a + db * tilt_b
        top = curve.max(1, keepdims=True)
        like = np.exp(curve - top).T  # (z, samples)
        with np.errstate(divide="ignore"):
            each = np.log(_spreads()[which] @ like).sum(2) + top.sum()
        total = np.logaddexp(total, each + np.log(weight))
    together = (total - total.max()).astype(np.float32) if joint else None
    total = total + log_mass[:, None]
    zeta = special.logsumexp(total, axis=0)
    tau = special.logsumexp(total + log_prior(priors, kernels.Z_WITHIN, FINE), axis=1)
    best = int(zeta.argmax())
    between = _between(margins, float(np.tanh(FINE[best])), cells, design, priors)
    return Curves(zeta, tau, between, b.sd, best in (0, len(FINE) - 1), together)


def _extrapolated(value: Array, *slopes: Array) -> tuple[Array, ...]:
    """Continue log likelihoods as parabolas where the likelihood underflows to 0."""
    for c, row in enumerate(value):
        known = np.isfinite(row) & np.all([np.isfinite(s[c]) for s in slopes], axis=0)
        if known.all():
            continue
        row[~known] = np.nan
        best = int(np.where(np.isfinite(row), row, -np.inf).argmax())
        for way, end in ((1, len(row)), (-1, -1)):
            for k in range(best + way, end, way):
                if np.isfinite(row[k]):
                    continue
                p = [
                    row[k - way * i] if 0 <= k - way * i < len(row) else row[best]
                    for i in (1, 2, 3)
                ]
                row[k] = (
                    min(3 * p[0] - 3 * p[1] + p[2], p[0] - 10)
                    if np.isfinite(p).all()
                    else p[0] - 100
                )
                for slope in slopes:
                    slope[c, k] = slope[c, k - way]
    return value, *slopes


def _between(
    margins: tuple[Margin, Margin],
    rho: float,
    cells: NDArray[np.int64],
    design: Array,
    priors: Priors,
) -> Array:
    """Compute the log likelihood of z between samples; `rho` is the correlation within samples."""
    means, variances = [], []
    for m in margins:  # removes the weak prior of the means
        precision = np.maximum(1 / m.m_se**2 - 1 / MEAN_SD**2, 1e-3)
        means.append((m.m / m.m_se**2 - m.prior_mean / MEAN_SD**2) / precision)
        variances.append(1 / precision)
    mean = np.stack(means, 1)
    shared = rho * margins[0].sd * margins[1].sd / cells
    limit = 0.99 * np.sqrt(variances[0] * variances[1])
    noise = np.stack([variances[0], np.clip(shared, -limit, limit), variances[1]], 1)
    n, k = design.shape
    centre = mean.mean(0)
    fitted = design @ np.linalg.lstsq(design, mean - centre, rcond=None)[0] + centre
    excess = ((mean - fitted) ** 2).sum(0) / max(n - k, 1) - noise[:, [0, 2]].mean(0)
    width = 1 / np.sqrt(2 * max(n - k, 1)) + 0.05
    steps = np.linspace(-2.6, 2.6, 11) * width
    grids = [0.5 * np.log(max(v, 0.15**2)) + steps for v in excess]
    coarse = FINE[::8]
    value = kernels.between_posterior(mean - centre, noise, design, grids[0], grids[1], coarse)
    value += (
        log_prior(priors, kernels.SD_BETWEEN, grids[0])[:, None, None]
        + log_prior(priors, kernels.SD_BETWEEN, grids[1])[None, :, None]
    )
    out = special.logsumexp(value, axis=(0, 1))
    return np.asarray(interpolate.CubicSpline(coarse, out, extrapolate=True)(FINE))


def shrunken_prior(curves: Array) -> tuple[float, float]:
    """Estimate the mean and standard deviation of zeta over pairs by marginal likelihood.

    Parameters
    ----------
    curves : ndarray, shape (n_pairs, n_fine)
        Log likelihoods of zeta.

    Returns
    -------
    mean, sd : float
    """
    like = np.exp(curves - curves.max(1, keepdims=True))

    def negative(p: Array) -> float:
        log_w = -0.5 * ((FINE - p[0]) / np.exp(np.clip(p[1], -5.0, 3.0))) ** 2
        w = np.exp(log_w - log_w.max())
        return float(-np.log(like @ (w / w.sum()) + 1e-300).sum())

    best = optimize.minimize(
        negative, [0.0, np.log(0.3)], method="Nelder-Mead", options={"xatol": 1e-3}
    )
    return float(best.x[0]), float(np.clip(np.exp(best.x[1]), 0.03, 2.0))


def grid_draws(log_density: Array, n: int, rng: np.random.Generator) -> Array:
    """Draw from densities on the fine grid, stratified and in random order.

    Parameters
    ----------
    log_density : ndarray, shape (n_pairs, n_fine)
    n : int
        Number of draws.
    rng : Generator

    Returns
    -------
    ndarray, shape (n, n_pairs)
    """
    density = np.exp(log_density - log_density.max(1, keepdims=True))
    step = FINE[1] - FINE[0]
    trapezoid = (density[:, 1:] + density[:, :-1]) / 2 * step
    cdf = np.concatenate([np.zeros((len(density), 1)), np.cumsum(trapezoid, 1)], 1)
    cdf /= cdf[:, -1:]
    out = np.empty((n, len(density)))
    for k, row in enumerate(cdf):
        u = (np.arange(n) + rng.random(n)) / n
        out[:, k] = rng.permutation(np.interp(u, row, FINE))
    return out


@dataclass(frozen=True)
class ManyOptions:
    """Options of the fit, checked; see :meth:`hiercorr.BayesianCorrelation.fit_many`."""

    shrink: bool | str
    draws: int
    intervals: Intervals
    seed: int | np.random.Generator | None
    n_jobs: int | None
    progress: bool | None

    def __post_init__(self) -> None:
        """Check the options that are not checked by their own class."""
        if isinstance(self.shrink, str):
            one_of("shrink", self.shrink, (False, True, *SHRINKAGE))
        else:
            true_or_false("shrink", self.shrink)
        whole_number("draws", self.draws, 100, maximum=MAX_REPEATS)
        valid_seed(self.seed)
        whole_number("n_jobs", self.n_jobs, 1, optional=True)
        true_or_false("progress", self.progress, optional=True)


@dataclass(frozen=True)
class _Target:
    """One gene, its partners and the curves of the pairs."""

    counts: Counts
    name: str
    position: int
    partners: list[int]
    sd: float
    curves: list[Curves]


@dataclass(frozen=True)
class _ZPrior:
    """Prior of a Fisher z: log density on the fine grid, variance, and limits of rho."""

    log_density: Array
    variance: float
    limits: tuple[float, float]


def fit_many(
    counts: Counts,
    setup: Setup,
    target: str,
    genes: Sequence[str] | None,
    options: ManyOptions,
    known: FeatureNames,
) -> CorrelationResult:
    """Fit one gene against many; see :meth:`hiercorr.BayesianCorrelation.fit_many`.

    Parameters
    ----------
    counts : Counts
        With the target among the genes.
    setup : Setup
    target : str
    genes : sequence of str, optional
    options : ManyOptions
    known : FeatureNames
        Names of the genes of the model, for those that are unknown.

    Returns
    -------
    CorrelationResult
    """
    started = time.perf_counter()
    fitted = _curves(counts.take(_chosen(counts, target, genes, known)), setup, target, options)
    sparse = _sparse(fitted) if options.shrink == "sparse" else None
    likelihood = np.array([c.zeta for c in fitted.curves])
    acting = setup.acting("grids")
    described = acting.describe()
    priors = {level: _z_prior(acting, level, options.intervals) for level in ("within", "between")}
    if sparse is not None:
        learnt, of_pairs = sparse
        limits = learnt.limits(options.intervals.confidence)
        priors["within"] = _ZPrior(np.log(learnt.mass + 1e-300), learnt.variance, limits)
        described["z_within"] = learnt.describe()
        if setup.heterogeneity:
            described["tau"] = _tau_text(learnt)
    elif options.shrink:
        mean, sd = shrunken_prior(likelihood)
        priors["within"] = _normal_prior(mean, sd, options.intervals)
        described["z_within"] = (
            f"normal(mu={mean:.3g}, sigma={sd:.3g}), estimated from {len(fitted.partners)} pairs"
        )
    rng = np.random.default_rng(options.seed)
    between = np.array([c.between for c in fitted.curves])
    log_within = likelihood + priors["within"].log_density
    if sparse is not None:
        log_within = sparse_prior.log_density(of_pairs)
    z = {
        "within": grid_draws(log_within, options.draws, rng),
        "between": grid_draws(between + priors["between"].log_density, options.draws, rng),
    }
    if sparse is not None:
        z["within"][rng.random(z["within"].shape) < of_pairs.null] = 0.0
    levels = {
        level: tables.pair_summary(v, options.intervals.confidence, options.intervals.rope)
        | {"contraction": 1 - v.var(0, ddof=1) / priors[level].variance}
        for level, v in z.items()
    }
    levels["within"] |= _natural(fitted, z["within"], options.intervals.confidence)
    if sparse is not None:
        levels["within"] |= {
            "local_fdr": of_pairs.null,
            "bayesian_fdr": sparse_prior.averaged(of_pairs.null),
        }
    if setup.heterogeneity:
        log_tau = np.array([c.tau for c in fitted.curves])
        mass = special.softmax(log_tau, axis=1) if sparse is None else of_pairs.tau
        levels["within"] |= _predicted(mass, z["within"], rng, options.intervals.confidence)
    attrs = {
        **setup.attributes,
        "estimator": "empirical Bayes on grids",
        "uncertainty": "posterior, not MCMC",
        "joint_draws": int(counts.n_genes == 2),
        "confidence": options.intervals.confidence,
        "rope": options.intervals.rope,
        "heterogeneity": int(setup.heterogeneity),
        "n_cells": counts.n_cells,
        "seed": options.seed if isinstance(options.seed, int) else None,
        "draws": options.draws,
        "shrink": int(bool(options.shrink)),
        "seconds": round(time.perf_counter() - started, 2),
        **{f"prior_{k}": v for k, v in described.items()},
        **counts.attributes,
    }
    datasets = {}
    for level, table in levels.items():
        note = tables.prior_note(level, options.intervals.confidence, priors[level].limits)
        of_level = {
            "title": f"Bayesian correlation, {level} samples (empirical Bayes)",
            "level": level,
            "note": f"{note} The draws are {_INDEPENDENT}.",
        }
        if sparse is not None and level == "within":
            of_level["shrinkage"] = "sparse"
            attrs = attrs | {"null_share": learnt.null_share}
        datasets[level] = _dataset(fitted, setup.priors, table, {**of_level, **attrs})
    names = [(target, fitted.counts.genes[j]) for j in fitted.partners]
    dataset = joined(datasets, _drawn(z), names, setup.population.coefficients)
    return CorrelationResult(dataset)


_INDEPENDENT = "independent, from a posterior on a grid, not MCMC"


def _chosen(
    counts: Counts, target: str, genes: Sequence[str] | None, known: FeatureNames
) -> NDArray[np.int64]:
    """Return the positions of the target and its partners."""
    if genes is None:
        names = list(counts.genes)
    else:
        genes = [counts.named(g) for g in genes]
        for g in genes:
            if g not in counts.genes:
                raise known.unknown("gene", g)
        refuse_repeated("genes=", genes)
        names = list(dict.fromkeys([target, *genes]))
    if len(names) < 2:
        raise InputError(f"no gene other than the target {target!r}: name more with genes=")
    return np.array([counts.genes.get_loc(g) for g in names], np.int64)


def partner_names(genes: Iterable[str] | None) -> list[str] | None:
    """Return the names of the partners; raise an error if `genes` is not a list of names."""
    if genes is None:
        return None
    names = listed("genes", genes, "a list of gene names")
    if not names or not all(isinstance(g, str) for g in names):
        raise InputError(f"genes must be a list of gene names, not {genes!r}")
    return names


def _curves(counts: Counts, setup: Setup, target: str, options: ManyOptions) -> _Target:
    """Compute the curves of the target with each other gene; the kernels release the GIL."""
    partners = [j for j, g in enumerate(counts.genes) if g != target]
    position = int(counts.genes.get_loc(target))
    columns = Columns(counts, setup.priors)
    x = columns.dense(position)
    margin = columns.margin(x)

    def curves(j: int) -> Curves:
        y = columns.dense(j)
        return pair_curves(
            columns.rows(x, y),
            (margin, columns.margin(y)),
            counts.cells_per_sample,
            setup.population.design,
            setup.priors,
            setup.heterogeneity,
            joint=options.shrink == "sparse",
        )

    with blas.at_most(1), ThreadPoolExecutor(options.n_jobs or cores()) as pool:
        work = shown(pool.map(curves, partners), len(partners), options.progress, "genes")
        return _Target(counts, target, position, partners, margin.sd, list(work))


def _z_prior(acting: Acting, level: str, intervals: Intervals) -> _ZPrior:
    row = {"within": kernels.Z_WITHIN, "between": kernels.Z_BETWEEN}[level]
    variance, limits = acting.of_z(level, intervals.confidence)
    return _ZPrior(log_prior(acting.priors, row, FINE), variance, limits)


def _normal_prior(mean: float, sd: float, intervals: Intervals) -> _ZPrior:
    tail = (1 - intervals.confidence) / 2
    low, high = np.tanh(mean + special.ndtri([tail, (1 + intervals.confidence) / 2]) * sd)
    return _ZPrior(-0.5 * ((FINE - mean) / sd) ** 2, sd**2, (float(low), float(high)))


def _natural(fitted: _Target, z: Array, confidence: float) -> dict[str, Array]:
    """Summarise the correlation of unlogged expression."""
    sd = np.array([c.sd for c in fitted.curves])
    natural = natural_correlation(np.tanh(z), fitted.sd, sd)
    lower, upper = highest_density(natural, confidence)
    return {
        "natural_correlation": natural.mean(0),
        "natural_lower": lower,
        "natural_upper": upper,
    }


def _sparse(
    fitted: _Target,
) -> tuple[sparse_prior.SparsePrior, sparse_prior.SparsePosterior]:
    """Learn the prior of all pairs of a target."""
    if len(fitted.partners) < sparse_prior.LEAST_PAIRS:
        raise InputError(
            f"{fitted.name!r} has {len(fitted.partners)} partners: too few to learn from how many "
            f"are correlated (at least {sparse_prior.LEAST_PAIRS}); name more with genes=, or use "
            "shrink=False"
        )
    joint = np.array([c.joint for c in fitted.curves])
    learnt = sparse_prior.learn(joint, FINE)
    return learnt, sparse_prior.posterior(joint, learnt)


def _tau_text(prior: sparse_prior.SparsePrior) -> str:
    weight = prior.weight.sum(1)
    parts = [f"{t:g}: {100 * w:.0f}%" for t, w in zip(TAUS, weight, strict=True) if w >= 0.005]
    return f"{', '.join(parts)} of the pairs, estimated from {prior.n_pairs} pairs"


def _predicted(
    mass: Array, z: Array, rng: np.random.Generator, confidence: float
) -> dict[str, Array]:
    """Estimate the heterogeneity and predict the correlation in a new sample.

    `mass` is the posterior of tau of each pair, shape (n_pairs, n_taus).
    """
    tau = np.array([rng.choice(TAUS, len(z), p=m) for m in mass]).T
    new = np.tanh(z + tau * rng.standard_normal(tau.shape))
    lower, upper = highest_density(new, confidence)
    return {"tau2": mass @ TAUS**2, "prediction_lower": lower, "prediction_upper": upper}


def _dataset(
    fitted: _Target, priors: Priors, table: dict[str, Array], attrs: dict[str, Any]
) -> xr.Dataset:
    """Assemble the Dataset of one level."""
    counts, target, partners = fitted.counts, fitted.position, np.array(fitted.partners)
    gene_flag = tables.gene_flags(counts, priors)
    pair: dict[str, NDArray] = {}
    for name, values in table.items():
        pair[name] = np.full((1, counts.n_genes), np.nan)
        pair[name][0, partners] = values
    pair["correlation"][0, target] = 1.0
    flag = (gene_flag | gene_flag[target])[None].copy()
    flag[0, target] |= Flag.SELF.bit
    coarse = np.array([c.coarse for c in fitted.curves])
    coarse &= (flag[0, partners] & Flag.LOW_INFORMATION.bit) == 0  # an end for want of counts
    flag[0, partners[coarse]] |= Flag.COARSE_GRID.bit
    dominated = table["contraction"] < tables.MIN_CONTRACTION
    flag[0, partners[dominated]] |= Flag.PRIOR_DOMINATED.bit
    pair["flag"] = flag
    return build_dataset(
        genes=counts.genes,
        samples=counts.samples,
        pair=pair,
        gene=tables.gene_table(counts, priors, gene_flag),
        sample=tables.sample_variables(counts),
        target=fitted.name,
        attrs=attrs,
    )


def _drawn(z: dict[str, Array]) -> xr.Dataset:
    """Return the draws with dimensions (chain, draw, drawn_pair)."""
    names = {"within": "posterior_zeta", "between": "posterior_z_between"}
    note = {"note": f"draws are {_INDEPENDENT}"}
    return xr.Dataset(
        {names[level]: (("chain", "draw", PAIR), v[None], note) for level, v in z.items()}
    )
