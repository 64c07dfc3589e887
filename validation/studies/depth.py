"""What passes as depth: types of features, a dominating gene, scaled values, genes that follow depth."""

from __future__ import annotations

import warnings

import anndata as ad
import numpy as np
import pandas as pd
from scipy import sparse

import hiercorr as hc
from validation.pages import span

CLAIM = (
    "With the depth of its own type in the moments of each feature, 3 to 7% of independent pairs of a gene and a protein are below 0.05, related "
    "ones are biased by at most 0.03 and their intervals cover at least 92%, whether the two depths are independent or correlated; one depth for all "
    "types, or a gene that holds half of the counts as part of the depth, makes more than 20% of independent pairs significant, the defaults at most "
    "7%. Values scaled and rounded are refused. Where genes follow depth, at least 10% of independent pairs are below 0.05, and with depth_adjust=True "
    "at most 7%, with related pairs biased by at most 0.03; in real counts permuted within strata of depth, also at most 7%."
)
MODELS = ["within"]
SEED = 20261129
REPLICATES = 16
QUICK_REPLICATES = 2
DONORS, CELLS = 6, 250
GENES, PROTEINS, RELATED = 400, 20, 10
FITTED = 30  # genes whose pairs are scored
RHO, WITHIN = 0.5, 0.6  # of related pairs; standard deviation of log expression
KINDS = ["Gene Expression", "Antibody Capture"]
CASES = {
    "two depths, independent": 0.0,
    "two depths, correlated": 0.7,
    "dominating gene": 0.0,
    "scaled and rounded": 0.0,
    "genes follow depth": 0.0,
    "real, permuted in depth strata": 0.0,
}
STRATUM = 25  # cells of similar depth, over which a gene's counts are permuted


def grid(quick: bool) -> pd.DataFrame:
    return pd.DataFrame({"case": list(CASES)})


def _noise(sd: float, shape: tuple, rng: np.random.Generator) -> np.ndarray:
    return np.exp(rng.normal(0, sd, shape) - sd**2 / 2)


def two_types(case: str, rng: np.random.Generator) -> ad.AnnData:
    """Genes and proteins, the first RELATED of which correlate at RHO on the scale of expression."""
    n, share = DONORS * CELLS, CASES[case]
    log = rng.normal(0, 0.4, (n, 2)) @ np.linalg.cholesky([[1, share], [share, 1]]).T
    z, own = rng.normal(size=(n, GENES)), rng.normal(size=(n, PROTEINS))
    latent = np.log1p(RHO * np.expm1(WITHIN**2)) / WITHIN**2  # of logs, for RHO of expression
    own[:, :RELATED] = latent * z[:, :RELATED] + np.sqrt(1 - latent**2) * own[:, :RELATED]
    donor = np.repeat(np.arange(DONORS), CELLS)
    level = _noise(0.3, (DONORS, GENES + PROTEINS), rng)[donor]
    mean = np.exp(rng.normal(0, 0.6, GENES)), np.exp(rng.normal(4, 0.5, PROTEINS))
    x = rng.poisson(np.exp(log[:, :1]) * mean[0] * level[:, :GENES] * _log_normal(z))
    y = rng.poisson(np.exp(log[:, 1:]) * mean[1] * level[:, GENES:] * _log_normal(own))
    names = [f"g{j}" for j in range(GENES)] + [f"p{j}" for j in range(PROTEINS)]
    adata = anndata(np.hstack([x, y]), names, 1000 * np.exp(log[:, 0]))
    adata.obs["adt"] = 100 * np.exp(log[:, 1])
    adata.var["feature_types"] = np.repeat(KINDS, [GENES, PROTEINS])
    return adata


def _log_normal(z: np.ndarray) -> np.ndarray:
    return np.exp(WITHIN * z - WITHIN**2 / 2)


def anndata(x: np.ndarray, names: list[str], depth: np.ndarray) -> ad.AnnData:
    obs = pd.DataFrame(
        {"donor": np.repeat([f"d{k}" for k in range(DONORS)], CELLS), "rna": depth},
        index=[f"c{i}" for i in range(len(x))],
    )
    return ad.AnnData(
        sparse.csr_matrix(x.astype(np.float32)), obs=obs, var=pd.DataFrame(index=names)
    )


