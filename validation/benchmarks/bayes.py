"""The Bayesian model against the latent one: wall time, effective sample size, divergences.

Fresh simulations of sparse to moderate genes with heterogeneity, every fit a process of its own:

    python -m validation.benchmarks.bayes --out validation/results/bench_bayes.csv
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
import warnings

import numpy as np
import pandas as pd

# genes, samples, cells a sample, method, draws and steps of adaptation of each of 4 chains
DESIGNS = [
    (2, 6, 300, "marginal", 500, 400),
    (2, 6, 300, "latent", 500, 400),
    (5, 6, 300, "marginal", 350, 300),
    (10, 9, 300, "marginal", 250, 300),
    (2, 6, 300, "joint", 1000, 400),
    (5, 6, 300, "joint", 1000, 400),
    (5, 6, 300, "latent", 500, 400),
    (10, 9, 300, "joint", 1000, 400),
    (20, 9, 300, "joint", 1000, 400),
]


def one(
    genes: int, samples: int, cells: int, method: str, draws: int, tune: int, seed: int
) -> dict:
    """One fit, its imports and compilation in the time."""
    start, cpu = time.perf_counter(), time.process_time()
    warnings.simplefilter("ignore")
    import hiercorr as hc
    from hiercorr.simulate import simulate_counts

    mean = np.geomspace(0.2, 2.2, genes)
    adata, _ = simulate_counts(
        samples,
        cells,
        genes,
        mean=mean,
        within=0.45,
        between=0.3,
        heterogeneity=0.15,
        cell_imbalance=0.3,
        seed=seed,
    )
    model = hc.BayesianCorrelation(
        adata, "sample", depth="depth", heterogeneity=method == "marginal"
    )
    r = model.fit(draws=draws, tune=tune, method=method, seed=seed)
    seconds, cpu = time.perf_counter() - start, time.process_time() - cpu
    ess = [
        float(np.nanmin(r.at(level).dataset["ess_bulk"].values)) for level in ("within", "between")
    ]
    ess += [r.dataset.attrs["smallest_ess"]] if method == "joint" else []  # of all parameters
    r_hat = max(
        float(np.nanmax(r.at(level).dataset["r_hat"].values)) for level in ("within", "between")
    )
    return {
        "genes": genes,
        "samples": samples,
        "cells": adata.n_obs,
        "method": method,
        "draws": 4 * draws,
        "tune": tune,
        "seed": seed,
        "seconds": round(seconds, 1),
        "min_ess_within": round(ess[0]),
        "min_ess_between": round(ess[1]),
        "ess_per_second": round(min(ess) / seconds, 1),
        "r_hat": round(r_hat, 4),
        "divergences": int(r.dataset.attrs.get("divergences", 0)),
        "cpu_seconds": round(cpu, 1),
        "ess_per_cpu_second": round(min(ess) / cpu, 1),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out")
    parser.add_argument("--seed", type=int, default=11)
    parser.add_argument("--only", help="only designs of so many genes, e.g. 5,10")
    parser.add_argument("--method", help="only designs of this method")
    parser.add_argument("--one")
    args = parser.parse_args()
    if args.one:
        print(json.dumps(one(*json.loads(args.one))))
        return
    rows = []
    chosen = None if args.only is None else [int(g) for g in args.only.split(",")]
    for design in DESIGNS:
        if (chosen and design[0] not in chosen) or args.method not in (None, design[3]):
            continue
        command = [sys.executable, __file__, "--one", json.dumps([*design, args.seed])]
        done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
        rows.append(json.loads(done.stdout.splitlines()[-1]))
        print(pd.DataFrame(rows[-1:]).to_string(index=False, header=len(rows) == 1), flush=True)
        if args.out:
            pd.DataFrame(rows).to_csv(args.out, index=False)


if __name__ == "__main__":
    main()
