"""One sample with most of the cells: what the flag `dominated` warns of, and whether the intervals hold."""

from __future__ import annotations

import warnings

import numpy as np
import pandas as pd

import hiercorr as hc
from hiercorr.simulate import simulate_counts
from validation.pages import span

CLAIM = (
    "Where one sample holds most of the information the pairs are flagged dominated, and jackknife and cluster intervals, "
    "whose degrees of freedom follow the samples' shares, reject a true null at 5% in at most 6% of pairs and cover at least 93.5%."
)
MODELS = ["within"]
SEED = 20261124
REPLICATES = 70
GENES = 60


def grid(quick: bool) -> pd.DataFrame:
    """Samples, cells of the largest, cells of each other, heterogeneity."""
    designs = (
        [(5, 2000, 100), (20, 2000, 100)]
        if quick
        else [(5, 600, 100), (5, 2000, 100), (8, 1000, 100), (20, 2000, 100)]
    )
    rows = [
        {"samples": s, "largest": a, "others": b, "heterogeneity": t}
        for s, a, b in designs
        for t in ((0.2,) if quick else (0.0, 0.2))
    ]
    return pd.DataFrame(rows)


def run_cell(row: dict, replicates: int, seed: np.random.SeedSequence) -> pd.DataFrame:
    """Genes (0, 1), (2, 3), ... correlate at 0.4 within samples, all at 0.8 between them; mean count 1."""
    between = np.full((GENES, GENES), 0.8) + 0.2 * np.eye(GENES)
    first = np.arange(0, GENES, 2)
    pairs, null = (first, first + 1), (first, (first + 3) % GENES)
    cells = [row["largest"], *[row["others"]] * (row["samples"] - 1)]
    found: dict[str, list] = {u: [] for u in ("jackknife", "cluster")}
    for child in seed.spawn(replicates):
        adata, truth = simulate_counts(
            row["samples"],
            cells,
            GENES,
            mean=1.0,
            within=0.4,
            between=between,
            heterogeneity=row["heterogeneity"],
            seed=np.random.default_rng(child),
        )
        rho = truth["within"].values[pairs]
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            model = hc.CSCore(adata, sample="sample", depth="depth")
            for method, panels in found.items():
                ds = model.fit(uncertainty=method).dataset
                panels.append(
                    (
                        ds["p_value"].values[null] < 0.05,
                        (ds["ci_lower"].values[pairs] <= rho)
                        & (rho <= ds["ci_upper"].values[pairs]),
                        (ds["flag"].values[pairs] & int(hc.Flag.DOMINATED)) > 0,
                    )
                )
    rows = []
    for method, panels in found.items():
        rejected, covered, dominated = (np.array(x, float) for x in zip(*panels, strict=True))
        # Pairs of a panel share its samples, so the panel is the unit of the Monte-Carlo error.
        error = [x.mean(1).std(ddof=1) / np.sqrt(replicates) for x in (rejected, covered)]
        rows.append(
            {
                "method": method,
                "pairs": rejected.size,
                "type_1": rejected.mean(),
                "coverage": covered.mean(),
                "dominated": dominated.mean(),
                "mc_error_type_1": error[0],
                "mc_error_coverage": error[1],
                **row,
            }
        )
    return pd.DataFrame(rows)


def verdict(table: pd.DataFrame) -> list[str]:
    """Grid cells that refute the claim (allowing three Monte-Carlo errors)."""
    out = []
    for r in table.to_dict("records"):
        where = f"S={r['samples']} largest={r['largest']} tau={r['heterogeneity']}"
        if r["dominated"] < 0.5:
            out.append(f"only {r['dominated']:.0%} flagged at {where}")
        if r["type_1"] > 0.06 + 3 * r["mc_error_type_1"]:
            out.append(f"type-I error {r['type_1']:.3f} at {where}")
        if r["coverage"] < 0.935 - 3 * r["mc_error_coverage"]:
            out.append(f"coverage {r['coverage']:.3f} at {where}")
    return out


def remarks(table: pd.DataFrame) -> list[str]:
    return [
        f"{method}: rejects {span(g['type_1'])} of true nulls, covers {span(g['coverage'])}; flagged dominated {span(g['dominated'], 0)}."
        for method, g in table.groupby("method", sort=False)
    ]


def figures(table: pd.DataFrame) -> dict:
    """Type-I error and coverage of both methods, one column of points a design."""
    import matplotlib.pyplot as plt

    fig, axes = plt.subplots(1, 2, figsize=(9, 3.8), layout="constrained")
    designs = table.drop_duplicates(["samples", "largest", "heterogeneity"])
    labels = [f"{r.samples}, {r.largest}, {r.heterogeneity:g}" for r in designs.itertuples()]
    for ax, value, band, title in zip(
        axes,
        ("type_1", "coverage"),
        ((0.035, 0.06), (0.935, 0.975)),
        ("true nulls rejected at 5%", "coverage of 95% interval"),
        strict=True,
    ):
        ax.axhspan(*band, color="#dddddd", zorder=0)
        for method, colour, marker, shift in (
            ("jackknife", "#0072B2", "o", -0.08),
            ("cluster", "#D55E00", "s", 0.08),
        ):
            part = table[table["method"] == method]
            x = np.arange(len(part)) + shift
            ax.errorbar(
                x,
                part[value],
                2 * part[f"mc_error_{value}"],
                fmt=marker,
                color=colour,
                label=method,
                capsize=2,
            )
        ax.set_xticks(range(len(labels)), labels, rotation=60)
        ax.set_title(title)
        ax.spines[["top", "right"]].set_visible(False)
    axes[0].legend(frameon=False)
    fig.supxlabel("samples, cells of the largest (others 100), heterogeneity")
    return {"": fig}