def one_type(case: str, rng: np.random.Generator) -> ad.AnnData:
    """Genes in pairs (j, j + RELATED) that correlate at RHO, the others independent."""
    n = DONORS * CELLS
    depth = np.exp(rng.normal(0, 0.5, n))
    z = rng.normal(size=(n, GENES))
    latent = np.log1p(RHO * np.expm1(WITHIN**2)) / WITHIN**2
    pair = latent * z[:, :RELATED] + np.sqrt(1 - latent**2) * z[:, RELATED : 2 * RELATED]
    z[:, RELATED : 2 * RELATED] = pair
    slope = rng.normal(0, 0.5, GENES) if case == "genes follow depth" else np.zeros(GENES)
    mean = np.exp(rng.normal(0, 0.6, GENES))
    x = rng.poisson(depth[:, None] ** (1 + slope) * mean * _log_normal(z))
    names = [f"g{j}" for j in range(GENES)]
    if case == "dominating gene":
        blood = rng.poisson(depth * mean.sum() * _noise(0.7, n, rng))
        x, names = np.column_stack([x, blood]), [*names, "HBB"]
    if case == "scaled and rounded":
        x = np.round(x / x.sum(1, keepdims=True) * 1e4)
    return anndata(x, names, 1000 * depth)


def permuted(rng: np.random.Generator) -> ad.AnnData:
    """The glioblastoma data (vehicle) with each gene's expression permuted over cells of similar depth."""
    adata = hc.datasets.glioblastoma()
    adata = adata[adata.obs["condition"] == "ctrl"].copy()
    x = np.asarray(adata.X.todense() if sparse.issparse(adata.X) else adata.X).copy()
    depth = adata.obs["total_counts"].to_numpy()
    for cells in adata.obs.groupby("sample_id", observed=True).indices.values():
        order = cells[np.argsort(depth[cells], kind="stable")]
        for a in range(0, len(order), STRATUM):
            stratum = order[a : a + STRATUM]
            source = rng.permuted(np.tile(stratum[:, None], x.shape[1]), axis=0)
            moved = np.take_along_axis(x, source, 0).astype(int)
            # Counts of another cell at the depth of this one: thinned, or drawn around the mean.
            ratio = depth[stratum][:, None] / depth[source]
            thinned = rng.binomial(moved, np.minimum(ratio, 1.0))
            x[stratum] = np.where(ratio <= 1, thinned, rng.poisson(moved * ratio))
    adata.X = sparse.csr_matrix(x)
    return adata


def _scores(
    result: hc.CorrelationResult, rows: list[str], columns: list[str], related: int
) -> dict:
    """Rates of the pairs of two lists of genes; of those, (k, k) are related for k < `related`."""
    d = result.dataset
    at = d.indexes["gene"].get_indexer(rows), d.indexes["gene"].get_indexer(columns)
    i, j = (a.ravel() for a in np.meshgrid(*at, indexing="ij"))
    true = (np.subtract.outer(np.arange(len(rows)), np.arange(len(columns))) == 0).ravel()
    true &= np.repeat(np.arange(len(rows)), len(columns)) < related
    once = (i < j) | ((i > j) & ~np.isin(i, at[1]))
    p, r = (d[k].values[i, j].astype(float) for k in ("p_value", "correlation_unclipped"))
    low, high = (d[k].values[i, j] for k in ("ci_lower", "ci_upper"))
    null = once & ~true & np.isfinite(p)
    flagged = (d["flag"].values[i, j] & int(hc.Flag.DEPTH_DEPENDENT)) > 0
    hit = null & (p < 0.05)
    out = {
        "null_05": (p[null] < 0.05).mean(),
        "median_null": np.median(r[null]),
        "flagged": flagged[hit].mean() if hit.any() else np.nan,
        "coverage": np.nan,
        "power": np.nan,
        "bias": np.nan,
    }
    if related:
        known = true & np.isfinite(p)
        out |= {
            "coverage": ((low <= RHO) & (high >= RHO))[known].mean(),
            "power": (p[known] < 0.05).mean(),
            "bias": np.mean(r[known] - RHO),
        }
    return out


