"""Coverage of the joint Bayesian model where correlations differ between donors: with and without heterogeneity in the model."""

from __future__ import annotations

import warnings

import anndata as ad
import numpy as np
import pandas as pd
from scipy import sparse, stats

import hiercorr as hc
from hiercorr.bayes.joint.model import make_model
from hiercorr.bayes.joint.sampler import sample_joint
from hiercorr.bayes.population import cells_of

CLAIM = (
    "Where Fisher's z of three genes' correlations varies between six donors with a standard deviation of 0.2, 95% intervals of the population's "
    "correlations contain them in at least 92% with heterogeneity=True, and in less than 85% without. Intervals that predict the correlation "
    "in a new donor contain it in at least 92%. The simulation is not from the model: each z varies by itself, with a normal distribution."
)
MODELS = ["bayesian_joint"]
SEED = 20261201
REPLICATES = 15  # of a part
QUICK_REPLICATES = 1
TAU, DONORS, CELLS, GENES, MEAN = 0.2, 6, 150, 3, 4.0
DRAWS, TUNE, CHAINS, EVERY = 200, 120, 2, 3
LEAST, MOST_WITHOUT = 0.92, 0.85


def grid(quick: bool) -> pd.DataFrame:
    parts = [(TAU, 0)] if quick else [(TAU, k) for k in range(4)] + [(0.0, k) for k in range(2)]
    return pd.DataFrame(parts, columns=["tau", "part"])


def varied(z: np.ndarray, tau: float, rng: np.random.Generator) -> np.ndarray:
    """A positive definite correlation matrix whose z are `z` and normal deviations."""
    while True:
        noise = np.triu(tau * rng.standard_normal(z.shape), 1)
        r = np.tanh(z + noise + noise.T)
        np.fill_diagonal(r, 1.0)
        if np.linalg.eigvalsh(r)[0] > 0.02:
            return r


def draw(tau: float, rng: np.random.Generator) -> tuple[ad.AnnData, np.ndarray, np.ndarray]:
    """Counts, the population's correlations and those of a new donor."""
    z = np.arctanh(np.triu(varied(np.zeros((GENES, GENES)), 0.4, rng), 1))
    z += z.T
    roots = [np.linalg.cholesky(varied(z, tau, rng)) for _ in range(DONORS)]
    sample = np.repeat(np.arange(DONORS), CELLS)
    s = np.exp(0.4 * rng.standard_normal(len(sample)))
    s /= s.mean()
    mean = np.log(MEAN) + 0.3 * rng.standard_normal((DONORS, GENES))
    e = 0.6 * np.einsum("cij,cj->ci", np.array(roots)[sample], rng.standard_normal((len(s), GENES)))
    x = rng.poisson(s[:, None] * np.exp(mean[sample] + e))
    obs = pd.DataFrame({"sample": np.char.mod("s%d", sample), "depth": 1e4 * s})
    obs.index = obs.index.astype(str)
    var = pd.DataFrame(index=np.char.mod("gene%d", np.arange(GENES)))
    return ad.AnnData(sparse.csr_matrix(x), obs, var), np.tanh(z), varied(z, tau, rng)


def run_cell(row: dict, replicates: int, seed: np.random.SeedSequence) -> pd.DataFrame:
    out = []
    pairs = np.triu_indices(GENES, 1)
    for k, child in enumerate(seed.spawn(replicates)):
        adata, population, new = draw(row["tau"], np.random.default_rng(child))
        for heterogeneity in (True, False):
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                model = hc.BayesianCorrelation(
                    adata, "sample", depth="depth", heterogeneity=heterogeneity
                )
                drawn = sample_joint(
                    make_model(cells_of(model.counts, model._setup), model._setup),
                    *(DRAWS, TUNE, CHAINS, np.random.SeedSequence(k)),
                    first=EVERY,
                    most=EVERY,
                )
            wanted = {"population": (drawn.correlation["within"], population)}
            if drawn.varying is not None:
                wanted["new donor"] = (drawn.varying.new, new)
            for name, (draws, truth) in wanted.items():
                limits = np.quantile(draws[..., pairs[0], pairs[1]], [0.025, 0.975], axis=(0, 1))
                for (low, high), true in zip(limits.T, truth[pairs], strict=True):
                    out.append(
                        {
                            **row,
                            "replicate": f"{row['part']} {k}",
                            "heterogeneity": "yes" if heterogeneity else "no",
                            "of": name,
                            "truth": true,
                            "low": low,
                            "high": high,
                            "tau_mean": np.nan
                            if drawn.varying is None
                            else drawn.varying.tau.mean(),
                        }
                    )
    return pd.DataFrame(out)


def coverage(table: pd.DataFrame) -> pd.DataFrame:
    """Share of intervals that contain the truth, its standard error over replicates, width."""
    inside = (table["low"] <= table["truth"]) & (table["truth"] <= table["high"])
    each = table.assign(inside=inside, width=table["high"] - table["low"])
    by = ["tau", "of", "heterogeneity"]
    of_data = each.groupby([*by, "replicate"], sort=False)[["inside", "width", "tau_mean"]].mean()
    found = of_data.groupby(level=by, sort=False)
    out = found.mean()
    out["error"] = found["inside"].std() / np.sqrt(found.size())
    return out.reset_index()


def verdict(table: pd.DataFrame) -> list[str]:
    out = []
    for r in coverage(table).to_dict("records"):
        where = f"{r['of']}, tau {r['tau']:g}, heterogeneity in the model: {r['heterogeneity']}"
        slack = 3 * r["error"] + 1e-9
        fits = r["heterogeneity"] == "yes" or r["tau"] == 0
        if fits and r["inside"] + slack < LEAST:
            out.append(f"{where}: intervals contain {r['inside']:.2f}")
        if not fits and r["inside"] - slack > MOST_WITHOUT:
            out.append(f"{where}: intervals contain {r['inside']:.2f}, no fewer than they should")
    return out


def remarks(table: pd.DataFrame) -> list[str]:
    out = [
        f"{DONORS} donors of {CELLS} cells, {GENES} genes of {MEAN:g} counts per cell; three pairs in each simulated data set."
    ]
    for r in coverage(table).to_dict("records"):
        model = "with" if r["heterogeneity"] == "yes" else "without"
        text = (
            f"tau {r['tau']:g}, {r['of']}, model {model} heterogeneity: 95% intervals contain {100 * r['inside']:.1f}% "
            f"(se {100 * r['error']:.1f}), mean width {r['width']:.2f}"
        )
        if r["heterogeneity"] == "yes" and r["of"] == "population":
            text += f", posterior mean of tau {r['tau_mean']:.2f} on average"
        out.append(f"{text}.")
    return out


def figures(table: pd.DataFrame) -> dict:
    import matplotlib.pyplot as plt

    found = coverage(table)
    fig, ax = plt.subplots(figsize=(6.4, 2.6), layout="constrained")
    labels = [
        f"{r['of']}, tau {r['tau']:g}, model {'with' if r['heterogeneity'] == 'yes' else 'without'} heterogeneity"
        for r in found.to_dict("records")
    ]
    at = np.arange(len(found))[::-1]
    error = stats.norm.ppf(0.975) * found["error"]
    ax.errorbar(found["inside"], at, xerr=error, fmt="o", color="#0072B2", capsize=3)
    ax.axvline(0.95, color="#888888", lw=0.8)
    ax.set_yticks(at, labels, fontsize=8)
    ax.set_xlabel("share of 95% intervals that contain the truth")
    for side in ("top", "right"):
        ax.spines[side].set_visible(False)
    return {"": fig}
