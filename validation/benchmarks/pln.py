"""The joint Bayesian model against pyPLNmodels: accuracy and time for ten genes in several donors.

Counts are Poisson-lognormal; Fisher's z of every correlation varies between donors with a standard
deviation of 0 or 0.2. The multivariate Poisson-lognormal model (``Pln``, variational) has one
intercept per donor and one covariance matrix for all cells; pyPLNmodels needs PyTorch and may live
in an environment of its own:

    python -m validation.benchmarks.pln --python ENVIRONMENT/bin/python --out bench_pln.csv
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
import warnings
from pathlib import Path

import numpy as np
import pandas as pd

from validation.studies.bayesian_joint_coverage import varied

GENES, DONORS, CELLS = 10, 6, 300
MEANS = (0.3, 5.0)
SEEDS = (1,)
TAUS = (0.0, 0.2)

PLN = """
import json, sys, time, warnings
start = time.process_time()
wall = time.perf_counter()
warnings.simplefilter("ignore")
import numpy as np, torch
from pyPLNmodels import Pln
data = np.load(sys.argv[1])
x, sample, log_s = data["x"], data["sample"], data["log_s"]
model = Pln(x, exog=np.eye(sample.max() + 1)[sample], add_const=False,
            offsets=np.repeat(log_s[:, None], x.shape[1], 1))
model.fit(maxiter=int(sys.argv[2]))
c = np.asarray(model.covariance, float)
sd = np.sqrt(np.diag(c))
print("FOUND" + json.dumps({"correlation": (c / np.outer(sd, sd)).tolist(), "sd": sd.tolist(),
      "seconds": time.perf_counter() - wall, "cpu_seconds": time.process_time() - start}))
"""


def simulated(tau: float, seed: int) -> dict[str, np.ndarray]:
    """Counts (cells, genes), samples and log depths of the cells, and the truth."""
    rng = np.random.default_rng(seed)
    loading = rng.normal(0, 0.7, (GENES, 2))
    c = loading @ loading.T + np.eye(GENES)
    r = c / np.sqrt(np.outer(np.diag(c), np.diag(c)))
    z = np.arctanh(r - np.eye(GENES))
    sd = rng.uniform(0.4, 0.9, GENES)
    sample = np.repeat(np.arange(DONORS), CELLS)
    log_s = 0.4 * rng.standard_normal(len(sample))
    log_s -= np.log(np.exp(log_s).mean())
    mean = np.log(np.geomspace(*MEANS, GENES)) + 0.35 * rng.standard_normal((DONORS, GENES))
    roots = np.array([sd[:, None] * np.linalg.cholesky(varied(z, tau, rng)) for _ in range(DONORS)])
    e = np.einsum("cij,cj->ci", roots[sample], rng.standard_normal((len(sample), GENES)))
    x = rng.poisson(np.exp(log_s[:, None] + mean[sample] + e))
    return {"x": x, "sample": sample, "log_s": log_s, "correlation": r, "sd": sd}


def joint(tau: float, seed: int) -> dict:
    """Fit the joint model with its default options."""
    import anndata as ad
    from scipy import sparse

    import hiercorr as hc

    data = simulated(tau, seed)
    obs = pd.DataFrame(
        {"sample": np.char.mod("s%d", data["sample"]), "depth": 1e4 * np.exp(data["log_s"])}
    )
    obs.index = obs.index.astype(str)
    var = pd.DataFrame(index=np.char.mod("gene%d", np.arange(GENES)))
    adata = ad.AnnData(sparse.csr_matrix(data["x"]), obs, var)
    start, used = time.perf_counter(), time.process_time()
    ds = hc.BayesianCorrelation(adata, "sample", depth="depth").fit(method="joint", seed=1).dataset
    seconds, cpu = time.perf_counter() - start, time.process_time() - used
    pairs = np.triu_indices(GENES, 1)
    true = data["correlation"][pairs]
    low, high = (ds[name].values[pairs] for name in ("ci_lower", "ci_upper"))
    return {
        "correlation": np.tanh(ds["fisher_z"].values).tolist(),
        "sd": ds["within_sd"].values.tolist(),
        "seconds": seconds,
        "cpu_seconds": cpu,
        "covered": float(((low <= true) & (true <= high)).mean()),
        "smallest_ess": ds.attrs["smallest_ess"],
    }


def pln(python: str, tau: float, seed: int, iterations: int = 400) -> dict:
    """Fit pyPLNmodels in its environment."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "data.npz"
        np.savez(path, **simulated(tau, seed))
        done = subprocess.run(
            [python, "-c", PLN, str(path), str(iterations)],
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,  # its progress
            text=True,
            check=True,
        )
    line = next(v for v in done.stdout.splitlines() if v.startswith("FOUND"))
    return json.loads(line.removeprefix("FOUND"))


def row(method: str, tau: float, seed: int, found: dict) -> dict:
    data, pairs = simulated(tau, seed), np.triu_indices(GENES, 1)
    error = np.array(found["correlation"])[pairs] - data["correlation"][pairs]
    return {
        "method": method,
        "genes": GENES,
        "donors": DONORS,
        "cells": len(data["x"]),
        "tau": tau,
        "seed": seed,
        "rmse": round(float(np.sqrt((error**2).mean())), 4),
        "slope": round(
            float(np.polyfit(data["correlation"][pairs], error + data["correlation"][pairs], 1)[0]),
            3,
        ),
        "sd_ratio": round(float(np.mean(np.array(found["sd"]) / data["sd"])), 3),
        "covered": found.get("covered"),
        "smallest_ess": found.get("smallest_ess"),
        "seconds": round(found["seconds"], 1),
        "cpu_seconds": round(found["cpu_seconds"], 1),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out")
    parser.add_argument(
        "--python", default=sys.executable, help="of the environment with pyPLNmodels"
    )
    parser.add_argument("--seeds", default=",".join(map(str, SEEDS)))
    args = parser.parse_args()
    warnings.simplefilter("ignore")
    rows = []
    for seed in map(int, args.seeds.split(",")):
        for tau in TAUS:
            rows.append(row("pyPLNmodels", tau, seed, pln(args.python, tau, seed)))
            rows.append(row("joint", tau, seed, joint(tau, seed)))
            print(pd.DataFrame(rows[-2:]).to_string(index=False), flush=True)
            if args.out:
                pd.DataFrame(rows).to_csv(args.out, index=False)


if __name__ == "__main__":
    main()