def _two_types(case: str, rng: np.random.Generator) -> dict[str, dict]:
    adata = two_types(case, rng)
    genes, proteins = [f"g{j}" for j in range(FITTED)], [f"p{j}" for j in range(PROTEINS)]
    chosen = {"genes": genes + proteins}
    own = {"Gene Expression": "rna", "Antibody Capture": "adt"}
    known = hc.CSCore(adata, "donor", modalities="all", depth=own, **chosen).fit()
    sums = hc.CSCore(adata, "donor", modalities="all", **chosen).fit()
    summed = adata.copy()
    del summed.var["feature_types"]
    wrong = hc.CSCore(summed, "donor", **chosen).fit()
    of_rna = hc.CSCore(summed, "donor", depth="rna", genes=proteins).fit()
    pooled = hc.CSCore(adata, "donor", modalities="all", depth=own, **chosen)
    pooled = pooled.fit(estimator="pooled")
    return {
        "gene-protein, own known depths": _scores(known, genes, proteins, RELATED),
        "gene-gene, own known depths": _scores(known, genes, genes, 0),
        "protein-protein, own known depths": _scores(known, proteins, proteins, 0),
        "gene-protein, sums of each type": _scores(sums, genes, proteins, RELATED),
        "gene-gene, sums of each type": _scores(sums, genes, genes, 0),
        "protein-protein, sums of each type": _scores(sums, proteins, proteins, 0),
        "gene-gene, sum over all features": _scores(wrong, genes, genes, 0),
        "protein-protein, depth of the genes": _scores(of_rna, proteins, proteins, 0),
        "gene-protein, pooled, own known depths": _scores(pooled, genes, proteins, 0),
    }


def _one_type(case: str, rng: np.random.Generator) -> dict[str, dict]:
    adata = one_type(case, rng)
    first = [f"g{j}" for j in range(RELATED)]
    second = [f"g{j}" for j in range(RELATED, FITTED)]
    chosen = {"genes": first + second}
    if case == "scaled and rounded":
        try:
            hc.CSCore(adata, "donor", **chosen)
        except hc.InputError:
            return {"default": {"refused": 1.0}}
        return {"default": {"refused": 0.0}}
    if case == "dominating gene":
        methods = {"default": {}, "with the gene (total)": {"depth": "total"}}
    else:
        adjusted = {"depth": "rna", "depth_adjust": True}
        methods = {"default": {"depth": "rna"}, "depth_adjust=True": adjusted}
    return {
        name: _scores(hc.CSCore(adata, "donor", **chosen, **o).fit(), first, second, RELATED)
        for name, o in methods.items()
    }


def _real(rng: np.random.Generator) -> dict[str, dict]:
    adata = permuted(rng)
    names = list(adata.var_names)
    out = {}
    for name, o in {"default": {}, "depth_adjust=True": {"depth_adjust": True}}.items():
        fit = hc.CSCore(adata, "sample_id", depth="total_counts", genes=100, **o).fit()
        genes = [g for g in names if g in fit.dataset.indexes["gene"]]
        out[name] = _scores(fit, genes, genes, 0)
        d = fit.dataset
        out[name]["follow"] = ((d["gene_flag"].values & int(hc.Flag.DEPTH_DEPENDENT)) > 0).mean()
        truth = hc.CSCore(
            hc.datasets.glioblastoma(),
            "sample_id",
            subset={"condition": "ctrl"},
            depth="total_counts",
            genes=genes,
            **o,
        ).fit()
        q = truth.dataset["q_value"].values[np.triu_indices(len(genes), 1)]
        out[name]["discoveries"] = float(np.nansum(q < 0.05))
    return out


def run_cell(row: dict, replicates: int, seed: np.random.SeedSequence) -> pd.DataFrame:
    case = row["case"]
    found: dict[str, list] = {}
    for child in seed.spawn(replicates):
        rng = np.random.default_rng(child)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            if case.startswith("two depths"):
                scores = _two_types(case, rng)
            elif case.startswith("real"):
                scores = _real(rng)
            else:
                scores = _one_type(case, rng)
        for method, each in scores.items():
            found.setdefault(method, []).append(each)
    rows = []
    for method, each in found.items():
        t = pd.DataFrame(each)
        mc = {f"mc_error_{k}": t[k].sem() for k in t}
        rows.append({"case": case, "method": method, "panels": len(t), **t.mean().to_dict(), **mc})
    return pd.DataFrame(rows)


