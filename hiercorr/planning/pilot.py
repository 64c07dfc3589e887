"""Arguments of power() estimated from pilot data."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import anndata as ad
import numpy as np
from numpy.typing import NDArray
from scipy import special

from hiercorr.errors import InputError, text


def pilot(
    data: ad.AnnData | str | Path,
    sample: str | tuple[str, str],
    gene_a: str,
    gene_b: str,
    *,
    depth: str | None = None,
    **options: Any,
) -> dict[str, Any]:
    """Estimate the arguments of :func:`hiercorr.power` for one gene pair from pilot data.

    Parameters
    ----------
    data : AnnData or path
        Raw counts of one cell type.
    sample : str
        Column of ``obs`` with the sample of each cell; two columns: their combinations.
    gene_a, gene_b : str
        The two genes.
    depth, **options
        As for :class:`hiercorr.CSCore`.

    Returns
    -------
    dict
        samples, cells (median per sample), mean, rho, heterogeneity (tau; 0.1 if it cannot be
        estimated), within_sd, depth_sd.

    Examples
    --------
    >>> import hiercorr as hc
    >>> from hiercorr.planning import pilot
    >>> adata = hc.datasets.glioblastoma()
    >>> options = {"depth": "total_counts", "subset": {"condition": "ctrl"}}
    >>> found = pilot(adata, "sample_id", "FTL", "FTH1", **options)
    >>> found["samples"], found["cells"]
    (5, 500)
    """
    from hiercorr.within.cscore import CSCore

    for name, value in (("gene_a", gene_a), ("gene_b", gene_b)):
        text(name, value)
    if gene_a == gene_b:
        raise InputError(f"gene_a and gene_b must be two genes, not both {gene_a!r}")
    model = CSCore(data, sample, genes=[gene_a, gene_b], depth=depth, **options)
    gene_a, gene_b = (str(model.counts.named(g)) for g in (gene_a, gene_b))
    fitted = model.fit(per_sample=True).dataset
    pair = fitted.sel(gene=gene_a, partner=gene_b)
    scale = float(np.mean(model.counts.depth))
    genes = fitted.sel(gene=[gene_a, gene_b])
    tau2 = float(pair["tau2"])
    log_depth = np.log(model.counts.depth)
    rho = float(pair["correlation_unclipped"])
    phi: NDArray[np.float64] = np.maximum(genes["overdispersion"].values, 1e-3)
    return {
        "samples": model.counts.n_samples,
        "cells": int(np.median(model.counts.cells_per_sample)),
        "mean": tuple(float(m) for m in genes["mean"].values * scale),
        "rho": rho,
        "heterogeneity": math.sqrt(tau2) * (1 - min(rho**2, 1)) if math.isfinite(tau2) else 0.1,
        "within_sd": tuple(float(v) for v in np.sqrt(special.log1p(phi))),
        "depth_sd": float(log_depth.std()),
    }
