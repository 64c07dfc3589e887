"""Power and sample size: how many donors and cells a question needs, and the cheapest design that answers it."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import anndata as ad
import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy import optimize, special, stats

from hiercorr.errors import InputError

QUESTIONS = ("within", "between", "differential")
_SOLVABLE = ("samples", "cells", "mean", "rho", "heterogeneity", "power")
_CELLS = 200_000  # drawn once to find what one cell tells of a correlation
_MOST = {"samples": 10_000, "cells": 10_000_000, "mean": 1e4}


@dataclass(frozen=True)
class Design:
    """A design and what it can see; see :func:`power` for the fields."""

    question: str
    samples: float
    cells: float
    mean: tuple[float, float]
    rho: float
    heterogeneity: float
    power: float
    alpha: float
    tests: int
    within_sd: tuple[float, float]
    between_sd: float
    depth_sd: float
    baseline: float
    paired: bool
    covariates: int
    standard_error: float = math.nan
    df: float = math.nan

    def __str__(self) -> str:
        what = {
            "within": f"correlation {self.rho:.3g} within samples",
            "between": f"correlation {self.rho:.3g} between samples",
            "differential": f"a difference of {self.rho:g} from {self.baseline:g} within samples"
            + (", in pairs" if self.paired else ", two groups"),
        }[self.question]
        return (
            f"{what}: power {self.power:.2f} with {self.samples:g} samples of {self.cells:,.0f} cells, mean counts "
            f"{self.mean[0]:.3g} and {self.mean[1]:.3g}, heterogeneity {self.heterogeneity:.3g}, alpha {self.alpha:g} over "
            f"{self.tests:,} tests (standard error {self.standard_error:.3f}, {self.df:.3g} degrees of freedom)"
        )


def power(
    question: str = "within",
    *,
    samples: float | None = None,
    cells: float | None = None,
    mean: float | tuple[float, float] | None = 1.0,
    rho: float | None = 0.3,
    heterogeneity: float | None = 0.1,
    power: float | None = None,
    alpha: float = 0.05,
    tests: int = 1,
    within_sd: float | tuple[float, float] = 0.8,
    between_sd: float = 0.4,
    depth_sd: float = 0.4,
    baseline: float = 0.0,
    paired: bool = False,
    covariates: int = 0,
) -> Design:
    r"""Power of a design, or the one quantity that is None solved for the others.

    Within samples the estimate has variance :math:`(\tau^2 + v / n) / S`, v what one cell tells (the variance of its
    influence under the Poisson-lognormal model, by one large draw), n cells in each of S samples, and a t test on S - 1
    degrees of freedom: a non-central t. A difference has :math:`4(\tau^2 + v / n) / S` on S - 2 (in pairs
    :math:`2(\tau^2 + v/n) / (S/2)` on S/2 - 1). Between samples the correlation is weakened by the noise of the means,
    :math:`r = \rho\sqrt{R_1 R_2}` with reliability :math:`R = b^2 / (b^2 + e/n)`, and the t test on S - 2 - q degrees of
    freedom has non-centrality :math:`r\sqrt{(S - 1 - q) / (1 - r^2)}`; the standard error given is Fisher's.

    Parameters
    ----------
    question : {"within", "between", "differential"}
    samples : float
        Number of samples (both groups together).
    cells : float
        Cells per sample.
    mean : float or pair of float
        Mean count of the genes in a cell of average depth.
    rho : float
        The correlation (of expression within samples; of log means between samples), or the difference of two.
    heterogeneity : float
        Standard deviation of the correlation within samples over samples.
    power : float
        Wanted power. Exactly one of samples, cells, mean, rho, heterogeneity and power is None.
    alpha : float
        Two-sided level; with `tests` it is divided by their number (Bonferroni).
    tests : int
        Number of pairs that are tested.
    within_sd : float or pair of float
        Standard deviation of log expression over cells.
    between_sd : float
        Standard deviation of the log means over samples.
    depth_sd : float
        Standard deviation of log depth over cells.
    baseline : float
        Correlation in the first group, for a difference.
    paired : bool
        Both conditions in each donor.
    covariates : int
        Coefficients beside the intercept that take degrees of freedom, between samples.

    Returns
    -------
    Design

    Raises
    ------
    InputError
        If not exactly one quantity is None, a value cannot be, or no value reaches the power.

    Examples
    --------
    >>> import hiercorr as hc
    >>> round(hc.power(samples=8, cells=300, mean=0.5, rho=0.3).power, 1)
    0.7
    >>> hc.power(cells=300, mean=0.5, rho=0.3, power=0.9).samples
    12
    """
    given = {
        "samples": samples,
        "cells": cells,
        "mean": mean,
        "rho": rho,
        "heterogeneity": heterogeneity,
        "power": power,
    }
    if question not in QUESTIONS:
        raise InputError(f"question must be one of {QUESTIONS}, not {question!r}")
    if question == "between" and heterogeneity is None:
        raise InputError("heterogeneity is of the correlation within samples: it plays no part between them")
    wanted = [k for k, v in given.items() if v is None]
    if len(wanted) != 1:
        raise InputError(f"exactly one of {', '.join(_SOLVABLE)} must be None to be solved for; {wanted or 'none'} is")
    _check(given, alpha, tests, within_sd, between_sd, depth_sd, baseline, question)
    filled: dict[str, Any] = {k: (math.nan if v is None else v) for k, v in given.items()}
    base = Design(
        question, float(filled["samples"]), float(filled["cells"]), _two(filled["mean"]), float(filled["rho"]),
        float(filled["heterogeneity"]), float(filled["power"]), alpha, tests, _two(within_sd), between_sd, depth_sd,
        baseline, paired, covariates,
    )  # fmt: skip
    return _with_power(base) if wanted[0] == "power" else _solved(base, wanted[0])


def _two(value: Any) -> tuple[float, float]:
    return (float(value[0]), float(value[1])) if isinstance(value, tuple | list) else (float(value), float(value))


def _check(
    given: dict[str, Any], alpha: float, tests: int, within_sd: Any, between_sd: float, depth_sd: float, baseline: float,
    question: str,
) -> None:  # fmt: skip
    for name, value, low, high in (
        ("samples", given["samples"], 3, math.inf), ("cells", given["cells"], 2, math.inf), ("rho", given["rho"], -1, 1),
        ("heterogeneity", given["heterogeneity"], 0, 1), ("power", given["power"], 0, 1), ("alpha", alpha, 0, 1),
        ("tests", tests, 1, math.inf), ("between_sd", between_sd, 0, 10), ("depth_sd", depth_sd, 0, 3),
        ("baseline", baseline, -1, 1),
    ):  # fmt: skip
        open_ends = name in ("rho", "power", "alpha", "baseline")
        if value is not None and not (low < value < high if open_ends else low <= value <= high):
            raise InputError(f"{name}={value!r} must lie between {low:g} and {high:g}")
    for name, value in (("mean", given["mean"]), ("within_sd", within_sd)):
        if value is not None and not min(_two(value)) > 0:
            raise InputError(f"{name}={value!r} must be positive")
    if question == "differential" and given["rho"] is not None and not abs(given["rho"] + baseline) < 1:
        raise InputError(f"baseline + rho = {given['rho'] + baseline:g} is no correlation")


def _with_power(design: Design) -> Design:
    s, n = design.samples, design.cells
    level = design.alpha / design.tests
    if design.question == "between":
        reliability = [_reliability(m, w, design, n) for m, w in zip(design.mean, design.within_sd, strict=True)]
        shown = design.rho * math.sqrt(reliability[0] * reliability[1])
        df = s - 2 - design.covariates
        if df < 2:
            raise InputError(
                f"{s:g} samples with {design.covariates} covariates leave {df:g} degrees of freedom: 2 are needed"
            )
        shift = abs(shown) / math.sqrt(1 - shown**2) * math.sqrt(df + 1)
        critical = stats.t.isf(level / 2, df)
        reached = stats.nct.sf(critical, df, shift) + stats.nct.cdf(-critical, df, shift)
        return replace(design, power=float(min(reached, 1.0)), standard_error=1 / math.sqrt(df - 1), df=float(df))
    if design.question == "within":
        variance = (design.heterogeneity**2 + _information(design, design.rho) / n) / s
        df = s - 1
    else:
        one, other = (_information(design, r) / n for r in (design.baseline, design.baseline + design.rho))
        variance = 2 * (2 * design.heterogeneity**2 + one + other) / s
        df = s / 2 - 1 if design.paired else s - 2
    if df < 1:
        raise InputError(f"{s:g} samples leave {df:g} degrees of freedom; more are needed")
    error = math.sqrt(variance)
    critical = stats.t.isf(level / 2, df)
    shift = abs(design.rho) / error
    reached = stats.nct.sf(critical, df, shift) + stats.nct.cdf(-critical, df, shift)
    if not math.isfinite(reached):
        reached = stats.norm.sf(critical - shift)
    return replace(design, power=float(min(reached, 1.0)), standard_error=error, df=float(df))


def _solved(design: Design, name: str) -> Design:
    """The design with the one quantity that reaches the wanted power."""
    goal = design.power

    def at(value: float) -> Design:
        key: Any = (value, value) if name == "mean" else value
        return _with_power(replace(design, **{name: key}))

    if name in ("samples", "cells"):
        low = _least_samples(design) if name == "samples" else 2
        if at(low).power >= goal:
            return at(low)
        high = int(_MOST[name])
        if at(high).power < goal:
            raise InputError(
                f"no number of {name} up to {high:,} gives power {goal:g} (at most {at(high).power:.2f}): "
                + ("more samples are needed" if name == "cells" else "the effect is too small")
            )
        step = 2 if name == "samples" and design.paired and design.question == "differential" else 1
        while high - low > step:
            middle = low + (high - low) // (2 * step) * step
            low, high = (middle, high) if at(middle).power < goal else (low, middle)
        return at(high)
    bottom, top = {
        "mean": (1e-4, _MOST["mean"]), "rho": (1e-4, 0.99 - max(design.baseline, 0)), "heterogeneity": (0.0, 1.0),
    }[name]  # fmt: skip
    ends = at(bottom).power - goal, at(top).power - goal
    if ends[0] * ends[1] > 0:
        raise InputError(
            f"no {name} between {bottom:g} and {top:g} gives power {goal:g}: it is {at(bottom).power:.2f} to "
            f"{at(top).power:.2f}"
        )
    return at(float(optimize.brentq(lambda v: at(v).power - goal, bottom, top, xtol=1e-5)))


def _least_samples(design: Design) -> int:
    if design.question == "between":
        return 4 + design.covariates
    return 3 if design.question == "within" else 4


def _information(design: Design, rho: float) -> float:
    return cell_variance(design.mean, design.within_sd, rho, design.depth_sd)


@lru_cache(maxsize=4096)
def cell_variance(mean: tuple[float, float], within_sd: tuple[float, float], rho: float, depth_sd: float) -> float:
    r"""What one cell tells: variance of its influence on the correlation within samples.

    .. math:: u = \rho\Big[\frac{y_1 y_2}{E\,y_1 y_2} - \frac{q_1}{2 E q_1} - \frac{q_2}{2 E q_2}\Big], \quad
              y = w (x - s\mu), \quad q = y^2 - w^2 s \mu, \quad w = \frac{1}{1 + s\mu/\theta}

    by one large draw of cells from the Poisson-lognormal model, with theta the genes' mean^2 / variance.

    Parameters
    ----------
    mean, within_sd : pair of float
    rho : float
        On the scale of expression.
    depth_sd : float
    """
    rng = np.random.default_rng(20_261_126)
    phi = np.expm1(np.square(within_sd))
    bound = math.sqrt(phi[0] * phi[1])
    latent = np.clip(np.log1p(np.clip(rho * bound, -0.999, None)) / (within_sd[0] * within_sd[1]), -0.999, 0.999)
    g = rng.standard_normal((2, _CELLS))
    g[1] = latent * g[0] + math.sqrt(1 - latent**2) * g[1]
    s = np.exp(depth_sd * rng.standard_normal(_CELLS) - depth_sd**2 / 2)
    y, q, own = [], [], []
    for k in range(2):
        e = np.exp(within_sd[k] * g[k] - within_sd[k] ** 2 / 2)
        x = rng.poisson(s * mean[k] * e)
        w = 1 / (1 + s * mean[k] * math.sqrt(bound))
        y.append(w * (x - s * mean[k]))
        q.append(y[k] ** 2 - w**2 * s * mean[k])
        own.append((w, (w * s * mean[k]) ** 2))
    shared = float(np.mean(own[0][0] * own[1][0] * s**2) * mean[0] * mean[1]) * bound
    u = y[0] * y[1] / shared
    for k in range(2):
        u -= rho / 2 * q[k] / float(np.mean(own[k][1]) * phi[k])
    return float(u.var())


def _reliability(mean: float, within_sd: float, design: Design, cells: float) -> float:
    """Share of the variance of a sample's log mean that is not the noise of its cells."""
    noise = (1 / mean + math.expm1(within_sd**2) * math.exp(design.depth_sd**2)) / cells
    return design.between_sd**2 / (design.between_sd**2 + noise) if design.between_sd > 0 else 0.0


