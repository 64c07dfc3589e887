"""Tables of a result: partners of a gene, matrices, genes, samples, coefficients, flags."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
import pandas as pd
import xarray as xr
from numpy.typing import NDArray

from hiercorr.errors import InputError, text, unknown_name
from hiercorr.inference.credible import coefficient_summary
from hiercorr.results import layout, pairs, posterior
from hiercorr.results.computed import is_computed
from hiercorr.results.feature_types import with_types
from hiercorr.results.missing import Missing, count_missing
from hiercorr.schema import (
    COEFFICIENT_VARIABLES,
    GENE_ID,
    GENE_VARIABLES,
    LAYERED,
    OF_TARGET,
    PAIR_VARIABLES,
    SAMPLE_VARIABLES,
    Flag,
    describe_flag,
)

_OF_EXPRESSION = ("natural_correlation", "natural_lower", "natural_upper")  # of one sample
_OF_CONTRAST = (
    "difference",
    "difference_lower",
    "difference_upper",
    "difference_se",
    "p_value",
    "adjusted_p_value",
)


def top(dataset: xr.Dataset, gene: str | None, n: int, sort_by: str = "p_value") -> pd.DataFrame:
    """Tabulate the partners of a gene, strongest evidence or largest shrunken estimate first."""
    by = None if sort_by == "p_value" else pairs.shrunken_name(dataset)
    name, row = pairs.row_of(dataset, gene)
    columns = [c for c in pairs.table_columns(dataset) if c in row]
    values = {c: v.astype(float) for c, v in pairs.pair_columns(row, columns)}
    values["flag"] = row["flag"].values
    table = pd.DataFrame(values, pd.Index(row["gene"].values, name="gene"))
    asked = (table["flag"] & int(Flag.SELF)) == 0
    table = pairs.sort_rows(table[asked].drop(index=name, errors="ignore"), by).head(n)
    table = table.assign(flag=[describe_flag(f) for f in table["flag"]])
    return with_types(table, dataset)


def distinct_pairs(
    dataset: xr.Dataset,
    q: float | None,
    min_correlation: float,
    n: int | None,
    sort_by: str = "p_value",
) -> pd.DataFrame:
    """Tabulate the distinct pairs as :func:`hiercorr.results.pairs.distinct_pairs`, with types."""
    return with_types(pairs.distinct_pairs(dataset, q, min_correlation, n, sort_by), dataset)


def selected(
    dataset: xr.Dataset,
    gene: str | None = None,
    q: float | None = None,
    n: int | None = None,
    sort_by: str = "p_value",
    min_correlation: float = 0.0,
) -> pd.DataFrame:
    """Tabulate the partners of a gene or of the target, or all pairs, that pass the thresholds.

    Indexed by gene, or by ``gene_a`` and ``gene_b``; arguments as for
    :func:`hiercorr.results.pairs.distinct_pairs`.
    """
    name = gene if gene is not None else layout.target_of(dataset)
    if name is None:
        table = distinct_pairs(dataset, q, min_correlation, n, sort_by)
        return table.set_index(["gene_a", "gene_b"])
    pairs.check_threshold(dataset, q)
    table = top(dataset, name, dataset.sizes["gene"], sort_by)
    table = table if q is None else table[table["q_value"] <= q]
    large = np.nan_to_num(pairs.effects(table).abs()) >= min_correlation
    return table[large] if n is None else table[large].head(n)


def with_ids(table: pd.DataFrame, ids: Mapping[str, str]) -> pd.DataFrame:
    """Add the ids of the genes to a table of pairs, behind their names.

    Parameters
    ----------
    table : DataFrame
        With genes in the index, or in the levels or columns ``gene_a`` and ``gene_b``.
    ids : mapping
        Ids by name.

    Returns
    -------
    DataFrame
        With the column ``gene_id``, or ``gene_id_a`` and ``gene_id_b``.
    """
    out = table.copy()
    if "gene_a" in table:
        for end in "ab":
            at = list(out.columns).index(f"gene_{end}") + 1
            out.insert(at, f"{GENE_ID}_{end}", table[f"gene_{end}"].map(ids))
        return out
    names = table.index
    if names.nlevels == 1:
        out.insert(0, GENE_ID, names.map(ids))
        return out
    for at, end in enumerate("ab"):
        out.insert(at, f"{GENE_ID}_{end}", names.get_level_values(at).map(ids))
    return out


def id_by_name(dataset: xr.Dataset) -> dict[str, str]:
    """Return the id of each gene by its name; raise an error if the result has none."""
    ids = pairs.ids_of(dataset)
    if ids is None:
        raise InputError(
            "this result has no ids of genes beside their names, which are those of the data: "
            "gene_ids=True needs a fit with gene_names="
        )
    out = dict(zip(pairs.genes_of(dataset), ids, strict=True))
    if OF_TARGET + GENE_ID in dataset:
        of_targets = dataset[OF_TARGET + GENE_ID].values
        out |= dict(zip(dataset["target"].values, of_targets, strict=True))
    return out


def matrix(dataset: xr.Dataset, variable: str) -> pd.DataFrame:
    """Return one pair variable as a table of genes x partners, or targets x genes."""
    if layout.is_list(dataset):
        raise InputError(
            "this result has listed pairs, which are not a matrix: use pairs(), or to_frame()"
        )
    known = [n for n in PAIR_VARIABLES if n in dataset and not n.startswith(LAYERED)]
    text("variable", variable)
    if variable not in known:
        raise unknown_name("pair variable", variable, known)
    values = dataset[variable]
    shown = pairs.p_values(dataset) if variable == "p_value" else values.values
    return pd.DataFrame(shown.copy(), *(pd.Index(values[d].values, name=d) for d in values.dims))


def covariance(dataset: xr.Dataset) -> pd.DataFrame:
    """Compute :meth:`hiercorr.CorrelationResult.covariance`."""
    if "overdispersion" not in dataset:
        raise InputError(
            "covariances need the overdispersion of the genes, which this result of "
            f"{dataset.attrs.get('model', 'an unknown model')} does not have: fit CSCore"
        )
    known = "correlation_unclipped" in dataset
    table = matrix(dataset, "correlation_unclipped" if known else "correlation").astype(float)
    of_gene = pd.Series(dataset["overdispersion"].values, dataset["gene"].values)
    sd = np.sqrt(of_gene.where(of_gene > 0))
    return table.mul(sd.reindex(table.index), axis=0).mul(sd.reindex(table.columns), axis=1)


def gene_table(dataset: xr.Dataset) -> pd.DataFrame:
    """Tabulate the gene variables; targets that are no genes of the result come first."""
    table = _one_dimensional(dataset, GENE_VARIABLES, "gene")
    if not any(f"{OF_TARGET}{name}" in dataset for name in GENE_VARIABLES):
        return table
    own = {f"{OF_TARGET}{name}": name for name in GENE_VARIABLES if f"{OF_TARGET}{name}" in dataset}
    of_targets = dataset[[*own]].drop_dims("gene", errors="ignore")
    renamed = of_targets.rename(own).rename(target="gene")
    first = _one_dimensional(renamed, GENE_VARIABLES, "gene")
    return pd.concat([first, table])


def _no_samples(dataset: xr.Dataset) -> str:
    """Say how estimates of a pair in each sample are obtained."""
    if dataset.attrs.get("model") != "BayesianCorrelation":
        return "per-sample estimates were not kept; fit with per_sample=True"
    if "posterior_within_sample" in dataset:
        return (
            "a joint fit has draws of the correlation matrix in every sample: "
            "result.dataset['posterior_within_sample']"
        )
    return (
        "this fit has no estimates of a pair in each sample: BayesianCorrelation("
        "sd_per_sample=True).fit() has, and fit(method='joint')"
    )


def sample_table(dataset: xr.Dataset, gene_a: str | None, gene_b: str | None) -> pd.DataFrame:
    """Tabulate the sample variables and, for a pair, the per-sample estimates."""
    table = _one_dimensional(dataset, SAMPLE_VARIABLES, "sample")
    if gene_a is None and gene_b is None:
        return table
    if "sample_correlation" not in dataset:
        raise InputError(_no_samples(dataset))
    first, second = (gene_a, gene_b) if gene_b is not None else (None, gene_a)
    name, row = pairs.row_of(dataset, first if first is not None else layout.target_of(dataset))
    other = pairs.known_gene(dataset, second)
    if other == name:
        raise InputError(f"{name!r} is given twice: name two different genes")
    if other not in row["gene"].values:
        raise InputError(f"{name!r} and {other!r} are not among the listed pairs")
    pair = row.sel(gene=other)
    table["correlation"] = pair["sample_correlation"].values.astype(float)
    table["fisher_z_se"] = pair["sample_se"].values.astype(float)
    table["se"] = (1 - table["correlation"] ** 2) * table["fisher_z_se"]
    for column in _OF_EXPRESSION:
        if f"sample_{column}" in pair:
            table[column] = pair[f"sample_{column}"].values.astype(float)
    return table.assign(**_sd_of_samples(dataset, name, other))


def _sd_of_samples(dataset: xr.Dataset, first: str, second: str) -> dict[str, NDArray]:
    """Return the posterior mean of the standard deviation of two genes within each sample."""
    if "posterior_sd_sample" not in dataset:
        return {}
    ends = np.stack([dataset[name].values for name in posterior.PAIR_GENES], 1)
    at = int(np.flatnonzero([set(e) == {first, second} for e in ends])[0])
    sd = dataset["posterior_sd_sample"].isel({posterior.PAIR: at}).mean(("chain", "draw"))
    order = [list(ends[at]).index(g) for g in (first, second)]
    values = sd.transpose("sample", posterior.MEMBER).values[:, order]
    return {"within_sd_a": values[:, 0], "within_sd_b": values[:, 1]}


def _one_dimensional(dataset: xr.Dataset, names: Iterable[str], dim: str) -> pd.DataFrame:
    index = pd.Index(dataset[dim].values, name=dim)
    table = pd.DataFrame({n: dataset[n].values for n in names if n in dataset}, index=index)
    if "gene_flag" in table:
        table["gene_flag"] = [describe_flag(f) for f in table["gene_flag"]]
    return table


def coefficients(dataset: xr.Dataset, term: str | None) -> pd.DataFrame:
    """Tabulate the regression coefficients of one term, or of all terms."""
    if "term_beta" in dataset:
        return _of_pairs(dataset, term)
    if f"{posterior.DRAWS}beta" in dataset and "beta" not in dataset:
        return _of_posteriors(dataset, term)
    if "term_beta_within" in dataset:
        raise InputError(
            "the coefficients are those of the correlation within samples: use "
            "result.at('within').coefficients()"
        )
    if "coefficient" not in dataset.dims or "beta" not in dataset:
        raise InputError(
            "this result has no coefficients: fit Pseudobulk or BayesianCorrelation with a formula"
        )
    names = [n for n in COEFFICIENT_VARIABLES if n in dataset]
    if term is None:
        table = dataset[names].to_dataframe().reset_index()
        return table.set_index(["coefficient", "gene"])[names]
    if term not in dataset["coefficient"].values:
        raise unknown_name("coefficient", term, dataset["coefficient"].values)
    table = dataset[names].sel(coefficient=term, drop=True).to_dataframe()[names]
    if "beta_p_value" not in table:  # a posterior
        return table.iloc[np.argsort(-(table["beta"] / table["beta_se"]).abs(), kind="stable")]
    size = -table["beta_statistic"].abs()
    return table.iloc[np.lexsort((size.fillna(0), table["beta_p_value"].fillna(2)))]


def _of_posteriors(dataset: xr.Dataset, term: str | None) -> pd.DataFrame:
    """Summarise draws: of both genes of each pair with its own posterior, or of each gene."""
    known = list(dataset["coefficient"].values)
    if term is not None and term not in known:
        raise unknown_name("coefficient", term, known)
    draws = dataset[f"{posterior.DRAWS}beta"]
    dims, genes = ["gene"], {"gene": draws["gene"].values} if "gene" in draws.dims else {}
    if not genes:
        dims = [posterior.PAIR, posterior.MEMBER]
        ends = np.stack([dataset[name].values for name in posterior.PAIR_GENES], 1)
        genes = {"gene": ends.ravel(), "partner": ends[:, ::-1].ravel()}
    values = draws.transpose("chain", "draw", "coefficient", *dims).values
    flat = values.reshape(-1, *values.shape[2:])
    summary = coefficient_summary(flat, dataset.attrs["confidence"])
    each = [
        pd.DataFrame(
            {"coefficient": label, **genes, **{n: v[k].ravel() for n, v in summary.items()}}
        )
        for k, label in enumerate(known)
    ]
    return _of_term(pd.concat(each).set_index(["coefficient", *genes]), term)


def _of_term(table: pd.DataFrame, term: str | None) -> pd.DataFrame:
    """Return the rows of a coefficient, largest ratio to the standard error first."""
    if term is None:
        return table
    table = table.loc[term]
    return table.iloc[np.argsort(-(table["beta"] / table["beta_se"]).abs(), kind="stable")]


def _of_pairs(dataset: xr.Dataset, term: str | None) -> pd.DataFrame:
    """Tabulate the coefficients of the correlation of each pair, as those of genes."""
    known = list(dataset["term"].values)
    if term is not None and term not in known:
        raise unknown_name("coefficient", term, known)
    at = np.nonzero(layout.distinct(dataset) & pairs.in_tables(dataset))
    a, b = layout.ends(dataset, at)
    names = [n for n in COEFFICIENT_VARIABLES if f"term_{n}" in dataset]
    each = []
    for k, label in enumerate(known):
        values = {n: dataset[f"term_{n}"].values[(k, *at)] for n in names}
        each.append(pd.DataFrame({"coefficient": label, "gene_a": a, "gene_b": b, **values}))
    return _of_term(pd.concat(each).set_index(["coefficient", "gene_a", "gene_b"]), term)


def contrasts(
    dataset: xr.Dataset, gene_a: str | None, gene_b: str | None, q: float | None
) -> pd.DataFrame:
    """Tabulate the contrasts of groups, pair by pair, those of one gene, or those of all."""
    if "contrast" not in dataset.dims:
        raise InputError(
            "this result has no contrasts of groups: use differential(..., contrast='pairwise')"
        )
    at = np.nonzero(layout.distinct(dataset) & pairs.in_tables(dataset))
    a, b = layout.ends(dataset, at)
    p, q_value = (dataset[name].values[at] for name in ("p_value", "q_value"))
    chosen = np.ones(len(p), bool) if q is None else q_value <= q
    level = np.nan if q is None else q * chosen.sum() / max(np.isfinite(p).sum(), 1)
    for gene in (gene_a, gene_b):
        if gene is not None:
            name = pairs.known_gene(dataset, gene)
            chosen &= (a == name) | (b == name)
    rows = np.flatnonzero(chosen)
    rows = rows[np.argsort(p[rows], kind="stable")]
    names = dataset["contrast"].values
    each = np.repeat(rows, len(names))
    every: tuple[Any, ...] = (slice(None), *at)
    table = pd.DataFrame({"gene_a": a[each], "gene_b": b[each]})
    table["contrast"] = np.tile(names, len(rows))
    for name in _OF_CONTRAST:
        values = dataset[f"contrast_{name}"].values[every]
        table[name] = values[:, rows].T.ravel()
    table["q_value"] = q_value[each]
    if q is not None:
        table["significant"] = table["adjusted_p_value"] <= level
    return table


def flag_counts(dataset: xr.Dataset) -> pd.Series:
    """Count the distinct pairs with each flag."""
    square = layout.has_all_pairs(dataset)
    times = 2 if square else 1  # how often each distinct pair is stored
    counts = {describe_flag(f): 0 for f in Flag if f != Flag.SELF}
    for first, block in pairs.row_blocks(dataset):
        flag = block["flag"].values
        once = True if square else layout.distinct(dataset, block, first)
        flag = flag[((flag & int(Flag.SELF)) == 0) & once]
        for f in Flag:
            if f != Flag.SELF:
                counts[describe_flag(f)] += int(((flag & f) > 0).sum())
    return pd.Series({k: v // times for k, v in counts.items()}, name="pairs")


def missing(dataset: xr.Dataset) -> Missing:
    """Count the entries without a correlation."""
    stored = [n for n in ("p_value", "se") if n in dataset and not is_computed(dataset[n])]
    blocks = pairs.row_blocks(dataset[["correlation", *stored[:1], "flag"]])
    counted = (
        count_missing({str(n): v.values for n, v in block.data_vars.items()}, block["flag"].values)
        for _, block in blocks
    )
    return sum(counted, Missing())
