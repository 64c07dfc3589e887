"""Gene sets: over-representation among partners, pre-ranked enrichment, counts of whole sets."""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import anndata as ad
import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray
from scipy import sparse, stats

from hiercorr.counts import validate
from hiercorr.counts.counts import GENE_SETS, SUMMED_LAYER
from hiercorr.counts.depth import cell_depth, check_given, of_kind
from hiercorr.counts.modalities import are_genes, check_features
from hiercorr.counts.names import are_identifiers, name_of, warn_of_shared
from hiercorr.counts.selection import Selection
from hiercorr.counts.sources import DataSource
from hiercorr.datasets import hallmark, read_gmt
from hiercorr.errors import (
    MAX_REPEATS,
    DataWarning,
    InputError,
    listed,
    number,
    one_of,
    text,
    unknown_name,
    whole_number,
)
from hiercorr.results.layout import ends, has_all_pairs
from hiercorr.results.pairs import OVERALL, estimates, ids_of, in_tables, row_blocks, row_of
from hiercorr.results.result import CorrelationResult
from hiercorr.runtime.optional import optional
from hiercorr.runtime.user_warnings import warn
from hiercorr.schema import FEATURE_TYPE

Sets = Mapping[str, Iterable[str]] | str | Path
DIRECTIONS = ("both", "positive", "negative")
_Q = 0.05


def gene_sets(sets: Sets = "hallmark") -> dict[str, list[str]]:
    """Return gene sets by name.

    Parameters
    ----------
    sets : mapping, path or "hallmark"
        Genes by name of the set, a GMT file, or the Hallmark sets shipped with the package.

    Returns
    -------
    dict
        Name -> genes, without duplicates.

    Examples
    --------
    >>> from hiercorr.enrichment import gene_sets
    >>> len(gene_sets("hallmark"))
    50
    """
    if isinstance(sets, Mapping):
        for name, genes in sets.items():
            if isinstance(genes, str) or not isinstance(genes, Iterable):
                kind = "one string" if isinstance(genes, str) else repr(genes)
                raise InputError(f"the set {name!r} of sets= is {kind}; give a list of genes")
        found = {str(k): list(v) for k, v in sets.items()}
    elif not isinstance(sets, str | Path):
        raise InputError(
            f"sets must be a mapping, the path of a GMT file or 'hallmark', not {sets!r}"
        )
    elif str(sets) == "hallmark":
        found = hallmark()
    else:
        found = read_gmt(sets)
    if not any(found.values()):
        raise InputError("sets contains no gene set with genes")
    return {k: list(dict.fromkeys(map(str, v))) for k, v in found.items()}


