"""The cells behind the sums of a pseudobulk model."""

from __future__ import annotations

import warnings
from dataclasses import dataclass, replace

import anndata as ad
import numpy as np
import pandas as pd
from numpy.typing import NDArray

from hiercorr import kernels
from hiercorr.counts.counts import Counts
from hiercorr.counts.read import read_counts
from hiercorr.counts.selection import Selection
from hiercorr.counts.sources import DataSource
from hiercorr.errors import DataWarning, InputError


@dataclass(frozen=True)
class SummedCells:
    """Cells behind the sums, read only where a method needs them.

    Attributes
    ----------
    source : DataSource
    selection : Selection
    digest : ndarray of uint64, shape (n_samples, n_vars)
        Identifies the counts that were summed.
    """

    source: DataSource
    selection: Selection
    digest: NDArray[np.uint64]

    def of(self, samples: ad.AnnData, genes: pd.Index) -> tuple[Counts, NDArray[np.int64]]:
        """Read the cells of some genes, and find each sample's row of the sums (-1: excluded)."""
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DataWarning)  # issued when the counts were summed
            cells = read_counts(self.source, replace(self.selection, genes=list(genes)), fewest=1)
        at = samples.obs_names.get_indexer(cells.samples)
        if (at >= 0).sum() != samples.n_obs:
            raise InputError(
                "method='corrected' needs units that are samples: choose one cell type with subset="
            )
        columns = samples.var_names.get_indexer(cells.genes)
        digest = kernels.counts.entry_digest(cells.cells[cells.rows], cells.values, cells.offsets)[
            :, at >= 0
        ]
        changed = (digest != self.digest[at[at >= 0]][:, columns].T).any(1)
        if changed.any():
            raise InputError(
                "the data have changed since this model summed them: the counts of "
                f"{changed.sum()} "
                f"genes are not the same, e.g. {cells.genes[changed][0]!r}; create a new model"
            )
        return cells, at
