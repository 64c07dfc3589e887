"""Data of two groups of samples."""

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
