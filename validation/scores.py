"""How well a score ranks the true ones."""

from __future__ import annotations

import numpy as np
from scipy import stats


def auroc(score: np.ndarray, positive: np.ndarray) -> float:
    """Share of pairs of a positive and a negative that the score puts in order; ties count half."""
    rank = stats.rankdata(score)
    n = positive.sum()
    return float((rank[positive].sum() - n * (n + 1) / 2) / (n * (~positive).sum()))


def average_precision(score: np.ndarray, positive: np.ndarray) -> float:
    """Precision at each positive, averaged."""
    hits = positive[np.argsort(-score, kind="stable")]
    return float((np.cumsum(hits) / np.arange(1, len(hits) + 1))[hits].mean())
