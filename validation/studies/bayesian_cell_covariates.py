"""Covariates of cells in the Bayesian model: a state that moves both genes, taken out or not, beside `CSCore`."""

from __future__ import annotations

import warnings

import anndata as ad
import numpy as np
import pandas as pd
from scipy import sparse, stats

import hiercorr as hc
from hiercorr.bayes.sampling import Settings, sample_pair
from hiercorr.inference.credible import highest_density

CLAIM = (
    "Where a state of the cells moves both genes, the 95% intervals of the Bayesian model with the state as covariate cover the correlation "
    "of z in no less than 95% of data sets, beyond chance, for correlations of 0 and 0.4 and effects in the same or in opposite directions; "
    "those without it cover in less than half; and where there is no effect, the covariate costs no more than a tenth of the width. `CSCore`, "
    "whose covariates add to counts and not to their logarithms, covers 0 in no less than 95%, beyond chance, with a spline of the state."
)
MODELS = ["bayesian", "within"]
SEED = 20261203
REPLICATES = 60
QUICK_REPLICATES = 1
DONORS, CELLS, MEANS = 6, 120, (1.0, 3.0)
SD_WITHIN, SD_BETWEEN, TAU = 0.7, 0.3, 0.1
SETTINGS = Settings(draws=200, tune=200, chains=2)
FORMULA = {"without": None, "with": "~ state", "with a spline of": "~ bs(state, df=4)"}


def grid(quick: bool) -> pd.DataFrame:
    rows = [(0.0, 0.7, 0.7), (0.4, 0.7, -0.7), (0.4, 0.0, 0.0)]
    table = pd.DataFrame(rows[:1] if quick else rows, columns=["rho", "effect_a", "effect_b"])
    return table.assign(donors=DONORS, cells=CELLS)


def draw(row: dict, rng: np.random.Generator) -> ad.AnnData:
    """Two genes, whose log rates depend on a state that also differs between donors."""
    sample = np.repeat(np.arange(DONORS), CELLS)
    n = len(sample)
    state = rng.standard_normal(n) + 0.5 * rng.standard_normal(DONORS)[sample]
    z = np.arctanh(row["rho"]) + TAU * rng.standard_normal(DONORS)
    rho = np.tanh(z)[sample]
    e = rng.standard_normal((n, 2))
    e[:, 1] = rho * e[:, 0] + np.sqrt(1 - rho**2) * e[:, 1]
    mean = np.log(MEANS) + SD_BETWEEN * rng.standard_normal((DONORS, 2))
    s = np.exp(0.4 * rng.standard_normal(n))
    s /= s.mean()
    effect = state[:, None] * np.array([row["effect_a"], row["effect_b"]])
    x = rng.poisson(s[:, None] * np.exp(mean[sample] + SD_WITHIN * e + effect))
    obs = pd.DataFrame(
        {"donor": np.char.mod("d%02d", sample), "depth": s * 1e4, "state": state},
        index=np.char.mod("cell%d", np.arange(n)),
    )
    return ad.AnnData(sparse.csr_matrix(x.astype(np.int32)), obs, pd.DataFrame(index=["a", "b"]))


def run_cell(row: dict, replicates: int, seed: np.random.SeedSequence) -> pd.DataFrame:
    out = []
    for k, child in enumerate(seed.spawn(replicates)):
        adata = draw(row, np.random.default_rng(child))
        for name, formula in FORMULA.items():
            options = {"depth": "depth", "covariates": formula}
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                within = hc.CSCore(adata, "donor", **options).fit().dataset.isel(gene=0, partner=1)
                limits = [float(within[v]) for v in ("correlation", "ci_lower", "ci_upper")]
                out.append(("CSCore", name, k, *limits))
                if "spline" in name:
                    continue
                model = hc.BayesianCorrelation(adata, "donor", ["a", "b"], **options)
                zeta = sample_pair(model.pair("a", "b"), SETTINGS, k).zeta.ravel()
            low, high = highest_density(zeta, 0.95)
            out.append(("Bayesian", name, k, zeta.mean(), float(low), float(high)))
    columns = ["method", "covariate", "replicate", "estimate", "low", "high"]
    table = pd.DataFrame(out, columns=columns)
    table["truth"] = np.arctanh(row["rho"])
    return table.assign(**row)


