"""Scatter plot of two genes in single cells and in pseudobulk samples."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import anndata as ad
import numpy as np
from numpy.typing import ArrayLike

from hiercorr.counts.counts import MIN_CELLS
from hiercorr.counts.read import read_counts
from hiercorr.counts.selection import Selection
from hiercorr.design.samples import sample_name
from hiercorr.plotting import style

if TYPE_CHECKING:
    from matplotlib.axes import Axes


@style.verbatim
def pair_scatter(
    data: ad.AnnData | str | Path,
    sample: str | tuple[str, str],
    gene_a: str,
    gene_b: str,
    *,
    layer: str | None = None,
    depth: str | ArrayLike | None = None,
    subset: ArrayLike | Mapping[str, Any] | None = None,
    gene_names: str | None = None,
    min_cells: int = MIN_CELLS,
    max_cells: int = 20_000,
    seed: int = 0,
    ax: Axes | None = None,
) -> Axes:
    """Plot two genes in cells, coloured by sample, and in the pseudobulk of each sample.

    Both are log-normalised to the median sequencing depth of the cells.

    Parameters
    ----------
    data, sample, layer, depth, subset, gene_names, min_cells
        As for :class:`hiercorr.CSCore`.
    gene_a, gene_b : str
    max_cells : int
        Maximum number of cells shown, drawn at random.
    seed : int
        Seed of the random draw and of the jitter that separates cells without counts.
    ax : Axes, optional

    Returns
    -------
    Axes
    """
    counts = read_counts(
        data,
        Selection(
            sample=sample_name(sample),
            genes=[gene_a, gene_b],
            layer=layer,
            depth=depth,
            subset=subset,
            gene_names=gene_names,
            min_cells=min_cells,
        ),
    )
    gene_a, gene_b = (str(counts.named(g)) for g in (gene_a, gene_b))
    rng = np.random.default_rng(seed)
    x = counts.toarray()[:, counts.genes.get_indexer([gene_a, gene_b])]
    scale = np.median(counts.depth)
    value = np.log1p(x * scale / counts.depth[:, None])
    code = np.repeat(np.arange(counts.n_samples), counts.cells_per_sample)
    keep = np.sort(rng.permutation(counts.n_cells)[:max_cells])
    now = style.look()
    ax = style.axes(ax, 5.6, 4.4)
    few = counts.n_samples <= len(style.PALETTE)
    step = 0.03 * np.ptp(value, axis=0)
    jitter = rng.uniform(-1, 1, value.shape) * step * (x == 0)
    colours = np.array(style.PALETTE if few else [style.SKY])[
        code % len(style.PALETTE) if few else code * 0
    ]
    size = now.area(5) if len(keep) > style.MANY_POINTS else now.area(12)
    x_cells, y_cells = (value[keep] + jitter[keep]).T
    ax.scatter(x_cells, y_cells, s=size, c=colours[keep], alpha=0.5, lw=0, rasterized=True)
    for c, name in enumerate(counts.samples):
        cells = slice(counts.starts[c], counts.starts[c + 1])
        pseudobulk = np.log1p(x[cells].sum(0) / counts.depth[cells].sum() * scale)
        ax.scatter(
            pseudobulk[0],
            pseudobulk[1],
            s=now.area(90),
            marker=style.MARKERS[c % len(style.MARKERS)] if few else "o",
            zorder=4,
            edgecolors="black",
            lw=now.lw(1.2),
            color=style.PALETTE[c] if few else "white",
            label=str(name) if few else "samples" if c == 0 else None,
        )
    ax.set_xlabel(f"{gene_a} (log-normalised)")
    ax.set_ylabel(f"{gene_b} (log-normalised)")
    style.legend(ax, title="pseudobulk (cells: small points)")
    drawn = style.shown(len(keep), counts.n_cells, "drawn", order="")
    title = f"{counts.n_samples} samples, {counts.n_cells:,} cells{drawn}"
    return style.finish(ax, None, title)
