"""Data of two and more groups of samples."""

import anndata as ad
import numpy as np

from hiercorr.simulate import simulate_counts


def two_arms(rho_a, rho_b, n=6, cells=300, genes=12, seed=0, mean=1.5, paired=False):
    """Simulate arms a and b, whose gene pairs (0, 1), (2, 3), ... have these correlations."""
    parts = []
    for k, rho in enumerate((rho_a, rho_b)):
        part, _ = simulate_counts(
            n,
            cells,
            genes,
            mean=mean,
            within=rho,
            cell_imbalance=0.4,
            seed=(seed, k, 7)[k] + 10 * seed,
        )
        part.obs["donor"] = part.obs["sample"].astype(str)
        part.obs["sample"] = part.obs["sample"].astype(str) + "ab"[k]
        part.obs["arm"] = "ab"[k]
        part.obs["batch"] = np.where(part.obs["donor"].str[-1].astype(int) % 2 == 0, "x", "y")
        part.obs["age"] = 40.0 + 3 * part.obs["donor"].str[-1].astype(int) + k
        part.obs_names = "ab"[k] + part.obs_names
        parts.append(part)
    out = ad.concat(parts)
    if not paired:
        out.obs["donor"] = out.obs["sample"]
    return out


def arms(rhos, n=5, cells=150, genes=14, seed=0):
    """Simulate arms a, b, ... whose gene pairs (0, 1), (2, 3), ... have these correlations."""
    parts = []
    for k, rho in enumerate(rhos):
        part, _ = simulate_counts(
            n, cells, genes, mean=1.5, within=rho, cell_imbalance=0.4, seed=1000 * seed + 17 * k
        )
        samples = part.obs["sample"].astype(str)
        part.obs["sample"] = samples + "abcdef"[k]
        part.obs["arm"] = "abcdef"[k]
        part.obs["age"] = 20.0 + 15 * k + 2 * samples.str[1:].astype(int)
        part.obs["sex"] = np.where(samples.str[1:].astype(int) % 2 == 0, "f", "m")
        part.obs_names = "abcdef"[k] + part.obs_names
        parts.append(part)
    return ad.concat(parts)
