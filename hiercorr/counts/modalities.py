"""Types of features (genes, antibodies, peaks), whose counts have different depths."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from hiercorr.errors import DataWarning, InputError, unknown_name
from hiercorr.runtime.user_warnings import warn

FEATURE_TYPES = "feature_types"  # column of var, as scanpy writes it
GENES = "Gene Expression"
ALL = "all"
_GENE_NAMES = ("rna", "gex", "genes", "gene expression")  # of a modality without feature types


def are_genes(kind: str) -> bool:
    """Return whether a type of features, or the modality of this name, is of genes."""
    return kind.lower() in _GENE_NAMES


@dataclass(frozen=True)
class Modalities:
    """Features of several types, and the depth of the cells in each of them.

    Attributes
    ----------
    names : tuple of str
        The types.
    kind : ndarray of int64, shape (n_features,)
        Type of each feature, as a position in `names`; in ascending order.
    depth : ndarray, shape (n_types, n_cells)
        Depth of each cell by type, in counts.
    """

    names: tuple[str, ...]
    kind: NDArray[np.int64]
    depth: NDArray[np.float64]

    @property
    def edges(self) -> NDArray[np.int64]:
        """First feature of each type, and the number of features, shape (n_types + 1,)."""
        return np.searchsorted(self.kind, np.arange(len(self.names) + 1)).astype(np.int64)

    @property
    def feature_type(self) -> NDArray:
        """Name of the type of each feature."""
        return np.array(self.names, object)[self.kind]

    def take(self, features: Any) -> Modalities:
        """Return the same for these features; those of a type must stay together."""
        return replace(self, kind=self.kind[features])


def types_of(kinds: Any, names: pd.Index) -> pd.Series | None:
    """Return the type of each feature by name; None if they have none.

    Parameters
    ----------
    kinds : array of str, shape (n_vars,), or None
    names : Index
    """
    if kinds is None:
        return None
    kinds = pd.Series(np.asarray(kinds, dtype=object)).fillna("(no type)").astype(str)
    return pd.Series(kinds.to_numpy(), names)


def one_type(asked: str | None) -> str | None:
    """Return the type of features to analyse where only one can be, or raise an error."""
    if asked is None or (isinstance(asked, str) and asked != ALL):
        return asked
    raise InputError(
        f"modalities={asked!r}: features of one type can be analysed here, e.g. "
        "modalities='Antibody Capture'; CSCore(modalities=) estimates pairs of several"
    )


def chosen_types(
    asked: str | Sequence[str] | None, kinds: pd.Series | None, genes: str | None = GENES
) -> list[str] | None:
    """Return the types of features to analyse, in this order.

    A cell's counts of antibodies or peaks say nothing of its depth in RNA, so that features of
    several types are never added up, and genes are analysed alone unless more is asked for.

    Parameters
    ----------
    asked : str, sequence of str or None
        Types, ``"all"``, or None for genes.
    kinds : Series or None
        Type of each feature.
    genes : str or None
        Type that is of genes.

    Returns
    -------
    list of str or None
        None: all features, which are of one type.

    Raises
    ------
    InputError
        If a type is unknown.
    """
    known = [] if kinds is None else list(dict.fromkeys(kinds))
    if asked is None:
        if len(known) >= 2 and genes is None:
            raise InputError(
                f"none of the modalities {', '.join(known)} is of genes, and their counts have no "
                "common depth: name those to analyse with modalities="
            )
        return None if len(known) < 2 else [genes or GENES]
    if asked == ALL and ALL not in known:
        return None if len(known) < 2 else sorted(known, key=lambda kind: kind != genes)
    if kinds is None:
        raise InputError(
            f"modalities={asked!r}: the features have no types; name them in the column "
            f"var[{FEATURE_TYPES!r}]"
        )
    wanted = [asked] if isinstance(asked, str) else list(asked)
    for kind in wanted:
        if kind not in known:
            raise unknown_name("type of features (modalities=)", kind, known)
    return None if len(known) < 2 else wanted


def check_features(
    n_genes: int, left_out: Mapping[str, int], asked: bool = False
) -> dict[str, str]:
    """Warn of features that are left out; raise an error if no feature is a gene.

    Parameters
    ----------
    n_genes : int
    left_out : mapping
        Number of the other features by type.
    asked : bool
        Whether the types to analyse were named, so that nobody need be warned.

    Returns
    -------
    dict
        ``features_left_out``, for the attributes of a result; empty if there are none.
    """
    if not left_out:
        return {}
    listed = ", ".join(f"{n:,} {kind}" for kind, n in left_out.items())
    how = f"modalities={next(iter(left_out))!r}"
    if n_genes == 0:
        raise InputError(
            f"the features are of several types ({listed}), none of them {GENES!r}, and their "
            f"counts have no common depth: analyse one type at a time, e.g. CSCore({how})"
        )
    if not asked:
        warn(
            f"features of other types than {GENES!r} are left out, and do not count as depth: "
            f"{listed}; CSCore(modalities={ALL!r}) estimates them with the genes, each type with "
            f"its own depth, and {how} alone",
            DataWarning,
        )
    return {"features_left_out": listed}