def power_curve(design: Design, over: str, values: Iterable[float]) -> pd.DataFrame:
    """Power over values of one quantity.

    Parameters
    ----------
    design : Design
        As :func:`power` gives it.
    over : {"samples", "cells", "mean", "rho", "heterogeneity"}
    values : iterable of float

    Returns
    -------
    DataFrame
        Indexed by the quantity: power, standard_error, df.

    Examples
    --------
    >>> import hiercorr as hc
    >>> from hiercorr.planning import power_curve
    >>> curve = power_curve(hc.power(samples=8, cells=300), "samples", [5, 10, 20])
    >>> bool(curve["power"].is_monotonic_increasing)
    True
    """
    if over not in ("samples", "cells", "mean", "rho", "heterogeneity"):
        raise InputError(f"over must be samples, cells, mean, rho or heterogeneity, not {over!r}")
    rows = []
    for value in values:
        moved: dict[str, Any] = {over: _two(value) if over == "mean" else float(value)}
        found = _with_power(replace(design, **moved))
        rows.append({over: value, "power": found.power, "standard_error": found.standard_error, "df": found.df})
    return pd.DataFrame(rows).set_index(over)


def around(design: Design, over: str) -> list[float]:
    """Values of a quantity to draw a curve over: from little to several times that of the design.

    Parameters
    ----------
    design : Design
    over : {"samples", "cells", "mean", "rho", "heterogeneity"}
    """
    if over == "samples":
        step = 2 if design.paired else 1
        return [float(s) for s in range(_least_samples(design), int(3 * design.samples) + 2, step)][:200]
    if over == "cells":
        return [float(c) for c in np.unique(np.geomspace(10, max(20 * design.cells, 100), 40).round())]
    if over == "mean":
        return list(np.geomspace(0.01, 20, 30))
    if over == "rho":
        return list(np.linspace(0.02, 0.95 - max(design.baseline, 0), 30))
    if over == "heterogeneity":
        return list(np.linspace(0, 0.5, 26))
    raise InputError(f"over must be samples, cells, mean, rho or heterogeneity, not {over!r}")


