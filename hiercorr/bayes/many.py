r"""One gene against thousands: empirical Bayes with every integral on a grid, no Markov chain.

Each gene's margin is fitted once. A pair's likelihood of z in each sample is then a curve, and

.. math:: p(\zeta, \tau | x) \propto p(\zeta)\,p(\tau) \int \prod_c \sum_z N(z; \zeta, \tau^2)\,
          e^{\ell_c(z) + \delta' t_c(z)}\; N(\delta; 0, V)\, d\delta

is summed exactly over z and tau. :math:`\delta` are the errors of the two log standard deviations, with t the derivatives of
the log likelihood along the margins' ridges: leaving them out makes intervals too short. They are integrated by a cubature
of five points. Between samples, the means are normal with known noise, and sd, sd and z lie on a grid.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray
from scipy import interpolate, optimize, special

from hiercorr.bayes import tables
from hiercorr.bayes.margin import MEAN_SD, NODES, Array, Margin, Rows, fit_margin
from hiercorr.bayes.pair import Z_NODES
from hiercorr.bayes.priors import Priors
from hiercorr.counts.counts import Counts
from hiercorr.errors import InputError, unknown_name
from hiercorr.kernels import bayes as kernels
from hiercorr.results.result import CorrelationResult
from hiercorr.runtime import blas
from hiercorr.runtime.progress import shown
from hiercorr.runtime.resources import cores
from hiercorr.schema import Flag, build_dataset
from hiercorr.simulate import natural_correlation

if TYPE_CHECKING:
    from hiercorr.bayes.model import BayesianCorrelation

FINE = np.linspace(-2.6, 2.6, 261)
TAUS = np.array([0.0, 0.05, 0.1, 0.15, 0.2, 0.25, 0.3, 0.4, 0.5, 0.65, 0.8, 1.0])
_CUBATURE = np.sqrt(3.0)  # third degree for a normal in two dimensions, with a point in the middle


@dataclass(frozen=True)
class Curves:
    """What a pair's data say, before the prior of zeta.

    Attributes
    ----------
    zeta : ndarray, shape (n_fine,)
        Log likelihood of zeta with tau and the standard deviations integrated out.
    tau : ndarray, shape (n_taus,)
        Log posterior mass of tau, given the prior of zeta.
    between : ndarray, shape (n_fine,)
        Log likelihood of z between samples, standard deviations integrated out with their priors.
    sd : float
        Standard deviation of the partner's log expression within samples.
    coarse : bool
        The likelihood is largest at the end of the grid of z.
    """

    zeta: Array
    tau: Array
    between: Array
    sd: float
    coarse: bool


@lru_cache(maxsize=1)
def _spline() -> Array:
    """Cubic interpolation from the nodes to the fine grid, as a matrix."""
    return np.asarray(interpolate.CubicSpline(Z_NODES, np.eye(len(Z_NODES)))(FINE))


@lru_cache(maxsize=1)
def _spreads() -> Array:
    """Normal weights of z around each zeta for each tau, rows summing to 1: (taus, zeta, z)."""
    out = np.empty((len(TAUS), len(FINE), len(FINE)))
    for k, tau in enumerate(TAUS):
        if tau == 0:
            out[k] = np.eye(len(FINE))
            continue
        w = np.exp(-0.5 * ((FINE - FINE[:, None]) / tau) ** 2)
        out[k] = w / w.sum(1, keepdims=True)
    return out


def log_prior(priors: Priors, k: int, x: Array) -> Array:
    """Log prior density of the k-th scalar on the scale that is sampled."""
    row = priors.row(k)
    return np.array([kernels.log_prior(v, *row)[0] for v in x])


def tau_weights(priors: Priors, heterogeneity: bool) -> tuple[NDArray[np.int64], Array]:
    """Which taus are summed over, and the log prior mass of each."""
    if not heterogeneity:
        return np.array([0]), np.zeros(1)
    edges = np.append(0.0, np.append((TAUS[1:] + TAUS[:-1]) / 2, TAUS[-1] + 0.1))
    x = np.maximum(TAUS, 0.0125)  # the density of tau itself: that of its logarithm over tau
    density = np.exp(log_prior(priors, 4, np.log(x))) / x
    mass = density * np.diff(edges)
    return np.arange(len(TAUS)), np.log(mass / mass.sum())


class Columns:
    """Dense columns of a few genes of sparse counts, and their margins."""

    def __init__(self, counts: Counts, priors: Priors) -> None:
        self.counts, self.priors = counts, priors
        self.target_sd = np.nan
        self.log_s = np.log(counts.depth / counts.depth.mean())

    def dense(self, j: int) -> NDArray[np.int64]:
        x = np.zeros(self.counts.n_cells, np.int64)
        a, b = self.counts.offsets[j, [0, -1]]
        x[self.counts.rows[a:b]] = self.counts.values[a:b]
        return x

    def rows(self, *columns: NDArray[np.int64]) -> Rows:
        key = columns[0] if len(columns) == 1 else columns[0] * (columns[1].max() + 1) + columns[1]
        cell, log_s, weight, starts = kernels.gauss_rows(key, self.log_s, self.counts.starts, NODES)
        return Rows(np.stack([c[cell] for c in columns], 1).astype(float), log_s, weight, starts)

    def margin(self, x: NDArray[np.int64]) -> Margin:
        return fit_margin(self.rows(x), 0, self.priors.log_sd)


def pair_curves(
    rows: Rows,
    margins: tuple[Margin, Margin],
    cells: NDArray[np.int64],
    design: Array,
    priors: Priors,
    heterogeneity: bool,
    sd_errors: bool = True,
) -> Curves:
    """Everything that one pair's data say about both levels; `sd_errors`: integrate over those of the standard deviations."""
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
        a.sd,
        b.sd,
        a.slope,
        b.slope,
        grids[0][0],
        grids[0][1],
        grids[1][0],
        grids[1][1],
    )
    value, tilt_a, tilt_b = (v @ _spline().T for v in _continued(*found))
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
    total = total + log_mass[:, None]
    zeta = special.logsumexp(total, axis=0)
    tau = special.logsumexp(total + log_prior(priors, 2, FINE), axis=1)
    best = int(zeta.argmax())
    between = _between(margins, float(np.tanh(FINE[best])), cells, design, priors)
    return Curves(zeta, tau, between, b.sd, best in (0, len(FINE) - 1))


