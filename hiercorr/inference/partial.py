r"""Partial correlations of genes given all others, from sums over donors.

With N and D the numerators and denominators of each pair, :math:`\phi_{jk} = \sum_c N_{cjk} /
\sum_c D_{cjk}` is the covariance of expression relative to the means, without the noise of counts,
and R its correlation matrix; on the scale of the logarithm, the covariance is
:math:`\log(1 + \phi_{jk})`, that of a Poisson-lognormal model (Aitchison & Ho 1989). R need not be
positive definite. Its precision matrix is estimated in three steps:

1. :math:`R_+`: eigenvalues of R below :data:`FLOOR` are set to it, and the diagonal is scaled to 1;
2. :math:`\Theta = [(1 - \lambda) R_+ + \lambda I]^{-1}`, the shrinkage :math:`\lambda` maximises
   the Gaussian log-likelihood of left-out donors;
3. :math:`T = 2\Theta - \Theta R \Theta`, which takes out the bias of the shrinkage to first order
   (Jankova & van de Geer 2015).

The partial correlation is :math:`-T_{jk} / \sqrt{T_{jj} T_{kk}}`.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]

FLOOR = 1e-3  # of the eigenvalues of a correlation matrix
SHRINKAGE = (0.01, 0.02, 0.03, 0.05, 0.07, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5)
SCALES = ("log", "natural")
_LEAST = 0.05  # of the diagonal of T, relative to that of Theta


def pooled_covariance(num: Array, den: Array, weight: Array, scale: str) -> Array:
    """Compute the covariance of genes from the sums of donors.

    Parameters
    ----------
    num, den : ndarray, shape (n_donors, n_genes, n_genes)
        N and D of each donor; those of a gene with itself are of its variance.
    weight : ndarray, shape (n_fits, n_donors)
        Number of times each donor is used.
    scale : {"log", "natural"}

    Returns
    -------
    ndarray, shape (n_fits, n_genes, n_genes)
        Pairs without information are 0.
    """
    n = len(num)
    flat = [(weight @ part.reshape(n, -1)).reshape(-1, *part.shape[1:]) for part in (num, den)]
    with np.errstate(invalid="ignore", divide="ignore"):
        phi = np.where(flat[1] > 0, flat[0] / flat[1], 0.0)
    return np.log1p(np.maximum(phi, -0.95)) if scale == "log" else phi


def correlation_matrix(covariance: Array, variance: Array) -> Array:
    """Divide covariances by standard deviations; a variance that is not positive is replaced.

    Parameters
    ----------
    covariance : ndarray, shape (..., n_genes, n_genes)
    variance : ndarray, shape (n_genes,)
        Positive variances, for genes whose variance is not positive in a resample.
    """
    own = np.diagonal(covariance, axis1=-2, axis2=-1)
    sd = np.sqrt(np.where(own > 0, own, variance))
    r = covariance / (sd[..., :, None] * sd[..., None, :])
    every = np.arange(r.shape[-1])
    r[..., every, every] = 1.0
    return r


def positive_definite(r: Array, floor: float = FLOOR) -> Array:
    """Set the eigenvalues below `floor` to it, and scale the diagonal to 1.

    Parameters
    ----------
    r : ndarray, shape (..., n_genes, n_genes)
        Symmetric matrices with unit diagonal.
    floor : float
    """
    values, vectors = np.linalg.eigh(r)
    clipped = (vectors * np.maximum(values, floor)[..., None, :]) @ np.swapaxes(vectors, -1, -2)
    sd = np.sqrt(np.diagonal(clipped, axis1=-2, axis2=-1))
    clipped /= sd[..., :, None] * sd[..., None, :]
    return np.where((values[..., 0] < floor)[..., None, None], clipped, r)


def shrunken_precision(r: Array, shrinkage: float) -> Array:
    """Invert the positive-definite matrix after shrinkage toward the identity."""
    shrunken: Array = (1 - shrinkage) * positive_definite(r) + shrinkage * np.eye(r.shape[-1])
    return np.linalg.inv(shrunken).astype(np.float64, copy=False)


def partial_correlation(r: Array, shrinkage: float) -> Array:
    """Compute partial correlations of all pairs given all other genes.

    Parameters
    ----------
    r : ndarray, shape (..., n_genes, n_genes)
        Symmetric matrices with unit diagonal.
    shrinkage : float
        Weight of the identity, between 0 and 1.

    Returns
    -------
    ndarray, shape (..., n_genes, n_genes)
        With unit diagonal.
    """
    theta = shrunken_precision(r, shrinkage)
    t = 2 * theta - theta @ r @ theta
    own = np.maximum(
        np.diagonal(t, axis1=-2, axis2=-1), _LEAST * np.diagonal(theta, axis1=-2, axis2=-1)
    )
    sd = np.sqrt(own)
    partial = -(t + np.swapaxes(t, -1, -2)) / (2 * sd[..., :, None] * sd[..., None, :])
    every = np.arange(r.shape[-1])
    partial[..., every, every] = 1.0
    return partial


def left_out_loss(num: Array, den: Array, scale: str, shrinkage: float) -> float:
    r"""Compute minus twice the Gaussian log-likelihood of each donor, given the others' precision.

    The covariance of the left-out donor enters linearly and need not be positive definite. It is
    that of the others plus the donor's deviation, :math:`\phi + (N_c - D_c \phi) / (w_c \bar D)`,
    so that a pair without information in a donor adds none.

    Parameters
    ----------
    num, den : ndarray, shape (n_donors, n_genes, n_genes)
    scale : {"log", "natural"}
    shrinkage : float

    Returns
    -------
    float
        Average over donors by their information w.
    """
    n = len(num)
    others = pooled_covariance(num, den, 1.0 - np.eye(n), "natural")
    total = den.sum(0)
    every = np.arange(num.shape[1])
    weight = np.median(den[:, every, every] / total[every, every], axis=1)
    full = pooled_covariance(num, den, np.ones((1, n)), scale)[0]
    variance = full[every, every]
    loss = 0.0
    for c in np.flatnonzero(weight > 0):
        known = np.where(total > 0, total, np.inf)
        phi = others[c] + (num[c] - den[c] * others[c]) / (known * weight[c])
        s = np.log1p(others[c].clip(-0.95)) if scale == "log" else others[c]
        if scale == "log":  # to first order, as the logarithm of a noisy covariance is biased
            phi = s + (phi - others[c]) / (1 + others[c].clip(-0.95))
        r = correlation_matrix(s, variance)
        own = np.where(s[every, every] > 0, s[every, every], variance)
        held = phi / np.sqrt(np.outer(own, own))
        theta = shrunken_precision(r, shrinkage)
        loss += weight[c] * (float((theta * held).sum()) - float(np.linalg.slogdet(theta)[1]))
    return loss / float(weight.sum())


def choose_shrinkage(num: Array, den: Array, scale: str) -> float:
    """Return the shrinkage of :data:`SHRINKAGE` with the smallest loss in left-out donors."""
    return min(SHRINKAGE, key=lambda x: left_out_loss(num, den, scale, x))


def jackknife(estimates: Array) -> Array:
    """Compute standard errors from the estimates without one donor each, (n_donors, ...)."""
    n = len(estimates)
    return np.sqrt((n - 1) / n * ((estimates - estimates.mean(0)) ** 2).sum(0))