def best_design(
    design: Design, donor_cost: float, cell_cost: float, *, goal: float = 0.8, budget: float | None = None
) -> pd.DataFrame:
    """The cheapest design that reaches a power, or the most powerful one that a budget buys.

    Parameters
    ----------
    design : Design
        The question; its samples and cells are set free.
    donor_cost, cell_cost : float
        Of one more sample, and of one cell.
    goal : float
        Wanted power, without a budget.
    budget : float, optional
        What may be spent: samples x (donor_cost + cells x cell_cost).

    Returns
    -------
    DataFrame
        One row a number of samples, best first: samples, cells, cost, power.
    """
    if not (donor_cost >= 0 and cell_cost > 0):
        raise InputError(f"costs must be positive, not {donor_cost!r} and {cell_cost!r}")
    rows = []
    step = 2 if design.question == "differential" else 1
    for s in range(_least_samples(design), 201, step):
        if budget is None:
            try:
                found = _solved(replace(design, samples=float(s), power=goal), "cells")
            except InputError:
                continue
        else:
            cells = math.floor((budget / s - donor_cost) / cell_cost)
            if cells < 2:
                break
            found = _with_power(replace(design, samples=float(s), cells=float(cells)))
        cost = s * (donor_cost + found.cells * cell_cost)
        rows.append({"samples": s, "cells": int(found.cells), "cost": cost, "power": found.power})
    if not rows:
        raise InputError(
            f"no design of up to 200 samples reaches power {goal:g}" if budget is None else "the budget buys no design"
        )
    by, ascending = (["cost"], [True]) if budget is None else (["power", "cost"], [False, True])
    return pd.DataFrame(rows).sort_values(by, ascending=ascending, kind="stable", ignore_index=True)


