"""The Bayesian model against latent ones: time, effective sample size, divergences.

The latent model has the expression of every cell as a parameter, non-centred, which fits sparse
counts; nutpie samples it with a diagonal and with a low-rank modified mass matrix. Effective draws
are those of the correlation within, per second of processor time of all chains, with compilation.

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

import hiercorr as hc

# genes, samples, cells a sample, method, draws and steps of adaptation of each of 4 chains
DESIGNS = [
    (2, 6, 300, "marginal", 500, 400),
    (2, 6, 300, "latent", 500, 400),
    (2, 6, 300, "latent, low rank", 500, 400),
    (5, 6, 300, "marginal", 350, 300),
    (10, 9, 300, "marginal", 250, 300),
    (2, 6, 300, "joint", 1000, 400),
    (5, 6, 300, "joint", 1000, 400),
    (10, 9, 300, "joint", 1000, 400),
    (20, 9, 300, "joint", 1000, 400),
]


def one(
    genes: int, samples: int, cells: int, method: str, draws: int, tune: int, seed: int
) -> dict:
    """One fit, its imports and compilation in the time."""
    start, used = time.perf_counter(), time.process_time()
    warnings.simplefilter("ignore")
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
        adata, "sample", depth="depth", heterogeneity=method in ("marginal", "joint")
    )
    correlations, diverging = drawn(model, method, draws, tune, seed)
    seconds, cpu = time.perf_counter() - start, time.process_time() - used
    import arviz as az
    import xarray as xr

    z = xr.Dataset({k: (("chain", "draw", "pair"), np.arctanh(v)) for k, v in correlations.items()})
    found, hat = az.ess(z), az.rhat(z)
    ess = [float(found[k].min()) for k in ("within", "between")]
    r_hat = max(float(hat[k].max()) for k in ("within", "between"))
    return {
        "genes": genes,
        "samples": samples,
        "cells": adata.n_obs,
        "method": method,
        "draws": 4 * draws,
        "tune": tune,
        "seed": seed,
        "seconds": round(seconds, 1),
        "cpu_seconds": round(cpu, 1),
        "min_ess_within": round(ess[0]),
        "min_ess_between": round(ess[1]),
        "ess_per_cpu_second": round(min(ess) / cpu, 1),
        "r_hat": round(r_hat, 4),
        "divergences": diverging,
    }


def drawn(
    model: hc.BayesianCorrelation, method: str, draws: int, tune: int, seed: int
) -> tuple[dict[str, np.ndarray], int]:
    """Draws of the correlations, (chain, draw, pair), and the number of divergences."""
    if method != "latent, low rank":
        r = model.fit(draws=draws, tune=tune, method=method, seed=seed)
        values = {k: r.dataset[f"posterior_{k}"].values for k in ("within", "between")}
        if method == "joint":
            i, j = np.triu_indices(model.counts.n_genes, 1)
            return {k: v[..., i, j] for k, v in values.items()}, 0
        return values, int(r.dataset.attrs["divergences"])
    import nutpie

    compiled = nutpie.compile_pymc_model(model.pymc_model(method="latent"))
    trace = nutpie.sample(
        compiled,
        draws=draws,
        tune=tune,
        chains=4,
        seed=seed,
        target_accept=0.95,
        low_rank_modified_mass_matrix=True,
        progress_bar=False,
    )
    i, j = np.triu_indices(model.counts.n_genes, 1)
    post = trace["posterior"]
    values = {k: post[f"{k}_correlation"].values[..., i, j] for k in ("within", "between")}
    return values, int(trace["sample_stats"]["diverging"].sum())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out")
    parser.add_argument("--seed", type=int, default=11)
    parser.add_argument("--only", help="only designs of so many genes, e.g. 5,10")
    parser.add_argument("--one")
    args = parser.parse_args()
    if args.one:
        print(json.dumps(one(*json.loads(args.one))))
        return
    rows = []
    chosen = None if args.only is None else [int(g) for g in args.only.split(",")]
    for design in (d for d in DESIGNS if chosen is None or d[0] in chosen):
        command = [sys.executable, __file__, "--one", json.dumps([*design, args.seed])]
        done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
        rows.append(json.loads(done.stdout.splitlines()[-1]))
        print(pd.DataFrame(rows[-1:]).to_string(index=False, header=len(rows) == 1), flush=True)
        if args.out:
            pd.DataFrame(rows).to_csv(args.out, index=False)


if __name__ == "__main__":
    main()
