r"""Differences of the slopes on a target between groups of samples: F test and pairs of groups.

Each gene y is regressed on the target x, the groups, and their product,

.. math:: y_s = a_{g(s)} + b_{g(s)}\, x_s + z_s'\gamma + \epsilon_s,

with covariates z of the formula. The overall test is that all slopes b are equal.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy import stats

from hiercorr.between.methods import (
    BetweenProblem,
    check_target,
    target_design,
    target_regression,
)
from hiercorr.between.residuals import residuals
from hiercorr.errors import InputError
from hiercorr.inference.moderation import squeeze_variances
from hiercorr.inference.multiplicity import benjamini_hochberg, holm_layers, tukey_kramer

Array = NDArray[np.float64]

ADJUSTMENTS = ("holm", "tukey")
LEAST = 3  # samples of a group with a slope of its own


@dataclass(frozen=True)
class Groups:
    """Groups of samples in the formula.

    Attributes
    ----------
    names : list of str
    rows : ndarray, shape (n_groups, n_coefficients)
        Weights of the coefficients of the formula in the mean of each group.
    alone : bool
        Whether the formula has no other terms, and samples no blocks.
    """

    names: list[str]
    rows: Array
    alone: bool


def slope_table(
    problem: BetweenProblem,
    at: int,
    groups: Groups,
    adjustment: str,
    moderation: str | None,
    confidence: float,
) -> pd.DataFrame:
    """Compare the slopes of each gene on the target (gene number `at`) between groups.

    Parameters
    ----------
    problem : BetweenProblem
        With the coefficients of the groups as its interaction.
    at : int
    groups : Groups
    adjustment : {"holm", "tukey"}
        For the number of pairs of groups, within each gene.
    moderation : str or None
        Kind of moderation of the residual variances.
    confidence : float
        Confidence level of the intervals.

    Returns
    -------
    DataFrame
        As :meth:`hiercorr.Pseudobulk.compare_slopes` describes it.
    """
    fitted = residuals(problem.expression, problem.design.matrix)
    check_target(problem, fitted, at)
    design = target_design(problem, at)
    if np.linalg.matrix_rank(design) < design.shape[1]:
        raise InputError(
            f"target {problem.genes[at]!r} does not vary in each group given "
            f"{problem.design.formula!r}: not every group has a slope; leave out terms"
        )
    fit, mean_log = target_regression(problem, "ols", design)
    usable = ~fitted.constant
    usable[at] = False
    if moderation is not None:
        variance = np.where(usable, fit.variance, np.nan)
        trend = mean_log if "trend" in moderation else None
        squeezed = squeeze_variances(variance, float(fit.df), trend, "robust" in moderation)
        fit = fit.moderated(squeezed)
    own = np.zeros((len(groups.names), design.shape[1]))
    first = problem.design.matrix.shape[1]
    columns = list(problem.interaction)
    own[:, first : first + len(columns)] = groups.rows[:, columns]
    pairs = list(itertools.combinations(range(len(own)), 2))
    names = [f"{groups.names[j]} - {groups.names[i]}" for i, j in pairs]
    tests = fit.test(np.array([own[j] - own[i] for i, j in pairs]))
    overall = fit.joint_test(own[1:] - own[0])
    for values in (*tests.values(), *overall.values()):
        values[..., ~usable] = np.nan
    t, df, p = (tests[f"beta_{k}"] for k in ("statistic", "df", "p_value"))
    adjusted = holm_layers(p) if adjustment == "holm" else tukey_kramer(t, len(own), df)
    half = stats.t.ppf(0.5 + confidence / 2, df) * tests["beta_se"]
    by_contrast = {
        "slope_difference": tests["beta"],
        "se": tests["beta_se"],
        "ci_lower": tests["beta"] - half,
        "ci_upper": tests["beta"] + half,
        "statistic": t,
        "df": df,
        "p_value": p,
        "adjusted_p_value": adjusted,
    }
    by_gene = {
        "f_statistic": overall["f_statistic"],
        "df_denominator": overall["df_denominator"],
        "f_p_value": overall["p_value"],
        "f_q_value": benjamini_hochberg(overall["p_value"]),
    }
    genes = np.delete(np.arange(len(problem.genes)), at)
    order = genes[np.argsort(by_gene["f_p_value"][genes], kind="stable")]
    index = pd.MultiIndex.from_product([problem.genes[order], names], names=["gene", "contrast"])
    table = {k: v.T[order].ravel() for k, v in by_contrast.items()}
    table |= {k: np.repeat(v[order], len(names)) for k, v in by_gene.items()}
    return pd.DataFrame(table, index)
