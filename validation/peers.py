"""Other packages, each called as its own documentation says; None where it is not installed.

pip install pingouin memento-de statsmodels pyPLNmodels scikit-learn
git clone https://github.com/ChangSuBiostats/CS-CORE_python PEER; PYTHONPATH=PEER
"""

from __future__ import annotations

import contextlib
import importlib.util
import io
import warnings
from collections.abc import Callable

import anndata as ad
import numpy as np
import pandas as pd

Pairs = tuple[np.ndarray, np.ndarray]
Found = tuple[np.ndarray | None, np.ndarray | None]  # p-values and estimates of the pairs


def _log_normalised(adata: ad.AnnData) -> np.ndarray:
    depth = adata.obs["depth"].to_numpy()
    return np.log1p(adata.X.toarray() / depth[:, None] * np.median(depth))


def rm_corr(adata: ad.AnnData, pairs: Pairs) -> Found:
    """pingouin.rm_corr: cells as repeated measures of a sample."""
    import pingouin

    table = pd.DataFrame(_log_normalised(adata)).assign(sample=adata.obs["sample"].to_numpy())
    table.columns = table.columns.astype(str)
    out = [
        pingouin.rm_corr(table, x=str(i), y=str(j), subject="sample")
        for i, j in zip(*pairs, strict=True)
    ]
    p = [float(t[next(c for c in t.columns if c.startswith("p"))].iloc[0]) for t in out]
    return np.array(p), np.array([float(t["r"].iloc[0]) for t in out])


def mixed_lm(adata: ad.AnnData, pairs: Pairs) -> Found:
    """statsmodels MixedLM of one gene on the other, random intercept per sample; slope's p."""
    import statsmodels.api as sm

    x, sample = _log_normalised(adata), adata.obs["sample"].to_numpy()
    p = []
    for i, j in zip(*pairs, strict=True):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            fit = sm.MixedLM(x[:, j], sm.add_constant(x[:, i]), groups=sample).fit()
        p.append(fit.pvalues[1])
    return np.array(p), None


def cscore_python(adata: ad.AnnData, pairs: Pairs) -> Found:
    """CS-CORE Python: estimate and test over all cells."""
    from CSCORE import CSCORE_IRLS

    run: Callable = getattr(CSCORE_IRLS, "CSCORE_IRLS", CSCORE_IRLS)
    if not hasattr(np, "Inf"):
        setattr(np, "Inf", np.inf)  # noqa: B010, written for numpy 1
    with contextlib.redirect_stdout(io.StringIO()):
        estimate, p, *_ = run(adata.X.astype(float), adata.obs["depth"].to_numpy())
    return np.asarray(p)[pairs], np.asarray(estimate)[pairs]


def _memento(
    adata: ad.AnnData, pairs: Pairs, labels: list[str], own_depth: bool = True
) -> ad.AnnData:
    import memento

    data = adata.copy()
    data.X = data.X.astype(float)
    data.obs["q"] = 0.07
    memento.setup_memento(data, q_column="q", filter_mean_thresh=0.01)
    if not own_depth:
        depth = data.obs["depth"].to_numpy()
        data.obs["memento_size_factor"] = depth / depth.mean()
    memento.create_groups(data, label_columns=labels)
    memento.compute_1d_moments(data, min_perc_group=0.5, filter_genes=False)
    named = [(adata.var_names[i], adata.var_names[j]) for i, j in zip(*pairs, strict=True)]
    if named:
        memento.compute_2d_moments(data, named)
    return data


def memento_estimate(adata: ad.AnnData, pairs: Pairs) -> Found:
    """memento: correlation in each sample, averaged with the cells as weights."""
    import memento

    with contextlib.redirect_stdout(io.StringIO()), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        table, cells = memento.get_2d_moments(_memento(adata, pairs, ["sample"]))
    groups = list(cells)
    values, weight = table[groups].to_numpy(float), np.array([cells[g] for g in groups], float)
    known = np.isfinite(values)
    with np.errstate(invalid="ignore"):
        return None, np.where(known, values, 0) @ weight / (known @ weight)


