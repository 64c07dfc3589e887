"""Changes of correlation along ordered groups, curves and states within donors: size and power, beside OLS of Fisher's z."""

from __future__ import annotations

import warnings

import anndata as ad
import numpy as np
import pandas as pd
from scipy import sparse, stats

import hiercorr as hc
from validation.figures import dots
from validation.scores import averages
from validation.worlds import latent_of

CLAIM = (
    "For trends over four ordered doses, curves over age, states within donors tested together and a contrast of two of them, the default of differential rejects at most 7% of the pairs that "
    "are independent in every sample at 5%, and at most 10% of those whose correlation is 0.3 on average in all samples; HC2 at most 7% of both. The "
    "default finds more of the changed pairs than HC2, and than ordinary least squares of Fisher's z of the samples' correlations "
    "of lognormalised cells. Where depth rises with the dose, that regression "
    "rejects more than 15% of the constant pairs with 24 samples."
)
MODELS = ["differential"]
SEED = 20261208
REPLICATES = 12
QUICK_REPLICATES = 2
PAIRS, CELLS, SD, TAU = 30, 150, 0.8, 0.1
DEFAULT, HC2, OLS = "default", "HC2", "OLS of Fisher's z, lognormalised"
KINDS = np.repeat(["constant 0.3", "changed", "independent"], [10, 10, 10])
CASES = ("trend", "trend, deeper", "curve", "states, overall", "states, contrast")


def grid(quick: bool) -> pd.DataFrame:
    """Cases x samples (of states: three of each donor)."""
    rows = [("trend", 12)] if quick else [(c, n) for c in CASES for n in (12, 24)]
    return pd.DataFrame(rows, columns=["case", "samples"])


