"""Sources of counts: AnnData in memory or backed, MuData, .h5ad, .h5mu, .zarr and 10x.

Every source provides its cells, its genes, its matrix and blocks of the matrix; nothing here
interprets the numbers.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext, suppress
from copy import copy
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import anndata as ad
import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy import sparse

from hiercorr.counts import formats, multimodal
from hiercorr.counts.counts import GENE_SETS, METACELLS, SUMMED_LAYER
from hiercorr.counts.modalities import FEATURE_TYPES, GENES, chosen_types, types_of
from hiercorr.counts.names import FeatureNames, names_from
from hiercorr.counts.stored_parts import check_lengths, check_parts
from hiercorr.errors import InputError, unknown_name
from hiercorr.runtime.files import is_there
from hiercorr.runtime.optional import optional
from hiercorr.schema import GENE_ID

_BLOCK_VALUES = 16_000_000  # values per dense block; 128 MB as float64


@dataclass(frozen=True)
class Source:
    """Cells x genes matrix that is read in blocks, with its cell table and gene names.

    Attributes
    ----------
    obs : DataFrame
        Cell table.
    genes : Index
        Gene names.
    matrix : array or sparse matrix
        In memory, on disk or Dask-backed.
    name : str
        Name of the file, the layer, or ``"X"``.
    others : dict
        Other matrices of the same data, searched for raw counts in error messages.
    marks : dict
        How metacells (``metacell_...``) or sums of gene sets (``gene_sets``) were made.
    columns : ndarray of int64, optional
        Columns of the matrix that are read, in ascending order. None: all.
    features_left_out : dict
        Number of the other columns by type.
    types : Series, optional
        Type of every column of the matrix, by name.
    kinds : tuple of str
        Types of the columns that are read, if there are several.
    gene_kind : str or None
        Type that is of genes.
    modalities : tuple of str
        Names of the modalities of a MuData.
    join : callable, optional
        Returns the source of some of them.
    other_types : Series, optional
        Type of the features of the other modalities, by name.
    var : DataFrame, optional
        Feature table of all columns of the matrix.
    identifiers : Index, optional
        Names in the data of all columns of the matrix, if a column of `var` names them.
    shared_names : dict
        Names in this column of several features, and how these are told apart.
    """

    obs: pd.DataFrame
    genes: pd.Index
    matrix: Any
    name: str
    others: dict[str, Any] = field(default_factory=dict)
    marks: dict[str, Any] = field(default_factory=dict)
    columns: NDArray[np.int64] | None = None
    features_left_out: dict[str, int] = field(default_factory=dict)
    types: pd.Series | None = None
    kinds: tuple[str, ...] = ()
    gene_kind: str | None = GENES
    modalities: tuple[str, ...] = ()
    join: Callable[[Sequence[str]], Source] | None = None
    other_types: pd.Series | None = None
    var: pd.DataFrame | None = None
    identifiers: pd.Index | None = None
    shared_names: dict[str, list[str]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Raise an error if the values are no numbers, or of a type that cannot be summed."""
        dtype = getattr(self.matrix, "dtype", None)
        if dtype is not None and (dtype.kind not in "buif" or dtype == np.float16):
            raise InputError(
                f"the matrix {self.name!r} has values of the type {dtype}: convert them, e.g. "
                "adata.X = adata.X.astype('float32')"
            )

    @property
    def shape(self) -> tuple[int, int]:
        """Numbers of cells and genes."""
        n, p = (int(size) for size in self.matrix.shape)
        return n, p if self.columns is None else len(self.columns)

    @property
    def kind(self) -> NDArray[np.int64]:
        """Type of each column that is read, as a position in `kinds`."""
        assert self.read_types is not None
        return pd.Index(self.kinds).get_indexer(self.read_types).astype(np.int64)

    @property
    def read_types(self) -> pd.Series | None:
        """Type of each column that is read, by name; None if features have no types."""
        if self.types is None or self.columns is None:
            return self.types
        return self.types.iloc[self.columns]

    @property
    def left_out(self) -> pd.Series:
        """Type of each feature that is not read, by name."""
        if self.join is not None and self.other_types is not None:
            return self.other_types
        if self.types is None or self.columns is None:
            return pd.Series(dtype=object)
        return self.types.drop(self.types.index[self.columns], errors="ignore")

    @property
    def ids(self) -> pd.Index | None:
        """Names of the genes in the data, if a column of `var` names them."""
        if self.identifiers is None or self.columns is None:
            return self.identifiers
        return self.identifiers[self.columns]

    @property
    def names(self) -> FeatureNames:
        """Names of the features, for those that are asked for."""
        return FeatureNames(self.genes, self.ids, self.left_out, self.var, self.shared_names)

    def named(self, column: str | None) -> Source:
        """Return the source with features named by a column of their table; None: unchanged."""
        if column is None:
            return self
        if self.var is None:
            raise InputError(
                f"gene_names={column!r}: these data have no feature table: leave it out"
            )
        found = names_from(self.var, column, self.types)
        types = None if self.types is None else pd.Series(self.types.to_numpy(), found.names)
        at = slice(None) if self.columns is None else self.columns
        genes = pd.Index(found.names[at], dtype=object)
        if types is not None:
            read = types.iloc[at]
            genes = _told_apart(read, self.kinds or tuple(read.unique()))
        join = self.join
        return replace(
            self,
            genes=genes,
            identifiers=self.var.index.astype(str),
            types=types,
            shared_names=found.shared,
            join=None if join is None else lambda kinds: join(kinds).named(column),
        )

    def of_types(self, asked: str | Sequence[str] | None) -> Source:
        """Return the source of the features of these types; None: of genes.

        Features of a later type whose name an earlier one has get the type behind it.
        """
        if self.join is not None:
            wanted = chosen_types(asked, pd.Series(self.modalities), self.gene_kind)
            return self if wanted is None else self.join(wanted)
        wanted = chosen_types(asked, self.types, self.gene_kind)
        if wanted is None or self.types is None:
            return self
        columns = np.flatnonzero(self.types.isin(wanted)).astype(np.int64)
        number = self.types.value_counts()
        left_out = {str(k): int(n) for k, n in number.items() if k not in wanted}
        kinds = tuple(wanted) if len(wanted) > 1 else ()
        return replace(
            self,
            genes=_told_apart(self.types.iloc[columns], wanted),
            columns=columns,
            features_left_out=left_out,
            kinds=kinds,
        )


