"""Gene sets: over-representation among partners, pre-ranked enrichment, and whole sets against a target."""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import anndata as ad
import numpy as np
import pandas as pd
from numpy.typing import ArrayLike
from scipy import sparse, stats

from hiercorr.counts import validate
from hiercorr.counts.sources import open_source
from hiercorr.datasets import hallmark, read_gmt
from hiercorr.errors import DataWarning, InputError, one_of, unknown_name
from hiercorr.results.pairs import row_of
from hiercorr.results.result import CorrelationResult
from hiercorr.runtime.optional import optional
from hiercorr.runtime.user_warnings import warn

Sets = Mapping[str, Iterable[str]] | str | Path
DIRECTIONS = ("both", "positive", "negative")


def gene_sets(sets: Sets = "hallmark") -> dict[str, list[str]]:
    """Gene sets by name: ``"hallmark"``, a GMT file or a mapping.

    Returns
    -------
    dict
        Name -> genes, each gene once.
    """
    if isinstance(sets, Mapping):
        bad = [k for k, v in sets.items() if isinstance(v, str)]
        if bad:
            raise InputError(f"the set {bad[0]!r} is one string; give a list of genes")
        found = {str(k): list(v) for k, v in sets.items()}
    elif str(sets) == "hallmark":
        found = hallmark()
    else:
        found = read_gmt(sets)
    if not found:
        raise InputError("there is no gene set")
    return {k: list(dict.fromkeys(map(str, v))) for k, v in found.items()}


def enrich(
    result: CorrelationResult,
    gene: str | None = None,
    sets: Sets = "hallmark",
    *,
    partners: Sequence[str] | None = None,
    q: float = 0.05,
    min_correlation: float = 0.0,
    direction: str = "both",
    min_size: int = 5,
    max_size: int = 500,
) -> pd.DataFrame:
    """Over-representation of gene sets among the partners of a gene, or in any list of tested genes.

    The background is the genes that were tested (all genes of the result but the target): a panel or the N highest genes
    are no sample of the genome. One-sided hypergeometric test, through gseapy.

    Parameters
    ----------
    result : CorrelationResult
    gene : str, optional
        May be left out where the result has a target, or with `partners`.
    sets : mapping, path or "hallmark"
        Name -> genes, a GMT file, or the shipped Hallmark sets.
    partners : sequence of str, optional
        The genes to ask about, e.g. a module; None: partners with ``q_value < q``.
    q, min_correlation, direction
        Which genes are partners; direction ``"positive"`` or ``"negative"`` takes one sign.
    min_size, max_size : int
        Sets with fewer or more genes in the background are left out.

    Returns
    -------
    DataFrame
        Indexed by set, smallest p first: overlap, size (in the background), expected, odds_ratio, p_value, q_value
        (Benjamini-Hochberg over the sets tested), genes.

    Raises
    ------
    InputError
        If no set overlaps the background, or no gene is a partner.

    References
    ----------
    Fang, Liu & Peltz 2023, Bioinformatics 39:btac757 (gseapy).

    Examples
    --------
    >>> import hiercorr as hc
    >>> from hiercorr.enrichment import enrich
    >>> adata = hc.datasets.glioblastoma()
    >>> r = hc.CSCore(adata, "patient_id", depth="total_counts").fit(target="FTL")
    >>> enrich(r, direction="positive").columns[:3].tolist()
    ['overlap', 'size', 'expected']
    """
    gseapy = optional("gseapy", "enrichment tests")
    background, chosen = _question(result, gene, partners, q, min_correlation, direction)
    usable = _usable(gene_sets(sets), background, min_size, max_size)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        found = gseapy.enrich(
            chosen, usable, background=list(background), outdir=None, no_plot=True, cutoff=1.0
        ).results
    p = pd.Series(1.0, index=list(usable))
    if found is not None and len(found):
        p.update(found.set_index("Term")["P-value"].astype(float))
    inside = set(chosen)
    shared = {k: [g for g in v if g in inside] for k, v in usable.items()}
    n, m = len(background), len(chosen)
    rows = {}
    for name, genes in usable.items():
        a, b = len(shared[name]), len(genes)
        odds = (
            (a + 0.5) * (n - m - b + a + 0.5) / ((m - a + 0.5) * (b - a + 0.5))
        )  # Haldane-Anscombe: never 0/0
        rows[name] = {
            "overlap": a,
            "size": b,
            "expected": m * b / n,
            "odds_ratio": odds,
            "p_value": p[name],
        }
    table = pd.DataFrame.from_dict(rows, orient="index").rename_axis("set")
    table["q_value"] = stats.false_discovery_control(table["p_value"])
    table["genes"] = [", ".join(shared[k]) for k in table.index]
    table.attrs = {"background": n, "partners": m}
    return table.sort_values("p_value", kind="stable")