def design(case: str, n: int, rng: np.random.Generator) -> tuple[pd.DataFrame, np.ndarray]:
    """Samples with their condition, and how far each is along the change, from 0 to 1."""
    if case.startswith("trend"):
        dose = np.arange(n) % 4
        return pd.DataFrame({"dose": dose}), dose / 3
    if case == "curve":
        age = rng.permutation(np.linspace(20, 80, n))
        return pd.DataFrame({"age": age}), 1 - ((age - 50) / 30) ** 2
    state = np.arange(n) % 3
    table = pd.DataFrame({"donor": [f"p{k // 3}" for k in range(n)], "state": [*"abc"] * (n // 3)})
    return table, (state == 2).astype(float)


def simulate(row: dict, rng: np.random.Generator) -> ad.AnnData:
    """Pairs of genes (2k, 2k + 1) whose correlation is constant, changes by 0.5, or is 0."""
    samples, change = design(row["case"], row["samples"], rng)
    to_latent = latent_of("lognormal", SD)
    mean = 1.2 * np.exp(rng.normal(0, 0.5, 2 * PAIRS))
    counts, tables = [], []
    for c, about in enumerate(samples.to_dict("records")):
        n = max(40, round(CELLS * np.exp(rng.normal(0, 0.4))))
        rho = np.where(KINDS == "changed", 0.1 + 0.5 * change[c], 0.3)
        rho = np.where(KINDS == "independent", 0.0, rho + TAU * rng.normal(size=PAIRS))
        r = to_latent(np.clip(rho, -0.4, 0.9))
        g = rng.normal(size=(n, PAIRS, 2))
        g[:, :, 1] = r * g[:, :, 0] + np.sqrt(1 - r**2) * g[:, :, 1]
        s = np.exp(rng.normal(0, 0.4, n) + rng.normal(0, 0.2))
        s *= np.exp(1.2 * change[c] - 0.6) if row["case"] == "trend, deeper" else 1.0
        level = mean * np.exp(rng.normal(0, 0.3, 2 * PAIRS) - SD**2 / 2)
        rate = s[:, None] * level * np.exp(SD * g.reshape(n, -1))
        counts.append(sparse.csr_matrix(rng.poisson(rate)))
        tables.append(pd.DataFrame({"sample": f"s{c:02d}", "depth": 1e4 * s, **about}))
    obs = pd.concat(tables, ignore_index=True).rename(index=str)
    if "dose" in obs:
        obs["dose"] = pd.Categorical(obs["dose"].map("d{}".format), ordered=True)
    var = pd.DataFrame(index=[f"gene{j}" for j in range(2 * PAIRS)])
    return ad.AnnData(sparse.vstack(counts, format="csr").astype(np.float32), obs=obs, var=var)


def question(case: str) -> dict:
    """Arguments of differential."""
    if case.startswith("trend"):
        return {"condition": "dose"}
    if case == "curve":
        return {"condition": "cr(age, df=2)"}
    contrast = ("state", "c", "a") if case == "states, contrast" else None
    return {"condition": "state", "block": "donor", "contrast": contrast}


def ols(data: ad.AnnData, case: str, pairs: tuple[np.ndarray, np.ndarray]) -> np.ndarray:
    """F test of Fisher's z of each sample, with equal weights."""
    depth, sample = data.obs["depth"].to_numpy(), data.obs["sample"].to_numpy()
    y = np.log1p(data.X.toarray() / depth[:, None] * np.median(depth))
    names = np.unique(sample)
    with np.errstate(invalid="ignore", divide="ignore"):
        z = np.array([np.arctanh(np.corrcoef(y[sample == s].T)[pairs]) for s in names])
    about = data.obs.drop_duplicates("sample").set_index("sample").loc[names]
    one = np.ones((len(names), 1))
    if case.startswith("trend"):
        null, own = one, about["dose"].cat.codes.to_numpy(float)[:, None]
    elif case == "curve":
        age = (about["age"].to_numpy() - 50) / 30
        null, own = one, np.column_stack([age, age**2])
    else:
        null = pd.get_dummies(about["donor"]).to_numpy(float)
        own = np.column_stack([about["state"] == s for s in "cb"]).astype(float)
        if case == "states, contrast":  # what is tested comes last
            null, own = np.column_stack([null, own[:, 1]]), own[:, :1]
    whole = np.column_stack([null, own])

    def squares(x: np.ndarray) -> np.ndarray:
        return ((z - x @ np.linalg.lstsq(x, z, rcond=None)[0]) ** 2).sum(0)

    q, df = own.shape[1], len(z) - whole.shape[1]
    f = (squares(null) - squares(whole)) / q / (squares(whole) / df)
    return stats.f.sf(f, q, df)


def run_cell(row: dict, replicates: int, seed: np.random.SeedSequence) -> pd.DataFrame:
    found: dict[tuple, list[dict]] = {}
    own = 2 * np.arange(PAIRS), 2 * np.arange(PAIRS) + 1
    i, j = np.triu_indices(2 * PAIRS, 1)
    across = i // 2 != j // 2
    for child in seed.spawn(replicates):
        data = simulate(row, np.random.default_rng(child))
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            p = {}
            for method, way in ((DEFAULT, None), (HC2, "HC2")):
                asked = question(row["case"])
                fit = hc.differential(data, "sample", depth="depth", uncertainty=way, **asked)
                p[method] = fit.dataset["p_value"].values
            values = ols(data, row["case"], (i, j))
            p[OLS] = np.full((2 * PAIRS, 2 * PAIRS), np.nan)
            p[OLS][i, j] = values
        for method, matrix in p.items():
            parts = {k: matrix[own][k == KINDS] for k in ("constant 0.3", "changed")}
            parts["independent"] = np.concatenate(
                [matrix[i[across], j[across]], matrix[own][KINDS == "independent"]]
            )
            for kind, part in parts.items():
                score = {"rejected": np.mean(part < 0.05), "undefined": np.mean(np.isnan(part))}
                found.setdefault((method, kind), []).append(score)
    return averages(found, ["method", "kind"], row)


def verdict(table: pd.DataFrame) -> list[str]:
    """Grid cells that refute the claim (allowing three Monte-Carlo errors)."""
    out = []
    for r in table[(table["kind"] != "changed") & (table["method"] != OLS)].to_dict("records"):
        limit = 0.1 if r["method"] == DEFAULT and r["kind"] == "constant 0.3" else 0.07
        pairs = r["panels"] * 10
        error = max(np.nan_to_num(r["mc_error_rejected"]), np.sqrt(limit * (1 - limit) / pairs))
        if r["rejected"] > limit + 3 * error:
            out.append(
                f"{r['method']} rejects {r['rejected']:.3f}: {r['kind']}, {r['case']}, {r['samples']}"
            )
    power = table[table["kind"] == "changed"].set_index(["method", "case", "samples"])
    for case, samples in {key[1:] for key in power.index if key[1] != "trend, deeper"}:
        ours = power.loc[(DEFAULT, case, samples)]
        for method in (HC2, OLS):
            theirs = power.loc[(method, case, samples)]
            error = np.hypot(*np.nan_to_num([t["mc_error_rejected"] for t in (ours, theirs)]))
            if ours["rejected"] < theirs["rejected"] - 3 * error:
                out.append(
                    f"power {ours['rejected']:.2f}, and {theirs['rejected']:.2f} of {method}: {case}, {samples}"
                )
    deeper = table[(table["case"] == "trend, deeper") & (table["kind"] == "constant 0.3")]
    naive = deeper[(deeper["method"] == OLS) & (deeper["samples"] == deeper["samples"].max())]
    if (naive["rejected"] < 0.15).any():
        out.append("lognormalised cells do no harm where depth changes: nothing is shown")
    return sorted(out)


def remarks(table: pd.DataFrame) -> list[str]:
    out = []
    for case, part in table.groupby("case", sort=False):
        sizes = sorted(part["samples"].unique())
        lines = []
        for method in part["method"].unique():
            own = part[part["method"] == method].sort_values("samples")
            shares = {
                kind: "-".join(f"{100 * v:.0f}" for v in own[own["kind"] == kind]["rejected"])
                for kind in ("changed", "independent", "constant 0.3")
            }
            lines.append(
                f"{method} {shares['changed']}% of the changed pairs, {shares['independent']}% of the independent and "
                f"{shares['constant 0.3']}% of the constant ones"
            )
        out.append(
            f"{case}, {' and '.join(map(str, sizes))} samples, p < 0.05: {'; '.join(lines)}."
        )
    out.append(
        'The correlation of changed pairs goes from 0.1 to 0.6; those of all pairs differ between samples by a further 0.1. "Deeper": '
        "cells of the highest dose are 3.3 times as deep as those of the lowest. States are a, b and c in each of 4 or 8 donors; it changes in c."
    )
    return out


def figures(table: pd.DataFrame) -> dict:
    style = {DEFAULT: ("#0072B2", "o"), HC2: ("#56B4E9", "s"), OLS: ("#009E73", "^")}
    kind = table["kind"]
    columns = [
        ("rejected", kind == "independent", "independent pairs, p < 0.05"),
        ("rejected", kind == "constant 0.3", "constant pairs, p < 0.05"),
        ("rejected", kind == "changed", "changed pairs, p < 0.05"),
    ]
    rows = [f"{c}, {n} samples" for c, n in zip(table["case"], table["samples"], strict=True)]
    return {"": dots(table, rows, columns, style, {0: (0.0, 0.07), 1: (0.0, 0.1)})}