@contextmanager
def open_source(data: ad.AnnData | str | Path, layer: str | None = None) -> Iterator[Source]:
    """Open `data` for reading; files that were opened here are closed on exit."""
    if isinstance(data, ad.AnnData):
        yield _from_anndata(data, layer)
        return
    if multimodal.is_mudata(data):
        yield _from_mudata(data, layer, "MuData")
        return
    if not isinstance(data, str | Path):
        raise InputError(
            f"data must be an AnnData or MuData object or the path of {formats.READ}, not "
            f"{type(data).__name__}; wrap an array as anndata.AnnData(counts, obs=..., var=...)"
        )
    path = Path(data)
    if not is_there(path):
        raise InputError(f"no such file: {str(path)!r}")
    kind = _opened(path, lambda: formats.recognise(path))
    if kind == "zarr":
        import zarr

        from hiercorr.runtime.zarr_store import GuardedStore

        store = GuardedStore(path).check_documents()

        def read_zarr() -> Source:
            group = zarr.open_group(store, mode="r")
            raw = "raw/var" if layer == "raw" else "var"
            check_lengths(path, group, _location(layer), ("obs", raw))
            source = _from_group(group, layer, path.name)
            check_parts(path, group, _location(layer), ("obs", raw))
            return source

        yield _opened(path, read_zarr)
    elif kind == "h5mu":
        mudata = optional("mudata", "MuData files")
        with warnings.catch_warnings():  # what mudata will do in another version
            warnings.simplefilter("ignore", FutureWarning)
            joined = _opened(path, lambda: mudata.read_h5mu(path))
        yield _from_mudata(joined, layer, path.name)
    elif kind in _WHOLE:
        adata = _opened(path, lambda: _WHOLE[kind](path))
        yield replace(_from_anndata(adata, layer), name=path.name)
    else:
        import h5py

        handle = _opened(path, lambda: h5py.File(path, "r"))
        read = _from_10x if kind == "10x" else _from_group
        with handle:
            yield _opened(path, lambda: read(handle, layer, path.name))