def gsea(
    result: CorrelationResult,
    gene: str | None = None,
    sets: Sets = "hallmark",
    *,
    min_size: int = 5,
    max_size: int = 500,
    permutations: int = 1000,
    seed: int = 0,
) -> pd.DataFrame:
    """Pre-ranked gene set enrichment on the signed evidence of a gene's partners, through gseapy.

    Genes are ranked by the test statistic (signed z where there is none). The permutations shuffle genes, so correlated
    genes of a set make p-values too small; read it as a ranking.

    Parameters
    ----------
    result, gene, sets, min_size, max_size
        As for :func:`enrich`.
    permutations : int
    seed : int

    Returns
    -------
    DataFrame
        Indexed by set: es, nes, p_value, q_value (FDR as gseapy gives it), size, leading_edge.

    References
    ----------
    Subramanian et al. 2005, PNAS 102:15545; Fang, Liu & Peltz 2023, Bioinformatics 39:btac757 (gseapy).
    """
    gseapy = optional("gseapy", "enrichment tests")
    name, row = row_of(result.dataset, gene)
    variable = (
        "statistic" if "statistic" in row and bool(row["statistic"].notnull().any()) else "fisher_z"
    )
    rank = (
        pd.Series(row[variable].values.astype(float), row["gene"].values)
        .drop(name, errors="ignore")
        .dropna()
    )
    if rank.nunique() < 2:
        raise InputError(
            f"the partners of {name!r} cannot be ranked: {len(rank)} have a {variable}"
        )
    usable = _usable(gene_sets(sets), rank.index, min_size, max_size)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        found = gseapy.prerank(
            rnk=rank.sort_values(ascending=False),
            gene_sets=usable,
            min_size=min_size,
            max_size=max_size,
            permutation_num=permutations,
            seed=seed,
            threads=1,
            outdir=None,
            no_plot=True,
            verbose=False,
        ).res2d
    table = found.set_index("Term").rename_axis("set")
    out = pd.DataFrame(
        {
            "es": table["ES"].astype(float),
            "nes": table["NES"].astype(float),
            # gseapy counts without + 1; a p of 0 is below what so many permutations can show
            "p_value": np.maximum(table["NOM p-val"].astype(float), 1 / (permutations + 1)),
            "q_value": table["FDR q-val"].astype(float),
            "size": [len(usable[k]) for k in table.index],
            "leading_edge": table["Lead_genes"].str.replace(";", ", "),
        }
    )
    out.attrs = {"ranked_by": variable, "permutations": permutations, "seed": seed}
    return out.sort_values(
        ["p_value", "nes"], kind="stable", key=lambda v: -v.abs() if v.name == "nes" else v
    )


