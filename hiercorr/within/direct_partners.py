"""Direct partners: partial correlations within samples given all other genes."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy import special

from hiercorr import inference, moments
from hiercorr.counts.counts import Counts
from hiercorr.errors import (
    MAX_REPEATS,
    EstimationWarning,
    InputError,
    between_0_and_1,
    instance_of,
    number,
    one_of,
    valid_seed,
    whole_number,
)
from hiercorr.inference import partial
from hiercorr.results import CorrelationResult, computed, tiling
from hiercorr.runtime import blas
from hiercorr.runtime.log import logged, pairs_of
from hiercorr.runtime.resources import threads
from hiercorr.runtime.user_warnings import warn
from hiercorr.schema import Flag, build_dataset
from hiercorr.within import fitting
from hiercorr.within.cscore import CSCore
from hiercorr.within.dataset import modality_depth
from hiercorr.within.options import FitOptions, make_plan

Array = NDArray[np.float64]

LEAST_DONORS, LEAST_GENES, MOST_GENES = 3, 3, 500
UNUSABLE = Flag.NONPOSITIVE_VARIANCE | Flag.LOW_INFORMATION


def direct_partners(
    model: CSCore,
    scale: str = "log",
    *,
    shrinkage: float | None = None,
    min_correlation: float = 0.1,
    n_bootstrap: int = 200,
    confidence: float = 0.95,
    seed: int | np.random.Generator | None = None,
    n_jobs: int | None = None,
) -> CorrelationResult:
    r"""Estimate partial correlations of genes within samples, given all other genes of the model.

    Two genes are direct partners if they are correlated between the cells of a sample after the
    other genes are accounted for. The estimand is the partial correlation of expression, not of
    counts, averaged over donors in proportion to their information. It depends on the genes of the
    model: a common regulator that is not among them still connects its targets.

    The correlation matrix R of the noise-corrected covariances is made positive definite by raising
    its eigenvalues to at least 0.001, shrunk toward the identity and inverted; the bias of the
    shrinkage is then removed to first order (:mod:`hiercorr.inference.partial`):

    .. math:: \Theta = [(1 - \lambda) R_+ + \lambda I]^{-1}, \quad T = 2\Theta - \Theta R \Theta,
              \quad \pi_{jk} = -T_{jk} / \sqrt{T_{jj} T_{kk}}

    Parameters
    ----------
    model : CSCore
        Model with the genes, cells and samples, with 3 to 500 genes and at least 3 donors.
    scale : {"log", "natural"}
        Scale of expression. ``"log"``: covariance of log expression under a Poisson-lognormal
        model, :math:`\log(1 + \phi_{jk})`, in which a partial correlation of 0 is conditional
        independence. ``"natural"``: that of expression itself, as in :meth:`CSCore.fit`.
    shrinkage : float, optional
        Weight of the identity, from 0.001 to 0.95. None: the value from 0.01 to 0.5 with the
        highest Gaussian likelihood of left-out donors.
    min_correlation : float
        Minimum absolute partial correlation of an edge in a resample, for ``stability``.
    n_bootstrap : int
        Number of resamples of donors for ``stability``.
    confidence : float
        Confidence level of the intervals.
    seed : int or Generator, optional
        Seed of the resamples.
    n_jobs : int, optional
        Number of threads, as for :meth:`CSCore.fit`.

    Returns
    -------
    CorrelationResult
        All pairs. ``correlation`` is the partial correlation, ``marginal_correlation`` that without
        regard to other genes on the same scale (no further than -1 and 1), ``stability`` the
        proportion of bootstrap resamples of donors in which the partial correlation has the same
        sign and at least the absolute value `min_correlation`. Standard errors are those of the
        jackknife over donors at a fixed shrinkage, with their variances moderated over all pairs as
        in limma (``df`` is donors - 1 plus that of the prior); ``ordinary_p_value`` is the t test
        without moderation on donors - 1 degrees of freedom; ``q_value`` is over all pairs.

    Raises
    ------
    InputError
        If an option is not valid, or the model has too few donors or genes, or too many genes.

    Warns
    -----
    EstimationWarning
        If genes have too few counts or no variance beyond counting noise: they are left out of
        the conditioning set and have no partners.

    Notes
    -----
    The test is of the regularised partial correlation. Where few cells make the shrinkage large, a
    strong indirect correlation can leave a small partial correlation that is not 0. More shrinkage
    than is chosen finds and ranks more of the edges where cells are few, and more of its calls are
    indirect: in simulations of 20 genes in 900 cells of 6 donors, ``shrinkage=0.8`` more than
    doubled the true edges at q < 0.1, and a quarter of its calls were false instead of a tenth.

    References
    ----------
    Aitchison & Ho 1989, Biometrika 76:643; Jankova & van de Geer 2015, Electronic Journal of
    Statistics 9:1205; Smyth 2004, Statistical Applications in Genetics and Molecular Biology 3:3;
    Su et al. 2023, Nature Communications 14:4846.

    Examples
    --------
    >>> import hiercorr as hc
    >>> adata = hc.datasets.glioblastoma()
    >>> options = {"depth": "total_counts", "genes": 30, "subset": {"condition": "ctrl"}}
    >>> model = hc.CSCore(adata, "sample_id", **options)
    >>> r = hc.direct_partners(model, seed=1)
    >>> edges = r.pairs(q=0.2)
    >>> r.dataset.sizes["gene"], "stability" in edges
    (30, True)
    """
    instance_of("model", model, CSCore, "a CSCore model")
    one_of("scale", scale, partial.SCALES)
    number("shrinkage", shrinkage, 0.001, 0.95, optional=True)
    number("min_correlation", min_correlation, 0, 1)
    whole_number("n_bootstrap", n_bootstrap, maximum=MAX_REPEATS)
    between_0_and_1("confidence", confidence)
    valid_seed(seed)
    counts = model.counts
    _check_model(model)
    options = FitOptions(uncertainty="jackknife", precision="double", confidence=confidence)
    options.check(model._facts)
    plan = model._with_cells(make_plan(counts, options, model._facts, model._units), counts)
    with threads(n_jobs), logged("direct_partners: %s of %d genes", pairs_of(None), counts.n_genes):
        problem = fitting.prepare(counts, plan)
        usable = np.flatnonzero((problem.gene_flag & np.uint16(UNUSABLE)) == 0)
        _check_genes(counts, usable)
        with blas.at_most(1):  # many small matrices
            num, den = _donor_sums(counts, problem, usable)
            chosen = partial.choose_shrinkage(num, den, scale) if shrinkage is None else shrinkage
            draws = inference.bootstrap_draws(len(num), n_bootstrap, seed)
            found = _estimates(num, den, scale, float(chosen), draws, min_correlation)
        output = tiling.PairOutput(counts.n_genes, None, plan.dtype)  # of one tile
        every = slice(0, counts.n_genes)
        follow = inference.Derivation("t", confidence, float(np.nanmax(found["df"], initial=1.0)))
        tile = {name: _spread(values, usable, counts.n_genes) for name, values in found.items()}
        flag = problem.gene_flag[:, None] | problem.gene_flag[None, :]
        output.write(every, every, tile, flag)
        pair = computed.completed(output.finish(), follow, None)
    provenance = model._provenance(plan, options)
    return CorrelationResult(
        build_dataset(
            genes=counts.genes,
            samples=counts.samples,
            pair=pair,
            gene=problem.gene,
            sample={"n_cells": counts.cells_per_sample, "depth": counts.median_depth},
            modality=modality_depth(counts),
            attrs={
                "title": ("exploratory: metacells, " if provenance.metacells else "")
                + "partial correlation, within samples",
                "model": "direct_partners",
                "estimator": "within",
                "level": "within",
                "formula": "~ 1",
                "scale": scale,
                "shrinkage": float(chosen),
                "shrinkage_chosen": "left-out donors" if shrinkage is None else "given",
                "min_correlation": float(min_correlation),
                "n_bootstrap": n_bootstrap,
                "conditioning_genes": len(usable),
                "uncertainty": "jackknife",
                "donor_weights": "information",
                "confidence": confidence,
                "precision": "double",
                "n_cells": counts.n_cells,
                "sample_column": model.sample,
                "theta": problem.fit.theta,
                "iterations": problem.fit.iterations,
                "converged": int(problem.fit.converged),
                "exploratory": 1 if provenance.metacells else None,
                **provenance.options,
                "seed": seed if isinstance(seed, int) else None,
                **counts.attributes,
            },
        )
    )


def _check_model(model: CSCore) -> None:
    if model.sample is None:
        raise InputError(
            "direct partners are estimated within samples: name the obs column that holds them "
            "with CSCore(sample=)"
        )
    if model._cluster is not None:
        raise InputError(
            "direct partners need the counts in this process: leave out CSCore(scheduler=)"
        )
    if model.n_donors < LEAST_DONORS:
        raise InputError(
            f"direct partners need at least {LEAST_DONORS} donors, and the model has "
            f"{model.n_donors}: their uncertainty comes from the donors"
        )
    if not LEAST_GENES <= model.counts.n_genes <= MOST_GENES:
        raise InputError(
            f"direct partners are of {LEAST_GENES} to {MOST_GENES} genes, and the model has "
            f"{model.counts.n_genes:,}: choose the genes of interest with CSCore(genes=), e.g. "
            "those of a module"
        )


def _check_genes(counts: Counts, usable: NDArray[np.int64]) -> None:
    left_out = np.setdiff1d(np.arange(counts.n_genes), usable)
    if not len(left_out):
        return
    names = ", ".join(str(g) for g in counts.genes[left_out[:5]])
    names += ", ..." if len(left_out) > 5 else ""
    if len(usable) < LEAST_GENES:
        raise InputError(
            f"only {len(usable)} of {counts.n_genes} genes have enough counts and variance beyond "
            f"counting noise, and direct partners need {LEAST_GENES}: choose genes of higher "
            "expression with CSCore(genes=)"
        )
    warn(
        f"{len(left_out)} of {counts.n_genes} genes have too few counts or no variance beyond "
        f"counting noise ({names}): they are left out of the conditioning set and have no "
        "partners",
        EstimationWarning,
    )


def _donor_sums(
    counts: Counts, problem: fitting.WithinProblem, genes: NDArray[np.int64]
) -> tuple[Array, Array]:
    """Return N and D of each donor for all pairs of some genes, and of their variances."""
    num = fitting.panel_sums(counts, problem, genes)
    every = slice(0, len(genes))
    sums, fit = problem.sums.take(genes), problem.fit.take(genes)
    den = moments.denominators(sums, fit, every, every, num, np.empty_like(num))
    at = np.arange(len(genes))
    num[:, at, at], den[:, at, at] = fit.num.T, fit.den.T
    num, den = (problem.by_donor(part).astype(float) for part in (num, den))
    return num, den


def _estimates(
    num: Array, den: Array, scale: str, shrinkage: float, draws: NDArray[np.int64], least: float
) -> dict[str, Array]:
    """Estimate partial correlations with their jackknife errors and stability."""
    n = len(num)
    at = np.arange(num.shape[1])
    whole = partial.pooled_covariance(num, den, np.ones((1, n)), scale)[0]
    variance = whole[at, at]

    def fit(weight: Array) -> Array:
        covariance = partial.pooled_covariance(num, den, weight, scale)
        return partial.partial_correlation(
            partial.correlation_matrix(covariance, variance), shrinkage
        )

    estimate = fit(np.ones((1, n)))[0]
    se = partial.jackknife(fit(1.0 - np.eye(n)))
    found = np.zeros_like(estimate)
    for draw in draws:
        other = fit(draw[None].astype(float))[0]
        found += (np.sign(other) == np.sign(estimate)) & (np.abs(other) >= least)
    se, df, ordinary = _moderated(estimate, se, n - 1.0)
    return {
        "correlation_unclipped": estimate,
        "se": se,
        "df": df,
        "ordinary_p_value": ordinary,
        "marginal_correlation": partial.correlation_matrix(whole, variance).clip(-1, 1),
        "stability": found / len(draws),
    }


def _moderated(estimate: Array, se: Array, df: float) -> tuple[Array, Array, Array]:
    """Moderate the variances of all pairs; return standard errors, df and unmoderated p-values."""
    i, j = np.triu_indices(len(se), 1)
    own = np.where(se[i, j] > 0, se[i, j], np.nan)
    squeezed = inference.squeeze_variances(own**2, np.full(len(own), df))
    ordinary = 2 * special.stdtr(df, -np.abs(estimate[i, j] / own))
    out = np.full((3, *se.shape), np.nan)
    for matrix, values in zip(
        out, (np.sqrt(squeezed.posterior), squeezed.total_df, ordinary), strict=True
    ):
        matrix[i, j] = matrix[j, i] = values
    return out[0], np.where(np.isnan(out[0]), np.nan, out[1]), out[2]


def _spread(values: Array, genes: NDArray[np.int64], n: int) -> Array:
    """Put the values of some genes among those of all, which are NaN."""
    out = np.full((n, n), np.nan)
    out[np.ix_(genes, genes)] = values
    return out
