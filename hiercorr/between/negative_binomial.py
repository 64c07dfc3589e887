"""Negative-binomial regression of counts, one gene at a time, through statsmodels."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import optimize, special

from hiercorr.runtime.progress import shown

Array = NDArray[np.float64]
_LARGEST = 100.0  # dispersion; beyond it a gene is noise


def negative_binomial(
    counts: Array, design: Array, libraries: Array, weights: Array, show: bool | None = None
) -> tuple[dict[str, Array], Array]:
    r"""Fit the model :math:`T_{cj} \sim NB(L_c e^{x_c\beta_j}, \alpha_j)` of each gene.

    The dispersion solves Pearson's :math:`\chi^2` = residual degrees of freedom, which unlike
    maximum likelihood is not biased downwards at few samples; tests are Wald t on those degrees of
    freedom.

    Parameters
    ----------
    counts : ndarray, shape (n_samples, n_genes)
    design : ndarray, shape (n_samples, k)
    libraries : ndarray, shape (n_samples,)
    weights : ndarray, shape (n_combinations, k)
        Linear combinations of the coefficients to test.
    show : bool, optional
        Whether to show a progress bar. None: in a terminal, for many genes.

    Returns
    -------
    dict of ndarray, shape (n_combinations, n_genes)
        beta (natural log), beta_se, beta_statistic, beta_df, beta_p_value; NaN where the fit did
        not converge.
    ndarray, shape (n_genes,)
        Dispersions.
    """
    n, g, df = len(weights), counts.shape[1], len(counts) - design.shape[1]
    beta, se, dispersion = np.full((n, g), np.nan), np.full((n, g), np.nan), np.full(g, np.nan)
    for j in shown(range(g), g, show if g > 200 or show else False, "genes"):
        found = _one(counts[:, j], design, np.log(libraries), df)
        if found is not None:
            coefficients, covariance, dispersion[j] = found
            beta[:, j] = weights @ coefficients
            se[:, j] = np.sqrt(np.einsum("ck,kl,cl->c", weights, covariance, weights))
    with np.errstate(invalid="ignore", divide="ignore"):
        statistic = beta / se
    p = 2 * special.stdtr(df, -np.abs(statistic))
    dof = np.where(np.isfinite(se), float(df), np.nan)
    return {
        "beta": beta,
        "beta_se": se,
        "beta_statistic": statistic,
        "beta_df": dof,
        "beta_p_value": p,
    }, dispersion


def _one(y: Array, design: Array, offset: Array, df: int) -> tuple[Array, Array, float] | None:
    import statsmodels.api as sm

    start: list[Array | None] = [None]

    def fit(alpha: float) -> Any:
        family = sm.families.NegativeBinomial(alpha=alpha)
        result = sm.GLM(y, design, family=family, offset=offset).fit(
            start_params=start[0], tol=1e-10
        )
        start[0] = result.params
        return result

    def excess(log_alpha: float) -> float:
        return float(np.log(fit(float(np.exp(log_alpha))).pearson_chi2 / df))

    low, high = np.log(1e-8), np.log(_LARGEST)
    with warnings.catch_warnings(), np.errstate(all="ignore"):
        warnings.simplefilter("ignore")
        try:
            if excess(low) <= 0:  # no more than Poisson variation
                alpha = low
            elif excess(high) >= 0:
                return None
            else:
                alpha = optimize.brentq(excess, low, high, xtol=1e-6)
            result = fit(float(np.exp(alpha)))
        except (ValueError, np.linalg.LinAlgError, FloatingPointError):
            return None
        if not result.converged or not np.isfinite(result.bse).all():
            return None
        return (
            np.asarray(result.params),
            np.asarray(result.cov_params(scale=1.0)),
            float(np.exp(alpha)),
        )
