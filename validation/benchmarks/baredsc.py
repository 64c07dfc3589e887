"""The Bayesian model of a pair against baredSC: posterior of the correlation, and time.

baredSC 2d with one normal distribution and the scale "log" has the same likelihood as the marginal
model, Poisson counts around a bivariate normal distribution of log expression, for cells of one
sample. Here its prior of the correlation is nearly uniform, as is that of the marginal model;
baredSC may live in an environment of its own:

    python -m validation.benchmarks.baredsc --command ENVIRONMENT/bin/baredSC_2d --out bench.csv
"""

from __future__ import annotations

import argparse
import resource
import subprocess
import tempfile
import time
import warnings
from pathlib import Path

import anndata as ad
import numpy as np
import pandas as pd
from scipy import sparse

CELLS, SAMPLES, SD, DEPTH, SPREAD = 300, 3, 0.7, 5000.0, 0.3
DESIGNS = [((0.5, 1.5), 0.5), ((1.0, 3.0), 0.5), ((1.0, 3.0), -0.3), ((5.0, 20.0), 0.8)]
STEPS = 20_000  # of baredSC's chain
GRID = 25  # of its bins along each axis
# A standard deviation of z of pi / sqrt(12): that of a correlation with a uniform distribution.
PRIORS = {
    "z_within": {"distribution": "normal", "mu": 0.0, "sigma": 0.907},
    "sd_within": {"distribution": "lognormal", "median": 0.7, "sigma": 1.0},
}


def simulated(means: tuple[float, float], rho: float, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Counts (cells, 2) and depths; the means are those of log counts at the typical depth."""
    rng = np.random.default_rng(seed)
    e = rng.standard_normal((CELLS, 2))
    e[:, 1] = rho * e[:, 0] + np.sqrt(1 - rho**2) * e[:, 1]
    depth = np.round(DEPTH * np.exp(SPREAD * rng.standard_normal(CELLS)))
    return rng.poisson(depth[:, None] / DEPTH * np.exp(np.log(means) + SD * e)), depth


def effective(draws: np.ndarray) -> float:
    """Effective sample size of draws (chain, draw)."""
    import arviz as az

    return float(az.ess(draws))


def summary(draws: np.ndarray, seconds: float, cpu: float) -> dict:
    low, high = np.quantile(draws, [0.025, 0.975])
    ess = effective(draws)
    return {
        "mean": round(float(draws.mean()), 4),
        "sd": round(float(draws.std()), 4),
        "lower": round(float(low), 4),
        "upper": round(float(high), 4),
        "ess": round(ess),
        "seconds": round(seconds, 1),
        "cpu_seconds": round(cpu, 1),
        "ess_per_cpu_second": round(ess / cpu, 1),
    }


def baredsc(command: str, x: np.ndarray, depth: np.ndarray, seed: int) -> dict:
    """Fit baredSC in its environment; imports are in the time, plots are not asked for."""
    with tempfile.TemporaryDirectory() as folder:
        table = pd.DataFrame({"nCount_RNA": depth.astype(int), "A": x[:, 0], "B": x[:, 1]})
        table.to_csv(f"{folder}/counts.tsv", sep="\t", index=False)
        centre = np.log(np.maximum(x.sum(0), 1) / depth.sum())
        asked = [command, "--input", f"{folder}/counts.tsv", "--output", f"{folder}/out"]
        asked += ["--geneXColName", "A", "--geneYColName", "B", "--scale", "log", "--nnorm", "1"]
        asked += ["--nsampMCMC", str(STEPS), "--scalePrior", "10", "--seed", str(seed)]
        for axis, c in zip("xy", centre, strict=True):
            asked += [f"--{axis}min", f"{c - 3.5:.2f}", f"--{axis}max", f"{c + 3:.2f}"]
            asked += [f"--n{axis}", str(GRID)]
        start, used = time.perf_counter(), resource.getrusage(resource.RUSAGE_CHILDREN)
        subprocess.run(asked, check=True, capture_output=True)
        seconds, now = time.perf_counter() - start, resource.getrusage(resource.RUSAGE_CHILDREN)
        cpu = now.ru_utime + now.ru_stime - used.ru_utime - used.ru_stime
        with np.load(Path(folder) / "out.npz", allow_pickle=True) as found:
            return summary(found["samples"][None, 1:, -1], seconds, cpu)


def marginal(x: np.ndarray, depth: np.ndarray, seed: int) -> dict:
    """Fit the pair as samples with the same correlation; a first fit compiles."""
    import hiercorr as hc

    obs = pd.DataFrame({"sample": np.char.mod("s%d", np.arange(CELLS) % SAMPLES), "depth": depth})
    obs.index = obs.index.astype(str)
    adata = ad.AnnData(sparse.csr_matrix(x), obs, pd.DataFrame(index=["A", "B"]))
    model = hc.BayesianCorrelation(
        adata,
        "sample",
        ["A", "B"],
        depth="depth",
        heterogeneity=False,
        structure="within",
        priors=PRIORS,
    )
    start, used = time.perf_counter(), time.process_time()
    fit = model.fit(seed=seed, progress=False)
    seconds, cpu = time.perf_counter() - start, time.process_time() - used
    return summary(np.tanh(np.asarray(fit.idata.posterior["zeta"])), seconds, cpu)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--command", default="baredSC_2d")
    parser.add_argument("--out")
    args = parser.parse_args()
    warnings.simplefilter("ignore")
    marginal(*simulated(*DESIGNS[0], 1), 1)
    rows = []
    for seed, (means, rho) in enumerate(DESIGNS, 1):
        x, depth = simulated(means, rho, seed)
        of_data = {"cells": CELLS, "mean_1": means[0], "mean_2": means[1], "correlation": rho}
        for method, found in (
            ("baredSC", baredsc(args.command, x, depth, seed)),
            ("marginal", marginal(x, depth, seed)),
        ):
            rows.append({"method": method, **of_data, **found})
        print(pd.DataFrame(rows[-2:]).to_string(index=False), flush=True)
        if args.out:
            pd.DataFrame(rows).to_csv(args.out, index=False)


if __name__ == "__main__":
    main()
