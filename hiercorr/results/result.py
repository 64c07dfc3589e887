"""A result: tables, text and exports made from one xarray Dataset in the schema of :mod:`hiercorr.schema`."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import xarray as xr

from hiercorr._version import __version__
from hiercorr.errors import InputError, unknown_name
from hiercorr.results import pairs, posterior
from hiercorr.results.storage import read_dataset, write_dataset
from hiercorr.runtime.optional import optional
from hiercorr.schema import (
    COEFFICIENT_VARIABLES,
    GENE_VARIABLES,
    PAIR_VARIABLES,
    SAMPLE_VARIABLES,
    SCHEMA_VERSION,
    Flag,
    describe_flag,
)

if TYPE_CHECKING:
    import anndata as ad
    import networkx as nx
    from statsmodels.iolib.summary import Summary


class CorrelationResult:
    """Correlations of gene pairs with their uncertainty: a Dataset with tables, text and exports.

    Parameters
    ----------
    dataset : xarray.Dataset
        In the schema of :func:`hiercorr.schema.build_dataset`.

    Attributes
    ----------
    dataset : xarray.Dataset
        Everything there is; the methods only read it.

    Examples
    --------
    >>> import hiercorr as hc
    >>> adata = hc.datasets.glioblastoma()
    >>> r = hc.CSCore(adata, sample="patient_id", depth="total_counts", genes=30).fit()
    >>> r.top("FTL", n=3).columns[:2].tolist()
    ['correlation', 'ci_lower']
    """

    def __init__(self, dataset: xr.Dataset) -> None:
        missing = {"correlation", "flag"} - set(dataset.data_vars)
        if missing:
            raise InputError(f"not a hiercorr result: the dataset has no {sorted(missing)}")
        self.dataset = dataset

    @property
    def target(self) -> str | None:
        """The target gene, or None where all pairs were estimated."""
        return str(self.dataset["target"].values[0]) if "target" in self.dataset.dims else None

    @property
    def genes(self) -> pd.Index:
        """Names of the genes."""
        return pd.Index(self.dataset["gene"].values)

    @property
    def plot(self) -> Plots:
        """Plots of this result: ``result.plot.volcano()`` is ``hiercorr.plotting.volcano(result)``."""
        return Plots(self)

    def at(self, level: str) -> CorrelationResult:
        """The same pairs at another level, where one model estimated both.

        Parameters
        ----------
        level : str
            E.g. ``"between"`` of a Bayesian result.

        Returns
        -------
        CorrelationResult
            Of the same kind, so that ``result.at("between").at("within")`` is the result again.
        """
        return CorrelationResult(posterior.at_level(self.dataset, level))

    @property
    def idata(self) -> Any:
        """Posterior draws as an ArviZ object: InferenceData, or a DataTree where ArviZ is 1 or newer."""
        return posterior.to_arviz(self.dataset)

    def adjust(
        self, method: str = "bh", family: str = "all", level: float = 0.05
    ) -> CorrelationResult:
        """The same result with q-values by another procedure or over another family of pairs.

        Parameters
        ----------
        method : {"bh", "by", "storey", "hierarchical"}
            Benjamini-Hochberg; Benjamini-Yekutieli (any dependence); Storey (BH times the estimated share of true nulls);
            ``"hierarchical"``: genes first, by their Simes p-values, then pairs within the genes that are left.
        family : {"all", "gene"}
            All distinct pairs, or the pairs of each gene by themselves (for one gene that was chosen beforehand).
        level : float
            Of the choice of genes, with ``"hierarchical"``.

        Returns
        -------
        CorrelationResult
            Attributes ``q_method`` and ``q_family`` say what was done. Over ``"gene"`` and with ``"hierarchical"``,
            ``q_value[gene, partner]`` is that of the pair in the family of `gene`.

        References
        ----------
        Benjamini & Yekutieli 2001; Storey, Taylor & Siegmund 2004; Benjamini & Bogomolov 2014.

        Examples
        --------
        >>> import hiercorr as hc
        >>> adata = hc.datasets.glioblastoma()
        >>> options = {"depth": "total_counts", "genes": 30, "subset": {"condition": "ctrl"}}
        >>> r = hc.CSCore(adata, "sample_id", **options).fit()
        >>> r.adjust("by").dataset.attrs["q_family"]
        'all distinct pairs'
        """
        from hiercorr.results.adjust import adjust

        return adjust(self, method, family, level)

    def _row(self, gene: str | None) -> tuple[str, xr.Dataset]:
        """The pairs of one gene as a Dataset over `gene`."""
        if self.target is not None:
            if gene not in (None, self.target):
                raise InputError(
                    f"this result holds the pairs of target {self.target!r} only, not of {gene!r}"
                )
            return self.target, self.dataset.isel(target=0, drop=True)
        if gene is None:
            raise InputError("name a gene: this result holds all pairs")
        if gene not in self.genes:
            raise unknown_name("gene", gene, self.genes)
        return gene, self.dataset.sel(gene=gene, drop=True).rename(partner="gene")

    def top(self, gene: str | None = None, n: int = 20) -> pd.DataFrame:
        """Partners of a gene, strongest evidence first.

        Parameters
        ----------
        gene : str, optional
            May be left out where the result has a target.
        n : int
            Number of partners.

        Returns
        -------
        DataFrame
            Indexed by gene; ordered by p-value, or by size of the correlation where there is no p-value.
        """
        name, row = self._row(gene)
        columns = [c for c in pairs.columns_in_order(self.dataset) if c in row]
        table = pd.DataFrame(
            {c: row[c].values.astype(float) for c in columns}, index=pd.Index(row["gene"].values)
        )
        if "group_correlation" in row:
            for group in row["group"].values:
                table[f"correlation[{group}]"] = (
                    row["group_correlation"].sel(group=group).values.astype(float)
                )
        table["flag"] = [describe_flag(f) for f in row["flag"].values]
        table.index.name = "gene"
        table = table.drop(index=name, errors="ignore")
        return pairs.by_evidence(table).head(n)

    def pairs(
        self, q: float | None = None, min_correlation: float = 0.0, n: int | None = None
    ) -> pd.DataFrame:
        """Distinct pairs as a table.

        Parameters
        ----------
        q : float, optional
            Only pairs with ``q_value <= q``.
        min_correlation : float
            Only pairs with at least this size of the correlation.
        n : int, optional
            Only so many, the strongest.

        Returns
        -------
        DataFrame
            Columns gene_a, gene_b, the pair variables and flag; strongest evidence first.
        """
        if q is not None and not (
            "q_value" in self.dataset and pairs.says(self.dataset, "q_value")
        ):
            few = self.dataset.attrs.get("n_samples", 0) < 3
            why = (
                "it is a posterior"
                if "probability_of_direction" in self.dataset
                else "it has no uncertainty"
            )
            raise InputError(
                f"this result has no q-values: {'too few samples for an interval' if few else why}; call pairs() without q="
            )
        return pairs.distinct_pairs(self.dataset, q, min_correlation, n)

    def matrix(self, variable: str = "correlation") -> pd.DataFrame:
        """One pair variable as a table, genes x partners (or the target x genes).

        Parameters
        ----------
        variable : str

        Returns
        -------
        DataFrame
        """
        known = [
            n
            for n in PAIR_VARIABLES
            if n in self.dataset and not n.startswith(("sample_", "group_"))
        ]
        if variable not in known:
            raise unknown_name("pair variable", variable, known)
        values = self.dataset[variable]
        return pd.DataFrame(
            values.values.copy(), *(pd.Index(values[d].values, name=d) for d in values.dims)
        )

    def gene_table(self) -> pd.DataFrame:
        """Mean, overdispersion, detection and flags of each gene."""
        return self._table(GENE_VARIABLES, "gene")

    def coefficients(self, term: str | None = None) -> pd.DataFrame:
        """Regression coefficients (and contrasts) of each gene, from a model with a formula.

        Parameters
        ----------
        term : str, optional
            A coefficient or a contrast by name: one row a gene, strongest evidence first. None: all of them, indexed by
            coefficient and gene.

        Returns
        -------
        DataFrame
        """
        if "coefficient" not in self.dataset.dims or "beta" not in self.dataset:
            raise InputError("this result has no coefficients: fit Pseudobulk with a formula")
        names = [n for n in COEFFICIENT_VARIABLES if n in self.dataset]
        if term is None:
            return (
                self.dataset[names]
                .to_dataframe()
                .reset_index()
                .set_index(["coefficient", "gene"])[names]
            )
        if term not in self.dataset["coefficient"].values:
            raise unknown_name("coefficient", term, self.dataset["coefficient"].values)
        table = self.dataset[names].sel(coefficient=term, drop=True).to_dataframe()[names]
        return table.sort_values("beta_p_value", kind="stable")

    def sample_table(self, gene_a: str | None = None, gene_b: str | None = None) -> pd.DataFrame:
        """Cells and depth of each sample and, for a pair fitted with ``per_sample=True``, its estimate in each.

        Parameters
        ----------
        gene_a, gene_b : str, optional
            The pair; `gene_b` alone is enough where the result has a target.

        Returns
        -------
        DataFrame
        """
        table = self._table(SAMPLE_VARIABLES, "sample")
        if gene_a is None and gene_b is None:
            return table
        if "sample_correlation" not in self.dataset:
            raise InputError("per-sample estimates were not kept; fit with per_sample=True")
        first, second = (gene_a, gene_b) if gene_b is not None else (None, gene_a)
        _, row = self._row(first if first is not None else self.target)
        if second not in self.genes:
            raise unknown_name("gene", second, self.genes)
        pair = row.sel(gene=second)
        table["correlation"] = pair["sample_correlation"].values.astype(float)
        table["se"] = pair["sample_se"].values.astype(float)
        return table

    def _table(self, names: Mapping[str, Any], dim: str) -> pd.DataFrame:
        index = pd.Index(self.dataset[dim].values, name=dim)
        table = pd.DataFrame(
            {n: self.dataset[n].values for n in names if n in self.dataset}, index=index
        )
        if "gene_flag" in table:
            table["gene_flag"] = [describe_flag(f) for f in table["gene_flag"]]
        return table

    def flag_counts(self) -> pd.Series:
        """Number of distinct pairs with each flag."""
        half = 2 if self.target is None else 1
        counts = {describe_flag(f): 0 for f in Flag if f != Flag.SELF}
        for _, part in pairs.parts(self.dataset):
            flag = part["flag"].values
            for f in Flag:
                if f != Flag.SELF:
                    counts[describe_flag(f)] += int(((flag & f) > 0).sum())
        return pd.Series({k: v // half for k, v in counts.items()}, name="pairs")

    def summary(self, gene: str | None = None, n: int = 20) -> Summary:
        """What was fitted, and the strongest pairs (of `gene`, if given), as text or HTML.

        Parameters
        ----------
        gene : str, optional
        n : int
            Rows of the table.

        Returns
        -------
        statsmodels.iolib.summary.Summary
            ``print`` it, or let a notebook show it.
        """
        from hiercorr.results.summary import make_summary

        gene = gene if gene is not None else self.target
        table = self.top(gene, n) if gene is not None else self.pairs(n=n)
        return make_summary(self.dataset, self.flag_counts(), table, gene)

    def save(self, path: str | Path, overwrite: bool = False) -> Path:
        """Write the result, whole or not at all.

        Parameters
        ----------
        path : str or Path
            ``.zarr`` (a folder) or ``.nc`` (netCDF-4).
        overwrite : bool
            Replace what is there; by default that is an error.

        Returns
        -------
        Path
        """
        return write_dataset(self.dataset, Path(path), overwrite)

    def to_anndata(self, adata: ad.AnnData, key: str = "hiercorr") -> ad.AnnData:
        """A copy of `adata`, restricted to this result's genes, that carries the result.

        Pair variables go to ``varp[f"{key}_{variable}"]`` (with a target: to ``var``), gene variables to
        ``var[f"{key}_{variable}"]`` and attributes to ``uns[key]``. `adata` itself stays as it is.

        Parameters
        ----------
        adata : AnnData
        key : str
            Prefix of the keys.

        Returns
        -------
        AnnData
        """
        missing = self.genes.difference(adata.var_names)
        if len(missing):
            raise InputError(
                f"{len(missing)} genes of the result are not in the AnnData, e.g. {missing[0]!r}"
            )
        out = adata[:, self.genes].copy()
        for name in self.dataset.data_vars:
            values = self.dataset[name]
            if values.dims == ("gene", "partner"):
                out.varp[f"{key}_{name}"] = np.array(values.values)
            elif values.dims == ("target", "gene"):
                out.var[f"{key}_{self.target}_{name}"] = np.array(values.values[0])
            elif values.dims == ("gene",):
                out.var[f"{key}_{name}"] = np.array(values.values)
        out.uns[key] = {str(k): v for k, v in self.dataset.attrs.items()}
        return out

    def to_networkx(self, q: float | None = 0.05, min_correlation: float = 0.0) -> nx.Graph:
        """Graph of the pairs that pass the thresholds; every gene is a node.

        Parameters
        ----------
        q : float or None
            Largest ``q_value``; None: no threshold.
        min_correlation : float
            Smallest size of the correlation.

        Returns
        -------
        networkx.Graph
            Edge attributes are the pair variables; ``weight`` is the correlation.
        """
        nx = optional("networkx", "graphs")
        table = self.pairs(q=q, min_correlation=min_correlation).assign(
            weight=lambda t: t["correlation"]
        )
        graph = nx.from_pandas_edgelist(table, "gene_a", "gene_b", edge_attr=True)
        for name, row in self.gene_table().iterrows():
            graph.add_node(name, **row.to_dict())
        return graph

    def __repr__(self) -> str:
        a = self.dataset.attrs
        what = (
            f"target {self.target} x {len(self.genes)} genes"
            if self.target
            else f"{len(self.genes)} genes, all pairs"
        )
        missing = sum(
            float(part["correlation"].isnull().sum()) for _, part in pairs.parts(self.dataset)
        )
        missing /= self.dataset["correlation"].size
        return (
            f"<CorrelationResult: {a.get('model', '?')}, level {a.get('level', '?')}, {what}, "
            f"{a.get('n_samples', '?')} samples, {a.get('n_cells', '?')} cells, uncertainty {a.get('uncertainty', '?')}, "
            f"{missing:.1%} not estimable>"
        )

    def _repr_html_(self) -> str:
        return self.summary(n=10)._repr_html_() + self.dataset._repr_html_()


class Plots:
    """The plots of a result as methods; arguments as for the functions of :mod:`hiercorr.plotting`."""

    _names = (
        "diagnostics",
        "forest",
        "heatmap",
        "network",
        "p_histogram",
        "qq",
        "ranked",
        "strip",
        "volcano",
    )

    def __init__(self, result: CorrelationResult) -> None:
        self._result = result

    def __getattr__(self, name: str) -> Callable[..., Any]:
        if name not in self._names:
            raise AttributeError(f"no plot {name!r}; there are: {', '.join(self._names)}")
        from hiercorr import plotting

        return partial(getattr(plotting, name), self._result)

    def __dir__(self) -> list[str]:
        return list(self._names)


def load(path: str | Path, lazy: bool = False) -> CorrelationResult:
    """Read a result that :meth:`CorrelationResult.save` wrote, or that ``fit(out=...)`` streamed.

    Parameters
    ----------
    path : str or Path
        A ``.zarr`` folder or a ``.nc`` file.
    lazy : bool
        Leave the pair variables on disk and read from there what is asked for: for results larger than memory.

    Returns
    -------
    CorrelationResult

    Raises
    ------
    InputError
        If there is no such result, it is damaged, or a newer hiercorr wrote it.
    """
    dataset = read_dataset(Path(path), lazy)
    version = str(dataset.attrs.get("schema_version", ""))
    if version.split(".")[0] != SCHEMA_VERSION.split(".")[0]:
        raise InputError(
            f"{str(path)!r} has schema version {version or 'none'}; this hiercorr ({__version__}) reads "
            f"{SCHEMA_VERSION}: install the version that wrote it ({dataset.attrs.get('hiercorr_version', 'unknown')})"
        )
    return CorrelationResult(_upgraded(dataset))


def _upgraded(dataset: xr.Dataset) -> xr.Dataset:
    """What results of earlier schema versions left unsaid."""
    if (
        "q_value" in dataset and "q_method" not in dataset.attrs
    ):  # before 1.2 there was one family and one procedure
        family = "pairs of the target" if "target" in dataset.dims else "all distinct pairs"
        return dataset.assign_attrs(q_method="Benjamini-Hochberg", q_family=family)
    return dataset
