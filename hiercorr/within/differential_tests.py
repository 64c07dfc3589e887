r"""Tests of differences of correlation: the moments of each sample are regressed on the design.

The contribution of a sample to the correlation of a pair is linear in its sums (see
:func:`hiercorr.inference.pairs.pair_estimate`): with share b_c and influence x_c, :math:`L_c = \rho
+ x_c / b_c` is to first order the correlation in that sample, without the noise of a ratio, and it
also exists for samples that could not be estimated alone. The regression weights samples by b_c.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray
from scipy import special

from hiercorr import kernels
from hiercorr.design.permutation import distinct_orders, random_orders
from hiercorr.errors import InputError
from hiercorr.inference.pairs import fisher_z, gene_sides, pair_estimate

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Question:
    """Design and contrast of the regression.

    Attributes
    ----------
    design : ndarray, shape (n_samples, k)
    contrast : ndarray, shape (k,)
        Linear combination of coefficients to test.
    groups : ndarray of int, shape (n_samples,) or None
        Level of each sample; None for a numeric condition.
    labels : list of str
        Names of the levels.
    rows : ndarray, shape (q, k), optional
        Contrasts that are 0 under the null hypothesis of an overall test.
    fitted : ndarray, shape (m, k), optional
        Weights of the coefficients in the fitted correlations of the groups, or along the curve,
        for an overall test.
    pairs : dict
        Name and weights of the contrast of each pair of groups.
    """

    design: Array
    contrast: Array
    groups: NDArray[np.int64] | None
    labels: list[str]
    rows: Array | None = None
    fitted: Array | None = None
    pairs: dict[str, Array] = field(default_factory=dict)

    @property
    def group_weights(self) -> Array | None:
        """Weights of the groups' correlations in the contrast; None if it is not of the groups."""
        if self.groups is None:
            return None
        members = [self.design[self.groups == g] for g in range(len(self.labels))]
        own = np.all([np.ptp(rows, axis=0) == 0 for rows in members], axis=0)
        rows = np.array([rows[0, own] for rows in members])
        weights = np.linalg.lstsq(rows.T, self.contrast[own], rcond=None)[0]
        if self.contrast[~own].any() or not np.allclose(weights @ rows, self.contrast[own]):
            return None
        return np.where(np.abs(weights) < 1e-9, 0.0, weights)

    @property
    def largest(self) -> float:
        """Largest absolute value of the contrast of correlations; infinite if unknown."""
        weights = self.group_weights
        return np.inf if weights is None else float(np.abs(weights).sum())


@dataclass(frozen=True)
class Shuffles:
    """Assignments of the condition to the samples under the null hypothesis.

    Attributes
    ----------
    values : ndarray, shape (n, n_samples)
        The condition, as numbers, in each arrangement.
    strata : ndarray of int, shape (n_samples,)
        Samples are permuted only within strata.
    observed : ndarray, shape (n_samples,)
    exact : bool
        Whether these are all distinct arrangements, including the observed one.
    """

    values: Array
    strata: NDArray[np.int64]
    observed: Array
    exact: bool

    @property
    def smallest_p(self) -> float:
        """Smallest p-value that these arrangements can give."""
        if not self.exact:
            return 1 / (len(self.values) + 1)
        # swapping the groups changes only the sign of the statistic
        turned = -self._centred(self.observed)
        mirrored = any(np.allclose(self._centred(v), turned) for v in self.values)
        return (1 + mirrored) / len(self.values)

    def _centred(self, values: Array) -> Array:
        means = np.bincount(self.strata, values) / np.bincount(self.strata)
        return values - means[self.strata]


@dataclass(frozen=True)
class TileSums:
    """Sums of the pairs of a tile, by sample, as in :func:`hiercorr.inference.pairs.pair_estimate`.

    Attributes
    ----------
    num, den : ndarray, shape (n_samples, left, right)
        N and D of each sample.
    gene_num, gene_den : pair of ndarray, shape (genes, n_samples)
        N and D of the variances of the genes of both sides.
    noise : pair of ndarray
        Poisson noise of the genes of both sides.
    """

    num: NDArray
    den: NDArray
    gene_num: tuple[Array, Array]
    gene_den: tuple[Array, Array]
    noise: tuple[Array, Array]


