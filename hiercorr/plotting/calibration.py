"""Ranks of simulation-based calibration."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import xarray as xr

from hiercorr.plotting import style

if TYPE_CHECKING:
    from matplotlib.axes import Axes


@style.verbatim
def ranks(calibration: xr.Dataset, ax: Axes | None = None) -> Axes:
    """Plot the difference between the distribution of ranks and a uniform one.

    One line per parameter: the empirical distribution function of its ranks minus the uniform one,
    with the band that contains 95% of such functions (the Kolmogorov limits) if ranks are uniform.

    Parameters
    ----------
    calibration : Dataset
        From :meth:`hiercorr.BayesianCorrelation.sbc`.
    ax : Axes, optional

    Returns
    -------
    Axes

    Examples
    --------
    >>> import hiercorr as hc
    >>> adata, _ = hc.simulate.simulate_counts(4, 60, 2, mean=3.0, within=0.6, seed=1)
    >>> model = hc.BayesianCorrelation(adata, "sample", depth="depth")
    >>> found = model.sbc(2, draws=100, tune=100, chains=2, seed=1)
    >>> hc.plotting.ranks(found)  # doctest: +SKIP
    """
    from scipy import stats

    ax = style.axes(ax, 5.4, 3.6, of_lines=True)
    n = calibration.sizes["replicate"]
    limit = float(stats.kstwo.ppf(0.95, n))
    x = np.linspace(0, 1, 201)
    ax.fill_between(x, -limit, limit, color=style.GREY, alpha=0.25, lw=0)
    for name in calibration["parameter"].values:
        rank = np.sort(calibration["rank"].sel(parameter=name).values)
        u = (rank + 0.5) / (calibration.attrs["ranks"] + 1)
        ax.plot(x, np.searchsorted(u, x, side="right") / n - x, label=str(name))
    ax.axhline(0, color=style.GREY)
    ax.set_xlabel("rank of the truth among draws, as a proportion")
    ax.set_ylabel("distribution of ranks - uniform")
    ax.legend(frameon=False, ncols=2, loc="upper left", bbox_to_anchor=(1, 1))
    return ax