def sum_gene_sets(
    data: ad.AnnData | str | Path,
    sets: Sets = "hallmark",
    keep: Sequence[str] = (),
    *,
    layer: str | None = None,
    depth: str | ArrayLike | None = None,
    min_size: int = 5,
) -> ad.AnnData:
    """Counts of whole gene sets: is a gene tied to EMT, proliferation, interferon?

    The sum of a set's counts is again Poisson around the sum of its genes' expression, so that every model here takes the
    sets as if they were genes, at both levels. Highly expressed genes weigh most. The genes in `keep` are taken out of the
    sets: nothing is correlated with itself.

    Parameters
    ----------
    data : AnnData or path
        Cells x genes raw counts, as for :class:`hiercorr.CSCore`.
    sets : mapping, path or "hallmark"
    keep : sequence of str
        Genes that stay columns of their own: the target.
    layer, depth
        As for :class:`hiercorr.CSCore`.
    min_size : int
        Sets with fewer genes in the data are left out.

    Returns
    -------
    AnnData
        Cells x (`keep`, then sets), ``obs`` as in the input with the column ``hiercorr_depth``: pass it as ``depth=``.

    Examples
    --------
    >>> import hiercorr as hc
    >>> from hiercorr.enrichment import sum_gene_sets
    >>> adata = sum_gene_sets(hc.datasets.glioblastoma(), keep=["FTL"], depth="total_counts", min_size=10)
    >>> r = hc.CSCore(adata, "patient_id", depth="hiercorr_depth").fit(target="FTL")
    >>> r.top(n=1).index[0].startswith("HALLMARK")
    True
    """
    with open_source(data, layer) as source:
        validate.check_gene_names(source.genes)
        for name in keep:
            if name not in source.genes:
                raise unknown_name("gene", name, source.genes)
        usable = _usable(
            gene_sets(sets), source.genes.drop(list(keep)), min_size, len(source.genes)
        )
        columns = [[k] for k in keep] + list(usable.values())
        rows = np.concatenate([source.genes.get_indexer(pd.Index(c)) for c in columns])
        member = sparse.csr_matrix(
            (
                np.ones(len(rows), np.int64),
                (rows, np.repeat(np.arange(len(columns)), [len(c) for c in columns])),
            ),
            shape=(len(source.genes), len(columns)),
        )
        n = source.shape[0]
        total, row_sum = np.zeros((n, len(columns)), np.int64), np.zeros(n)
        for i, j, block in validate.checked_blocks(source):
            part = member[j : j + block.shape[1]]
            total[i : i + block.shape[0]] += np.asarray((block.astype(np.int64) @ part).todense())
            row_sum[i : i + block.shape[0]] += np.asarray(block.sum(1)).ravel()
        obs = source.obs.copy()
        obs["hiercorr_depth"] = (
            row_sum if depth is None else validate.given_depth(source.obs, depth)
        )
    return ad.AnnData(sparse.csr_matrix(total), obs=obs, var=pd.DataFrame(index=[*keep, *usable]))


def _question(
    result: CorrelationResult,
    gene: str | None,
    partners: Sequence[str] | None,
    q: float,
    least: float,
    direction: str,
) -> tuple[pd.Index, list[str]]:
    """Background and the genes asked about."""
    one_of("direction", direction, DIRECTIONS)
    if partners is not None:
        background = result.genes
        chosen = list(dict.fromkeys(map(str, partners)))
        for name in chosen:
            if name not in background:
                raise unknown_name("gene among partners", name, background)
    else:
        name, row = row_of(result.dataset, gene)
        background = pd.Index(row["gene"].values).drop(name)
        if "q_value" not in row or not bool(row["q_value"].notnull().any()):
            raise InputError("this result has no q-values to choose partners by; pass partners=")
        r, level = (
            row["correlation"].sel(gene=background).values,
            row["q_value"].sel(gene=background).values,
        )
        sign = {"both": np.abs(r) >= 0, "positive": r > 0, "negative": r < 0}[direction]
        chosen = list(background[(level < q) & sign & (np.abs(r) >= least)])
    if not chosen:
        raise InputError(
            f"no gene is a partner at q < {q:g} ({direction}); raise q= or pass partners="
        )
    return background, chosen


def _usable(
    sets: dict[str, list[str]], background: pd.Index, least: int, most: int
) -> dict[str, list[str]]:
    """Sets restricted to the background, within the limits of size."""
    known = set(background)
    inside = {k: [g for g in v if g in known] for k, v in sets.items()}
    usable = {k: v for k, v in inside.items() if least <= len(v) <= most}
    if not usable:
        largest = max(inside, key=lambda k: len(inside[k]))
        raise InputError(
            f"none of the {len(sets)} gene sets has {least} to {most} genes in the background of {len(background)} (the best, "
            f"{largest!r}, has {len(inside[largest])}): are the identifiers of one kind, e.g. {background[0]!r} and "
            f"{sets[largest][0]!r}? lower min_size= for a panel"
        )
    left = len(sets) - len(usable)
    if left > len(sets) / 2:
        warn(
            f"{left} of {len(sets)} gene sets have fewer than {least} or more than {most} genes in the background: left out",
            DataWarning,
        )
    return usable