def tile_difference(
    question: Question, sums: TileSums, shuffles: Shuffles | None, upper: bool = False
) -> dict[str, NDArray]:
    r"""Estimate the differences of the pairs of a tile, with standard errors and df.

    .. math:: \hat\beta = M \sum_c X_c (b_c \rho + x_c), \quad
              M = \Big(\sum_c b_c X_c X_c'\Big)^{-1}, \quad
              u_c = b_c(\rho - X_c\hat\beta) + x_c, \quad
              \operatorname{Var}(c'\hat\beta) = \sum_c
              \frac{(c'M X_c u_c)^2}{1 - h_c}, \quad h_c = b_c X_c' M X_c

    which is HC2, with Satterthwaite degrees of freedom under variances proportional to 1 / b_c
    (Bell & McCaffrey 2002). Two groups of equal samples give Welch's test, pairs of samples in
    blocks the paired t test.

    Parameters
    ----------
    question : Question
    sums : TileSums
    shuffles : Shuffles, optional
        Permutations whose studentised statistics are compared with the observed one.
    upper : bool
        Whether the tile is symmetric: only its upper triangle is filled.

    Returns
    -------
    dict of ndarray
        ``difference``, ``se``, ``df`` (left, right); ``group_correlation`` (group, left, right),
        not clipped, where there are groups; ``permutation_p`` with shuffles.
    """
    given = (sums.num, sums.den, *gene_sides(sums.gene_num, sums.gene_den, sums.noise))
    out: dict[str, NDArray] = dict(
        zip(
            ("difference", "se", "df"),
            kernels.differences.difference(*given, question.design, question.contrast, upper),
            strict=True,
        )
    )
    if question.groups is not None:
        out["group_correlation"] = _by_group(question.groups, len(question.labels), sums)
    if shuffles is not None:
        count = kernels.differences.permuted_differences(
            *given, shuffles.observed, shuffles.values, shuffles.strata, upper
        )
        extra = 0 if shuffles.exact else 1
        p = (count + extra) / (len(shuffles.values) + extra)
        out["permutation_p"] = np.where(np.isfinite(out["difference"]) & (count >= 0), p, np.nan)
    return out


def overall_difference(question: Question, sums: TileSums) -> dict[str, NDArray]:
    r"""Test for the pairs of a tile whether all groups, or all values of a number, agree.

    .. math:: Q = (C\hat\beta)' \hat V^{-1} C\hat\beta, \quad
              \hat V = \sum_c \frac{(CMX_c u_c)(CMX_c u_c)'}{1 - h_c}, \quad
              F = \frac{\eta - q + 1}{\eta q} Q \sim F_{q, \eta - q + 1}

    for the q rows of C and the regression of :func:`tile_difference`. :math:`\eta` are the degrees
    of freedom of the Wishart distribution whose total variance is that of :math:`\hat V` under
    variances proportional to 1 / b_c (the approximate Hotelling test AHT of Pustejovsky & Tipton
    2018); for q = 1 this is the square of the t test with Satterthwaite degrees of freedom.

    Parameters
    ----------
    question : Question
        With `rows` and `fitted`.
    sums : TileSums

    Returns
    -------
    dict of ndarray
        ``f_statistic``, ``df_denominator``, ``p_value`` and ``largest_difference`` (left, right);
        ``group_correlation`` (group, left, right), not clipped, where there are groups.
    """
    assert question.rows is not None
    assert question.fitted is not None
    given = (sums.num, sums.den, *gene_sides(sums.gene_num, sums.gene_den, sums.noise))
    wald, eta, spread = kernels.differences.overall(
        *given, question.design, question.rows, question.fitted
    )
    q = len(question.rows)
    df = eta - q + 1
    df = np.where(df > 0, df, np.nan)
    f = df / (eta * q) * wald
    out = {
        "f_statistic": f,
        "df_denominator": df,
        "p_value": special.fdtrc(q, df, f),
        "largest_difference": spread,
    }
    if question.groups is not None:
        out["group_correlation"] = _by_group(question.groups, len(question.labels), sums)
    return out


