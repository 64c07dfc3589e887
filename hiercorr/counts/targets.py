"""Genes whose pairs are asked for: one or several targets, or a list of pairs."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from hiercorr.counts.counts import Counts
from hiercorr.counts.pair_files import read_pairs
from hiercorr.errors import DataWarning, InputError, listed, n_of
from hiercorr.runtime.user_warnings import warn

Target: TypeAlias = str | Sequence[str] | None
Pairs: TypeAlias = (
    "pd.DataFrame | Sequence[tuple[str, str]] | Mapping[str, Sequence[str]] | str | Path | None"
)
Targets: TypeAlias = tuple[str, ...]

_PAIRS = (
    "a table with the columns gene_a and gene_b, a list of pairs of names, a mapping from genes to "
    "lists of partners, or a file"
)


def given_targets(target: Target) -> Targets | None:
    """Check targets; return their names in the order given, or None.

    Raises
    ------
    InputError
        If a target is not a name, or named twice.
    """
    if target is None:
        return None
    expected = "the name of a gene, or a list of names"
    if isinstance(target, set | frozenset):
        target = sorted(target, key=str)
    names = [target] if isinstance(target, str) else listed("target", target, expected)
    if isinstance(target, Mapping) or not names or not all(isinstance(n, str) for n in names):
        raise InputError(f"target must be a string ({expected}), not {target!r}")
    twice = pd.Index(names)[pd.Index(names).duplicated()]
    if len(twice):
        raise InputError(f"target names {twice[0]!r} twice")
    return tuple(map(str, names))


@dataclass(frozen=True)
class PairList:
    """Distinct pairs of genes by name.

    Attributes
    ----------
    a, b : ndarray of object, shape (n_pairs,)
    """

    a: NDArray
    b: NDArray

    def __len__(self) -> int:
        """Return the number of pairs."""
        return len(self.a)

    @property
    def genes(self) -> Targets:
        """Names of all genes, in the order of their first pair."""
        return tuple(dict.fromkeys(np.column_stack([self.a, self.b]).ravel()))

    def named(self, name_of: Callable[[Any], Any]) -> PairList:
        """Return the pairs with other names of the genes, such as for their ids."""
        names = {gene: str(name_of(gene)) for gene in self.genes}
        a, b = (np.array([names[g] for g in side], object) for side in (self.a, self.b))
        return _distinct(a, b)

    def positions(self, genes: pd.Index) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Return the positions of the genes of both sides."""
        return genes.get_indexer(self.a), genes.get_indexer(self.b)


def given_pairs(pairs: Pairs, ordered: bool = False) -> PairList | None:
    """Check listed pairs; return them in the order given, each once.

    Parameters
    ----------
    pairs : DataFrame, sequence of (str, str), mapping or path
    ordered : bool
        Whether the first gene is one of another kind of cells than the second: (A, B) and (B, A)
        are then two pairs, a gene has a pair with itself, and the first two columns of a table
        without ``gene_a`` and ``gene_b`` are taken.

    Raises
    ------
    InputError
        If they are not pairs of two names.

    Warns
    -----
    DataWarning
        If pairs are listed twice.
    """
    if pairs is None:
        return None
    if isinstance(pairs, str | Path):
        pairs = read_pairs(pairs)
    if isinstance(pairs, pd.DataFrame):
        columns = [c for c in ("gene_a", "gene_b") if c in pairs]
        if ordered and len(columns) < 2:
            columns = list(pairs.columns[:2])
        if len(columns) < 2:
            raise InputError(
                f"pairs must be {_PAIRS}; this table has the columns "
                f"{', '.join(map(repr, pairs.columns))}"
            )
        found: Iterable[Any] = pairs[columns].itertuples(index=False, name=None)
    elif isinstance(pairs, Mapping):
        sides = {gene: listed("pairs", partners, _PAIRS) for gene, partners in pairs.items()}
        found = [(gene, partner) for gene, partners in sides.items() for partner in partners]
    else:
        found = listed("pairs", pairs, _PAIRS)
    rows = list(found)
    for row in rows:
        two = not isinstance(row, str) and hasattr(row, "__len__") and len(row) == 2
        if not two or not all(isinstance(name, str) for name in row):
            raise InputError(f"pairs must be {_PAIRS}, not {row!r}")
    if not rows:
        raise InputError("pairs is empty: list at least one pair")
    a, b = (np.array([str(row[k]) for row in rows], object) for k in (0, 1))
    return _distinct(a, b, ordered)


def _distinct(a: NDArray, b: NDArray, ordered: bool = False) -> PairList:
    """Leave out pairs that were listed before, with a warning; in either order unless ordered."""
    names = pd.Index(np.concatenate([a, b])).unique()
    i, j = names.get_indexer(a), names.get_indexer(b)
    same = np.flatnonzero(i == j)
    if len(same) and not ordered:
        raise InputError(f"pairs: {a[same[0]]!r} with itself is not a pair")
    low, high = (i, j) if ordered else (np.minimum(i, j), np.maximum(i, j))
    _, first = np.unique(low * np.int64(len(names)) + high, return_index=True)
    if len(first) < len(a):
        repeated = np.setdiff1d(np.arange(len(a)), first)
        warn(
            f"{n_of(len(repeated), 'pair')} {'is' if len(repeated) == 1 else 'are'} listed more "
            f"than once, e.g. {a[repeated[0]]!r} and {b[repeated[0]]!r}: each is estimated once",
            DataWarning,
        )
        first.sort()
        a, b = a[first], b[first]
    return PairList(a, b)