def _continued(value: Array, *slopes: Array) -> tuple[Array, ...]:
    """Where a z is so far from the data that its likelihood is 0 in floating point, the parabola before it goes on."""
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
    means, variances = [], []
    for m in margins:  # the weak prior of the means taken out again
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
    left_over = ((mean - fitted) ** 2).sum(0) / max(n - k, 1) - noise[:, [0, 2]].mean(0)
    width = 1 / np.sqrt(2 * max(n - k, 1)) + 0.05
    steps = np.linspace(-2.6, 2.6, 11) * width
    grids = [0.5 * np.log(max(v, 0.15**2)) + steps for v in left_over]
    coarse = FINE[::8]
    value = kernels.between_posterior(mean - centre, noise, design, grids[0], grids[1], coarse)
    value += (
        log_prior(priors, 1, grids[0])[:, None, None]
        + log_prior(priors, 1, grids[1])[None, :, None]
    )
    out = special.logsumexp(value, axis=(0, 1))
    return np.asarray(interpolate.CubicSpline(coarse, out, extrapolate=True)(FINE))


def run(
    columns: Columns,
    target: int,
    genes: Sequence[int],
    design: Array,
    heterogeneity: bool,
    n_jobs: int,
    shown: Callable[[Any], Any],
) -> list[Curves]:
    """Curves of the target with each gene, over threads: the kernels and products hold no lock."""
    x = columns.dense(target)
    own = columns.margin(x)
    columns.target_sd = own.sd
    cells = columns.counts.cells_per_sample

    def one(j: int) -> Curves:
        y = columns.dense(j)
        return pair_curves(
            columns.rows(x, y),
            (own, columns.margin(y)),
            cells,
            design,
            columns.priors,
            heterogeneity,
        )

    with blas.at_most(1), ThreadPoolExecutor(n_jobs) as pool:
        return list(shown(pool.map(one, genes)))