def pooled_difference(question: Question, sums: TileSums, uncertainty: str) -> dict[str, NDArray]:
    r"""Compare the correlations of two groups, each from its own sums, on Fisher's scale.

    .. math:: z = \operatorname{atanh}\hat\rho_2 - \operatorname{atanh}\hat\rho_1, \quad
              t = \frac{z}{\sqrt{s_1^2 + s_2^2}}, \quad
              s_g = \frac{se(\hat\rho_g)}{1 - \hat\rho_g^2}, \quad
              df = \frac{(s_1^2 + s_2^2)^2}{s_1^4/df_1 + s_2^4/df_2}

    for the groups in the order of the contrast. The standard error of the difference
    :math:`d = \hat\rho_2 - \hat\rho_1` is :math:`d / t`: that of z times the mean slope of the
    correlation over z, :math:`d / z`, so that its interval and the test agree.

    Returns
    -------
    dict of ndarray
        As :func:`tile_difference`.
    """
    weights = question.group_weights
    assert question.groups is not None
    assert weights is not None
    parts = []
    for g in range(2):
        members = question.groups == g
        nums, dens = (
            [np.ascontiguousarray(v[:, members]) for v in pair]
            for pair in (sums.gene_num, sums.gene_den)
        )
        sides = ((nums[0], nums[1]), (dens[0], dens[1]))
        num, den = sums.num[members], sums.den[members]
        parts.append(pair_estimate(num, den, *sides, uncertainty, sums.noise))
    with np.errstate(divide="ignore", invalid="ignore"):
        r, se, df = (
            np.array([getattr(e, k) for e in parts], float) for k in ("correlation", "se", "df")
        )
        z, s2 = fisher_z(r), (se / (1 - r**2)) ** 2
        difference, change = (np.tensordot(weights, v, 1) for v in (r, z))
        slope = np.where(change == 0, 1 - r[0] ** 2, difference / change)
        error = slope * np.sqrt(np.tensordot(weights**2, s2, 1))
        welch = s2.sum(0) ** 2 / (s2**2 / df).sum(0)
    return {
        "difference": difference,
        "se": error,
        "df": np.where(np.isfinite(error), welch, np.nan),
        "group_correlation": r,
    }


def _by_group(groups: NDArray[np.int64], n: int, sums: TileSums) -> NDArray:
    """Estimate the correlation within samples of each group alone: the ratio of its sums."""
    out = np.full((n, *sums.num.shape[1:]), np.nan)
    with np.errstate(divide="ignore", invalid="ignore"):
        for g in range(n):
            members = groups == g
            variance = [
                a[:, members].sum(1) / b[:, members].sum(1)
                for a, b in zip(sums.gene_num, sums.gene_den, strict=True)
            ]
            variance = [np.where(v > 0, v, np.nan) for v in variance]
            num, den = (a[members].sum(0, dtype=np.float64) for a in (sums.num, sums.den))
            out[g] = num / np.where(den > 0, den, np.nan)
            out[g] /= np.sqrt(np.outer(*variance))
    return out


def shuffles(
    values: Array, strata: NDArray[np.int64], n: int, seed: int | np.random.Generator | None
) -> Shuffles:
    """Return all distinct arrangements if there are no more than `n`, otherwise `n` random ones."""
    found = distinct_orders(values, strata, n)
    if found is not None:
        return Shuffles(found, strata, values, True)
    orders = random_orders(strata, n, np.random.default_rng(seed))
    return Shuffles(values[orders], strata, values, False)


def check_reach(found: Shuffles, condition: str) -> None:
    """Raise an error if no permutation changes the condition."""
    if len(found.values) < 2:
        raise InputError(
            f"no permutation changes {condition!r}: it has one value in every stratum; leave out "
            "permutations="
        )