def memento_difference(adata: ad.AnnData, pairs: Pairs) -> Found:
    """memento: test a difference in correlation between two halves of the samples (replicates)."""
    import memento

    data = adata.copy()
    names = np.unique(data.obs["sample"])
    data.obs["half"] = data.obs["sample"].isin(names[: len(names) // 2]).astype(int)
    with (
        contextlib.redirect_stdout(io.StringIO()),
        contextlib.redirect_stderr(io.StringIO()),
        warnings.catch_warnings(),
    ):
        warnings.simplefilter("ignore")
        data = _memento(data, pairs, ["half", "sample"])
        about = memento.get_groups(data)
        memento.ht_2d_moments(
            data, treatment=about[["half"]].astype(float), num_boot=1000, verbose=0, num_cpus=1
        )
        found = memento.get_2d_ht_result(data)
    return found["corr_pval"].to_numpy(float), None


def memento_mean(adata: ad.AnnData, pairs: Pairs) -> Found:
    """memento: test the average correlation over samples against 0 (a treatment of ones).

    Cells are resampled within samples (200 bootstraps, normal approximation). The size factors are
    the depth of the cells; memento's own are sums over the genes of a panel, which move together.
    """
    import memento

    with (
        contextlib.redirect_stdout(io.StringIO()),
        contextlib.redirect_stderr(io.StringIO()),
        warnings.catch_warnings(),
    ):
        warnings.simplefilter("ignore")
        data = _memento(adata, pairs, ["sample"], own_depth=False)
        ones = pd.DataFrame({"mean": 1.0}, index=memento.get_groups(data).index)
        memento.ht_2d_moments(data, treatment=ones, num_boot=200, verbose=0, num_cpus=1)
        found = memento.get_2d_ht_result(data)
    return found["corr_pval"].to_numpy(float), found["corr_coef"].to_numpy(float)


def memento_variability(adata: ad.AnnData, condition: str) -> np.ndarray:
    """memento: p-values of the genes, difference of residual variance between two conditions.

    Samples are replicates; cells are resampled (300 bootstraps). Size factors are the depths.
    """
    import memento

    with (
        contextlib.redirect_stdout(io.StringIO()),
        contextlib.redirect_stderr(io.StringIO()),
        warnings.catch_warnings(),
    ):
        warnings.simplefilter("ignore")
        nothing = np.array([], int), np.array([], int)
        data = _memento(adata, nothing, [condition, "sample"], own_depth=False)
        about = memento.get_groups(data)
        treatment = about[[condition]].astype(float)
        memento.ht_1d_moments(data, treatment=treatment, num_boot=300, verbose=0, num_cpus=1)
        found = memento.get_1d_ht_result(data).set_index("gene")["dv_pval"]
    return found.reindex(adata.var_names).to_numpy(float)


def pln_networks(adata: ad.AnnData, penalties: tuple[float, ...]) -> tuple[np.ndarray, np.ndarray]:
    """pyPLNmodels: partial correlations (n, genes, genes) by penalty, and those of the least BIC.

    An intercept for each sample, log depth as offset.
    """
    import torch
    from pyPLNmodels import PlnNetworkCollection

    torch.set_num_threads(1)
    offset = np.log(adata.obs["depth"].to_numpy() / 1e4)[:, None]
    with (
        contextlib.redirect_stdout(io.StringIO()),
        contextlib.redirect_stderr(io.StringIO()),
        warnings.catch_warnings(),
    ):
        warnings.simplefilter("ignore")
        models = PlnNetworkCollection(
            adata.X.toarray(),
            exog=pd.get_dummies(adata.obs["sample"]).to_numpy(float),
            offsets=np.repeat(offset, adata.n_vars, axis=1),
            add_const=False,
            penalties=list(penalties),
        )
        models.fit()
        best = models.best_model("BIC").penalty

    def partial(penalty: float) -> np.ndarray:
        precision = np.asarray(models[penalty].precision, float)
        root = np.sqrt(np.diag(precision))
        return np.eye(len(root)) * 2 - precision / np.outer(root, root)

    path = {float(penalty): partial(penalty) for penalty in models.penalties}
    return np.array([path[k] for k in sorted(path)]), path[float(best)]


PEERS: dict[str, tuple[str, Callable[[ad.AnnData, Pairs], Found]]] = {
    "CS-CORE Python": ("CSCORE", cscore_python),
    "pingouin rm_corr": ("pingouin", rm_corr),
    "statsmodels MixedLM": ("statsmodels", mixed_lm),
    "memento, estimate": ("memento", memento_estimate),
    "memento, difference": ("memento", memento_difference),
}


def installed() -> dict[str, Callable[[ad.AnnData, Pairs], Found]]:
    return {
        name: call for name, (module, call) in PEERS.items() if importlib.util.find_spec(module)
    }
