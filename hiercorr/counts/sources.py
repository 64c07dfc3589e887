"""Where counts come from: AnnData in memory or backed, .h5ad, .zarr and 10x .h5 files, read in blocks.

Every source answers the same four questions - cells, genes, matrix, blocks - and nothing here interprets the numbers.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import anndata as ad
import numpy as np
import pandas as pd
from scipy import sparse

from hiercorr.errors import InputError, unknown_name
from hiercorr.runtime.files import refuse_code

_BLOCK_VALUES = 16_000_000  # values of a dense block; 128 MB as float64


@dataclass(frozen=True)
class Source:
    """A cells x genes matrix that is read in blocks, with its cell and gene tables."""

    obs: pd.DataFrame
    genes: pd.Index
    matrix: Any
    name: str
    others: dict[str, Any] = field(
        default_factory=dict
    )  # other matrices, to say where raw counts may be

    @property
    def shape(self) -> tuple[int, int]:
        return int(self.matrix.shape[0]), int(self.matrix.shape[1])


@contextmanager
def open_source(data: ad.AnnData | str | Path, layer: str | None = None) -> Iterator[Source]:
    """Open `data` for reading and close again what was opened here."""
    if isinstance(data, ad.AnnData):
        yield _from_anndata(data, layer)
        return
    if not isinstance(data, str | Path):
        raise InputError(
            f"data must be an AnnData object or the path of a .h5ad, .zarr or 10x .h5 file, not {type(data).__name__}; "
            "wrap an array as anndata.AnnData(counts, obs=..., var=...)"
        )
    path = Path(data)
    if not path.exists():
        raise InputError(f"no such file: {str(path)!r}")
    if path.suffix == ".zarr" or path.is_dir():
        import zarr

        refuse_code(path)
        yield _opened(
            path, lambda: _from_group(zarr.open_group(str(path), mode="r"), layer, path.name)
        )
        return
    import h5py

    handle = _opened(path, lambda: h5py.File(path, "r"))
    with handle:
        read = _from_10x if "matrix" in handle and "obs" not in handle else _from_group
        yield _opened(path, lambda: read(handle, layer, path.name))


class DataSource:
    """Data that a model reads more than once.

    Of an AnnData object the matrix, the cell table and the gene names are kept, not the object itself: replacing or
    subsetting them in the object does not change what is read here.

    Parameters
    ----------
    data : AnnData or path
    layer : str, optional
    """

    def __init__(self, data: ad.AnnData | str | Path, layer: str | None = None) -> None:
        self.data, self.layer = (None if isinstance(data, ad.AnnData) else data), layer
        self._source = _from_anndata(data, layer) if isinstance(data, ad.AnnData) else None

    @contextmanager
    def open(self) -> Iterator[Source]:
        """Open the data for reading, and close again what was opened here."""
        if self._source is not None:
            yield self._source
            return
        with open_source(self.data, self.layer) as source:
            yield source


def _opened(path: Path | str, read: Any) -> Any:
    try:
        return read()
    except (InputError, MemoryError):
        raise
    except Exception as error:  # the readers below raise many types on a damaged file
        raise InputError(
            f"cannot read {str(path)!r} as .h5ad, .zarr or 10x .h5 ({type(error).__name__}: {error}); "
            "is the file complete?"
        ) from error


def _from_anndata(adata: ad.AnnData, layer: str | None) -> Source:
    if layer in (None, "X"):
        if adata.X is None:
            raise InputError(f"the AnnData has no X; name a layer: {list(adata.layers)}")
        genes, matrix = adata.var_names, adata.X
    elif layer == "raw":
        if adata.raw is None:
            raise InputError("layer='raw' was asked for but the AnnData has no raw")
        genes, matrix = adata.raw.var_names, adata.raw.X
    else:
        if layer not in adata.layers:
            raise unknown_name("layer", layer, adata.layers.keys())
        genes, matrix = adata.var_names, adata.layers[layer]
    others: dict[str, Any] = {f"layer={k!r}": v for k, v in adata.layers.items() if k != layer}
    if adata.raw is not None and layer != "raw":
        others["layer='raw'"] = adata.raw.X
    return Source(adata.obs, genes, matrix, layer or "X", others)


def _from_group(group: Any, layer: str | None, name: str) -> Source:
    from anndata.io import read_elem

    if "obs" not in group or "var" not in group:
        raise InputError(f"{name!r} is not an AnnData file: it has no 'obs' and 'var'")
    layers = list(group["layers"]) if "layers" in group else []
    where = "X" if layer in (None, "X") else "raw/X" if layer == "raw" else f"layers/{layer}"
    if where not in group:
        raise unknown_name("layer", layer or "X", [*layers, *(["raw"] if "raw" in group else [])])
    genes = read_elem(group["raw/var" if layer == "raw" else "var"]).index
    others = {f"layer={k!r}": _matrix(group[f"layers/{k}"]) for k in layers if k != layer}
    if layer != "raw" and "raw/X" in group:
        others["layer='raw'"] = _matrix(group["raw/X"])
    return Source(read_elem(group["obs"]), genes, _matrix(group[where]), name, others)


def _matrix(element: Any) -> Any:
    from anndata.io import sparse_dataset

    return sparse_dataset(element) if hasattr(element, "keys") else element


def _from_10x(handle: Any, layer: str | None, name: str) -> Source:
    """Cell Ranger's feature-barcode matrix: genes x cells by column, which is cells x genes by row."""
    if layer not in (None, "X"):
        raise unknown_name("layer", layer, ["X"])
    m = handle["matrix"]
    if "features" not in m:
        raise InputError(
            f"{name!r} has no 'matrix/features': Cell Ranger 2 files are not read; convert to .h5ad"
        )
    text = lambda d: np.char.decode(np.asarray(d[:]).astype("S"), "utf-8")  # noqa: E731
    kinds = text(m["features/feature_type"]) if "feature_type" in m["features"] else None
    symbols, ids = text(m["features/name"]), text(m["features/id"])
    # Symbols repeat in every 10x reference: a repeated one is told apart by its Ensembl identifier.
    repeated = pd.Series(symbols).duplicated(keep=False).to_numpy()
    genes = np.where(repeated, np.char.add(np.char.add(symbols, "_"), ids), symbols)
    n_genes, n_cells = (int(v) for v in m["shape"][:])
    counts = sparse.csr_matrix(
        (m["data"][:], m["indices"][:], m["indptr"][:]), shape=(n_cells, n_genes)
    )
    if kinds is not None and (kinds == "Gene Expression").any():
        keep = kinds == "Gene Expression"
        counts, genes = counts[:, keep], genes[keep]
    barcodes = pd.Index(text(m["barcodes"]))
    library = pd.Series(barcodes).str.rpartition("-")[2].to_numpy()
    return Source(pd.DataFrame({"library": library}, index=barcodes), pd.Index(genes), counts, name)