def header_hint(genes: Sequence[str], known: NDArray[np.bool_]) -> str:
    """Say that the first pair may be a header if no gene has its names, and others are known."""
    if known[:2].any() or not known[2:].any():
        return ""
    return (
        f"; the first pair, {genes[0]!r} and {genes[1]!r}, looks like the header of a file: name "
        "these columns gene_a and gene_b, or leave the line out"
    )


def without_counts(pairs: PairList, empty: Sequence[str]) -> PairList:
    """Leave out the pairs of genes that have no counts, with a warning.

    Raises
    ------
    InputError
        If no pair is left.
    """
    if not empty:
        return pairs
    none = np.isin(pairs.a, list(empty)) | np.isin(pairs.b, list(empty))
    stated = (
        f"{n_of(len(empty), 'gene')} of pairs= {'has' if len(empty) == 1 else 'have'} no count in "
        f"the chosen cells, e.g. {empty[0]!r}"
    )
    if none.all():
        raise InputError(f"{stated}, and no pair is left")
    warn(f"{stated}: {none.sum():,} pairs are left out", DataWarning)
    return PairList(pairs.a[~none], pairs.b[~none])


def not_both(target: Target, pairs: Pairs) -> None:
    """Raise an error if targets and pairs are given together."""
    if target is not None and pairs is not None:
        raise InputError("target= and pairs= both say which pairs are asked for: pass one of them")


@dataclass(frozen=True)
class Asked:
    """Pairs that are asked for, by the names of the data.

    Attributes
    ----------
    targets : tuple of str or None
        Targets, or the targets among whose pairs the listed ones are; None: all pairs.
    listed : PairList or None
    """

    targets: Targets | None
    listed: PairList | None

    @property
    def genes(self) -> Targets:
        """Genes that are needed, whatever else is selected."""
        return (self.targets or ()) if self.listed is None else self.listed.genes

    def named(self, name_of: Callable[[Any], Any]) -> Asked:
        """Return the same by other names of the genes, such as for their ids."""
        if self.listed is not None:
            listed = self.listed.named(name_of)
            return Asked(lefts(listed), listed)
        if self.targets is None:
            return self
        return Asked(given_targets([str(name_of(target)) for target in self.targets]), None)

    def without_counts(self, empty_of: Callable[[Sequence[str]], Sequence[str]]) -> Asked:
        """Return the same without listed pairs of genes that have no counts, with a warning."""
        if self.listed is None:
            return self
        listed = without_counts(self.listed, empty_of(self.listed.genes))
        return Asked(lefts(listed), listed)


def pairs_asked(target: Target, pairs: Pairs) -> Asked:
    """Check which pairs are asked for, for a model that estimates lists as parts of targets' pairs.

    Raises
    ------
    InputError
        If both are given, or one is not valid.
    """
    not_both(target, pairs)
    listed = given_pairs(pairs)
    return Asked(given_targets(target) if listed is None else lefts(listed), listed)


def lefts(pairs: PairList) -> Targets:
    """Choose the genes that are targets if pairs are estimated as parts of targets' pairs.

    Those with most of the pairs first, so that a few regulators remain a few targets.
    """
    number = pd.Series(np.concatenate([pairs.a, pairs.b])).value_counts(sort=False)
    first = np.where(
        number.loc[pairs.a].to_numpy() >= number.loc[pairs.b].to_numpy(), pairs.a, pairs.b
    )
    return tuple(dict.fromkeys(map(str, first)))


def targets_first(counts: Counts, targets: Sequence[str] | None) -> Counts:
    """Move several targets to the front, in their order; with one or none nothing changes.

    Raises
    ------
    InputError
        If targets are features of several types.
    """
    if targets is None or len(targets) < 2:
        return counts
    assert counts.remote is None
    at = counts.genes.get_indexer(pd.Index(targets))
    rest = np.setdiff1d(np.arange(counts.n_genes), at)
    if counts.modalities is None:
        return counts.take(np.concatenate([at, rest]).astype(np.int64))
    kinds = np.unique(counts.modalities.kind[at])
    if len(kinds) > 1:
        names = ", ".join(counts.modalities.names[k] for k in kinds)
        raise InputError(
            f"target: the genes are features of several types ({names}): estimate those of one "
            "type at a time, or list the pairs, pairs="
        )
    edge = int(counts.modalities.edges[kinds[0]])
    order = np.concatenate([rest[rest < edge], at, rest[rest >= edge]])
    return counts.take(order.astype(np.int64))


def public_target(targets: Targets | None) -> str | Targets | None:
    """Return one target as its name, several as they are."""
    return targets[0] if targets is not None and len(targets) == 1 else targets