def pilot(
    data: ad.AnnData | str | Path, sample: str, gene_a: str, gene_b: str, *, depth: str | None = None, **options: Any
) -> dict[str, Any]:
    """What a pilot data set says of a pair, as arguments of :func:`power`.

    Parameters
    ----------
    data : AnnData or path
        Raw counts of one cell type.
    sample : str
    gene_a, gene_b : str
    depth, **options
        As for :class:`hiercorr.CSCore`.

    Returns
    -------
    dict
        samples, cells (median), mean, rho, heterogeneity (tau, 0.1 where it cannot be estimated), within_sd, depth_sd.

    Examples
    --------
    >>> import hiercorr as hc
    >>> from hiercorr.planning import pilot
    >>> adata = hc.datasets.glioblastoma()
    >>> vehicle = {"condition": "ctrl"}
    >>> found = pilot(adata, "sample_id", "FTL", "FTH1", depth="total_counts", subset=vehicle)
    >>> found["samples"], found["cells"]
    (5, 500)
    """
    from hiercorr.cscore import CSCore

    model = CSCore(data, sample, genes=[gene_a, gene_b], depth=depth, **options)
    fitted = model.fit(per_sample=True).dataset
    pair = fitted.sel(gene=gene_a, partner=gene_b)
    scale = float(np.mean(model.counts.depth))
    genes = fitted.sel(gene=[gene_a, gene_b])
    tau2 = float(pair["tau2"])
    log_depth = np.log(model.counts.depth)
    rho = float(pair["correlation_unclipped"])
    phi: NDArray[np.float64] = np.maximum(genes["overdispersion"].values, 1e-3)
    return {
        "samples": model.counts.n_samples,
        "cells": int(np.median(model.counts.cells_per_sample)),
        "mean": tuple(float(m) for m in genes["mean"].values * scale),
        "rho": rho,
        "heterogeneity": math.sqrt(tau2) * (1 - min(rho**2, 1)) if math.isfinite(tau2) else 0.1,
        "within_sd": tuple(float(v) for v in np.sqrt(special.log1p(phi))),
        "depth_sd": float(log_depth.std()),
    }