_WHOLE: dict[str, Callable[[Path], ad.AnnData]] = {  # formats that are read into memory
    "mtx": formats.read_mtx_folder,
    "cell ranger 2": formats.read_cell_ranger_2,
    "old h5ad": ad.read_h5ad,
}


class DataSource:
    """Data that a model reads more than once.

    Keeps the matrix, the cell table and the gene names of an AnnData object, but not the object:
    replacing or subsetting them in the object does not change the data read here.

    Parameters
    ----------
    data : AnnData or path
    layer : str, optional
    gene_names : str, optional
        Column of ``var`` with the names of the genes.
    """

    def __init__(
        self, data: ad.AnnData | str | Path, layer: str | None = None, gene_names: str | None = None
    ) -> None:
        self.data: Any = data
        self.layer, self.gene_names = layer, gene_names
        self._obs: pd.DataFrame | None = None
        self._source: Source | None = None
        if isinstance(data, ad.AnnData):
            self.data, self._source = None, _from_anndata(data, layer).named(gene_names)
        elif multimodal.is_mudata(data):
            self.data, self._source = None, _from_mudata(data, layer, "MuData").named(gene_names)

    def with_obs(self, obs: pd.DataFrame) -> DataSource:
        """Return the same data with another cell table."""
        other = copy(self)
        other._obs = obs
        return other

    @contextmanager
    def open(self) -> Iterator[Source]:
        """Open the data for reading; files that were opened here are closed on exit."""
        kept = self._source
        with open_source(self.data, self.layer) if kept is None else nullcontext(kept) as source:
            source = source.named(self.gene_names) if kept is None else source
            if self._obs is not None and len(self._obs) != source.shape[0]:
                raise InputError(
                    f"the data have changed: there were {len(self._obs)} cells and now there are "
                    f"{source.shape[0]}; create a new model"
                )
            yield source if self._obs is None else replace(source, obs=self._obs)


def _opened(path: Path | str, read: Any) -> Any:
    """Call a reader; raise an error that names the file if it fails."""
    try:
        return read()
    except (InputError, MemoryError):
        raise
    except Exception as error:  # readers raise many types of errors for damaged files
        raise InputError(
            f"cannot read {str(path)!r} as {formats.READ} "
            f"({type(error).__name__}: {error}); is the file complete?"
        ) from error


def _from_anndata(adata: ad.AnnData, layer: str | None) -> Source:
    matrix = multimodal.matrix_of(adata, layer)
    var = adata.raw.var if layer == "raw" else adata.var
    others: dict[str, Any] = {}
    layers = [k for k in adata.layers if k is not None]  # anndata 0.13 lists X of backed data
    for name in (*layers, *(("raw",) if adata.raw is not None else ())):
        if name != layer:
            with suppress(InputError):  # selections of a backed object that anndata cannot read
                others[f"layer={name!r}"] = multimodal.matrix_of(adata, name)
    source = Source(
        adata.obs, var.index, matrix, layer or "X", others, _marks(adata.uns), var=var.copy()
    )
    return _of_genes(source)


def _of_genes(source: Source) -> Source:
    """Return the source without features of other types than genes, if there are several types."""
    assert source.var is not None
    types = types_of(source.var.get(FEATURE_TYPES), source.genes)
    made = source.var[GENE_ID] if source.marks and GENE_ID in source.var else None  # by metacells
    identifiers = None if made is None else pd.Index(made.astype(str))
    return replace(source, types=types, identifiers=identifiers).of_types(None)


def _from_mudata(mdata: Any, layer: str | None, name: str) -> Source:
    """Return the source of the genes of a MuData; of other modalities by its `of_types`."""
    modalities = dict(mdata.mod)
    if not modalities:
        raise InputError(f"{name!r} has no modality")
    obs, genes = mdata.obs, multimodal.modality_of_genes(modalities)
    sizes = {kind: adata.n_vars for kind, adata in modalities.items()}

    def join(kinds: Sequence[str]) -> Source:
        cells = multimodal.shared_cells(modalities, kinds, obs.index)
        types = _types_of_modalities(modalities, kinds)
        others = [kind for kind in sizes if kind not in kinds]
        return Source(
            multimodal.joined_obs(obs, modalities, kinds, cells),
            _told_apart(types, kinds),
            multimodal.joined_matrix(modalities, kinds, cells, layer),
            name,
            features_left_out={kind: sizes[kind] for kind in others},
            types=types,
            kinds=tuple(kinds) if len(kinds) > 1 else (),
            gene_kind=genes,
            modalities=tuple(sizes),
            join=join,
            other_types=_types_of_modalities(modalities, others),
            var=pd.concat([modalities[kind].var for kind in kinds]),
        )

    return join([genes or next(iter(modalities))])


