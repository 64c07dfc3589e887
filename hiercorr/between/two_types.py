"""Counts of two cell types of the same samples, summed per sample and joined side by side."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

import anndata as ad
import numpy as np
import pandas as pd
from numpy.typing import NDArray

from hiercorr.between.summed_cells import SummedCells
from hiercorr.counts import validate
from hiercorr.counts.aggregate import KEY, SummedCounts, depth_column, sum_over_cells
from hiercorr.counts.counts import Counts
from hiercorr.counts.formats import unknown_column
from hiercorr.counts.modalities import FEATURE_TYPES
from hiercorr.counts.names import FeatureNames
from hiercorr.counts.selection import Selection
from hiercorr.counts.sources import DataSource
from hiercorr.counts.targets import PairList
from hiercorr.design.levels import one_name_each
from hiercorr.errors import DataWarning, InputError, listed, unknown_name
from hiercorr.runtime.user_warnings import Kept, kept_for, warn, warn_of_parts
from hiercorr.schema import GENE_ID

MIN_SAMPLES = 4  # samples with cells of both types
_LISTED = 10


@dataclass(frozen=True)
class OneType:
    """Sums of one cell type in the samples that have both.

    Attributes
    ----------
    name : str
        The cell type.
    samples : AnnData
        Samples x genes.
    chosen : ndarray of int64
        Positions of the chosen genes.
    shown : Index
        Their names in the result: with the cell type if a gene was chosen in both types.
    cells : SummedCells
    """

    name: str
    samples: ad.AnnData
    chosen: NDArray[np.int64]
    shown: pd.Index
    cells: SummedCells

    def read_cells(self) -> tuple[Counts, NDArray[np.int64]]:
        """Read the cells of the chosen genes, and the row of each of their samples (or -1).

        Returns
        -------
        Counts
            In the order of ``shown``.
        ndarray of int64
        """
        return self.cells.of(self.samples, self.samples.var_names[self.chosen])


def two_types(types: object) -> tuple[str, str]:
    """Check and return the names of the two cell types."""
    expected = "two cell types, e.g. ('T cell', 'macrophage')"
    named = [t if isinstance(t, str) else repr(t) for t in listed("types", types, expected)]
    if len(named) != 2:
        raise InputError(f"types must be {expected}, not {types!r}")
    if named[0] == named[1]:
        raise InputError(
            f"types names {named[0]!r} twice: the pairs of genes within one cell type are those of "
            "Pseudobulk"
        )
    return named[0], named[1]


def gene_lists(types: tuple[str, str], genes: tuple[Any, Any]) -> tuple[Any, Any]:
    """Check and copy the genes that are chosen in each type."""
    out = []
    for option, name, wanted in zip(("genes_a", "genes_b"), types, genes, strict=True):
        with _of_type(name, option):
            out.append(Selection(None, genes=wanted).genes)
    return out[0], out[1]


def sum_types(
    source: DataSource,
    cell_type: str,
    types: tuple[str, str],
    selection: Selection,
    genes: tuple[Any, Any],
    pairs: PairList | None,
    min_counts: int,
) -> tuple[OneType, OneType, NDArray[np.bool_] | None]:
    """Sum the counts of each type, and keep the samples that have both.

    Parameters
    ----------
    source : DataSource
    cell_type : str
        Column of ``obs``.
    types : (str, str)
    selection : Selection
        Cells of both types; its subset is a mapping or None.
    genes : pair
        As for :class:`hiercorr.counts.selection.Selection`, for each type.
    pairs : PairList or None
        Genes of the first and of the second type, instead of `genes`.
    min_counts : int
        Minimum total depth per sample and type.

    Returns
    -------
    OneType, OneType
    ndarray of bool or None
        Which pairs of the chosen genes were listed.
    """
    with source.open() as opened:
        values = _values(opened.obs, cell_type, types, selection)
    kept: Kept = {}
    found: list[SummedCounts] = []
    for name, value in zip(types, values, strict=True):
        others = selection.subset if isinstance(selection.subset, Mapping) else {}
        subset = {**others, cell_type: value}
        with kept_for(kept, name), _of_type(name):
            found.append(sum_over_cells(source, replace(selection, subset=subset), min_counts))
    warn_of_parts(kept, "cell type")
    both = _in_both(found, types, str(selection.sample))
    kept = {}
    parts = [s.samples[both].copy() for s in found]
    totals = [np.asarray(part.X).sum(0).astype(float) for part in parts]
    usable: list[tuple[str, str]] = []
    if pairs is not None:
        usable = _usable_pairs(pairs, [s.names for s in found], totals, types)
        genes = ([*dict.fromkeys(a for a, _ in usable)], [*dict.fromkeys(b for _, b in usable)])
    chosen = []
    for option, name, wanted, total, sums in zip(
        ("genes_a", "genes_b"), types, genes, totals, found, strict=True
    ):
        with kept_for(kept, name), _of_type(name, option):
            chosen.append(validate.choose_genes(sums.names, wanted, total, (), None, 1))
    warn_of_parts(kept, "cell type")
    names = [p.var_names[c] for p, c in zip(parts, chosen, strict=True)]
    shared = names[0].intersection(names[1])
    a, b = (
        OneType(
            name,
            part,
            at,
            pd.Index([f"{g} ({name})" if g in shared else str(g) for g in of_type], dtype=object),
            SummedCells(source.with_obs(sums.obs), sums.selection, sums.digest),
        )
        for name, part, at, of_type, sums in zip(types, parts, chosen, names, found, strict=True)
    )
    if pairs is None:
        return a, b, None
    asked = np.zeros((len(chosen[0]), len(chosen[1])), bool)
    at = (n.get_indexer(pd.Index(g)) for n, g in zip(names, zip(*usable, strict=True), strict=True))
    asked[tuple(at)] = True
    return a, b, asked


def _usable_pairs(
    pairs: PairList,
    names: Sequence[FeatureNames],
    totals: Sequence[NDArray[np.float64]],
    types: tuple[str, str],
) -> list[tuple[str, str]]:
    """Return the pairs whose genes have counts; warn of the others."""
    wanted = [(names[0].named(a), names[1].named(b)) for a, b in zip(pairs.a, pairs.b, strict=True)]
    sides = ([pair[k] for pair in wanted] for k in (0, 1))
    at = [n.genes.get_indexer(pd.Index(g)) for n, g in zip(names, sides, strict=True)]
    unknown = [k < 0 for k in at]
    empty = [~u & (t[k] == 0) for u, k, t in zip(unknown, at, totals, strict=True)]
    lost = np.any([*unknown, *empty], axis=0)
    if lost.all() and any(u.any() for u in unknown):
        side = 0 if unknown[0].any() else 1
        first = wanted[int(np.flatnonzero(unknown[side])[0])][side]
        raise names[side].unknown("gene", first)
    why = []
    for what, where in (("that are not in the data", unknown), ("without counts in", empty)):
        for side, (name, mask) in enumerate(zip(types, where, strict=True)):
            genes = list(dict.fromkeys(wanted[k][side] for k in np.flatnonzero(mask)))
            if genes:
                some = ", ".join(map(str, genes[:_LISTED])) + ", ..." * (len(genes) > _LISTED)
                of = f"{what} {name!r}" if where is empty else what
                why.append(f"{len(genes):,} genes {of} ({some})")
    reasons = "; ".join(dict.fromkeys(why))
    if lost.all():
        raise InputError(f"no pair of pairs= can be analysed: {reasons}")
    if lost.any():
        warn(f"{lost.sum():,} of {len(pairs):,} pairs are left out: {reasons}", DataWarning)
    return [(a, b) for (a, b), out in zip(wanted, lost, strict=True) if not out]


@contextmanager
def _of_type(name: str, option: str = "genes") -> Iterator[None]:
    """Let errors name the cell type, and the option with its genes."""
    try:
        yield
    except InputError as error:
        told = str(error).replace("genes=", f"{option}=")
        raise InputError(f"cell type {name!r}: {told}") from error


def _values(
    obs: pd.DataFrame, cell_type: str, types: tuple[str, str], selection: Selection
) -> list[Any]:
    """Return the values in ``obs`` of the two types, which occur in the selected cells."""
    if cell_type not in obs:
        raise unknown_column("cell_type column", cell_type, obs)
    if cell_type == selection.sample:
        raise InputError(f"cell_type={cell_type!r} is the column of the samples")
    one_name_each("cell_type column", cell_type, obs[cell_type])
    known = {str(v): v for v in pd.unique(obs[cell_type].dropna())}
    for name in types:
        if name not in known:
            raise unknown_name(f"cell type in {cell_type!r}", name, known)
    return [known[name] for name in types]


def _in_both(found: Sequence[SummedCounts], types: tuple[str, str], sample: str) -> pd.Index:
    """Return the samples with sums of both types; warn of the others."""
    a, b = (s.samples.obs_names for s in found)
    both = a[a.isin(b)]
    without = [
        f"without {name!r}: {', '.join(map(str, lost[:_LISTED]))}{', ...' * (len(lost) > _LISTED)}"
        for name, lost in zip(types, (b[~b.isin(a)], a[~a.isin(b)]), strict=True)
        if len(lost)
    ]
    lost = "; ".join(without)
    if len(both) < MIN_SAMPLES:
        raise InputError(
            f"{len(both)} samples of {sample!r} have enough cells of both {types[0]!r} and "
            f"{types[1]!r}: correlation between them needs at least {MIN_SAMPLES}"
            + (f" ({lost})" if lost else "")
        )
    if without:
        n = len(a.union(b))
        warn(
            f"{n - len(both)} of {n} samples are left out, as they have too few cells of one of "
            f"the types ({lost})",
            DataWarning,
        )
    return both


def joined(parts: tuple[OneType, OneType], cell_type: str, selection: Selection) -> ad.AnnData:
    """Join the sums of two types as features of two kinds, each with its own library.

    Parameters
    ----------
    parts : pair of OneType
    cell_type : str
        Column of ``obs`` with the cell types.
    selection : Selection
        Cells of both types.

    Returns
    -------
    AnnData
        As from :func:`hiercorr.aggregate`: all genes of both types, named by their type unless they
        were chosen in one type only; ``obs`` also has n_cells_a and n_cells_b.
    """
    first, second = (p.samples for p in parts)
    obs, varying = _shared_columns(first, second, cell_type)
    obs["n_cells_a"] = first.obs["n_cells"].to_numpy()
    obs["n_cells_b"] = second.obs["n_cells"].to_numpy()
    obs["n_cells"] = obs["n_cells_a"] + obs["n_cells_b"]
    obs["depth"] = first.obs["depth"].to_numpy()
    obs[depth_column(parts[1].name)] = second.obs["depth"].to_numpy()
    var = pd.concat([_features(p) for p in parts])
    if not var.index.is_unique:
        repeated = var.index[var.index.duplicated()][0]
        raise InputError(f"two genes have the name {str(repeated)!r} in the result: rename one")
    x = np.hstack([np.asarray(p.X) for p in (first, second)])
    out = ad.AnnData(x, obs=obs, var=var)
    out.uns[KEY] = _notes(parts, selection, varying)
    return out


def _features(part: OneType) -> pd.DataFrame:
    """Return the feature table of one type, with the names that its genes have in the result."""
    names = [f"{g} ({part.name})" for g in part.samples.var_names]
    for at, shown in zip(part.chosen, part.shown, strict=True):
        names[at] = shown
    var = part.samples.var[["detection"]].copy()
    if GENE_ID in part.samples.var:
        var[GENE_ID] = part.samples.var[GENE_ID].astype(str).to_numpy(object)
    var[FEATURE_TYPES] = part.name
    return var.set_axis(pd.Index(names, dtype=object))


def _shared_columns(
    first: ad.AnnData, second: ad.AnnData, cell_type: str
) -> tuple[pd.DataFrame, list[str]]:
    """Return the columns with one value per sample in both types, and the names of the others."""
    varying = dict.fromkeys(
        name for s in (first, second) for name in str(s.uns[KEY]["varying"]).split(", ") if name
    )
    out = {}
    for name in first.obs.columns.union(second.obs.columns, sort=False):
        if name in ("n_cells", "depth", cell_type):
            continue
        if name in first.obs and name in second.obs:
            a, b = (s.obs[name].astype(object).to_numpy() for s in (first, second))
            if bool(((a == b) | (pd.isna(a) & pd.isna(b))).all()):
                out[name] = first.obs[name]
                continue
        varying[str(name)] = None
    return pd.DataFrame(out, index=first.obs_names.copy()), [*varying, cell_type]


def _notes(
    parts: tuple[OneType, OneType], selection: Selection, varying: Sequence[str]
) -> dict[str, Any]:
    """Return how the sums of both types were made, as :func:`hiercorr.aggregate` notes it."""
    notes: list[Mapping[str, Any]] = [p.samples.uns[KEY] for p in parts]
    shared = {k: v for k, v in notes[0].items() if notes[1].get(k) == v}
    for name in ("excluded_samples", "excluded_shallow"):
        lost = [f"{n[name]} ({p.name})" for n, p in zip(notes, parts, strict=True) if n.get(name)]
        shared |= {name: ", ".join(lost)} if lost else {}
    for name in ("subset", "genes"):
        shared.pop(name, None)
    own = {k: v for k, v in selection.attributes.items() if k != "genes"}
    return {**shared, **own, "varying": ", ".join(dict.fromkeys(varying))}