def verdict(table: pd.DataFrame) -> list[str]:
    out = []

    def above(r: dict, name: str, limit: float) -> bool:
        return r[name] > limit + 3 * r[f"mc_error_{name}"]

    for r in table.to_dict("records"):
        where = f"{r['case']}, {r['method']}"
        known = r["method"].endswith("own known depths") and "pooled" not in r["method"]
        if known and (above(r, "null_05", 0.07) or r["null_05"] < 0.03 - 3 * r["mc_error_null_05"]):
            out.append(f"{r['null_05']:.3f} of independent pairs below 0.05, {where}")
        if r["method"] == "gene-protein, own known depths":
            if r["coverage"] < 0.92 - 3 * r["mc_error_coverage"]:
                out.append(f"coverage {r['coverage']:.3f}, {where}")
            if abs(r["bias"]) > 0.03 + 3 * r["mc_error_bias"]:
                out.append(f"bias {r['bias']:.3f}, {where}")
        wrong = ("sum over all features", "depth of the genes", "with the gene (total)")
        if r["method"].endswith(wrong) and r["null_05"] < 0.2:
            out.append(f"harmless: {r['null_05']:.3f} of independent pairs below 0.05, {where}")
        if (
            r["case"] == "dominating gene"
            and r["method"] == "default"
            and above(r, "null_05", 0.07)
        ):
            out.append(f"{r['null_05']:.3f} of independent pairs below 0.05, {where}")
        if r["case"] == "scaled and rounded" and r["refused"] < 1:
            out.append(f"accepted, {where}")
        if r["case"].startswith(("genes follow", "real")):
            simulated = r["case"].startswith("genes")
            if (
                simulated
                and r["method"] == "default"
                and r["null_05"] < 0.1 - 3 * r["mc_error_null_05"]
            ):
                out.append(f"depth does no harm: {r['null_05']:.3f}, {where}")
            if r["method"] != "default" and above(r, "null_05", 0.07):
                out.append(f"{r['null_05']:.3f} of independent pairs below 0.05, {where}")
            biased = abs(r["bias"]) > 0.03 + 3 * r["mc_error_bias"]
            if r["method"] != "default" and simulated and biased:
                out.append(f"bias {r['bias']:.3f}, {where}")
    return out


def remarks(table: pd.DataFrame) -> list[str]:
    out = []
    for (case, method), g in table.groupby(["case", "method"], sort=False):
        r = g.iloc[0]
        if np.isfinite(r.get("refused", np.nan)):
            out.append(f"{case}: refused in {r['refused']:.0%} of the panels.")
            continue
        text = f"{case}, {method}: {100 * r['null_05']:.1f}% of independent pairs below 0.05 (median correlation {r['median_null']:+.2f})"
        if np.isfinite(r["coverage"]):
            text += f"; related pairs: bias {r['bias']:+.3f}, coverage {r['coverage']:.1%}, power {r['power']:.0%}"
        if np.isfinite(r["flagged"]) and r["null_05"] > 0.1:
            text += f"; {r['flagged']:.0%} of the false ones are flagged depth_dependent"
        if np.isfinite(r.get("discoveries", np.nan)):
            text += f"; {r['follow']:.0%} of the genes follow depth; {r['discoveries']:.0f} pairs of the data as they are have q < 0.05"
        out.append(f"{text}.")
    sums = table[table["method"].str.endswith("sums of each type")]
    out.append(
        f"Sums of {PROTEINS} proteins as their depth: what one gains the others lose, so that independent proteins correlate negatively "
        f"({span(sums[sums['method'].str.startswith('protein')]['null_05'], 0)} below 0.05): give a depth from isotype controls or spike-ins if there is one. "
        "Pairs of a gene and a protein suffer less."
    )
    return out


def figures(table: pd.DataFrame) -> dict:
    import matplotlib.pyplot as plt

    t = table[table["null_05"].notna()]
    fig, ax = plt.subplots(figsize=(8, 6.5), layout="constrained")
    label = [f"{c}: {m}" for c, m in zip(t["case"], t["method"], strict=True)]
    at = np.arange(len(t))[::-1]
    ax.axvspan(0.03, 0.07, color="#e4e4e4", zorder=0)
    ax.errorbar(t["null_05"], at, xerr=2 * t["mc_error_null_05"], fmt="o", color="#0072B2")
    ax.set_yticks(at, label, fontsize=8)
    ax.set_xlabel("independent pairs with p < 0.05")
    ax.set_xlim(0, 1)
    ax.spines[["top", "right"]].set_visible(False)
    return {"": fig}
