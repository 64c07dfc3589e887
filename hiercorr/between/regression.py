"""Linear regression of many genes: coefficients, covariances, robust standard errors."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from scipy import special

from hiercorr.inference.moderation import SqueezedVariances

Array = NDArray[np.float64]
_SINGULAR = 1e12  # condition number of a covariance that cannot be inverted


@dataclass(frozen=True)
class Regression:
    """Fits of G genes with k coefficients.

    Attributes
    ----------
    coefficients : ndarray, shape (k, G)
    covariance : ndarray, shape (G, k, k)
        Covariance of the coefficients, by the requested type of standard errors.
    classical : ndarray, shape (G, k, k)
        Covariance of the coefficients for independent errors of equal variance.
    df : int
        Samples minus coefficients.
    variance : ndarray, shape (G,)
        Residual variances.
    spread : ndarray, shape (S, n_clusters, k) or None
        Components of the Satterthwaite degrees of freedom of cluster-robust errors.
    total_df : ndarray, shape (G,) or None
        Degrees of freedom of moderated tests.
    """

    coefficients: Array
    covariance: Array
    classical: Array
    df: int
    variance: Array
    spread: Array | None = None
    total_df: Array | None = None

    def test(self, weights: Array) -> dict[str, Array]:
        """Test linear combinations of the coefficients.

        Parameters
        ----------
        weights : ndarray, shape (n_combinations, k)

        Returns
        -------
        dict of ndarray, shape (n_combinations, G)
        """
        estimate = weights @ self.coefficients
        variance = np.einsum("ck,gkl,cl->cg", weights, self.covariance, weights)
        with np.errstate(invalid="ignore", divide="ignore"):
            se = np.sqrt(np.where(variance > 0, variance, np.nan))
            statistic = estimate / se
        df = np.full((len(weights), 1), float(self.df))
        if self.spread is not None:
            df = self._satterthwaite(weights)[:, None]
        elif self.total_df is not None:
            df = self.total_df[None]
        whole = np.broadcast_to(df, se.shape)
        p = 2 * special.stdtr(whole, -np.abs(statistic))
        return {
            "beta": estimate,
            "beta_se": se,
            "beta_statistic": statistic,
            "beta_df": np.array(whole),
            "beta_p_value": p,
        }

    def joint_test(self, rows: Array) -> dict[str, Array]:
        r"""Test several linear combinations of the coefficients together.

        .. math:: F = \frac{1}{q} (C\hat\beta)' (C \hat V C')^{-1} C\hat\beta \sim F_{q, df}

        Parameters
        ----------
        rows : ndarray, shape (q, k)
            Linearly independent combinations C that are 0 under the null hypothesis.

        Returns
        -------
        dict of ndarray, shape (G,)
            ``f_statistic``, ``df_denominator`` and ``p_value``.
        """
        estimate = (rows @ self.coefficients).T
        covariance = rows @ self.covariance @ rows.T
        usable = np.linalg.cond(np.nan_to_num(covariance)) < _SINGULAR
        f = np.full(len(estimate), np.nan)
        solved = np.linalg.solve(covariance[usable], estimate[usable][..., None])[..., 0]
        f[usable] = (estimate[usable] * solved).sum(1) / len(rows)
        df = float(self.df) if self.total_df is None else self.total_df
        df = np.where(usable, df, np.nan)
        return {
            "f_statistic": f,
            "df_denominator": df,
            "p_value": special.fdtrc(len(rows), df, f),
        }

    def moderated(self, squeezed: SqueezedVariances) -> Regression:
        """Replace the residual variances by posterior ones in all standard errors and tests."""
        with np.errstate(invalid="ignore", divide="ignore"):
            ratio = squeezed.posterior / self.variance
        covariance = ratio[:, None, None] * self.classical
        return replace(self, covariance=covariance, total_df=squeezed.total_df)

    def _satterthwaite(self, weights: Array) -> Array:
        assert self.spread is not None
        g = np.einsum("sgk,ck->csg", self.spread, weights)
        gram = np.swapaxes(g, 1, 2) @ g
        return np.trace(gram, axis1=1, axis2=2) ** 2 / (gram**2).sum((1, 2))


def least_squares(
    y: Array,
    design: Array,
    weights: Array | None = None,
    errors: str = "classical",
    clusters: NDArray[np.int64] | None = None,
) -> Regression:
    r"""Fit each column of `y` by least squares.

    Parameters
    ----------
    y : ndarray, shape (n_samples, n_genes)
    design : ndarray, shape (n_samples, k) or (n_genes, n_samples, k)
        One design for all genes, or one per gene (whitened).
    weights : ndarray, shape (n_samples, n_genes), optional
        Precision weights.
    errors : {"classical", "hc3", "cluster"}
        ``"hc3"``: :math:`(X'X)^{-1} \sum_i x_i x_i' e_i^2/(1-h_i)^2 (X'X)^{-1}` (MacKinnon & White
        1985). ``"cluster"``: CR2 with Satterthwaite degrees of freedom (Bell & McCaffrey 2002;
        Pustejovsky & Tipton 2018), for one design and no weights.
    clusters : ndarray of int, shape (n_samples,), optional
    """
    s, k = design.shape[-2:]
    df = s - k
    if weights is None and design.ndim == 2:
        bread = np.linalg.inv(design.T @ design)
        beta = bread @ (design.T @ y)
        e = y - design @ beta
        variance = (e**2).sum(0) / df
        classical = variance[:, None, None] * bread
    else:
        x = np.broadcast_to(design, (y.shape[1], s, k))
        w = np.ones_like(y) if weights is None else weights
        wx = w.T[:, :, None] * x
        breads = np.linalg.inv(np.swapaxes(wx, 1, 2) @ x)
        beta = np.einsum("gkl,gsl,sg->kg", breads, wx, y)
        e = y - np.einsum("gsk,kg->sg", x, beta)
        variance = (w * e**2).sum(0) / df
        classical = variance[:, None, None] * breads
        return Regression(beta, classical, classical, df, variance)
    if errors == "classical":
        return Regression(beta, classical, classical, df, variance)
    hat = design @ bread @ design.T
    if errors == "hc3":
        scaled = (e / (1 - np.diag(hat))[:, None]) ** 2
        meat = np.einsum("sg,sk,sl->gkl", scaled, design, design)
        return Regression(beta, bread @ meat @ bread, classical, df, variance)
    assert clusters is not None
    influence, spread = [], []
    for g in np.unique(clusters):
        rows = np.flatnonzero(clusters == g)
        p = (
            _inverse_root(np.eye(len(rows)) - hat[np.ix_(rows, rows)]) @ design[rows] @ bread
        )  # (n_g, k)
        influence.append(np.einsum("nk,ng->gk", p, e[rows]))
        spread.append((np.eye(s) - hat)[:, rows] @ p)
    f = np.array(influence)  # (clusters, genes, k)
    covariance = np.einsum("cgk,cgl->gkl", f, f)
    spreads = np.swapaxes(np.array(spread), 0, 1)
    return Regression(beta, covariance, classical, df, variance, spreads)


def _inverse_root(matrix: Array) -> Array:
    """Return the symmetric square root of the Moore-Penrose inverse."""
    values, vectors = np.linalg.eigh(matrix)
    good = values > 1e-10
    return (vectors[:, good] / np.sqrt(values[good])) @ vectors[:, good].T


def whitener(correlation: Array) -> Array:
    """Return the matrix (n_samples, n_samples) that whitens samples of this correlation."""
    return np.asarray(np.linalg.inv(np.linalg.cholesky(correlation)))