def _types_of_modalities(modalities: Mapping[str, ad.AnnData], kinds: Sequence[str]) -> pd.Series:
    names = [modalities[kind].var_names.to_numpy(object) for kind in kinds]
    of_each = np.repeat(np.array(kinds, object), [len(n) for n in names])
    return pd.Series(of_each, np.concatenate([np.empty(0, object), *names]), dtype=object)


def _told_apart(types: pd.Series, kinds: Sequence[str]) -> pd.Index:
    """Return the names of features, those of a later type with the type if an earlier has them."""
    names, seen = types.index.to_numpy(object, copy=True), pd.Index([])
    for kind in kinds:
        of_kind = np.flatnonzero(types == kind)
        own = pd.Index(names[of_kind])
        for k in of_kind[own.isin(seen)]:
            names[k] = f"{names[k]} ({kind})"
        seen = seen.append(own)
    return pd.Index(names)


def _marks(uns: Any) -> dict[str, Any]:
    """Read how metacells or sums of gene sets were made."""
    made = {f"metacell_{k}": v for k, v in uns.get(METACELLS, {}).items() if v != ""}
    if GENE_SETS in uns:
        made["gene_sets"] = list(uns[GENE_SETS])
        made["gene_sets_layer"] = str(uns.get(SUMMED_LAYER, "X"))
    return made


def _from_group(group: Any, layer: str | None, name: str) -> Source:
    from anndata.io import read_elem

    if "correlation" in group:
        raise InputError(f"{name!r} is a result: open it with hiercorr.load")
    if "obs" not in group or "var" not in group:
        raise InputError(f"{name!r} is not an AnnData file: it has no 'obs' and 'var'")
    layers = list(group["layers"]) if "layers" in group else []
    location = _location(layer)
    if location == "X" and _is_nothing(group, location):
        raise multimodal.no_x(repr(name), layers, "raw/X" in group, group.get("obsm", ()))
    if location not in group:
        raise unknown_name("layer", layer or "X", [*layers, *(["raw"] if "raw" in group else [])])
    var = read_elem(group["raw/var" if layer == "raw" else "var"])
    others = {f"layer={k!r}": _matrix(group[f"layers/{k}"]) for k in layers if k != layer}
    if layer != "raw" and "raw/X" in group:
        others["layer='raw'"] = _matrix(group["raw/X"])
    marks = (METACELLS, GENE_SETS, SUMMED_LAYER)
    uns = {k: read_elem(group[f"uns/{k}"]) for k in marks if f"uns/{k}" in group}
    obs, matrix = read_elem(group["obs"]), _matrix(group[location])
    return _of_genes(Source(obs, var.index, matrix, name, others, _marks(uns), var=var))


def _is_nothing(group: Any, location: str) -> bool:
    """Return whether a file has no matrix here, or has None there."""
    return location not in group or group[location].attrs.get("encoding-type") == "null"


def _location(layer: str | None) -> str:
    """Return the path of the counts in a file."""
    return "X" if layer in (None, "X") else "raw/X" if layer == "raw" else f"layers/{layer}"


def _matrix(element: Any) -> Any:
    from anndata.io import sparse_dataset

    return sparse_dataset(element) if hasattr(element, "keys") else element


def _from_10x(handle: Any, layer: str | None, name: str) -> Source:
    """Read a feature-barcode matrix of Cell Ranger (genes x cells, CSC) as cells x genes, CSR."""
    if layer not in (None, "X"):
        raise unknown_name("layer", layer, ["X"])
    m = handle["matrix"]
    kinds = _decoded(m["features/feature_type"]) if "feature_type" in m["features"] else None
    symbols, ids = _decoded(m["features/name"]), _decoded(m["features/id"])
    genes = formats.feature_names(symbols, ids, kinds)
    n_genes, n_cells = (int(v) for v in m["shape"][:])
    counts = sparse.csr_matrix(
        (m["data"][:], m["indices"][:], m["indptr"][:]), shape=(n_cells, n_genes)
    )
    obs = formats.libraries(pd.Index(_decoded(m["barcodes"])))
    var = formats.feature_table(genes, ids, kinds)
    return _of_genes(Source(obs, var.index, counts, name, var=var))


