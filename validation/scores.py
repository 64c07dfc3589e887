"""What studies count: rejections, coverage, bias, and how well a score ranks the true ones."""

from __future__ import annotations

from collections.abc import Hashable

import numpy as np
import pandas as pd
from scipy import stats


class Tally:
    """Sums over panels for pairs of one kind; the panel is the unit of Monte-Carlo error.

    Pairs that the method itself flags as insufficient are counted apart: `type_1` and `coverage`
    are those of the pairs that it stands by, `type_1_all` and `coverage_all` of all that have a
    p-value or an interval.
    """

    def __init__(self) -> None:
        self.rows: dict[Hashable, list[dict]] = {}

    def add(
        self,
        key: Hashable,
        truth: float | np.ndarray,
        *,
        p: np.ndarray | None = None,
        estimate: np.ndarray | None = None,
        interval: tuple[np.ndarray, np.ndarray] | None = None,
        insufficient: np.ndarray | None = None,
    ) -> None:
        """Add the pairs of one panel; NaN where a method has no answer. `truth`: value to cover."""
        some = p if p is not None else estimate
        assert some is not None
        stands = np.ones(len(some), bool) if insufficient is None else ~insufficient
        row = {"pairs": len(some), "stands": stands.sum()}
        if p is not None:
            known = np.isfinite(p)
            row |= {
                "tested": (known & stands).sum(),
                "rejected": (known & stands & (p < 0.05)).sum(),
            }
            row |= {"tested_all": known.sum(), "rejected_all": (known & (p < 0.05)).sum()}
        if estimate is not None:
            known = np.isfinite(estimate) & stands
            off = (estimate - truth)[known]
            row |= {"estimates": known.sum(), "bias": off.sum(), "squares": (off**2).sum()}
        if interval is not None:
            low, high = interval
            known = np.isfinite(low) & np.isfinite(high)
            inside = known & (low <= truth) & (truth <= high)
            row |= {"intervals": (known & stands).sum(), "covered": (inside & stands).sum()}
            row |= {"intervals_all": known.sum(), "covered_all": inside.sum()}
            row |= {"width": (high - low)[known & stands].sum()}
        self.rows.setdefault(key, []).append(row)

    def table(self, names: list[str]) -> pd.DataFrame:
        """One row a key, the parts of the key in the columns `names`."""
        out = []
        for key, rows in self.rows.items():
            t = pd.DataFrame(rows).fillna(0)
            n = t["pairs"].sum()
            row = dict(zip(names, key if isinstance(key, tuple) else (key,), strict=True))
            row |= {"panels": len(t), "pairs": n, "flagged": 1 - t["stands"].sum() / n}
            if "tested" in t:
                row |= _share("type_1", t, "rejected", "tested") | _share(
                    "type_1_all", t, "rejected_all", "tested_all"
                )
                row["undefined"] = 1 - t["tested_all"].sum() / n
            if "intervals" in t:
                row |= _share("coverage", t, "covered", "intervals")
                row |= _share("coverage_all", t, "covered_all", "intervals_all")
                row["undefined"] = 1 - t["intervals_all"].sum() / n
                row["width"] = _ratio(t["width"].sum(), t["intervals"].sum())
            if "estimates" in t:
                k = t["estimates"].sum()
                row |= {
                    "bias": _ratio(t["bias"].sum(), k),
                    "rmse": np.sqrt(_ratio(t["squares"].sum(), k)),
                }
            out.append(row)
        return pd.DataFrame(out)


def averages(
    found: dict[tuple[Hashable, ...], list[dict[str, float]]], names: list[str], row: dict
) -> pd.DataFrame:
    """Means over panels of the scores of each key, with the Monte-Carlo error of each score."""
    rows = []
    for key, scores in found.items():
        t = pd.DataFrame(scores)
        errors = {f"mc_error_{name}": t[name].sem() for name in t}
        of_key = dict(zip(names, key, strict=True))
        rows.append({**of_key, "panels": len(t), **t.mean().to_dict(), **errors, **row})
    return pd.DataFrame(rows)


def outside(table: pd.DataFrame, value: str, low: float, high: float) -> list[dict]:
    """Rows outside low..high by more than three Monte-Carlo standard errors."""
    out = []
    for r in table.dropna(subset=value).to_dict("records"):
        bound = low if r[value] < low else high
        error = max(r[f"mc_error_{value}"], np.sqrt(bound * (1 - bound) / r["pairs"]))
        if max(low - r[value], r[value] - high) > 3 * error:
            out.append(r)
    return out


def _ratio(a: float, b: float) -> float:
    return a / b if b > 0 else np.nan


def _share(name: str, panels: pd.DataFrame, part: str, whole: str) -> dict[str, float]:
    """A share over all pairs and the standard error of this ratio with panels as units."""
    a, b, n = panels[part].to_numpy(float), panels[whole].to_numpy(float), len(panels)
    share = _ratio(a.sum(), b.sum())
    error = (
        np.sqrt(((a - share * b) ** 2).sum() * n / max(n - 1, 1)) / b.sum()
        if b.sum() > 0
        else np.nan
    )
    return {name: share, f"mc_error_{name}": error}


def auroc(score: np.ndarray, positive: np.ndarray) -> float:
    """Share of pairs of a positive and a negative that the score puts in order; ties count half."""
    rank = stats.rankdata(score)
    n = positive.sum()
    return float((rank[positive].sum() - n * (n + 1) / 2) / (n * (~positive).sum()))


def average_precision(score: np.ndarray, positive: np.ndarray) -> float:
    """Precision at each positive, averaged."""
    hits = positive[np.argsort(-score, kind="stable")]
    return float((np.cumsum(hits) / np.arange(1, len(hits) + 1))[hits].mean())
