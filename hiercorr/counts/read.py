"""The one door in: AnnData or a file becomes validated counts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import anndata as ad
import numpy as np
from numpy.typing import ArrayLike

from hiercorr.counts import validate
from hiercorr.counts.backend import Backend, LocalBackend
from hiercorr.counts.counts import MIN_CELLS, Counts
from hiercorr.counts.layout import EntryLayout, by_sample
from hiercorr.counts.sources import open_source
from hiercorr.errors import InputError


def read_counts(
    data: ad.AnnData | str | Path,
    *,
    sample: str | tuple[str, str] | None,
    genes: Sequence[str] | ArrayLike | int | None = None,
    layer: str | None = None,
    depth: str | ArrayLike | None = None,
    subset: ArrayLike | Mapping[str, Any] | None = None,
    min_cells: int = MIN_CELLS,
    small_samples: str = "exclude",
    always: Sequence[str] = (),
    allow_empty_genes: bool = False,
    place: Backend | None = None,
) -> Counts:
    """Read and validate counts; the input is never modified.

    Parameters
    ----------
    data : AnnData or path
        Cells x genes raw counts: AnnData in memory or backed (dense, CSR, CSC), or a .h5ad, .zarr or 10x .h5 file.
    sample : str, (str, str) or None
        Column of ``obs`` that names the sample (mouse, donor, patient) of each cell; two columns: a sample is what both say.
        None: all cells are one group.
    genes : sequence of str, bool mask, int, optional
        Names, a mask over all genes, or N for the N most highly expressed in the chosen cells. None: every gene that is
        expressed in them.
    layer : str, optional
        A layer's name, ``"raw"`` for ``adata.raw``, None for ``X``.
    depth : str or array of float, shape (n_obs,), optional
        Sequencing depth (counts): a numeric ``obs`` column or an array. None: row sums over all genes.
    subset : bool array, shape (n_obs,), or mapping, optional
        Cells to use, or ``{"obs column": value or list of values}``; values must match exactly.
    min_cells : int
        A sample with fewer cells is left out or refused.
    small_samples : {"exclude", "error"}
        What happens to such a sample.
    always : sequence of str
        Genes that are kept whatever `genes` selects (the target).
    allow_empty_genes : bool
        Leave out genes that are zero in all of the data instead of refusing them, where `genes` is None. Genes that are
        zero only in the chosen cells are left out with a warning.
    place : Backend, optional
        Who passes over the matrix and where the entries stay. None: this process, in memory.

    Returns
    -------
    Counts

    Raises
    ------
    InputError
        If the input cannot be right.
    """
    place = place or LocalBackend()
    with open_source(data, layer) as source:
        validate.check_gene_names(source.genes)
        keep = validate.subset_mask(source.obs, subset)
        codes, samples = validate.sample_codes(source.obs, sample, keep)
        notes: dict[str, Any] = {"source": source.name, "n_cells_input": source.shape[0]}
        codes, samples = validate.drop_small(
            codes, samples, sample, min_cells, small_samples, notes
        )
        given_depth = None if depth is None else validate.given_depth(source.obs, depth)

        count, total, row_sum, seen = place.scan(source, codes, len(samples))
        if genes is None and not seen.all() and not allow_empty_genes:
            empty = source.genes[~seen]
            raise InputError(
                f"{len(empty)} of {len(seen)} genes are zero in every cell of the data, e.g. {empty[0]!r}; drop them "
                "(adata[:, adata.X.sum(0) > 0]) or say which genes to use: names, a mask, or genes=N for the N highest"
            )
        chosen = validate.choose_genes(source.genes, genes, total, always)
        order, starts = by_sample(codes, len(samples))
        depth_all = row_sum if given_depth is None else given_depth
        validate.check_depth(depth_all[order], source.obs.index[order], depth)
        validate.warn_of_panel_depth(source.shape[1], depth_all[order], row_sum[order])
        rows, values, offsets = place.fill(
            source, EntryLayout(codes, order, count, chosen, depth_all)
        )
        notes["depth"] = (
            depth if isinstance(depth, str) else "row sums" if depth is None else "given array"
        )
        return Counts(
            rows=rows,
            values=values,
            offsets=offsets,
            starts=starts,
            depth=np.ascontiguousarray(depth_all[order], dtype=np.float64),
            cells=order,
            obs=source.obs.iloc[order],
            genes=source.genes[chosen].astype(str),
            samples=samples,
            notes=notes,
        )