def _decoded(dataset: Any) -> Any:
    return np.char.decode(np.asarray(dataset[:]).astype("S"), "utf-8")


def blocks(source: Source) -> Iterator[tuple[int, int, sparse.csr_matrix]]:
    """Yield ``(first cell, first gene, CSR block)``; the blocks cover the genes of the matrix.

    A matrix in memory is not copied, unless some of its columns are not genes.
    """
    columns = source.columns
    for i, j, block in matrix_blocks(source):
        if columns is None:
            yield i, j, block
            continue
        first, last = np.searchsorted(columns, [j, j + block.shape[1]])
        yield i, int(first), block[:, columns[first:last] - j]


def matrix_blocks(source: Source) -> Iterator[tuple[int, int, sparse.csr_matrix]]:
    """Yield blocks of all columns of the matrix, as :func:`blocks`."""
    matrix = source.matrix
    n, p = (int(size) for size in matrix.shape)
    if _is_csc(matrix):
        step = max(1, _BLOCK_VALUES // max(1, n))
        for j in range(0, p, step):
            yield 0, j, _block(source, (slice(None), slice(j, j + step)))
        return
    if sparse.issparse(matrix):  # CSR (or rarer) in memory: one block, no copy
        yield 0, 0, canonical(_as_csr(with_valid_indices(matrix)))
        return
    step = max(1, _BLOCK_VALUES // max(1, p))
    for i in range(0, n, step):
        yield i, 0, _block(source, (slice(i, i + step), slice(None)))


def _block(source: Source, part: tuple[slice, slice]) -> sparse.csr_matrix:
    """Read a part of the matrix; damage to a file is noticed only here."""
    index = part[0] if part[1] == slice(None) else part

    def read() -> sparse.csr_matrix:
        return canonical(sparse.csr_matrix(with_valid_indices(in_memory(source.matrix[index]))))

    return _opened(source.name, read)


def with_valid_indices(block: Any) -> Any:
    """Return the matrix; raise an error if it is sparse and an index lies outside of it.

    Compiled loops, including those of scipy, do not check indices.
    """
    if not sparse.issparse(block) or block.format not in ("csr", "csc"):
        return block
    major, minor = block.shape if block.format == "csr" else block.shape[::-1]
    start, index = block.indptr, block.indices
    valid = len(start) == major + 1 and start[0] == 0 and bool((start[1:] >= start[:-1]).all())
    valid = valid and start[-1] <= min(len(index), len(block.data))
    if valid and start[-1] > 0:
        used = index[: start[-1]]
        valid = used.min() >= 0 and used.max() < minor
    if not valid:
        raise InputError(
            f"the sparse matrix of {block.shape[0]} x {block.shape[1]} is damaged: positions of "
            "its entries lie outside of it; write the file again"
        )
    return block


def _is_csc(matrix: Any) -> bool:
    return getattr(matrix, "format", None) == "csc"


def in_memory(block: Any) -> Any:
    """Load a block that is Dask-backed or on disk."""
    block = block.compute() if hasattr(block, "compute") else block
    return block.to_memory() if hasattr(block, "to_memory") else block


def canonical(block: sparse.csr_matrix) -> sparse.csr_matrix:
    """Add up duplicate entries; the input is not modified."""
    if not block.has_canonical_format:
        block = _wide(block)
        block.sum_duplicates()
    return block


def _as_csr(matrix: Any) -> sparse.csr_matrix:
    """Convert a sparse matrix; of some formats, duplicate entries are added up by this."""
    return (matrix if matrix.format in ("csr", "csc") else _wide(matrix)).tocsr()


def _wide(matrix: Any) -> Any:
    """Copy a matrix to a type in which sums of its entries are exact."""
    kind = matrix.dtype.kind
    if kind in "bi" or (kind == "u" and matrix.dtype.itemsize < 8):
        return matrix.astype(np.int64, copy=True)
    return matrix.astype(np.float64, copy=True) if kind == "f" else matrix.copy()