def _covered(g: pd.DataFrame) -> int:
    return int(((g["low"] <= g["truth"]) & (g["truth"] <= g["high"])).sum())


def _groups(table: pd.DataFrame):
    return table.groupby(["method", "covariate", "rho", "effect_a", "effect_b"], sort=False)


def verdict(table: pd.DataFrame) -> list[str]:
    out, width = [], {}
    for (_, covariate, rho, a, b), g in _groups(table[table["method"] == "Bayesian"]):
        k, n, where = _covered(g), len(g), f"rho {rho:g}, effects {a:g} and {b:g}"
        if covariate == "with" and stats.binomtest(k, n, 0.95, "less").pvalue < 0.005:
            out.append(f"covers {100 * k / n:.0f}% at {where}")
        if covariate == "without" and a and k > n / 2:
            out.append(f"without the covariate {100 * k / n:.0f}% are covered at {where}")
        if not a:
            width[covariate] = (g["high"] - g["low"]).median()
    curved = table[(table["method"] == "CSCore") & (table["covariate"] == "with a spline of")]
    for (_, _, _, a, b), g in _groups(curved[curved["rho"] == 0]):
        if stats.binomtest(_covered(g), len(g), 0.95, "less").pvalue < 0.005:
            out.append(
                f"CSCore covers {100 * _covered(g) / len(g):.0f}% at effects {a:g} and {b:g}"
            )
    if width and width["with"] > 1.1 * width["without"]:
        out.append(
            f"without an effect, intervals are {width['with'] / width['without']:.2f} times as wide"
        )
    return out


def remarks(table: pd.DataFrame) -> list[str]:
    out = [
        f"{DONORS} donors of {CELLS} cells, mean counts {MEANS[0]:g} and {MEANS[1]:g}, sd of log expression {SD_WITHIN:g}, heterogeneity of z "
        f"{TAU:g}; effects are changes of the log rate per standard deviation of the state. `CSCore` estimates the correlation of expression, "
        "which is smaller than that of log expression, so that its coverage is given for correlations of 0 alone."
    ]
    for (method, covariate, rho, a, b), g in _groups(table):
        if method == "CSCore" and rho:
            continue
        n, estimate = len(g), g["estimate"].mean()
        if method == "Bayesian":
            estimate = np.tanh(g["estimate"]).mean()
        out.append(
            f"{method} {covariate} the covariate, correlation {rho:g}, effects {a:g} and {b:g}: mean estimate {estimate:.2f}, 95% intervals "
            f"cover in {100 * _covered(g) / n:.0f}% of {n}, median width {(g['high'] - g['low']).median():.2f}"
            f"{' of z' if method == 'Bayesian' else ''}."
        )
    return out


def figures(table: pd.DataFrame) -> dict:
    import matplotlib.pyplot as plt

    of = table[table["method"] == "Bayesian"]
    worlds = list(of.groupby(["rho", "effect_a", "effect_b"], sort=False))
    fig, axes = plt.subplots(
        1, len(worlds), figsize=(7.5, 3.4), layout="constrained", sharey=True, squeeze=False
    )
    for ax, ((rho, a, b), g) in zip(axes[0], worlds, strict=True):
        for x, (covariate, colour) in enumerate((("without", "#D55E00"), ("with", "#0072B2"))):
            each = g[g["covariate"] == covariate].sort_values("estimate")
            at = x + np.linspace(-0.35, 0.35, len(each))
            ax.vlines(at, np.tanh(each["low"]), np.tanh(each["high"]), color=colour, lw=0.8)
            ax.plot(at, np.tanh(each["estimate"]), ".", color=colour, ms=3)
        ax.axhline(rho, color="#444444", lw=0.8)
        ax.set_xticks([0, 1], ["without", "with"])
        ax.set_xlabel("covariate")
        ax.set_title(f"correlation {rho:g}, effects {a:g}, {b:g}", fontsize=9)
        ax.spines[["top", "right"]].set_visible(False)
    axes[0][0].set_ylabel("correlation, 95% interval")
    return {"": fig}
