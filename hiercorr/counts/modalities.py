"""Types of features (genes, antibodies, peaks), whose counts have different depths."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from hiercorr.errors import DataWarning, InputError
from hiercorr.runtime.user_warnings import warn

FEATURE_TYPES = "feature_types"  # column of var, as scanpy writes it
GENES = "Gene Expression"


def gene_columns(kinds: Any) -> tuple[NDArray[np.int64], dict[str, int]] | None:
    """Return which features are genes, and the number of the others by type.

    A cell's counts of antibodies or peaks say nothing of its depth in RNA, so that features of
    several types are never added up.

    Parameters
    ----------
    kinds : array of str, shape (n_vars,), or None
        Type of each feature. None: all of one type.

    Returns
    -------
    (ndarray of int64, dict) or None
        None if all features are of one type.
    """
    if kinds is None:
        return None
    kinds = pd.Series(np.asarray(kinds, dtype=object)).fillna("(no type)").astype(str)
    number = kinds.value_counts()
    if len(number) < 2:
        return None
    columns = np.flatnonzero(kinds == GENES).astype(np.int64)
    return columns, {str(k): int(n) for k, n in number.items() if k != GENES}


def check_features(n_genes: int, left_out: Mapping[str, int]) -> dict[str, str]:
    """Warn of features that are left out; raise an error if no feature is a gene.

    Parameters
    ----------
    n_genes : int
    left_out : mapping
        Number of the other features by type.

    Returns
    -------
    dict
        ``features_left_out``, for the attributes of a result; empty if there are none.
    """
    if not left_out:
        return {}
    listed = ", ".join(f"{n:,} {kind}" for kind, n in left_out.items())
    how = f"adata[:, adata.var[{FEATURE_TYPES!r}] == {next(iter(left_out))!r}]"
    if n_genes == 0:
        raise InputError(
            f"the features are of several types ({listed}), none of them {GENES!r}, and their "
            f"counts have no common depth: analyse one type at a time, e.g. {how}"
        )
    warn(
        f"features of other types than {GENES!r} are left out, and do not count as depth: "
        f"{listed}; analyse them on their own, with their own depth: {how}",
        DataWarning,
    )
    return {"features_left_out": listed}
