"""The picture of the first page: two unrelated genes in 6,000 cells of three mice, seen twice."""

from __future__ import annotations

from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import xarray as xr
from scipy import stats

import hiercorr as hc
from hiercorr.simulate import simulate_counts

COLOURS = ("#0072B2", "#E69F00", "#009E73")
SEED = 12
CELLS_AS_UNITS = ("CS-CORE Python", "cell Pearson", "cell Spearman")
MICE_AS_UNITS = ("within, jackknife",)


def rejected(path: Path, methods: tuple[str, ...]) -> str:
    """Return the range of true nulls that some methods reject, as in the study's page."""
    with xr.open_dataset(path) as study:
        table = study.to_dataframe()
    null = (table["rho"] == 0) & (table["samples"] == 3) & (table["mean"] >= 1)
    found = 100 * table.loc[null & table["method"].isin(methods), "type_1_all"]
    return f"{found.min():.0f} to {found.max():.0f}%"


def three_mice_figure(path: Path):
    """Draw the same cells twice: pooled, and mouse by mouse."""
    adata, truth = simulate_counts(3, 2000, 2, mean=5.0, within=0.0, between=0.8, seed=SEED)
    assert truth["within"].values[0, 1] == 0
    depth = adata.obs["depth"].to_numpy()[:, None]
    expression = np.log2(1 + adata.X.toarray() / depth * depth.mean())
    mice = adata.obs["sample"].astype("category").cat.codes.to_numpy()
    r, p = stats.pearsonr(*expression.T)
    model = hc.CSCore(adata, "sample", depth="depth")
    fitted = model.fit(target="gene0", uncertainty="jackknife", per_sample=True)
    result = fitted.dataset.sel(gene="gene1").isel(target=0)

    fig, (cells, donors) = plt.subplots(
        1, 2, figsize=(7.6, 3.9), layout="constrained", width_ratios=(1, 1)
    )
    for k, colour in enumerate(COLOURS):
        x, y = expression[mice == k].T
        cells.scatter(x, y, s=4, alpha=0.3, color=colour, lw=0, rasterized=True)
        cells.plot(x.mean(), y.mean(), "o", ms=9, mfc=colour, mec="white", mew=1.4, zorder=3)
        cells.plot(*_ellipse(x, y), color=colour, lw=2)
    slope = stats.linregress(*expression.T)
    x = np.percentile(expression[:, 0], [1, 99])
    cells.plot(x, slope.intercept + slope.slope * x, color="black", lw=2)
    cells.set(
        xlim=(-0.2, 5),
        ylim=(-0.2, 5),
        xlabel="gene A in a cell (log2)",
        ylabel="gene B in a cell (log2)",
    )
    power = int(np.floor(np.log10(p)))
    cells.set_title(
        f"6,000 cells as units\nr = {r:.2f}, p = {p / 10.0**power:.0f}·10$^{{{power}}}$",
        fontsize=12,
    )

    each = result["sample_correlation"].values
    error = 1.96 * result["sample_se"].values
    for k, colour in enumerate(COLOURS):
        donors.plot(each[k] + error[k] * np.array([-1, 1]), [3 - k] * 2, color=colour, lw=2)
        donors.plot(each[k], 3 - k, "s", ms=8, color=colour)
    estimate = [float(result[v]) for v in ("correlation", "ci_lower", "ci_upper", "p_value")]
    donors.plot(estimate[1:3], [0, 0], color="black", lw=2.4)
    donors.plot(estimate[0], 0, "D", ms=9, color="black")
    donors.axvline(0, color="#999999", lw=1, ls=":")
    donors.set_yticks([3, 2, 1, 0], ["mouse 1", "mouse 2", "mouse 3", "3 mice"])
    donors.set(xlim=(-0.5, 0.5), ylim=(-0.6, 3.6), xlabel="correlation within a mouse")
    donors.set_title(f"3 mice as units\nr = {estimate[0]:.2f}, p = {estimate[3]:.2f}", fontsize=12)
    for ax, methods in ((cells, CELLS_AS_UNITS), (donors, MICE_AS_UNITS)):
        ax.spines[["top", "right"]].set_visible(False)
        ax.tick_params(labelsize=10)
        ax.xaxis.label.set_size(11)
        ax.yaxis.label.set_size(11)
        ax.annotate(
            f"{rejected(path, methods)} of unrelated\npairs have p < 0.05",
            (0.5, -0.25),
            xycoords="axes fraction",
            ha="center",
            va="top",
            fontsize=11,
            fontweight="bold",
            color="#B2182B" if ax is cells else "#1B7837",
        )
    return fig


def _ellipse(x: np.ndarray, y: np.ndarray, radius: float = 1.5) -> np.ndarray:
    """Return the outline of the points within `radius` standard deviations."""
    turn = np.linspace(0, 2 * np.pi, 100)
    factor = np.linalg.cholesky(np.cov(x, y))
    return np.array([[x.mean()], [y.mean()]]) + radius * factor @ [np.cos(turn), np.sin(turn)]