def blocks(source: Source) -> Iterator[tuple[int, int, sparse.csr_matrix]]:
    """Yield ``(first cell, first gene, CSR block)`` so that the blocks cover the matrix once, without copies of it."""
    matrix = source.matrix
    n, p = source.shape
    if _is_csc(matrix):
        step = max(1, _BLOCK_VALUES // max(1, n))
        for j in range(0, p, step):
            yield 0, j, _block(source, (slice(None), slice(j, j + step)))
        return
    if sparse.issparse(matrix):  # CSR (or rarer) in memory: one block, no copy
        yield 0, 0, canonical(sound(matrix).tocsr())
        return
    step = max(1, _BLOCK_VALUES // max(1, p))
    for i in range(0, n, step):
        yield i, 0, _block(source, (slice(i, i + step), slice(None)))


def _block(source: Source, at: tuple[slice, slice]) -> sparse.csr_matrix:
    """Part of the matrix; damage to a file shows only where it is read."""
    cut = at[0] if at[1] == slice(None) else at
    return _opened(
        source.name, lambda: canonical(sparse.csr_matrix(sound(in_memory(source.matrix[cut]))))
    )


def sound(block: Any) -> Any:
    """Refuse a compressed matrix whose positions lie outside of it: compiled loops, ours and scipy's, follow them blindly."""
    if not sparse.issparse(block) or block.format not in ("csr", "csc"):
        return block
    major, minor = block.shape if block.format == "csr" else block.shape[::-1]
    start, at = block.indptr, block.indices
    whole = len(start) == major + 1 and start[0] == 0 and bool((start[1:] >= start[:-1]).all())
    whole = whole and start[-1] <= min(len(at), len(block.data))
    if not (
        whole and (start[-1] == 0 or (at[: start[-1]].min() >= 0 and at[: start[-1]].max() < minor))
    ):
        raise InputError(
            f"the sparse matrix of {block.shape[0]} x {block.shape[1]} is damaged: positions of its entries lie outside of it; "
            "write the file again"
        )
    return block


def _is_csc(matrix: Any) -> bool:
    return getattr(matrix, "format", None) == "csc"


def in_memory(block: Any) -> Any:
    block = block.compute() if hasattr(block, "compute") else block
    return block.to_memory() if hasattr(block, "to_memory") else block


def canonical(block: sparse.csr_matrix) -> sparse.csr_matrix:
    if (
        not block.has_canonical_format
    ):  # entries given twice add up; on a copy, the input stays as it is
        block = block.copy()
        block.sum_duplicates()
    return block
