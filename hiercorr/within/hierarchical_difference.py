"""Differences of correlation between samples by random-effects regression, tile by tile."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from hiercorr import kernels, moments
from hiercorr.counts.counts import Counts
from hiercorr.inference.meta_regression import (
    LEAST_RESIDUAL_DF,
    RegressionDesign,
    RegressionPrior,
    SampleEffects,
    learn_regression_prior,
    overall_estimate,
    regression_estimate,
)
from hiercorr.inference.random_effects import ABSENT, DonorGenes
from hiercorr.results import tiling
from hiercorr.runtime.compile import over_ranges
from hiercorr.within.fitting import WithinProblem, panel_sums
from hiercorr.within.heterogeneity import (
    LEAST_GENES,
    LEAST_PAIRS,
    DonorModel,
    donor_model,
    panel_genes,
)

Array = NDArray[np.float64]

_LARGEST_SQUARE = 0.9  # of a correlation, in the variance
_LEAST_GROWTH = 0.05
_LARGEST_REST = 2.0  # of a variance, beyond what is known of it: more is noise of few counts
_RELATED = 3.0  # standard errors of the correlation over all samples
COMPILED_FROM = 300_000  # pairs of a fit, for which compilation (6 s, once) pays
_PAIRS = 4096  # whose effects are computed at once


@dataclass(frozen=True)
class PairSums:
    """Sums of pairs by sample, and their genes; arrays are (n_samples, n_pairs).

    Attributes
    ----------
    num, den, noise : ndarray
        N_c, D_c, and the variance of N_c without correlation.
    left, right : tuple of ndarray
        First and second gene of each pair: variance (n_pairs,); then, by sample, the relative
        scale (:class:`hiercorr.inference.DonorGenes`), the ratio of the variance after this scaling
        to the common variance, the biological share, and the skewness.
    """

    num: NDArray
    den: NDArray
    noise: NDArray
    left: tuple[Array, ...]
    right: tuple[Array, ...]


def sample_effects(sums: PairSums) -> SampleEffects:
    r"""Compute the linearised correlation of each pair in each sample, and its variance.

    .. math:: y_c = \frac{N_c}{D_c} \frac{a_{cj} a_{ck}}{\sqrt{\phi_j\phi_k}}
              - \frac{\tilde\rho}{2} (R_{cj} + R_{ck} - 2), \quad
              R_{cj} = \frac{N_{cj}}{D_{cj}} \frac{a_{cj}^2}{\phi_j}

    so that a group in which genes vary more has no other correlation. a, the relative scale of the
    sample, takes out what is known of its variance, R, from 1/2 to 2, the rest to first order. The
    variance is that of this linear form for normal residuals; what heavier tails add is learnt from
    the panel (:attr:`hiercorr.inference.meta_regression.RegressionPrior.growth`).
    """
    phi1, scale1, ratio1, share1, skew1 = sums.left
    phi2, scale2, ratio2, share2, skew2 = sums.right
    relative = scale1 * scale2
    with np.errstate(divide="ignore", invalid="ignore"):
        scale = 1 / np.sqrt(np.where((phi1 > 0) & (phi2 > 0), phi1 * phi2, np.nan))
        den = sums.den.astype(float)
        known = (den > 0) & (sums.noise > 0) & np.isfinite(ratio1) & np.isfinite(ratio2)
        known &= np.isfinite(scale)
        den = np.where(known, den, np.nan)
        total = np.nansum(den, 0)
        num, noise = sums.num * relative, sums.noise * relative**2
        r = np.nansum(np.where(known, num, 0.0), 0) / total * scale
        v = np.nansum(np.where(known, noise, 0.0), 0) / total**2 * scale**2
        rho = np.sign(r) * np.sqrt(np.clip(r * r - v, 0, _LARGEST_SQUARE))
        y = num / den * scale - 0.5 * rho * (ratio1 + ratio2 - 2)
        variance = noise / den**2 * scale**2
        odds, square = share1 / share2, rho**2 * share1 * share2
        growth = (
            1 + square * (1 + rho**2) + rho**2 * (0.5 * (odds + 1 / odds) - 2 * (share1 + share2))
        )
        variance *= np.maximum(np.where(np.isfinite(growth), growth, 1 + rho**2), _LEAST_GROWTH)
        related = np.abs(r) > _RELATED * np.sqrt(v)
    known &= np.isfinite(variance) & np.isfinite(y)
    return SampleEffects(
        np.where(known, y, 0.0),
        np.where(known, variance, ABSENT),
        np.where(known, skew1 * skew2, 0.0),
        np.where(known, square, 0.0),
        related,
    )


@dataclass(frozen=True)
class RandomRegression:
    """Random-effects regression of the correlations of samples, ready for every tile.

    Attributes
    ----------
    design : RegressionDesign
    model : DonorModel
        Expected noise of the samples.
    ratio : ndarray, shape (n_samples, n_genes)
        Variance of each gene in each sample relative to its variance over all.
    prior : RegressionPrior
    """

    design: RegressionDesign
    model: DonorModel
    ratio: Array
    prior: RegressionPrior

    def tile(
        self, problem: WithinProblem, left: slice, right: slice, num: NDArray, den: NDArray
    ) -> dict[str, NDArray]:
        """Estimate the pairs of a tile.

        Returns
        -------
        dict of ndarray
            ``difference``, ``se``, ``p_value``, shape (left, right), and ``tau``, shape
            (n_groups, left, right); of several rows of the design, ``largest_difference`` instead
            of a difference and its error.
        """
        shape = num.shape[1:]
        noise = self.model.noise(problem.sums, left, right, np.empty(num.shape, num.dtype))
        symmetric = left == right and problem.plan.rows is None
        overall = self.design.rows is not None
        names = ("largest_difference", "p_value") if overall else ("difference", "se", "p_value")
        out = {name: np.full(shape, np.nan) for name in names}
        out["tau"] = np.full((self.design.n_groups, *shape), np.nan)
        genes = tuple(_genes(self.model.genes[side], self.ratio[:, side]) for side in (left, right))
        n_pairs = tiling.n_pairs(len(problem.gene_flag), problem.plan.rows)
        if not overall and n_pairs >= COMPILED_FROM:
            self._by_row((num, den, noise), genes, symmetric, out)
        else:
            self._by_chunk((num, den, noise), genes, symmetric, out)
        return out

    def _by_chunk(
        self,
        sums: tuple[NDArray, NDArray, NDArray],
        genes: tuple[tuple[Array, ...], ...],
        symmetric: bool,
        out: dict[str, NDArray],
    ) -> None:
        """Fill the results of a tile with array operations on some pairs at once."""
        shape = sums[0].shape[1:]
        i, j = np.triu_indices(shape[0], 1) if symmetric else np.indices(shape).reshape(2, -1)
        test = regression_estimate if self.design.rows is None else overall_estimate

        def estimate(begin: int, end: int) -> None:
            for start in range(begin, end, _PAIRS):
                at = slice(start, min(start + _PAIRS, end))
                a, b = i[at], j[at]
                num, den, noise = (part[:, a, b] for part in sums)
                pairs = PairSums(num, den, noise, _take(genes[0], a), _take(genes[1], b))
                found = test(sample_effects(pairs), self.design, self.prior)
                for name, values in found.items():
                    out[name][..., a, b] = values

        over_ranges(estimate, len(i))

    def _by_row(
        self,
        sums: tuple[NDArray, NDArray, NDArray],
        genes: tuple[tuple[Array, ...], ...],
        symmetric: bool,
        out: dict[str, NDArray],
    ) -> None:
        """Fill the results of a tile with compiled loops, row by row."""
        n_samples, rows, columns = sums[0].shape
        sides = [tuple(np.ascontiguousarray(part) for part in side) for side in genes]

        def estimate(begin: int, end: int) -> None:
            for t in range(begin, end):
                first = t + 1 if symmetric else 0
                n = columns - first
                parts, related = np.empty((4, n_samples, n)), np.empty(n, np.bool_)
                room = np.empty((n_samples + 4, n))
                kernels.regression.effects_of_row(
                    t, first, sums, *sides, _RELATED, _LARGEST_SQUARE, parts, related, room
                )
                effects = SampleEffects(parts[0], parts[1], parts[2], parts[3], related)
                found = regression_estimate(effects, self.design, self.prior, compiled=True)
                for name, values in found.items():
                    out[name][..., t, first:] = values

        over_ranges(estimate, rows)


def learn_regression(
    counts: Counts,
    problem: WithinProblem,
    design: RegressionDesign,
    contrasts: Sequence[Array] = (),
) -> list[RandomRegression] | None:
    """Learn from a panel of genes how samples differ; None with too few samples, genes or pairs.

    Parameters
    ----------
    counts : Counts
    problem : WithinProblem
        Moments of the genes, with samples as units.
    design : RegressionDesign
    contrasts : sequence of ndarray
        Further contrasts of the same design.

    Returns
    -------
    list of RandomRegression
        For the design, and for each of the contrasts.
    """
    n_samples, k = design.matrix.shape
    genes = panel_genes(problem.fit, problem.gene["information"])
    if n_samples - k < LEAST_RESIDUAL_DF or len(genes) < LEAST_GENES:
        return None
    model = donor_model(problem.sums, problem.fit, counts.cells_per_sample, np.arange(n_samples))
    with np.errstate(divide="ignore", invalid="ignore"):
        ratio = (problem.fit.num / problem.fit.den / problem.fit.variance[:, None]).T
    num = panel_sums(counts, problem, genes)
    panel = problem.sums.take(genes), problem.fit.take(genes)
    every = slice(0, len(genes))
    den = moments.denominators(*panel, every, every, num, np.empty_like(num))
    of_panel = model.take(genes)
    noise = of_panel.noise(panel[0], every, every, np.empty_like(num))
    i, j = np.triu_indices(len(genes), 1)
    side = _genes(of_panel.genes, ratio[:, genes])
    sums = PairSums(num[:, i, j], den[:, i, j], noise[:, i, j], _take(side, i), _take(side, j))
    effects = sample_effects(sums)
    if ((effects.variance < ABSENT).sum(0) - k >= LEAST_RESIDUAL_DF).sum() < LEAST_PAIRS:
        return None
    first = learn_regression_prior(effects, design)
    if first is None:
        return None
    out = [RandomRegression(design, model, ratio, first)]
    for contrast in contrasts:
        one = replace(design, contrast=contrast, rows=None, fitted=None)
        prior = learn_regression_prior(effects, one, first)
        assert prior is not None
        out.append(RandomRegression(one, model, ratio, prior))
    return out


def _genes(genes: DonorGenes, ratio: Array) -> tuple[Array, ...]:
    with np.errstate(invalid="ignore"):
        rest = np.clip(ratio * genes.scale**2, 1 / _LARGEST_REST, _LARGEST_REST)
    return genes.phi, genes.scale, rest, genes.share, genes.skewness


def _take(genes: tuple[Array, ...], at: NDArray[np.int64]) -> tuple[Array, ...]:
    return genes[0][at], *(part[:, at] for part in genes[1:])