def shrunken_prior(curves: Array) -> tuple[float, float]:
    """Mean and standard deviation of zeta over the pairs (maximum marginal likelihood)."""
    like = np.exp(curves - curves.max(1, keepdims=True))

    def negative(p: Array) -> float:
        w = np.exp(-0.5 * ((FINE - p[0]) / np.exp(p[1])) ** 2)
        return float(-np.log(like @ (w / w.sum()) + 1e-300).sum())

    best = optimize.minimize(
        negative, [0.0, np.log(0.3)], method="Nelder-Mead", options={"xatol": 1e-3}
    )
    return float(best.x[0]), float(np.clip(np.exp(best.x[1]), 0.03, 2.0))


def grid_draws(log_density: Array, n: int, rng: np.random.Generator) -> Array:
    """Stratified draws (n, pairs) from densities on the fine grid, (pairs, n_fine), in random order."""
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


def fit_many(
    model: BayesianCorrelation,
    target: str,
    genes: Sequence[str] | None,
    *,
    shrink: bool,
    draws: int,
    confidence: float,
    rope: float,
    seed: Any,
    n_jobs: int | None,
    progress: bool | None,
) -> CorrelationResult:
    """See :meth:`hiercorr.BayesianCorrelation.fit_many`."""
    model._settings(max(draws, 100), 100, 2, "nutpie", 0.9, confidence, rope)
    if draws < 100:
        raise InputError(f"draws must be a whole number of at least 100, not {draws!r}")
    if n_jobs is not None and n_jobs < 1:
        raise InputError(f"n_jobs must be at least 1, not {n_jobs!r}")
    if model._population.blocked or model.structure != "both":
        raise InputError(
            "fit_many has no block= and no structure=: take one sample a donor with subset=, or use fit()"
        )
    started = time.perf_counter()
    counts = model._with(target)
    counts = counts.take(_chosen(counts, target, genes))
    partners = [j for j, g in enumerate(counts.genes) if g != target]
    at = int(counts.genes.get_loc(target))
    columns = Columns(counts, model.priors)
    curves = run(
        columns,
        at,
        partners,
        model.design.matrix,
        model.heterogeneity,
        n_jobs or cores(),
        lambda work: shown(work, len(partners), progress, "genes"),
    )
    rng = np.random.default_rng(seed)
    likelihood = np.array([c.zeta for c in curves])
    prior, described = log_prior(model.priors, 2, FINE), model.priors.describe()
    prior_variance, prior_range = tables.prior_of_z(model.priors, "z_within", confidence)
    if shrink:
        mean, sd = shrunken_prior(likelihood)
        prior, prior_variance = -0.5 * ((FINE - mean) / sd) ** 2, sd**2
        described["z_within"] = (
            f"normal(mu={mean:.3g}, sigma={sd:.3g}), estimated from {len(partners)} pairs"
        )
        low, high = np.tanh(mean + special.ndtri([(1 - confidence) / 2, (1 + confidence) / 2]) * sd)
        prior_range = (float(low), float(high))
    z = {
        "within": grid_draws(likelihood + prior, draws, rng),
        "between": grid_draws(
            np.array([c.between for c in curves]) + log_prior(model.priors, 3, FINE), draws, rng
        ),
    }
    variance = {
        "within": prior_variance,
        "between": tables.prior_of_z(model.priors, "z_between", confidence)[0],
    }
    levels = {k: tables.pair_summary(v, confidence, rope) for k, v in z.items()}
    for level, table in levels.items():
        table["contraction"] = 1 - z[level].var(0, ddof=1) / variance[level]
    spread = np.array([c.sd for c in curves])
    natural = natural_correlation(np.tanh(z["within"]), columns.target_sd, spread)
    lower, upper = tables.interval(natural, confidence)
    levels["within"] |= {
        "natural_correlation": natural.mean(0),
        "natural_lower": lower,
        "natural_upper": upper,
    }
    if model.heterogeneity:
        mass = np.exp(np.array([c.tau - special.logsumexp(c.tau) for c in curves]))
        tau = np.array([rng.choice(TAUS, draws, p=m) for m in mass]).T
        new = np.tanh(z["within"] + tau * rng.standard_normal(tau.shape))
        levels["within"] |= {"tau2": mass @ TAUS**2}
        levels["within"]["prediction_lower"], levels["within"]["prediction_upper"] = (
            tables.interval(new, 0.95)
        )
    between_range = tables.prior_of_z(model.priors, "z_between", confidence)[1]
    ranges = {"within": prior_range, "between": between_range}
    datasets = {
        level: _dataset(
            model,
            counts,
            target,
            partners,
            curves,
            table,
            level,
            confidence,
            rope,
            ranges[level],
            described,
            {
                "seed": seed if isinstance(seed, int) else None,
                "draws": draws,
                "shrink": int(shrink),
                "seconds": round(time.perf_counter() - started, 2),
            },
        )
        for level, table in levels.items()
    }
    dims = ("chain", "draw", "target", "gene")
    drawn = {}
    for name, level in (("posterior_zeta", "within"), ("posterior_z_between", "between")):
        values = np.full((1, draws, 1, counts.n_genes), np.nan, np.float32)
        values[0, :, 0, partners] = z[level].T
        drawn[name] = (
            dims,
            values,
            {"note": "independent draws from a posterior on a grid, not MCMC"},
        )
    return CorrelationResult(tables.joined(datasets, xr.Dataset(drawn), model.design.names))


