"""Several samples of one donor: what counting them as independent does, and what each remedy does."""

from __future__ import annotations

import warnings

import numpy as np
import pandas as pd

import hiercorr as hc
from hiercorr.simulate import simulate_counts
from validation.pages import span

CLAIM = (
    "Where samples of one donor are alike, counting them as independent rejects true nulls up to five times too often; "
    "donor effects, a within-donor correlation, errors by donor and permutation within donors keep at most 8%."
)
MODELS = ["pseudobulk_adjusted"]
SEED = 20261203
REPLICATES = 80
GENES = 40
CELLS = 200


def grid(quick: bool) -> pd.DataFrame:
    """Donors, samples of each, and the share of the variance between samples that lies between donors."""
    designs = [(8, 3)] if quick else [(5, 2), (8, 3), (12, 2), (20, 4)]
    return pd.DataFrame(
        [
            {"donors": d, "each": e, "share": h}
            for d, e in designs
            for h in ([0.8] if quick else [0.4, 0.8])
        ]
    )


def run_cell(row: dict, replicates: int, seed: np.random.SeedSequence) -> pd.DataFrame:
    """Half of each donor's samples are treated; no pair is related at either level."""
    d, each = row["donors"], row["each"]
    first = np.arange(0, GENES, 2)
    found: dict[str, list] = {}
    for child in seed.spawn(replicates):
        rng = np.random.default_rng(child)
        donor = np.repeat([f"d{k}" for k in range(d)], each)
        arm = np.tile(np.where(np.arange(each) < each // 2, "treated", "vehicle"), d)
        adata, _ = simulate_counts(
            d * each,
            CELLS,
            GENES,
            mean=2.0,
            donor=donor,
            donor_share=row["share"],
            covariates={"arm": (arm, 0.5)},
            seed=rng,
        )
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            sums = hc.aggregate(adata, "sample", depth="depth")
            options = {"formula": "~ arm", "normalization": "cpm"}
            model = {
                m: hc.Pseudobulk(sums, "sample", block="donor", block_method=m, **options)
                for m in ("fixed", "correlation", "cluster")
            }
            fits = {
                "samples as independent": hc.Pseudobulk(sums, "sample", **options).fit(),
                "donor effects": model["fixed"].fit(),
                "within-donor correlation": model["correlation"].fit(),
            }
            if 2**d >= 40:
                fits["permutation within donors"] = model["fixed"].fit(permutations=299, seed=rng)
            for name, fit in fits.items():
                found.setdefault(name, []).append(
                    np.mean(fit.dataset["p_value"].values[first, first + 1] < 0.05)
                )
            p = [
                model["cluster"].fit(target=f"gene{j}").dataset["p_value"].values[0, j + 1]
                for j in first[:8]
            ]
            found.setdefault("errors by donor", []).append(np.mean(np.array(p) < 0.05))
    rows = [
        {
            "method": m,
            "panels": replicates,
            "type_1": np.mean(v),
            "mc_error": np.std(v, ddof=1) / np.sqrt(replicates),
            **row,
        }
        for m, v in found.items()
    ]
    return pd.DataFrame(rows)


def verdict(table: pd.DataFrame) -> list[str]:
    """Grid cells that refute the claim (allowing three Monte-Carlo errors)."""
    out = []
    for r in table.to_dict("records"):
        where = f"{r['donors']} x {r['each']}, share {r['share']}"
        if r["method"] != "samples as independent" and r["type_1"] > 0.08 + 3 * r["mc_error"]:
            out.append(f"{r['method']} rejects {r['type_1']:.3f} at {where}")
        if (
            r["method"] == "samples as independent"
            and r["share"] == 0.8
            and r["type_1"] < 0.1 - 3 * r["mc_error"]
        ):
            out.append(f"independence does no harm ({r['type_1']:.3f}) at {where}")
    return out


def remarks(table: pd.DataFrame) -> list[str]:
    return [
        f"{m}: rejects {span(g['type_1'])} of true nulls."
        for m, g in table.groupby("method", sort=False)
    ]


def figures(table: pd.DataFrame) -> dict:
    """Type-I error by method, a panel each share."""
    import matplotlib.pyplot as plt

    methods = list(dict.fromkeys(table["method"]))
    colours = ["#D55E00", "#0072B2", "#009E73", "#56B4E9", "#CC79A7"]
    shares = sorted(table["share"].unique())
    fig, axes = plt.subplots(
        1,
        len(shares),
        figsize=(4.4 * len(shares) + 2.4, 3.9),
        sharey=True,
        squeeze=False,
        layout="constrained",
    )
    designs = list(dict.fromkeys(zip(table["donors"], table["each"], strict=True)))
    for ax, share in zip(axes[0], shares, strict=True):
        ax.axhspan(0, 0.08, color="#e8e8e8", zorder=0)
        for k, (method, colour, marker) in enumerate(zip(methods, colours, "xos^D", strict=False)):
            part = table[(table["share"] == share) & (table["method"] == method)].set_index(
                ["donors", "each"]
            )
            part = part.reindex(designs)
            x = np.arange(len(designs)) + (k - 2) * 0.1
            ax.errorbar(
                x,
                part["type_1"],
                2 * part["mc_error"],
                fmt=marker,
                color=colour,
                label=method,
                capsize=2,
            )
        ax.set_xticks(range(len(designs)), [f"{d} x {e}" for d, e in designs])
        ax.set_title(f"{share:.0%} of the variance between donors")
        ax.spines[["top", "right"]].set_visible(False)
    axes[0][0].set_ylabel("true nulls rejected at 5%")
    fig.supxlabel("donors x samples of each")
    axes[0][-1].legend(bbox_to_anchor=(1.02, 1), loc="upper left", frameon=False)
    return {"": fig}