def enrich(
    result: CorrelationResult,
    gene: str | None = None,
    sets: Sets = "hallmark",
    *,
    partners: Sequence[str] | None = None,
    q: float = _Q,
    min_correlation: float = 0.0,
    direction: str = "both",
    min_size: int = 5,
    max_size: int = 500,
) -> pd.DataFrame:
    """Test gene sets for over-representation among the partners of a gene or in a list of genes.

    The background is the genes that could be partners, not the genome, because a panel or the N
    most highly expressed genes are no random selection of it: the genes with a q-value, or for
    given `partners` the genes with an estimate, in both cases without the target or `gene`. Of a
    result with several types of features, only genes are tested: antibodies may have their names.
    One-sided hypergeometric test, by gseapy.

    Parameters
    ----------
    result : CorrelationResult
        Result with the tested genes.
    gene : str, optional
        Gene whose partners are tested; may be omitted if the result has a target, or if `partners`
        are not those of one gene.
    sets : mapping, path or "hallmark"
        Genes by name of the set, a GMT file, or the Hallmark sets shipped with the package.
    partners : sequence of str, optional
        Genes to test, e.g. a module. None: the partners of `gene` with ``q_value < q``.
    q, min_correlation : float
        Maximum q-value and minimum absolute correlation of partners.
    direction : {"both", "positive", "negative"}
        Sign of the correlation of partners, or of the difference where differences were tested.
    min_size, max_size : int
        Sets with fewer or more genes in the background are excluded.

    Returns
    -------
    DataFrame
        Indexed by set, smallest p-value first: overlap, size (in the background), expected,
        odds_ratio, p_value, q_value (Benjamini-Hochberg over the sets tested), genes.

    Raises
    ------
    InputError
        If no set overlaps the background, no gene is a partner, or an option has no effect.

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
    _check_result(result, gene)
    _check_sizes(min_size, max_size)
    thresholds = _Thresholds(q, min_correlation, direction)
    if partners is None:
        background, chosen = _significant(result, gene, thresholds)
    else:
        thresholds.refuse_with_partners()
        background = _background(result, gene)
        chosen = _listed(partners, result, background, _own(result, gene))
    gseapy = optional("gseapy", "enrichment tests")
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
        # Haldane-Anscombe correction: never 0/0
        odds = (a + 0.5) * (n - m - b + a + 0.5) / ((m - a + 0.5) * (b - a + 0.5))
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
    table.attrs = {
        "model": "enrich",
        "gene": None if partners is not None else row_of(result.dataset, gene)[0],
        "without": _own(result, gene),
        "sets": sets if isinstance(sets, str) else "given",
        "background": n,
        "partners": m,
        "q": q,
        "min_correlation": min_correlation,
        "direction": direction,
        "min_size": min_size,
        "max_size": max_size,
    }
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
    """Run pre-ranked gene set enrichment on the signed evidence of a gene's partners.

    Genes are ranked by the test statistic (Fisher's z if there is none), through gseapy.
    Permutations shuffle genes, so that correlated genes in a set make p-values too small: interpret
    the result as a ranking.

    Parameters
    ----------
    result, gene, sets, min_size, max_size
        As for :func:`enrich`.
    permutations : int
        Number of permutations of genes.
    seed : int
        Seed of the permutations.

    Returns
    -------
    DataFrame
        Indexed by set: es, nes, p_value, q_value (FDR of gseapy; both are at least
        1 / (`permutations` + 1)), size, leading_edge.

    References
    ----------
    Subramanian et al. 2005, PNAS 102:15545; Fang, Liu & Peltz 2023, Bioinformatics 39:btac757
    (gseapy).

    Examples
    --------
    >>> import hiercorr as hc
    >>> adata = hc.datasets.glioblastoma()
    >>> options = {"depth": "total_counts", "subset": {"condition": "ctrl"}}
    >>> from hiercorr.enrichment import gsea
    >>> r = hc.CSCore(adata, "sample_id", **options).fit(target="FTL")
    >>> gsea(r, min_size=3, seed=1).columns.tolist()[:3]
    ['es', 'nes', 'p_value']
    """
    _check_result(result, gene)
    _check_sizes(min_size, max_size)
    whole_number("permutations", permutations, maximum=MAX_REPEATS)
    whole_number("seed", seed, 0)
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
    rank = rank[_are_genes(result, rank.index)]
    largest = rank[np.isfinite(rank)].abs().max()
    rank = rank.clip(-largest, largest)  # the statistic of a rank correlation of 1 is infinite
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
            # gseapy does not add 1 to the counts: 0 is less than permutations can show
            "p_value": np.maximum(table["NOM p-val"].astype(float), 1 / (permutations + 1)),
            "q_value": np.maximum(table["FDR q-val"].astype(float), 1 / (permutations + 1)),
            "size": [len(usable[k]) for k in table.index],
            "leading_edge": table["Lead_genes"].str.replace(";", ", "),
        }
    )
    out.attrs = {
        "model": "gsea",
        "gene": name,
        "sets": sets if isinstance(sets, str) else "given",
        "min_size": min_size,
        "max_size": max_size,
        "ranked_by": variable,
        "permutations": permutations,
        "seed": seed,
    }
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
    gene_names: str | None = None,
    min_size: int = 5,
) -> ad.AnnData:
    """Sum counts over gene sets, e.g. to correlate a gene with EMT, proliferation or interferon.

    The sum of a set's counts is again Poisson around the sum of its genes' expression, so that all
    models accept the sets as if they were genes, at both levels. Highly expressed genes have the
    largest weight. The genes in `keep` are removed from the sets: no gene is correlated with
    itself.

    Parameters
    ----------
    data : AnnData or path
        Cells x genes raw counts, as for :class:`hiercorr.CSCore`.
    sets : mapping, path or "hallmark"
        Genes by name of the set, a GMT file, or the Hallmark sets shipped with the package.
    keep : sequence of str
        Genes that remain separate columns, e.g. the target.
    layer, depth, gene_names
        As for :class:`hiercorr.CSCore`.
    min_size : int
        Sets with fewer genes in the data are excluded.

    Returns
    -------
    AnnData
        Cells x (`keep`, then sets), with the ``obs`` of the input and the column
        ``hiercorr_depth``, to be passed as ``depth=``.

    Examples
    --------
    >>> import hiercorr as hc
    >>> from hiercorr.enrichment import sum_gene_sets
    >>> adata = hc.datasets.glioblastoma()
    >>> adata = sum_gene_sets(adata, keep=["FTL"], depth="total_counts", min_size=10)
    >>> r = hc.CSCore(adata, "patient_id", depth="hiercorr_depth").fit(target="FTL")
    >>> r.top(n=1).index[0].startswith("HALLMARK")
    True
    """
    Selection(None, layer=layer, depth=depth, gene_names=gene_names)  # checks their types
    whole_number("min_size", min_size)
    if isinstance(keep, str) or not isinstance(keep, Sequence | np.ndarray | pd.Index):
        raise InputError(f"keep must be a list of genes, not {keep!r}")
    named = gene_sets(sets)
    with DataSource(data, layer, gene_names).open() as opened:
        source = opened.of_types(None)
        check_features(source.shape[1], source.features_left_out)
        validate.check_gene_names(source.genes)
        warn_of_shared(gene_names, source.shared_names, source.genes)
        keep = [source.names.named(name) for name in keep]
        for name in keep:
            if name not in source.genes:
                raise source.names.unknown("gene in keep=", name)
        usable = _usable(named, source.genes.drop(list(keep)), min_size, len(source.genes))
        columns = [[k] for k in keep] + list(usable.values())
        rows = np.concatenate([source.genes.get_indexer(pd.Index(c)) for c in columns])
        member = sparse.csr_matrix(
            (
                np.ones(len(rows), np.int64),
                (rows, np.repeat(np.arange(len(columns)), [len(c) for c in columns])),
            ),
            shape=(len(source.genes), len(columns)),
        )
        check_given(source, depth)
        n, p = source.shape
        total, row_sum = np.zeros((n, len(columns)), np.int64), np.zeros(n)
        of_gene = np.zeros(p)
        codes = np.zeros(n, np.int64)
        for i, j, block in validate.checked_blocks(source, codes):
            part = member[j : j + block.shape[1]]
            total[i : i + block.shape[0]] += np.asarray((block.astype(np.int64) @ part).todense())
            row_sum[i : i + block.shape[0]] += np.asarray(block.sum(1)).ravel()
            of_gene[j : j + block.shape[1]] += np.asarray(block.sum(0, dtype=float)).ravel()
        obs = source.obs.copy()
        depths = cell_depth(source, of_kind(depth), row_sum, of_gene, {}, codes)
        obs["hiercorr_depth"] = depths[0]
    out = ad.AnnData(sparse.csr_matrix(total), obs=obs, var=pd.DataFrame(index=[*keep, *usable]))
    out.uns[GENE_SETS] = np.array(list(usable), object)
    out.uns[SUMMED_LAYER] = layer or "X"
    return out


@dataclass(frozen=True)
class _Thresholds:
    """Which genes are partners."""

    q: float
    min_correlation: float
    direction: str

    def __post_init__(self) -> None:
        number("q", self.q, 0, 1)
        number("min_correlation", self.min_correlation, 0, 1)
        one_of("direction", self.direction, DIRECTIONS)

    def refuse_with_partners(self) -> None:
        """Raise an error if a threshold was changed, because a given list has no thresholds."""
        for name, default in (("q", _Q), ("min_correlation", 0.0), ("direction", "both")):
            value = getattr(self, name)
            if value != default:
                raise InputError(f"{name}={value!r} has no effect with partners=: leave it out")


def _check_result(result: object, gene: object) -> None:
    if not isinstance(result, CorrelationResult):
        raise InputError(f"result must be a CorrelationResult, not {type(result).__name__}")
    text("gene", gene, optional=True)


def _check_sizes(min_size: int, max_size: int) -> None:
    whole_number("min_size", min_size)
    whole_number("max_size", max_size)
    if max_size < min_size:
        raise InputError(f"max_size={max_size} is less than min_size={min_size}")


def _own(result: CorrelationResult, gene: str | None) -> str | None:
    """Return the gene whose partners the genes of a list can be, or None."""
    every = gene is None and has_all_pairs(result.dataset)
    return None if every else row_of(result.dataset, gene)[0]


def _background(result: CorrelationResult, gene: str | None) -> pd.Index:
    """Return the genes with an estimate: of a pair with `gene` or the target, or of any pair."""
    if _own(result, gene) is not None:
        _, row = row_of(result.dataset, gene)
        background = pd.Index(row["gene"].values[in_tables(row)])
    elif has_all_pairs(result.dataset):
        known = [in_tables(block).any(1) for _, block in row_blocks(result.dataset)]
        background = result.genes[np.concatenate(known)]
    else:
        tested = np.nonzero(in_tables(result.dataset))
        background = result.genes[result.genes.isin(np.concatenate(ends(result.dataset, tested)))]
    return background[_are_genes(result, background)]


def _are_genes(result: CorrelationResult, names: pd.Index) -> NDArray[np.bool_]:
    """Return which features are genes; raise an error if none is."""
    if FEATURE_TYPE not in result.dataset:
        return np.ones(len(names), bool)
    kinds = pd.Series(result.dataset[FEATURE_TYPE].values, result.genes).astype(str)
    genes = np.array([are_genes(kind) for kind in kinds.loc[names]], bool)
    if not genes.any():
        raise InputError(
            f"none of the types of features, {', '.join(kinds.unique())}, is known to be of genes: "
            "fit the genes alone with modalities="
        )
    return genes


def _listed(
    partners: Sequence[str], result: CorrelationResult, background: pd.Index, own: str | None
) -> list[str]:
    """Return the given genes, without duplicates."""
    named = listed("partners", partners, "a list of genes")
    known, ids = result.genes, ids_of(result.dataset)
    chosen = list(dict.fromkeys(name_of(str(gene), known, ids) for gene in named))
    genes = set(known[_are_genes(result, known)])
    for name in chosen:
        if name not in known:
            raise unknown_name("gene among partners", name, known)
        if name == own:
            raise InputError(
                f"partners contains {name!r}, the gene whose partners they are: leave it out"
            )
        if name not in genes:
            raise InputError(
                f"partners contains {name!r}, which is not a gene: gene sets are of genes, leave "
                "it out"
            )
        if name not in background:
            pair = "pair" if own is None else f"pair with {own!r}"
            raise InputError(
                f"partners contains {name!r}, of which no {pair} could be estimated: leave it out"
            )
    if not chosen:
        raise InputError("partners is empty: name at least one gene")
    return chosen


def _significant(
    result: CorrelationResult, gene: str | None, thresholds: _Thresholds
) -> tuple[pd.Index, list[str]]:
    """Return the tested genes and the partners of a gene that pass the thresholds."""
    name, row = row_of(result.dataset, gene)
    if "q_value" not in row or not bool(row["q_value"].notnull().any()):
        raise InputError("this result has no q-values to select partners by; pass partners=")
    tested = np.isfinite(row["q_value"].values) & (row["gene"].values != name)
    row = row.isel(gene=tested & _are_genes(result, pd.Index(row["gene"].values)))
    background = pd.Index(row["gene"].values)
    if OVERALL in row and thresholds.direction != "both":
        raise InputError(
            f"direction={thresholds.direction!r} needs a sign, and this result is of an overall "
            "test: leave it out, or test one contrast"
        )
    r, q_value = estimates(row), row["q_value"].values
    sign = {"both": np.isfinite(q_value), "positive": r > 0, "negative": r < 0}[
        thresholds.direction
    ]
    strong = np.nan_to_num(np.abs(r)) >= thresholds.min_correlation
    selected = (q_value < thresholds.q) & sign & strong
    if not selected.any():
        raise InputError(
            f"no gene is a partner at q < {thresholds.q:g} ({thresholds.direction}); raise q= or "
            "pass partners="
        )
    return background, list(background[selected])


def _usable(
    sets: dict[str, list[str]], background: pd.Index, minimum: int, maximum: int
) -> dict[str, list[str]]:
    """Restrict the sets to the background, and exclude those outside the size limits."""
    known = set(background)
    inside = {k: [g for g in v if g in known] for k, v in sets.items()}
    usable = {k: v for k, v in inside.items() if minimum <= len(v) <= maximum}
    if not usable:
        largest = max(inside, key=lambda k: (len(inside[k]), len(sets[k])))
        remedy = (
            "name genes by the column of var with the symbols, gene_names="
            if are_identifiers(background)
            else "lower min_size= for a panel"
        )
        raise InputError(
            f"none of the {len(sets)} gene sets has {minimum} to {maximum} genes in the background "
            f"of {len(background)} (the largest, {largest!r}, has {len(inside[largest])}): are the "
            f"identifiers of one kind, e.g. {background[0]!r} and {sets[largest][0]!r}? "
            f"{remedy}"
        )
    excluded = len(sets) - len(usable)
    if excluded > len(sets) / 2:
        warn(
            f"{excluded} of {len(sets)} gene sets have fewer than {minimum} or more than {maximum} "
            "genes in the background and are excluded",
            DataWarning,
        )
    return usable