def _chosen(counts: Counts, target: str, genes: Sequence[str] | None) -> NDArray[np.int64]:
    """Positions of the target and its partners."""
    if genes is None:
        names = list(counts.genes)
    else:
        if isinstance(genes, str):
            raise InputError(f"genes must be a list of names, not the text {genes!r}")
        for g in genes:
            if g not in counts.genes:
                raise unknown_name("gene", g, counts.genes)
        names = list(dict.fromkeys([target, *genes]))
    if len(names) < 2:
        raise InputError(f"there is no gene but the target {target!r}: choose more with genes=")
    return np.array([counts.genes.get_loc(g) for g in names], np.int64)


def _dataset(
    model: BayesianCorrelation,
    counts: Counts,
    target: str,
    partners: list[int],
    curves: list[Curves],
    table: dict[str, Array],
    level: str,
    confidence: float,
    rope: float,
    prior_range: tuple[float, float],
    described: dict[str, str],
    attrs: dict[str, Any],
) -> xr.Dataset:
    n = counts.n_genes
    gene_flag = tables.gene_flags(counts)
    at = int(counts.genes.get_loc(target))
    pair: dict[str, NDArray] = {}
    for name, values in table.items():
        pair[name] = np.full((1, n), np.nan)
        pair[name][0, partners] = values
    pair["correlation"][0, at] = 1.0
    flag = (gene_flag | gene_flag[at])[None].copy()
    flag[0, at] |= Flag.SELF.bit
    coarse = np.array([c.coarse for c in curves])
    flag[0, np.array(partners)[coarse]] |= Flag.COARSE_GRID.bit
    flag[0, np.array(partners)[table["contraction"] < tables.MIN_CONTRACTION]] |= (
        Flag.PRIOR_DOMINATED.bit
    )
    pair["flag"] = flag
    low, high = prior_range
    return build_dataset(
        genes=counts.genes,
        samples=counts.samples,
        pair=pair,
        gene=tables.gene_table(counts, gene_flag),
        sample={"n_cells": counts.cells_per_sample, "depth": counts.median_depth},
        target=target,
        attrs={
            "title": f"Bayesian correlation, {level} samples (empirical Bayes)",
            "model": "BayesianCorrelation",
            "estimator": "empirical Bayes on grids",
            "level": level,
            "formula": model.design.formula,
            "uncertainty": "posterior, not MCMC",
            "confidence": confidence,
            "rope": rope,
            "heterogeneity": int(model.heterogeneity),
            "structure": "both",
            "n_cells": counts.n_cells,
            "sample_column": model.sample,
            "note": f"Prior of the correlation {level} samples: {100 * confidence:g}% in {low:.2f}..{high:.2f}. Independent "
            "draws from a posterior on a grid, not MCMC.",
            **attrs,
            **{f"prior_{k}": v for k, v in described.items()},
            **{k: v for k, v in counts.notes.items() if v},
        },
    )
