"""Simulated data of the tests of power."""

from hiercorr.simulate import simulate_counts

GENES = 60


def simulated(seed, samples, cells, mean, rho, **options):
    adata, _ = simulate_counts(samples, cells, GENES, mean=mean, within=rho, seed=seed, **options)
    return adata
