"""From validated counts to what the posterior needs: cells, the population of samples, and what is too much work."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from hiercorr.bayes.margin import Cells
from hiercorr.bayes.pair import Population
from hiercorr.counts.counts import MIN_CELLS, Counts
from hiercorr.design.matrix import DesignMatrix, sample_design
from hiercorr.design.samples import check_block, sample_table, warn_of_repeated_donors
from hiercorr.errors import DataWarning, InputError
from hiercorr.runtime.user_warnings import warn

MAX_CELLS = 20_000
_SECONDS = 2e-7  # per row, pair of grid points and gradient; 15 gradients a draw, measured on one 2 GHz core


def population_of(
    counts: Counts, sample: str, formula: str, block: str | None
) -> tuple[DesignMatrix, Population]:
    """Design of the samples' means, and which of the samples belong together."""
    table, varying = sample_table(counts.obs, counts.starts, counts.samples)
    design = sample_design(formula, table, varying, None)
    n, k = design.matrix.shape
    if n < k + 2:
        raise InputError(
            f"formula {design.formula!r} has {k} coefficients and there are {n} samples: at least {k + 2} are needed; "
            "drop terms"
        )
    if block is None:
        warn_of_repeated_donors(
            {c: table[c] for c in table},
            sample,
            n,
            "intervals are too narrow",
            "block={column}",
        )
        return design, Population(design.matrix, np.arange(n))
    check_block(block, table, varying, counts.obs.columns)
    codes = np.asarray(pd.factorize(table[block])[0], np.int64)
    if codes.min() < 0 or codes.max() < 2:
        raise InputError(
            f"block {block!r} has {codes.max() + 1} values (and {(codes < 0).sum()} samples without): at least 3 "
            "donors are needed, each sample in one"
        )
    return design, Population(design.matrix, codes)


def cells_of(counts: Counts) -> Cells:
    """Dense counts of a few genes with log depth around the mean depth."""
    return Cells(
        counts.toarray().astype(np.int64), np.log(counts.depth / counts.depth.mean()), counts.starts
    )


def predicted_seconds(n_cells: int, n_genes: int, iterations: int, chains: int = 4) -> float:
    """Rough time of a fit on two cores: what the kernels take where no two cells have the same counts."""
    pairs = n_genes * (n_genes - 1) / 2
    return pairs * chains * iterations * 15 * n_cells * 25**2 * _SECONDS / 1000 / 2


def minutes(seconds: float) -> str:
    return f"{seconds / 60:,.0f} minutes" if seconds >= 90 else f"{seconds:.0f} s"


def chosen_cells(counts: Counts, many_cells: str, seed: Any) -> NDArray[np.bool_] | None:
    """Choose the cells to use where there are too many, shape (n_cells,); None: all of them."""
    n = counts.n_cells
    if n <= MAX_CELLS or many_cells == "all":
        return None
    if many_cells == "refuse":
        raise InputError(
            f"{n:,} cells: more than {MAX_CELLS:,}, for which a pair would take up to about "
            f"{minutes(predicted_seconds(n, 2, 1400))}; pass many_cells='subsample' (the same share of each sample) or "
            "many_cells='all'"
        )
    rng = np.random.default_rng(seed)
    keep = np.zeros(n, bool)
    for a, b in itertools.pairwise(counts.starts):
        size = max(min(MIN_CELLS, b - a), int((b - a) * MAX_CELLS / n))
        keep[a + rng.choice(b - a, size, replace=False)] = True
    warn(
        f"{int(keep.sum()):,} of {n:,} cells are used (many_cells='subsample')",
        DataWarning,
    )
    return keep
